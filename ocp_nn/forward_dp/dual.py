"""Dual form: carry only the output covariance S, of size N m x N m.

Eliminating w = -q J' eta, q = 1/(rho + mu), from the augmented system of :mod:`.reduced` leaves

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

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from .reduced import Reduced

__all__ = ["DualFactor"]

Array = NDArray[np.float64]


class DualFactor:
    """Cholesky factor of T.  The kernel does not depend on the damping and is kept for further dampings."""

    def __init__(self, reduced: Reduced) -> None:
        self._reduced = reduced
        size = reduced.subproblem.residual.size
        self.kernel = np.zeros((size, size))  # its lower triangle
        for stage, psi in zip(reduced.subproblem.stages, reduced.sensitivities, strict=True):
            stage.add_output_gram(psi, self.kernel)
        self._matrix = np.empty_like(self.kernel)

    def factorize(self, ridge: float) -> None:
        """Factor T for rho + mu = ``ridge``.

        Raises
        ------
        numpy.linalg.LinAlgError
            If T is not positive definite in floating point (ridge too small).
        """
        samples, outputs = self._reduced.subproblem.residual.shape
        np.copyto(self._matrix, self.kernel)
        blocks = self._matrix.reshape(samples, outputs, samples, outputs)
        diagonal = np.einsum("iaib->iab", blocks)  # a view
        diagonal += ridge * self._reduced.noise
        # the lower triangle in row-major order is the upper one in LAPACK's column-major order
        _, info = lapack.dpotrf(self._matrix.T, lower=0, overwrite_a=1, clean=0)
        if info != 0:
            raise np.linalg.LinAlgError(f"the output covariance is not positive definite with rho + mu = {ridge:.1e}")
        self._ridge = ridge

    def solve(self, first: Array, second: Array) -> tuple[Array, Array]:
        right = self._ridge * first
        if second.any():
            right += self._reduced.tangent(second)
        flat, _ = lapack.dpotrs(self._matrix.T, right.reshape(-1), lower=0)
        eta = flat.reshape(first.shape)
        return eta, (second - self._reduced.adjoint(eta)) / self._ridge

    def precondition(self, second: Array) -> Array:
        return self.solve(np.zeros_like(self._reduced.subproblem.residual), second)[1]
