"""Primal form: carry only the reduced normal matrix in the controls, of size P x P.

Eliminating theta = Sigma^-1 (rhat + J w) from the augmented system of :mod:`.condensed` leaves the ridge problem

    H w = -J' Sigma^-1 rhat,      H = diag(rho_b + mu) + J' Sigma^-1 J.

Sigma is block diagonal, so H is a sum over samples: whiten each sample's rows of J by the Cholesky factor of its
block of Sigma and accumulate, a chunk of samples at a time.  Memory does not grow with N.  ``orthogonal=True`` carries
the R factor of the whitened rows, by QR of R stacked on the next chunk, instead of their Gram matrix: slower, and
accurate where the normal equations square a large condition number.

Where every stage is dense and M is three or more, the Gram matrix comes from its Kronecker structure
(:mod:`.kronecker`).

Cost: N M P^2 + P^3 / 3, twice that by QR, and without the factor M by Kronecker products.  Good when P < N M.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, lapack

from .condensed import Condensed, Solution
from .kronecker import is_kronecker, normal_matrix
from .subproblem import Subproblem

__all__ = ["PrimalFactor", "PrimalForm", "stack_on_triangle"]

Array = NDArray[np.float64]


class PrimalForm:
    """The Gram matrix J' Sigma^-1 J, or its R factor, which does not depend on the damping."""

    def __init__(self, condensed: Condensed, *, orthogonal: bool = False) -> None:
        self._condensed = condensed
        self._orthogonal = orthogonal
        size = condensed.subproblem.num_controls
        if not orthogonal and is_kronecker(condensed.subproblem):
            self.gram = normal_matrix(condensed.batch)
            return
        self.gram = np.zeros((size, size), order="F")  # its upper triangle
        for _, batch in condensed.batches():
            self._accumulate(batch.whitened_jacobian())

    def _accumulate(self, rows: Array) -> None:
        if self._orthogonal:
            self.gram = stack_on_triangle(self.gram, rows)
        else:
            self.gram = blas.dsyrk(1.0, rows.T, beta=1.0, c=self.gram, overwrite_c=1)

    def factor(self, subproblem: Subproblem) -> PrimalFactor:
        """The Cholesky factor of H.

        Raises
        ------
        numpy.linalg.LinAlgError
            If H is not positive definite in floating point (ridge too small).
        """
        if self._orthogonal:
            decay = np.sqrt(subproblem.ridge_vector) * np.eye(len(self.gram))
            return PrimalFactor(self._condensed, stack_on_triangle(self.gram, decay, triangular=True))
        matrix = self.gram.copy(order="F")
        matrix[np.diag_indices_from(matrix)] += subproblem.ridge_vector
        triangle, info = lapack.dpotrf(matrix, lower=0, overwrite_a=1, clean=0)
        if info != 0:
            raise np.linalg.LinAlgError(
                f"the normal matrix is not positive definite with rho + mu = {subproblem.ridge:.1e}"
            )
        return PrimalFactor(self._condensed, triangle)


@dataclass(frozen=True, eq=False)
class PrimalFactor:
    """The upper Cholesky factor of H."""

    condensed: Condensed
    triangle: Array

    def solve(self, first: Array, second: Array) -> Solution:
        condensed = self.condensed
        right = second - condensed.adjoint(condensed.noise_solve(first)) if first.any() else second
        w = self.precondition(right)
        return Solution(condensed.noise_solve(first + condensed.tangent(w)), w)

    def precondition(self, second: Array) -> Array:
        w: Array = lapack.dpotrs(self.triangle, second, lower=0)[0]
        return w


# Columns that LAPACK's blocked triangular-pentagonal QR eliminates at a time (measured: 16 to 64 are alike).
_QR_BLOCK = 32


def stack_on_triangle(triangle: Array, rows: Array, *, triangular: bool = False) -> Array:
    """R of the QR factorisation of a triangle stacked on rows, which may be an upper triangle themselves."""
    block = min(_QR_BLOCK, len(triangle))
    factor, _, _, info = lapack.dtpqrt(len(rows) if triangular else 0, block, triangle, rows)
    if info != 0:
        raise ValueError(f"dtpqrt refused argument {-info}")
    return np.asfortranarray(np.triu(factor))
