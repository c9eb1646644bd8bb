"""A Levenberg-Marquardt step on L_beta over time, and its trial points.

The least-squares problem of a step is solved in Kalman form (:mod:`ocp_nn.forward_dp.kalman`), linear in the horizon.
Up to three points are tried, and the one with the lowest L_beta is taken:

* the *linear* one, theta + dtheta and x + dx;
* the *slack rollout*, which keeps the slacks that the model predicts (:mod:`..trial_points`): the only one where every
  state is eliminated, and the best on stable systems once beta is large;
* the *smoothed* one (our derivation): with the new parameters held, the states alone are improved by further smoothing
  passes, without sensitivities to parameters and therefore cheap.  It closes the defects that the step's curvature has
  opened, which on chaotic systems neither of the others does.

With ``acceleration``, where none of them gains most of what the model promises, the same three points of the step
*along the curve* are tried (:meth:`ocp_nn.forward_dp.Damped.corrected`): narrow valleys over long horizons bend, and
straight steps have to be short there (half to a fifth of the steps on the systems of scripts/long_horizon_suite.py).
It is for closed defects: with open ones the curve also leads to models that need them (a Duffing oscillator of 3000
steps that ends as chaotic).

Damping holds the parameters back, not the states.  Where it alone gives no decrease, the whole step is shortened.
(Damping the states as well was measured, and is much worse on chaotic records.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....forward_dp import Prepared, Step, prepare
from ..damping import Damping
from ..lagrangian import ROUNDING
from ..linearisation import LARGEST_BEND
from .lagrangian import Jacobians, Lagrangian, Point

__all__ = ["Linearised", "Stepped", "advance"]

Array = NDArray[np.float64]

# Smallest ratio of actual to predicted decrease at which a step is taken, and that at which no other point is tried.
_MIN_GAIN, _GOOD_GAIN = 1e-4, 0.75

# Dampings that are tried before the whole step is shortened, and lengths that are tried then.
_DAMPINGS, _LENGTHS = 6, (0.3, 0.1, 0.03)

# Smoothing passes at most, and the part of what the step promised that a pass must gain for another one.
_PASSES, _WORTHWHILE = 3, 0.1

# A decrease below this part of L_beta may be hidden by rounding: the gradient then decides.
_HIDDEN = 1e-11


@dataclass(frozen=True, eq=False)
class Linearised:
    """A point with its derivatives."""

    lagrangian: Lagrangian
    point: Point
    jacobians: Jacobians

    @classmethod
    def at(cls, lagrangian: Lagrangian, point: Point) -> Linearised:
        return cls(lagrangian, point, lagrangian.jacobians(point))

    @property
    def stationarity(self) -> float:
        """2-norm of the gradient of the augmented Lagrangian, less its anchor."""
        return self.lagrangian.stationarity(self.point, self.jacobians)

    def prepared(self, damping: float, form: str) -> Prepared:
        """The least-squares problem of a step."""
        subproblem = self.lagrangian.subproblem(self.point, self.jacobians, damping)
        return prepare(subproblem, "kalman" if form == "auto" else form)


@dataclass(frozen=True, eq=False)
class Stepped:
    """The outcome of a step: where it led, the damping to continue with, and its gain relative to L_beta.

    A gain of zero says that no step gave a decrease.
    """

    point: Point
    damping: Damping
    gain: float
    solves: int


def advance(local: Linearised, damping: Damping, form: str = "auto", *, acceleration: bool = True) -> Stepped:
    """One step from a linearisation, with or without trial points of second order."""
    prepared, first = local.prepared(damping.value, form), damping
    for solves in range(1, _DAMPINGS + 1):
        step = _solved(prepared, damping.value)
        if step is not None:
            predicted = local.point.value - local.lagrangian.predicted_value(local.point, step)
            if predicted <= 0:
                return Stepped(local.point, damping, 0.0, solves)
            trial = _best_trial(local, step, predicted)
            if acceleration and not _is_good(local.point, trial, predicted):
                curved = _best_trial(local, _curved(prepared, damping.value, step), predicted)
                trial = min(trial, curved, key=lambda point: point.value)
            if predicted <= _HIDDEN * abs(local.point.value):
                return _polished(local, trial, damping, solves)
            ratio = (local.point.value - trial.value) / predicted
            if ratio > _MIN_GAIN:
                return _taken(local, trial, damping.accepted(ratio), solves)
        damping = damping.rejected()
    return _shortened(local, step, first, solves)


def _solved(prepared: Prepared, damping: float) -> Step | None:
    """The step for a damping, or None where the factorisation fails in floating point."""
    try:
        return prepared.damped(damping).step(refinements=0)
    except np.linalg.LinAlgError:
        return None


def _curved(prepared: Prepared, damping: float, step: Step) -> Step:
    """The step with its second-order correction, where that is small and finite."""
    try:
        return prepared.damped(damping).corrected(step, LARGEST_BEND)
    except np.linalg.LinAlgError:
        return step


def _taken(local: Linearised, trial: Point, damping: Damping, solves: int) -> Stepped:
    gain = (local.point.value - trial.value) / max(abs(trial.value), np.finfo(float).tiny)
    return Stepped(trial, damping, gain, solves)


def _polished(local: Linearised, trial: Point, damping: Damping, solves: int) -> Stepped:
    """The trial where it has the smaller gradient."""
    better = trial.is_finite and Linearised.at(local.lagrangian, trial).stationarity < local.stationarity
    return (
        Stepped(trial, damping, np.finfo(float).tiny, solves) if better else Stepped(local.point, damping, 0.0, solves)
    )


def _best_trial(local: Linearised, step: Step, predicted: float) -> Point:
    """The trial point with the lowest L_beta; further ones are tried while the gain falls short of the model's."""
    lagrangian, before = local.lagrangian, local.point
    theta, states = before.theta + step.controls[0], before.states + np.asarray(step.states)
    if lagrangian.is_reduced:
        return lagrangian.at(theta, states)
    linear = lagrangian.at(theta, states)
    if _is_good(before, linear, predicted):
        return linear
    rolled = lagrangian.slack_rollout(theta, states[0], lagrangian.slacks(step))
    if _is_good(before, rolled, predicted):
        return rolled
    smoothed = _smoothed(lagrangian, linear, predicted)
    return min((smoothed, rolled, linear), key=lambda point: point.value)


def _is_good(before: Point, trial: Point, predicted: float) -> bool:
    return before.value - trial.value >= _GOOD_GAIN * predicted


def _smoothed(lagrangian: Lagrangian, point: Point, predicted: float) -> Point:
    """The states improved for these parameters."""
    for _ in range(_PASSES):
        if not point.is_finite:
            return point
        jacobians = lagrangian.jacobians(point, states_only=True)
        subproblem = lagrangian.subproblem(point, jacobians, 1.0, states_only=True)
        step = _solved(prepare(subproblem, "kalman"), 1.0)
        if step is None:
            return point
        moved = lagrangian.at(point.theta, point.states + np.asarray(step.states))
        if not moved.value < point.value:
            return point
        gain, point = point.value - moved.value, moved
        if gain < _WORTHWHILE * predicted:
            return point
    return point


def _shortened(local: Linearised, step: Step | None, damping: Damping, solves: int) -> Stepped:
    """A part of the whole step, in parameters and states alike; damping was no remedy, and stays what it was."""
    if step is None:
        return Stepped(local.point, damping, 0.0, solves)
    for length in _LENGTHS:
        theta = local.point.theta + length * step.controls[0]
        trial = local.lagrangian.at(theta, local.point.states + length * np.asarray(step.states))
        if trial.value < local.point.value - ROUNDING * abs(local.point.value):
            return _taken(local, trial, damping, solves)
    return Stepped(local.point, damping, 0.0, solves)
