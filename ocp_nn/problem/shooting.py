"""The two recursions of every shooting formulation: the roll of the states and that of the costates.

The formulations differ in one thing only, which states are *nodes*, that is variables of their own:

    states      x_{k+1} = f_k(x_k, u_k)    between nodes; at a node the state is given, or f_k(x_k, u_k) less a slack
    costates    lambda_K = residual,  lambda_k = A_k' lambda_{k+1}    between nodes; at a node the multiplier is given

No nodes is single shooting, whose two recursions are the rollout and back-propagation; all of x_1..x_{K-1} is multiple
shooting; some of them is partial shooting.  (The certificate has recursions of its own, on purpose.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..base import checks
from ..network.layers import Layer
from ..network.linear_stages import LinearStage

__all__ = ["SINGLE_SHOOTING", "Shooting", "check_nodes"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]


@dataclass(frozen=True)
class Shooting:
    """Shooting between nodes.

    Attributes
    ----------
    nodes : frozenset of int
        The k in 1..K-1 whose state x_k is a variable.
    """

    nodes: frozenset[int] = frozenset()

    @classmethod
    def from_penalty(cls, penalty: Sequence[float]) -> Shooting:
        """The nodes that penalties beta_0..beta_{K-2} say: x_{k+1} is one where beta_k is finite."""
        return cls(frozenset(k for k, beta in enumerate(penalty, start=1) if np.isfinite(beta)))

    def roll(
        self,
        layers: Sequence[Layer],
        x: Array,
        controls: Sequence[Array],
        *,
        states: Sequence[Array] = (),
        slacks: Sequence[Array] = (),
    ) -> tuple[Arrays, Arrays]:
        """States x_0..x_{K-1}, and the outputs f_k(x_k, u_k) of all stages but the last, which ends in the objective.

        Parameters
        ----------
        layers : K layers
        x : array (N, n_0)
            The states x_0.
        controls : K arrays
        states : K arrays, optional
            x_k at the nodes; the others are not looked at.
        slacks : K - 1 arrays, optional
            Instead of states: e_k, by which x_{k+1} falls short of f_k(x_k, u_k) at a node.
        """
        rolled, outputs = [x], list[Array]()
        for k, (layer, u) in enumerate(zip(layers[:-1], controls[:-1], strict=True)):
            output = layer.forward(rolled[k], u)
            outputs.append(output)
            if k + 1 not in self.nodes:
                rolled.append(output)
            else:
                rolled.append(output - slacks[k] if slacks else states[k + 1])
        return tuple(rolled), tuple(outputs)

    def costates(self, stages: Sequence[LinearStage], residual: Array, multipliers: Sequence[Array] = ()) -> Arrays:
        """lambda_1..lambda_K, the costates of every stage's output; the last one is the residual.

        Parameters
        ----------
        stages : K linear stages
        residual : array (N, m)
        multipliers : K - 1 arrays, optional
            lambda_1..lambda_{K-1}, looked at where the state is a node; without them back-propagation goes through.
        """
        costates = [residual]
        for k in range(len(stages) - 1, 0, -1):
            is_given = len(multipliers) > 0 and k in self.nodes
            costates.append(multipliers[k - 1] if is_given else stages[k].transpose_state(costates[-1]))
        return tuple(reversed(costates))

    def multipliers(self, stages: Sequence[LinearStage], residual: Array, multipliers: Sequence[Array] = ()) -> Arrays:
        """lambda_0..lambda_{K-1}, as a trajectory carries them: the costate of the input first."""
        costates = self.costates(stages, residual, multipliers)
        return stages[0].transpose_state(costates[0]), *costates[:-1]

    def state_gradient(self, stages: Sequence[LinearStage], costates: Sequence[Array]) -> Arrays:
        """A_k' lambda_{k+1} - lambda_k, the Lagrangian's gradient in x_1..x_{K-1}; zero for an eliminated state."""
        return tuple(
            stages[k].transpose_state(costates[k]) - costates[k - 1]
            if k in self.nodes
            else np.zeros_like(costates[k - 1])
            for k in range(1, len(stages))
        )


SINGLE_SHOOTING = Shooting()


def check_nodes(nodes: Iterable[int] | None, num_stages: int, name: str = "nodes") -> frozenset[int]:
    """The nodes as a set; None is all of 1..K-1.  Messages call them by their name.

    Raises
    ------
    ValueError
        For a node outside 1..K-1.
    """
    checks.check(name, nodes, checks.optional(checks.NODES))
    possible = frozenset(range(1, num_stages))
    chosen = possible if nodes is None else frozenset(int(k) for k in nodes)
    if not chosen <= possible:
        raise ValueError(f"{name} must lie in 1..{num_stages - 1}, received {sorted(chosen)}")
    return chosen
