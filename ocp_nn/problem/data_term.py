"""What an output costs: the loss of every sample, with the sample's weight.

With w_i the weights, the objective's part is sum_i w_i phi(z_i, y_i), its gradient w phi', its root sqrt(w) L, its
residual sqrt(w) r and its second derivative w phi'' (:mod:`.losses`).  Squares without weights are the case that needs
none of it: the residual z - y is the gradient, and the root is the identity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import casadi as ca
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from ..base import checks
from .loss_description import describe_loss
from .losses import Custom, Huber, Logistic, Loss, Poisson, Softmax, Squared, loss_named

__all__ = ["DataTerm"]

Array = NDArray[np.float64]

_LOSS = checks.instance(
    (str, Squared, Huber, Logistic, Softmax, Poisson, Custom), "the name of a loss or a loss of ocp_nn.problem.losses"
)

# Where the best constant is infinite (a class that never occurs), this is as good: exp(-800) is zero.
_FAR = 800.0

# Outputs that a network is first fitted to are those of a classifier that is this sure of the labels.
_SURE = 0.9


@dataclass(frozen=True, eq=False)
class DataTerm:
    """The loss of all samples.

    Attributes
    ----------
    loss : Loss
    y : array (N, m)
    weights : array (N,) or (N, m), or None
        One a sample, or for squares one a number; None where all are one.
    """

    loss: Loss
    y: Array
    weights: Array | None

    @classmethod
    def of(cls, loss: str | Loss, y: Array, sample_weight: ArrayLike | None, *, by_number: bool = False) -> DataTerm:
        """The term of a loss and of weights as a user gives them, ``by_number`` also (N, m) for squares.

        Raises
        ------
        ValueError
            For an unknown loss, targets it has no meaning for, or weights that are not N finite numbers >= 0, one of
            them positive.
        """
        checks.check("loss", loss, _LOSS)
        loss = loss_named(loss)
        loss.check_targets(y)
        weights = (
            None if sample_weight is None else _weights(sample_weight, y.shape, by_number and isinstance(loss, Squared))
        )
        if weights is not None and weights.ndim == 1 and not weights.all():
            loss.check_targets(y[weights > 0])
        return cls(loss, y, None if weights is None or (weights == 1.0).all() else weights)

    @property
    def is_squares(self) -> bool:
        """Whether this is half the sum of squares, without weights."""
        return isinstance(self.loss, Squared) and self.weights is None

    @property
    def couples_outputs(self) -> bool:
        """Whether phi'' may have entries off its diagonal."""
        return isinstance(self.loss, Softmax | Custom)

    def rows(self, rows: Any) -> DataTerm:
        """The term of some samples."""
        return DataTerm(self.loss, self.y[rows], None if self.weights is None else self.weights[rows])

    def value(self, output: Array) -> float:
        """sum_i w_i phi(z_i, y_i)."""
        if self.is_squares:
            residual = output - self.y
            return 0.5 * float(np.vdot(residual, residual))
        if self.weights is not None and self.weights.ndim == 2:
            return 0.5 * float(np.vdot(self.weights, (output - self.y) ** 2))
        values = self.loss.values(output, self.y)
        return float(values.sum() if self.weights is None else self.weights @ values)

    def gradient(self, output: Array) -> Array:
        """w phi'(z), (N, m): the costate of the output."""
        return self._weighted(self.loss.gradient(output, self.y))

    def root(self, output: Array) -> Array | None:
        """sqrt(w) L: (N, m) where it is diagonal, (N, m, m) otherwise, None for the identity."""
        return self._weighted_matrix(self.loss.root(output, self.y), np.sqrt)

    def residual(self, output: Array) -> Array:
        """sqrt(w) r, (N, m)."""
        return self._weighted(self.loss.residual(output, self.y), np.sqrt)

    def curvature(self, output: Array, *, gauss_newton: bool = False) -> Array | None:
        """w phi''(z), shapes as those of the root; by Gauss-Newton w L L', which Huber's loss alone has different."""
        if not (gauss_newton and isinstance(self.loss, Huber)):
            return self._weighted_matrix(self.loss.curvature(output, self.y))
        return self._weighted(self.loss.root(output, self.y) ** 2)

    def symbolic(self, output: ca.MX) -> ca.MX:
        """The value as a CasADi expression in outputs with one column a sample."""
        if self.is_squares:
            return ca.sumsqr(output - ca.DM(self.y.T)) / 2
        samples, m = self.y.shape
        if self.weights is not None and self.weights.ndim == 2:
            return ca.sumsqr(ca.DM(np.sqrt(self.weights).T) * (output - ca.DM(self.y.T))) / 2
        z, y = ca.MX.sym("z", m), ca.MX.sym("y", m)
        values = ca.Function("phi", [z, y], [self.loss.symbolic(z, y)]).map(samples)(output, ca.DM(self.y.T))
        return ca.sum2(values) if self.weights is None else values @ ca.DM(self.weights)

    @cached_property
    def null_objective(self) -> float:
        """The value at the best constant output."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            if self.weights is not None and self.weights.ndim == 2:
                totals = self.weights.sum(axis=0)
                best = (self.weights * self.y).sum(axis=0) / np.where(totals > 0, totals, 1.0)
                return self.value(np.tile(best, (len(self.y), 1)))
            weights = np.ones(len(self.y)) if self.weights is None else self.weights
            best = np.nan_to_num(self.loss.best_constant(self.y, weights), posinf=_FAR, neginf=-_FAR)
            return self.value(np.tile(best, (len(self.y), 1)))

    def scale(self) -> float:
        """The typical square of a target, in the units of the objective; 1 where there is none."""
        if isinstance(self.loss, Squared):
            scale = float(np.mean(self._weighted(self.y**2)))
        else:
            scale = 2.0 * self.null_objective / self.y.size
        return scale if 0 < scale < np.inf else 1.0

    def gradient_scale(self) -> float:
        """The size of a large gradient in an output: max(1, max|y|) times the largest weight."""
        weight = 1.0 if self.weights is None else float(self.weights.max())
        return max(1.0, float(np.abs(self.y).max())) * weight

    def is_same_as(self, other: DataTerm) -> bool:
        """Whether the other term has this loss, these targets and these weights."""
        mine, theirs = (np.ones(1) if term.weights is None else term.weights for term in (self, other))
        same_weights = np.array_equal(mine, theirs)
        same_loss = describe_loss(self.loss) == describe_loss(other.loss)
        return same_loss and same_weights and np.array_equal(self.y, other.y)

    def sensible_outputs(self) -> Array:
        """Outputs of a network that is nearly right, finite for all targets: to fit a first last layer to."""
        for kind, sensible in _SENSIBLE:
            if isinstance(self.loss, kind):
                return sensible(self.y)
        return self.y

    def _weighted(self, values: Array, power: Callable[[Array], Array] = np.asarray) -> Array:
        if self.weights is None:
            return values
        weights = power(self.weights)
        return (weights if weights.ndim == 2 else weights[:, None]) * values

    def _weighted_matrix(self, matrix: Array | None, power: Callable[[Array], Array] = np.asarray) -> Array | None:
        if self.weights is None:
            return matrix
        if matrix is None:
            return self._weighted(np.ones_like(self.y), power)
        return power(self.weights).reshape(-1, *[1] * (matrix.ndim - 1)) * matrix


def _weights(sample_weight: ArrayLike, shape: tuple[int, ...], by_number: bool) -> Array:
    weights = checks.real_array("sample_weight", sample_weight)
    if weights.shape != shape[:1] and not (by_number and weights.shape == shape):
        raise ValueError(f"sample_weight must have shape ({shape[0]},), one number a sample, received {weights.shape}")
    checks.check_finite("sample_weight", weights)
    if (weights < 0).any():
        raise ValueError(f"sample_weight must be >= 0, received {weights.min():g} at position {int(weights.argmin())}")
    if not weights.any():
        raise ValueError("sample_weight must have a positive number, received zeros alone")
    return weights


def _log_frequencies(y: Array) -> Array:
    logarithms = np.log(_SURE * y + (1.0 - _SURE) / y.shape[1])
    return logarithms - logarithms.mean(axis=1, keepdims=True)


# The others: the targets themselves.
_SENSIBLE: tuple[tuple[type, Callable[[Array], Array]], ...] = (
    (Logistic, lambda y: np.asarray(special.logit(0.5 + _SURE * (y - 0.5)))),
    (Softmax, _log_frequencies),
    (Poisson, lambda y: np.log(y + 0.5)),
)
