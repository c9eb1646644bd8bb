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
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .subproblem import Arrays, Subproblem
from .sweeps import Batch

__all__ = ["Condensed", "Factor", "Form", "Solution"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Solution:
    """A solution of the augmented system (*).

    Attributes
    ----------
    eta : array (N, m)
        eta_K.
    w : array (P,)
    etas : tuple of K arrays, or None
        eta_1..eta_K, where solving needed them anyway.
    """

    eta: Array
    w: Array
    etas: Arrays | None = None


class Factor(Protocol):
    """A factorisation of the augmented system (*) for one ridge rho + mu."""

    def solve(self, first: Array, second: Array) -> Solution:
        """eta and w with Sigma eta - J w = first, (N, m), and (rho + mu) w + J' eta = second, (P,)."""

    def precondition(self, second: Array) -> Array:
        """The w of :meth:`solve` for first = 0."""


class Form(Protocol):
    """A way to factorise: what of the matrix does not depend on the ridge."""

    def factor(self, ridge: float) -> Factor:
        """The factor for rho + mu = ``ridge``; ``numpy.linalg.LinAlgError`` if that fails in floating point."""


class Condensed:
    """Products with J, J' and Sigma, the predicted residual, refinement, and the recovery of a whole step.

    Sweeps run over at most ``chunk`` samples at a time: what they need beyond their results does not grow with N.
    """

    def __init__(self, subproblem: Subproblem, *, chunk: int | None = None) -> None:
        self.subproblem = subproblem
        self._batch = Batch(subproblem.stages, subproblem.slack_variance)
        self._chunk = subproblem.num_samples if chunk is None else chunk
        ends = np.cumsum([stage.num_controls for stage in subproblem.stages]).tolist()
        self._cuts = [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    def damped(self, damping: float) -> Condensed:
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

    def back_propagate(self, eta: Array) -> Arrays:
        """eta_1..eta_K of all samples from eta_K = ``eta``, (N, m)."""
        return self._batch.back_propagate(eta)

    def pull(self, etas: Arrays) -> Array:
        """J' eta from the whole eta_1..eta_K: (P,)."""
        return self._batch.pull(etas)

    def noise_product(self, eta: Array) -> Array:
        """Sigma eta, (N, m)."""
        return self._stack(lambda batch, rows: batch.noise_product(eta[rows]))

    def noise_solve(self, right: Array) -> Array:
        """Sigma^-1 right, (N, m)."""
        return self._stack(lambda batch, rows: batch.noise_solve(right[rows]))

    def solve(self, factor: Factor, rhat: Array, refinements: int) -> Solution:
        """The solution of (*) for ``rhat`` and zero, improved by ``refinements`` rounds of iterative refinement."""
        solution = factor.solve(rhat, np.zeros(self.subproblem.num_controls))
        for _ in range(refinements):
            eta, w = solution.eta, solution.w
            first = rhat - self.noise_product(eta) + self.tangent(w)
            second = -self.subproblem.ridge * w - self.adjoint(eta)
            more = factor.solve(first, second)
            solution = Solution(eta + more.eta, w + more.w)
        return solution

    def recover(self, solution: Solution, du: Arrays, gaps: Arrays) -> tuple[Arrays, Arrays]:
        """(dx, multipliers) of the whole step from the solution of (*), its du and the K gaps."""
        sub, eta = self.subproblem, solution.eta
        if sub.num_samples <= self._chunk:
            etas = self.back_propagate(eta) if solution.etas is None else solution.etas
            return self._batch.recover(du, etas, gaps), etas
        dx = (np.zeros((sub.num_samples, sub.stages[0].num_inputs)), *map(np.empty_like, gaps[:-1]))
        etas = (*map(np.empty_like, gaps[:-1]), eta)
        for rows, batch in self.batches():
            some_etas = batch.back_propagate(eta[rows])
            some_dx = batch.recover(du, some_etas, [gap[rows] for gap in gaps])
            for whole, part in zip((*dx[1:], *etas[:-1]), (*some_dx[1:], *some_etas[:-1]), strict=True):
                whole[rows] = part
        return dx, etas
