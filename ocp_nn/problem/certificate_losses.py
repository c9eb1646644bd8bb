"""The losses once more, for the certificate alone: written from the textbook, nothing shared with training.

Binary cross-entropy is -log of the label's probability, cross-entropy -sum y log p with p = softmax(z), Poisson's loss
half the deviance, and the derivatives are those of these formulas.  A loss of one's own is its CasADi function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from .data_term import DataTerm

__all__ = ["WrittenLoss"]

Array = NDArray[np.float64]
Formula = Callable[[Any, Array, Array], Array]


@dataclass(frozen=True, eq=False)
class WrittenLoss:
    """What outputs cost, and the gradient of that: for squares 1/2 ||z - y||^2 and z - y."""

    data: DataTerm

    def value(self, output: Array) -> float:
        if self.data.loss.name == "squared" and self.data.weights is None:
            return 0.5 * float(np.sum((output - self.data.y) ** 2))
        return float(np.sum(self._weights * self._written(0, output)))

    def gradient(self, output: Array) -> Array:
        if self.data.loss.name == "squared" and self.data.weights is None:
            return output - self.data.y
        return np.asarray(self._weights * self._written(1, output))

    @property
    def _weights(self) -> Array | float:
        weight = self.data.weights
        return 1.0 if weight is None else weight.reshape(len(weight), -1)

    def _written(self, part: int, output: Array) -> Array:
        """The value, sample by sample and perhaps output by output, or the gradient."""
        loss, y = self.data.loss, self.data.y
        if hasattr(loss, "function"):
            return _symbolic(loss.function, part, output, y)
        return _FORMULAS[loss.name][part](loss, output, y)


def _symbolic(function: ca.Function, part: int, output: Array, y: Array) -> Array:
    z, target = ca.SX.sym("z", y.shape[1]), ca.SX.sym("y", y.shape[1])
    value = function(z, target)
    wanted = ca.Function("wanted", [z, target], [value if part == 0 else ca.densify(ca.gradient(value, z))])
    return np.array(wanted.map(len(y))(output.T, y.T).full()).T


def _probability(z: Array) -> Array:
    """1/(1 + exp(-z))."""
    small = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, small) / (1.0 + small)


def _log_softmax(z: Array) -> Array:
    shifted = z - z.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _huber(loss: Any, z: Array, y: Array) -> Array:
    inside = np.minimum(np.abs(z - y), loss.delta)
    return np.asarray(inside * (np.abs(z - y) - inside / 2))


def _huber_gradient(loss: Any, z: Array, y: Array) -> Array:
    return np.asarray(np.sign(z - y) * np.minimum(np.abs(z - y), loss.delta))


def _deviance(loss: Any, z: Array, y: Array) -> Array:
    log_rate = np.where(y > 0, np.log(np.where(y > 0, y, 1.0)), 0.0)
    return np.asarray(np.exp(z) - y - y * (z - log_rate))


# Value and gradient.
_FORMULAS: dict[str, tuple[Formula, Formula]] = {
    "squared": (lambda _, z, y: (z - y) ** 2 / 2, lambda _, z, y: z - y),
    "huber": (_huber, _huber_gradient),
    "logistic": (
        lambda _, z, y: np.maximum(z, 0) - y * z + np.log1p(np.exp(-np.abs(z))),
        lambda _, z, y: _probability(z) - y,
    ),
    "softmax": (
        lambda _, z, y: -(y * _log_softmax(z)).sum(axis=1, keepdims=True),
        lambda _, z, y: np.exp(_log_softmax(z)) - y,
    ),
    # the price of a constraint, with its multiplier for a target; J has no part of it
    "price": (lambda _, z, y: np.zeros_like(z), lambda _, z, y: y),
    "poisson": (_deviance, lambda _, z, y: np.exp(z) - y),
}
