"""Extremes of a spectrum by Lanczos iteration on products, for matrices too large to write out.

The largest eigenvalue comes from Lanczos on the matrix, the smallest from Lanczos on its inverse (both ARPACK, through
``scipy.sparse.linalg.eigsh``): for the largest eigenvalue Lanczos needs tens of products, whatever the condition
number.  The inverse is a sweep of forward DP (:mod:`.operators`), so it stays accurate where the matrix is
ill-conditioned.  For a symmetric matrix with Ritz pair (theta, v), ||v|| = 1, an eigenvalue lies within
||A v - theta v|| of theta; that relative residual, added up for both ends, is the accuracy stated.

Where no inverse is at hand (more controls than a dense Hessian allows), locally optimal block preconditioned conjugate
gradients (LOBPCG; Knyazev 2001) minimise the Rayleigh quotient of a definite matrix, and for an indefinite one a few
MINRES steps on A x = random (Paige and Saunders 1975) make ||A x|| / ||x|| small.  Converged or not, both are upper
bounds of the smallest singular value: a *lower bound* of the condition number comes out, and is marked so.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh, lobpcg, minres

from .spectrum import Spectrum

__all__ = [
    "Ritz",
    "extremes",
    "from_ends",
    "largest_eigenvalue",
    "largest_of_inverse",
    "smallest_by_lobpcg",
    "smallest_by_minres",
]

Array = NDArray[np.float64]
Product = Callable[[Array], Array]

# Relative residual asked of Lanczos.  The error of the eigenvalue is smaller still: quadratic in it for isolated ones.
TOLERANCE = 1e-3

# Lanczos vectors and restarts.  More vectors converge in fewer products but hold more memory.
_VECTORS, _RESTARTS = 12, 60

# Iterations of LOBPCG and MINRES; what they have by then is a bound.
_LOBPCG_ITERATIONS, _MINRES_ITERATIONS = 30, 60


@dataclass(frozen=True, eq=False)
class Ritz:
    """An approximate eigenpair: ||vector|| = 1, residual relative to the value (infinite: ARPACK did not converge)."""

    value: float
    residual: float
    vector: Array


def largest_eigenvalue(product: Product, size: int) -> Ritz:
    """The eigenvalue of largest size of a symmetric operator v -> A v, (size,) -> (size,), size >= 2."""
    operator, start = _operator(product, size), np.random.default_rng(0).standard_normal(size)
    vectors = min(size, _VECTORS)
    try:
        values, basis = eigsh(operator, k=1, which="LM", v0=start, ncv=vectors, tol=TOLERANCE, maxiter=_RESTARTS)
    except ArpackNoConvergence:
        return Ritz(float("nan"), np.inf, start / np.linalg.norm(start))
    value, vector = float(values[0]), basis[:, 0]
    residual = float(np.linalg.norm(product(vector) - value * vector))
    return Ritz(value, residual / abs(value) if value else 0.0, vector)


def largest_of_inverse(make_inverse: Callable[[], Product], size: int) -> Ritz:
    """:func:`largest_eigenvalue` of an inverse; infinite where its factorisation finds the matrix singular."""
    try:
        return largest_eigenvalue(make_inverse(), size)
    except np.linalg.LinAlgError:
        return Ritz(np.inf, np.inf, np.zeros(size))


def extremes(product: Product, make_inverse: Callable[[], Product], size: int, *, definite: bool = True) -> Spectrum:
    """Largest and smallest absolute eigenvalue of a symmetric operator, from products with it and with its inverse."""
    return from_ends(size, largest_eigenvalue(product, size), largest_of_inverse(make_inverse, size), definite=definite)


def from_ends(size: int, top: Ritz, bottom: Ritz, *, definite: bool) -> Spectrum:
    """The spectrum from the largest eigenvalue and that of the inverse."""
    return Spectrum(
        rows=size,
        columns=size,
        largest=abs(top.value),
        smallest=1.0 / abs(bottom.value) if bottom.value else np.inf,
        accuracy=top.residual + bottom.residual,
        negative=0 if definite else None,
        route="iterative",
    )


def smallest_by_lobpcg(product: Product, precondition: Product, size: int) -> float:
    """An upper bound of the smallest eigenvalue of a positive definite operator."""
    operator, preconditioner = _operator(product, size), _operator(precondition, size)
    start = np.random.default_rng(0).standard_normal((size, 1))
    with warnings.catch_warnings():
        # not reaching the tolerance is an outcome here: the value is a bound, and is reported as one
        warnings.simplefilter("ignore", UserWarning)
        _, basis = lobpcg(operator, start, M=preconditioner, largest=False, tol=0.0, maxiter=_LOBPCG_ITERATIONS)
    vector = basis[:, 0] / np.linalg.norm(basis[:, 0])
    return float(vector @ product(vector))


def smallest_by_minres(product: Product, size: int) -> float:
    """An upper bound of the smallest absolute eigenvalue of a symmetric operator."""
    right = np.random.default_rng(0).standard_normal(size)
    x, _ = minres(_operator(product, size), right, maxiter=_MINRES_ITERATIONS, rtol=1e-12)
    return float(np.linalg.norm(product(x)) / np.linalg.norm(x))


def _operator(product: Product, size: int) -> LinearOperator:
    return LinearOperator((size, size), matvec=lambda v: product(np.ravel(v)), dtype=float)
