"""The sweeps over the stages that every form shares: forward means, back-propagation, output sensitivities.

Forward, the mean of the cost-to-arrive is a rollout of the linearised stages (our derivation),

    m_0 = 0,   m_{k+1} = A_k m_k + B_k ubar_k + c_k,          rhat = A_{K-1} m_{K-1} + B_{K-1} ubar_{K-1} + r,

backward, eta_k = A_k' eta_{k+1} is back-propagation, and with v_k = 1/beta_k the step in the states is

    dx_0 = 0,   dx_{k+1} = A_k dx_k + B_k du_k + c_k - v_k eta_{k+1}.

The output sensitivities are Psi_{K-1} = I, Psi_{k-1} = Psi_k A_k; the Jacobian of the outputs in all controls is
J = [Psi_k B_k]_k, and slack in the dynamics arrives there as noise of covariance Sigma = I + sum_k v_k Psi_k Psi_k',
one m x m block a sample.

Only the controls couple the samples.  A :class:`Batch` is therefore any part of them: large data go through the sweeps
one cache-sized batch after the other.  Nothing here depends on rho or mu.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..linearize import LinearStage

__all__ = ["Batch"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples of a subproblem.

    Attributes
    ----------
    stages : tuple of K LinearStage
    slack_variance : tuple of K - 1 floats
        v_k = 1/beta_k; zero for an eliminated state.
    """

    stages: tuple[LinearStage, ...]
    slack_variance: tuple[float, ...]

    @property
    def has_slack(self) -> bool:
        """Whether a state is a variable; Sigma is the identity otherwise."""
        return any(variance > 0 for variance in self.slack_variance)

    def rows(self, samples: slice) -> Batch:
        """Some of these samples (views)."""
        return Batch(tuple(stage.rows(samples) for stage in self.stages), self.slack_variance)

    @property
    def _output_shape(self) -> tuple[int, int]:
        return self.stages[-1].num_samples, self.stages[-1].num_outputs

    def predict(self, mean_controls: Sequence[Array] | None, gaps: Sequence[Array]) -> Array:
        """rhat, (N, m): the mean recursion with the controls ubar (None: zero) and the K gaps c_0..c_{K-2}, r."""
        mean = gaps[0] if mean_controls is None else self.stages[0].apply(None, mean_controls[0]) + gaps[0]
        for k in range(1, len(self.stages)):
            stage = self.stages[k]
            mean = stage.apply_state(mean) if mean_controls is None else stage.apply(mean, mean_controls[k])
            mean += gaps[k]
        return mean

    def tangent(self, steps: Sequence[Array]) -> Array:
        """J w, (N, m), for one w_k a stage."""
        dx = None
        for stage, w in zip(self.stages, steps, strict=True):
            dx = stage.apply(dx, w)
        assert dx is not None
        return dx

    def back_propagate(self, eta: Array) -> Arrays:
        """eta_1..eta_K from eta_K = ``eta``, (N, m)."""
        etas = [eta]
        for stage in reversed(self.stages[1:]):
            etas.append(stage.transpose_state(etas[-1]))
        return tuple(reversed(etas))

    def pull(self, etas: Sequence[Array]) -> Array:
        """J' eta, (P,), from eta_1..eta_K."""
        return np.concatenate([stage.transpose_control(e) for stage, e in zip(self.stages, etas, strict=True)])

    def adjoint(self, eta: Array) -> Array:
        """J' eta: (N, m) -> (P,)."""
        return self.pull(self.back_propagate(eta))

    @cached_property
    def output_sensitivities(self) -> Arrays:
        """Psi_0..Psi_{K-1}, each (N, m, n_{k+1})."""
        samples, m = self._output_shape
        psi = [np.broadcast_to(np.eye(m), (samples, m, m))]
        for stage in reversed(self.stages[1:]):
            psi.append(stage.carry_output(psi[-1]))
        return tuple(reversed(psi))

    @cached_property
    def noise(self) -> Array:
        """Sigma, (N, m, m)."""
        samples, m = self._output_shape
        noise = np.zeros((samples, m, m))
        noise += np.eye(m)
        for psi, variance in zip(self.output_sensitivities[:-1], self.slack_variance, strict=True):
            if variance > 0:
                noise += variance * (psi @ psi.transpose(0, 2, 1))
        return noise

    def noise_product(self, eta: Array) -> Array:
        """Sigma eta, (N, m)."""
        if not self.has_slack:
            return eta
        product: Array = (self.noise @ eta[:, :, None])[:, :, 0]
        return product

    def noise_solve(self, right: Array) -> Array:
        """Sigma^-1 right, (N, m)."""
        if not self.has_slack:
            return right
        if right.shape[1] == 1:
            return right / self.noise[:, 0]
        solution = np.linalg.solve(self.noise, right[:, :, None])[:, :, 0]
        return np.asarray(solution, dtype=float)

    def whitened_jacobian(self) -> Array:
        """L^-1 J with Sigma = L L' sample by sample, (N m, P)."""
        ends = np.cumsum([stage.num_controls for stage in self.stages])
        rows = np.empty((*self._output_shape, ends[-1]))
        for stage, psi, end in zip(self.stages, self._whitened_sensitivities, ends, strict=True):
            stage.write_control_rows(psi, rows[:, :, end - stage.num_controls : end])
        return rows.reshape(-1, ends[-1])

    def squared_size(self) -> float:
        """The sum of the squared entries of L^-1 J: the trace of J' Sigma^-1 J."""
        psis = self._whitened_sensitivities
        return sum(stage.squared_size(psi) for stage, psi in zip(self.stages, psis, strict=True))

    @property
    def _whitened_sensitivities(self) -> Arrays:
        if self.has_slack:
            return _whiten(self.noise, self.output_sensitivities)
        return self.output_sensitivities

    def recover(self, du: Sequence[Array], etas: Sequence[Array], gaps: Sequence[Array]) -> Arrays:
        """dx_0..dx_{K-1} from du, eta_1..eta_K and the gaps."""
        dx = [np.zeros((len(etas[-1]), self.stages[0].num_inputs))]
        for k, (stage, variance) in enumerate(zip(self.stages[:-1], self.slack_variance, strict=True)):
            following = stage.apply(dx[k] if k else None, du[k])
            following += gaps[k]
            if variance > 0:
                following -= variance * etas[k]
            dx.append(following)
        return tuple(dx)


def _whiten(noise: Array, psis: Arrays) -> Arrays:
    """L^-1 Psi_k with Sigma = L L', sample by sample."""
    if noise.shape[1] == 1:
        scale = 1.0 / np.sqrt(noise)
        return tuple(scale * psi for psi in psis)
    root = np.linalg.cholesky(noise)
    return tuple(np.linalg.solve(root, psi) for psi in psis)
