"""The Hessian of the Lagrangian of a transcription, for CasADi solvers, from NumPy.

    sigma J + <lam_g, g>,     lam_g = lambda at the nodes

No second derivative couples two segments between nodes (:mod:`ocp_nn.curvature`), and the variables of a segment,
its starting state and its controls, are neighbours in the program.  So the matrix is block diagonal, and each block

    [ blockdiag_i  H_xx^i    H_xu ]
    [              .         H_uu ]

is dense but for two facts: samples couple only through controls, and in the last layer of a segment, if that is
dense, controls couple only within a unit.

Gauss-Newton leaves the curvature of the stages out: rho I, plus J_r' J_r in the segment that ends in the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from .curvature import segment_hessian
from .linearize import LinearStage
from .network import Dense
from .transcription import NLP

__all__ = ["HessianLayout", "LagrangianHessian", "hessian_layout"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]


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


def hessian_layout(nlp: NLP, *, gauss_newton: bool, symmetric: bool = False) -> HessianLayout:
    """The structure of :class:`LagrangianHessian`; a superset of CasADi's where an activation is linear."""
    cuts = (0, *nlp.nodes, nlp.training.num_stages)
    where = {block.name: block for block in nlp.variables}
    segments, rows, columns = [], [], []
    for first, last in pairwise(cuts):
        segment, i, j = _segment(nlp, first, last, where[f"x{first}" if first else "u0"].start, gauss_newton)
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
    n = nlp.num_variables
    starts = np.concatenate([[0], np.cumsum(np.bincount(column, minlength=n))])
    row, column = row[order], column[order]
    controls = np.zeros(n, dtype=bool)
    for block in nlp.variables:
        controls[block.where] = block.kind == "control"
    diagonal = np.flatnonzero((row == column) & controls[column])
    return HessianLayout(tuple(segments), ca.Sparsity(n, n, starts.tolist(), row.tolist()), source[order], diagonal)


def _segment(nlp: NLP, first: int, last: int, start: int, gauss_newton: bool) -> tuple[Segment, Index, Index]:
    """One segment, and row and column of its kept entries."""
    layers = nlp.training.network.layers[first:last]
    samples = nlp.training.num_samples
    width = layers[0].num_inputs if first else 0
    controls = sum(layer.num_controls for layer in layers)
    ends_in_loss = last == nlp.training.num_stages
    full = ends_in_loss or not gauss_newton
    origin = start + samples * width
    sample, a, b = np.indices((samples, width, width)).reshape(3, -1)
    keep_states = np.flatnonzero((a <= b) & full)
    states = start + sample * width
    x, u = np.indices((samples * width, controls)).reshape(2, -1)
    keep_mixed = np.flatnonzero(np.full(x.shape, full))
    p, q = np.indices((controls, controls)).reshape(2, -1)
    coupled = full & _couplings(layers[-1], controls).ravel()
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


class LagrangianHessian(ca.Callback):  # type: ignore[misc]
    """CasADi's ``hess_lag``: (x, p, lam_f, lam_g) -> upper triangle of the Hessian of the Lagrangian.

    Keep a reference to the object for as long as a solver uses it: CasADi does not.

    An exception inside it (Ctrl-C too) cannot pass through CasADi; it is kept in ``error`` and the evaluation fails.

    Parameters
    ----------
    nlp : NLP
    kind : {"exact", "gauss-newton"}
    symmetric : bool
        Give the whole matrix: IPOPT takes the upper triangle, the SQP methods of CasADi want all of it.
    """

    def __init__(self, nlp: NLP, kind: Literal["exact", "gauss-newton"] = "exact", *, symmetric: bool = False) -> None:
        super().__init__()
        self.error: BaseException | None = None
        self._nlp = nlp
        self._gauss_newton = kind == "gauss-newton"
        self._symmetric = symmetric
        self._layout = hessian_layout(nlp, gauss_newton=self._gauss_newton, symmetric=symmetric)
        self.construct("nlp_hess_l", {})

    def get_n_in(self) -> int:
        return 4

    def get_n_out(self) -> int:
        return 1

    def get_name_in(self, i: int) -> str:
        return ("x", "p", "lam_f", "lam_g")[i]

    def get_name_out(self, i: int) -> str:
        return "hess_gamma_x_x" if self._symmetric else "triu_hess_gamma_x_x"

    def get_sparsity_in(self, i: int) -> ca.Sparsity:
        lengths = (self._nlp.num_variables, 0, 1, self._nlp.num_constraints)
        return ca.Sparsity.dense(lengths[i], 0 if i == 1 else 1)

    def get_sparsity_out(self, i: int) -> ca.Sparsity:
        return self._layout.sparsity

    def has_eval_buffer(self) -> bool:
        return True

    def eval_buffer(self, arg: Sequence[Any], res: Sequence[Any]) -> int:
        # memory views instead of DM: no conversion of a million numbers (50-77 ns each)
        try:
            x, _, lam_f, lam_g = (_numbers(view) for view in arg)
            _numbers(res[0])[:] = self.nonzeros(x, float(lam_f[0]) if lam_f.size else 0.0, lam_g)
        except BaseException as error:  # CasADi is C++: keep it, report failure, let the caller raise it
            self.error = error
            return 1
        return 0

    def nonzeros(self, x: Array, lam_f: float, lam_g: Array) -> Array:
        """The entries of the upper triangle in CasADi's order."""
        nlp, layout = self._nlp, self._layout
        stages, residual = nlp.linearize(nlp.roll(x))
        lam_g = lam_g if lam_g.size else np.zeros(nlp.num_constraints)
        costates = nlp.shooting.costates(stages, lam_f * residual, nlp.node_multipliers(lam_g))
        values = np.concatenate([self._entries(segment, stages, costates, lam_f) for segment in layout.segments])
        values = values[layout.order]
        values[layout.diagonal] += lam_f * nlp.training.weight_decay
        return values

    def _entries(
        self, segment: Segment, stages: Sequence[LinearStage], costates: Sequence[Array], lam_f: float
    ) -> Array:
        part = slice(segment.first, segment.last)
        if self._gauss_newton and not segment.ends_in_loss:
            return np.zeros(len(segment.keep_controls))
        hessian = segment_hessian(
            stages[part],
            None if self._gauss_newton else costates[part],
            free_start=segment.free_start,
            loss=lam_f if segment.ends_in_loss else 0.0,
        )
        return np.concatenate(
            [
                hessian.states.ravel()[segment.keep_states],
                hessian.mixed.ravel()[segment.keep_mixed],
                hessian.controls.ravel()[segment.keep_controls],
            ]
        )


def _numbers(view: Any) -> Array:
    """A CasADi memory view as an array; empty where CasADi passes nothing."""
    return np.zeros(0) if view is None else np.frombuffer(view, dtype=np.float64)
