"""The augmented Lagrangian to first order at a point, and the steps that follow from it.

A step solves the linear least-squares problem of :mod:`.lagrangian` by forward dynamic programming.

**Acceleration.**  Deep networks make the valleys of L_beta curved: the stages bend along a step, so that a straight one
must be short.  The same factorisation also gives the answer to their second derivatives, at the price of a few sweeps
(:meth:`ocp_nn.forward_dp.Damped.corrected`; geodesic acceleration, Transtrum and Sethna 2012); half of it is added
to the step where it is no longer than three eighths of it.

**Second order.**  Where every state is eliminated the step can be refined by the exact Hessian (:mod:`.newton`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...forward_dp import Damped, Prepared, Step, Subproblem, prepare
from ...network.linear_stages import LinearStage
from ...network.scaled_stage import unscaled
from ...problem.curvature import hessian_product
from ...problem.optimal_control import OptimalControlProblem
from .damping import Damping
from .lagrangian import AugmentedLagrangian, Point
from .newton import refine_step

__all__ = ["LARGEST_BEND", "Linearisation", "Method", "Proposal"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]

# Size of a correction over that of its step up to which the two are added (Transtrum and Sethna 2012, in our terms).
LARGEST_BEND = 0.375


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
class Proposal:
    """A step, the decrease of L_beta its model promises, the factorisation behind it, and its Hessian products."""

    step: Step
    predicted: float
    damped: Damped
    products: int = 0


@dataclass(frozen=True, eq=False)
class Linearisation:
    """What is known at a point to first order.  Least squares are prepared when a step is first asked for."""

    lagrangian: AugmentedLagrangian
    point: Point
    subproblem: Subproblem
    gradient: tuple[Arrays, Arrays]
    method: Method

    @classmethod
    def at(cls, lagrangian: AugmentedLagrangian, point: Point, damping: Damping, method: Method) -> Linearisation:
        subproblem = lagrangian.subproblem(point, damping.value)
        return cls(lagrangian, point, subproblem, lagrangian.gradient(point, subproblem), method)

    @property
    def problem(self) -> OptimalControlProblem:
        return self.lagrangian.problem

    @property
    def stages(self) -> tuple[LinearStage, ...]:
        """Jacobians of all rows, those of the terms without the roots of their losses."""
        return unscaled(self.subproblem.stages)

    @cached_property
    def prepared(self) -> Prepared:
        return prepare(self.subproblem, self.method.form, max_memory=self.method.max_memory)

    @cached_property
    def stationarity(self) -> float:
        """2-norm of the gradient in controls and states."""
        return float(np.sqrt(sum(float(np.vdot(g, g)) for part in self.gradient for g in part)))

    @cached_property
    def costates(self) -> Arrays:
        """Those of back-propagation; the point's own where every state is eliminated."""
        gradients = self.problem.output_gradients(self.point.term_outputs)
        return self.problem.backpropagate(self.stages, self.point.controls, gradients).costates

    def propose(self, damping: float) -> Proposal | None:
        """The step for a damping, or None where the factorisation fails in floating point."""
        try:
            damped = self.prepared.damped(damping)
            step = damped.step(refinements=0)
            if self.method.second_order:
                return self._refined(damped, step, damping)
            predicted = self.point.value - self.lagrangian.predicted_value(self.point, step)
            if self.method.acceleration:
                step = damped.corrected(step, LARGEST_BEND)
            return Proposal(step, predicted, damped)
        except np.linalg.LinAlgError:
            return None

    def _refined(self, damped: Damped, step: Step, damping: float) -> Proposal:
        """The step improved by conjugate gradients with the exact Hessian."""
        gradient, first = np.concatenate(self.gradient[0]), np.concatenate(step.controls)
        refined = refine_step(self.hessian, damped.precondition, gradient, first, damping=damping)
        controls = self.problem.split(refined.step)
        return Proposal(replace(step, controls=controls), refined.predicted, damped, refined.products)

    def hessian(self, vector: Array) -> Array:
        """The exact Hessian of J(u) times a direction (P,); every state must be eliminated."""
        direction = self.problem.split(vector)
        product = hessian_product(self.problem, self.stages, self.costates, direction, self._bends, self.point.controls)
        return np.concatenate(product)

    @cached_property
    def _bends(self) -> list[Array | None]:
        """Second derivatives of the terms in their outputs."""
        return self.problem.output_curvatures(self.point.term_outputs)
