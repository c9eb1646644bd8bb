"""The subproblem of an outer iteration: the augmented Lagrangian for fixed multipliers and penalties.

    L_beta(u, x) = J + sum_k <lambda_{k+1}, d_k> + beta_k/2 ||d_k||^2
                 = 1/2 ||r||^2 + rho/2 ||u||^2 + sum_k beta_k/2 ||d_k + lambda_{k+1}/beta_k||^2 - const

is a sum of squares in controls and states, r being the residuals of all terms; for other losses than squares it is one
to second order, with the terms' outputs seen through the roots of their losses (:mod:`ocp_nn.problem.losses`).  Its
Gauss-Newton model is the linear least-squares problem of :mod:`ocp_nn.forward_dp` with the gaps
c_k = d_k + lambda_{k+1}/beta_k.  A state with beta = inf is no variable: it is rolled out, its defect is zero, and
nothing else changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import isfinite, isinf

import numpy as np
from numpy.typing import NDArray

from ...base.display import brief
from ...forward_dp import LinearTerm, Step, Subproblem
from ...network.linear_stages import LinearStage
from ...network.scaled_stage import ScaledStage, unscaled
from ...problem.data_term import DataTerm
from ...problem.optimal_control import OptimalControlProblem
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
    controls : tuple of arrays
        One a block.
    states : tuple of K arrays
    outputs : tuple of arrays
        f_k(x_k, u_c(k)) of the K - 1 stages, then h_j of the terms.
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
    def term_outputs(self) -> Arrays:
        """h_j of the terms."""
        return self.outputs[len(self.defects) :]

    @property
    def trajectory(self) -> Trajectory:
        """Controls and states alone."""
        return Trajectory(self.controls, self.states)

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
    problem : OptimalControlProblem
    multipliers : tuple of K - 1 arrays
        lambda_{k+1} of the defects d_k.
    penalty : tuple of K - 1 floats
        beta_k in (0, inf].
    projected : bool
        Replace the last control by the best one for its state, wherever L_beta is evaluated: it enters J alone, as in
        a ridge regression (variable projection; Golub and Pereyra 1973).
    """

    problem: OptimalControlProblem
    multipliers: Arrays
    penalty: tuple[float, ...]
    projected: bool = False

    @cached_property
    def shooting(self) -> Shooting:
        return Shooting.from_penalty(self.penalty)

    @property
    def is_reduced(self) -> bool:
        """Whether every state is eliminated: L_beta is a function of the controls, and of a free x_0, alone."""
        return not self.shooting.nodes

    def at(self, controls: Arrays, states: Arrays) -> Point:
        """Evaluate at controls and states; eliminated states are rolled out, from x_0 where that is a variable."""
        return self._at(controls, self.problem.roll(self.shooting, controls, self._start(states[0]), states=states))

    def slack_rollout(self, controls: Arrays, etas: Sequence[Array], initial: Array | None = None) -> Point:
        """Evaluate along x_{k+1} = f_k(x_k, u_c(k)) - e_k with the slacks of the multiplier estimates eta_{k+1}.

        ``initial`` is x_0 where that is a variable.
        """
        pairs = zip(etas, self.multipliers, self.penalty, strict=False)
        slacks = [(eta - multiplier) / beta for eta, multiplier, beta in pairs]
        return self._at(controls, self.problem.roll(self.shooting, controls, self._start(initial), slacks=slacks))

    def _start(self, initial: Array | None) -> Array | None:
        return initial if self.problem.has_free_start else None

    def _at(self, controls: Arrays, rolled: tuple[Arrays, Arrays]) -> Point:
        states, outputs = rolled
        if self.projected:
            controls = self.problem.projected(controls, states)
        defects = tuple(output - state for output, state in zip(outputs, states[1:], strict=True))
        return self._point(controls, states, (*outputs, *self.problem.term_outputs(controls, states)), defects)

    def _point(self, controls: Arrays, states: Arrays, outputs: Arrays, defects: Arrays) -> Point:
        objective = self.problem.cost(controls, outputs[len(defects) :], states[0])
        value = objective
        for multiplier, defect, beta in zip(self.multipliers, defects, self.penalty, strict=True):
            if isfinite(beta):
                value += float(np.vdot(multiplier, defect)) + 0.5 * beta * float(np.vdot(defect, defect))
        return Point(controls, states, outputs, defects, objective, value)

    def again(self, point: Point) -> Point:
        """The same point under these multipliers and penalties."""
        return self._point(point.controls, point.states, point.outputs, point.defects)

    def estimate(self, point: Point) -> Arrays:
        """First-order multiplier estimate lambda_{k+1} + beta_k d_k; the old one where the state is eliminated."""
        return tuple(
            multiplier if isinf(beta) else multiplier + beta * defect
            for multiplier, defect, beta in zip(self.multipliers, point.defects, self.penalty, strict=True)
        )

    def subproblem(self, point: Point, damping: float) -> Subproblem:
        """The Gauss-Newton least-squares problem at a point."""
        gaps = tuple(
            defect if isinf(beta) else defect + multiplier / beta
            for multiplier, defect, beta in zip(self.multipliers, point.defects, self.penalty, strict=True)
        )
        problem = self.problem
        stages = problem.linearize(Trajectory(point.controls, point.states), point.outputs)
        inner = len(problem.dynamics)
        weights, offsets = problem.decay_squares(point.controls)
        return Subproblem(
            dynamics=stages[:inner],
            terms=self._linear_terms(stages[inner:], point.term_outputs),
            controls=offsets,
            blocks=problem.blocks,
            gaps=gaps,
            penalty=self.penalty,
            weight_decay=weights,
            damping=damping,
            initial_gap=problem.x - point.states[0] if problem.has_free_start else None,
            initial_weight=problem.initial_weight,
            trusted=True,
        )

    def _linear_terms(self, stages: Sequence[LinearStage], outputs: Arrays) -> tuple[LinearTerm, ...]:
        """The terms as least squares see them."""
        return tuple(
            LinearTerm(term.stage, _rooted(stage, term.data.root(z)), term.data.residual(z), term.block)
            for term, stage, z in zip(self.problem.terms, stages, outputs, strict=True)
        )

    def gradient(self, point: Point, subproblem: Subproblem) -> tuple[Arrays, Arrays]:
        """Gradients of L_beta in the controls and in the states, by one adjoint sweep.

        The states are x_1..x_{K-1}, and before them x_0 where that is a variable.  An eliminated state passes the
        costate on, which makes its gradient zero.
        """
        problem, stages = self.problem, unscaled(subproblem.stages)
        gradients = problem.output_gradients(point.term_outputs)
        costates = problem.costates(self.shooting, stages, gradients, self.estimate(point))
        in_controls = problem.control_gradient(stages, point.controls, costates)
        return in_controls, problem.state_gradient(self.shooting, stages, point.states, costates)

    def predicted_value(self, point: Point, step: Step) -> float:
        """The Gauss-Newton model of L_beta after a step, damping left out.

        The slacks and the residuals that the step leaves are its multiplier estimates, scaled: c + A dx + B du - dx
        = eta/beta.  Where a loss is no plain square, its decrease is that of the rows' squares, and it is taken from
        their differences: a residual may be large where the loss is not.
        """
        value = self.problem.decay_cost([u + du for u, du in zip(point.controls, step.controls, strict=True)])
        value += self._predicted_losses(point.term_outputs, step.multipliers[-1])
        if self.problem.has_free_start:
            value += self.problem.initial_cost(point.states[0] + step.states[0])
        for eta, multiplier, beta in zip(step.multipliers, self.multipliers, self.penalty, strict=False):
            if isfinite(beta):
                value += 0.5 / beta * float(np.vdot(eta - multiplier, eta + multiplier))
        return value

    def _predicted_losses(self, outputs: Arrays, rows: Array) -> float:
        """What the terms cost where the model leaves these rows, those of all terms side by side."""
        ends = list(accumulate([z.shape[1] for z in outputs]))
        places = zip(self.problem.terms, outputs, ends, strict=True)
        return sum([_predicted_loss(term.data, z, rows[:, end - z.shape[1] : end]) for term, z, end in places])


def _rooted(stage: LinearStage, root: Array | None) -> LinearStage:
    return stage if root is None else ScaledStage(stage, root)


def _predicted_loss(data: DataTerm, output: Array, rows: Array) -> float:
    if data.is_squares:
        return 0.5 * float(np.vdot(rows, rows))
    residual = data.residual(output)
    return data.value(output) - 0.5 * float(np.vdot(residual - rows, residual + rows))
