"""The constraints of a problem in a transcription: rows of g and bounds on controls, and their multipliers.

CasADi's Lagrangian is f + lam_g' g + lam_x' x and ours J + ... + sum <m_j, c_j> + <m_j, u>: rows of g below the defects
have m_j for lam_g, sample by sample and stage by stage, and bounds on controls have it for lam_x, both with the signs
that they have here.  Samples that a constraint is not asked for have no row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ...network.layers import Driven
from ...problem.constraints.constrained_problem import ConstrainedProblem
from ...problem.constraints.control_sets import ControlBounds, Lasso
from ...problem.constraints.envelope import Price
from ...problem.constraints.output_constraint import OutputConstraint
from ...problem.optimal_control import OptimalControlProblem
from .layout import Block
from .sparse_rows import lasso_prices, multipliers_of_rows, subgradients
from .state_columns import StateColumns

__all__ = [
    "in_prices",
    "output_constraints",
    "priced",
    "prices_of",
    "prices_of_rows",
    "prices_of_variables",
    "row_names",
    "with_constraints",
]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]
Bounds = dict[str, Array]
Batch = Callable[..., ca.MX]


def output_constraints(
    problem: OptimalControlProblem, states: StateColumns, controls: dict[int, ca.MX], batch: Batch
) -> Iterator[tuple[int, ca.MX]]:
    """The number of every output constraint, and its rows."""
    for j, constraint in _outputs(problem):
        asked = _asked(constraint, problem)
        rows = []
        for k, layer in zip(constraint.stages, constraint.layers, strict=True):
            v = [ca.MX(ca.DM(layer.v.T))] if isinstance(layer, Driven) else []
            value = batch(layer, states.columns([k]), controls[constraint.block], *v)
            rows.append(ca.vec(value if constraint.samples is None else value[:, asked.tolist()]))
        yield j, ca.vertcat(*rows)


def with_constraints(
    problem: OptimalControlProblem, bounds: Bounds, variables: Sequence[Block], constraints: Sequence[Block]
) -> Bounds:
    """Bounds of variables and rows, those of the problem's constraints among them.

    Raises
    ------
    ValueError
        For sparsity of groups, which has no smooth program, and bounds that leave nothing.
    """
    if not isinstance(problem, ConstrainedProblem):
        return bounds
    for block in constraints:
        constraint = problem.constraints[block.stage] if block.kind == "constraint" else None
        if isinstance(constraint, OutputConstraint):
            repeats = (block.stop - block.start) // constraint.num_outputs
            bounds["lbg"][block.where] = np.tile(constraint.lower, repeats)
            bounds["ubg"][block.where] = np.tile(constraint.upper, repeats)
        elif block.kind == "size row":
            bounds["lbg"][block.where] = -np.inf
    columns = _columns(problem, variables)
    for constraint in problem.constraints:
        if isinstance(constraint, OutputConstraint | Lasso):
            continue
        if not isinstance(constraint, ControlBounds):
            raise ValueError(
                f"{constraint.name}: sparsity of groups has no program whose rows are smooth at zero, so that this one "
                "cannot have it; ocp_nn.solve can"
            )
        at = columns[constraint.indices(problem.num_controls)]
        bounds["lbx"][at] = np.maximum(bounds["lbx"][at], constraint.lower)
        bounds["ubx"][at] = np.minimum(bounds["ubx"][at], constraint.upper)
    if not (bounds["lbx"] <= bounds["ubx"]).all():
        raise ValueError("bounds on controls leave nothing: a lower bound of one is above an upper bound of another")
    return bounds


def priced(problem: OptimalControlProblem, multipliers: Sequence[Array] | None) -> OptimalControlProblem:
    """The problem itself, or with output constraints the one that has their prices for terms."""
    if not isinstance(problem, ConstrainedProblem):
        return problem
    return problem.priced(problem.zero_multipliers() if multipliers is None else multipliers)


def in_prices(problem: OptimalControlProblem, gradients: Sequence[Array]) -> list[Array]:
    """The gradients of terms, with those of prices put in."""
    pairs = zip(problem.terms, gradients, strict=True)
    return [term.data.gradient(gradient) if isinstance(term.data.loss, Price) else gradient for term, gradient in pairs]


def prices_of(
    problem: OptimalControlProblem,
    lam_g: Array,
    lam_x: Any,
    variables: Sequence[Block],
    constraints: Sequence[Block],
) -> Arrays | None:
    """The multipliers of all constraints from a solver's; None where there are no constraints."""
    if not isinstance(problem, ConstrainedProblem):
        return None
    prices = problem.zero_multipliers()
    for block in constraints:
        constraint = problem.constraints[block.stage] if block.kind == "constraint" else None
        if isinstance(constraint, OutputConstraint):
            asked = _asked(constraint, problem)
            given = lam_g[block.where].reshape(len(constraint.stages), len(asked), constraint.num_outputs)
            prices[block.stage][:, asked] = given
    for j, subgradient in subgradients(lam_g, constraints).items():
        prices[j][:] = subgradient
    if lam_x is not None:
        _share(problem, np.asarray(ca.DM(lam_x).full() if not isinstance(lam_x, np.ndarray) else lam_x).ravel(),
               variables, prices)  # fmt: skip
    return prices


def _share(problem: ConstrainedProblem, lam_x: Array, variables: Sequence[Block], prices: Arrays) -> None:
    """A bound's multiplier goes to the first constraint that has that bound."""
    flat = lam_x[_columns(problem, variables)]
    lower, upper = np.full(problem.num_controls, -np.inf), np.full(problem.num_controls, np.inf)
    sets = [(j, c) for j, c in enumerate(problem.constraints) if isinstance(c, ControlBounds)]
    for _, constraint in sets:
        at = constraint.indices(problem.num_controls)
        lower[at], upper[at] = np.maximum(lower[at], constraint.lower), np.minimum(upper[at], constraint.upper)
    left = flat.copy()
    for j, constraint in sets:
        at = constraint.indices(problem.num_controls)
        mine = np.where(left[at] > 0, constraint.upper == upper[at], constraint.lower == lower[at])
        prices[j][:] = np.where(mine, left[at], 0.0)
        left[at] = np.where(mine, 0.0, left[at])


def prices_of_rows(problem: OptimalControlProblem, multipliers: Sequence[Array] | None) -> Array:
    """lam_g of the rows below the defects."""
    if not isinstance(problem, ConstrainedProblem):
        return np.zeros(0)
    given = problem.zero_multipliers() if multipliers is None else problem.check_multipliers(multipliers)
    rows = [given[j][:, _asked(constraint, problem)].ravel() for j, constraint in _outputs(problem)]
    return np.concatenate([np.zeros(0), *rows, multipliers_of_rows(problem, given)])


def prices_of_variables(
    problem: OptimalControlProblem, multipliers: Sequence[Array], variables: Sequence[Block]
) -> Array:
    """lam_x."""
    assert isinstance(problem, ConstrainedProblem)
    lam_x = np.zeros(variables[-1].stop)
    given = problem.check_multipliers(multipliers)
    lam_x[_columns(problem, variables)] = problem.control_prices(given) - lasso_prices(problem, given)
    return lam_x


def row_names(problem: OptimalControlProblem, block: Block) -> list[str]:
    """For instance ``c0[stage 2, sample 7, unit 1]``."""
    assert isinstance(problem, ConstrainedProblem)
    constraint = problem.constraints[block.stage]
    assert isinstance(constraint, OutputConstraint)
    units = range(constraint.num_outputs)
    asked = _asked(constraint, problem)
    return [f"{block.name}[stage {k}, sample {i}, unit {a}]" for k in constraint.stages for i in asked for a in units]


def _outputs(problem: OptimalControlProblem) -> list[tuple[int, OutputConstraint]]:
    constraints = problem.constraints if isinstance(problem, ConstrainedProblem) else ()
    return [(j, c) for j, c in enumerate(constraints) if isinstance(c, OutputConstraint)]


def _asked(constraint: OutputConstraint, problem: OptimalControlProblem) -> NDArray[np.intp]:
    return np.arange(problem.num_samples) if constraint.samples is None else constraint.samples


def _columns(problem: OptimalControlProblem, variables: Sequence[Block]) -> NDArray[np.intp]:
    """Where every control stands among the variables, in the order of the blocks."""
    starts = {block.stage: block.start for block in variables if block.kind == "control"}
    return np.concatenate([starts[b] + np.arange(length) for b, length in enumerate(problem.block_lengths)])
