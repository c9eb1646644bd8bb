"""Short trainings from the same start by three methods, with snapshots for measuring along the way.

* ``lm``: single shooting, Levenberg-Marquardt;
* ``al``: multiple shooting, augmented Lagrangian with Gauss-Newton and forward DP;
* ``ipopt``: IPOPT on the single-shooting program, exact Hessian.

The first two run without restarts and without the finish, so that what is seen is the method itself.  Without restarts
the first penalty has to be soft: 100 mean(y^2), a hundredth of the solver's own, lets states leave plateaus at once.  A
step is one linear system solved and accepted: a Gauss-Newton step, or an iteration of IPOPT.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...base import checks
from ...base.display import brief
from ...problem.training import TrainingProblem
from ...problem.trajectory import Trajectory
from ...solvers.augmented_lagrangian.options import Options
from ...solvers.augmented_lagrangian.outer_loop import init, step, terminate
from ...solvers.augmented_lagrangian.state import SolverState
from ...solvers.nlp.ipopt import IpoptOptions, solve_ipopt
from ...solvers.nlp.transcription import single_shooting

__all__ = ["METHODS", "Snapshot", "Trial", "relative_error", "run_trial"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]

METHODS = ("lm", "al", "ipopt")

# First penalty over mean(y^2).
_SOFT_PENALTY = 100.0

# Seconds after which IPOPT is stopped whatever its iteration: a guard, the limit of iterations comes first.
_IPOPT_SECONDS = 120.0


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A point on the way.

    Attributes
    ----------
    phase : str
        ``during`` or ``end``.
    step : int
    trajectory : Trajectory
        With multipliers; of ``al`` in general not a rollout.
    penalty : float or None
        Median beta of the nodes; None without nodes.
    """

    phase: str
    step: int
    trajectory: Trajectory
    penalty: float | None

    __repr__ = brief


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """One training.

    Attributes
    ----------
    method : str
    errors : tuple of (step, relative error)
        Of the rollout, at the start and after every outer iteration.
    status : str
    seconds : float
    snapshots : tuple of Snapshot
        None for ``ipopt``.
    """

    method: str
    errors: tuple[tuple[int, float], ...]
    status: str
    seconds: float
    snapshots: tuple[Snapshot, ...] = ()

    __repr__ = brief

    @property
    def steps(self) -> int:
        return self.errors[-1][0]

    @property
    def best_error(self) -> float:
        return min(error for _, error in self.errors)


def relative_error(problem: TrainingProblem, controls: Sequence[Array]) -> float:
    """Mean squared error of the rollout over the variance of the targets: 1 is what a constant reaches."""
    with np.errstate(over="ignore", invalid="ignore"):
        residual = problem.network.predict(controls, problem.x) - problem.y
        error = float(np.sum(residual**2))
    spread = float(np.sum((problem.y - problem.y.mean(axis=0)) ** 2))
    return error / spread if np.isfinite(error) and spread > 0 else np.inf


def run_trial(
    method: str, problem: TrainingProblem, controls: Sequence[Array], *, steps: int, during: int = 10,
    seconds: float = np.inf,
) -> Trial:  # fmt: skip
    """Train from given controls.

    Parameters
    ----------
    method : str
        One of :data:`METHODS`.
    problem : TrainingProblem
    controls : sequence of K arrays
    steps : int
        At most; IPOPT takes a fifth of them (its iterations with exact Hessians cost that much more).
    during : int
        The ``during`` snapshot is taken at the first outer iteration that has so many steps.
    seconds : float
        At most.
    """
    checks.check("method", method, checks.one_of(METHODS))
    if method == "ipopt":
        return _run_ipopt(problem, tuple(controls), -(-steps // 5), min(seconds, _IPOPT_SECONDS))
    return _run_gauss_newton(method, problem, tuple(controls), steps, during, seconds)


def _run_gauss_newton(
    method: str, problem: TrainingProblem, controls: Arrays, steps: int, during: int, seconds: float
) -> Trial:
    scale = float(np.mean(problem.y**2))
    options = Options(
        shooting="single" if method == "lm" else "multiple",
        penalty=_SOFT_PENALTY * (scale if scale > 0 else 1.0),
        max_restarts=0,
        second_order=False,
        max_outer=steps,
    )
    began = time.perf_counter()
    state = init(problem, controls, options)
    errors, snapshots = [(0, relative_error(problem, controls))], list[Snapshot]()
    status = None
    while status is None:
        state = step(problem, state, options, deadline=began + seconds)
        taken = state.counts["gauss_newton"]
        errors.append((taken, relative_error(problem, state.point.controls)))
        if taken >= during and not snapshots:
            snapshots.append(_snapshot("during", problem, state))
        found = terminate(problem, state, options)
        status = None if found is None else found.value
        if status is None and (taken >= steps or time.perf_counter() - began > seconds):
            status = "limit"
    snapshots.append(_snapshot("end", problem, state))
    return Trial(
        method=method,
        errors=tuple(errors),
        status=status,
        seconds=time.perf_counter() - began,
        snapshots=tuple(snapshots),
    )


def _snapshot(phase: str, problem: TrainingProblem, state: SolverState) -> Snapshot:
    finite = [beta for beta in state.penalty if np.isfinite(beta)]
    taken = state.counts["gauss_newton"]
    if not finite:
        return Snapshot(phase, taken, problem.lift(state.point.controls), None)
    # the multiplier of the input is no variable's: any value will do
    multipliers = (np.zeros_like(problem.x), *state.multipliers)
    point = Trajectory(state.point.controls, state.point.states, multipliers)
    return Snapshot(phase, taken, point, float(np.median(finite)))


def _run_ipopt(problem: TrainingProblem, controls: Arrays, iterations: int, seconds: float) -> Trial:
    began = time.perf_counter()
    options = IpoptOptions(max_iterations=iterations, time_limit=seconds)
    result = solve_ipopt(single_shooting(problem), problem.rollout(controls), options=options)
    # 2 J over the spread of the targets is the relative error plus what weight decay adds: a bound on the way
    spread = float(np.sum((problem.y - problem.y.mean(axis=0)) ** 2))
    errors = [(row.iteration, 2.0 * row.objective / spread) for row in result.history if row.iteration]
    errors = [(0, relative_error(problem, controls)), *errors[:-1]]
    last = result.history[-1].iteration if result.history else 0
    errors.append((last, relative_error(problem, result.trajectory.controls)))
    seconds = time.perf_counter() - began
    return Trial(method="ipopt", errors=tuple(errors), status=result.status.value, seconds=seconds)
