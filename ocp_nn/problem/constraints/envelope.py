"""A constraint in the augmented Lagrangian, as the loss of an output; and its price at a solution.

The constraint l <= z <= u with a multiplier m and a penalty g is, once the slack between z and the interval is chosen
best, the Moreau envelope of the interval's indicator (Rockafellar 1973; Bertsekas 1982, section 3.1):

    e(z; m, g) = g/2 dist^2(z + m/g, [l, u]) - m^2/(2 g)

With v = z + m/g and d = v - clip(v, l, u) its gradient is g d, its curvature g where d is not zero, and g d is the next
multiplier.  For c <= 0 that is max(0, m + g c), for c = 0 it is m + g c.  So a constraint is a term like any other,
with the root sqrt(g) [d != 0] and the residual sqrt(g) d; its multiplier stands where a loss has its target.

At a solution a constraint enters the Lagrangian by its price <m, z>: the loss :class:`Price`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Envelope", "Price"]

Array = NDArray[np.float64]


class _OfConstraint:
    """What a loss has that belongs to no data."""

    link = "identity"

    def check_targets(self, y: Array) -> None:
        """Every multiplier will do."""

    def symbolic(self, z: Any, y: Any) -> Any:
        raise NotImplementedError("CasADi gets constraints as such: see ocp_nn.multiple_shooting")

    def best_constant(self, y: Array, weights: Array) -> Array:
        """Of no meaning; what is asked for by its name must be there."""
        return np.zeros(y.shape[1])


@dataclass(frozen=True, eq=False)
class Envelope(_OfConstraint):
    """e(z; m, g) of l <= z <= u, with m for the target.

    Attributes
    ----------
    lower, upper : array (m,)
    penalty : float
        g.
    """

    lower: Array
    upper: Array
    penalty: float

    name = "constraint"

    def outside(self, z: Array, y: Array) -> Array:
        """d, (N, m)."""
        shifted = z + y / self.penalty
        return shifted - np.clip(shifted, self.lower, self.upper)

    def values(self, z: Array, y: Array) -> Array:
        squares = self.penalty * self.outside(z, y) ** 2 - y**2 / self.penalty
        return np.asarray(0.5 * squares.sum(axis=1))

    def gradient(self, z: Array, y: Array) -> Array:
        return self.penalty * self.outside(z, y)

    def root(self, z: Array, y: Array) -> Array:
        return np.asarray(np.sqrt(self.penalty) * (self.outside(z, y) != 0.0))

    def residual(self, z: Array, y: Array) -> Array:
        return np.sqrt(self.penalty) * self.outside(z, y)

    def curvature(self, z: Array, y: Array) -> Array:
        return np.asarray(self.penalty * (self.outside(z, y) != 0.0))


@dataclass(frozen=True, eq=False)
class Price(_OfConstraint):
    """<m, z>, with m for the target."""

    name = "price"

    def values(self, z: Array, y: Array) -> Array:
        return np.einsum("ij,ij->i", z, y)

    def gradient(self, z: Array, y: Array) -> Array:
        return y

    def root(self, z: Array, y: Array) -> Array:
        return np.zeros_like(y)

    def residual(self, z: Array, y: Array) -> Array:
        return np.zeros_like(y)

    def curvature(self, z: Array, y: Array) -> Array:
        return np.zeros_like(y)
