"""Output constraints as rows of a dense matrix, for problems that are small enough."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ....forward_dp import LinearTerm, Subproblem
from ....forward_dp.condensed import Condensed
from ....problem.constraints.constrained_problem import ConstrainedProblem
from ....problem.constraints.control_sets import GroupLasso
from ....problem.constraints.output_constraint import OutputConstraint
from ....problem.structure import Term
from ....problem.trajectory import Trajectory

__all__ = ["data_jacobian", "is_small", "row_jacobian", "whole_jacobian"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Controls, and numbers in the Jacobian, up to which matrices are dense.
_MOST_CONTROLS, _MOST_NUMBERS = 600, 2e7


def is_small(problem: ConstrainedProblem) -> bool:
    """Whether dense matrices are for it: few controls and numbers, x_0 known, no sparse groups."""
    rows = problem.num_rows + sum(
        c.num_outputs * len(c.stages) for c in problem.constraints if isinstance(c, OutputConstraint)
    )
    small = problem.num_controls <= _MOST_CONTROLS
    small = small and problem.num_samples * rows * problem.num_controls <= _MOST_NUMBERS
    return small and not problem.has_free_start and not any(isinstance(c, GroupLasso) for c in problem.constraints)


def whole_jacobian(problem: ConstrainedProblem, point: Trajectory) -> Array:
    """Derivatives of all outputs of the data and of output constraints in all controls, (N, rows, P).

    The states are eliminated; rows stand in the order of the terms of :meth:`.ConstrainedProblem.priced`.
    """
    priced = problem.priced(problem.zero_multipliers())
    inner = len(priced.dynamics)
    stages = priced.linearize(point)
    terms = tuple(
        LinearTerm(term.stage, stage, np.zeros(term.data.y.shape), term.block)
        for term, stage in zip(priced.terms, stages[inner:], strict=True)
    )
    subproblem = Subproblem(
        dynamics=stages[:inner],
        terms=terms,
        controls=point.controls,
        blocks=priced.blocks,
        gaps=tuple(np.zeros_like(x) for x in point.states[1:]),
        penalty=(np.inf,) * inner,
        weight_decay=1.0,
        damping=0.0,
        trusted=True,
    )
    return Condensed(subproblem).batch.whitened_jacobian().reshape(problem.num_samples, -1, problem.num_controls)


def row_jacobian(
    problem: ConstrainedProblem, point: Trajectory, rows: Sequence[Mask], whole: Array | None = None
) -> Array:
    """Derivatives of some values of output constraints in all controls.

    ``rows`` says which, of every constraint in the shape of its values; nothing is read of control sets.
    """
    whole = whole_jacobian(problem, point) if whole is None else whole
    terms = problem.priced(problem.zero_multipliers()).terms
    found = [np.zeros((0, problem.num_controls))]
    for constraint, on in zip(problem.constraints, rows, strict=True):
        if isinstance(constraint, OutputConstraint):
            for s, (k, layer) in enumerate(zip(constraint.stages, constraint.layers, strict=True)):
                found.append(whole[:, _columns(terms, layer, k, constraint)][on[s]])
    return np.concatenate(found)


def data_jacobian(problem: ConstrainedProblem, whole: Array) -> Array:
    """The rows of the data, (N m, P)."""
    found, start = [np.zeros((0, problem.num_controls))], 0
    for term in problem.priced(problem.zero_multipliers()).terms:
        stop = start + term.layer.num_outputs
        if term.data.loss.name != "price":
            found.append(whole[:, start:stop].reshape(-1, problem.num_controls))
        start = stop
    return np.concatenate(found)


def _columns(terms: Sequence[Term], layer: object, stage: int, constraint: OutputConstraint) -> slice:
    """Where the rows of a constraint at a stage stand among those of all terms."""
    start = 0
    for term in terms:
        stop = start + term.layer.num_outputs
        if term.layer is layer and term.stage == stage and term.data.loss.name == "price":
            return slice(start, stop)
        start = stop
    raise AssertionError(f"{constraint!r} is no term")
