"""Dual form: carry only the output covariance S, of size N m x N m.

Eliminating w = -q J' eta, q = 1/(rho + mu), from the augmented system of :mod:`.condensed` leaves

    S eta = rhat,      S = Sigma + q J J' = I + sum_k Psi_k Psi_k'/beta_k + q sum_k (Psi_k B_k)(Psi_k B_k)',

the covariance of the network's outputs when controls have variance q and states process noise 1/beta_k.
sum_k (Psi_k B_k)(Psi_k B_k)' is the empirical neural tangent kernel.  For a dense stage and each pair of outputs it is
the entrywise product (Xt_k Xt_k') o (E_k E_k') of two small Gram matrices, Xt = [x, 1] and E = Psi diag(phi'), so the
sensitivities in the controls are never formed (:meth:`ocp_nn.linearize.DenseStage.add_output_gram`).

The code factors T = (rho + mu) Sigma + J J', which is (rho + mu) S: the kernel is kept as it is, and no quantity is
divided by a tiny rho + mu before the factorisation.

Cost: K N^2 (m^2 n + n) + (N m)^3 / 3.  Good when N m <= P.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from .condensed import Condensed, Solution

__all__ = ["DualFactor", "DualForm"]

Array = NDArray[np.float64]


class DualForm:
    """The kernel J J', which does not depend on the damping."""

    def __init__(self, condensed: Condensed) -> None:
        self._condensed = condensed
        size = condensed.subproblem.residual.size
        self.kernel = np.zeros((size, size))  # its lower triangle
        for stage, psi in zip(condensed.subproblem.stages, condensed.sensitivities, strict=True):
            stage.add_output_gram(psi, self.kernel)

    def factor(self, ridge: float) -> DualFactor:
        """The Cholesky factor of T for rho + mu = ``ridge``.

        Raises
        ------
        numpy.linalg.LinAlgError
            If T is not positive definite in floating point (ridge too small).
        """
        samples, outputs = self._condensed.subproblem.residual.shape
        matrix = self.kernel.copy()
        blocks = matrix.reshape(samples, outputs, samples, outputs)
        diagonal = np.einsum("iaib->iab", blocks)  # a view
        diagonal += ridge * self._condensed.noise
        # the lower triangle in row-major order is the upper one in LAPACK's column-major order
        triangle, info = lapack.dpotrf(matrix.T, lower=0, overwrite_a=1, clean=0)
        if info != 0:
            raise np.linalg.LinAlgError(f"the output covariance is not positive definite with rho + mu = {ridge:.1e}")
        return DualFactor(self._condensed, triangle, ridge)


@dataclass(frozen=True, eq=False)
class DualFactor:
    """The Cholesky factor of T or of S: ``triangle`` is its upper one, or the lower one if ``lower``."""

    condensed: Condensed
    triangle: Array
    ridge: float
    lower: bool = False

    def solve(self, first: Array, second: Array) -> Solution:
        right = self.ridge * first
        if second.any():
            right += self.condensed.tangent(second)
        flat, _ = lapack.dpotrs(self.triangle, right.reshape(-1), lower=self.lower)
        eta = flat.reshape(first.shape)
        etas = self.condensed.back_propagate(eta)
        return Solution(eta, (second - self.condensed.pull(etas)) / self.ridge, etas)

    def precondition(self, second: Array) -> Array:
        return self.solve(np.zeros_like(self.condensed.subproblem.residual), second).w
