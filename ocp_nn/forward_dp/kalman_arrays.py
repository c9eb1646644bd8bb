"""The passes of :mod:`.kalman_sweeps` over stages of equal width, compiled where they are sequential.

Everything but B and D is small, and kept: A, C, the gains, the covariances.  B and D are asked for a block of stages
at a time: once in the filter, once for the effect of the controls in a step, and for refinement and other right-hand
sides once more for the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import import_module
from itertools import chain
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from ..network.linear_stages import LinearStage
from ..network.stacked_stages import StackedStages, stacked
from .condensed import RightHandSide
from .kalman_sweeps import CHUNK_BYTES, NumpySweeps, Smoothed, Sweeps
from .subproblem import Arrays, Subproblem
from .terms import LinearTerm, Stack, StackedTerms, blocks_of, stages_of

__all__ = ["ArraySweeps", "adjoint_sweep", "has_equal_widths", "kernels", "sweeps_for"]

Array = NDArray[np.float64]
Indices = NDArray[np.intp]


@lru_cache(maxsize=1)
def kernels() -> ModuleType | None:
    """The compiled loops; None where numba is missing, does not fit NumPy, or is switched off (NUMBA_DISABLE_JIT)."""
    try:
        numba = import_module("numba")
    except ImportError:
        return None
    return None if numba.config.DISABLE_JIT else import_module(f"{__package__}.kalman_kernels")


def sweeps_for(subproblem: Subproblem) -> Sweeps:
    """The compiled passes where the stages have equal widths, those of NumPy elsewhere."""
    loops = kernels() if has_equal_widths(subproblem) else None
    return NumpySweeps(subproblem) if loops is None else ArraySweeps(subproblem, loops)


def has_equal_widths(subproblem: Subproblem) -> bool:
    """Whether all states have one width, and all terms."""
    dynamics, terms = subproblem.dynamics, subproblem.terms
    some: Sequence[LinearStage] = dynamics[:1] if isinstance(dynamics, StackedStages) else dynamics
    some_terms: Sequence[LinearTerm] = terms[:1] if isinstance(terms, StackedTerms) else terms
    outputs = [term.output for term in some_terms]
    states = {width for stage in some for width in (stage.num_inputs, stage.num_outputs)}
    return len(states | {o.num_inputs for o in outputs}) == 1 == len({o.num_outputs for o in outputs})


def adjoint_sweep(A: Array, nodes: NDArray[np.bool_], costates: Array) -> None:
    """lambda_k += A_k' lambda_{k+1} from the last stage down, in place, at x_0 and wherever x_k is no node.

    Parameters
    ----------
    A : array (K, N, n, n)
    nodes : array of bool (K - 1,)
        Whether x_1..x_{K-1} are nodes.
    costates : array (K, N, n)
        Given at the nodes; elsewhere what the terms say of x_k.
    """
    loops = kernels()
    if loops is not None:
        loops.adjoint_sweep(A, nodes, costates)
        return
    for k in range(len(costates) - 2, -1, -1):
        if k == 0 or not nodes[k - 1]:
            costates[k] += np.einsum("nji,nj->ni", A[k], costates[k + 1])


class _Place:
    """The stages of the dynamics or the outputs of the terms, with the control block of each."""

    def __init__(self, stages: Sequence[LinearStage], blocks: Sequence[int] | Indices, sub: Subproblem) -> None:
        self.stages = stacked(stages) if len(stages) else None
        self.blocks = np.asarray(blocks, dtype=np.intp)
        self._cuts = sub.cuts
        bounds = np.array([(cut.start, cut.stop) for cut in sub.cuts], dtype=np.int64)
        self.columns = np.ascontiguousarray(bounds[self.blocks])

    def __len__(self) -> int:
        return len(self.blocks)

    def block(self, start: int, stop: int, empty: tuple[int, ...]) -> tuple[Array, Array]:
        if self.stages is None or start >= stop:
            return np.zeros((0, *empty)), np.zeros((0, *empty))
        a, b = self.stages.block(start, stop)
        return np.ascontiguousarray(a), np.ascontiguousarray(b)

    def effect(self, du: Arrays, shape: tuple[int, ...]) -> Array:
        """B du of every stage."""
        if self.stages is None:
            return np.zeros(shape)
        used = np.unique(self.blocks)
        if len(used) == 1:
            return self.stages.apply_controls(du[used[0]])
        padded = np.zeros((len(du), self.stages.num_controls))
        for block in used:
            padded[block, : len(du[block])] = du[block]
        out = np.empty(shape)
        for some, _, b in self.stages.blocks():
            np.einsum("knap,kp->kna", b, padded[self.blocks[some]], out=out[some])
        return out

    def add_gradient(self, eta: Array, total: Array) -> None:
        """Add B' eta, summed over stages and samples, to the columns of the blocks."""
        if self.stages is None:
            return
        used = np.unique(self.blocks)
        if len(used) == 1:
            total[self._cuts[used[0]]] += self.stages.transpose_control(eta)
            return
        for some, _, b in self.stages.blocks():
            here = self.blocks[some]
            for block in np.unique(here):
                cut, these = self._cuts[block], here == block
                rows = b[these][..., : cut.stop - cut.start].reshape(-1, cut.stop - cut.start)
                total[cut] += eta[some][these].reshape(-1) @ rows


class ArraySweeps:
    """The passes over arrays with one entry a stage."""

    def __init__(self, subproblem: Subproblem, loops: ModuleType) -> None:
        sub = self._sub = subproblem
        terms = sub.terms
        self._loops = loops
        self._stages_of_terms = np.array(stages_of(terms), dtype=np.intp)
        self._dynamics = _Place(sub.dynamics, sub.blocks, sub)
        outputs = terms.outputs if isinstance(terms, StackedTerms) else tuple(term.output for term in terms)
        self._outputs = _Place(outputs, blocks_of(terms), sub)
        self._variance = np.asarray(sub.slack_variance, dtype=float)
        self._first_term = np.searchsorted(self._stages_of_terms, np.arange(len(sub.dynamics) + 2)).astype(np.int64)
        samples, n, m = sub.num_samples, sub.num_inputs, outputs[0].num_outputs
        steps, count = len(self._dynamics), len(self._outputs)
        self._state_shape, self._row_shape = (steps, samples, n), (count, samples, m)
        self._A, self._C = np.empty((steps, samples, n, n)), np.empty((count, samples, m, n))
        self._gains, self._roots = np.empty((count, samples, n, m)), np.empty((count, samples, m, m))
        self._covariances = np.empty((steps + 1, samples, n, n))

    @property
    def _node_shape(self) -> tuple[int, ...]:
        return (len(self._dynamics) + 1, *self._state_shape[1:])

    def filter(self, data: RightHandSide, take: Callable[[Array], None]) -> float:
        sub = self._sub
        _, samples, n = self._state_shape
        size = sub.num_controls + 1
        sensitivity = np.zeros((samples, n, size))
        if data.initial_gap is not None:
            sensitivity[:, :, -1] = data.initial_gap
        covariance = np.zeros((samples, n, n)) + sub.initial_variance * np.eye(n)
        gaps, residuals = _array(data.gaps, self._state_shape), _array(data.residuals, self._row_shape)
        log_det, chunks = 0.0, self._chunks(size)
        most = max(self._first_term[stop] - self._first_term[start] for start, stop in chunks)
        memory = np.empty((most, *self._row_shape[1:], size))  # touching new memory costs more than filling it
        for start, stop in chunks:
            rows = memory[: self._first_term[stop] - self._first_term[start]]
            log_det += self._filter_some(start, stop, gaps, residuals, sensitivity, covariance, rows)
            take(rows.reshape(-1, size))
        return log_det

    def _chunks(self, size: int) -> list[tuple[int, int]]:
        """Nodes whose rows, and whose B, fit into a chunk."""
        _, samples, n = self._state_shape
        nodes, count = len(self._dynamics) + 1, self._row_shape[0]
        numbers = samples * size * max(n, self._row_shape[2] * -(-count // nodes))
        step = max(1, CHUNK_BYTES // (8 * numbers))
        return [(start, min(start + step, nodes)) for start in range(0, nodes, step)]

    def _filter_some(
        self,
        start: int,
        stop: int,
        gaps: Array,
        residuals: Array,
        sensitivity: Array,
        covariance: Array,
        rows: Array,
    ) -> float:
        """The filter from one node to another; sensitivity and covariance move on with it, rows are written."""
        _, samples, n = self._state_shape
        stages = slice(start, min(stop, len(self._dynamics)))
        terms = slice(*self._first_term[[start, stop]].tolist())
        a, b = self._dynamics.block(stages.start, stages.stop, (samples, n, n))
        c, d = self._outputs.block(terms.start, terms.stop, (samples, self._row_shape[2], n))
        self._A[stages], self._C[terms] = a, c
        log_det: float = self._loops.filter_stages(
            a,
            b,
            c,
            d,
            gaps[stages],
            residuals[terms],
            self._variance[stages],
            self._first_term[start : stop + 1] - self._first_term[start],
            self._dynamics.columns[stages],
            self._outputs.columns[terms],
            sensitivity,
            covariance,
            rows,
            self._gains[terms],
            self._roots[terms],
            self._covariances[start:stop],
        )
        return log_det

    def smooth(self, du: Arrays | None, data: RightHandSide) -> Smoothed:
        effect, row_effect = np.zeros(self._state_shape), np.zeros(self._row_shape)
        if du is not None:
            effect = self._dynamics.effect(du, self._state_shape)
            row_effect = self._outputs.effect(du, self._row_shape)
        drift = effect + _array(data.gaps, self._state_shape)
        theta = row_effect + _array(data.residuals, self._row_shape)
        dx, costates = np.empty(self._node_shape), np.empty(self._node_shape)
        dx[0] = 0.0 if data.initial_gap is None else data.initial_gap
        dx[1:] = drift
        loops, a, c, gains = self._loops, self._A, self._C, self._gains
        loops.predict_means(a, c, gains, self._first_term, dx, theta)
        loops.back_propagate(a, c, gains, self._roots, self._first_term, theta, costates)
        loops.smooth_states(a, self._covariances, self._variance, drift, costates, dx)
        return Smoothed(dx, costates, theta, effect, row_effect)

    def pull(self, smoothed: Smoothed) -> Array:
        total = np.zeros(self._sub.num_controls)
        self._dynamics.add_gradient(np.asarray(smoothed.costates)[1:], total)
        self._outputs.add_gradient(np.asarray(smoothed.theta), total)
        return total

    def residual(self, smoothed: Smoothed, data: RightHandSide) -> RightHandSide:
        dx, costates = np.asarray(smoothed.dx), np.asarray(smoothed.costates)
        gaps = np.einsum("knab,knb->kna", self._A, dx[:-1])
        gaps += smoothed.effect
        gaps += _array(data.gaps, self._state_shape)
        gaps -= dx[1:]
        gaps -= self._variance[:, None, None] * costates[1:]
        rows = np.einsum("knab,knb->kna", self._C, dx[self._stages_of_terms])
        rows += smoothed.row_effect
        rows += _array(data.residuals, self._row_shape)
        rows -= smoothed.theta
        initial = -self._sub.initial_variance * costates[0] - dx[0]
        return RightHandSide(gaps, rows, initial if data.initial_gap is None else initial + data.initial_gap)

    def rows(self, theta: Stack) -> Array:
        return np.asarray(theta).transpose(1, 0, 2).reshape(self._row_shape[1], -1)


def _array(parts: Stack, shape: tuple[int, ...]) -> Array:
    """A stack as one contiguous array."""
    if not isinstance(parts, np.ndarray):
        parts = np.concatenate(list(chain(parts, [np.zeros((0, shape[2]))]))).reshape(shape)
    return np.ascontiguousarray(parts, dtype=float)
