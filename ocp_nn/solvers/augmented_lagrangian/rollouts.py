"""The rollout of an iterate: a point that is feasible whatever the defects, and what it is good for.

**Safeguard.**  L_beta <= J(best rollout) can be asked of every start of a subproblem, whatever lambda and beta
(Birgin and Martinez 2014, section 4.1, in our form).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...problem.optimal_control import OptimalControlProblem
from ...problem.shooting import SINGLE_SHOOTING
from .lagrangian import ROUNDING, AugmentedLagrangian, Point
from .state import Best, SolverState

__all__ = ["follows", "rolled_out", "rollout_objective", "safeguarded"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]

# Rollouts that explain nine tenths of the targets' variance are off every plateau: from there single shooting is as
# good, and faster than waiting for the defects to close (scripts/deep_suite.py).
_FOLLOWS = 0.1


def rollout_objective(problem: OptimalControlProblem, controls: Arrays, initial: Array | None = None) -> float:
    """J at the rollout of the controls, from ``initial`` where x_0 is a variable; infinite where that overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        states, _ = problem.roll(SINGLE_SHOOTING, controls, initial)
        objective = problem.cost(controls, problem.term_outputs(controls, states), initial)
    return objective if np.isfinite(objective) else np.inf


def rolled_out(lagrangian: AugmentedLagrangian, point: Point) -> Best:
    """The rollout of a point's controls, with its objective; that is known where every state is eliminated."""
    problem = lagrangian.problem
    initial = point.states[0] if problem.has_free_start else None
    if lagrangian.is_reduced:
        return Best(point.controls, point.objective, initial)
    return Best(point.controls, rollout_objective(problem, point.controls, initial), initial)


def safeguarded(lagrangian: AugmentedLagrangian, state: SolverState) -> Point:
    """The point to start a subproblem from: the last one, or the best rollout where that has the lower L_beta."""
    point = lagrangian.again(state.point)
    if point.value <= state.safeguard.objective * (1.0 + ROUNDING):
        return point
    rollout = lagrangian.problem.rollout(state.safeguard.controls, initial=state.safeguard.initial)
    return lagrangian.at(rollout.controls, rollout.states)


def follows(problem: OptimalControlProblem, objective: float) -> bool:
    """Whether a rollout with this objective explains most of the targets' variance, or of what a constant leaves."""
    null = problem.null_objective
    return null >= 0 and objective <= _FOLLOWS * null  # a loss of one's own may be negative, and says no parts then
