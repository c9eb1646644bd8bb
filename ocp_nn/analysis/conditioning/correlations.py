"""Whether measures at the start of a training foretell its outcome.

Spearman's rank correlation between a measure at the *start* and the outcome of a training from there.  Depth drives
both, so it is also given *within networks of the same depth*: ranks minus the mean rank of their depth.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .groups import Sweep, start_measures, succeeded

__all__ = ["MEASURE_NAMES", "Correlation", "correlations", "spearman"]

Array = NDArray[np.float64]
Row = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """Spearman's correlation of a measure at the start with an outcome.

    Attributes
    ----------
    measure : str
        A field of :class:`Group`.
    method : str
    outcome : str
        ``success`` (0 or 1) or ``steps`` (to success, of the trainings that succeeded).
    value, within_depth : float
        NaN where one of the two does not vary.
    count : int
        Trainings.
    """

    measure: str
    method: str
    outcome: str
    value: float
    within_depth: float
    count: int


def correlations(sweep: Sweep) -> list[Correlation]:
    """Every measure at the start against success and steps of every method."""
    steps = _steps_to_success(sweep)
    found = []
    for name, values in start_measures(sweep).items():
        for method in sweep.methods:
            rows = [
                row for row in sweep.training if row["method"] == method and np.isfinite(values.get(row["run"], 0.0))
            ]
            rows = [row for row in rows if row["run"] in values]
            fine = [row for row in rows if (row["run"], method) in steps]
            success = [float(succeeded(sweep, row)) for row in rows]
            needed = [float(steps[row["run"], method]) for row in fine]
            found.append(_correlation(name, method, "success", values, rows, success))
            found.append(_correlation(name, method, "steps", values, fine, needed))
    return found


def _correlation(
    measure: str, method: str, outcome: str, values: dict[str, float], rows: Sequence[Row], outcomes: Sequence[float]
) -> Correlation:
    x, y = np.array([values[row["run"]] for row in rows]), np.array(outcomes)
    return Correlation(
        measure=measure,
        method=method,
        outcome=outcome,
        value=spearman(x, y),
        within_depth=spearman(x, y, [int(row["depth"]) for row in rows]),
        count=len(rows),
    )


def _steps_to_success(sweep: Sweep) -> dict[tuple[str, str], int]:
    """(run, method) -> first step with an error that counts as success, of trainings that ended in success."""
    ended = {(row["run"], row["method"]) for row in sweep.training if succeeded(sweep, row)}
    first: dict[tuple[str, str], int] = {}
    for row in sweep.history:
        key = (row["run"], row["method"])
        if key in ended and float(row["error"]) <= sweep.threshold:
            first[key] = min(first.get(key, int(row["step"])), int(row["step"]))
    return first


def spearman(x: Array, y: Array, strata: Iterable[int] | None = None) -> float:
    """Correlation of ranks (ties share their mean rank), centred within strata where given; NaN without variation."""
    from scipy.stats import rankdata

    if len(x) < 3:
        return float("nan")
    a, b = rankdata(x), rankdata(y)
    labels = np.zeros(len(x), dtype=int) if strata is None else np.array(list(strata))
    for label in np.unique(labels):
        rows = labels == label
        a[rows] -= a[rows].mean()
        b[rows] -= b[rows].mean()
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size > 1e-9 else float("nan")


# Words for the measures, in sentences and tables.
MEASURE_NAMES = {
    "rank": "relative rank of the single-shooting Jacobian",
    "signal": "signal left in the last hidden layer",
    "gauss_newton": "condition of single shooting's Gauss-Newton matrix",
    "hessian": "condition of single shooting's exact Hessian",
    "kkt": "condition of the multiple-shooting KKT matrix",
    "al_low": "condition of the AL matrix in (u, x), smallest penalty",
    "al_high": "condition of the AL matrix in (u, x), largest penalty",
    "condensed_low": "condition of what forward DP factorises, smallest penalty",
    "condensed_high": "condition of what forward DP factorises, largest penalty",
}
