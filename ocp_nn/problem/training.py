"""Training a feed-forward network as an optimal control problem.

    minimise    sum_i w_i phi(f_{K-1}(x_{K-1}^i, u_{K-1}), y^i)  +  rho/2 sum_k ||u_k||^2
    subject to  x_{k+1}^i = f_k(x_k^i, u_k),   k = 0..K-2,     x_0^i = the i-th input

where the loss phi(z, y) is 1/2 ||z - y||^2 unless another one is asked for (:mod:`.losses`), and the sample weights
w_i are one.  The last layer is compared with y directly, so the states that can be variables are x_1..x_{K-1}.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import lapack

from ..base import checks
from ..network.layers import Dense
from ..network.model import Model, column_range
from ..network.network import Network
from .data_term import DataTerm
from .losses import Loss, Squared
from .optimal_control import OptimalControlProblem
from .straight_line import StraightLine
from .structure import Stage, Structure, Term

__all__ = ["TRAINING_PROBLEM", "TrainingProblem"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]


class TrainingProblem(OptimalControlProblem):
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
        *,
        loss: str | Loss = "squared",
        sample_weight: ArrayLike | None = None,
    ) -> None:
        checks.check("network", network, checks.instance(Network, "an ocp_nn.Network"))
        checks.check("weight_decay", weight_decay, checks.NON_NEGATIVE)
        x = _samples("x", x, network.num_inputs)
        y = _samples("y", y, network.num_outputs)
        _check_squares(x, y)
        if len(x) != len(y):
            raise ValueError(f"x and y need as many rows as each other, received {len(x)} and {len(y)}")
        hidden = sum(network.sizes[1:-1])
        states = f"the hidden states of {len(x):,} samples, {hidden:,} each,"
        checks.check_memory(states, 8 * len(x) * hidden, "use fewer samples or narrower layers")
        self._set_training(network, x, DataTerm.of(loss, y, sample_weight), float(weight_decay))

    def _set_training(self, network: Network, x: Array, data: DataTerm, weight_decay: float) -> None:
        *layers, last = zip(network.layers, network.blocks, strict=True)
        dynamics = [Stage(layer, block) for layer, block in layers]
        terms = [Term.of_data(len(dynamics), *last, data)]
        self.network, self.y, self.data = network, data.y, data
        lengths = tuple(layer.num_controls for layer in network.block_layers)
        self._set(dynamics, terms, x, weight_decay, np.inf, lengths)

    def __repr__(self) -> str:
        more = "" if isinstance(self.loss, Squared) else f", loss={self.loss.name}"
        more += "" if self.sample_weight is None else ", weighted"
        decay = f"weight_decay={self.weight_decay:g}"
        return f"TrainingProblem({self.network!r}, {self.num_samples} samples, {decay}{more})"

    @property
    def weight_decay(self) -> float:
        """rho."""
        return self.decays[0]

    @property
    def loss(self) -> Loss:
        return self.data.loss

    @property
    def sample_weight(self) -> Array | None:
        """w, (N,); None where all are one."""
        return self.data.weights

    @cached_property
    def line(self) -> StraightLine:
        """Linear least squares on these data, to compare a network with."""
        return StraightLine(self.x, self.y, self.weight_decay)

    @property
    def null_objective(self) -> float:
        """J of the best constant output, weight decay left out: what explains nothing."""
        return self.line.mean_objective if self.data.is_squares else self.data.null_objective

    def is_same_as(self, other: Structure) -> bool:
        """Whether the other problem has these very data, weights and loss, this architecture and this weight decay."""
        return (
            isinstance(other, TrainingProblem)
            and np.array_equal(self.x, other.x)
            and self.data.is_same_as(other.data)
            and self.network.describe() == other.network.describe()
            and self.weight_decay == other.weight_decay
        )

    def part(self, rows: NDArray[np.int64], weight_decay: float) -> TrainingProblem:
        """The problem on some of the samples; what was checked of all is not asked of them again."""
        part = object.__new__(TrainingProblem)
        part._set_training(self.network, self.x[rows], self.data.rows(rows), float(weight_decay))
        return part

    def check_controls(self, controls: Sequence[Array]) -> Arrays:
        """The controls as float vectors: :meth:`ocp_nn.Network.check_controls`."""
        return self.network.check_controls(controls)

    def trained_model(self, controls: Sequence[Array]) -> Model:
        """The network with these controls, in the units of the problem."""
        return Model(self.network, controls, x_range=column_range(self.x), link=self.loss.link)

    def projected(self, controls: Arrays, states: Sequence[Array]) -> Arrays:
        """The controls with the last layer's replaced by the best one for its state."""
        block = self.terms[0].block
        if block in self.blocks:
            return controls
        best = self.best_last_control(states[-1], controls[block])
        return (*controls[:block], best, *controls[block + 1 :])

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


TRAINING_PROBLEM = checks.instance(TrainingProblem, "an ocp_nn.TrainingProblem")


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
