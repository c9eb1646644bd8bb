"""The Hessian of the Lagrangian of a transcription, for CasADi solvers, from NumPy.

    sigma J + <lam_g, g>,     lam_g = lambda at the nodes

It is block diagonal (:mod:`.layout`).  Gauss-Newton leaves the curvature of the stages out: rho I, plus
J' (w phi'') J in the segment that ends in the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ...network.linear_stages import LinearStage
from ...problem.curvature import segment_hessian
from ...problem.trajectory import Trajectory
from .layout import Segment, hessian_layout
from .transcription import NLP

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
        self._layout = hessian_layout(
            nlp.training, nlp.nodes, nlp.variables, gauss_newton=self._gauss_newton, symmetric=symmetric
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
        trajectory = nlp.roll(x)
        stages, in_output = nlp.linearize(trajectory)
        bend = self._output_curvature(trajectory)
        lam_g = lam_g if lam_g.size else np.zeros(nlp.num_constraints)
        costates = nlp.training.costates(nlp.shooting, stages, [lam_f * in_output], nlp.node_multipliers(lam_g))
        values = np.concatenate([self._entries(segment, stages, costates, lam_f, bend) for segment in layout.segments])
        values = values[layout.order]
        values[layout.diagonal] += lam_f * nlp.training.weight_decay
        return values

    def _output_curvature(self, trajectory: Trajectory) -> Array | None:
        training = self._nlp.training
        output = training.network.layers[-1].forward(trajectory.states[-1], trajectory.controls[-1])
        return training.data.curvature(output, gauss_newton=self._gauss_newton)

    def _entries(
        self,
        segment: Segment,
        stages: Sequence[LinearStage],
        costates: Sequence[Array],
        lam_f: float,
        output_curvature: Array | None,
    ) -> Array:
        part = slice(segment.first, segment.last)
        if self._gauss_newton and not segment.ends_in_loss:
            return np.zeros(len(segment.keep_controls))
        hessian = segment_hessian(
            stages[part],
            None if self._gauss_newton else costates[part],
            free_start=segment.free_start,
            loss=lam_f if segment.ends_in_loss else 0.0,
            output_curvature=output_curvature if segment.ends_in_loss else None,
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
