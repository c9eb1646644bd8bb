"""The finish: when the states are eliminated for good, and which steps are then taken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...problem.optimal_control import OptimalControlProblem
from .inner_result import InnerResult
from .options import Options
from .rollouts import follows
from .schedule import WORTHWHILE, Finish
from .state import SolverState

__all__ = ["SETTLED_GAIN", "first_finish", "has_settled", "next_finish", "projects"]

# The work of a Hessian product in least-squares solves: two sweeps and a solve with a factor that is there, about a
# quarter (scripts/step_split.py).
_PRODUCT = 0.25

# The work of a dense Hessian, in least-squares solves: so much a control (scripts/step_split.py).
_DENSE_HESSIAN = 1 / 32

# First damping of lifted steps, relative to that of the others.
_LIFTED_DAMPING = 1e-2

# Stages up to which the finish of a smooth network projects the last control out.
_SHALLOW = 3

# Point and rollout agree within a percent, and an outer iteration gains no more than two: the finish is faster then.
_SETTLED_GAP, SETTLED_GAIN = 0.01, 0.02

# Outer iterations after a restart before it may count as settled: perturbed controls often rest at the mean for some.
_RESTART_OUTER = 8


def first_finish(problem: OptimalControlProblem, state: SolverState, options: Options) -> Finish:
    """The finish before its first step; backtracking along a line has no use for the exact Hessian, which is that in
    the controls alone.  Lifted steps are for deep smooth networks.
    """
    finish = Finish((state.damping, state.damping))
    if options.globalisation == "armijo" or problem.has_free_start:
        return replace(finish, gains=(finish.gains[0], -1.0))
    is_deep = problem.num_stages > _SHALLOW and not problem.has_kinks
    if not (options.lifted and is_deep and options.nodes(problem.num_stages)):
        return finish
    softer = replace(state.damping, value=_LIFTED_DAMPING * state.damping.value)
    return Finish((*finish.damping, softer), (*finish.gains, WORTHWHILE))


def next_finish(state: SolverState, inner: InnerResult, objective: float) -> Finish | None:
    """The finish after an iteration, by what that gained for its work."""
    if state.schedule.finish is None:
        return None
    dense = _DENSE_HESSIAN * state.best.size * inner.hessians
    work = inner.solves + _PRODUCT * inner.products + dense
    lifted = state.schedule.finish.prefers_lifted
    if inner.stalled and inner.steps == 0:
        gain = -1.0
    elif inner.steps == 0:  # out of time
        return state.schedule.finish
    else:
        gained = max(_lifted_gain(state, inner), 0.0) if lifted else state.rollout_objective - objective
        gain = gained / (work * abs(objective)) if objective != 0 else 0.0
    return state.schedule.finish.after(gain, inner.damping)


def _lifted_gain(state: SolverState, inner: InnerResult) -> float:
    """By how much L_beta has fallen, at the new multipliers: rollouts say little until their defects are closed."""
    assert inner.multipliers is not None
    pairs = zip(inner.multipliers, state.point.defects, inner.point.defects, strict=True)
    closed = sum(float(np.vdot(multiplier, before - after)) for multiplier, before, after in pairs)
    return state.point.objective - inner.point.objective + closed


def has_settled(
    problem: OptimalControlProblem, state: SolverState, inner: InnerResult, objective: float, options: Options
) -> bool:
    """Whether the multipliers and penalties have done what they can: the finish takes over.

    That is when the best rollout follows the data, when no step was possible, or when the iteration gained little and
    the rollout agrees with the point, or never will: defects within the tolerance, or penalties at their cap, may
    still add up along unstable stages.
    """
    if follows(problem, min(objective, state.safeguard.objective)):
        return True
    if state.is_softened and state.outer - state.schedule.restart_outer < _RESTART_OUTER:
        return False
    agrees = abs(objective - inner.point.objective) <= _SETTLED_GAP * abs(objective)
    closed = inner.point.max_defect <= options.tolerance
    capped = all(beta >= options.max_penalty for beta in state.penalty)
    gained_little = state.rollout_objective - objective <= SETTLED_GAIN * abs(objective)
    return inner.stalled or (gained_little and (agrees or closed or capped))


def projects(problem: OptimalControlProblem, state: SolverState) -> bool:
    """Whether the last control is projected out: in the finish, of shallow networks and of those with kinks.

    On shallow ones that saves up to a third of the steps, and at kinks it goes on where other steps are stopped
    (ReLU 20x8 of scripts/deep_suite.py); smooth deep ones it leads into worse valleys (sin2x 4x10 and tanh 50x8 of
    scripts/bench.py).
    """
    return state.schedule.finish is not None and (problem.num_stages <= _SHALLOW or problem.has_kinks)
