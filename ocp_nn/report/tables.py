"""Plain-text tables, made from history and results after (or while) these are data."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from ..problem.record import Record
from ..problem.training import TrainingProblem

__all__ = [
    "format_number",
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

# Left out first where there is less room.
_DISPENSABLE = ("seconds", "penalty", "steps", "max defect")

# What each phase of the solver is called in the last column.
_PHASES = {"augmented Lagrangian": "AL", "single shooting": "GN", "second order": "Newton"}


_PHASE_WIDTH = 2 + max(map(len, _PHASES.values()))


def format_number(value: float | None, digits: int = 4) -> str:
    """``value`` with some significant digits; a dash where there is none."""
    if value is None:
        return "-"
    if not np.isfinite(value):
        return str(value)
    return f"{value:.{digits}g}" if 1e-3 <= abs(value) < 10**digits or value == 0 else f"{value:.{digits - 1}e}"


def _shown(width: int) -> tuple[int, ...]:
    """The columns that fit beside the phase."""
    shown = list(range(len(_HISTORY_COLUMNS)))
    for name in _DISPENSABLE:
        if sum(_HISTORY_COLUMNS[j][1] for j in shown) + _PHASE_WIDTH > width:
            shown = [j for j in shown if _HISTORY_COLUMNS[j][0] != name]
    return tuple(shown)


def history_header(width: int = 80) -> str:
    """Headings over :func:`history_row`; what does not fit the width is left out."""
    return "".join(name.rjust(size) for name, size in (_HISTORY_COLUMNS[j] for j in _shown(width))) + "  phase"


def history_names(width: int = 80) -> tuple[str, ...]:
    """Headings of :func:`history_cells`."""
    return (*(_HISTORY_COLUMNS[j][0] for j in _shown(width)), "phase")


def history_cells(record: Record, width: int = 80) -> tuple[str, ...]:
    """One outer iteration in words, the phase last; what does not fit the width is left out."""
    cells = (
        str(record.iteration),
        format_number(record.objective, 6),
        f"{record.max_defect:.2e}",
        f"{record.stationarity:.2e}",
        f"{record.penalty:.1e}" if np.isfinite(record.penalty) else "inf",
        str(record.steps),
        f"{record.seconds:.2f}",
    )
    return (*(cells[j] for j in _shown(width)), _PHASES.get(record.phase, record.phase))


def history_row(record: Record, width: int = 80) -> str:
    """One outer iteration in one line."""
    *cells, phase = history_cells(record, width)
    sizes = (_HISTORY_COLUMNS[j][1] for j in _shown(width))
    return "".join(cell.rjust(size) for cell, size in zip(cells, sizes, strict=True)) + f"  {phase}"


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
