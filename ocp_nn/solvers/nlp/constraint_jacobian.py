"""The Jacobian of the constraints of multiple shooting, for IPOPT, where many stages share their controls.

CasADi finds the Jacobian of a program column group by column group: with a control block of P numbers that all stages
use, P directional derivatives of all stages.  (1,000 stages, 3 samples, 4 states, P = 169: 15 s to build, 1.4 s an
evaluation.)  Row by row it is a few numbers only,

    d_k = f_k(x_k, u_c(k)) - x_{k+1}:      A_k in x_k (where that is a variable), B_k in u_c(k), and -I in x_{k+1},

and CasADi's A_k and B_k for all stages of one function and control block are one batch.
"""

from __future__ import annotations

from typing import NamedTuple

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ...network.layers import Layer
from .equal_rows import runs_of_stages, stacked_input
from .nonlinear_program import NLP

__all__ = ["constraint_jacobian"]

Index = NDArray[np.int64]

# Column of a state that is no variable: negative, whatever is added to it.
_KNOWN = -(2**40)


def constraint_jacobian(nlp: NLP) -> ca.Function | None:
    """(x, p) -> (g, dg/dx) as IPOPT takes it; None where CasADi's own is as good.

    That is where there are other constraints, where a state is no variable, so that constraints are chains of stages,
    or where no two stages follow one another with one function and control block.
    """
    runs = runs_of_stages(nlp.training, nlp.nodes)
    stages = len(nlp.training.dynamics)
    if len(nlp.nodes) < stages or len(runs) == stages or not nlp.has_only_defects:
        return None
    x = ca.MX.sym("x", nlp.num_variables)
    parts = [_rows(nlp, run, x) for run in runs]
    row, column = (np.concatenate([getattr(part, name) for part in parts]) for name in ("row", "column"))
    kept = np.flatnonzero(column >= 0)
    order = kept[np.lexsort((row[kept], column[kept]))]
    starts = np.concatenate([[0], np.cumsum(np.bincount(column[order], minlength=nlp.num_variables))])
    sparsity = ca.Sparsity(nlp.num_constraints, nlp.num_variables, starts.tolist(), row[order].tolist())
    jacobian = ca.MX(sparsity, ca.vertcat(*[part.entries for part in parts])[order.tolist()])
    g = ca.vertcat(*[part.defects for part in parts])
    return ca.Function("nlp_jac_g", [x, ca.MX.sym("p", 0, 0)], [g, jacobian], ["x", "p"], ["g", "jac_g_x"])


class _Rows(NamedTuple):
    """Constraints, their derivatives' entries, and where these stand."""

    defects: ca.MX
    entries: ca.MX
    row: Index
    column: Index


def _rows(nlp: NLP, run: range, x: ca.MX) -> _Rows:
    """The defects of a run of stages."""
    problem, samples = nlp.training, nlp.training.num_samples
    stages = problem.dynamics[run.start : run.stop]
    layer = stages[0].layer
    where = {block.name: block.where for block in (*nlp.variables, *nlp.constraints)}
    control = where[f"u{stages[0].block}"]
    states = [
        ca.reshape(x[where[f"x{k}"]], -1, samples) if f"x{k}" in where else ca.DM(problem.x.T)
        for k in range(run.start, run.stop + 1)
    ]
    derivatives = _Derivatives(layer, len(run) * samples)
    exogenous = [ca.DM(v.T) for v in stacked_input([stage.layer for stage in stages])]
    f, entries = derivatives.batch(ca.horzcat(*states[:-1]), x[control], *exogenous)

    def positions(names: list[str], width: int) -> Index:
        """Where the first number of each sample of each stage stands, (stages times samples, 1)."""
        starts = [where[name].start if name in where else _KNOWN for name in names]
        return (np.array(starts)[:, None] + width * np.arange(samples)).reshape(-1, 1)

    row = positions([f"d{k}" for k in run], layer.num_outputs)
    before = positions([f"x{k}" for k in run], layer.num_inputs)
    after = positions([f"x{k + 1}" for k in run], layer.num_outputs)
    unit = np.arange(layer.num_outputs)
    in_controls = np.broadcast_to(control.start + derivatives.b[1], (len(row), len(derivatives.b[1])))
    return _Rows(
        ca.vec(f - ca.horzcat(*states[1:])),
        ca.vertcat(ca.vec(entries), -ca.DM.ones(len(row) * len(unit))),
        np.concatenate([np.hstack([row + derivatives.a[0], row + derivatives.b[0]]).ravel(), (row + unit).ravel()]),
        np.concatenate([np.hstack([before + derivatives.a[1], in_controls]).ravel(), (after + unit).ravel()]),
    )


class _Derivatives:
    """A stage for a batch, with the entries of A and B that are not zero; ``a`` and ``b`` are their (rows, columns)."""

    def __init__(self, layer: Layer, samples: int) -> None:
        function = layer.function
        inputs = [ca.SX.sym(name, function.numel_in(i)) for i, name in enumerate("xuv"[: function.n_in()])]
        f = function(*inputs)
        a, b = ca.jacobian(f, inputs[0]), ca.jacobian(f, inputs[1])
        self.a, self.b = (tuple(np.array(i, dtype=np.int64) for i in m.sparsity().get_triplet()) for m in (a, b))
        entries = ca.densify(ca.vertcat(*a.nonzeros(), *b.nonzeros()))
        one = ca.Function("derivatives", inputs, [ca.densify(f), entries])
        self.batch = one.map("derivatives", "serial", samples, [1], [])
