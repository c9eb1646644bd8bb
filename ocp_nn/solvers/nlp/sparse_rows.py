"""The lasso in a transcription: tau ||u||_1 is no smooth function, but the least of a linear one under smooth rows,

    tau sum_i t_i    subject to    u_i - t_i <= 0,    -u_i - t_i <= 0,

with a size t_i for every control that it looks at.  The rows' multipliers a, b >= 0 add up to tau, and a - b is the
subgradient that :class:`ocp_nn.Lasso` has for multiplier; the other way round a = (tau + m)/2 and b = (tau - m)/2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ...problem.constraints.constrained_problem import ConstrainedProblem
from ...problem.constraints.control_sets import Lasso
from ...problem.optimal_control import OptimalControlProblem
from .layout import Block, Kind

__all__ = [
    "cost_of_sizes",
    "lasso_prices",
    "multipliers_of_rows",
    "size_names",
    "size_variables",
    "sizes_of",
    "sparse_rows",
    "subgradients",
]

Array = NDArray[np.float64]


def _lassos(problem: OptimalControlProblem) -> list[tuple[int, Lasso]]:
    constraints = problem.constraints if isinstance(problem, ConstrainedProblem) else ()
    return [(j, c) for j, c in enumerate(constraints) if isinstance(c, Lasso)]


def size_variables(problem: OptimalControlProblem) -> list[tuple[Kind, int, int]]:
    """(kind, number of the constraint, length) of the variables t."""
    return [("size", j, lasso.size(problem.num_controls)) for j, lasso in _lassos(problem)]


def sparse_rows(
    problem: OptimalControlProblem, controls: Mapping[int, ca.MX], sizes: Mapping[int, ca.MX]
) -> Iterator[tuple[int, ca.MX]]:
    """The number of every lasso, and its rows, which are <= 0."""
    if not sizes:
        return
    flat = ca.vertcat(*[controls[b] for b in range(len(problem.block_lengths))])
    for j, lasso in _lassos(problem):
        u = flat[lasso.indices(problem.num_controls).tolist()]
        yield j, ca.vertcat(u - sizes[j], -u - sizes[j])


def cost_of_sizes(problem: OptimalControlProblem, sizes: Mapping[int, ca.MX]) -> ca.MX:
    """tau sum t of all of them."""
    return sum((lasso.weight * ca.sum1(sizes[j]) for j, lasso in _lassos(problem)), ca.MX(0))


def sizes_of(problem: OptimalControlProblem, controls: Sequence[Array]) -> dict[int, Array]:
    """t = |u|."""
    flat = np.concatenate(controls)
    return {j: np.abs(lasso.of(flat)) for j, lasso in _lassos(problem)}


def multipliers_of_rows(problem: OptimalControlProblem, multipliers: Sequence[Array]) -> Array:
    """lam_g of all rows, one lasso after the other."""
    given = [np.zeros(0)]
    for j, lasso in _lassos(problem):
        m = np.clip(multipliers[j], -lasso.weight, lasso.weight)
        given += [(lasso.weight + m) / 2, (lasso.weight - m) / 2]
    return np.concatenate(given)


def subgradients(lam_g: Array, constraints: Sequence[Block]) -> dict[int, Array]:
    """m of every lasso, by its number, from the multipliers of a solver."""
    found = {}
    for block in constraints:
        if block.kind == "size row":
            above, below = np.split(lam_g[block.where], 2)
            found[block.stage] = above - below
    return found


def lasso_prices(problem: OptimalControlProblem, multipliers: Sequence[Array] | None) -> Array:
    """What all rows add to the Lagrangian's gradient in all controls, (P,)."""
    total = np.zeros(problem.num_controls)
    for j, lasso in _lassos(problem) if multipliers is not None else []:
        assert multipliers is not None
        total[lasso.indices(problem.num_controls)] += multipliers[j]
    return total


def size_names(problem: OptimalControlProblem, block: Block) -> list[str]:
    """``t3[5]``, the size that constraint 3 has for control 5, or its two rows, from above and from below."""
    assert isinstance(problem, ConstrainedProblem)
    lasso = problem.constraints[block.stage]
    assert isinstance(lasso, Lasso)
    at = lasso.indices(problem.num_controls)
    if block.kind == "size":
        return [f"{block.name}[{i}]" for i in at]
    return [f"{block.name}[{i}, {side}]" for side in ("above", "below") for i in at]
