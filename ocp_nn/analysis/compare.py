"""Solvers side by side on one training problem: the same start, the same objective, cold and cross starts.

A cold start shows which basin each method falls into and how fast; in a nonconvex problem the basins differ, so equal
objectives prove nothing and unequal ones refute nothing.  A *cross start* does: started at a KKT point of another
method, a solver that agrees stays there.  What moved is reported as relative change of objective, weights, multipliers.

Every answer, whoever found it, is judged by the same certificate (:mod:`ocp_nn.problem.certificate`).
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base import checks
from ..base.atomic import atomic_write
from ..base.display import brief
from ..problem.certificate import certify
from ..problem.result import Result
from ..problem.training import TRAINING_PROBLEM, TrainingProblem
from ..problem.trajectory import Trajectory
from ..solvers.augmented_lagrangian.options import Options
from ..solvers.augmented_lagrangian.solve import solve
from ..solvers.nlp.ipopt import IpoptOptions, solve_ipopt
from ..solvers.nlp.plugins import SOLVERS, solve_nlp
from ..solvers.nlp.transcription import NLP, multiple_shooting, single_shooting

__all__ = ["METHODS", "Comparison", "Row", "compare", "write_csv"]

Array = NDArray[np.float64]
Initial = Trajectory | Sequence[Array] | None
Runner = Callable[[TrainingProblem, Initial, float], Result]

OURS = "al"


def _al(problem: TrainingProblem, initial: Initial, time_limit: float) -> Result:
    return solve(problem, initial, options=Options(time_limit=time_limit))  # type: ignore[arg-type]


def _ipopt(transcription: Callable[[TrainingProblem], NLP], hessian: Any) -> Runner:
    def run(problem: TrainingProblem, initial: Initial, time_limit: float) -> Result:
        return solve_ipopt(
            transcription(problem), initial, options=IpoptOptions(hessian=hessian, time_limit=time_limit)
        )

    return run


def _plugin(solver: str, transcription: Callable[[TrainingProblem], NLP]) -> Runner:
    def run(problem: TrainingProblem, initial: Initial, time_limit: float) -> Result:
        return solve_nlp(transcription(problem), solver, initial)

    return run


METHODS: dict[str, Runner] = {
    OURS: _al,
    "ipopt-single": _ipopt(single_shooting, "exact"),
    "ipopt-single-gn": _ipopt(single_shooting, "gauss-newton"),
    "ipopt-single-lbfgs": _ipopt(single_shooting, "limited-memory"),
    "ipopt-multiple": _ipopt(multiple_shooting, "exact"),
    **{f"{solver}-single": _plugin(solver, single_shooting) for solver in SOLVERS},
    **{f"{solver}-multiple": _plugin(solver, multiple_shooting) for solver in SOLVERS},
}
"""Name -> runner.  The plugins of :mod:`ocp_nn.solvers.nlp.plugins` have no time limit: keep them to small problems."""

DEFAULT_METHODS = (OURS, "ipopt-single", "ipopt-single-gn", "ipopt-single-lbfgs", "ipopt-multiple")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run.

    Attributes
    ----------
    method, start : str
        ``start`` is ``cold`` or the method whose answer was the start.
    status, message : str
    passed : bool
        The certificate's verdict.
    objective, rollout_objective, max_defect, stationarity : float
        Of the answer.
    iterations : int
        The method's own: outer iterations for ours.
    seconds : float
        Of wall time, building the program included.
    objective_change, control_change, multiplier_change : float or None
        Cross starts: relative to the start, in J, in the 2-norm of the weights, in the largest multiplier.
    """

    method: str
    start: str
    status: str
    passed: bool
    objective: float
    rollout_objective: float
    max_defect: float
    stationarity: float
    iterations: int
    seconds: float
    objective_change: float | None = None
    control_change: float | None = None
    multiplier_change: float | None = None
    message: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """All runs.

    Attributes
    ----------
    rows : tuple of Row
    results : mapping
        (method, start) -> Result; a run that raised has a row but no result.
    """

    rows: tuple[Row, ...]
    results: Mapping[tuple[str, str], Result]

    __repr__ = brief


_KINDS = {
    "problem": TRAINING_PROBLEM,
    "cross": checks.BOOLEAN,
    "time_limit": checks.POSITIVE_OR_INFINITE,
    "seed": checks.SEED,
    "on_row": checks.optional(checks.CALLABLE),
}


def compare(
    problem: TrainingProblem,
    initial: Initial = None,
    *,
    methods: Sequence[str] = DEFAULT_METHODS,
    cross: bool = True,
    time_limit: float = 60.0,
    seed: int = 0,
    csv_path: str | Path | None = None,
    on_row: Callable[[Row], None] | None = None,
) -> Comparison:
    """Run several methods from the same start, then from each other's answers.

    Parameters
    ----------
    problem : TrainingProblem
    initial : Trajectory, sequence of controls, or None
        Everybody's start; None is the network's standard weights of ``seed``.
    methods : sequence of str
        Keys of :data:`METHODS`.
    cross : bool
        Also start every other method at the answer of the first one, and the first one at theirs: from answers that
        passed their certificate only.
    time_limit : float
        Seconds for each run.
    csv_path : path, optional
        Rewritten after every run, so that an interrupted comparison keeps what it has.
    on_row : callable, optional
        Called with every row as it arrives: progress.

    Raises
    ------
    ValueError
        For methods that do not exist.  A method that fails becomes a row that says so.
    """
    given = {"problem": problem, "cross": cross, "time_limit": time_limit, "seed": seed, "on_row": on_row}
    checks.check_all(_KINDS, given)
    known = f"a sequence of one or more of {', '.join(METHODS)}"
    checks.check("methods", methods, checks.sequence(checks.one_of(METHODS), known, least=1))
    start = problem.network.init_controls(seed) if initial is None else initial
    rows: list[Row] = []
    results: dict[tuple[str, str], Result] = {}

    def add(method: str, label: str, point: Initial) -> Row:
        row, result = _run(problem, method, label, point, time_limit)
        rows.append(row)
        if result is not None:
            results[method, label] = result
        if csv_path is not None:
            write_csv(rows, csv_path)
        if on_row is not None:
            on_row(row)
        return row

    passed = [method for method in dict.fromkeys(methods) if add(method, "cold", start).passed]
    first, *others = dict.fromkeys(methods)
    for other in others if cross else ():
        for method, source in ((other, first), (first, other)):
            if source in passed:
                add(method, source, results[source, "cold"].trajectory)
    return Comparison(rows=tuple(rows), results=results)


def _run(
    problem: TrainingProblem, method: str, label: str, point: Initial, time_limit: float
) -> tuple[Row, Result | None]:
    began = time.perf_counter()
    try:
        result = METHODS[method](problem, point, time_limit)
    except Exception as error:  # one method's failure must not lose the others: it is reported in its row
        nan = float("nan")
        figures = {"objective": nan, "rollout_objective": nan, "max_defect": nan, "stationarity": nan}
        reason = f"{type(error).__name__}: {error}"
        seconds = time.perf_counter() - began
        return Row(
            method=method,
            start=label,
            status="error",
            passed=False,
            iterations=0,
            seconds=seconds,
            message=reason,
            **figures,
        ), None
    seconds = time.perf_counter() - began
    certificate = certify(problem, result.trajectory)
    changes = _changes(problem, point, result.trajectory) if isinstance(point, Trajectory) else {}
    row = Row(
        method=method,
        start=label,
        status=result.status.value,
        passed=certificate.passed(),
        objective=certificate.objective,
        rollout_objective=certificate.rollout_objective,
        max_defect=certificate.max_defect,
        stationarity=certificate.stationarity,
        iterations=result.counts.get("iterations", result.counts.get("outer", 0)),
        seconds=seconds,
        message=result.message,
        **changes,
    )
    return row, result


def _changes(problem: TrainingProblem, before: Trajectory, after: Trajectory) -> dict[str, float]:
    was, now = problem.objective(before), problem.objective(after)
    old, new = np.concatenate(before.controls), np.concatenate(after.controls)
    tiny = float(np.finfo(float).tiny)
    changes = {
        "objective_change": abs(now - was) / max(abs(was), tiny),
        "control_change": float(np.linalg.norm(new - old)) / max(float(np.linalg.norm(old)), tiny),
    }
    if before.multipliers is not None and after.multipliers is not None:
        pairs = list(zip(before.multipliers, after.multipliers, strict=True))
        size = max(float(np.abs(a).max()) for a, _ in pairs)
        changes["multiplier_change"] = max(float(np.abs(b - a).max()) for a, b in pairs) / max(size, tiny)
    return changes


def write_csv(rows: Sequence[Row], path: str | Path) -> None:
    """One line a run; empty cells where a figure does not apply."""
    names = [f.name for f in fields(Row)]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(names)
    writer.writerows(["" if (v := getattr(row, name)) is None else v for name in names] for row in rows)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())
