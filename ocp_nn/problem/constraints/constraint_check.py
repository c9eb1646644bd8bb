"""What a point makes of a constraint: feasibility, and whether its multiplier is a price that is due."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .constrained_problem import ConstrainedProblem, Constraint
from .output_constraint import OutputConstraint

__all__ = ["ConstraintCheck", "constraint_checks"]

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ConstraintCheck:
    """One constraint.

    Attributes
    ----------
    name : str
    violation : float
        The largest distance from what it allows.
    worst : str
        Where that is: stage, unit and sample, or control.
    complementarity : float or None
        The largest price of something that is not at its bound, or price of the wrong sign; of a bound with slack the
        smaller one of slack and price.  For sparsity, the distance to a subgradient.  None without multipliers.
    priced : str
        Where that is.
    """

    name: str
    violation: float
    worst: str
    complementarity: float | None = None
    priced: str = ""


def constraint_checks(
    problem: ConstrainedProblem, values: Sequence[Array], multipliers: Sequence[Array] | None
) -> tuple[ConstraintCheck, ...]:
    """Every constraint, given its values (:meth:`.ConstrainedProblem.constraint_values`) and multipliers."""
    given = [None] * len(values) if multipliers is None else multipliers
    return tuple(
        _checked(problem, constraint, z, m) for constraint, z, m in zip(problem.constraints, values, given, strict=True)
    )


def _checked(problem: ConstrainedProblem, constraint: Constraint, z: Array, m: Array | None) -> ConstraintCheck:
    if isinstance(constraint, OutputConstraint):
        mask = constraint.mask(problem.num_samples)
        asked = np.ones(z.shape) if mask is None else np.broadcast_to(mask[:, None], z.shape)
        violation = asked * np.abs(constraint.outside(z))
        dual = None if m is None else np.where(asked > 0, _idle(constraint, z, m), np.abs(m))
    else:
        violation = constraint.violation(z)
        dual = None if m is None else constraint.dual_violation(z, m)
    found = ConstraintCheck(name=constraint.name, violation=_most(violation), worst=_place(constraint, violation))
    if dual is None:
        return found
    where = _place(constraint, dual)
    return ConstraintCheck(**{**vars(found), "complementarity": _most(dual), "priced": where})


def _idle(constraint: OutputConstraint, z: Array, m: Array) -> Array:
    """A price where there is slack: the smaller one of the two."""
    up = np.minimum(np.maximum(m, 0.0), np.maximum(constraint.upper - z, 0.0))
    down = np.minimum(np.maximum(-m, 0.0), np.maximum(z - constraint.lower, 0.0))
    return np.asarray(np.where(np.isnan(m) | np.isnan(z), np.nan, up + down))


def _most(values: Array) -> float:
    """The largest; NaN if there is one."""
    return float(np.max(values, initial=0.0))


def _place(constraint: Constraint, values: Array) -> str:
    if not values.size:
        return ""
    index = np.unravel_index(int(np.argmax(values)), values.shape)  # argmax finds NaN first
    if isinstance(constraint, OutputConstraint):
        return f"stage {constraint.stages[index[0]]}, unit {index[2]}, sample {index[1]}"
    entry = int(index[0])
    return f"control {entry if constraint.entries is None else constraint.entries[entry]}"
