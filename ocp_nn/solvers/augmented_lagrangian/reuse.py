"""Steps with an earlier factorisation, where every state is eliminated, updated by secants (:mod:`.secant`)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .inner_result import InnerResult
from .lagrangian import Point
from .linearisation import Linearisation, Proposal
from .secant import SecantFactor
from .trial_points import gains

__all__ = ["reusable", "reuse"]

# Steps that a factorisation serves at most, what part of the promised decrease it takes to begin and to go on with it,
# and what part of a step it must take to be worth a trial.
_REUSES, _FORETOLD, _GOOD_REUSE, _WORTH_REUSING = 8, 0.1, 0.1, 0.5


def reuse(local: Linearisation, result: InnerResult, factor: SecantFactor) -> InnerResult:
    """The step -M^-1 g with an earlier factorisation and the gradient here; where it fails, the factor is dropped.

    Close to where M was made this costs a fraction of a step and gains much of one (multi-step Levenberg-Marquardt;
    Fan 2012; the secant updates are our addition).
    """
    point, gradient = local.point, np.concatenate(local.gradient[0])
    factor = factor.moved(np.concatenate(point.controls), gradient)
    step = -factor.solve(gradient)
    controls = tuple(u + du for u, du in zip(point.controls, local.problem.split(step), strict=True))
    with np.errstate(over="ignore", invalid="ignore"):
        trial = local.lagrangian.at(controls, point.states)
    if trial.is_finite and gains(local, trial, -_GOOD_REUSE * 0.5 * float(gradient @ step)):
        return replace(result, point=trial, reuses=result.reuses + 1, factor=factor if factor.uses else None)
    return replace(result, factor=None)


def reusable(local: Linearisation, trial: Point, proposal: Proposal) -> SecantFactor | None:
    """The factor of a step that its model foretold well, where every state is eliminated and making it took long."""
    foretold = local.point.value - trial.value >= _FORETOLD * proposal.predicted
    reduced = local.lagrangian.is_reduced and not local.problem.has_free_start
    if local.method.second_order or not foretold or not reduced:
        return None
    if local.prepared.factor_share < _WORTH_REUSING:
        return None
    controls, gradient = np.concatenate(local.point.controls), np.concatenate(local.gradient[0])
    return SecantFactor(proposal.damped.precondition, controls, gradient, _REUSES)
