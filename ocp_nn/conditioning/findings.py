"""What the tables of a sweep say: a table of condition numbers, correlations with success, and a verdict in sentences.

Everything is computed from the CSV files, so that a reader of the files can check it.

**Success.**  A training succeeded if it explains at least 90 % of what the best run of the whole sweep explains, in
terms of 1 - error with the error relative to the variance of the targets.  ``steps`` counts those up to that point.

**Correlation.**  Spearman's rank correlation between a measure at the *start* and the outcome of a training from there.
Depth drives both, so it is also given *within networks of the same depth*: ranks minus the mean rank of their depth.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..display import brief
from .tables import read_table

__all__ = ["Correlation", "Group", "Sweep", "correlations", "groups", "load_sweep", "spearman", "verdict"]

Array = NDArray[np.float64]
Row = dict[str, str]

# Condition number up to which a matrix is called far from singular: half the digits are left.
_REGULAR = 1e8

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
        medians = {name: _median([values.get(run, np.nan) for run in runs]) for name, values in measures.items()}
        success = {
            method: float(np.mean([_succeeded(sweep, row) for row in sweep.training if row["run"] in runs
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


def _median(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.median(known)) if known else float("nan")


def _succeeded(sweep: Sweep, row: Row) -> bool:
    return float(row["error"]) <= sweep.threshold


def _choice(success: dict[str, float]) -> str:
    """Single shooting unless multiple shooting succeeds more often: it is the simpler and cheaper one."""
    single, multiple = success.get("lm"), success.get("al")
    if single is None or multiple is None:
        return "-"
    if max(single, multiple) == 0.0:
        return "neither"
    return "multiple" if multiple > single else "single"


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
            success = [float(_succeeded(sweep, row)) for row in rows]
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
    ended = {(row["run"], row["method"]) for row in sweep.training if _succeeded(sweep, row)}
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


def verdict(sweep: Sweep) -> list[str]:
    """The findings in plain sentences, each with its numbers; what the data do not support is not said."""
    sentences = [*_on_hypothesis(sweep), *_on_penalty(sweep), *_on_rank(sweep)]
    if sweep.training:
        sentences += [_on_training(sweep), *_on_what_matters(sweep), *_on_prediction(correlations(sweep))]
    return sentences


def _on_hypothesis(sweep: Sweep) -> list[str]:
    """Is multiple shooting better conditioned than single shooting?"""
    single, multiple = start_condition(sweep, "single"), start_condition(sweep, "multiple")
    pairs = (
        ("Gauss-Newton", single("gauss_newton", None), multiple("kkt_gauss_newton", None)),
        ("exact Hessian", single("hessian", None), multiple("kkt", None)),
    )
    parts, shares = [], []
    for name, one, many in pairs:
        ratios = [many[run] / one[run] for run in many if np.isfinite(one.get(run, np.nan)) and np.isfinite(many[run])]
        if ratios:
            better = sum(value < 1.0 for value in ratios)
            shares.append(better / len(ratios))
            parts.append(f"{name} {better} of {len(ratios)}, median ratio {_median(ratios):.1f}")
    if not parts:
        return []
    word = "holds" if min(shares) > 0.9 else "fails" if max(shares) < 0.1 else "holds in part"
    return [
        f"The hypothesis that multiple shooting is better conditioned {word} for the matrices at the start: its KKT "
        f"matrix has a smaller condition number than single shooting's matrix of the same kind ({'; '.join(parts)}).",
        *_without_decay(sweep, single("gauss_newton_no_decay", None), multiple("constraint_jacobian", None)),
    ]


def _without_decay(sweep: Sweep, plain: dict[str, float], constraints: dict[str, float]) -> list[str]:
    if not (plain and constraints):
        return []
    singular = sum(value > 1.0 / np.finfo(float).eps for value in plain.values())
    worst = max(constraints.values())
    regular = ": never near singular" if worst < _REGULAR else ""
    return [
        f"Without weight decay single shooting's Gauss-Newton matrix is singular to rounding in {singular} of "
        f"{len(plain)} runs.  The Jacobian of multiple shooting's defects has condition numbers up to {worst:.0e} "
        f"(median {_median(list(constraints.values())):.0e}){regular}."
    ]


def _on_penalty(sweep: Sweep) -> list[str]:
    if len(sweep.penalties) < 2:
        return []
    low, high = sweep.penalties[0], sweep.penalties[-1]
    measures = start_measures(sweep)
    runs = [run for run in measures["al_low"] if run in measures["al_high"]]
    growth = _median([measures["al_high"][run] / measures["al_low"][run] for run in runs])
    condensed = [measures["condensed_high"][run] / measures["condensed_low"][run] for run in runs]
    against = _median([measures["condensed_high"][run] / measures["gauss_newton"][run] for run in runs])
    return [
        f"From a penalty of {low:g} to {high:g} the augmented Lagrangian's Gauss-Newton matrix in (u, x) gets worse by "
        f"a factor of {growth:.1e} (median), the matrices that forward DP factorises by {_median(condensed):.1f} "
        f"(largest {max(condensed):.0f}): they tend to single shooting's ({against:.2f} of it), whatever the penalty."
    ]


def _on_rank(sweep: Sweep) -> list[str]:
    """What goes wrong in single shooting: directions that are lost, not large condition numbers."""
    table = [g for g in groups(sweep) if not np.isnan(g.rank)]
    if not table:
        return []
    worst = min(table, key=lambda g: g.rank)
    best = max(table, key=lambda g: g.rank)
    return [
        f"What depth destroys is rank: the single-shooting Jacobian keeps {100 * worst.rank:.0f} % of its rank in "
        f"{_name(worst)} (signal {worst.signal:.0e}), against {100 * best.rank:.0f} % in {_name(best)}; weight decay "
        f"hides it from the condition numbers ({worst.gauss_newton:.0e} and {best.gauss_newton:.0e})."
    ]


def _name(group: Group) -> str:
    return f"{group.depth} {group.activation} layers with {group.initialisation!r} weights"


def _on_training(sweep: Sweep) -> str:
    shares = []
    for method in sweep.methods:
        rows = [row for row in sweep.training if row["method"] == method]
        shares.append(f"{method} {sum(_succeeded(sweep, row) for row in rows)} of {len(rows)}")
    limits = {
        method: max(int(row["steps"]) for row in sweep.training if row["method"] == method) for method in sweep.methods
    }
    budget = ", ".join(f"{method} {steps}" for method, steps in limits.items())
    return (
        f"Trainings that reach a relative error of {sweep.threshold:.3f} ({budget} steps at most): {', '.join(shares)}."
    )


def _on_what_matters(sweep: Sweep) -> list[str]:
    """Did the formulation or the start decide?"""
    ends = {(row["run"], row["method"]): _succeeded(sweep, row) for row in sweep.training}
    runs = sorted({run for run, _ in ends if (run, "lm") in ends and (run, "al") in ends})
    if not runs:
        return []
    only = {method: sum(ends[run, method] and not ends[run, other] for run in runs)
            for method, other in (("lm", "al"), ("al", "lm"))}  # fmt: skip
    shares = []
    for start in sorted({row["initialisation"] for row in sweep.training}):
        rows = [row for row in sweep.training if row["initialisation"] == start]
        shares.append(f"{start!r} {sum(_succeeded(sweep, row) for row in rows)} of {len(rows)}")
    return [
        f"From the same weights only multiple shooting (al) trains in {only['al']} of {len(runs)} runs and only single "
        f"shooting (lm) in {only['lm']}; by starting weights, all methods together: {', '.join(shares)}."
    ]


def _on_prediction(found: Sequence[Correlation]) -> list[str]:
    """The best predictor of success per method, and what the Hessian's condition number is worth."""
    sentences = _on_warning(found)
    for method in dict.fromkeys(c.method for c in found):
        rows = [c for c in found if c.method == method and c.outcome == "success" and not np.isnan(c.value)]
        if not rows:
            sentences.append(f"{method}: success does not vary, so nothing predicts it.")
            continue
        best = max(rows, key=lambda c: abs(c.value))
        rule = [c for c in rows if c.measure == "hessian"]
        against = f"; the exact Hessian's condition number has {_signed(rule[0])}" if rule and best not in rule else ""
        sentences.append(
            f"{method}: success goes best with the {MEASURE_NAMES[best.measure]}, rank correlation {_signed(best)}"
            f"{against}."
        )
    return sentences


def _on_warning(found: Sequence[Correlation]) -> list[str]:
    """Would a warning on the condition number of single shooting's Hessian have been right?"""
    names = ("gauss_newton", "hessian")
    rows = [
        c for c in found if (c.method, c.outcome) == ("lm", "success") and c.measure in names and not np.isnan(c.value)
    ]
    if len(rows) < 2:
        return []
    values = " and ".join(f"{c.value:+.2f}" for c in rows)
    largest, smallest = max(c.value for c in rows), min(c.value for c in rows)
    if smallest > 0.2:
        word = "the sign is the wrong one: networks that cannot train have small condition numbers, set by weight decay"
    elif largest < -0.2:
        word = "they do, so a warning on a large condition number is worth something here"
    else:
        word = "they hardly correlate, so a warning on a large condition number is worth little here"
    return [
        "If ill-conditioning kept single shooting from training, its condition numbers (Gauss-Newton, exact Hessian) "
        f"and success of lm would correlate negatively; the rank correlations are {values}: {word}."
    ]


def _signed(correlation: Correlation) -> str:
    inside = "" if np.isnan(correlation.within_depth) else f" ({correlation.within_depth:+.2f} within equal depth)"
    return f"{correlation.value:+.2f}{inside}"
