"""Lifted Newton: the finish of deep networks, to second order with the states as variables.

The valleys that deep networks end in are curved in the controls, and Newton steps along rollouts have to be tiny there.
In controls *and states* the same valleys are nearly straight.  At a point (u, x, lambda) with defects c_k a step solves

    min over du, dx   <grad J, (du, dx)> + 1/2 (du, dx)' W (du, dx) + mu/2 ||du||^2
    subject to        A_k dx_k + B_k du_k + c_k = dx_{k+1},

W being the Hessian of the Lagrangian, and takes its multipliers along.  The states are eliminated from the program, not
from the iteration ("condensing", Bock and Plitt 1984; "lifting", Albersmeyer and Diehl 2010), so that a step costs what
one of Newton's in the controls does:

    P small     the condensed Hessian, dense, and its Cholesky factor
    else        conjugate gradients, preconditioned by forward DP with the curvature left out     (:mod:`.newton`)

Where the condensed Hessian is not positive definite mu is raised; otherwise it follows the ratio of actual to predicted
decrease of L_beta at the new multipliers, the merit function of Gill, Murray, Saunders and Wright (1986), with a soft
beta: defects are for the next step to close.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from ...forward_dp import Prepared, prepare
from ...network.linear_stages import LinearStage
from ...problem.curvature import Swept, condensed_hessian, second_order_sweep
from ...problem.dense_chain import DenseChain
from ...problem.optimal_control import OptimalControlProblem
from .damping import Damping
from .inner_result import InnerResult
from .lagrangian import ROUNDING, AugmentedLagrangian, Point
from .linearisation import Method
from .newton import refine_step

__all__ = ["DENSE", "Expansion", "minimise_lifted"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]

# Controls up to which the condensed Hessian is formed; beyond, products are cheaper (scripts/step_split.py).
DENSE = 400

# Of conjugate gradients: relative residual, and Hessian products at most.
_ACCURACY, _MAX_PRODUCTS = 0.01, 200

# Smallest ratio of actual to predicted decrease at which a step is taken, and how mu follows it.
_MIN_GAIN = 1e-4
_SHRINKING = ((0.75, 0.1), (0.25, 0.3), (0.05, 1.0))
_GROWING = 3.0


@dataclass(frozen=True, eq=False)
class Condensed:
    """A step of the quadratic program: du, the promised decrease, Hessian products, and what follows for x, lambda."""

    controls: Arrays
    predicted: float
    products: int
    states: Arrays
    multipliers: Arrays


@dataclass(frozen=True, eq=False)
class Expansion:
    """The Lagrangian to second order at a point that need not satisfy the dynamics.

    Attributes
    ----------
    lagrangian : AugmentedLagrangian
        With lambda, and beta at the nodes.
    point : Point
    method : Method
        The form of forward DP and its memory.
    """

    lagrangian: AugmentedLagrangian
    point: Point
    method: Method

    @property
    def problem(self) -> OptimalControlProblem:
        return self.lagrangian.problem

    @cached_property
    def stages(self) -> tuple[LinearStage, ...]:
        """Jacobians of all rows."""
        return self.problem.linearize(self.point.trajectory, self.point.outputs)

    @cached_property
    def output_gradients(self) -> Arrays:
        return self.problem.output_gradients(self.point.term_outputs)

    @cached_property
    def costates(self) -> Arrays:
        """lambda_1..lambda_{K-1}, back-propagated where a state is eliminated, and the gradients of the terms."""
        shooting, given = self.lagrangian.shooting, self.lagrangian.multipliers
        return self.problem.costates(shooting, self.stages, self.output_gradients, given)

    @cached_property
    def bends(self) -> list[Array | None]:
        return self.problem.output_curvatures(self.point.term_outputs)

    @cached_property
    def stationarity(self) -> float:
        """2-norm of the Lagrangian's gradient in controls and states."""
        problem, point = self.problem, self.point
        in_controls = problem.control_gradient(self.stages, point.controls, self.costates)
        in_states = problem.state_gradient(self.lagrangian.shooting, self.stages, point.states, self.costates)
        return float(np.sqrt(sum(float(np.vdot(g, g)) for g in (*in_controls, *in_states))))

    @cached_property
    def gradient(self) -> Array:
        """Of the condensed program at du = 0, (P,): that of J(u) where the defects are zero."""
        return self._swept(self.problem.split(np.zeros(self.problem.num_controls)))[2]

    def hessian(self, vector: Array) -> Array:
        """The condensed Hessian times a direction, (P,) -> (P,)."""
        problem, direction = self.problem, self.problem.split(vector)
        decayed = np.concatenate(problem.decay_product(self.point.controls, direction))
        return np.concatenate(self._sweep(direction).pulled) + decayed

    @cached_property
    def dense_hessian(self) -> Array:
        """The condensed Hessian, (P, P)."""
        return condensed_hessian(self.problem, self.stages, self.costates, self.bends)

    @cached_property
    def prepared(self) -> Prepared:
        """Gauss-Newton's least squares at the point, every slack eliminated."""
        rigid = replace(self.lagrangian, penalty=(np.inf,) * len(self.lagrangian.penalty))
        return prepare(rigid.subproblem(self.point, 1.0), self.method.form, max_memory=self.method.max_memory)

    def step(self, damping: float) -> Condensed | None:
        """The step for a damping; None where the condensed Hessian is not positive definite with it."""
        found = self._by_factor(damping) if self.problem.num_controls <= DENSE else self._by_products(damping)
        if found is None:
            return None
        du, predicted, products = found
        controls = self.problem.split(du)
        states, multipliers, _ = self._swept(controls)
        predicted += sum(
            0.5 * beta * float(np.vdot(d, d))
            for beta, d in zip(self.lagrangian.penalty, self.point.defects, strict=True)
            if np.isfinite(beta)
        )
        return Condensed(controls, predicted, products, states, multipliers)

    def _by_factor(self, damping: float) -> tuple[Array, float, int] | None:
        matrix = self.dense_hessian.copy()
        matrix[np.diag_indices_from(matrix)] += damping
        factor, info = lapack.dpotrf(matrix, lower=1, overwrite_a=1, clean=0)
        if info != 0:
            return None
        du, _ = lapack.dpotrs(factor, -self.gradient, lower=1)
        return du, -float(self.gradient @ du) - 0.5 * float(du @ self.dense_hessian @ du), 0

    def _by_products(self, damping: float) -> tuple[Array, float, int] | None:
        try:
            factor = self.prepared.damped(damping)
        except np.linalg.LinAlgError:
            return None
        accuracy = min(_ACCURACY, float(np.linalg.norm(self.gradient)) ** 0.5)
        refined = refine_step(
            self.hessian,
            factor.precondition,
            self.gradient,
            -factor.precondition(self.gradient),
            damping=damping,
            accuracy=accuracy,
            max_products=_MAX_PRODUCTS,
        )
        return None if refined.met_negative else (refined.step, refined.predicted, refined.products)

    def _swept(self, du: Arrays) -> tuple[Arrays, Arrays, Array]:
        """dx, the multipliers, and the gradient of the condensed program after du."""
        problem, point = self.problem, self.point
        swept = self._sweep(du, point.defects, self.output_gradients)
        tangents = zip(point.states, swept.tangents, strict=True)
        states = tuple([np.zeros_like(x) if dx is None else dx for x, dx in tangents])
        decay = zip(problem.decay_gradient(point.controls), problem.decay_product(point.controls, du), strict=True)
        pairs = zip(swept.pulled, decay, strict=True)
        return states, swept.etas, np.concatenate([pull + first + second for pull, (first, second) in pairs])

    @cached_property
    def _chain(self) -> DenseChain | None:
        """The layers stacked, where they are alike."""
        return DenseChain.of(self.problem, self.stages, self.costates, self.bends)

    def _sweep(self, du: Arrays, gaps: Arrays | None = None, gradients: Arrays | None = None) -> Swept:
        if self._chain is not None:
            return self._chain.sweep(du, gaps, gradients)
        costates = (_NONE, *self.costates)
        return second_order_sweep(self.problem, self.stages, costates, du, self.bends, gaps, gradients)

    def moved(self, step: Condensed) -> tuple[Expansion, float]:
        """The expansion after a step, and by how much L_beta falls at the new multipliers."""
        point = self.point
        lagrangian = replace(self.lagrangian, multipliers=step.multipliers)
        with np.errstate(over="ignore", invalid="ignore"):
            trial = lagrangian.at(
                tuple([u + du for u, du in zip(point.controls, step.controls, strict=True)]),
                tuple([x + dx for x, dx in zip(point.states, step.states, strict=True)]),
            )
            return replace(self, lagrangian=lagrangian, point=trial), lagrangian.again(point).value - trial.value


_NONE = np.zeros(0)


def minimise_lifted(
    lagrangian: AugmentedLagrangian,
    point: Point,
    damping: Damping,
    *,
    tolerance: float,
    max_steps: int,
    method: Method,
    deadline: float = np.inf,
    observe: Callable[[Arrays], object] | None = None,
) -> InnerResult:
    """Lifted Newton steps from a point and multipliers.

    Parameters
    ----------
    lagrangian : AugmentedLagrangian
        With the multipliers to begin with.
    point : Point
        Evaluated under it.
    damping : Damping
    tolerance : float
        Of defects and, times max(1, J), of the Lagrangian's gradient.
    max_steps : int
    method, deadline, observe :
        As for :func:`.gauss_newton.minimise`.

    Returns
    -------
    InnerResult
        With multipliers; ``solves`` counts dampings tried.
    """
    local = Expansion(lagrangian, point, method)
    result = InnerResult(point, damping, multipliers=lagrangian.multipliers)
    while True:
        result = replace(result, stationarity=local.stationarity)
        at_rest = local.stationarity <= tolerance * max(1.0, local.point.objective)
        if (at_rest and local.point.max_defect <= tolerance) or result.stalled:
            return result
        if result.steps >= max_steps or time.perf_counter() > deadline:
            return result
        local, result = _advanced(local, result)
        if observe is not None and not result.stalled:
            observe(result.point.controls)


def _advanced(local: Expansion, result: InnerResult) -> tuple[Expansion, InnerResult]:
    """A step, with mu raised until it gains."""
    damping = result.damping
    hessians = result.hessians + (local.problem.num_controls <= DENSE)
    solves, products = result.solves, result.products
    while not damping.exhausted:
        step, solves = local.step(damping.value), solves + 1
        if step is not None:
            after, actual = local.moved(step)
            products += step.products
            if _gains(local, after, actual, step.predicted):
                damping = _followed(damping, actual / step.predicted if step.predicted > 0 else 1.0)
                done = replace(result, damping=damping, solves=solves, products=products, hessians=hessians)
                multipliers = after.lagrangian.multipliers
                return after, replace(done, point=after.point, multipliers=multipliers, steps=result.steps + 1)
        damping = damping.rejected()
    return local, replace(result, stalled=True, solves=solves, products=products, hessians=hessians)


def _gains(local: Expansion, after: Expansion, actual: float, predicted: float) -> bool:
    """Whether L_beta falls enough; where rounding hides that, the gradient decides."""
    if not after.point.is_finite:
        return False
    if abs(actual) > ROUNDING * max(abs(local.point.value), local.point.objective):
        return actual > max(0.0, _MIN_GAIN * predicted)
    return after.stationarity < local.stationarity


def _followed(damping: Damping, ratio: float) -> Damping:
    """mu after a step with this ratio of actual to predicted decrease: bold, for valleys are straight here."""
    factor = next((factor for least, factor in _SHRINKING if ratio > least), _GROWING)
    return Damping(max(Damping.SMALLEST, damping.value * factor))
