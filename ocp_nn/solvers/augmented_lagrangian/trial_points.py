"""The two trial points of a step (our derivation).

The *slack rollout* keeps the slacks that the model predicts, e_k = (eta_{k+1} - lambda_{k+1})/beta_k, and rolls the
true dynamics,

    x_{k+1} = f_k(x_k, u_k + du_k) - e_k,

so it follows the curved constraints where beta is large.  The *linear* trial takes (u + du, x + dx): it can rearrange
states freely, which frees deep networks from plateaus.  It is tried where the first one falls short of the model;
the better of the two by L_beta is taken.
"""

from __future__ import annotations

import numpy as np

from .damping import Damping
from .lagrangian import ROUNDING, AugmentedLagrangian, Point
from .linearisation import Linearisation, Proposal

__all__ = ["better_trial", "gains"]

# The slack rollout is taken without a look at the linear trial where it gains this part of what the model promised.
_GOOD_GAIN = 0.75


def better_trial(lagrangian: AugmentedLagrangian, point: Point, proposal: Proposal) -> Point:
    """The slack rollout or the linear update, whichever has the lower L_beta."""
    step = proposal.step
    controls = tuple(u + du for u, du in zip(point.controls, step.controls, strict=True))
    # overflow in a trial is no accident worth a warning: the point is rejected
    with np.errstate(over="ignore", invalid="ignore"):
        initial = point.states[0] + step.states[0]
        rolled = lagrangian.slack_rollout(controls, step.multipliers, initial)
        is_good = rolled.is_finite and point.value - rolled.value >= _GOOD_GAIN * proposal.predicted
        if is_good or lagrangian.is_reduced:
            return rolled
        linear = lagrangian.at(controls, tuple(x + dx for x, dx in zip(point.states, step.states, strict=True)))
    return linear if linear.is_finite and not rolled.value <= linear.value else rolled


def gains(local: Linearisation, trial: Point, least: float) -> bool:
    """Whether L_beta falls, and by how much at least; where rounding hides it, the gradient decides."""
    actual = local.point.value - trial.value
    if abs(actual) > ROUNDING * abs(local.point.value):
        return actual > max(0.0, least)
    after = Linearisation.at(local.lagrangian, trial, Damping(local.subproblem.damping), local.method)
    return after.stationarity < local.stationarity
