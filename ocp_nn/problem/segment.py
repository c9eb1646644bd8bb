"""A shooting segment and its second derivatives, which are added up row by row.

A segment is what lies between two cuts of the chain of stages: stages of dynamics, and the terms that look at their
states.  It starts at a state x that is a variable (or at a known one), and no second derivative couples two segments
but through a control block that both use.  Its Hessian carries the sensitivities

    S_k^i = d x_k^i / d (x^i, controls so far),     S_{k+1} = A_k S_k + B_k E_k

forward, (N, n_k, columns), where E_c picks the control block that a row uses, and adds up

    sum_k sum_i [S_k^i; E_k]' (Hessian of <lambda_{k+1}^i, f_k>) [S_k^i; E_k]               over its stages, and
    sum_j sum_i [S^i; E_j]' (Hessian of <g_j^i, h_j>) [S^i; E_j] + sigma Z_j^i' (w phi'')^i Z_j^i

over its terms, with Z_j = C_j S + D_j E_j.  What is left without the multipliers lambda and g is Gauss-Newton's.  A
block that several rows use has its columns once.  For a dense layer, with a = W x + b, c = lambda phi''(a) and
g = lambda phi'(a), the Hessian of <lambda, f> is that of c/2 (da)^2 summed over units, plus g' dW dx; controls of
different units do not couple, so the wide products run over the controls of *earlier* rows only.

Segments that are equal but for their data are one segment with the samples of all (:func:`stacked`): over a long
horizon with one control block that is a single pass, and one matrix for the block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..network.layers import Driven, Symbolic
from ..network.linear_stages import DenseStage, GenericStage, LinearStage
from .optimal_control import OptimalControlProblem

__all__ = [
    "Segment",
    "SegmentHessian",
    "SegmentStage",
    "SegmentTerm",
    "joined_layer",
    "segment_between",
    "stacked",
    "times",
]

Array = NDArray[np.float64]


class SegmentStage(NamedTuple):
    """A stage of dynamics, its control block, and the costate of its output; None leaves its curvature out."""

    stage: LinearStage
    block: int
    multiplier: Array | None

    def rows(self, samples: slice) -> SegmentStage:
        """The stage for some of the samples."""
        return SegmentStage(self.stage.rows(samples), self.block, _some(self.multiplier, samples))


class SegmentTerm(NamedTuple):
    """A term after ``at`` of the segment's stages.

    ``weight`` is sigma, that of the objective; ``curvature`` is w phi'' in its output, (N, m) for a diagonal or
    (N, m, m), or None for the identity.
    """

    at: int
    stage: LinearStage
    block: int
    multiplier: Array | None
    weight: float
    curvature: Array | None

    def rows(self, samples: slice) -> SegmentTerm:
        """The term for some of the samples."""
        some = _some(self.multiplier, samples), self.weight, _some(self.curvature, samples)
        return SegmentTerm(self.at, self.stage.rows(samples), self.block, *some)


@dataclass(frozen=True, eq=False)
class Segment:
    """Stages and terms in their order, linearised; ``free_start`` says whether the first state is a variable."""

    stages: tuple[SegmentStage, ...]
    terms: tuple[SegmentTerm, ...]
    free_start: bool

    @property
    def all_rows(self) -> list[SegmentStage | SegmentTerm]:
        """The stages and then the terms."""
        return [*self.stages, *self.terms]

    @property
    def first(self) -> LinearStage:
        """A row that looks at the first state."""
        return self.all_rows[0].stage

    @property
    def num_samples(self) -> int:
        return self.first.num_samples

    @property
    def width(self) -> int:
        """n, numbers in the first state; 0 where it is known."""
        return self.first.num_inputs if self.free_start else 0

    @cached_property
    def columns(self) -> dict[int, slice]:
        """Where each control block stands: those of stages by first use, then those that terms alone use.

        So the sensitivities of every state are in leading columns.
        """
        columns: dict[int, slice] = {}
        end = 0
        for row in self.all_rows:
            if row.block not in columns:
                columns[row.block] = slice(end, end + row.stage.num_controls)
                end += row.stage.num_controls
        return columns

    @property
    def num_controls(self) -> int:
        """P, numbers in all its blocks."""
        return max(cut.stop for cut in self.columns.values())

    def rows(self, samples: slice) -> Segment:
        """The segment for some of the samples."""
        return Segment(
            tuple([row.rows(samples) for row in self.stages]),
            tuple([term.rows(samples) for term in self.terms]),
            self.free_start,
        )

    def add_to(self, hessian: SegmentHessian) -> None:
        """Add everything to a Hessian of these samples."""
        first = self.first.num_inputs
        sensitivity: Array = np.broadcast_to(np.eye(first, self.width), (self.num_samples, first, self.width))
        terms = list(self.terms)
        for k in range(len(self.stages) + 1):
            while terms and terms[0].at == k:
                self._add_term(hessian, terms.pop(0), sensitivity)
            if k < len(self.stages):
                self._add_curvature(hessian, self.stages[k], sensitivity)
                if k + 1 < len(self.stages) or terms:
                    sensitivity = self._carried(self.stages[k], sensitivity)

    def _add_curvature(self, hessian: SegmentHessian, row: SegmentStage | SegmentTerm, sensitivity: Array) -> None:
        if row.multiplier is None:
            return
        if isinstance(row.stage, DenseStage):
            _add_dense(hessian, row.stage, row.multiplier, sensitivity, self.columns[row.block])
        else:
            assert isinstance(row.stage, GenericStage)
            _add_generic(hessian, row.stage, row.multiplier, sensitivity, self.columns[row.block])

    def _add_term(self, hessian: SegmentHessian, term: SegmentTerm, sensitivity: Array) -> None:
        self._add_curvature(hessian, term, sensitivity)
        if not term.weight:
            return
        n, rows = self.width, term.stage.num_samples * term.stage.num_outputs
        change, own = np.matmul(term.stage.A, sensitivity), term.stage.B
        bent = term.weight * times(term.curvature, own)
        hessian.add(term.weight * times(term.curvature, change), change)
        hessian.add_cross(
            self.columns[term.block],
            np.matmul(change[:, :, :n].transpose(0, 2, 1), bent),
            change[:, :, n:].reshape(rows, -1).T @ bent.reshape(rows, -1),
            own.reshape(rows, -1).T @ bent.reshape(rows, -1),
        )

    def _carried(self, row: SegmentStage, sensitivity: Array) -> Array:
        """A S + B E: columns for the controls where this is their first use."""
        stage, before, n = row.stage, sensitivity.shape[2], self.width
        own = slice(n + self.columns[row.block].start, n + self.columns[row.block].stop)
        carried = np.empty((stage.num_samples, stage.num_outputs, max(before, own.stop)))
        np.matmul(stage.A, sensitivity, out=carried[:, :, :before])
        if own.start == before:
            carried[:, :, own] = stage.B
        else:
            carried[:, :, own] += stage.B
        return carried


@dataclass(frozen=True, eq=False)
class SegmentHessian:
    """Second derivatives of one segment; n = width of the state it starts at (0 if that is known), P = its controls.

    Attributes
    ----------
    states : ndarray, shape (N, n, n)
        In the starting state, sample by sample: samples couple only through the controls.
    mixed : ndarray, shape (N, n, P)
        In the starting state (rows) and the controls.
    controls : ndarray, shape (P, P)
        In the controls, as :attr:`Segment.columns` orders them, summed over samples.
    """

    states: Array
    mixed: Array
    controls: Array

    @classmethod
    def zeros(cls, segment: Segment) -> SegmentHessian:
        """Nothing yet."""
        samples, n, total = segment.num_samples, segment.width, segment.num_controls
        return cls(np.zeros((samples, n, n)), np.zeros((samples, n, total)), np.zeros((total, total)))

    def rows(self, samples: slice) -> SegmentHessian:
        """The part of some samples; views, so that additions to it arrive here."""
        return SegmentHessian(self.states[samples], self.mixed[samples], self.controls)

    def add(self, left: Array, right: Array) -> None:
        """Add sum_i left_i' right_i, both (N, n', columns) with the starting state first, then leading controls."""
        n = self.states.shape[1]
        used = left.shape[2] - n
        rows = left.shape[0] * left.shape[1]
        if used:
            self.controls[:used, :used] += left[:, :, n:].reshape(rows, used).T @ right[:, :, n:].reshape(rows, used)
        if n:
            start = left[:, :, :n].transpose(0, 2, 1)
            self.states[...] += start @ right[:, :, :n]
            self.mixed[:, :, :used] += start @ right[:, :, n:]

    def add_cross(self, own: slice, start: Array, earlier: Array, square: Array) -> None:
        """Add what a row's own controls have with the starting state, with leading controls, and by themselves."""
        before = len(earlier)
        self.mixed[:, :, own] += start
        self.controls[:before, own] += earlier
        self.controls[own, :before] += earlier.T
        self.controls[own, own] += square


def segment_between(
    problem: OptimalControlProblem,
    cuts: tuple[int, int],
    stages: Sequence[LinearStage],
    costates: Sequence[Array] | None,
    bends: Sequence[Array | None],
    *,
    free_start: bool = False,
    weight: float = 1.0,
) -> Segment:
    """The segment of the stages first..last-1, ``cuts`` being (first, last), and of the terms at their states.

    Parameters
    ----------
    problem : OptimalControlProblem
    cuts : (int, int)
    stages : sequence of LinearStage
        Of all rows.
    costates : sequence of arrays, or None
        Of all rows; None leaves the curvature of stages and outputs out.
    bends : sequence of arrays or None
        w phi'' of all terms.
    free_start : bool
    weight : float
        sigma.
    """
    first, last = cuts
    inner, blocks = len(problem.dynamics), problem.row_blocks
    given: Sequence[Array | None] = [None] * len(stages) if costates is None else costates
    rows = [SegmentStage(stages[k], blocks[k], given[k]) for k in range(first, min(last, inner))]
    looking = [(k - first, inner + j) for k in range(first, last) for j in problem.terms_at[k]]
    terms = [SegmentTerm(at, stages[j], blocks[j], given[j], weight, bends[j - inner]) for at, j in looking]
    return Segment(tuple(rows), tuple(terms), free_start)


def stacked(segments: Sequence[Segment]) -> Segment:
    """Segments with the same layers, control blocks and losses as one, with the samples of all of them."""
    if len(segments) == 1:
        return segments[0]
    stages = [
        SegmentStage(_together([row.stage for row in rows]), rows[0].block, _joined([row.multiplier for row in rows]))
        for rows in zip(*[segment.stages for segment in segments], strict=True)
    ]
    terms = [
        rows[0]._replace(
            stage=_together([row.stage for row in rows]),
            multiplier=_joined([row.multiplier for row in rows]),
            curvature=_joined_curvatures([row.curvature for row in rows], rows[0].stage),
        )
        for rows in zip(*[segment.terms for segment in segments], strict=True)
    ]
    return Segment(tuple(stages), tuple(terms), segments[0].free_start)


def _together(stages: Sequence[LinearStage]) -> LinearStage:
    """One stage with the samples of all."""
    first, rest = stages[0], stages[1:]
    if isinstance(first, DenseStage):
        dense = [first, *(stage for stage in rest if isinstance(stage, DenseStage))]
        x, value = (np.concatenate([getattr(stage, name) for stage in dense]) for name in ("x", "value"))
        return DenseStage(first.layer, x, first.u, value)
    generic = [stage for stage in stages if isinstance(stage, GenericStage)]
    x, a, b = (np.concatenate([getattr(stage, name) for stage in generic]) for name in ("x", "A", "B"))
    return GenericStage(joined_layer([stage.layer for stage in generic]), x, generic[0].u, a, b)


def joined_layer(layers: Sequence[Symbolic | Driven]) -> Symbolic | Driven:
    """The layer of the samples of all, which are one function: with the exogenous inputs of all where it has any."""
    first = layers[0]
    if not isinstance(first, Driven):
        return first
    return Driven(first.stage, np.concatenate([layer.v for layer in layers if isinstance(layer, Driven)]))


def _joined(arrays: Sequence[Array | None]) -> Array | None:
    there = [array for array in arrays if array is not None]
    return np.concatenate(there) if there else None


def _joined_curvatures(curvatures: Sequence[Array | None], stage: LinearStage) -> Array | None:
    if all(curvature is None for curvature in curvatures):
        return None
    ones = np.ones((stage.num_samples, stage.num_outputs))
    return np.concatenate([ones if curvature is None else curvature for curvature in curvatures])


def _some(array: Array | None, samples: slice) -> Array | None:
    return None if array is None else array[samples]


def times(curvature: Array | None, columns: Array) -> Array:
    """The output's curvature times columns, (N, m, columns)."""
    if curvature is None:
        return columns
    return np.asarray(curvature[:, :, None] * columns if curvature.ndim == 2 else curvature @ columns)


def _add_dense(
    hessian: SegmentHessian, stage: DenseStage, multiplier: Array, sensitivity: Array, columns: slice
) -> None:
    samples, width, before = sensitivity.shape
    units, n = stage.num_outputs, hessian.states.shape[1]
    c, g = multiplier * stage.layer.phi.curvature(stage.value), multiplier * stage.slope
    inputs = np.hstack([stage.x, np.ones((samples, 1))])
    own = np.zeros((width + 1, units, width + 1, units))
    for a in range(units):
        own[:, a, :, a] = (inputs * c[:, a, None]).T @ inputs
    change = np.matmul(stage.weight, sensitivity)  # da in the directions of everything before
    scaled = c[:, :, None] * change
    hessian.add(change, scaled)
    # cross terms with this layer's [W b]: c da x' + g dx', one column a weight, ordered like the control
    start = np.einsum("iaj,it->ijta", scaled[:, :, :n], inputs)
    start[:, :, :-1] += np.einsum("itj,ia->ijta", sensitivity[:, :, :n], g)
    earlier = np.matmul(inputs.T, scaled[:, :, n:].transpose(1, 0, 2))  # (units, width + 1, earlier controls)
    moved = sensitivity[:, :, n:].reshape(samples, width * (before - n))
    earlier[:, :-1] += (g.T @ moved).reshape(units, width, before - n)
    hessian.add_cross(
        columns,
        start.reshape(samples, n, stage.num_controls),
        earlier.transpose(2, 1, 0).reshape(before - n, stage.num_controls),
        own.reshape(stage.num_controls, stage.num_controls),
    )


def _add_generic(
    hessian: SegmentHessian, stage: GenericStage, multiplier: Array, sensitivity: Array, columns: slice
) -> None:
    samples, width, before = sensitivity.shape
    n, rows = hessian.states.shape[1], samples * width
    xx, xu, own = stage.hessian(multiplier)
    hessian.add(sensitivity, np.matmul(xx, sensitivity))
    hessian.add_cross(
        columns,
        np.matmul(sensitivity[:, :, :n].transpose(0, 2, 1), xu),
        sensitivity[:, :, n:].reshape(rows, before - n).T @ xu.reshape(rows, stage.num_controls),
        own,
    )
