"""The history while it is being made: a table that updates on a terminal, plain lines elsewhere.

    with LiveHistory() as live:
        solve(problem, callback=live)

Nothing is written unless one is asked for.  A terminal (as rich sees it: not when piped, nor with TERM=dumb) shows the
last outer iterations, in colour unless NO_COLOR is set.  Elsewhere each line stays, and the lines get sparser so that a
log of thousands of iterations can be read: every iteration up to 20, every 10th up to 200, every 100th then, and always
the last one of a phase.
"""

from __future__ import annotations

import shutil
import sys
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from ..problem.record import Record
from .random_state import same_random_state
from .tables import history_cells, history_header, history_names, history_row

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["LiveHistory"]

# Rows on a terminal: enough to see a trend, and room for what was printed before.
_ROWS = 10

_STYLES = {"AL": "cyan", "GN": "cyan", "Newton": "green"}


class LiveHistory:
    """A callback for :func:`ocp_nn.solve` that shows each record; to be used as a context.

    Parameters
    ----------
    stream : text file, optional
        Standard output by default.
    terminal : bool, optional
        Whether to update in place; found out by default.
    """

    def __init__(self, stream: TextIO | None = None, *, terminal: bool | None = None) -> None:
        with same_random_state():
            from rich.console import Console

        self._stream = sys.stdout if stream is None else stream
        self._console = Console(file=self._stream, highlight=False)
        is_terminal = self._console.is_terminal and not self._console.is_dumb_terminal
        self._view: _Lines | _Table = (
            _Table(self._console)
            if (is_terminal if terminal is None else terminal)
            else _Lines(self._stream, shutil.get_terminal_size().columns)
        )

    def __enter__(self) -> LiveHistory:
        self._view.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._view.stop()

    def __call__(self, record: Record) -> None:
        """Show a record."""
        self._view.show(record)


class _Lines:
    """Plain lines, sparser as they get more."""

    def __init__(self, stream: TextIO, width: int) -> None:
        self._stream, self._width = stream, width
        self._pending: Record | None = None

    def start(self) -> None:
        self._write(history_header(self._width))

    def show(self, record: Record) -> None:
        if self._pending is not None and self._pending.phase != record.phase:
            self._flush()
        self._pending = record
        if _is_due(record.iteration):
            self._flush()

    def stop(self) -> None:
        self._flush()

    def _flush(self) -> None:
        if self._pending is not None:
            self._write(history_row(self._pending, self._width))
        self._pending = None

    def _write(self, line: str) -> None:
        self._stream.write(f"{line}\n")
        self._stream.flush()


def _is_due(iteration: int) -> bool:
    stride = 1 if iteration <= 20 else 10 if iteration <= 200 else 100
    return iteration % stride == 0


class _Table:
    """The last rows, updated in place by rich."""

    def __init__(self, console: Any) -> None:
        from rich.live import Live

        self._console = console
        self._records: deque[Record] = deque(maxlen=_ROWS)
        self._live = Live(console=console, refresh_per_second=8, get_renderable=self._table)

    def start(self) -> None:
        self._live.start()

    def show(self, record: Record) -> None:
        # a plain record: what callbacks receive holds the solver's state
        self._records.append(Record(**{name: getattr(record, name) for name in Record.columns()}))

    def stop(self) -> None:
        self._live.stop()

    def _table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for name in history_names(self._console.width):
            table.add_column(name, justify="left" if name == "phase" else "right", no_wrap=True)
        records = list(self._records)
        for record in records:
            *numbers, phase = history_cells(record, self._console.width)
            table.add_row(
                *numbers, Text(phase, _STYLES.get(phase, "")), style="bold" if record is records[-1] else "dim"
            )
        return table
