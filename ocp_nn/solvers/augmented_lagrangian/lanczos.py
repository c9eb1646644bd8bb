"""The smallest curvature of the exact Hessian in the metric of Gauss-Newton, by the Lanczos method.

Of all theta with H v = theta M v, H the Hessian of J(u) and M = H_GN + mu I, the smallest one says by its sign whether
H has negative curvature (Sylvester's law of inertia).  M^-1 H is the identity but for the curvature of the stages, so
that its spectrum lies close to 1 and a negative end stands out: a few Hessian products find it where H itself, with
eigenvalues over many decades, would need hundreds.  Forward DP has a factor of M anyway.

Source: Lanczos in the inner product of M (Parlett 1998, "The symmetric eigenvalue problem", section 15.11), with full
reorthogonalisation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Smallest", "smallest_curvature"]

Array = NDArray[np.float64]
Operator = Callable[[Array], Array]

# Error at which the smallest Ritz value counts as found, relative to its size.
_ACCURACY = 0.01


@dataclass(frozen=True, eq=False)
class Smallest:
    """The smallest Ritz value.

    Attributes
    ----------
    value : float
        theta = v'Hv / v'Mv; the true one is no larger.
    vector : array (P,)
        v, with v'Mv = 1.
    error : float
        Norm of H v - theta M v in that of M^-1: there is an eigenvalue this close.
    products : int
        Hessian products it took.
    """

    value: float
    vector: Array
    error: float
    products: int


def smallest_curvature(
    hessian: Operator, precondition: Operator, start: Array, *, negligible: float, max_products: int = 100
) -> Smallest:
    """The smallest theta with H v = theta M v, to a percent or to ``negligible``, whichever is larger.

    Parameters
    ----------
    hessian, precondition : callable
        v -> H v and v -> M^-1 v, both (P,) -> (P,).
    start : array (P,)
        Any direction that is not orthogonal to the one looked for: a random one.
    negligible : float
        Size below which theta is not told from zero.
    max_products : int
        At most; the error says how far they got.
    """
    # q_i and z_i = M^-1 q_i, biorthogonal: <q_i, z_j> = [i = j]
    q, z = np.empty((0, len(start))), np.empty((0, len(start)))
    residual, dual = start, precondition(start)
    diagonal: list[float] = []
    beside = [float(np.sqrt(residual @ dual))]
    while True:
        q, z = np.vstack([q, residual / beside[-1]]), np.vstack([z, dual / beside[-1]])
        product = hessian(z[-1])
        diagonal.append(float(z[-1] @ product))
        residual = product
        for _ in range(2):  # once leaves what cancels
            residual = residual - q.T @ (z @ residual)
        dual = precondition(residual)
        beside.append(float(np.sqrt(max(float(residual @ dual), 0.0))))
        values, vectors = np.linalg.eigh(_tridiagonal(diagonal, beside[1:-1]))
        error = beside[-1] * abs(float(vectors[-1, 0]))
        done = error <= max(_ACCURACY * abs(values[0]), negligible)
        if done or len(diagonal) >= min(max_products, len(start)):
            return Smallest(float(values[0]), z.T @ vectors[:, 0], error, len(diagonal))


def _tridiagonal(diagonal: list[float], beside: list[float]) -> Array:
    return np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
