"""Gauss-Newton on the augmented Lagrangian, damped by Levenberg-Marquardt.

For fixed multipliers lambda and penalties beta the augmented Lagrangian is a sum of squares,

    L_beta(u, x) = J + sum_k <lambda_{k+1}, d_k> + beta_k/2 ||d_k||^2
                 = 1/2 ||r||^2 + rho/2 ||u||^2 + sum_k beta_k/2 ||d_k + lambda_{k+1}/beta_k||^2 - const,

so a step solves the linear least-squares problem of :mod:`ocp_nn.forward_dp` with the gaps c_k = d_k +
lambda_{k+1}/beta_k. A state with beta = inf is no variable: it is rolled out, its defect is zero, and nothing else
changes.

**Two trial points per step** (our derivation).  The *linear* trial takes (u + du, x + dx).  The *slack rollout* keeps
the slacks that the linear model predicts, e_k = (eta_{k+1} - lambda_{k+1})/beta_k, and rolls the true dynamics,

    x_{k+1} = f_k(x_k, u_k + du_k) - e_k.

The linear trial can rearrange states freely, which frees deep networks from plateaus; the slack rollout follows the
curved constraints where beta is large.  The better of the two by L_beta is taken.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .forward_dp import Prepared, Step, Subproblem, prepare
from .network import Dense
from .problem import TrainingProblem, Trajectory

__all__ = ["AugmentedLagrangian", "Damping", "InnerResult", "Point", "minimise"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]


@dataclass(frozen=True, eq=False)
class Point:
    """Controls and states with everything evaluated there.

    Attributes
    ----------
    controls, states : tuples of K arrays
    outputs : tuple of K arrays
        f_k(x_k, u_k).
    defects : tuple of K - 1 arrays
    objective : float
        J.
    value : float
        L_beta.
    """

    controls: Arrays
    states: Arrays
    outputs: Arrays
    defects: Arrays
    objective: float
    value: float

    @property
    def max_defect(self) -> float:
        return max((float(np.abs(d).max()) for d in self.defects), default=0.0)

    @property
    def is_finite(self) -> bool:
        return bool(np.isfinite(self.value))


@dataclass(frozen=True, eq=False)
class AugmentedLagrangian:
    """L_beta of a problem for fixed multipliers and penalties.

    Attributes
    ----------
    problem : TrainingProblem
    multipliers : tuple of K - 1 arrays
        lambda_{k+1} of the defects d_k.
    penalty : tuple of K - 1 floats
        beta_k in (0, inf].
    """

    problem: TrainingProblem
    multipliers: Arrays
    penalty: tuple[float, ...]

    def at(self, controls: Arrays, states: Arrays) -> Point:
        """Evaluate at controls and states; eliminated states are rolled out."""
        return self._forward(controls, lambda k, _: states[k + 1])

    def slack_rollout(self, controls: Arrays, etas: Sequence[Array]) -> Point:
        """Evaluate along x_{k+1} = f_k(x_k, u_k) - e_k with the slacks of the multiplier estimates eta_{k+1}."""

        def following(k: int, output: Array) -> Array:
            return output - (etas[k] - self.multipliers[k]) / self.penalty[k]

        return self._forward(controls, following)

    def _forward(self, controls: Arrays, following: Callable[[int, Array], Array]) -> Point:
        states, outputs, defects = [self.problem.x], [], []
        for k, (layer, u) in enumerate(zip(self.problem.network.layers, controls, strict=True)):
            outputs.append(layer.forward(states[-1], u))
            if k < len(self.penalty):
                states.append(outputs[-1] if np.isinf(self.penalty[k]) else following(k, outputs[-1]))
                defects.append(outputs[-1] - states[-1])
        return self._point(controls, tuple(states), tuple(outputs), tuple(defects))

    def _point(self, controls: Arrays, states: Arrays, outputs: Arrays, defects: Arrays) -> Point:
        objective = self.problem.cost(controls, outputs[-1])
        value = objective
        for multiplier, defect, beta in zip(self.multipliers, defects, self.penalty, strict=True):
            if np.isfinite(beta):
                value += float(np.vdot(multiplier, defect)) + 0.5 * beta * float(np.vdot(defect, defect))
        return Point(controls, states, outputs, defects, objective, value)

    def again(self, point: Point) -> Point:
        """The same point under these multipliers and penalties."""
        return self._point(point.controls, point.states, point.outputs, point.defects)

    def estimate(self, point: Point) -> Arrays:
        """First-order multiplier estimate lambda_{k+1} + beta_k d_k; the old one where the state is eliminated."""
        return tuple(
            multiplier if np.isinf(beta) else multiplier + beta * defect
            for multiplier, defect, beta in zip(self.multipliers, point.defects, self.penalty, strict=True)
        )

    def subproblem(self, point: Point, damping: float) -> Subproblem:
        """The Gauss-Newton least-squares problem at a point."""
        gaps = tuple(
            defect if np.isinf(beta) else defect + multiplier / beta
            for multiplier, defect, beta in zip(self.multipliers, point.defects, self.penalty, strict=True)
        )
        trajectory = Trajectory(point.controls, point.states)
        return Subproblem(
            stages=self.problem.linearize(trajectory, point.outputs),
            controls=point.controls,
            gaps=gaps,
            residual=point.outputs[-1] - self.problem.y,
            penalty=self.penalty,
            weight_decay=self.problem.weight_decay,
            damping=damping,
        )

    def gradient(self, point: Point, subproblem: Subproblem) -> tuple[Arrays, Arrays]:
        """Gradients of L_beta in u_0..u_{K-1} and in x_1..x_{K-1}, by one adjoint sweep.

        An eliminated state passes the costate on, which makes its gradient zero.
        """
        estimates = self.estimate(point)
        costate = subproblem.residual
        in_controls, in_states = [], []
        for k in reversed(range(len(subproblem.stages))):
            stage = subproblem.stages[k]
            in_controls.append(stage.transpose_control(costate) + self.problem.weight_decay * point.controls[k])
            if k == 0:
                break
            back = stage.transpose_state(costate)
            costate = back if np.isinf(self.penalty[k - 1]) else estimates[k - 1]
            in_states.append(back - costate)
        return tuple(reversed(in_controls)), tuple(reversed(in_states))

    def predicted_value(self, point: Point, step: Step) -> float:
        """The Gauss-Newton model of L_beta after a step, damping left out.

        The slacks and the residual that the step leaves are its multiplier estimates, scaled: c + A dx + B du - dx
        = eta/beta.
        """
        value = (
            0.5
            * self.problem.weight_decay
            * sum(float(np.vdot(u + du, u + du)) for u, du in zip(point.controls, step.controls, strict=True))
        )
        value += 0.5 * float(np.vdot(step.multipliers[-1], step.multipliers[-1]))
        for eta, multiplier, beta in zip(step.multipliers, self.multipliers, self.penalty, strict=False):
            if np.isfinite(beta):
                value += 0.5 / beta * float(np.vdot(eta - multiplier, eta + multiplier))
        return value


@dataclass(frozen=True)
class Damping:
    """Levenberg-Marquardt damping mu, steered by the gain ratio (Nielsen 1999).

    Attributes
    ----------
    value : float
        mu.
    growth : float
        Factor of the next increase; doubles with every rejection in a row.
    """

    value: float
    growth: float = 2.0

    SMALLEST = 1e-12
    LARGEST = 1e20

    def accepted(self, gain: float) -> Damping:
        """After a step with this ratio of actual to predicted decrease."""
        shrink = max(1.0 / 3.0, 1.0 - (2.0 * min(gain, 1.0) - 1.0) ** 3)
        return Damping(max(self.SMALLEST, self.value * shrink))

    def rejected(self) -> Damping:
        return Damping(self.value * self.growth, 2.0 * self.growth)

    @property
    def exhausted(self) -> bool:
        return self.value > self.LARGEST


@dataclass(frozen=True, eq=False)
class InnerResult:
    """Outcome of an inner minimisation.

    Attributes
    ----------
    point : Point
    damping : Damping
        To continue with.
    stationarity : float
        2-norm of the gradient of L_beta at the last linearisation.
    steps, solves : int
        Steps taken; least-squares problems solved for them, rejected dampings included.
    stalled : bool
        No damping gave a decrease: floating point is exhausted.
    """

    point: Point
    damping: Damping
    stationarity: float = np.inf
    steps: int = 0
    solves: int = 0
    stalled: bool = False


# Smallest ratio of actual to predicted decrease at which a step is taken.
_MIN_GAIN = 1e-4


def minimise(
    lagrangian: AugmentedLagrangian,
    point: Point,
    damping: Damping,
    *,
    tolerance: Callable[[float], float],
    max_steps: int,
    globalisation: str = "levenberg-marquardt",
    form: str = "auto",
    max_memory: float = 4 * 2**30,
    deadline: float = np.inf,
) -> InnerResult:
    """Minimise L_beta approximately by Gauss-Newton steps.

    Parameters
    ----------
    lagrangian : AugmentedLagrangian
    point : Point
        Start, evaluated under ``lagrangian``.
    damping : Damping
    tolerance : callable
        From the 2-norm of the first gradient to the one at which to stop.
    max_steps : int
        Gauss-Newton steps at most.
    globalisation : str
        ``"levenberg-marquardt"`` (two trial points, gain ratio) or ``"armijo"`` (backtracking along the linear step).
    form, max_memory :
        Of :func:`ocp_nn.forward_dp.prepare`.
    deadline : float
        ``time.perf_counter()`` value after which no further step is begun.

    Returns
    -------
    InnerResult
    """
    advance = _ADVANCES[globalisation]
    result = InnerResult(point, damping)
    target = 0.0
    while True:
        subproblem = lagrangian.subproblem(result.point, result.damping.value)
        gradient = lagrangian.gradient(result.point, subproblem)
        stationarity = _norm(gradient)
        result = replace(result, stationarity=stationarity)
        if result.steps == 0:
            target = tolerance(stationarity)
        finished = stationarity <= target or result.stalled
        if finished or result.steps >= max_steps or time.perf_counter() > deadline:
            return result
        prepared = prepare(subproblem, form, max_memory=max_memory)
        result = advance(lagrangian, result, prepared, gradient)


def _norm(gradient: tuple[Arrays, Arrays]) -> float:
    return float(np.sqrt(sum(float(np.vdot(g, g)) for part in gradient for g in part)))


def _try_step(prepared: Prepared, damping: float) -> Step | None:
    """A step, or None where the factorisation fails in floating point."""
    try:
        return prepared.step(damping, refinements=0)
    except np.linalg.LinAlgError:
        return None


def _levenberg_marquardt(
    lagrangian: AugmentedLagrangian, result: InnerResult, prepared: Prepared, gradient: tuple[Arrays, Arrays]
) -> InnerResult:
    """Raise the damping until the better of the two trial points gains enough."""
    point, damping, solves = result.point, result.damping, result.solves
    while not damping.exhausted:
        solves += 1
        step = _try_step(prepared, damping.value)
        if step is not None:
            trial = _better_trial(lagrangian, point, step)
            predicted = point.value - lagrangian.predicted_value(point, step)
            actual = point.value - trial.value
            if trial.is_finite and actual > 0 and actual > _MIN_GAIN * predicted:
                accepted = damping.accepted(actual / predicted if predicted > 0 else 1.0)
                return replace(result, point=trial, damping=accepted, steps=result.steps + 1, solves=solves)
        damping = damping.rejected()
    if _has_kinks(lagrangian.problem):
        return replace(result, solves=solves, stalled=True)
    # the damping holds controls back, not states: shorten the whole step instead
    return _armijo(lagrangian, replace(result, solves=solves), prepared, gradient)


def _has_kinks(problem: TrainingProblem) -> bool:
    """Whether a step may be no descent direction at any length; then crawling on costs more than a restart."""
    return any(isinstance(layer, Dense) and layer.activation == "relu" for layer in problem.network.layers)


def _better_trial(lagrangian: AugmentedLagrangian, point: Point, step: Step) -> Point:
    """The slack rollout or the linear update, whichever has the lower L_beta."""
    controls = tuple(u + du for u, du in zip(point.controls, step.controls, strict=True))
    # overflow in a trial is no accident worth a warning: the point is rejected
    with np.errstate(over="ignore", invalid="ignore"):
        rolled = lagrangian.slack_rollout(controls, step.multipliers)
        if all(np.isinf(beta) for beta in lagrangian.penalty):
            return rolled
        linear = lagrangian.at(controls, tuple(x + dx for x, dx in zip(point.states, step.states, strict=True)))
    return linear if linear.is_finite and not rolled.value <= linear.value else rolled


# Sufficient decrease and shortest step of the Armijo search (Nocedal and Wright 2006, section 3.1).
_ARMIJO_SLOPE, _ARMIJO_SHORTEST = 1e-4, 2.0**-30


def _armijo(
    lagrangian: AugmentedLagrangian, result: InnerResult, prepared: Prepared, gradient: tuple[Arrays, Arrays]
) -> InnerResult:
    """Backtrack along (du, dx) at fixed damping: the textbook alternative, slower here once beta has grown."""
    point = result.point
    step = _try_step(prepared, result.damping.value)
    if step is None:
        return replace(result, damping=result.damping.rejected(), solves=result.solves + 1)
    slope = sum(float(np.vdot(g, d)) for g, d in zip(gradient[0], step.controls, strict=True))
    slope += sum(float(np.vdot(g, d)) for g, d in zip(gradient[1], step.states[1:], strict=True))
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


_ADVANCES = {"levenberg-marquardt": _levenberg_marquardt, "armijo": _armijo}
