"""What the inner loop carries from one step to the next, and returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .damping import Damping
from .lagrangian import Point
from .secant import SecantFactor

__all__ = ["InnerResult"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class InnerResult:
    """Outcome of an inner minimisation.

    Attributes
    ----------
    point : Point
    damping : Damping
        To continue with.
    stationarity : float
        2-norm of the gradient of L_beta at the last linearisation.
    steps, solves, products, reuses : int
        Steps taken; least-squares problems solved for them, rejected dampings included; Hessian-vector products; steps
        with an earlier factorisation.
    hessians : int
        Dense Hessians of lifted steps.
    stalled : bool
        No damping gave a decrease: floating point is exhausted.
    factor : SecantFactor or None
        Of an earlier step, where it may serve further ones.
    multipliers : tuple of K - 1 arrays, or None
        Of lifted steps, which have multipliers of their own.
    """

    point: Point
    damping: Damping
    stationarity: float = np.inf
    steps: int = 0
    solves: int = 0
    products: int = 0
    reuses: int = 0
    hessians: int = 0
    stalled: bool = False
    factor: SecantFactor | None = None
    multipliers: tuple[Array, ...] | None = None
