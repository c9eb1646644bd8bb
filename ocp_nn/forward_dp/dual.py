"""Dual form: carry only the covariance of the term rows, of size N M x N M.

Eliminating w = (rho + mu)^-1 (-J' theta) from the augmented system of :mod:`.condensed` leaves

    S theta = rhat,      S = Sigma + sum_b J_b J_b'/(rho_b + mu),

the covariance of the outputs when controls have variance 1/(rho + mu) and states process noise 1/beta_k.  With one
term and a block a stage, sum_k (Psi_k B_k)(Psi_k B_k)' is the empirical neural tangent kernel.  For a dense stage and
each pair of outputs it is the entrywise product (Xt_k Xt_k') o (E_k E_k') of two small Gram matrices, Xt = [x, 1] and
E = Psi diag(phi'), so the sensitivities in the controls are never formed
(:meth:`ocp_nn.network.linear_stages.DenseStage.add_output_gram`).  A block that several stages share needs its rows
written out.

The code factors T = ridge S with ridge the smallest rho_b + mu: the kernel is kept as it is, and no quantity is divided
by a tiny rho + mu before the factorisation.

Cost: K N^2 (M^2 n + n) + (N M)^3 / 3.  Good when N M <= P.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from ..network.linear_stages import add_gram
from .condensed import Condensed, Solution
from .subproblem import Subproblem
from .sweeps import Use, write_rows

__all__ = ["DualFactor", "DualForm"]

Array = NDArray[np.float64]


class DualForm:
    """The kernels sum_b J_b J_b' of the blocks with one weight decay, which do not depend on the damping."""

    def __init__(self, condensed: Condensed) -> None:
        self._condensed = condensed
        sub = condensed.subproblem
        rows = sub.num_rows
        size = sub.num_samples * rows
        self.kernels = {rho: np.zeros((size, size)) for rho in dict.fromkeys(sub.decays)}  # lower triangles
        for block, places in condensed.batch.uses():
            _add_kernel(self.kernels[sub.decays[block]], places, rows)

    def factor(self, subproblem: Subproblem) -> DualFactor:
        """The Cholesky factor of T.

        Raises
        ------
        numpy.linalg.LinAlgError
            If T is not positive definite in floating point (ridge too small).
        """
        samples, rows, ridge = subproblem.num_samples, subproblem.num_rows, subproblem.ridge
        matrix = self._weighted(subproblem)
        blocks = matrix.reshape(samples, rows, samples, rows)
        diagonal = np.einsum("iaib->iab", blocks)  # a view
        diagonal += ridge * self._condensed.noise
        # the lower triangle in row-major order is the upper one in LAPACK's column-major order
        triangle, info = lapack.dpotrf(matrix.T, lower=0, overwrite_a=1, clean=0)
        if info != 0:
            raise np.linalg.LinAlgError(f"the output covariance is not positive definite with rho + mu = {ridge:.1e}")
        return DualFactor(self._condensed, triangle, subproblem)

    def _weighted(self, subproblem: Subproblem) -> Array:
        """The kernels added up, relative to the smallest rho_b + mu."""
        (first, kernel), *others = self.kernels.items()
        ridge, damping = subproblem.ridge, subproblem.damping
        if not others:
            return kernel.copy()
        matrix = (ridge / (first + damping)) * kernel
        for rho, another in others:
            matrix += (ridge / (rho + damping)) * another
        return matrix


def _add_kernel(kernel: Array, places: list[Use], num_rows: int) -> None:
    """Add J_b J_b' to the lower triangle."""
    if len(places) == 1:
        stage, psi, first = places[0]
        stage.add_output_gram(_among_all(psi, first, num_rows), kernel)
        return
    rows = np.empty((places[0].stage.num_samples, num_rows, places[0].stage.num_controls))
    write_rows(places, rows)
    add_gram(kernel, rows)


def _among_all(psi: Array, first: int, num_rows: int) -> Array:
    """Rows that begin at row ``first``, with zeros in all others."""
    samples, some, width = psi.shape
    if some == num_rows:
        return psi
    rows = np.zeros((samples, num_rows, width))
    rows[:, first : first + some] = psi
    return rows


@dataclass(frozen=True, eq=False)
class DualFactor:
    """The Cholesky factor of T or of S: ``triangle`` is its upper one, or the lower one if ``lower``."""

    condensed: Condensed
    triangle: Array
    subproblem: Subproblem
    lower: bool = False

    def solve(self, first: Array, second: Array) -> Solution:
        ridge, ridges = self.subproblem.ridge, self.subproblem.ridge_vector
        right = ridge * first
        if second.any():
            right += self.condensed.tangent(second if isinstance(ridges, float) else second * (ridge / ridges))
        flat, _ = lapack.dpotrs(self.triangle, right.reshape(-1), lower=self.lower)
        theta = flat.reshape(first.shape)
        etas = self.condensed.back_propagate(theta)
        return Solution(theta, (second - self.condensed.pull(etas)) / ridges, etas)

    def precondition(self, second: Array) -> Array:
        return self.solve(np.zeros((self.subproblem.num_samples, self.subproblem.num_rows)), second).w
