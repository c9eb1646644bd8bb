"""The sweep of :func:`.curvature.second_order_sweep` for deep networks of equally wide dense layers, stacked.

On narrow layers NumPy's time goes by between the operations.  What does not wait for the layer before or behind, most
of the products, is therefore done for all layers at once; left for the two recursions are

    dx_{k+1} = D_k * (dx_k W_k' + da_k) + c_k        and        eta_k = g_k W_k + lambda_{k+1} D_k dW_k,

with g_k = eta_{k+1} D_k + lambda_{k+1} phi''_k da_k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..network.linear_stages import DenseStage, LinearStage
from .curvature import Swept
from .optimal_control import OptimalControlProblem
from .segment import times

__all__ = ["DenseChain"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]


@dataclass(frozen=True, eq=False)
class DenseChain:
    """The layers of a network at a point, with the multipliers that bend them; L = K - 2 layers n -> n are stacked.

    Attributes
    ----------
    first, last : DenseStage
        The layers n_0 -> n and n -> m.
    costates : tuple of 2 arrays
        Of the outputs of these.
    bend : array or None
        w phi'' of the loss.
    residual : bool
        Whether the inner layers have skip connections.
    x, slope, change, pull : arrays (L, N, n)
        x_1..x_{K-2}, D, lambda phi'' and lambda D of the inner layers.
    weight : array (L, n, n)
        W' of the inner layers.
    """

    first: DenseStage
    last: DenseStage
    costates: tuple[Array, Array]
    bend: Array | None
    residual: bool
    x: Array
    slope: Array
    change: Array
    pull: Array
    weight: Array

    @classmethod
    def of(
        cls,
        problem: OptimalControlProblem,
        stages: Sequence[LinearStage],
        costates: Sequence[Array],
        bends: Sequence[Array | None],
    ) -> DenseChain | None:
        """The chain; None where the layers of the problem are no such one.

        Parameters
        ----------
        problem : OptimalControlProblem
        stages : sequence of LinearStage
            Of all rows.
        costates : sequence of arrays
            lambda_1.. of all rows.
        bends : sequence of arrays or None
            As for :func:`.curvature.second_order_sweep`.
        """
        layers = [stage for stage in stages if isinstance(stage, DenseStage)]
        if not _is_chain(problem, layers):
            return None
        first, *inner, last = layers
        slope, etas = np.stack([stage.slope for stage in inner]), np.stack(costates[1:-1])
        phi = inner[0].layer.phi
        return cls(
            first=first,
            last=last,
            costates=(costates[0], costates[-1]),
            bend=bends[0],
            residual=inner[0].layer.residual,
            x=np.stack([stage.x for stage in inner]),
            slope=slope,
            change=etas * phi.curvature(np.stack([stage.value for stage in inner])),
            pull=etas * slope,
            weight=np.stack([stage.weight.T for stage in inner]),
        )

    def sweep(
        self, direction: Sequence[Array], gaps: Sequence[Array] | None = None, gradients: Sequence[Array] | None = None
    ) -> Swept:
        """:func:`.curvature.second_order_sweep`, one direction a layer."""
        n, depth = self.x.shape[2], len(self.x)
        tables = np.stack(direction[1:-1]).reshape(depth, n + 1, n)
        a = self.x @ tables[:, :-1]
        a += tables[:, -1:]
        dx = self._tangents(direction[0], a, gaps)
        bent = self.last.curvature_product(self.costates[1], dx[-1], direction[-1])
        moved = times(self.bend, self.last.apply(dx[-1], direction[-1])[:, :, None])[:, :, 0]
        eta = moved if gradients is None else moved + gradients[0]
        pulled_last = self.last.transpose_control(eta) + bent[1]
        etas, g = self._costates(self.last.transpose_state(eta) + bent[0], a, tables)
        outer = np.empty_like(tables)
        np.matmul(self.x.transpose(0, 2, 1), g, out=outer[:, :-1])
        outer[:, :-1] += dx[:-1].transpose(0, 2, 1) @ self.pull
        outer[:, -1] = g.sum(axis=1)
        _, bent_first = self.first.curvature_product(self.costates[0], None, direction[0])
        pulled_first = self.first.transpose_control(etas[0]) + bent_first
        return Swept((None, *dx), tuple(etas), (pulled_first, *outer.reshape(depth, -1), pulled_last))

    def _tangents(self, first: Array, a: Array, gaps: Sequence[Array] | None) -> Array:
        """dx_1..dx_{K-1}, (L + 1, N, n); what the dx add to the preactivations is added to a."""
        dx = np.empty((len(a) + 1, *a.shape[1:]))
        dx[0] = self.first.apply(None, first)
        if gaps is not None:
            dx[0] += gaps[0]
        for k, here in enumerate(a):
            here += dx[k] @ self.weight[k]
            np.multiply(self.slope[k], here, out=dx[k + 1])
            if self.residual:
                dx[k + 1] += dx[k]
            if gaps is not None:
                dx[k + 1] += gaps[k + 1]
        return dx

    def _costates(self, last: Array, a: Array, tables: Array) -> tuple[Array, Array]:
        """eta_1..eta_{K-1}, (L + 1, N, n), and g of the inner layers."""
        etas, g = np.empty((len(a) + 1, *a.shape[1:])), np.multiply(self.change, a)
        etas[-1] = last
        np.matmul(self.pull, tables[:, :-1].transpose(0, 2, 1), out=etas[:-1])
        back = self.weight.transpose(0, 2, 1)
        for k in range(len(a) - 1, -1, -1):
            g[k] += etas[k + 1] * self.slope[k]
            etas[k] += g[k] @ back[k]
            if self.residual:
                etas[k] += etas[k + 1]
        return etas, g


def _is_chain(problem: OptimalControlProblem, layers: Sequence[DenseStage]) -> bool:
    """Whether all layers are dense, each with controls of its own, the inner ones alike, and the last the only term."""
    if len(layers) != problem.num_stages or len(layers) < 3 or problem.row_blocks != tuple(range(len(layers))):
        return False
    kinds = {(s.num_inputs, s.num_outputs, s.layer.activation, s.layer.residual) for s in layers[1:-1]}
    return len(kinds) == 1 and layers[0].num_outputs == layers[1].num_inputs == layers[1].num_outputs
