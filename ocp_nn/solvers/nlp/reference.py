"""IPOPT as a reference and as a check.

* :func:`cold_start` solves the same problem by single shooting from the same initial weights.  Training is nonconvex,
  so it may well end in another basin: a row to compare with, no proof of anything.
* :func:`confirm` starts IPOPT with the exact Hessian *at our solution*.  If that is a solution, IPOPT ends successfully
  and the objective stays where it was.  This check means something: IPOPT measures the gradient by its own evaluation
  of the program, and moves on wherever its tolerance, tighter than ours, is not met.  (A point it accepts at once is
  shown to be stationary; that it is no saddle is for :mod:`ocp_nn.problem.certificate` to say.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...base.display import brief
from ...problem.optimal_control import OptimalControlProblem
from ...problem.record import Status
from ...problem.result import Result
from ...problem.trajectory import Trajectory
from .ipopt import IpoptOptions, solve_ipopt
from .transcription import single_shooting

__all__ = ["CONFIRM_TOLERANCE", "Confirmation", "cold_start", "confirm"]

Array = NDArray[np.float64]

# Largest relative change of the objective that IPOPT may find when it is started at a solution.
CONFIRM_TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class Confirmation:
    """What IPOPT did when it was started at a solution.

    Attributes
    ----------
    confirmed : bool
        It ended successfully and moved the objective by less than :data:`CONFIRM_TOLERANCE`, relatively.
    relative_change : float
        (J before - J after) / max(|J before|, tiny); positive where IPOPT found lower.
    result : Result
    """

    confirmed: bool
    relative_change: float
    result: Result

    __repr__ = brief


def cold_start(
    problem: OptimalControlProblem,
    controls: Sequence[Array],
    *,
    initial: Array | None = None,
    time_limit: float = np.inf,
) -> Result:
    """IPOPT, single shooting, exact Hessian, from given weights, and from ``initial`` (by default xbar) as x_0."""
    return _single_shooting(problem, problem.rollout(controls, initial=initial), time_limit)


def confirm(
    problem: OptimalControlProblem,
    controls: Sequence[Array] | Trajectory,
    *,
    initial: Array | None = None,
    time_limit: float = np.inf,
) -> Confirmation:
    """IPOPT, single shooting, exact Hessian, from the controls of a solution.

    Parameters
    ----------
    problem : OptimalControlProblem
    controls : sequence of arrays, or Trajectory
        ``result.trajectory.controls``; their rollout is what is confirmed.  Of a constrained problem
        ``result.trajectory`` itself, with the multipliers of constraints, without which IPOPT would move away first.
    initial : array, shape (N, n_0), optional
        ``result.trajectory.states[0]``: where x_0 is a variable, the x_0 of that rollout, else xbar.
    time_limit : float, optional
        Seconds IPOPT may take.
    """
    point = controls if isinstance(controls, Trajectory) else problem.rollout(controls, initial=initial)
    before, result = problem.objective(point), _single_shooting(problem, point, time_limit)
    change = (before - result.rollout_objective) / max(abs(before), np.finfo(float).tiny)
    confirmed = result.status is Status.CONVERGED and abs(change) < CONFIRM_TOLERANCE
    return Confirmation(confirmed=confirmed, relative_change=change, result=result)


def _single_shooting(problem: OptimalControlProblem, start: Trajectory, time_limit: float) -> Result:
    options = IpoptOptions(hessian="exact", time_limit=time_limit)
    return solve_ipopt(single_shooting(problem), start, options=options)
