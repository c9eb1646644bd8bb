"""Stages, terms and segments that are equal but for their data: they are evaluated together, as one batch."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ...network.layers import Dense, Driven, Layer
from ...problem.data_term import DataTerm
from ...problem.optimal_control import OptimalControlProblem
from ...problem.structure import Term

__all__ = ["equal_segments", "equal_terms", "runs_of_stages", "stacked_input", "together"]

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
