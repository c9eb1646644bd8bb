"""The passes over the stages that :mod:`.kalman` is made of, in NumPy, for stages of any widths.

One stage after the other, all samples at once: what the formulas say, in their order.  It serves stages whose widths
differ, machines without a compiler, and as the oracle of the compiled passes (:mod:`.kalman_arrays`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..network.linear_stages import LinearStage
from .condensed import RightHandSide
from .subproblem import Arrays, Subproblem
from .terms import Stack, stages_of

__all__ = ["CHUNK_BYTES", "NumpySweeps", "Smoothed", "Sweeps", "added"]

Array = NDArray[np.float64]

# Whitened rows that are added to the normal matrix at a time, in bytes.
CHUNK_BYTES = 1 * 2**20


@dataclass(frozen=True, eq=False)
class Smoothed:
    """What the smoother gives for known controls.

    Attributes
    ----------
    dx, costates : sequences of K arrays
        dx_k and lambda_k, (N, n_k), k = 0..K-1.
    theta : sequence of J arrays
        The rows that are left, (N, m_j).
    effect, row_effect : sequences of K - 1 and J arrays
        B_k du and D_j du.
    """

    dx: Stack
    costates: Stack
    theta: Stack
    effect: Stack
    row_effect: Stack

    def plus(self, other: Smoothed) -> Smoothed:
        """The sum: everything is linear."""
        return Smoothed(
            added(self.dx, other.dx),
            added(self.costates, other.costates),
            added(self.theta, other.theta),
            added(self.effect, other.effect),
            added(self.row_effect, other.row_effect),
        )


def added(first: Stack, second: Stack) -> Stack:
    """The sum of two stacks."""
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return first + second
    return tuple(a + b for a, b in zip(first, second, strict=True))


class Sweeps(Protocol):
    """The passes over the horizon."""

    def filter(self, data: RightHandSide, take: Callable[[Array], None]) -> float:
        """The filter with its sensitivities; ``take`` gets the whitened rows [E e], (rows, P + 1), some at a time.

        Gains and covariances are kept.  Returns the sum of log det F.
        """

    def smooth(self, du: Arrays | None, data: RightHandSide) -> Smoothed:
        """The minimiser over the states for known controls (None: zero); after :meth:`filter`."""

    def pull(self, smoothed: Smoothed) -> Array:
        """sum B' lambda + sum D' theta, (P,): the gradient in the controls."""

    def residual(self, smoothed: Smoothed, data: RightHandSide) -> RightHandSide:
        """What is left of the stages, the terms and the initial state: data for a correction."""

    def rows(self, theta: Stack) -> Array:
        """theta of all terms side by side, (N, M)."""


@dataclass(frozen=True, eq=False)
class _Update:
    """A term in the filter: F = I + C cov C' and the gain cov C' F^-1."""

    F: Array
    gain: Array


class NumpySweeps:
    """The passes, stage by stage."""

    def __init__(self, subproblem: Subproblem) -> None:
        sub = self._sub = subproblem
        self._variance = sub.slack_variance
        at = np.searchsorted(stages_of(sub.terms), np.arange(len(sub.dynamics) + 2)).tolist()
        self._terms_at = [range(start, stop) for start, stop in pairwise(at)]
        self._updates: list[_Update] = []
        self._covariances: list[Array] = []

    def _stages(self) -> Iterator[tuple[int, range, LinearStage | None]]:
        """Every node with its terms, and the dynamics that follow it."""
        for k, terms in enumerate(self._terms_at):
            yield k, terms, self._sub.dynamics[k] if k < len(self._sub.dynamics) else None

    def filter(self, data: RightHandSide, take: Callable[[Array], None]) -> float:
        sub, size = self._sub, self._sub.num_controls + 1
        state = np.zeros((sub.num_samples, sub.num_inputs, size))
        if data.initial_gap is not None:
            state[:, :, -1] = data.initial_gap
        cov = np.tile(sub.initial_variance * np.eye(sub.num_inputs), (sub.num_samples, 1, 1))
        self._updates, self._covariances, log_det, rows = [], [], 0.0, _Rows(take)
        for k, terms, stage in self._stages():
            self._covariances.append(cov)
            for j in terms:
                output, cut = sub.terms[j].output, sub.cuts[sub.terms[j].block]
                c = output.A
                e = _moved(c, output.B, state, cut, data.residuals[j])
                update = _weighed(c, cov)
                state = state - update.gain @ e
                root = np.linalg.cholesky(update.F)
                rows.add(np.linalg.solve(root, e))
                log_det += 2.0 * float(np.log(np.einsum("iaa->ia", root)).sum())
                cov = _joseph(c, cov, update.gain)
                self._updates.append(update)
            if stage is not None:
                a = stage.A
                state = _moved(a, stage.B, state, sub.cuts[sub.blocks[k]], data.gaps[k])
                cov = a @ cov @ a.transpose(0, 2, 1) + self._variance[k] * np.eye(stage.num_outputs)
        rows.flush()
        return log_det

    def smooth(self, du: Arrays | None, data: RightHandSide) -> Smoothed:
        effect, row_effect = self._effects(du)
        drift, rows = added(effect, data.gaps), added(row_effect, data.residuals)
        means, theta = self._predict(drift, rows, data.initial_gap)
        costates = self._back_propagate(theta)
        return Smoothed(self._states(means, costates, drift), costates, theta, effect, row_effect)

    def _effects(self, du: Arrays | None) -> tuple[Arrays, Arrays]:
        """B du and D du everywhere."""
        sub = self._sub
        u = tuple(map(np.zeros_like, sub.controls)) if du is None else du
        effect = tuple(stage.apply(None, u[block]) for stage, block in zip(sub.dynamics, sub.blocks, strict=True))
        return effect, tuple(term.output.apply(None, u[term.block]) for term in sub.terms)

    def _predict(self, drift: Stack, rows: Stack, initial: Array | None) -> tuple[list[Array], list[Array]]:
        """The filter's means before the terms of every node, and the innovations."""
        means, innovations = [], []
        mean = np.zeros((self._sub.num_samples, self._sub.num_inputs)) if initial is None else initial
        for k, terms, stage in self._stages():
            means.append(mean)
            for j in terms:
                innovations.append(self._sub.terms[j].output.apply_state(mean) + rows[j])
                mean = mean - _times(self._updates[j].gain, innovations[-1])
            if stage is not None:
                mean = stage.apply_state(mean) + drift[k]
        return means, innovations

    def _back_propagate(self, theta: list[Array]) -> list[Array]:
        """The costates; the innovations in ``theta`` become what is left of the rows."""
        costates: list[Array] = []
        costate = np.zeros((self._sub.num_samples, self._sub.terms[-1].output.num_inputs))
        for _, terms, stage in reversed(list(self._stages())):
            if stage is not None:
                costate = stage.transpose_state(costate)
            for j in reversed(terms):
                update = self._updates[j]
                theta[j] = np.asarray(np.linalg.solve(update.F, theta[j][:, :, None])[:, :, 0], dtype=float)
                theta[j] -= np.einsum("iam,ia->im", update.gain, costate)
                costate = costate + self._sub.terms[j].output.transpose_state(theta[j])
            costates.append(costate)
        return costates[::-1]

    def _states(self, means: list[Array], costates: list[Array], drift: Stack) -> list[Array]:
        dx: list[Array] = []
        for k, (mean, cov, costate) in enumerate(zip(means, self._covariances, costates, strict=True)):
            if k > 0 and self._variance[k - 1] == 0:
                dx.append(self._sub.dynamics[k - 1].apply_state(dx[-1]) + drift[k - 1])
            else:
                dx.append(mean - _times(cov, costate))
        return dx

    def pull(self, smoothed: Smoothed) -> Array:
        sub = self._sub
        total = np.zeros(sub.num_controls)
        for stage, block, costate in zip(sub.dynamics, sub.blocks, smoothed.costates[1:], strict=True):
            total[sub.cuts[block]] += stage.transpose_control(costate)
        for term, theta in zip(sub.terms, smoothed.theta, strict=True):
            total[sub.cuts[term.block]] += term.output.transpose_control(theta)
        return total

    def residual(self, smoothed: Smoothed, data: RightHandSide) -> RightHandSide:
        sub, dx, costates = self._sub, smoothed.dx, smoothed.costates
        gaps = [
            stage.apply_state(dx[k]) + smoothed.effect[k] + data.gaps[k] - dx[k + 1] - variance * costates[k + 1]
            for k, (stage, variance) in enumerate(zip(sub.dynamics, self._variance, strict=True))
        ]
        rows = [
            term.output.apply_state(dx[term.stage]) + smoothed.row_effect[j] + data.residuals[j] - smoothed.theta[j]
            for j, term in enumerate(sub.terms)
        ]
        initial = -sub.initial_variance * costates[0] - dx[0]
        if data.initial_gap is not None:
            initial = initial + data.initial_gap
        return RightHandSide(tuple(gaps), tuple(rows), initial)

    def rows(self, theta: Stack) -> Array:
        return np.concatenate(list(theta), axis=1)


class _Rows:
    """Whitened rows, handed on when there are enough of them."""

    def __init__(self, take: Callable[[Array], None]) -> None:
        self._take, self._kept = take, list[Array]()

    def add(self, rows: Array) -> None:
        self._kept.append(rows.reshape(-1, rows.shape[-1]))
        if sum(kept.nbytes for kept in self._kept) > CHUNK_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._kept:
            self._take(np.concatenate(self._kept))
            self._kept.clear()


def _moved(a: Array, b: Array, state: Array, cut: slice, constant: Array) -> Array:
    """[A S + B, A m + c]."""
    out: Array = a @ state
    out[:, :, cut] += b
    out[:, :, -1] += constant
    return out


def _weighed(c: Array, cov: Array) -> _Update:
    crossed = c @ cov
    f = np.asarray(np.eye(c.shape[1]) + crossed @ c.transpose(0, 2, 1), dtype=float)
    return _Update(f, np.asarray(np.linalg.solve(f, crossed).transpose(0, 2, 1), dtype=float))


def _joseph(c: Array, cov: Array, gain: Array) -> Array:
    """(I - G C) cov (I - G C)' + G G': cov - G F G', without the cancellation."""
    closed = np.eye(cov.shape[1]) - gain @ c
    out: Array = closed @ cov @ closed.transpose(0, 2, 1) + gain @ gain.transpose(0, 2, 1)
    return out


def _times(matrix: Array, vector: Array) -> Array:
    return np.asarray(np.einsum("iab,ib->ia", matrix, vector))
