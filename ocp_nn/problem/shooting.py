"""The two recursions of every shooting formulation: the roll of the states and that of the costates.

The formulations differ in one thing only, which states are *nodes*, that is variables of their own:

    states      x_{k+1} = f_k(x_k, u_c(k))                     between nodes; at a node the state is given, or
                                                               f_k(x_k, u_c(k)) less a slack
    costates    lambda_k = A_k' lambda_{k+1} + sum_j C_j' g_j  between nodes, j the terms at stage k and g_j their
                                                               gradients; at a node the multiplier is given

No nodes is single shooting, whose two recursions are the rollout and back-propagation; all of x_1..x_{K-1} is multiple
shooting; some of them is partial shooting.  (The certificate has recursions of its own, on purpose.)

Rows.  Linearised stages and costates come as K - 1 stages of dynamics followed by the terms: the costate of a stage is
that of its output, lambda_{k+1}, and that of a term its gradient g_j.  In a feed-forward network, where the last layer
is the one term, these are simply its layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..base import checks
from ..network.linear_stages import LinearStage
from .structure import Stage

__all__ = ["SINGLE_SHOOTING", "Shooting", "check_nodes", "pulled_back"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]
# For every stage k = 0..K-1, which of the terms look at x_k.
TermsAt = Sequence[Sequence[int]]


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
        dynamics: Sequence[Stage],
        x: Array,
        controls: Sequence[Array],
        *,
        states: Sequence[Array] = (),
        slacks: Sequence[Array] = (),
    ) -> tuple[Arrays, Arrays]:
        """States x_0..x_{K-1}, and the outputs f_k(x_k, u_c(k)) of all stages.

        Parameters
        ----------
        dynamics : K - 1 stages
        x : array (N, n_0)
            The states x_0.
        controls : arrays
            One a block.
        states : K arrays, optional
            x_k at the nodes; the others are not looked at.
        slacks : K - 1 arrays, optional
            Instead of states: e_k, by which x_{k+1} falls short of f_k(x_k, u_c(k)) at a node.
        """
        rolled, outputs = [x], list[Array]()
        for k, stage in enumerate(dynamics):
            output = stage.layer.forward(rolled[k], controls[stage.block])
            outputs.append(output)
            if k + 1 not in self.nodes:
                rolled.append(output)
            else:
                rolled.append(output - slacks[k] if slacks else states[k + 1])
        return tuple(rolled), tuple(outputs)

    def costates(
        self,
        stages: Sequence[LinearStage],
        gradients: Sequence[Array],
        terms_at: TermsAt,
        multipliers: Sequence[Array] = (),
    ) -> Arrays:
        """The costates of all rows: lambda_1..lambda_{K-1}, then the terms' gradients.

        Parameters
        ----------
        stages : linear stages
            Of all rows.
        gradients : arrays (N, m_j)
            One a term.
        terms_at : K sequences of int
        multipliers : K - 1 arrays, optional
            lambda_1..lambda_{K-1}, looked at where the state is a node; without them back-propagation goes through.
        """
        inner = len(stages) - len(gradients)
        costates = [*[_NONE] * inner, *gradients]
        for k in range(inner, 0, -1):
            is_given = len(multipliers) > 0 and k in self.nodes
            costates[k - 1] = multipliers[k - 1] if is_given else pulled_back(stages, costates, terms_at, k)
        return tuple(costates)

    def state_gradient(self, stages: Sequence[LinearStage], costates: Sequence[Array], terms_at: TermsAt) -> Arrays:
        """The Lagrangian's gradient in x_1..x_{K-1}: what is pulled back, less lambda_k; zero for an eliminated one."""
        return tuple(
            pulled_back(stages, costates, terms_at, k) - costates[k - 1]
            if k in self.nodes
            else np.zeros_like(costates[k - 1])
            for k in range(1, len(terms_at))
        )


SINGLE_SHOOTING = Shooting()

_NONE = np.zeros(0)


def pulled_back(stages: Sequence[LinearStage], costates: Sequence[Array], terms_at: TermsAt, k: int) -> Array:
    """A_k' lambda_{k+1} + sum_j C_j' g_j, (N, n_k): what everything after x_k, and the terms at it, say of x_k."""
    inner = len(terms_at) - 1
    rows = [k] if k < inner else []
    rows += [inner + j for j in terms_at[k]]
    first, *others = rows
    total = stages[first].transpose_state(costates[first])
    for row in others:
        total = total + stages[row].transpose_state(costates[row])
    return total


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
