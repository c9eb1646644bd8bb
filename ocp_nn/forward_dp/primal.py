"""Primal form: carry only the reduced normal matrix in the controls, of size P x P.

Eliminating eta = Sigma^-1 (rhat + J w) from the augmented system of :mod:`.reduced` leaves the ridge problem

    H w = -J' Sigma^-1 rhat,      H = (rho + mu) I + J' Sigma^-1 J.

Sigma is block diagonal, so H is a sum over samples: whiten each sample's rows of J by the Cholesky factor of its
block of Sigma and accumulate, a chunk of samples at a time.  Memory does not grow with N.  ``orthogonal=True`` carries
the R factor of the whitened rows, by QR of R stacked on the next chunk, instead of their Gram matrix: slower, and
accurate where the normal equations square a large condition number.

Cost: N m P^2 + P^3 / 3, twice that by QR.  Good when P < N m.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, lapack

from .reduced import Reduced

__all__ = ["PrimalFactor"]

Array = NDArray[np.float64]


class PrimalFactor:
    """Cholesky factor of H.  The Gram (or R) matrix does not depend on the damping and is kept."""

    def __init__(self, reduced: Reduced, *, orthogonal: bool = False) -> None:
        self._reduced = reduced
        self._orthogonal = orthogonal
        size = reduced.subproblem.num_controls
        self.gram = np.zeros((size, size), order="F")  # its upper triangle
        for _, batch in reduced.batches():
            self._accumulate(batch.whitened_jacobian())
        self._factor = np.empty_like(self.gram)

    def _accumulate(self, rows: Array) -> None:
        if self._orthogonal:
            self.gram = _stack_on_triangle(self.gram, rows)
        else:
            self.gram = blas.dsyrk(1.0, rows.T, beta=1.0, c=self.gram, overwrite_c=1)

    def factorize(self, ridge: float) -> None:
        """Factor H for rho + mu = ``ridge``.

        Raises
        ------
        numpy.linalg.LinAlgError
            If H is not positive definite in floating point (ridge too small).
        """
        if self._orthogonal:
            decay = np.sqrt(ridge) * np.eye(len(self.gram))
            self._factor = _stack_on_triangle(self.gram, decay, triangular=True)
            return
        np.copyto(self._factor, self.gram)
        self._factor[np.diag_indices_from(self._factor)] += ridge
        _, info = lapack.dpotrf(self._factor, lower=0, overwrite_a=1, clean=0)
        if info != 0:
            raise np.linalg.LinAlgError(f"the normal matrix is not positive definite with rho + mu = {ridge:.1e}")

    def solve(self, first: Array, second: Array) -> tuple[Array, Array]:
        reduced = self._reduced
        right = second - reduced.adjoint(reduced.noise_solve(first)) if first.any() else second
        w = self.precondition(right)
        return reduced.noise_solve(first + reduced.tangent(w)), w

    def precondition(self, second: Array) -> Array:
        w: Array = lapack.dpotrs(self._factor, second, lower=0)[0]
        return w


# Columns that LAPACK's blocked triangular-pentagonal QR eliminates at a time (measured: 16 to 64 are alike).
_QR_BLOCK = 32


def _stack_on_triangle(triangle: Array, rows: Array, *, triangular: bool = False) -> Array:
    """R of the QR factorisation of a triangle stacked on rows, which may be an upper triangle themselves."""
    block = min(_QR_BLOCK, len(triangle))
    factor, _, _, info = lapack.dtpqrt(len(rows) if triangular else 0, block, triangle, rows)
    if info != 0:
        raise ValueError(f"dtpqrt refused argument {-info}")
    return np.asfortranarray(np.triu(factor))
