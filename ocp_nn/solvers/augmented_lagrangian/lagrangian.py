"""The subproblem of an outer iteration: the augmented Lagrangian for fixed multipliers and penalties.

    L_beta(u, x) = J + sum_k <lambda_{k+1}, d_k> + beta_k/2 ||d_k||^2
                 = 1/2 ||r||^2 + rho/2 ||u||^2 + sum_k beta_k/2 ||d_k + lambda_{k+1}/beta_k||^2 - const

is a sum of squares in controls and states, r being the residual; for other losses than squares it is one to second
order, with the last stage seen through the root of the loss (:mod:`ocp_nn.problem.losses`).  Its
Gauss-Newton model is the linear least-squares problem of :mod:`ocp_nn.forward_dp` with the gaps
c_k = d_k + lambda_{k+1}/beta_k.  A state with beta = inf is no variable: it is rolled out, its defect is zero, and
nothing else changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...base.display import brief
from ...forward_dp import Step, Subproblem
from ...network.layers import Layer
from ...network.linear_stages import LinearStage
from ...network.scaled_stage import ScaledStage, unscaled
from ...problem.optimal_control import TrainingProblem
from ...problem.shooting import Shooting
from ...problem.trajectory import Trajectory

__all__ = ["ROUNDING", "AugmentedLagrangian", "Point"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]

# Relative size of rounding in L_beta.
ROUNDING = 1e-13


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

    __repr__ = brief

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
    projected : bool
        Replace the last control by the best one for its state, wherever L_beta is evaluated: it enters J alone, as in
        a ridge regression (variable projection; Golub and Pereyra 1973).
    """

    problem: TrainingProblem
    multipliers: Arrays
    penalty: tuple[float, ...]
    projected: bool = False

    @cached_property
    def shooting(self) -> Shooting:
        return Shooting.from_penalty(self.penalty)

    @property
    def is_reduced(self) -> bool:
        """Whether every state is eliminated: L_beta is a function of the controls alone."""
        return not self.shooting.nodes

    def at(self, controls: Arrays, states: Arrays) -> Point:
        """Evaluate at controls and states; eliminated states are rolled out."""
        return self._at(controls, self.shooting.roll(self._layers, self.problem.x, controls, states=states))

    def slack_rollout(self, controls: Arrays, etas: Sequence[Array]) -> Point:
        """Evaluate along x_{k+1} = f_k(x_k, u_k) - e_k with the slacks of the multiplier estimates eta_{k+1}."""
        pairs = zip(etas, self.multipliers, self.penalty, strict=False)
        slacks = [(eta - multiplier) / beta for eta, multiplier, beta in pairs]
        return self._at(controls, self.shooting.roll(self._layers, self.problem.x, controls, slacks=slacks))

    @property
    def _layers(self) -> tuple[Layer, ...]:
        return self.problem.network.layers

    def _at(self, controls: Arrays, rolled: tuple[Arrays, Arrays]) -> Point:
        states, outputs = rolled
        if self.projected:
            controls = (*controls[:-1], self.problem.best_last_control(states[-1], controls[-1]))
        last = self._layers[-1].forward(states[-1], controls[-1])
        defects = tuple(output - state for output, state in zip(outputs, states[1:], strict=True))
        return self._point(controls, states, (*outputs, last), defects)

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
        stages = self.problem.linearize(Trajectory(point.controls, point.states), point.outputs)
        return Subproblem.of_network(
            stages=(*stages[:-1], self._rooted(stages[-1], point.outputs[-1])),
            controls=point.controls,
            gaps=gaps,
            residual=self.problem.data.residual(point.outputs[-1]),
            penalty=self.penalty,
            weight_decay=self.problem.weight_decay,
            damping=damping,
        )

    def _rooted(self, stage: LinearStage, output: Array) -> LinearStage:
        """The last stage as least squares see it."""
        root = self.problem.data.root(output)
        return stage if root is None else ScaledStage(stage, root)

    def gradient(self, point: Point, subproblem: Subproblem) -> tuple[Arrays, Arrays]:
        """Gradients of L_beta in u_0..u_{K-1} and in x_1..x_{K-1}, by one adjoint sweep.

        An eliminated state passes the costate on, which makes its gradient zero.
        """
        stages = unscaled(subproblem.stages)
        in_output = self.problem.output_gradient(point.outputs[-1])
        costates = self.shooting.costates(stages, in_output, self.estimate(point))
        in_controls = self.problem.control_gradient(stages, point.controls, costates)
        return in_controls, self.shooting.state_gradient(stages, costates)

    def predicted_value(self, point: Point, step: Step) -> float:
        """The Gauss-Newton model of L_beta after a step, damping left out.

        The slacks and the residual that the step leaves are its multiplier estimates, scaled: c + A dx + B du - dx
        = eta/beta.  Where the loss is no plain square, its decrease is that of the rows' squares, and it is taken from
        their differences: a residual may be large where the loss is not.
        """
        value = (
            0.5
            * self.problem.weight_decay
            * sum(float(np.vdot(u + du, u + du)) for u, du in zip(point.controls, step.controls, strict=True))
        )
        value += self._predicted_loss(point.outputs[-1], step.multipliers[-1])
        for eta, multiplier, beta in zip(step.multipliers, self.multipliers, self.penalty, strict=False):
            if np.isfinite(beta):
                value += 0.5 / beta * float(np.vdot(eta - multiplier, eta + multiplier))
        return value

    def _predicted_loss(self, output: Array, rows: Array) -> float:
        """The loss where the model leaves these rows."""
        data = self.problem.data
        if data.is_squares:
            return 0.5 * float(np.vdot(rows, rows))
        residual = data.residual(output)
        return data.value(output) - 0.5 * float(np.vdot(residual - rows, residual + rows))
