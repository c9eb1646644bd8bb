"""From a linearisation to the next point: how a step is made to gain.

``levenberg-marquardt`` raises the damping until the better of two trial points gains enough, ``armijo`` backtracks
along the linear step at a fixed damping.  Both take a linearisation and the state of the inner loop and return the next
one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .damping import Damping
from .inner_result import InnerResult
from .lagrangian import Point
from .linearisation import Linearisation
from .reuse import reusable
from .secant import SecantFactor
from .trial_points import better_trial, gains

__all__ = ["GLOBALISATIONS", "armijo", "levenberg_marquardt"]

# Smallest ratio of actual to predicted decrease at which a step is taken.
_MIN_GAIN = 1e-4

# Sufficient decrease and shortest step of the Armijo search (Nocedal and Wright 2006, section 3.1).
_ARMIJO_SLOPE, _ARMIJO_SHORTEST = 1e-4, 2.0**-30


@dataclass(frozen=True, eq=False)
class _Attempt:
    """What a damping led to: the next point and how well its gain was foretold, or no point."""

    trial: Point | None = None
    ratio: float = 0.0
    products: int = 0
    factor: SecantFactor | None = None


def levenberg_marquardt(local: Linearisation, result: InnerResult) -> InnerResult:
    """Raise the damping until the better of the two trial points gains enough."""
    damping, solves, products = result.damping, result.solves, result.products
    while not damping.exhausted:
        attempt = _attempt(local, damping)
        solves, products = solves + 1, products + attempt.products
        if attempt.trial is not None:
            done = replace(result, solves=solves, products=products, factor=attempt.factor, steps=result.steps + 1)
            return replace(done, point=attempt.trial, damping=damping.accepted(attempt.ratio))
        damping = damping.rejected()
    done = replace(result, solves=solves, products=products)
    if local.problem.has_kinks:  # perhaps no direction is one of descent: crawling costs more than a restart
        return replace(done, stalled=True)
    # the damping holds controls back, not states: shorten the whole step instead
    return armijo(local, done)


def _attempt(local: Linearisation, damping: Damping) -> _Attempt:
    proposal = local.propose(damping.value)
    if proposal is None:
        return _Attempt()
    trial = better_trial(local.lagrangian, local.point, proposal)
    if not (trial.is_finite and gains(local, trial, _MIN_GAIN * proposal.predicted)):
        return _Attempt(products=proposal.products)
    actual = local.point.value - trial.value
    ratio = actual / proposal.predicted if proposal.predicted > 0 else 1.0
    return _Attempt(trial, ratio, proposal.products, reusable(local, trial, proposal))


def armijo(local: Linearisation, result: InnerResult) -> InnerResult:
    """Backtrack along (du, dx) at fixed damping: the textbook alternative, slower here once beta has grown."""
    lagrangian, point, gradient = local.lagrangian, local.point, local.gradient
    try:
        step = local.prepared.step(result.damping.value, refinements=0)
    except np.linalg.LinAlgError:
        damping = result.damping.rejected()
        return replace(result, damping=damping, solves=result.solves + 1, stalled=damping.exhausted)
    slope = sum(float(np.vdot(g, d)) for g, d in zip(gradient[0], step.controls, strict=True))
    moved = step.states if local.problem.has_free_start else step.states[1:]
    slope += sum(float(np.vdot(g, d)) for g, d in zip(gradient[1], moved, strict=True))
    length = 1.0
    while length >= _ARMIJO_SHORTEST:
        with np.errstate(over="ignore", invalid="ignore"):
            trial = lagrangian.at(
                tuple(u + length * du for u, du in zip(point.controls, step.controls, strict=True)),
                tuple(x + length * dx for x, dx in zip(point.states, step.states, strict=True)),
            )
        if trial.is_finite and trial.value < point.value + _ARMIJO_SLOPE * length * slope:
            return replace(result, point=trial, steps=result.steps + 1, solves=result.solves + 1)
        length *= 0.5
    return replace(result, solves=result.solves + 1, stalled=True)


GLOBALISATIONS = {"levenberg-marquardt": levenberg_marquardt, "armijo": armijo}
