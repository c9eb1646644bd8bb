"""Information form: the textbook recursion, in square-root form.

Let z_k = dx_k - m_k and w = du - ubar be deviations from the mean rollout of :mod:`.sweeps`: gaps and mean controls
enter through the predicted rows only.  The cost-to-arrive is carried as V_k = 1/2 ||R_k [live w; z_k] - s_k||^2, z
stacking all samples, live w being the controls that acted before and will act again (none in a feed-forward network);
V_0 = 0 on the single point z_0 = 0, or alpha/2 ||z_0||^2.  One stage minimises

    V_{k+1} = min over z_k and the controls that act here for the last time of
        V_k  +  1/2 ||sqrt(rho + mu) w||^2, of the controls that act here for the first time
             +  1/2 ||C z_k + D w - rows||^2, of the terms here
             +  1/2 ||sqrt(beta_k) (A_k z_k + B_k w_k - z_{k+1})||^2

by a QR factorisation of the stacked rows, with the columns that are minimised over first: the rows of R that start in
those give them as an affine function of the others, the rest *is* R_{k+1}, and Q' of the stacked right-hand sides holds
s_{k+1}.  A backward sweep reads the minimiser off.  Only orthogonal transformations: no covariance, no normal
equations.

An infinite beta_k cannot be a row weight.  There the state is substituted first: stages between two nodes merge into
one :class:`Segment` (:func:`merge`).

Cost: K (N n)^3.  The textbook form, for teaching and tiny problems.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.linalg import lapack

from ..network.linear_stages import LinearStage
from .condensed import Condensed, Solution
from .subproblem import Subproblem

__all__ = ["InformationFactor", "InformationForm", "Segment", "merge"]

Array = NDArray[np.float64]
Label = Hashable

# Columns that LAPACK's Householder QR works on at a time.
_QR_BLOCK = 64

# The label of a state's columns; those of a control block are its number.
_STATE, _NEXT = "z", "next z"


@dataclass(frozen=True, eq=False)
class Affine:
    """A z + sum of B_b w_b: A is (N, n', n) or None where z is known, B_b (N, n', P_b)."""

    A: Array | None
    B: dict[int, Array]

    def then(self, stage: LinearStage, block: int) -> Affine:
        """A stage after this map."""
        a = stage.A
        following = {b: a @ part for b, part in self.B.items()}
        following[block] = following[block] + stage.B if block in following else stage.B
        return Affine(None if self.A is None else a @ self.A, following)


@dataclass(frozen=True, eq=False)
class Segment:
    """The stages between two nodes.

    Attributes
    ----------
    rows : list of Affine
        Of its terms, by the state at its start.
    end : Affine or None
        Of the state at its end; the last segment has none.
    penalty : float
        beta of its end.
    """

    rows: list[Affine] = field(default_factory=list)
    end: Affine | None = None
    penalty: float = 1.0

    @property
    def maps(self) -> list[Affine]:
        """The rows, then the end."""
        return self.rows if self.end is None else [*self.rows, self.end]

    @property
    def blocks(self) -> list[int]:
        """The control blocks that act in it, in order of appearance."""
        return list(dict.fromkeys(block for part in self.maps for block in part.B))


def merge(subproblem: Subproblem) -> list[Segment]:
    """The segments between nodes, eliminated states substituted."""
    sub, segments, rows = subproblem, [], list[Affine]()
    state = _start(sub, sub.num_inputs if np.isfinite(sub.initial_weight) else 0)
    for k in range(len(sub.dynamics) + 1):
        rows += [state.then(term.output, term.block) for term in sub.terms if term.stage == k]
        if k == len(sub.dynamics):
            break
        state = state.then(sub.dynamics[k], sub.blocks[k])
        if np.isfinite(sub.penalty[k]):
            segments.append(Segment(rows, state, sub.penalty[k]))
            state, rows = _start(sub, sub.dynamics[k].num_outputs), []
    return [*segments, Segment(rows)]


def _start(sub: Subproblem, width: int) -> Affine:
    return Affine(np.broadcast_to(np.eye(width), (sub.num_samples, width, width)) if width else None, {})


@dataclass(frozen=True, eq=False)
class _Elimination:
    """QR factors of one segment: its first ``cut`` columns, labelled ``gone``, are minimised over; ``kept`` are not."""

    reflectors: Array
    scales: Array
    row_order: NDArray[np.intp]
    gone: tuple[tuple[Label, int], ...]
    kept: tuple[tuple[Label, int], ...]
    efforts: tuple[int, ...]

    @property
    def cut(self) -> int:
        return sum(size for _, size in self.gone)

    def rotate(self, right: Array) -> Array:
        """Q' applied to the right-hand sides of the rows."""
        column = np.asfortranarray(right[self.row_order, None])
        rotated, _, info = lapack.dormqr("L", "T", self.reflectors, self.scales, column, lwork=_QR_BLOCK)
        if info != 0:
            raise ValueError(f"dormqr refused argument {-info}")
        return np.asarray(rotated[:, 0], dtype=float)

    def back_substitute(self, right: Array, found: dict[Label, Array]) -> dict[Label, Array]:
        """The values of the columns that went, from those of the columns that were kept."""
        cut = self.cut
        following = np.concatenate([found[label] for label, _ in self.kept]) if self.kept else np.zeros(0)
        coupled = right[:cut] - self.reflectors[:cut, cut:] @ following
        values = linalg.solve_triangular(self.reflectors[:cut, :cut], coupled, check_finite=False)
        starts = _starts([size for _, size in self.gone])
        return {label: values[start : start + size] for (label, size), start in zip(self.gone, starts, strict=True)}


@dataclass(frozen=True, eq=False)
class _Arrival:
    """R_k with the labels and sizes of its columns."""

    root: Array
    columns: tuple[tuple[Label, int], ...]


def _eliminate(
    arrival: _Arrival, segment: Segment, subproblem: Subproblem, later: set[int]
) -> tuple[_Elimination, _Arrival]:
    """One stage of the recursion: R_k -> (elimination of what acts here for the last time, R_{k+1})."""
    sub = subproblem
    known = dict(arrival.columns)
    new = tuple(block for block in segment.blocks if block not in known)
    sizes: dict[Label, int] = {**known, **{block: len(sub.controls[block]) for block in new}}
    gone = tuple((label, size) for label, size in sizes.items() if label == _STATE or label not in later)
    kept = tuple((label, size) for label, size in sizes.items() if (label, size) not in gone)
    if segment.end is not None:
        kept = (*kept, (_NEXT, _size(segment.end)))
    starts = dict(
        zip((label for label, _ in (*gone, *kept)), _starts([size for _, size in (*gone, *kept)]), strict=True)
    )
    columns = sum(size for _, size in (*gone, *kept))
    groups = [_placed(arrival, starts, columns)]
    groups += [_effort(sub, block, starts[block], columns) for block in new]
    groups += [_rows(part, starts, columns) for part in segment.rows]
    if segment.end is not None:
        dynamics = _rows(segment.end, starts, columns)
        dynamics[:, starts[_NEXT] :] -= np.eye(len(dynamics))
        groups.append(np.sqrt(segment.penalty) * dynamics)
    rows = np.vstack(groups)
    # heavy rows first: Householder QR is then accurate row by row (Cox and Higham 1998)
    order: NDArray[np.intp] = np.argsort(-np.abs(rows).max(axis=1), kind="stable")
    reflectors, scales, _, info = lapack.dgeqrf(
        np.asfortranarray(rows[order]), lwork=_QR_BLOCK * columns, overwrite_a=1
    )
    if info != 0:
        raise ValueError(f"dgeqrf refused argument {-info}")
    elimination = _Elimination(reflectors, scales, order, gone, kept, new)
    following = tuple((_STATE if label == _NEXT else label, size) for label, size in kept)
    cut = elimination.cut
    return elimination, _Arrival(np.triu(reflectors[cut:columns, cut:]), following)


def _size(part: Affine) -> int:
    samples, height, _ = next(iter(part.B.values())).shape
    return int(samples * height)


def _starts(sizes: Sequence[int]) -> list[int]:
    return [0, *np.cumsum(sizes).tolist()][: len(sizes)]


def _placed(arrival: _Arrival, starts: dict[Label, int], columns: int) -> Array:
    """R_k with its columns where the stage has them."""
    rows = np.zeros((len(arrival.root), columns))
    for (label, size), start in zip(arrival.columns, _starts([size for _, size in arrival.columns]), strict=True):
        rows[:, starts[label] : starts[label] + size] = arrival.root[:, start : start + size]
    return rows


def _effort(sub: Subproblem, block: int, start: int, columns: int) -> Array:
    size = len(sub.controls[block])
    rows = np.zeros((size, columns))
    rows[:, start : start + size] = np.sqrt(sub.ridges[block]) * np.eye(size)
    return rows


def _rows(part: Affine, starts: dict[Label, int], columns: int) -> Array:
    rows = np.zeros((_size(part), columns))
    if part.A is not None:
        width = part.A.shape[0] * part.A.shape[2]
        rows[:, starts[_STATE] : starts[_STATE] + width] = linalg.block_diag(*part.A)
    for block, b in part.B.items():
        rows[:, starts[block] : starts[block] + b.shape[2]] = b.reshape(len(rows), -1)
    return rows


class InformationForm:
    """The segments between nodes; the recursion is run anew for every damping."""

    def __init__(self, condensed: Condensed) -> None:
        self._condensed = condensed
        self._segments = merge(condensed.subproblem)

    def factor(self, subproblem: Subproblem) -> InformationFactor:
        """Run the recursion R_0, R_1, ..."""
        sub = subproblem
        width = sub.num_samples * sub.num_inputs if np.isfinite(sub.initial_weight) else 0
        root = np.sqrt(sub.initial_weight) * np.eye(width) if width else np.zeros((0, 0))
        arrival = _Arrival(root, ((_STATE, width),) if width else ())
        eliminations = []
        for s, segment in enumerate(self._segments):
            later = {block for after in self._segments[s + 1 :] for block in after.blocks}
            elimination, arrival = _eliminate(arrival, segment, sub, later)
            eliminations.append(elimination)
        return InformationFactor(self._condensed, tuple(self._segments), tuple(eliminations), subproblem)


@dataclass(frozen=True, eq=False)
class InformationFactor:
    """The QR factors of every segment."""

    condensed: Condensed
    segments: tuple[Segment, ...]
    eliminations: tuple[_Elimination, ...]
    subproblem: Subproblem

    def solve(self, first: Array, second: Array) -> Solution:
        w = self._minimise(first, second)
        return Solution(self.condensed.noise_solve(first + self.condensed.tangent(w)), w)

    def precondition(self, second: Array) -> Array:
        return self._minimise(np.zeros((self.subproblem.num_samples, self.subproblem.num_rows)), second)

    def _minimise(self, first: Array, second: Array) -> Array:
        """w of the system (*) of :mod:`.condensed`: s_{k+1} forward, (z_k, w) backward."""
        sub, samples = self.subproblem, self.subproblem.num_samples
        efforts = [second[cut] / np.sqrt(ridge) for cut, ridge in zip(sub.cuts, sub.ridges, strict=True)]
        rotated, row = [], 0
        # z_0 deviates from g_0, where the prior of a free x_0 has its minimum
        arrival = np.zeros(sum(size for label, size in self.eliminations[0].gone if label == _STATE))
        for elimination, segment in zip(self.eliminations, self.segments, strict=True):
            right = [arrival, *(efforts[block] for block in elimination.efforts)]
            for part in segment.rows:
                height = _size(part) // samples
                right.append(-first[:, row : row + height].ravel())
                row += height
            if segment.end is not None:
                right.append(np.zeros(_size(segment.end)))
            rotated.append(elimination.rotate(np.concatenate(right)))
            arrival = rotated[-1][elimination.cut : elimination.reflectors.shape[1]]
        found: dict[Label, Array] = {}
        for elimination, right_side in zip(reversed(self.eliminations), reversed(rotated), strict=True):
            if _STATE in found:
                found[_NEXT] = found.pop(_STATE)
            found |= elimination.back_substitute(right_side, found)
        return np.concatenate([found[block] for block in range(len(sub.controls))])
