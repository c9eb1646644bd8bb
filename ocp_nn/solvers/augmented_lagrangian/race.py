"""Several starts at once, the hopeless ones given up early: a race.

Training is nonconvex, and one start of several often ends lower.  To run all of them to the end is dear, for most time
goes into the last digits of valleys that another start has passed long ago.  Here all starts run for a few outer
iterations, the better half goes on for twice as many, and so on until one is left, which runs to its end (successive
halving; Jamieson and Talwalkar 2016).  With n starts that takes about log2(n) times the iterations of the first rung
for each of them, and one solve.

The starts are those of the seeds ``options.seed``, ``options.seed`` + 1, ...; the same call gives the same result,
however many processes share the work.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...base import checks
from ...problem.constraints.constrained_problem import ConstrainedProblem
from ...problem.optimal_control import PROBLEM, OptimalControlProblem
from ...problem.record import Status
from ...problem.result import Result
from .options import OPTIONS, Options
from .solve import solve

__all__ = ["Race", "Rung", "solve_from_starts"]

# Outer iterations of the first rung.
_FIRST = 8


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A stretch of the race: the seeds that ran, and the best rollout objective each of them had at its end."""

    max_outer: int
    seeds: tuple[int, ...]
    objectives: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Race:
    """What :func:`solve_from_starts` found.

    Attributes
    ----------
    result : Result
        Of the start with the lowest objective.
    rungs : tuple of Rung
    seconds : float
    """

    result: Result
    rungs: tuple[Rung, ...]
    seconds: float

    @property
    def seed(self) -> int:
        """That of the result."""
        return self.rungs[-1].seeds[int(np.argmin(self.rungs[-1].objectives))]


def solve_from_starts(
    problem: OptimalControlProblem, n_starts: int = 8, *, options: Options | None = None, n_jobs: int = 1
) -> Race:
    """The lowest of several solves, from different random weights, those that fall behind given up early.

    Parameters
    ----------
    problem : OptimalControlProblem
        Without constraints.
    n_starts : int
    options : Options, optional
        Of every solve; ``time_limit`` is that of the whole race.
    n_jobs : int
        Processes that share the starts of a rung, as joblib counts them: -1 takes all processors.

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
        raise ValueError("a race is for problems without constraints: call ocp_nn.solve with one seed after the other")
    options = options or Options()
    began = time.perf_counter()
    deadline = began + options.time_limit
    runners: dict[int, Result | None] = dict.fromkeys(range(options.seed, options.seed + n_starts))
    rungs, reach = list[Rung](), _FIRST
    while True:
        last = len(runners) == 1
        outer = options.max_outer if last else min(reach, options.max_outer)
        left = max(deadline - time.perf_counter(), 1e-9)
        runners = _run(problem, runners, replace(options, max_outer=outer, time_limit=left), n_jobs)
        ranked = sorted(runners, key=lambda seed: _objective(runners[seed]))
        rungs.append(
            Rung(
                max_outer=outer,
                seeds=tuple(runners),
                objectives=tuple([_objective(result) for result in runners.values()]),
            )
        )
        best = runners[ranked[0]]
        assert best is not None
        if last or best.status in (Status.TIME_LIMIT, Status.INTERRUPTED):
            return Race(result=best, rungs=tuple(rungs), seconds=time.perf_counter() - began)
        runners = {seed: runners[seed] for seed in ranked[: (len(ranked) + 1) // 2]}
        reach *= 2


def _objective(result: Result | None) -> float:
    """The lowest rollout objective so far."""
    best = getattr(result.state, "best", None) if result is not None else None
    objective = best.objective if best is not None else getattr(result, "rollout_objective", np.inf)
    return float(objective) if np.isfinite(objective) else np.inf


def _run(
    problem: OptimalControlProblem, runners: dict[int, Result | None], options: Options, n_jobs: int
) -> dict[int, Result | None]:
    """Every start that has not ended taken further."""
    ended = {seed: r for seed, r in runners.items() if r is not None and r.status is not Status.OUTER_LIMIT}
    waiting = [seed for seed in runners if seed not in ended]
    tasks = [(problem, runners[seed], replace(options, seed=seed)) for seed in waiting]
    found = dict(zip(waiting, _mapped(tasks, n_jobs), strict=True))
    return {seed: ended.get(seed) or found[seed] for seed in runners}


def _mapped(tasks: Sequence[tuple[OptimalControlProblem, Result | None, Options]], n_jobs: int) -> list[Result]:
    if n_jobs == 1 or len(tasks) < 2:
        return [solve(problem, begin, options=options) for problem, begin, options in tasks]
    from joblib import Parallel, delayed  # slow to import

    run = delayed(solve)
    return list(Parallel(n_jobs=n_jobs)(run(problem, begin, options=options) for problem, begin, options in tasks))
