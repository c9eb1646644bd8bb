"""Several starts, each to its end, of which the lowest counts: training is nonconvex."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ...base import checks
from ...problem.constraints.constrained_problem import ConstrainedProblem
from ...problem.optimal_control import PROBLEM, OptimalControlProblem
from ...problem.record import Status
from ...problem.result import Result
from .options import OPTIONS, Options
from .solve import solve

__all__ = ["SeveralStarts", "solve_from_starts"]


@dataclass(frozen=True, kw_only=True)
class SeveralStarts:
    """What :func:`solve_from_starts` found.

    Attributes
    ----------
    result : Result
        The one with the lowest objective of its rollout.
    seeds : tuple of int
        Of the starts that were made.
    objectives : tuple of floats
        J at their rollouts.
    statuses : tuple of Status
    seconds : float
    """

    result: Result
    seeds: tuple[int, ...]
    objectives: tuple[float, ...]
    statuses: tuple[Status, ...]
    seconds: float

    @property
    def seed(self) -> int:
        """That of the result."""
        return self.seeds[self.objectives.index(self.result.rollout_objective)]


def solve_from_starts(
    problem: OptimalControlProblem, n_starts: int = 4, *, options: Options | None = None, n_jobs: int = 1
) -> SeveralStarts:
    """The lowest of several solves from different random weights: seeds ``options.seed``, ``options.seed`` + 1, ...

    Parameters
    ----------
    problem : OptimalControlProblem
        Without constraints.
    n_starts : int
    options : Options, optional
        Of every solve; ``time_limit`` is that of all together.  The first start is made in any case.
    n_jobs : int
        Processes that share the starts, as joblib counts them: -1 takes all processors.  The result is the same.

    Raises
    ------
    ValueError
        For a number of starts below one, no number of processes, or a problem with constraints.
    """
    checks.check("problem", problem, PROBLEM)
    checks.check("n_starts", n_starts, checks.integer(1))
    checks.check("options", options, OPTIONS)
    checks.check("n_jobs", n_jobs, checks.integer(-1))
    if n_jobs == 0:
        raise ValueError("n_jobs must be an integer other than 0, received 0")
    if isinstance(problem, ConstrainedProblem):
        raise ValueError(
            "several starts are for problems without constraints: call ocp_nn.solve with one seed after the other"
        )
    options = options or Options()
    began = time.perf_counter()
    end = time.time() + options.time_limit  # a clock that processes share
    each = [replace(options, seed=options.seed + number) for number in range(n_starts)]
    if n_jobs == 1 or n_starts == 1:
        found = list(_one_by_one(problem, each, end))
    else:
        from joblib import Parallel, delayed  # slow to import

        solved = Parallel(n_jobs=n_jobs)(delayed(_until)(problem, some, end) for some in each)
        found = [result for result in solved if result is not None] or [solve(problem, options=each[0])]
    results = [result for result in found if result is not None]
    objectives = tuple([r.rollout_objective if np.isfinite(r.rollout_objective) else np.inf for r in results])
    return SeveralStarts(
        result=results[objectives.index(min(objectives))],
        seeds=tuple([r.options.seed for r in results if isinstance(r.options, Options)]),
        objectives=objectives,
        statuses=tuple([r.status for r in results]),
        seconds=time.perf_counter() - began,
    )


def _one_by_one(problem: OptimalControlProblem, each: list[Options], end: float) -> Iterator[Result]:
    """The solves, until time is over or one was interrupted."""
    yield (last := _solved(problem, each[0], end))
    for options in each[1:]:
        if last.status is Status.INTERRUPTED or time.time() >= end:
            return
        yield (last := _solved(problem, options, end))


def _until(problem: OptimalControlProblem, options: Options, end: float) -> Result | None:
    """The solve, where there is time for it."""
    return _solved(problem, options, end) if time.time() < end else None


def _solved(problem: OptimalControlProblem, options: Options, end: float) -> Result:
    return solve(problem, options=replace(options, time_limit=max(end - time.time(), 1e-9)))
