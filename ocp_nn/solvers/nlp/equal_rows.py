"""Stages, terms and segments that are equal but for their data: they are evaluated together, as one batch."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ...network.layers import Dense, Driven, Layer, Symbolic
from ...network.linear_stages import GenericStage, LinearStage, linearize_layer
from ...problem.data_term import DataTerm
from ...problem.optimal_control import OptimalControlProblem
from ...problem.segment import joined_layer
from ...problem.structure import Term
from ...problem.trajectory import Trajectory

__all__ = [
    "equal_rows",
    "equal_segments",
    "equal_terms",
    "linearized",
    "runs_of_stages",
    "stacked_input",
    "together",
]

Member = TypeVar("Member")
Array = NDArray[np.float64]


def layer_key(layer: Layer) -> Hashable:
    """Equal for layers that are one function of (x, u, v): the same dense layer, the same CasADi function."""
    if isinstance(layer, Dense):
        return layer.num_inputs, layer.num_outputs, layer.activation, layer.residual
    return hash(layer.function)


def runs_of_stages(problem: OptimalControlProblem, nodes: Sequence[int]) -> list[range]:
    """The stages in runs of one function and one control block, whose states are nodes from the second on."""
    runs: list[range] = []
    at_node = frozenset(nodes)
    keys = [(layer_key(stage.layer), stage.block) for stage in problem.dynamics]
    for k, key in enumerate(keys):
        if runs and k in at_node and key == keys[k - 1]:
            runs[-1] = range(runs[-1].start, k + 1)
        else:
            runs.append(range(k, k + 1))
    return runs


def equal_terms(problem: OptimalControlProblem) -> list[list[int]]:
    """The terms in groups of one output, one control block and one loss, by the first of each."""
    return _grouped((_term_key(term), j) for j, term in enumerate(problem.terms))


def equal_segments(problem: OptimalControlProblem, nodes: Sequence[int]) -> list[list[tuple[int, int]]]:
    """The segments (first, last) between nodes in groups that are equal but for their data."""
    rows = [(layer_key(stage.layer), stage.block) for stage in problem.dynamics]
    terms = [_term_key(term) for term in problem.terms]

    def key(first: int, last: int) -> Hashable:
        looking = [(k - first, terms[j]) for k in range(first, last) for j in problem.terms_at[k]]
        is_free = first > 0 or problem.has_free_start
        return is_free, tuple(rows[first:last]), tuple(looking)

    return _grouped((key(*cuts), cuts) for cuts in pairwise((0, *nodes, problem.num_stages)))


def equal_rows(problem: OptimalControlProblem) -> list[list[int]]:
    """All rows, stages and then terms, in groups of one function and one control block."""
    return _grouped(((layer_key(row.layer), row.block), j) for j, row in enumerate(problem.rows))


def linearized(
    problem: OptimalControlProblem, groups: Sequence[Sequence[int]], trajectory: Trajectory, outputs: Sequence[Array]
) -> tuple[LinearStage, ...]:
    """``problem.linearize``, the Jacobians of each group of :func:`equal_rows` by one call of CasADi."""
    at = (*range(len(problem.dynamics)), *(term.stage for term in problem.terms))
    found: dict[int, LinearStage] = {}
    for group in groups:
        u = trajectory.controls[problem.row_blocks[group[0]]]
        states = [trajectory.states[at[j]] for j in group]
        layers = [layer for j in group if not isinstance(layer := problem.layers[j], Dense)]
        if len(layers) < 2:
            each = [linearize_layer(problem.layers[j], x, u, outputs[j]) for j, x in zip(group, states, strict=True)]
        else:
            each = _linearized(layers, states, u)
        found |= zip(group, each, strict=True)
    return tuple(found[j] for j in range(len(problem.rows)))


def _linearized(layers: Sequence[Symbolic | Driven], states: Sequence[Array], u: Array) -> list[LinearStage]:
    """Layers that are one function, at the states of each."""
    x, samples = np.concatenate(states), len(states[0])
    a, b = joined_layer(layers).jacobians(x, u)
    cuts = [slice(start, start + samples) for start in range(0, len(x), samples)]
    return [GenericStage(layer, x[cut], u, a[cut], b[cut]) for layer, cut in zip(layers, cuts, strict=True)]


def together(problem: OptimalControlProblem, terms: Sequence[int]) -> DataTerm:
    """The data of equal terms as one, the samples of the first before those of the second."""
    data = [problem.terms[j].data for j in terms]
    if len(data) == 1:
        return data[0]
    y = np.concatenate([term.y for term in data])
    weights = [term.weights for term in data]
    if all(w is None for w in weights):
        return DataTerm(data[0].loss, y, None)
    by_number = any(w is not None and w.ndim == 2 for w in weights)
    full = [_full(term, by_number) for term in data]
    return DataTerm(data[0].loss, y, np.concatenate(full))


def stacked_input(layers: Sequence[Layer]) -> list[Array]:
    """The exogenous inputs of layers with one key below each other; empty where they have none."""
    driven = [layer.v for layer in layers if isinstance(layer, Driven)]
    return [np.concatenate(driven)] if driven else []


def _full(term: DataTerm, by_number: bool) -> Array:
    weights = np.ones(len(term.y)) if term.weights is None else term.weights
    return np.broadcast_to(weights[:, None], term.y.shape) if by_number and weights.ndim == 1 else weights


def _term_key(term: Term) -> Hashable:
    return layer_key(term.layer), term.block, term.data.loss


def _grouped(keyed: Iterable[tuple[Hashable, Member]]) -> list[list[Member]]:
    groups: dict[Hashable, list[Member]] = {}
    for key, member in keyed:
        groups.setdefault(key, []).append(member)
    return list(groups.values())
