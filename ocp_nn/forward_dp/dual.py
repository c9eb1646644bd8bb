"""Dual form: carry only the output covariance S, of size N m x N m.

Eliminating w = -q J' eta, q = 1/(rho + mu), from the augmented system of :mod:`.reduced` leaves

    S eta = rhat,      S = Sigma + q J J' = I + sum_k Psi_k Psi_k'/beta_k + q sum_k (Psi_k B_k)(Psi_k B_k)',

the covariance of the network's outputs when controls have variance q and states process noise 1/beta_k.
sum_k G_k G_k' is the empirical neural tangent kernel.  For a dense stage its block is the entrywise product of two small Gram
matrices, so the sensitivities are never formed (:meth:`ocp_nn.linearize.DenseStage.add_output_gram`).

Cost: K N^2 (m^2 n + n) + (N m)^3 / 3.  Good when N m <= P.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from .reduced import Reduced

__all__ = ["DualFactor"]

Array = NDArray[np.float64]


class DualFactor:
    """Cholesky factor of S.  The kernel does not depend on the damping and is kept for further dampings."""

    def __init__(self, reduced: Reduced) -> None:
        self._reduced = reduced
        size = reduced.subproblem.num_samples * reduced.subproblem.num_outputs
        self.kernel = np.zeros((size, size))
        for stage, psi in zip(reduced.subproblem.stages, reduced.output_sensitivities, strict=True):
            stage.add_output_gram(psi, self.kernel)
        self._cholesky: Array = self.kernel

    def factorize(self, ridge: float) -> None:
        """Factor S for rho + mu = ``ridge``.

        Raises
        ------
        numpy.linalg.LinAlgError
            If S is not positive definite in floating point (ridge too small).
        """
        reduced = self._reduced
        samples, outputs = reduced.subproblem.residual.shape
        covariance = self.kernel * (1.0 / ridge)
        blocks = covariance.reshape(samples, outputs, samples, outputs)
        index = np.arange(samples)
        blocks[index, :, index, :] += reduced.output_noise
        # the lower triangle in row-major order is the upper one in LAPACK's column-major order
        factor, info = lapack.dpotrf(covariance.T, lower=0, overwrite_a=1, clean=0)
        if info != 0:
            raise np.linalg.LinAlgError(f"the output covariance is not positive definite with rho + mu = {ridge:.1e}")
        self._cholesky, self._ridge = factor, ridge

    def solve(self, first: Array, second: Array) -> tuple[Array, Array]:
        reduced, q = self._reduced, 1.0 / self._ridge
        right = first + q * reduced.tangent(second) if second.any() else first
        eta, _ = lapack.dpotrs(self._cholesky, right.reshape(-1), lower=0)
        eta = eta.reshape(first.shape)
        return eta, q * (second - reduced.adjoint(eta))
