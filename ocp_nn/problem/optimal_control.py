"""The optimal control problem, its trajectories, rollout and adjoints.

    minimise    sum_j sum_i w_j^i phi_j(h_j(x_s(j)^i, u_d(j)), y_j^i)  +  sum_b rho_b/2 ||u_b||^2
                + alpha/2 ||x_0 - xbar||^2
    subject to  x_{k+1}^i = f_k(x_k^i, u_c(k)),   k = 0..K-2

The sums run over terms j, samples i and control blocks b (:mod:`.structure`).  Sums, not means; rho weighs every
control, biases too.  An infinite alpha is a known x_0 = xbar, a finite one makes x_0 a variable with a prior.

Training a feed-forward network (:mod:`.training`) is the case of one term at the last stage, a block of controls for
every layer, and a known x_0, the inputs.

With the multipliers lambda_{k+1} of the defects d_k = f_k(x_k, u_c(k)) - x_{k+1} the Lagrangian is

    L = J + sum_k <lambda_{k+1}, d_k>

and its stationarity in x_k is the adjoint recursion lambda_k = A_k' lambda_{k+1} + sum_j C_j' g_j (:mod:`.shooting`),
with g_j the gradient of the term in its output.  On a rollout that recursion *is* back-propagation and its by-product,
sum B_k' lambda_{k+1} + sum D_j' g_j + rho_b u_b over all that use block b, the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import checks
from ..network.linear_stages import LinearStage, linearize_layer
from ..network.model import Model
from .shooting import SINGLE_SHOOTING, Shooting, pulled_back
from .structure import Stage, Structure, Term, checked_structure
from .trajectory import TRAJECTORY, Adjoints, Trajectory

__all__ = ["PROBLEM", "OptimalControlProblem"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]

_DECAYS = checks.either(
    checks.NON_NEGATIVE, checks.sequence(checks.NON_NEGATIVE, "a sequence of finite numbers >= 0, one a block")
)


class OptimalControlProblem(Structure):
    """Dynamics, terms, and what is known of the initial state.

    Parameters
    ----------
    dynamics : sequence of K - 1 Stage
        May be empty.
    terms : sequence of Term
        In the order of their stages, the last of them at stage K - 1.
    initial_state : array_like, shape (N, n_0)
        x_0 where it is known, else xbar.
    weight_decay : float or sequence of floats
        rho >= 0, one for all control blocks or one a block.
    initial_weight : float
        alpha in (0, inf]; infinite where x_0 is known.

    Raises
    ------
    ValueError
        Where widths, samples or control blocks do not fit together, or numbers are out of range.
    """

    # Whether it only stands for another problem for a while, which is the one to be certified.
    is_subproblem = False

    def __init__(
        self,
        dynamics: Sequence[Stage],
        terms: Sequence[Term],
        initial_state: ArrayLike,
        *,
        weight_decay: float | Sequence[float] = 1e-3,
        initial_weight: float = np.inf,
    ) -> None:
        checks.check("dynamics", dynamics, checks.sequence(checks.instance(Stage, "a Stage"), "a sequence of Stages"))
        checks.check("terms", terms, checks.sequence(checks.instance(Term, "a Term"), "a sequence of Terms"))
        checks.check("weight_decay", weight_decay, _DECAYS)
        checks.check("initial_weight", initial_weight, checks.POSITIVE_OR_INFINITE)
        x = checks.real_array("initial_state", initial_state)
        if x.ndim != 2 or x.size == 0:
            raise ValueError(f"initial_state must be of shape (N, n_0), one row a sample, received {x.shape}")
        checks.check_finite("initial_state", x)
        lengths = checked_structure(dynamics, terms, x.shape[1], len(x))
        self._set(dynamics, terms, x, weight_decay, float(initial_weight), lengths)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.num_stages} stages, {self.num_samples} samples, {self.num_controls} controls "
            f"in {len(self.block_lengths)} blocks, {len(self.terms)} terms)"
        )

    @property
    def is_squares(self) -> bool:
        """Whether every term is half a sum of squares, without weights."""
        return all(term.data.is_squares for term in self.terms)

    @property
    def null_objective(self) -> float:
        """J of the best constant output of every term, weight decay left out: what explains nothing."""
        return float(sum(term.data.null_objective for term in self.terms))

    @cached_property
    def scale(self) -> float:
        """The typical square of a target, in the units of the objective."""
        return float(np.mean([term.data.scale() for term in self.terms]))

    @cached_property
    def multiplier_scale(self) -> float:
        """The size of a large gradient in an output: max(1, max|y|) times the largest weight."""
        return max(term.data.gradient_scale() for term in self.terms)

    def rollout(
        self, controls: Sequence[Array], multipliers: Arrays | None = None, *, initial: Array | None = None
    ) -> Trajectory:
        """The trajectory that satisfies the dynamics, every defect being zero, from ``initial``, by default xbar."""
        controls = self.check_controls(controls)
        states, _ = self.roll(SINGLE_SHOOTING, controls, initial)
        return Trajectory(controls, states, multipliers)

    def roll(
        self,
        shooting: Shooting,
        controls: Sequence[Array],
        initial: Array | None = None,
        *,
        states: Sequence[Array] = (),
        slacks: Sequence[Array] = (),
    ) -> tuple[Arrays, Arrays]:
        """States, and the outputs of the dynamics: :meth:`.Shooting.roll` from ``initial``, by default xbar."""
        start = self.x if initial is None else initial
        return shooting.roll(self.dynamics, start, controls, states=states, slacks=slacks)

    def start(self, initial: Trajectory | Sequence[Array]) -> Trajectory:
        """A point to start from: a trajectory as it is, or the rollout of controls.

        Raises
        ------
        ValueError
            For shapes that are not the problem's, or states and multipliers that are not finite; for controls that are
            not, a solve has a status.
        """
        if not isinstance(initial, Trajectory):
            return self.rollout(initial)
        self.check(initial)
        initial.check_finite()
        return initial

    def outputs(self, trajectory: Trajectory) -> Arrays:
        """The outputs of all rows at the trajectory's own states: f_k of the stages, then h_j of the terms."""
        self.check(trajectory)
        return self.evaluate(trajectory.controls, trajectory.states)

    def evaluate(self, controls: Sequence[Array], states: Sequence[Array]) -> Arrays:
        """:meth:`outputs` for arrays whose shapes are already known to fit."""
        moved = [stage.layer.forward(x, controls[stage.block]) for stage, x in zip(self.dynamics, states, strict=False)]
        return (*moved, *self.term_outputs(controls, states))

    def term_outputs(self, controls: Sequence[Array], states: Sequence[Array]) -> Arrays:
        """h_j of every term."""
        return tuple([term.layer.forward(states[term.stage], controls[term.block]) for term in self.terms])

    def objective(self, trajectory: Trajectory) -> float:
        """J at the trajectory: its states go through the terms, defects are not looked at."""
        self.check(trajectory)
        outputs = self.term_outputs(trajectory.controls, trajectory.states)
        return self.cost(trajectory.controls, outputs, trajectory.states[0])

    def cost(self, controls: Sequence[Array], outputs: Sequence[Array], initial: Array | None = None) -> float:
        """J as a function of the controls, the outputs of all terms, and x_0 where that is a variable."""
        terms = [term.data.value(output) for term, output in zip(self.terms, outputs, strict=True)]
        return sum(terms[1:], terms[0]) + self.decay_cost(controls) + self.initial_cost(initial)

    def decay_cost(self, controls: Sequence[Array]) -> float:
        """sum_b rho_b/2 ||u_b||^2."""
        squares = [float(u @ u) for u in controls]
        if len(set(self.decays)) == 1:
            return 0.5 * self.decays[0] * sum(squares)
        return 0.5 * sum(rho * square for rho, square in zip(self.decays, squares, strict=True))

    def decay_gradient(self, controls: Sequence[Array]) -> Arrays:
        """rho_b u_b, block by block: the gradient of what controls cost by themselves."""
        return tuple([rho * u for rho, u in zip(self.decays, controls, strict=True)])

    def decay_product(self, controls: Sequence[Array], direction: Sequence[Array]) -> Arrays:
        """rho_b du_b: the second derivative of what controls cost by themselves, times a direction."""
        return tuple([rho * du for rho, du in zip(self.decays, direction, strict=True)])

    def decay_squares(self, controls: Arrays) -> tuple[float | tuple[float | Array, ...], Arrays]:
        """What controls cost by themselves, as least squares see it at these: weights w and offsets t, so that it is
        1/2 (t + du)' w (t + du) to first order.  One number a block, or one a control.
        """
        return self.weight_decay, controls

    def initial_cost(self, initial: Array | None) -> float:
        """alpha/2 ||x_0 - xbar||^2; zero where x_0 is known."""
        if initial is None or not self.has_free_start:
            return 0.0
        moved = initial - self.x
        return 0.5 * self.initial_weight * float(np.vdot(moved, moved))

    def output_gradients(self, outputs: Sequence[Array]) -> Arrays:
        """g_j = w phi'(z) of every term, (N, m_j), given their outputs; for squares, the residuals."""
        return tuple([term.data.gradient(output) for term, output in zip(self.terms, outputs, strict=True)])

    def output_curvatures(self, outputs: Sequence[Array], *, gauss_newton: bool = False) -> list[Array | None]:
        """w phi''(z) of every term, given their outputs: diagonals (N, m_j), or (N, m_j, m_j); None for squares."""
        pairs = zip(self.terms, outputs, strict=True)
        return [term.data.curvature(output, gauss_newton=gauss_newton) for term, output in pairs]

    def projected(self, controls: Arrays, states: Sequence[Array]) -> Arrays:
        """The controls with those replaced that can be chosen optimally for the states: none here."""
        return controls

    def defects(self, trajectory: Trajectory) -> Arrays:
        """d_k = f_k(x_k, u_c(k)) - x_{k+1} for k = 0..K-2."""
        outputs = self.outputs(trajectory)[: len(self.dynamics)]
        return tuple(f - x for f, x in zip(outputs, trajectory.states[1:], strict=True))

    def linearize(self, trajectory: Trajectory, outputs: Arrays | None = None) -> tuple[LinearStage, ...]:
        """Jacobians of all rows as operators; ``outputs`` spares their evaluation where they are known."""
        outputs = self.outputs(trajectory) if outputs is None else outputs
        controls, states = trajectory.controls, trajectory.states
        at = (*range(len(self.dynamics)), *(term.stage for term in self.terms))
        return tuple(
            linearize_layer(row.layer, states[k], controls[row.block], f)
            for row, k, f in zip(self.rows, at, outputs, strict=True)
        )

    def adjoints(self, trajectory: Trajectory) -> Adjoints:
        """The adjoint recursion: back-propagation."""
        outputs = self.outputs(trajectory)
        stages = self.linearize(trajectory, outputs)
        return self.backpropagate(stages, trajectory.controls, self.output_gradients(outputs[len(self.dynamics) :]))

    def backpropagate(
        self, stages: Sequence[LinearStage], controls: Sequence[Array], gradients: Sequence[Array]
    ) -> Adjoints:
        """:meth:`adjoints` from a linearisation of all rows and the terms' gradients in their outputs."""
        costates = self.costates(SINGLE_SHOOTING, stages, gradients)
        gradient = self.control_gradient(stages, controls, costates)
        return Adjoints((pulled_back(stages, costates, self.terms_at, 0), *costates), gradient)

    def costates(
        self,
        shooting: Shooting,
        stages: Sequence[LinearStage],
        gradients: Sequence[Array],
        multipliers: Sequence[Array] = (),
    ) -> Arrays:
        """:meth:`.Shooting.costates` of all rows."""
        return shooting.costates(stages, gradients, self.terms_at, multipliers)

    def control_gradient(
        self, stages: Sequence[LinearStage], controls: Sequence[Array], costates: Sequence[Array]
    ) -> Arrays:
        """The Lagrangian's gradient in the controls, block by block, from the costates of all rows."""
        totals: dict[int, Array] = {}
        for stage, block, costate in zip(stages, self.row_blocks, costates, strict=True):
            part = stage.transpose_control(costate)
            totals[block] = totals[block] + part if block in totals else part
        return tuple([totals[b] + pull for b, pull in enumerate(self.decay_gradient(controls))])

    def state_gradient(
        self, shooting: Shooting, stages: Sequence[LinearStage], states: Sequence[Array], costates: Sequence[Array]
    ) -> Arrays:
        """The Lagrangian's gradient in x_1..x_{K-1}, and before them in x_0 where that is a variable."""
        gradient = shooting.state_gradient(stages, costates, self.terms_at)
        if not self.has_free_start:
            return gradient
        return self.initial_gradient(states[0], pulled_back(stages, costates, self.terms_at, 0)), *gradient

    def initial_gradient(self, initial: Array, costate: Array) -> Array:
        """alpha (x_0 - xbar) + lambda_0: the gradient in a free x_0."""
        return self.initial_weight * (initial - self.x) + costate

    def multipliers(
        self, shooting: Shooting, stages: Sequence[LinearStage], gradients: Sequence[Array], given: Sequence[Array] = ()
    ) -> Arrays:
        """lambda_0..lambda_{K-1}, as a trajectory carries them: what is pulled back to x_0 first."""
        costates = self.costates(shooting, stages, gradients, given)
        return pulled_back(stages, costates, self.terms_at, 0), *costates[: len(self.dynamics)]

    def trained_model(self, controls: Sequence[Array]) -> Model | None:
        """What predicts with these controls: of training problems only."""
        return None

    def lift(self, controls: Sequence[Array], *, initial: Array | None = None) -> Trajectory:
        """The rollout with the back-propagated adjoints as its multipliers."""
        trajectory = self.rollout(controls, initial=initial)
        return replace(trajectory, multipliers=self.adjoints(trajectory).costates[: self.num_stages])

    def check(self, trajectory: Trajectory) -> None:
        """Raise ``ValueError`` unless the trajectory has this problem's shapes."""
        checks.check("trajectory", trajectory, TRAJECTORY)
        self.check_controls(trajectory.controls)
        expected = [(self.num_samples, n) for n in self.widths]
        for name, arrays in (("states", trajectory.states), ("multipliers", trajectory.multipliers)):
            if arrays is not None and [np.shape(a) for a in arrays] != expected:
                raise ValueError(f"expected {name} of shapes {expected}, received {[np.shape(a) for a in arrays]}")


PROBLEM = checks.instance(OptimalControlProblem, "an ocp_nn.TrainingProblem or an ocp_nn.OptimalControlProblem")
