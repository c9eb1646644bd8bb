"""The Hessian of the Lagrangian of a transcription, for CasADi solvers, from NumPy.

    sigma J + <lam_g, g>,     lam_g = lambda at the nodes

It is put together from the blocks of the segments between nodes (:mod:`.layout`); those that are equal but for their
data are evaluated at once.  Gauss-Newton leaves the curvature of stages and outputs out: rho I, alpha I for a free x_0,
and the terms' J' (w phi'') J.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from itertools import product
from typing import Any, Literal

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ...network.linear_stages import LinearStage
from ...problem.curvature import hessian_of_segment
from ...problem.segment import segment_between, stacked
from ...problem.trajectory import Trajectory
from .constraint_rows import in_prices, priced, prices_of
from .layout import Group, hessian_layout
from .nonlinear_program import NLP

__all__ = ["LagrangianHessian"]

Array = NDArray[np.float64]


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
        self._problem = nlp.lagrangian_problem
        self._layout = hessian_layout(
            self._problem, nlp.nodes, nlp.variables, gauss_newton=self._gauss_newton, symmetric=symmetric
        )
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
        stages, costates, bends = self._linearised(nlp.roll(x), lam_f, lam_g)
        entries: list[Array] = []
        totals: dict[tuple[int, int], Array] = {}
        for group in layout.groups:
            if not group.is_full:
                entries.append(np.zeros(len(group.keep_states)))
                continue
            segments = [
                segment_between(self._problem, cuts, stages, costates, bends, free_start=group.free_start, weight=lam_f)
                for cuts in group.cuts
            ]
            hessian = hessian_of_segment(stacked(segments))
            entries += [hessian.states.ravel()[group.keep_states], hessian.mixed.ravel()[group.keep_mixed]]
            _collect(totals, group, hessian.controls, layout.pairs)
        for pair, keep in layout.pairs.items():
            entries.append(totals[pair].ravel()[keep] if pair in totals else np.zeros(len(keep)))
        values = np.concatenate(entries)[layout.order]
        values[layout.diagonal] += lam_f * layout.ridge
        return values

    def _linearised(
        self, trajectory: Trajectory, lam_f: float, lam_g: Array
    ) -> tuple[Sequence[LinearStage], Sequence[Array] | None, list[Array | None]]:
        """All rows, their costates (None for Gauss-Newton), and the terms' second derivatives in their outputs."""
        nlp, gauss_newton = self._nlp, self._gauss_newton
        stages, outputs = nlp.linearize(trajectory)
        bends = self._problem.output_curvatures(outputs, gauss_newton=gauss_newton)
        if gauss_newton:
            return stages, None, bends
        lam_g = lam_g if lam_g.size else np.zeros(nlp.num_constraints)
        gradients = [lam_f * gradient for gradient in self._problem.output_gradients(outputs)]
        if nlp.has_output_constraints:
            prices = prices_of(nlp.training, lam_g, None, nlp.variables, nlp.constraints)
            gradients = in_prices(priced(nlp.training, prices), gradients)
        return stages, self._problem.costates(nlp.shooting, stages, gradients, nlp.node_multipliers(lam_g)), bends


def _collect(
    totals: dict[tuple[int, int], Array], group: Group, controls: Array, pairs: Container[tuple[int, int]]
) -> None:
    """Add a group's second derivatives in the controls to those of its pairs of blocks."""
    for b, c in product(group.columns, group.columns):
        if (b, c) in pairs:
            part = controls[group.columns[b], group.columns[c]]
            totals[b, c] = totals[b, c] + part if (b, c) in totals else part


def _numbers(view: Any) -> Array:
    """A CasADi memory view as an array; empty where CasADi passes nothing."""
    return np.zeros(0) if view is None else np.frombuffer(view, dtype=np.float64)
