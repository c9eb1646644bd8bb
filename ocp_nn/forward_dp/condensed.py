"""The subproblem with its states eliminated: what the forms factorise.

Write du_b = ubar_b + w_b with ubar_b = -rho_b u_b/(rho_b + mu).  With the sweeps of :mod:`.sweeps` (predicted rows
rhat, their Jacobian J in the controls, their noise Sigma), minimising over the states leaves (our derivation)

    min over w   sum_b (rho_b + mu)/2 ||w_b||^2 + 1/2 || rhat + J w ||^2 in the norm of Sigma^-1,

whose optimality conditions, with theta = Sigma^-1 (rhat + J w) the rows that are left, are the augmented system

    Sigma theta - J w = rhat,          (rho_b + mu) w_b + J_b' theta = 0.                               (*)

The dual form eliminates w from (*), the primal form eliminates theta.  Neither needs J for the rest: J w is a forward
sweep and J' theta one back-propagation.  The same products give the residual of (*), hence iterative refinement for
whatever factorisation solved it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .subproblem import Arrays, Subproblem
from .sweeps import Batch
from .terms import Stack, residuals_of

__all__ = ["Condensed", "Factor", "Form", "RightHandSide", "Solution"]

Array = NDArray[np.float64]

_ALL = slice(None)


@dataclass(frozen=True, eq=False)
class Solution:
    """A solution of the augmented system (*).

    Attributes
    ----------
    theta : array (N, M)
    w : array (P,)
    etas : tuple of K arrays, or None
        eta_1..eta_{K-1} and theta, where solving needed them anyway.
    """

    theta: Array
    w: Array
    etas: Arrays | None = None


class RightHandSide(NamedTuple):
    """What the sweeps add at every stage: the gaps c_k, the residuals r_j of the terms, and g_0."""

    gaps: Stack
    residuals: Stack
    initial_gap: Array | None = None

    @classmethod
    def of(cls, subproblem: Subproblem) -> RightHandSide:
        return cls(subproblem.gaps, residuals_of(subproblem.terms), subproblem.initial_gap)

    def rows(self, samples: slice) -> RightHandSide:
        """Some of the samples (views)."""
        if samples == _ALL:
            return self
        gaps, residuals = (tuple([part[samples] for part in parts]) for parts in (self.gaps, self.residuals))
        return RightHandSide(gaps, residuals, None if self.initial_gap is None else self.initial_gap[samples])


class Factor(Protocol):
    """A factorisation of the augmented system (*) for one damping."""

    def solve(self, first: Array, second: Array) -> Solution:
        """theta and w with Sigma theta - J w = first, (N, M), and (rho + mu) w + J' theta = second, (P,)."""

    def precondition(self, second: Array) -> Array:
        """The w of :meth:`solve` for first = 0."""


class Form(Protocol):
    """A way to factorise: what of the matrix does not depend on the damping."""

    def factor(self, subproblem: Subproblem) -> Factor:
        """The factor for the damping of the subproblem; ``numpy.linalg.LinAlgError`` if floating point fails."""


class Condensed:
    """Products with J, J' and Sigma, the predicted residual, refinement, and the recovery of a whole step.

    Sweeps run over at most ``chunk`` samples at a time: what they need beyond their results does not grow with N.
    """

    def __init__(self, subproblem: Subproblem, *, chunk: int | None = None, batch: Batch | None = None) -> None:
        self.subproblem = subproblem
        self._batch = Batch.of(subproblem) if batch is None else batch
        self._chunk = subproblem.num_samples if chunk is None else chunk

    def damped(self, damping: float) -> Condensed:
        """This problem with another damping; what does not depend on it is kept."""
        return Condensed(self.subproblem.damped(damping), chunk=self._chunk, batch=self._batch)

    def batches(self) -> Iterator[tuple[slice, Batch]]:
        """The samples in chunks.  A single one keeps its sensitivities, several compute them anew in every sweep."""
        samples = self.subproblem.num_samples
        if samples <= self._chunk:
            yield _ALL, self._batch
            return
        for start in range(0, samples, self._chunk):
            rows = slice(start, min(start + self._chunk, samples))
            yield rows, self._batch.rows(rows)

    def _stack(self, sweep: Callable[[Batch, slice], Array]) -> Array:
        """A sweep that gives one row a sample, over all batches."""
        parts = [sweep(batch, rows) for rows, batch in self.batches()]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def split(self, flat: Array) -> Arrays:
        """A vector (P,) of all controls, one view a block."""
        return tuple([flat[cut] for cut in self.subproblem.cuts])

    def predicted_rows(self, mean_controls: Arrays | None, data: RightHandSide) -> Array:
        """rhat, (N, M), from ubar (None: zero), gaps, residuals and g_0."""
        return self._stack(lambda batch, rows: batch.predict(mean_controls, *data.rows(rows)))

    def squared_size(self) -> float:
        """The trace of J' Sigma^-1 J."""
        return sum(batch.squared_size() for _, batch in self.batches())

    @property
    def batch(self) -> Batch:
        """All samples."""
        return self._batch

    @property
    def noise(self) -> Array:
        """Sigma of all samples, (N, M, M)."""
        return self._batch.noise

    def tangent(self, w: Array) -> Array:
        """J w: (P,) -> (N, M)."""
        steps = self.split(w)
        return self._stack(lambda batch, _: batch.tangent(steps))

    def adjoint(self, theta: Array) -> Array:
        """J' theta: (N, M) -> (P,)."""
        parts = [batch.adjoint(theta[rows]) for rows, batch in self.batches()]
        return parts[0] if len(parts) == 1 else np.sum(parts, axis=0)

    def back_propagate(self, theta: Array) -> Arrays:
        """eta_1..eta_{K-1} and theta, (N, M), of all samples."""
        return self._batch.back_propagate(theta)

    def pull(self, etas: Arrays) -> Array:
        """J' theta from its costates: (P,)."""
        return self._batch.pull(etas)

    def noise_product(self, theta: Array) -> Array:
        """Sigma theta, (N, M)."""
        return self._stack(lambda batch, rows: batch.noise_product(theta[rows]))

    def noise_solve(self, right: Array) -> Array:
        """Sigma^-1 right, (N, M)."""
        return self._stack(lambda batch, rows: batch.noise_solve(right[rows]))

    def solve(self, factor: Factor, rhat: Array, refinements: int) -> Solution:
        """The solution of (*) for ``rhat`` and zero, improved by ``refinements`` rounds of iterative refinement."""
        solution = factor.solve(rhat, np.zeros(self.subproblem.num_controls))
        for _ in range(refinements):
            theta, w = solution.theta, solution.w
            first = rhat - self.noise_product(theta) + self.tangent(w)
            second = -self.subproblem.ridge_vector * w - self.adjoint(theta)
            more = factor.solve(first, second)
            solution = Solution(theta + more.theta, w + more.w)
        return solution

    def minimiser(self, factor: Factor, data: RightHandSide, refinements: int) -> Solution:
        """The solution for the subproblem's own data; w is what is beyond the mean controls."""
        return self.solve(factor, self.predicted_rows(self.subproblem.mean_controls, data), refinements)

    def response(self, factor: Factor, data: RightHandSide) -> Solution:
        """The solution for other data, where nothing pulls at the controls."""
        return self.solve(factor, self.predicted_rows(None, data), 0)

    def recover(self, solution: Solution, du: Arrays, data: RightHandSide) -> tuple[Arrays, Arrays]:
        """(dx, multipliers) of the whole step from the solution of (*), its du and the right-hand side."""
        sub, theta = self.subproblem, solution.theta
        if sub.num_samples <= self._chunk:
            etas = self.back_propagate(theta) if solution.etas is None else solution.etas
            return self._batch.recover(du, etas, data.gaps, data.initial_gap), etas
        dx = (np.zeros((sub.num_samples, sub.num_inputs)), *map(np.empty_like, data.gaps))
        multipliers = (*map(np.empty_like, data.gaps), theta)
        for rows, batch in self.batches():
            some, some_etas = data.rows(rows), batch.back_propagate(theta[rows])
            some_dx = batch.recover(du, some_etas, some.gaps, some.initial_gap)
            for whole, part in zip((*dx, *multipliers[:-1]), (*some_dx, *some_etas[:-1]), strict=True):
                whole[rows] = part
        return dx, multipliers
