"""Gauss-Newton on the augmented Lagrangian, damped by Levenberg-Marquardt.

A step solves the linear least-squares problem of :mod:`ocp_nn.inner_problem` by forward dynamic programming.

**Acceleration.**  Deep networks make the valleys of L_beta curved: the stages bend along a step, so that a straight one
must be short.  The same factorisation also gives the answer to their second derivatives, at the price of a few sweeps
(:meth:`ocp_nn.forward_dp.Prepared.corrected`; geodesic acceleration, Transtrum and Sethna 2012); half of it is added
to the step where it is no longer than three eighths of it.

**Two trial points per step** (our derivation).  The *slack rollout* keeps the slacks that the model predicts,
e_k = (eta_{k+1} - lambda_{k+1})/beta_k, and rolls the true dynamics,

    x_{k+1} = f_k(x_k, u_k + du_k) - e_k,

so it follows the curved constraints where beta is large.  The *linear* trial takes (u + du, x + dx): it can rearrange
states freely, which frees deep networks from plateaus.  It is tried where the first one falls short of the model;
the better of the two by L_beta is taken.

**Reuse.**  Where every state is eliminated a factorisation serves several steps, updated by secants (:mod:`.secant`).

**Second order.**  Where every state is eliminated the step can be refined by the exact Hessian (:mod:`ocp_nn.newton`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .curvature import hessian_product
from .forward_dp import Prepared, Step, Subproblem, mean_curvature, prepare
from .inner_problem import ROUNDING, AugmentedLagrangian, Point
from .newton import refine_step
from .problem import TrainingProblem
from .secant import SecantFactor

__all__ = ["Damping", "InnerResult", "Method", "first_damping", "minimise"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]


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
    # below it the gain says no more than that the model is useless, and its cube may overflow
    LEAST_GAIN = -1e6

    def accepted(self, gain: float) -> Damping:
        """After a step with this ratio of actual to predicted decrease."""
        bounded = min(max(gain, self.LEAST_GAIN), 1.0)
        shrink = max(1.0 / 3.0, 1.0 - (2.0 * bounded - 1.0) ** 3)
        return Damping(max(self.SMALLEST, self.value * shrink))

    def rejected(self) -> Damping:
        return Damping(self.value * self.growth, 2.0 * self.growth)

    @property
    def exhausted(self) -> bool:
        return self.value > self.LARGEST


def first_damping(lagrangian: AugmentedLagrangian, point: Point, relative: float) -> Damping:
    """mu, relative to the mean diagonal entry of the Gauss-Newton matrix in the controls if that is a number."""
    try:
        value = relative * mean_curvature(lagrangian.subproblem(point, damping=1.0))
    except np.linalg.LinAlgError:
        return Damping(relative)
    return Damping(value if 0 < value < np.inf else relative)


@dataclass(frozen=True, kw_only=True)
class Method:
    """How steps are made.

    Attributes
    ----------
    globalisation : str
        ``"levenberg-marquardt"`` (two trial points, gain ratio) or ``"armijo"`` (backtracking along the linear step).
    acceleration : bool
        Add the second-order correction.
    second_order : bool
        Refine steps by the exact Hessian; every state must be eliminated.
    form, max_memory :
        Of :func:`ocp_nn.forward_dp.prepare`.
    """

    globalisation: str = "levenberg-marquardt"
    acceleration: bool = True
    second_order: bool = False
    form: str = "auto"
    max_memory: float = 4 * 2**30


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
    steps, solves, products, reuses : int
        Steps taken; least-squares problems solved for them, rejected dampings included; Hessian-vector products; steps
        with an earlier factorisation.
    stalled : bool
        No damping gave a decrease: floating point is exhausted.
    factor : SecantFactor or None
        Of an earlier step, where it may serve further ones.
    """

    point: Point
    damping: Damping
    stationarity: float = np.inf
    steps: int = 0
    solves: int = 0
    products: int = 0
    reuses: int = 0
    stalled: bool = False
    factor: SecantFactor | None = None


def minimise(
    lagrangian: AugmentedLagrangian,
    point: Point,
    damping: Damping,
    *,
    tolerance: Callable[[float], float],
    max_steps: int,
    method: Method | None = None,
    deadline: float = np.inf,
    observe: Callable[[Arrays], object] | None = None,
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
        Gauss-Newton steps at most; those with an earlier factorisation are not counted.
    method : Method, optional
    deadline : float
        ``time.perf_counter()`` value after which no further step is begun.
    observe : callable, optional
        Receives the controls after every step; what it returns is not looked at.

    Returns
    -------
    InnerResult
    """
    method = method or Method()
    advance = _ADVANCES[method.globalisation]
    result = InnerResult(point, damping)
    target = 0.0
    while True:
        local = _Linearisation.at(lagrangian, result.point, result.damping, method)
        result = replace(result, stationarity=local.stationarity)
        if result.steps == 0:
            target = tolerance(local.stationarity)
        if local.stationarity <= target or result.stalled or time.perf_counter() > deadline:
            return result
        if result.factor is not None:
            result = _reuse(local, result, result.factor)
        elif result.steps >= max_steps:
            return result
        else:
            result = advance(local, result)
        if observe is not None and result.point is not local.point:
            observe(result.point.controls)


@dataclass(frozen=True, eq=False)
class _Linearisation:
    """What is known at a point to first order.  Least squares are prepared when a step is first asked for."""

    lagrangian: AugmentedLagrangian
    point: Point
    subproblem: Subproblem
    gradient: tuple[Arrays, Arrays]
    method: Method

    @classmethod
    def at(cls, lagrangian: AugmentedLagrangian, point: Point, damping: Damping, method: Method) -> _Linearisation:
        subproblem = lagrangian.subproblem(point, damping.value)
        return cls(lagrangian, point, subproblem, lagrangian.gradient(point, subproblem), method)

    @property
    def problem(self) -> TrainingProblem:
        return self.lagrangian.problem

    @cached_property
    def prepared(self) -> Prepared:
        return prepare(self.subproblem, self.method.form, max_memory=self.method.max_memory)

    @cached_property
    def stationarity(self) -> float:
        """2-norm of the gradient in controls and states."""
        return float(np.sqrt(sum(float(np.vdot(g, g)) for part in self.gradient for g in part)))

    @cached_property
    def costates(self) -> Arrays:
        """lambda_0..lambda_K of back-propagation; the point's own where every state is eliminated."""
        adjoints = self.problem.backpropagate(self.subproblem.stages, self.point.controls, self.subproblem.residual)
        return adjoints.costates

    def propose(self, damping: float) -> _Proposal | None:
        """The step for a damping, or None where the factorisation fails in floating point."""
        try:
            step = self.prepared.step(damping, refinements=0)
            if self.method.second_order:
                return self._refined(step, damping)
            predicted = self.point.value - self.lagrangian.predicted_value(self.point, step)
            if self.method.acceleration:
                step = self.prepared.corrected(step, _LARGEST_BEND)
            return _Proposal(step, predicted)
        except np.linalg.LinAlgError:
            return None

    def _refined(self, step: Step, damping: float) -> _Proposal:
        """The step improved by conjugate gradients with the exact Hessian."""
        split = self.problem.network.split
        stages = self.subproblem.stages

        def hessian(vector: Array) -> Array:
            return np.concatenate(hessian_product(self.problem, stages, self.costates, split(vector)))

        gradient, first = np.concatenate(self.gradient[0]), np.concatenate(step.controls)
        refined = refine_step(hessian, self.prepared.precondition, gradient, first, damping=damping)
        return _Proposal(replace(step, controls=split(refined.step)), refined.predicted, refined.products)


@dataclass(frozen=True, eq=False)
class _Proposal:
    """A step, the decrease of L_beta its model promises, and the Hessian products it took."""

    step: Step
    predicted: float
    products: int = 0


# Size of a correction over that of its step up to which the two are added (Transtrum and Sethna 2012, in our terms).
_LARGEST_BEND = 0.375

# Smallest ratio of actual to predicted decrease at which a step is taken.
_MIN_GAIN = 1e-4


def _levenberg_marquardt(local: _Linearisation, result: InnerResult) -> InnerResult:
    """Raise the damping until the better of the two trial points gains enough."""
    damping, solves, products = result.damping, result.solves, result.products
    while not damping.exhausted:
        solves += 1
        proposal = local.propose(damping.value)
        if proposal is not None:
            products += proposal.products
            trial = _better_trial(local.lagrangian, local.point, proposal)
            if trial.is_finite and _gains(local, trial, _MIN_GAIN * proposal.predicted):
                actual = local.point.value - trial.value
                damping = damping.accepted(actual / proposal.predicted if proposal.predicted > 0 else 1.0)
                done = replace(result, solves=solves, products=products, factor=_reusable(local, trial, proposal))
                return replace(done, point=trial, damping=damping, steps=result.steps + 1)
        damping = damping.rejected()
    done = replace(result, solves=solves, products=products)
    if local.problem.network.has_kinks:  # perhaps no direction is one of descent: crawling costs more than a restart
        return replace(done, stalled=True)
    # the damping holds controls back, not states: shorten the whole step instead
    return _armijo(local, done)


def _reuse(local: _Linearisation, result: InnerResult, factor: SecantFactor) -> InnerResult:
    """The step -M^-1 g with an earlier factorisation and the gradient here; where it fails, the factor is dropped.

    Close to where M was made this costs a fraction of a step and gains much of one (multi-step Levenberg-Marquardt;
    Fan 2012; the secant updates are our addition).
    """
    point, gradient = local.point, np.concatenate(local.gradient[0])
    factor = factor.moved(np.concatenate(point.controls), gradient)
    step = -factor.solve(gradient)
    controls = tuple(u + du for u, du in zip(point.controls, local.problem.network.split(step), strict=True))
    with np.errstate(over="ignore", invalid="ignore"):
        trial = local.lagrangian.at(controls, point.states)
    if trial.is_finite and _gains(local, trial, -_GOOD_REUSE * 0.5 * float(gradient @ step)):
        return replace(result, point=trial, reuses=result.reuses + 1, factor=factor if factor.uses else None)
    return replace(result, factor=None)


def _gains(local: _Linearisation, trial: Point, least: float) -> bool:
    """Whether L_beta falls, and by how much at least; where rounding hides it, the gradient decides."""
    actual = local.point.value - trial.value
    if abs(actual) > ROUNDING * abs(local.point.value):
        return actual > max(0.0, least)
    after = _Linearisation.at(local.lagrangian, trial, Damping(local.subproblem.damping), local.method)
    return after.stationarity < local.stationarity


def _reusable(local: _Linearisation, trial: Point, proposal: _Proposal) -> SecantFactor | None:
    """The factor of a step that its model foretold well, where every state is eliminated and making it took long."""
    foretold = local.point.value - trial.value >= _FORETOLD * proposal.predicted
    if local.method.second_order or not foretold or not local.lagrangian.is_reduced:
        return None
    if local.prepared.factor_share < _WORTH_REUSING:
        return None
    controls, gradient = np.concatenate(local.point.controls), np.concatenate(local.gradient[0])
    return SecantFactor(local.prepared.precondition, controls, gradient, _REUSES)


# Steps that a factorisation serves at most, what part of the promised decrease it takes to begin and to go on with it,
# and what part of a step it must take to be worth a trial.
_REUSES, _FORETOLD, _GOOD_REUSE, _WORTH_REUSING = 8, 0.1, 0.1, 0.5


# The slack rollout is taken without a look at the linear trial where it gains this part of what the model promised.
_GOOD_GAIN = 0.75


def _better_trial(lagrangian: AugmentedLagrangian, point: Point, proposal: _Proposal) -> Point:
    """The slack rollout or the linear update, whichever has the lower L_beta."""
    step = proposal.step
    controls = tuple(u + du for u, du in zip(point.controls, step.controls, strict=True))
    # overflow in a trial is no accident worth a warning: the point is rejected
    with np.errstate(over="ignore", invalid="ignore"):
        rolled = lagrangian.slack_rollout(controls, step.multipliers)
        is_good = rolled.is_finite and point.value - rolled.value >= _GOOD_GAIN * proposal.predicted
        if is_good or lagrangian.is_reduced:
            return rolled
        linear = lagrangian.at(controls, tuple(x + dx for x, dx in zip(point.states, step.states, strict=True)))
    return linear if linear.is_finite and not rolled.value <= linear.value else rolled


# Sufficient decrease and shortest step of the Armijo search (Nocedal and Wright 2006, section 3.1).
_ARMIJO_SLOPE, _ARMIJO_SHORTEST = 1e-4, 2.0**-30


def _armijo(local: _Linearisation, result: InnerResult) -> InnerResult:
    """Backtrack along (du, dx) at fixed damping: the textbook alternative, slower here once beta has grown."""
    lagrangian, point, gradient = local.lagrangian, local.point, local.gradient
    try:
        step = local.prepared.step(result.damping.value, refinements=0)
    except np.linalg.LinAlgError:
        damping = result.damping.rejected()
        return replace(result, damping=damping, solves=result.solves + 1, stalled=damping.exhausted)
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
