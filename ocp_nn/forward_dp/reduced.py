"""The subproblem with its states eliminated: what the forms factorise.

Write du = ubar + w with ubar = -rho u/(rho + mu).  With the sweeps of :mod:`.sweeps` (predicted residual rhat, Jacobian
J of the outputs in the controls, output noise Sigma), minimising over the states leaves (our derivation)

    min over w   (rho + mu)/2 ||w||^2 + 1/2 || rhat + J w ||^2 in the norm of Sigma^-1,

whose optimality conditions, with eta = Sigma^-1 (rhat + J w) the predicted residual, are the augmented system

    Sigma eta - J w = rhat,          (rho + mu) w + J' eta = 0.                                         (*)

The dual form eliminates w from (*), the primal form eliminates eta.  Neither needs J for the rest: J w is a forward
sweep and J' eta one back-propagation.  The same products give the residual of (*), hence iterative refinement for
whatever factorisation solved it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .subproblem import Arrays, Subproblem
from .sweeps import Batch

__all__ = ["Factor", "Reduced"]

Array = NDArray[np.float64]


class Factor(Protocol):
    """A factorisation of the augmented system (*)."""

    def factorize(self, ridge: float) -> None:
        """Factor for rho + mu = ``ridge``; ``numpy.linalg.LinAlgError`` if that fails in floating point."""

    def solve(self, first: Array, second: Array) -> tuple[Array, Array]:
        """(eta, w) with Sigma eta - J w = first, (N, m), and (rho + mu) w + J' eta = second, (P,)."""

    def precondition(self, second: Array) -> Array:
        """The w of :meth:`solve` for first = 0."""


class Reduced:
    """Products with J, J' and Sigma, the predicted residual, refinement, and the recovery of a whole step.

    Sweeps run over at most ``chunk`` samples at a time: what they need beyond their results does not grow with N.
    """

    def __init__(self, subproblem: Subproblem, *, chunk: int | None = None) -> None:
        self.subproblem = subproblem
        self._batch = Batch(subproblem.stages, subproblem.slack_variance)
        self._chunk = subproblem.num_samples if chunk is None else chunk
        ends = np.cumsum([stage.num_controls for stage in subproblem.stages]).tolist()
        self._cuts = [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    def damped(self, damping: float) -> Reduced:
        """This problem with another damping; what does not depend on it is kept."""
        other = copy(self)
        other.subproblem = self.subproblem.damped(damping)
        return other

    def batches(self) -> Iterator[tuple[slice, Batch]]:
        """The samples in chunks.  A single one keeps its sensitivities, several compute them anew in every sweep."""
        samples = self.subproblem.num_samples
        if samples <= self._chunk:
            yield slice(None), self._batch
            return
        for start in range(0, samples, self._chunk):
            rows = slice(start, min(start + self._chunk, samples))
            yield rows, self._batch.rows(rows)

    def _stack(self, sweep: Callable[[Batch, slice], Array]) -> Array:
        """A sweep that gives one row a sample, over all batches."""
        parts = [sweep(batch, rows) for rows, batch in self.batches()]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def split(self, flat: Array) -> Arrays:
        """A vector (P,) of all controls, one view a stage."""
        return tuple([flat[cut] for cut in self._cuts])

    def predicted_residual(self, mean_controls: Arrays | None, gaps: Arrays) -> Array:
        """rhat, (N, m), from ubar (None: zero) and the K gaps c_0..c_{K-2}, r."""
        return self._stack(lambda batch, rows: batch.predict(mean_controls, [gap[rows] for gap in gaps]))

    def squared_size(self) -> float:
        """The trace of J' Sigma^-1 J."""
        return sum(batch.squared_size() for _, batch in self.batches())

    @property
    def sensitivities(self) -> Arrays:
        """Psi_k of all samples."""
        return self._batch.output_sensitivities

    @property
    def noise(self) -> Array:
        """Sigma of all samples, (N, m, m)."""
        return self._batch.noise

    def tangent(self, w: Array) -> Array:
        """J w: (P,) -> (N, m)."""
        steps = self.split(w)
        return self._stack(lambda batch, _: batch.tangent(steps))

    def adjoint(self, eta: Array) -> Array:
        """J' eta: (N, m) -> (P,)."""
        parts = [batch.adjoint(eta[rows]) for rows, batch in self.batches()]
        return parts[0] if len(parts) == 1 else np.sum(parts, axis=0)

    def noise_product(self, eta: Array) -> Array:
        """Sigma eta, (N, m)."""
        return self._stack(lambda batch, rows: batch.noise_product(eta[rows]))

    def noise_solve(self, right: Array) -> Array:
        """Sigma^-1 right, (N, m)."""
        return self._stack(lambda batch, rows: batch.noise_solve(right[rows]))

    def solve(self, factor: Factor, rhat: Array, refinements: int) -> tuple[Array, Array]:
        """(eta, w) of (*), improved by ``refinements`` rounds of iterative refinement."""
        eta, w = factor.solve(rhat, np.zeros(self.subproblem.num_controls))
        for _ in range(refinements):
            first = rhat - self.noise_product(eta) + self.tangent(w)
            second = -self.subproblem.ridge * w - self.adjoint(eta)
            more_eta, more_w = factor.solve(first, second)
            eta, w = eta + more_eta, w + more_w
        return eta, w

    def recover(self, eta: Array, du: Arrays, gaps: Arrays) -> tuple[Arrays, Arrays]:
        """(dx, multipliers) of the whole step from eta = eta_K, (N, m), its du and the K gaps."""
        sub = self.subproblem
        if sub.num_samples <= self._chunk:
            return self._batch.recover(du, eta, gaps)
        dx = (np.zeros((sub.num_samples, sub.stages[0].num_inputs)), *map(np.empty_like, gaps[:-1]))
        etas = (*map(np.empty_like, gaps[:-1]), eta)
        for rows, batch in self.batches():
            some_dx, some_etas = batch.recover(du, eta[rows], [gap[rows] for gap in gaps])
            for whole, part in zip((*dx[1:], *etas[:-1]), (*some_dx[1:], *some_etas[:-1]), strict=True):
                whole[rows] = part
        return dx, etas
