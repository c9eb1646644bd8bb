"""The tables of a sweep, and its condition numbers by group of networks.

**Success.**  A training succeeded if it explains at least 90 % of what the best run of the whole sweep explains, in
terms of 1 - error with the error relative to the variance of the targets.  ``steps`` counts those up to that point.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...base.display import brief
from .tables import read_table

__all__ = ["Group", "Row", "Sweep", "groups", "load_sweep", "median", "start_condition", "start_measures", "succeeded"]

Array = NDArray[np.float64]
Row = dict[str, str]

# Share of what the best run explains that counts as success.
_SHARE = 0.9


@dataclass(frozen=True, eq=False)
class Sweep:
    """The tables of a sweep.

    Attributes
    ----------
    matrices, stages, products, spectra, training, history : list of rows
    """

    matrices: list[Row]
    stages: list[Row]
    products: list[Row]
    spectra: list[Row]
    training: list[Row]
    history: list[Row]

    __repr__ = brief

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(row["method"] for row in self.training))

    @property
    def penalties(self) -> list[float]:
        """Those of the measurements at the start."""
        rows = (row for row in self.matrices if row["phase"] == "start" and row["penalty"])
        return sorted({float(row["penalty"]) for row in rows})

    @property
    def threshold(self) -> float:
        """Largest relative error that counts as success."""
        best = min((float(row["best_error"]) for row in self.training), default=1.0)
        return 1.0 - _SHARE * (1.0 - best)

    def start(self, matrix: str, shooting: str, penalty: float | None = None) -> dict[str, Row]:
        """Row of every run for one matrix at the initial weights."""
        return {
            row["run"]: row
            for row in self.matrices
            if row["phase"] == "start"
            and row["matrix"] == matrix
            and row["shooting"] == shooting
            and (float(row["penalty"]) if row["penalty"] else None) == penalty
        }


def load_sweep(folder: str | os.PathLike[str]) -> Sweep:
    """Read a folder.

    Raises
    ------
    ValueError
        If it holds no finished run, or tables of another version.
    """
    names = ("matrices", "stages", "products", "spectra", "training", "history")
    finished = {row["run"] for row in read_table(folder, "runs") if row["status"] == "done"}
    tables = [[row for row in read_table(folder, name) if row["run"] in finished] for name in names]
    if not finished:
        raise ValueError(f"{Path(folder)} holds no finished run of a sweep")
    return Sweep(*tables)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Networks that differ in the seed only; medians over seeds, at the initial weights.

    Attributes
    ----------
    depth, width, activation, initialisation :
    rank : float
        Of the single-shooting Jacobian, relative to the largest rank it could have.
    signal : float
        Standard deviation of the last hidden state relative to that of the first.
    gauss_newton, hessian, kkt : float
        Condition numbers: single shooting (Gauss-Newton, exact Hessian), multiple shooting (KKT, Gauss-Newton).
    al_low, al_high : float
        Of the augmented Lagrangian's matrix in (u, x), smallest and largest penalty.
    condensed_low, condensed_high : float
        Of what forward DP factorises (the better conditioned of dual and primal), smallest and largest penalty.
    success : dict
        Method -> share of the seeds.
    choice : str
        The formulation that did best.
    """

    depth: int
    width: int
    activation: str
    initialisation: str
    rank: float
    signal: float
    gauss_newton: float
    hessian: float
    kkt: float
    al_low: float
    al_high: float
    condensed_low: float
    condensed_high: float
    success: dict[str, float]
    choice: str


def groups(sweep: Sweep) -> list[Group]:
    """The networks of a sweep, by activation, initialisation, width and depth."""
    keys = {}
    for row in sweep.matrices:
        keys[row["run"]] = (row["activation"], row["initialisation"], int(row["width"]), int(row["depth"]))
    measures = start_measures(sweep)
    found = []
    for key in sorted(set(keys.values())):
        runs = [run for run, other in keys.items() if other == key]
        medians = {name: median([values.get(run, np.nan) for run in runs]) for name, values in measures.items()}
        success = {
            method: float(np.mean([succeeded(sweep, row) for row in sweep.training if row["run"] in runs
                                   and row["method"] == method]))
            for method in sweep.methods
        }  # fmt: skip
        activation, initialisation, width, depth = key
        found.append(
            Group(
                depth=depth,
                width=width,
                activation=activation,
                initialisation=initialisation,
                success=success,
                choice=_choice(success),
                **medians,
            )
        )
    return found


def start_measures(sweep: Sweep) -> dict[str, dict[str, float]]:
    """Name -> run -> value at the initial weights: the numeric fields of :class:`Group`."""
    low, high = (sweep.penalties[0], sweep.penalties[-1]) if sweep.penalties else (None, None)
    single = start_condition(sweep, "single")
    multiple = start_condition(sweep, "multiple")
    jacobians = sweep.start("jacobian", "single")
    measures = {
        "rank": {run: _relative_rank(row) for run, row in jacobians.items()},
        "signal": _signals(sweep),
        "gauss_newton": single("gauss_newton", None),
        "hessian": single("hessian", None),
        "kkt": multiple("kkt_gauss_newton", None),
        "al_low": multiple("al_gauss_newton", low),
        "al_high": multiple("al_gauss_newton", high),
    }
    for name, beta in (("condensed_low", low), ("condensed_high", high)):
        dual, primal = multiple("dual", beta), multiple("primal", beta)
        measures[name] = {run: min(value, primal.get(run, np.inf)) for run, value in dual.items()}
    return measures


def start_condition(sweep: Sweep, shooting: str) -> Callable[[str, float | None], dict[str, float]]:
    """(matrix, penalty) -> run -> condition number at the start."""

    def conditions(matrix: str, penalty: float | None) -> dict[str, float]:
        return {run: float(row["condition"]) for run, row in sweep.start(matrix, shooting, penalty).items()}

    return conditions


def _relative_rank(row: Row) -> float:
    return float(row["rank"]) / min(int(row["rows"]), int(row["columns"])) if row["rank"] else np.nan


def _signals(sweep: Sweep) -> dict[str, float]:
    spread: dict[str, dict[int, float]] = {}
    for row in sweep.stages:
        if row["phase"] == "start":
            spread.setdefault(row["run"], {})[int(row["stage"])] = float(row["state_variance"])
    # the last stage's output is no hidden state
    return {
        run: float(np.sqrt(v[max(v) - 1] / v[0])) if len(v) > 1 and v[0] > 0 else np.nan for run, v in spread.items()
    }


def median(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.median(known)) if known else float("nan")


def succeeded(sweep: Sweep, row: Row) -> bool:
    return float(row["error"]) <= sweep.threshold


def _choice(success: dict[str, float]) -> str:
    """Single shooting unless multiple shooting succeeds more often: it is the simpler and cheaper one."""
    single, multiple = success.get("lm"), success.get("al")
    if single is None or multiple is None:
        return "-"
    if max(single, multiple) == 0.0:
        return "neither"
    return "multiple" if multiple > single else "single"
