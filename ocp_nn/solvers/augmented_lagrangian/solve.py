"""``solve``: the outer loop run to its end, with clock, history, callback, checkpoints and Ctrl-C.

The algorithm itself is :mod:`.outer_loop`.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...base import checks
from ...base.claim import claim
from ...base.floating import overflow_is_a_value
from ...base.interrupts import RepeatedInterrupts
from ...forward_dp.kalman_arrays import kernels
from ...problem.blas import limited_blas
from ...problem.constraints.constrained_problem import ConstrainedProblem
from ...problem.identification import IdentificationProblem
from ...problem.notes import notes_on
from ...problem.optimal_control import PROBLEM, OptimalControlProblem
from ...problem.record import Record, Status
from ...problem.result import Result
from ...problem.trajectory import Trajectory
from . import outer_loop
from .constrained.loop import solve_constrained
from .files import Checkpoint
from .options import OPTIONS, Options
from .over_time import loop as over_time
from .over_time.state import HorizonState
from .rollouts import rollout_objective
from .sample_start import begin
from .state import Initial, Iterate, SolverState, iterate, record

__all__ = ["solve"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]
Callback = Callable[[Iterate], bool | None]

_log = logging.getLogger(__name__)


def solve(
    problem: OptimalControlProblem,
    initial: Initial | Result = None,
    *,
    options: Options | None = None,
    callback: Callback | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 30.0,
) -> Result:
    """Train a network as an optimal control problem.

    Parameters
    ----------
    problem : OptimalControlProblem
        Most often a :class:`ocp_nn.TrainingProblem`.
    initial : None, controls, Trajectory, SolverState or Result
        As for :func:`init`; from a result with a state the solve goes on as if it had never stopped, history included.
    options : Options, optional
    callback : callable, optional
        Receives an :class:`ocp_nn.Iterate` after every outer iteration: its :class:`ocp_nn.Record`, as in the history,
        with the solver's ``state``.  Returning True stops the solve.
    checkpoint : path, optional
        The result so far is saved there now and then, and at the end, for ``solve(problem, ocp_nn.load(path))``.
    checkpoint_seconds : float
        Time between two such files.

    Returns
    -------
    Result
        The point that converged, which with a loose tolerance need not be the lowest one seen; with any other status
        the best trajectory found, or the last one where no objective was finite.  Ctrl-C ends the solve with status
        interrupted.

    Raises
    ------
    ValueError
        If the initial point does not have the problem's shapes, or a result to go on from has no state.
    FileNotFoundError
        If the folder of the checkpoint does not exist.
    BlockingIOError
        If another solve has this checkpoint.
    """
    checks.check("problem", problem, PROBLEM)
    checks.check("options", options, OPTIONS)
    checks.check("callback", callback, checks.optional(checks.CALLABLE))
    checks.check("checkpoint_seconds", checkpoint_seconds, checks.number(least=0, finite=False))
    options = options or Options()
    if isinstance(problem, ConstrainedProblem):
        if checkpoint is not None:
            raise ValueError("a constrained problem has no checkpoints: go on from result.trajectory instead")
        return solve_constrained(problem, initial, options, callback, solve)
    if checkpoint is None:
        return _run(problem, initial, options, callback, None)
    keeper = Checkpoint(checkpoint, checkpoint_seconds)
    with claim(checkpoint):
        return _run(problem, initial, options, callback, keeper)


@dataclass(frozen=True)
class _Loop:
    """An outer loop: its functions take the problem, a state and the options.

    ``trusts_defects`` says that a trajectory counts although its rollout overflows.
    """

    begin: Callable[..., Any]
    init: Callable[..., Any]
    step: Callable[..., Any]
    terminate: Callable[..., Status | None]
    returned: Callable[..., tuple[Trajectory, float]]
    trusts_defects: bool = False


_ANY = _Loop(begin, outer_loop.init, outer_loop.step, outer_loop.terminate, outer_loop.returned)
_OVER_TIME = _Loop(
    over_time.begin, over_time.begin, over_time.step, over_time.terminate, over_time.returned, trusts_defects=True
)


def _loop(problem: OptimalControlProblem) -> _Loop:
    """The one for this kind of problem."""
    if not isinstance(problem, IdentificationProblem):
        return _ANY
    kernels()  # compiled before the clock starts, where this is the first time on a machine
    return _OVER_TIME


def _run(
    problem: OptimalControlProblem,
    initial: Initial | Result,
    options: Options,
    callback: Callback | None,
    keeper: Checkpoint | None,
) -> Result:
    loop = _loop(problem)
    deadline = time.perf_counter() + options.time_limit
    initial, history, earlier = _earlier(problem, initial)
    began = time.perf_counter() - earlier
    with limited_blas(problem), RepeatedInterrupts():
        status = None
        try:
            state = loop.begin(problem, initial, options, deadline=deadline)
        except KeyboardInterrupt:  # on the sample, and what that has found is lost
            state, status = loop.init(problem, initial, options), Status.INTERRUPTED
        if isinstance(initial, SolverState | HorizonState):
            status = loop.terminate(problem, state, options)
        elif not (np.isfinite(state.best.objective) or (loop.trusts_defects and state.point.is_finite)):
            status = Status.NON_FINITE
        try:
            while status is None:
                state = loop.step(problem, state, options, deadline=deadline)
                history.append(record(state, time.perf_counter() - began))
                _log.debug("%s", history[-1])
                if keeper is not None and keeper.is_due:
                    so_far = Status.INTERRUPTED, history, time.perf_counter() - began
                    keeper.write(_result(problem, state, options, *so_far))
                status = loop.terminate(problem, state, options)
                stopped = callback is not None and callback(iterate(history[-1], state))
                if status is None and (stopped or time.perf_counter() > deadline):
                    status = Status.INTERRUPTED if stopped else Status.TIME_LIMIT
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
        result = _result(problem, state, options, status, history, time.perf_counter() - began)
    _log.info("%s after %d outer iterations: %s", status.value, state.outer, status.message)
    if keeper is not None:
        keeper.write(result)
    return result


def _earlier(problem: OptimalControlProblem, initial: Initial | Result) -> tuple[Any, list[Record], float]:
    """Where to start, and history and seconds of what went before."""
    if not isinstance(initial, Result):
        return initial, [], 0.0
    if not isinstance(initial.state, SolverState | HorizonState):
        raise ValueError(
            "this result has no solver state to go on from: it was saved without, or comes from another solver; "
            "start from result.trajectory instead"
        )
    if initial.problem is not None and not initial.problem.is_same_as(problem):
        raise ValueError(
            "this result belongs to another problem (data, loss, network or weight decay differ), so its state cannot "
            "be gone on from; start from result.trajectory.controls instead"
        )
    return initial.state, list(initial.history), initial.seconds


@overflow_is_a_value
def _result(
    problem: OptimalControlProblem,
    state: SolverState | HorizonState,
    options: Options,
    status: Status,
    history: list[Record],
    seconds: float,
) -> Result:
    trajectory, stationarity = _loop(problem).returned(problem, state, status)
    objective, defects = problem.objective(trajectory), problem.defects(trajectory)
    initial = trajectory.states[0] if problem.has_free_start else None
    at_rest = status is Status.CONVERGED  # else the trajectory is another point than the one that was looked at
    rolled_out = rollout_objective(problem, trajectory.controls, initial)
    return Result(
        status=status,
        message=status.message,
        trajectory=trajectory,
        objective=objective,
        rollout_objective=rolled_out,
        curvature=state.schedule.curvature if at_rest and isinstance(state, SolverState) else None,
        notes=notes_on(problem, trajectory.controls, rolled_out),
        max_defect=max((float(np.abs(d).max()) for d in defects), default=0.0),
        stationarity=stationarity,
        seconds=seconds,
        solver="augmented Lagrangian",
        history=tuple(history),
        counts={"outer": state.outer, **state.counts},
        state=state,
        problem=problem,
        model=problem.trained_model(trajectory.controls),
        options=options,
    )
