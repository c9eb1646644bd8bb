"""Covariance form: a Kalman prediction.

The cost-to-arrive V_k(dx) = 1/2 (dx - m_k)' P_k^-1 (dx - m_k) is carried by its mean and covariance, all samples
stacked.  With q = 1/(rho + mu),

    m_{k+1} = A_k m_k + B_k ubar_k + c_k,
    P_{k+1} = A_k P_k A_k' + q B_k B_k' + I/beta_k,       m_0 = 0, P_0 = 0,

controls being the common disturbance of all samples and 1/beta_k the process noise: none is single shooting.  The last
stage gives the covariance of the residual, S = A P A' + q B B' + I, the same matrix that the dual form assembles
directly, and eta_K = S^-1 rhat.  Means and the backward pass are shared (:mod:`.sweeps`).

As in the dual form the code carries (rho + mu) P_k, so that nothing is divided by a tiny rho + mu.

Cost: K N^2 n^3 + (N m)^3 / 3; memory (N n)^2.  For teaching and small N: :func:`predict_covariance` shows every P_k,
which the other forms never see.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from .condensed import Condensed
from .dual import DualFactor
from .subproblem import Subproblem

__all__ = ["CovarianceForm", "predict_covariance"]

Array = NDArray[np.float64]


def predict_covariance(subproblem: Subproblem, ridge: float) -> Iterator[Array]:
    """``ridge`` times P_1, ..., P_{K-1} and S, one after the other, each (N, n, N, n), for rho + mu = ``ridge``."""
    sub = subproblem
    samples = sub.num_samples
    covariance: Array | None = None
    for stage, variance in zip(sub.stages, (*sub.slack_variance, 1.0), strict=True):
        width = stage.num_outputs
        if covariance is None:
            covariance = np.zeros((samples, width, samples, width))
        else:
            half = _left(stage.A, covariance)
            covariance = _left(stage.A, half.transpose(2, 3, 0, 1))  # A (A P)' = A P A', P being symmetric
        stage.add_control_gram(covariance)
        size = samples * width
        covariance.reshape(size, size)[np.diag_indices(size)] += ridge * variance
        yield covariance


def _left(a: Array, covariance: Array) -> Array:
    """A P with A block diagonal: (N, n', n) and (N, n, N, n) -> (N, n', N, n)."""
    samples, width = covariance.shape[:2]
    product: Array = a @ covariance.reshape(samples, width, -1)
    return product.reshape(samples, a.shape[1], *covariance.shape[2:])


class CovarianceForm:
    """S by the whole recursion of covariances, which is run anew for every ridge."""

    def __init__(self, condensed: Condensed) -> None:
        self._condensed = condensed

    def factor(self, ridge: float) -> DualFactor:
        """Run the recursion and factor S for rho + mu = ``ridge``: from there on this is the dual form.

        Raises
        ------
        numpy.linalg.LinAlgError
            If S is not positive definite in floating point (ridge too small).
        """
        size = self._condensed.subproblem.residual.size
        for covariance in predict_covariance(self._condensed.subproblem, ridge):
            output = covariance
        triangle, info = lapack.dpotrf(output.reshape(size, size), lower=1, clean=0)
        if info != 0:
            raise np.linalg.LinAlgError(f"the output covariance is not positive definite with rho + mu = {ridge:.1e}")
        return DualFactor(self._condensed, triangle, ridge, lower=True)
