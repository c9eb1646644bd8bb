"""Where variables, constraints and the entries of the Lagrangian's Hessian stand in a transcription.

No second derivative couples two segments between nodes (:mod:`ocp_nn.problem.curvature`), and the variables of a
segment, its starting state and its controls, are neighbours in the program.  So the matrix is block diagonal, and each
block

    [ blockdiag_i  H_xx^i    H_xu ]
    [              .         H_uu ]

is dense but for two facts: samples couple only through controls, and in the last layer of a segment, if that is
dense, controls couple only within a unit, unless the loss couples the outputs (softmax).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ...network.layers import Dense
from ...problem.training import TrainingProblem

__all__ = ["Block", "HessianLayout", "Segment", "hessian_layout", "positions"]

Index = NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """A run of variables or constraints: the control u_k, the state x_k, or the defect of node k.

    Attributes
    ----------
    kind : {"control", "state", "defect"}
    stage : int
        k; a defect carries the k of the state it defines.
    start, stop : int
        Position in the vector of variables, or of constraints.
    """

    kind: Literal["control", "state", "defect"]
    stage: int
    start: int
    stop: int

    @property
    def where(self) -> slice:
        return slice(self.start, self.stop)

    @property
    def name(self) -> str:
        return {"control": "u", "state": "x", "defect": "d"}[self.kind] + str(self.stage - (self.kind == "defect"))


def positions(entries: Iterable[tuple[Literal["control", "state", "defect"], int, int]]) -> tuple[Block, ...]:
    """Blocks of the given (kind, stage, length), one after the other."""
    blocks: list[Block] = []
    for kind, k, length in entries:
        start = blocks[-1].stop if blocks else 0
        blocks.append(Block(kind, k, start, start + length))
    return tuple(blocks)


@dataclass(frozen=True, eq=False)
class Segment:
    """Stages first..last-1, the position of its variables, and which entries of its blocks are kept."""

    first: int
    last: int
    start: int
    free_start: bool
    ends_in_loss: bool
    keep_states: Index
    keep_mixed: Index
    keep_controls: Index


@dataclass(frozen=True, eq=False)
class HessianLayout:
    """Where the blocks go.

    Attributes
    ----------
    segments : tuple of Segment
    sparsity : casadi.Sparsity
        Of the upper triangle, or of the whole matrix where that was asked for.
    order : ndarray of int
        Nonzeros in CasADi's order, as positions in the blocks' kept entries one after the other.
    diagonal : ndarray of int
        Nonzeros in CasADi's order that are diagonal entries of controls, where weight decay goes.
    """

    segments: tuple[Segment, ...]
    sparsity: ca.Sparsity
    order: Index
    diagonal: Index


def hessian_layout(
    problem: TrainingProblem,
    nodes: Sequence[int],
    variables: Sequence[Block],
    *,
    gauss_newton: bool,
    symmetric: bool = False,
) -> HessianLayout:
    """The structure of the Hessian of a transcription; a superset of CasADi's where an activation is linear.

    Parameters
    ----------
    problem : TrainingProblem
    nodes : sequence of int
        The k whose state is a variable, in order.
    variables : sequence of Block
    gauss_newton : bool
        Without the curvature of the stages: only weight decay, and the segment that ends in the loss.
    symmetric : bool
        The whole matrix instead of its upper triangle.
    """
    cuts = (0, *nodes, problem.num_stages)
    where = {block.name: block for block in variables}
    segments, rows, columns = [], [], []
    for first, last in pairwise(cuts):
        segment, i, j = _segment(problem, first, last, where[f"x{first}" if first else "u0"].start, gauss_newton)
        segments.append(segment)
        rows.append(i)
        columns.append(j)
    row, column = np.concatenate(rows), np.concatenate(columns)
    source = np.arange(len(row))
    if symmetric:
        mirrored = np.flatnonzero(row != column)
        source = np.concatenate([source, mirrored])
        row, column = np.concatenate([row, column[mirrored]]), np.concatenate([column, row[mirrored]])
    order = np.lexsort((row, column))
    n = variables[-1].stop
    starts = np.concatenate([[0], np.cumsum(np.bincount(column, minlength=n))])
    row, column = row[order], column[order]
    controls = np.zeros(n, dtype=bool)
    for block in variables:
        controls[block.where] = block.kind == "control"
    diagonal = np.flatnonzero((row == column) & controls[column])
    return HessianLayout(tuple(segments), ca.Sparsity(n, n, starts.tolist(), row.tolist()), source[order], diagonal)


def _segment(
    problem: TrainingProblem, first: int, last: int, start: int, gauss_newton: bool
) -> tuple[Segment, Index, Index]:
    """One segment, and row and column of its kept entries."""
    layers = problem.network.layers[first:last]
    samples = problem.num_samples
    width = layers[0].num_inputs if first else 0
    controls = sum(layer.num_controls for layer in layers)
    ends_in_loss = last == problem.num_stages
    full = ends_in_loss or not gauss_newton
    origin = start + samples * width
    sample, a, b = np.indices((samples, width, width)).reshape(3, -1)
    keep_states = np.flatnonzero((a <= b) & full)
    states = start + sample * width
    x, u = np.indices((samples * width, controls)).reshape(2, -1)
    keep_mixed = np.flatnonzero(np.full(x.shape, full))
    p, q = np.indices((controls, controls)).reshape(2, -1)
    mixes_units = ends_in_loss and problem.data.couples_outputs
    coupled = full & (mixes_units | _couplings(layers[-1], controls).ravel())
    keep_controls = np.flatnonzero((p <= q) & (coupled | (p == q)))
    segment = Segment(first, last, start, bool(first), ends_in_loss, keep_states, keep_mixed, keep_controls)
    row = [(states + a)[keep_states], (start + x)[keep_mixed], origin + p[keep_controls]]
    column = [(states + b)[keep_states], (origin + u)[keep_mixed], origin + q[keep_controls]]
    return segment, np.concatenate(row), np.concatenate(column)


def _couplings(last_layer: Any, controls: int) -> NDArray[np.bool_]:
    """Pairs of a segment's controls with a second derivative: of the last layer's own, only those of equal units."""
    coupled = np.ones((controls, controls), dtype=bool)
    if isinstance(last_layer, Dense):
        unit = np.arange(last_layer.num_controls) % last_layer.num_outputs
        coupled[-len(unit) :, -len(unit) :] = unit[:, None] == unit
    return coupled
