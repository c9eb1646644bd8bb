"""Covariance form: a Kalman prediction.

The cost-to-arrive V_k(dx) = 1/2 (dx - m_k)' P_k^-1 (dx - m_k) is carried by its mean and covariance, all samples
stacked.  With q = 1/(rho + mu),

    m_{k+1} = A_k m_k + B_k ubar_k + c_k,
    P_{k+1} = A_k P_k A_k' + q B_k B_k' + I/beta_k,       m_0 = g_0, P_0 = I/alpha (0 for a known x_0),

controls being the common disturbance of all samples and 1/beta_k the process noise: none is single shooting.  A term
adds rows C x + D u + r with noise one; the last one gives S, the covariance of all rows, the same matrix that the dual
form assembles directly, and theta = S^-1 rhat.  A control that several stages share cannot be forgotten as a
disturbance after one of them: it is carried beside the state, jointly with it, and so are the rows of earlier terms.
Means and the backward pass are shared (:mod:`.sweeps`).

As in the dual form the code carries (rho + mu) P_k, so that nothing is divided by a tiny rho + mu.

Cost: K N^2 n^3 + (N m)^3 / 3; memory (N n)^2.  For teaching and small N: :func:`predict_covariance` shows every P_k,
which the other forms never see.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from ..network.linear_stages import LinearStage
from .condensed import Condensed
from .dual import DualFactor
from .subproblem import Subproblem

__all__ = ["CovarianceForm", "predict_covariance"]

Array = NDArray[np.float64]


def predict_covariance(subproblem: Subproblem) -> Iterator[Array]:
    """``ridge`` times P_1, ..., P_{K-1}, each (N, n, N, n), then S, (N, M, N, M), with ridge the smallest rho_b + mu.

    Beside the states the recursion carries what later stages still meet: the controls that several of them share, and
    the rows of the terms so far.  In a feed-forward network that is nothing.
    """
    sub = subproblem
    joint = _Joint(sub)
    for k in range(len(sub.dynamics) + 1):
        for term in (term for term in sub.terms if term.stage == k):
            joint = joint.measured(term.output, term.block)
        if k < len(sub.dynamics):
            joint = joint.moved(sub.dynamics[k], sub.blocks[k], sub.slack_variance[k])
            yield joint.state_covariance
    yield joint.rows_covariance


class _Joint:
    """The covariance of a state x and of what is carried beside it: shared controls, then rows of terms.

    Everything is ``ridge`` times a covariance.  ``state`` is (N n, N n) or None for a known x_0; ``cross`` (N n, a) and
    ``carried`` (a, a) belong to the carried numbers.
    """

    def __init__(self, subproblem: Subproblem) -> None:
        sub = self._sub = subproblem
        uses = [*sub.blocks, *(term.block for term in sub.terms)]
        self._shared: dict[int, slice] = {}
        variances: list[Array] = []
        for block, u in enumerate(sub.controls):
            if uses.count(block) > 1:
                start = sum(map(len, variances))
                self._shared[block] = slice(start, start + len(u))
                variances.append(np.full(len(u), sub.ridge / sub.ridges[block]))
        self.carried = np.diag(np.concatenate(variances)) if variances else np.zeros((0, 0))
        self._controls = len(self.carried)
        size = sub.num_samples * sub.num_inputs
        known = sub.initial_variance == 0
        self.state = None if known else sub.ridge * sub.initial_variance * np.eye(size)
        self.cross = np.zeros((size, len(self.carried)))

    @property
    def state_covariance(self) -> Array:
        assert self.state is not None
        return self.state.reshape(
            self._sub.num_samples, -1, self._sub.num_samples, len(self.state) // self._sub.num_samples
        )

    @property
    def rows_covariance(self) -> Array:
        """S, rows in the order of samples and then terms."""
        samples = self._sub.num_samples
        order, start = [], 0
        for term in self._sub.terms:
            size = samples * term.output.num_outputs
            order.append(np.arange(start, start + size).reshape(samples, -1))
            start += size
        where = np.concatenate(order, axis=1).ravel()
        covariance = self.carried[self._controls :, self._controls :]
        if len(self._sub.terms) > 1:
            covariance = covariance[np.ix_(where, where)]
        rows = self._sub.num_rows
        return covariance.reshape(samples, rows, samples, rows)

    def _pushed(self, stage: LinearStage, block: int, variance: float) -> tuple[Array, Array]:
        """Covariance of A x + B u + noise, and with what is carried."""
        size = stage.num_samples * stage.num_outputs
        cross = np.zeros((size, len(self.carried))) if self.state is None else _left(stage.A, self.cross)
        if self.state is None:
            covariance = np.zeros((size, size))
        else:
            # A (A P)' = A P A', P being symmetric
            covariance = _left(stage.A, np.ascontiguousarray(_left(stage.A, self.state).T))
        if block in self._shared:
            b, where = stage.B.reshape(size, -1), self._shared[block]
            with_control = cross[:, where] @ b.T  # A X_u B'
            cross = cross + b @ self.carried[where]
            covariance += with_control + with_control.T + b @ self.carried[where, where] @ b.T
        else:
            self._add_own_control(stage, block, covariance)
        covariance[np.diag_indices(size)] += self._sub.ridge * variance
        return covariance, cross

    def _add_own_control(self, stage: LinearStage, block: int, covariance: Array) -> None:
        shape = (stage.num_samples, stage.num_outputs)
        weight = self._sub.ridge / self._sub.ridges[block]
        if weight == 1.0:
            stage.add_control_gram(covariance.reshape(*shape, *shape))
        else:
            gram = np.zeros((*shape, *shape))
            stage.add_control_gram(gram)
            covariance += weight * gram.reshape(covariance.shape)

    def moved(self, stage: LinearStage, block: int, variance: float) -> _Joint:
        """After a stage of the dynamics."""
        after = copy(self)
        after.state, after.cross = self._pushed(stage, block, variance)
        return after

    def measured(self, output: LinearStage, block: int) -> _Joint:
        """With the rows of a term, whose own noise is one."""
        rows, cross = self._pushed(output, block, 1.0)
        after = copy(self)
        after.carried = np.block([[self.carried, cross.T], [cross, rows]]) if len(self.carried) else rows
        after.cross = np.hstack([self.cross, self._state_with(output, block)]) if self._goes_on(output) else self.cross
        return after

    def _goes_on(self, output: LinearStage) -> bool:
        """Whether the state is looked at once more after a term."""
        return output is not self._sub.terms[-1].output

    def _state_with(self, output: LinearStage, block: int) -> Array:
        """Covariance of the state with the rows of a term."""
        size = output.num_samples * output.num_outputs
        together = np.zeros((len(self.cross), size))
        if self.state is not None:
            together = np.ascontiguousarray(_left(output.A, self.state).T)
        if block in self._shared:
            together += self.cross[:, self._shared[block]] @ output.B.reshape(size, -1).T
        return together


def _left(a: Array, matrix: Array) -> Array:
    """A M with A block diagonal: (N, n', n) and (N n, c) -> (N n', c)."""
    samples, height, width = a.shape
    product: Array = a @ matrix.reshape(samples, width, -1)
    return product.reshape(samples * height, -1)


class CovarianceForm:
    """S by the whole recursion of covariances, which is run anew for every ridge."""

    def __init__(self, condensed: Condensed) -> None:
        self._condensed = condensed

    def factor(self, subproblem: Subproblem) -> DualFactor:
        """Run the recursion and factor S: from there on this is the dual form.

        Raises
        ------
        numpy.linalg.LinAlgError
            If S is not positive definite in floating point (ridge too small).
        """
        for covariance in predict_covariance(subproblem):
            output = covariance
        size = subproblem.num_samples * subproblem.num_rows
        triangle, info = lapack.dpotrf(output.reshape(size, size), lower=1, clean=0)
        if info != 0:
            ridge = subproblem.ridge
            raise np.linalg.LinAlgError(f"the output covariance is not positive definite with rho + mu = {ridge:.1e}")
        return DualFactor(self._condensed, triangle, subproblem, lower=True)
