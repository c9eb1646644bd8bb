"""Where variables, constraints and the entries of the Lagrangian's Hessian stand in a transcription.

No second derivative couples two segments between nodes but through a control block that both use
(:mod:`ocp_nn.problem.segment`).  So the matrix has a block for the starting state of every segment, which is block
diagonal by samples, a block for that state and every control block used in the segment, and a block for every pair of
control blocks that a segment uses together, to which all such segments add:

    [ blockdiag_i  H_xx^i    H_xu ]
    [              .         H_uu ]

In a feed-forward network the variables of a segment are neighbours, and the matrix is block diagonal; control blocks
that all segments share are its border.  These blocks are dense but for two facts: two control blocks couple only where
one output depends on both, and the controls of a dense layer that is the last of a segment, or a term, couple only
within a unit, unless the loss couples the outputs (softmax).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ...network.layers import Dense
from ...problem.optimal_control import OptimalControlProblem
from ...problem.structure import Stage, Term
from .equal_rows import equal_segments

__all__ = ["Block", "Group", "HessianLayout", "Kind", "hessian_layout", "positions"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Mask = NDArray[np.bool_]
Kind = Literal["control", "state", "size", "defect", "constraint", "size row"]
_LETTERS = {"control": "u", "state": "x", "size": "t", "defect": "d", "constraint": "c", "size row": "s"}
Pair = tuple[int, int]
# Where the variables of a control block or state begin, by (kind, stage).
Where = dict[tuple[Kind, int], int]


@dataclass(frozen=True)
class Block:
    """A run of variables or constraints: a control block, the state x_k, the defect of node k, or a constraint's rows.

    Attributes
    ----------
    kind : {"control", "state", "size", "defect", "constraint", "size row"}
        Sizes, and their rows, belong to a lasso (:mod:`.sparse_rows`).
    stage : int
        k; a control carries the number of its block, a defect the k of the state it defines, all of a constraint its
        own number among the problem's.
    start, stop : int
        Position in the vector of variables, or of constraints.
    """

    kind: Kind
    stage: int
    start: int
    stop: int

    @property
    def where(self) -> slice:
        return slice(self.start, self.stop)

    @property
    def name(self) -> str:
        letter = {"control": "u", "state": "x", "size": "t", "defect": "d", "constraint": "c", "size row": "s"}[
            self.kind
        ]
        return letter + str(self.stage - (self.kind == "defect"))


def positions(entries: Iterable[tuple[Kind, int, int]]) -> tuple[Block, ...]:
    """Blocks of the given (kind, stage, length), one after the other."""
    blocks: list[Block] = []
    for kind, k, length in entries:
        start = blocks[-1].stop if blocks else 0
        blocks.append(Block(kind, k, start, start + length))
    return tuple(blocks)


@dataclass(frozen=True, eq=False)
class Group:
    """Segments that are equal but for their data, and which entries of their states and mixed blocks are kept.

    ``cuts`` are (first, last) of each, ``columns`` the control blocks used and where they stand in the segment's
    Hessian, and ``is_full`` says whether anything but the prior of x_0 is kept.
    """

    cuts: list[tuple[int, int]]
    columns: dict[int, slice]
    free_start: bool
    is_full: bool
    keep_states: Index
    keep_mixed: Index


@dataclass(frozen=True, eq=False)
class HessianLayout:
    """Where the blocks go.

    Attributes
    ----------
    groups : list of Group
    pairs : dict of arrays of int
        For every pair of control blocks, the first the earlier variable, which entries are kept.
    sparsity : casadi.Sparsity
        Of the upper triangle, or of the whole matrix where that was asked for.
    order : ndarray of int
        Nonzeros in CasADi's order, as positions in the kept entries one after the other: states and mixed of every
        group, then the pairs.
    diagonal : ndarray of int
        Nonzeros in CasADi's order that are diagonal entries of controls and of a free x_0.
    ridge : ndarray
        What goes there, besides: weight decay, and the weight of the prior of x_0.
    """

    groups: list[Group]
    pairs: dict[Pair, Index]
    sparsity: ca.Sparsity
    order: Index
    diagonal: Index
    ridge: Array


def hessian_layout(
    problem: OptimalControlProblem,
    nodes: Sequence[int],
    variables: Sequence[Block],
    *,
    gauss_newton: bool,
    symmetric: bool = False,
) -> HessianLayout:
    """The structure of the Hessian of a transcription; a superset of CasADi's where an activation is linear.

    Parameters
    ----------
    problem : OptimalControlProblem
    nodes : sequence of int
        The k whose state is a variable, in order.
    variables : sequence of Block
    gauss_newton : bool
        Without the curvature of the stages: only weight decay, the prior of x_0, and segments with terms.
    symmetric : bool
        The whole matrix instead of its upper triangle.
    """
    where: Where = {(block.kind, block.stage): block.start for block in variables}
    masks = {(b, b): np.eye(length, dtype=bool) for b, length in enumerate(problem.block_lengths)}
    groups, places = [], []
    for cuts in equal_segments(problem, nodes):
        segment = _SegmentStructure.of(problem, *cuts[0])
        is_full = not gauss_newton or bool(segment.terms)
        group, place = _group(problem, cuts, segment, where, is_full)
        groups.append(group)
        places.append(place)
        if is_full:
            _add_couplings(masks, segment, problem, where)
    pairs = {}
    for (b, c), mask in masks.items():
        pairs[b, c] = np.flatnonzero(np.triu(mask) if b == c else mask)
        p, q = np.unravel_index(pairs[b, c], mask.shape)
        places.append((where["control", b] + p, where["control", c] + q))
    row, column = (np.concatenate(index) for index in zip(*places, strict=True))
    return _ordered(problem, variables, groups, pairs, row, column, symmetric)


def _ordered(
    problem: OptimalControlProblem,
    variables: Sequence[Block],
    groups: list[Group],
    pairs: dict[Pair, Index],
    row: Index,
    column: Index,
    symmetric: bool,
) -> HessianLayout:
    """The layout of entries in the upper triangle that stand at these rows and columns."""
    source = np.arange(len(row))
    if symmetric:
        mirrored = np.flatnonzero(row != column)
        source = np.concatenate([source, mirrored])
        row, column = np.concatenate([row, column[mirrored]]), np.concatenate([column, row[mirrored]])
    order = np.lexsort((row, column))
    n = variables[-1].stop
    starts = np.concatenate([[0], np.cumsum(np.bincount(column, minlength=n))])
    row, column = row[order], column[order]
    ridge = np.full(n, np.nan)
    for block in variables:
        if block.kind == "control":
            ridge[block.where] = problem.decays[block.stage]
        elif block.kind == "state" and block.stage == 0:
            ridge[block.where] = problem.initial_weight
    diagonal = np.flatnonzero((row == column) & ~np.isnan(ridge)[column])
    sparsity = ca.Sparsity(n, n, starts.tolist(), row.tolist())
    return HessianLayout(groups, pairs, sparsity, source[order], diagonal, ridge[column[diagonal]])


@dataclass(frozen=True, eq=False)
class _SegmentStructure:
    """The stages and terms of a segment, and the columns of its control blocks as its Hessian orders them."""

    stages: Sequence[Stage]
    terms: Sequence[tuple[int, Term]]
    columns: dict[int, slice]
    ends_at_node: bool

    @classmethod
    def of(cls, problem: OptimalControlProblem, first: int, last: int) -> _SegmentStructure:
        stages = problem.dynamics[first:last]
        terms = [(k - first, problem.terms[j]) for k in range(first, last) for j in problem.terms_at[k]]
        blocks = dict.fromkeys([*(stage.block for stage in stages), *(term.block for _, term in terms)])
        ends = np.cumsum([0, *(problem.block_lengths[b] for b in blocks)]).tolist()
        columns = {b: slice(ends[i], ends[i + 1]) for i, b in enumerate(blocks)}
        return cls(stages, terms, columns, last < problem.num_stages)

    def ends(self) -> list[tuple[set[int], Stage | Term]]:
        """What costs or constrains something: the blocks that it depends on, and the row that it is the output of."""
        blocks = [stage.block for stage in self.stages]
        ends: list[tuple[set[int], Stage | Term]] = [({*blocks[:at], term.block}, term) for at, term in self.terms]
        if self.ends_at_node:
            ends.append(({*blocks}, self.stages[-1]))
        return ends


def _group(
    problem: OptimalControlProblem,
    cuts: list[tuple[int, int]],
    segment: _SegmentStructure,
    where: Where,
    is_full: bool,
) -> tuple[Group, tuple[Index, Index]]:
    """A group, and row and column of the kept entries of its states and mixed blocks."""
    free = cuts[0][0] > 0 or problem.has_free_start
    width = problem.widths[cuts[0][0]] if free else 0
    starts = np.array([where["state", first] if free else 0 for first, _ in cuts])
    samples = problem.num_samples
    state = (starts[:, None] + np.arange(samples * width)).reshape(len(cuts) * samples, width)
    a, b = (state[:, index] for index in np.indices((width, width)).reshape(2, -1))
    has_prior = (a == b) & (np.arange(len(state)) < (samples if cuts[0][0] == 0 else 0))[:, None]
    keep_states = np.flatnonzero((a <= b) & (is_full | has_prior))
    control = np.concatenate(
        [where["control", c] + np.arange(cut.stop - cut.start) for c, cut in segment.columns.items()]
    )
    x, u = (index.ravel() for index in np.broadcast_arrays(state[:, :, None], control))
    keep_mixed = np.flatnonzero(np.full(x.shape, is_full))
    x, u = x[keep_mixed], u[keep_mixed]
    row = np.concatenate([a.ravel()[keep_states], np.minimum(x, u)])
    column = np.concatenate([b.ravel()[keep_states], np.maximum(x, u)])
    return Group(cuts, segment.columns, free, is_full, keep_states, keep_mixed), (row, column)


def _add_couplings(
    masks: dict[Pair, Mask],
    segment: _SegmentStructure,
    problem: OptimalControlProblem,
    where: Where,
) -> None:
    """Mark the pairs of controls with a second derivative, for the pairs of blocks that a segment uses together."""
    uses = [*(stage.block for stage in segment.stages), *(term.block for _, term in segment.terms)]
    for blocks, end in segment.ends():
        for b, c in product(blocks, blocks):
            if where["control", b] > where["control", c]:
                continue
            mask = masks.setdefault((b, c), np.zeros((problem.block_lengths[b], problem.block_lengths[c]), dtype=bool))
            if b == c == end.block and uses.count(b) == 1:
                mask |= _own_couplings(end)
            else:
                mask[...] = True


def _own_couplings(end: Stage | Term) -> Mask:
    """Pairs of the controls of a segment's last stage, or of a term: where it is dense, only those of equal units."""
    layer: Any = end.layer
    if not isinstance(layer, Dense) or (isinstance(end, Term) and end.data.couples_outputs):
        return np.ones((layer.num_controls, layer.num_controls), dtype=bool)
    unit = np.arange(layer.num_controls) % layer.num_outputs
    return np.asarray(unit[:, None] == unit)
