"""A factorisation kept in use after the point has moved on: secant updates.

A factor of the Gauss-Newton matrix M at one point serves as initial matrix for further points.  Every step s there
changes the gradient by y, and limited-memory BFGS builds what these pairs say about curvature into M^-1, the part that
Gauss-Newton leaves out included (two-loop recursion; Nocedal 1980).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

__all__ = ["SecantFactor"]

Array = NDArray[np.float64]

# Pairs with less curvature than this, relative to their sizes, are left out: M^-1 must stay positive definite.
_LEAST_CURVATURE = 1e-10


@dataclass(frozen=True, eq=False)
class SecantFactor:
    """M^-1 with what later steps have told.

    Attributes
    ----------
    precondition : callable
        v -> M^-1 v, (P,) -> (P,).
    controls, gradient : array (P,)
        Where the last step began, and the gradient there.
    uses : int
        How many steps it may still serve.
    pairs : tuple of (s, y)
        Changes of controls and gradients, the earliest first.
    """

    precondition: Callable[[Array], Array]
    controls: Array
    gradient: Array
    uses: int
    pairs: tuple[tuple[Array, Array], ...] = ()

    def moved(self, controls: Array, gradient: Array) -> SecantFactor:
        """After a step to these controls."""
        s, y = controls - self.controls, gradient - self.gradient
        keep = float(s @ y) > _LEAST_CURVATURE * float(np.linalg.norm(s) * np.linalg.norm(y))
        pairs = (*self.pairs, (s, y)) if keep else self.pairs
        return replace(self, controls=controls, gradient=gradient, uses=self.uses - 1, pairs=pairs)

    def solve(self, vector: Array) -> Array:
        """The updated M^-1 times a vector."""
        q, shares = vector.copy(), []
        for s, y in reversed(self.pairs):
            shares.append(float(s @ q) / float(s @ y))
            q -= shares[-1] * y
        z = self.precondition(q)
        for (s, y), share in zip(self.pairs, reversed(shares), strict=True):
            z = z + (share - float(y @ z) / float(s @ y)) * s
        return z
