"""The optimal control problem of training, its trajectories, rollout and adjoints.

    minimise    sum_i w_i phi(f_{K-1}(x_{K-1}^i, u_{K-1}), y^i)  +  rho/2 sum_k ||u_k||^2
    subject to  x_{k+1}^i = f_k(x_k^i, u_k),   k = 0..K-2,     x_0^i = the i-th input

where the loss phi(z, y) is 1/2 ||z - y||^2 unless another one is asked for (:mod:`.losses`), and the sample weights
w_i are one.  Sums, not means; rho weighs every control, biases too.  The last stage is compared with y directly, so
the states that can be variables are x_1..x_{K-1}.

With the multipliers lambda_{k+1} of the defects d_k = f_k(x_k, u_k) - x_{k+1} the Lagrangian is

    L = J + sum_k <lambda_{k+1}, d_k>

and its stationarity in x_k is the adjoint recursion lambda_k = A_k' lambda_{k+1}, started at w phi'(z), the
residual for squares.  On a rollout that recursion *is* back-propagation and its by-product B_k' lambda_{k+1} + rho u_k
the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import lapack

from ..base import checks
from ..network.layers import Dense
from ..network.linear_stages import LinearStage, linearize_layer
from ..network.network import Network
from .data_term import DataTerm
from .loss_description import describe_loss
from .losses import Loss, Squared
from .shooting import SINGLE_SHOOTING
from .straight_line import StraightLine
from .trajectory import TRAJECTORY, Adjoints, Trajectory

__all__ = ["PROBLEM", "TrainingProblem"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]


class TrainingProblem:
    """Training data, a network, a weight decay and a loss.

    Parameters
    ----------
    network : Network
    x : array_like, shape (N, inputs)
    y : array_like, shape (N, outputs)
        A vector of length N is taken as one output.
    weight_decay : float
        rho >= 0, the Tikhonov weight of all controls.
    loss : str or Loss
        ``"squared"``, ``"huber"``, ``"logistic"`` (targets 0 and 1), ``"softmax"`` (one 1 and else 0 in every row),
        ``"poisson"`` (counts; the outputs are logarithms of rates), or a loss of :mod:`ocp_nn.problem.losses`.
    sample_weight : array_like, shape (N,), optional
        w_i >= 0, one each by default; a weight of zero leaves a sample out.

    Raises
    ------
    ValueError
        For shapes that do not fit the network, data that are not finite real numbers or too large for a trajectory
        to fit into memory, data whose sum of squares overflows, targets whose sum of squares underflows, a negative
        weight decay, targets that the loss has no meaning for, or weights that are not N finite numbers >= 0, one of
        them positive.
    """

    def __init__(
        self,
        network: Network,
        x: ArrayLike,
        y: ArrayLike,
        weight_decay: float = 1e-3,
        loss: str | Loss = "squared",
        sample_weight: ArrayLike | None = None,
    ) -> None:
        checks.check("network", network, checks.instance(Network, "an ocp_nn.Network"))
        checks.check("weight_decay", weight_decay, checks.NON_NEGATIVE)
        self.network = network
        self.x = _samples("x", x, network.num_inputs)
        self.y = _samples("y", y, network.num_outputs)
        _check_squares(self.x, self.y)
        if len(self.x) != len(self.y):
            raise ValueError(f"x and y need as many rows as each other, received {len(self.x)} and {len(self.y)}")
        hidden = sum(network.sizes[1:-1])
        states = f"the hidden states of {len(self.x):,} samples, {hidden:,} each,"
        checks.check_memory(states, 8 * len(self.x) * hidden, "use fewer samples or narrower layers")
        self.weight_decay = float(weight_decay)
        self.data = DataTerm.of(loss, self.y, sample_weight)

    def __repr__(self) -> str:
        more = "" if isinstance(self.loss, Squared) else f", loss={self.loss.name}"
        more += "" if self.sample_weight is None else ", weighted"
        decay = f"weight_decay={self.weight_decay:g}"
        return f"TrainingProblem({self.network!r}, {self.num_samples} samples, {decay}{more})"

    @property
    def loss(self) -> Loss:
        return self.data.loss

    @property
    def sample_weight(self) -> Array | None:
        """w, (N,); None where all are one."""
        return self.data.weights

    @property
    def num_samples(self) -> int:
        return len(self.x)

    @property
    def num_stages(self) -> int:
        return self.network.num_stages

    @cached_property
    def line(self) -> StraightLine:
        """Linear least squares on these data, to compare a network with."""
        return StraightLine(self.x, self.y, self.weight_decay)

    @property
    def null_objective(self) -> float:
        """J of the best constant output, weight decay left out: what explains nothing."""
        return self.line.mean_objective if self.data.is_squares else self.data.null_objective

    def is_same_as(self, other: TrainingProblem) -> bool:
        """Whether the other problem has these very data, weights and loss, this architecture and this weight decay."""
        same_data = np.array_equal(self.x, other.x) and np.array_equal(self.y, other.y)
        same_weights = np.array_equal(_or_ones(self.sample_weight), _or_ones(other.sample_weight))
        same_loss = describe_loss(self.loss) == describe_loss(other.loss)
        same_network = self.network.describe() == other.network.describe()
        same_decay = self.weight_decay == other.weight_decay
        return same_data and same_weights and same_loss and same_network and same_decay

    def part(self, rows: NDArray[np.int64], weight_decay: float) -> TrainingProblem:
        """The problem on some of the samples; what was checked of all is not asked of them again."""
        part = object.__new__(TrainingProblem)
        part.network, part.x, part.weight_decay = self.network, self.x[rows], float(weight_decay)
        part.data = self.data.rows(rows)
        part.y = part.data.y
        return part

    def rollout(self, controls: Sequence[Array], multipliers: Arrays | None = None) -> Trajectory:
        """The trajectory that satisfies the dynamics: x_0 is the input and every defect is zero."""
        controls = self.network.check_controls(controls)
        states, _ = SINGLE_SHOOTING.roll(self.network.layers, self.x, controls)
        return Trajectory(controls, states, multipliers)

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
        """f_k(x_k, u_k) of every stage k = 0..K-1 at the trajectory's own states."""
        self.check(trajectory)
        return self.evaluate(trajectory.controls, trajectory.states)

    def evaluate(self, controls: Sequence[Array], states: Sequence[Array]) -> Arrays:
        """:meth:`outputs` for arrays whose shapes are already known to fit."""
        return tuple(layer.forward(x, u) for layer, x, u in zip(self.network.layers, states, controls, strict=True))

    def objective(self, trajectory: Trajectory) -> float:
        """J at the trajectory: its last state goes through the last stage, defects are not looked at."""
        self.check(trajectory)
        output = self.network.layers[-1].forward(trajectory.states[-1], trajectory.controls[-1])
        return self.cost(trajectory.controls, output)

    def cost(self, controls: Sequence[Array], output: Array) -> float:
        """J as a function of the controls and the network's output."""
        decay = sum(float(u @ u) for u in controls)
        return self.data.value(output) + 0.5 * self.weight_decay * decay

    def output_gradient(self, output: Array) -> Array:
        """The objective's gradient in the network's output, (N, m): the last costate; for squares, the residual."""
        return self.data.gradient(output)

    def best_last_control(self, state: Array, control: Array) -> Array:
        """The u_{K-1} that minimises J where the last state is ``state``, (N, n_{K-1}): a ridge regression.

        ``control`` comes back where the loss is not plain squares, where the last stage is not an affine layer, or
        where rounding, in normal equations that are close to singular, would make it worse.
        """
        layer = self.network.layers[-1]
        is_affine = isinstance(layer, Dense) and layer.activation == "identity" and not layer.residual
        if not (is_affine and self.data.is_squares):
            return control
        inputs = np.column_stack([state, np.ones(len(state))])
        normal = inputs.T @ inputs
        normal[np.diag_indices_from(normal)] += self.weight_decay
        factor, info = lapack.dpotrf(normal, lower=1)
        if info != 0:
            return control
        given = control.reshape(inputs.shape[1], -1)
        best: Array = lapack.dpotrs(factor, inputs.T @ self.y, lower=1)[0]

        def cost(table: Array) -> float:
            residual = inputs @ table - self.y
            return float(np.vdot(residual, residual)) + self.weight_decay * float(np.vdot(table, table))

        return np.ascontiguousarray(best).ravel() if cost(best) <= cost(given) else control

    def defects(self, trajectory: Trajectory) -> Arrays:
        """d_k = f_k(x_k, u_k) - x_{k+1} for k = 0..K-2."""
        return tuple(f - x for f, x in zip(self.outputs(trajectory)[:-1], trajectory.states[1:], strict=True))

    def linearize(self, trajectory: Trajectory, outputs: Arrays | None = None) -> tuple[LinearStage, ...]:
        """A_k and B_k of every stage, as operators; ``outputs`` spares their evaluation where they are known."""
        outputs = self.outputs(trajectory) if outputs is None else outputs
        return tuple(
            linearize_layer(layer, x, u, f)
            for layer, x, u, f in zip(self.network.layers, trajectory.states, trajectory.controls, outputs, strict=True)
        )

    def adjoints(self, trajectory: Trajectory) -> Adjoints:
        """The adjoint recursion lambda_K = output_gradient, lambda_k = A_k' lambda_{k+1}: back-propagation."""
        outputs = self.outputs(trajectory)
        stages = self.linearize(trajectory, outputs)
        return self.backpropagate(stages, trajectory.controls, self.output_gradient(outputs[-1]))

    def backpropagate(self, stages: Sequence[LinearStage], controls: Sequence[Array], residual: Array) -> Adjoints:
        """:meth:`adjoints` from a linearisation that is already there."""
        costates = SINGLE_SHOOTING.costates(stages, residual)
        gradient = self.control_gradient(stages, controls, costates)
        return Adjoints((stages[0].transpose_state(costates[0]), *costates), gradient)

    def control_gradient(
        self, stages: Sequence[LinearStage], controls: Sequence[Array], costates: Sequence[Array]
    ) -> Arrays:
        """B_k' lambda_{k+1} + rho u_k: the Lagrangian's gradient in the controls, from lambda_1..lambda_K."""
        return tuple(
            stage.transpose_control(costate) + self.weight_decay * u
            for stage, u, costate in zip(stages, controls, costates, strict=True)
        )

    def lift(self, controls: Sequence[Array]) -> Trajectory:
        """The rollout with the back-propagated adjoints as its multipliers."""
        trajectory = self.rollout(controls)
        return replace(trajectory, multipliers=self.adjoints(trajectory).costates[:-1])

    def check(self, trajectory: Trajectory) -> None:
        """Raise ``ValueError`` unless the trajectory has this problem's shapes."""
        checks.check("trajectory", trajectory, TRAJECTORY)
        self.network.check_controls(trajectory.controls)
        expected = [(self.num_samples, n) for n in self.network.sizes[:-1]]
        for name, arrays in (("states", trajectory.states), ("multipliers", trajectory.multipliers)):
            if arrays is not None and [np.shape(a) for a in arrays] != expected:
                raise ValueError(f"expected {name} of shapes {expected}, received {[np.shape(a) for a in arrays]}")


def _or_ones(weights: Array | None) -> Array | float:
    return 1.0 if weights is None else weights


PROBLEM = checks.instance(TrainingProblem, "an ocp_nn.TrainingProblem")


def _samples(name: str, values: ArrayLike, columns: int) -> Array:
    table = checks.table(name, values, columns)
    if len(table) == 0:
        raise ValueError(f"{name} has no rows: at least one sample is needed")
    return table


def _check_squares(x: Array, y: Array) -> None:
    """Objective and derivatives are made of squares.  (Inputs may be tiny: beside the bias they are nothing anyway.)"""
    for name, table in (("x", x), ("y", y)):
        with np.errstate(over="ignore", under="ignore"):
            total = float(np.vdot(table, table))
        lost = name == "y" and table.any() and total < np.finfo(float).tiny
        if lost or total == np.inf:
            raise ValueError(
                f"the squares of {name} {'underflow' if lost else 'overflow'}, its largest value being "
                f"{np.abs(table).max():g}: scale the data"
            )
