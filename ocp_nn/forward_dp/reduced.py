"""The subproblem with its states eliminated, and the two sweeps every form shares.

Write du = ubar + w with ubar = -rho u/(rho + mu).  Forward, the mean of the cost-to-arrive is a rollout of the
linearised stages (our derivation),

    m_0 = 0,   m_{k+1} = A_k m_k + B_k ubar_k + c_k,          rhat = A_{K-1} m_{K-1} + B_{K-1} ubar_{K-1} + r.

With the output sensitivities Psi_{K-1} = I, Psi_{k-1} = Psi_k A_k, and J = [Psi_k B_k]_k, minimising over the states leaves

    min over w   (rho + mu)/2 ||w||^2 + 1/2 || rhat + J w ||^2 in the norm of Sigma^-1,
    Sigma = I + sum_k Psi_k Psi_k' / beta_k       (block diagonal: one m x m block a sample),

whose optimality conditions, with eta = Sigma^-1 (rhat + J w) the predicted residual, are the augmented system

    Sigma eta - J w = rhat,          (rho + mu) w + J' eta = 0.                                         (*)

The dual form eliminates w from (*), the primal form eliminates eta.  Neither needs J itself for the rest:
J w is a forward sweep and J' eta one back-propagation.  Backward, eta_k = A_k' eta_{k+1} gives the multipliers; forward again,
dx_{k+1} = A_k dx_k + B_k du_k + c_k - eta_{k+1}/beta_k gives the states.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .subproblem import Arrays, Subproblem

__all__ = ["Factor", "Reduced"]

Array = NDArray[np.float64]


class Factor(Protocol):
    """A factorised augmented system (*)."""

    def solve(self, first: Array, second: Array) -> tuple[Array, Array]:
        """(eta, w) with Sigma eta - J w = first, (N, m), and (rho + mu) w + J' eta = second, (P,)."""


class Reduced:
    """Products with J, J' and Sigma, the predicted residual, and the recovery of a whole step.

    ``P`` below is the length of all controls together.  What needs the output sensitivities, whose size is that of
    all states times m, is done for at most ``chunk`` samples at a time.
    """

    def __init__(self, subproblem: Subproblem, *, chunk: int | None = None) -> None:
        self.subproblem = subproblem
        self._chunk = subproblem.num_samples if chunk is None else chunk
        self._ends = np.cumsum([stage.num_controls for stage in subproblem.stages])[:-1]

    def damped(self, damping: float) -> Reduced:
        """This problem with another damping; what does not depend on it is kept."""
        other = copy(self)
        other.subproblem = self.subproblem.damped(damping)
        other.__dict__.pop("predicted_residual", None)
        return other

    def pieces(self) -> Iterator[tuple[slice, Reduced]]:
        """This problem in chunks of samples; itself where one chunk holds them all."""
        for start in range(0, self.subproblem.num_samples, self._chunk):
            samples = slice(start, min(start + self._chunk, self.subproblem.num_samples))
            whole = samples == slice(0, self.subproblem.num_samples)
            yield samples, self if whole else Reduced(self.subproblem.rows(samples))

    def split(self, flat: Array) -> Arrays:
        """A vector (P,) of all controls, one view a stage."""
        return tuple(np.split(flat, self._ends))

    def tangent(self, w: Array) -> Array:
        """J w: (P,) -> (N, m)."""
        dx = None
        for stage, wk in zip(self.subproblem.stages, self.split(w), strict=True):
            dx = stage.apply(dx, wk)
        assert dx is not None
        return dx

    def back_propagate(self, eta: Array) -> Arrays:
        """eta_1..eta_K from eta_K = eta, (N, m)."""
        etas = [eta]
        for stage in reversed(self.subproblem.stages[1:]):
            etas.append(stage.transpose_state(etas[-1]))
        return tuple(reversed(etas))

    def adjoint(self, eta: Array) -> Array:
        """J' eta: (N, m) -> (P,)."""
        return self.control_adjoint(self.back_propagate(eta))

    def control_adjoint(self, etas: Arrays) -> Array:
        """B_k' eta_{k+1} of every stage, stacked."""
        stages = self.subproblem.stages
        return np.concatenate([stage.transpose_control(eta) for stage, eta in zip(stages, etas, strict=True)])

    @cached_property
    def predicted_residual(self) -> Array:
        """rhat, (N, m): the end of the mean recursion."""
        sub = self.subproblem
        mean = None
        for stage, u, gap in zip(sub.stages, sub.mean_controls, (*sub.gaps, sub.residual), strict=True):
            mean = stage.apply(mean, u)
            mean += gap
        assert mean is not None
        return mean

    @cached_property
    def output_sensitivities(self) -> Arrays:
        """Psi_0..Psi_{K-1}, each (N, m, n_{k+1})."""
        sub = self.subproblem
        m = sub.num_outputs
        psi = [np.broadcast_to(np.eye(m), (sub.num_samples, m, m))]
        for stage in reversed(sub.stages[1:]):
            psi.append(stage.carry_output(psi[-1]))
        return tuple(reversed(psi))

    @cached_property
    def output_noise(self) -> Array:
        """Sigma, (N, m, m)."""
        sub = self.subproblem
        m = sub.num_outputs
        noise = np.tile(np.eye(m), (sub.num_samples, 1, 1))
        for psi, variance in zip(self.output_sensitivities[:-1], sub.slack_variance, strict=True):
            if variance > 0:
                noise += variance * (psi @ psi.transpose(0, 2, 1))
        return noise

    def noise_product(self, eta: Array) -> Array:
        """Sigma eta, (N, m)."""
        out = np.empty_like(eta)
        for samples, piece in self.pieces():
            out[samples] = np.einsum("iab,ib->ia", piece.output_noise, eta[samples])
        return out

    def noise_solve(self, right: Array) -> Array:
        """Sigma^-1 right, (N, m)."""
        out = np.empty_like(right)
        for samples, piece in self.pieces():
            noise = piece.output_noise
            one = noise.shape[1] == 1
            out[samples] = (
                right[samples] / noise[:, 0] if one else np.linalg.solve(noise, right[samples, :, None])[..., 0]
            )
        return out

    def whitened_rows(self) -> Array:
        """L^-1 J with Sigma = L L' sample by sample, (N m, P)."""
        stages, psis = self.subproblem.stages, self.output_sensitivities
        if any(variance > 0 for variance in self.subproblem.slack_variance):
            root = np.linalg.cholesky(self.output_noise)
            one = root.shape[1] == 1
            psis = tuple(psi / root if one else np.linalg.solve(root, psi) for psi in psis)
        rows = [stage.control_rows(psi) for stage, psi in zip(stages, psis, strict=True)]
        return np.concatenate(rows, axis=2).reshape(-1, self.subproblem.num_controls)

    def solve(self, factor: Factor, refinements: int) -> tuple[Array, Array]:
        """(eta, w) of (*), improved by ``refinements`` rounds of iterative refinement."""
        rhat = self.predicted_residual
        eta, w = factor.solve(rhat, np.zeros(self.subproblem.num_controls))
        for _ in range(refinements):
            first = rhat - self.noise_product(eta) + self.tangent(w)
            second = -self.subproblem.ridge * w - self.adjoint(eta)
            more_eta, more_w = factor.solve(first, second)
            eta, w = eta + more_eta, w + more_w
        return eta, w

    def recover(self, eta: Array, w: Array) -> tuple[Arrays, Arrays, Arrays]:
        """(du, dx, multipliers) of the whole step from eta = eta_K, (N, m), and w, (P,)."""
        sub = self.subproblem
        etas = self.back_propagate(eta)
        du = tuple(ubar + wk for ubar, wk in zip(sub.mean_controls, self.split(w), strict=True))
        dx: list[Array] = [np.zeros((sub.num_samples, sub.stages[0].num_inputs))]
        for k, (stage, gap, variance) in enumerate(zip(sub.stages[:-1], sub.gaps, sub.slack_variance, strict=True)):
            following = stage.apply(dx[k] if k else None, du[k])
            following += gap
            if variance > 0:
                following -= variance * etas[k]
            dx.append(following)
        return du, tuple(dx), etas
