"""Plain-text tables, made from history and results after (or while) these are data."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from ..problem import TrainingProblem
from ..result import Record

__all__ = [
    "format_number",
    "format_table",
    "history_cells",
    "history_header",
    "history_names",
    "history_row",
    "problem_line",
    "shape_text",
]

# Heading and width of each column of the history; together they stay below 80.
_HISTORY_COLUMNS = (
    ("outer", 5),
    ("objective", 13),
    ("max defect", 12),
    ("stationarity", 14),
    ("penalty", 9),
    ("steps", 7),
    ("seconds", 9),
)

# What each phase of the solver is called in the last column.
_PHASES = {"augmented Lagrangian": "AL", "single shooting": "GN", "second order": "Newton"}


def format_number(value: float | None, digits: int = 4) -> str:
    """``value`` with some significant digits; a dash where there is none."""
    if value is None:
        return "-"
    if not np.isfinite(value):
        return str(value)
    return f"{value:.{digits}g}" if 1e-3 <= abs(value) < 10**digits or value == 0 else f"{value:.{digits - 1}e}"


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns: words to the left, columns of numbers to the right, a rule under the header."""
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [len(column) > 1 and all(_looks_numeric(cell) for cell in column[1:]) for column in columns]
    lines = [_align(cells, widths, right) for cells in (header, *rows)]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _align(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    aligned = (cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(cells, widths, right, strict=True))
    return "  ".join(aligned).rstrip()


def _looks_numeric(cell: str) -> bool:
    return (
        cell == "-" or cell.replace(",", "").lstrip("+-").split("e")[0].replace(".", "", 1).isdigit() or cell == "inf"
    )


def history_header() -> str:
    """Headings over :func:`history_row`."""
    return "".join(name.rjust(width) for name, width in _HISTORY_COLUMNS) + "  phase"


def history_names() -> tuple[str, ...]:
    """Headings of :func:`history_cells`."""
    return (*(name for name, _ in _HISTORY_COLUMNS), "phase")


def history_cells(record: Record) -> tuple[str, ...]:
    """One outer iteration in words, the phase last."""
    return (
        str(record.iteration),
        format_number(record.objective, 6),
        f"{record.max_defect:.2e}",
        f"{record.stationarity:.2e}",
        f"{record.penalty:.1e}" if np.isfinite(record.penalty) else "inf",
        str(record.steps),
        f"{record.seconds:.2f}",
        _PHASES.get(record.phase, record.phase),
    )


def history_row(record: Record) -> str:
    """One outer iteration in one line."""
    *cells, phase = history_cells(record)
    numbers = "".join(cell.rjust(width) for cell, (_, width) in zip(cells, _HISTORY_COLUMNS, strict=True))
    return f"{numbers}  {phase}"


def shape_text(sizes: Sequence[int]) -> str:
    """Widths of all layers, 10-20-20-1; more than three equal hidden ones are counted: 1-40x5-1."""
    hidden = [(width, len(list(group))) for width, group in itertools.groupby(sizes[1:-1])]
    words = (f"{count}x{width}" if count > 3 else "-".join([str(width)] * count) for width, count in hidden)
    return "-".join([str(sizes[0]), *words, str(sizes[-1])])


def problem_line(name: str, problem: TrainingProblem, shooting: str = "multiple") -> str:
    """Samples, stages, controls, states and defect constraints of a training problem, in one line.

    The states x_1..x_{K-1} are variables, each with a defect, in multiple shooting; single shooting has none.
    """
    sizes = shape_text(problem.network.sizes)
    states = problem.num_samples * sum(problem.network.sizes[1:-1]) if shooting == "multiple" else 0
    return (
        f"{name}: {problem.num_samples} training samples, {problem.num_stages} stages ({sizes}), "
        f"{problem.network.num_controls:,} controls, {states:,} states, {states:,} defect constraints"
    )
