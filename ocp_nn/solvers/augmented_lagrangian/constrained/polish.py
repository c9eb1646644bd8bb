"""The last digits of a constrained problem: Newton's method on the conditions of Karush, Kuhn and Tucker.

Once the augmented Lagrangian has told which constraints hold something, these are equations.  With the controls that
are at a bound held there, the Jacobian A of the output constraints that have a price, and H the Hessian of the
Lagrangian in the controls, the states being eliminated,

    [ H  A' ] [ du ]      [ gradient of L ]
    [ A  0  ] [ dm ]  = - [ c - bound     ].

One to three steps give what the loop would take five more subproblems for, each with a larger penalty.  The solution is
taken only where it is better in every respect: constraints hold, prices have the right signs, the gradient is smaller,
and H is positive on the directions that A leaves free.  H is dense, so this is for up to some hundred controls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....base.floating import overflow_is_a_value
from ....problem.certificate import certify
from ....problem.constraints.constrained_problem import ConstrainedProblem
from ....problem.constraints.control_sets import ControlBounds, Lasso
from ....problem.constraints.output_constraint import OutputConstraint
from ....problem.curvature import reduced_hessian
from ....problem.optimal_control import OptimalControlProblem
from ....problem.trajectory import Trajectory
from .rows import is_small, row_jacobian

__all__ = ["polished"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Arrays = tuple[Array, ...]

# Newton steps.
_STEPS = 6

# A price or slack below this part of the largest price is none.
_TINY = 1e-9

# Curvature on the free directions, relative to the largest, that still counts as not negative.
_FLAT = -1e-9


@dataclass(frozen=True, eq=False)
class _Active:
    """Which controls are free, and which rows of output constraints are equations, with their bounds.

    Attributes
    ----------
    free : array of bool (P,)
    rows : tuple of arrays of bool
        Of every constraint, in the shape of its values; empty for control sets.
    bounds : tuple of arrays
        The bound of every row that is active, elsewhere anything.
    """

    free: Mask
    rows: tuple[Mask, ...]
    bounds: Arrays


@overflow_is_a_value
def polished(problem: ConstrainedProblem, trajectory: Trajectory, tolerance: float) -> Trajectory | None:
    """A trajectory whose certificate passes at the tolerance, from one with constraint multipliers that is close to it.

    None where there is no such one nearby, or the problem is too large or of a kind that is not for this: x_0 a
    variable, or groups that are sparse.
    """
    if not is_small(problem):
        return None
    point, active = trajectory, _active(problem, trajectory)
    for _ in range(_STEPS):
        try:
            point = _newton_step(problem, point, active)
        except np.linalg.LinAlgError:
            return None
        if not all(np.isfinite(u).all() for u in point.controls):
            return None
        if certify(problem, point, tolerance=tolerance).passed():
            return point if _is_minimum(problem, point, active) else None
    return None


def _active(problem: ConstrainedProblem, trajectory: Trajectory) -> _Active:
    multipliers = trajectory.constraint_multipliers
    assert multipliers is not None
    flat = np.concatenate(trajectory.controls)
    free, rows, bounds = np.ones(problem.num_controls, dtype=bool), list[Mask](), list[Array]()
    largest = max((float(np.abs(m).max(initial=0.0)) for m in multipliers), default=0.0)
    for constraint, m in zip(problem.constraints, multipliers, strict=True):
        if isinstance(constraint, OutputConstraint):
            rows.append(np.abs(m) > _TINY * largest)
            bounds.append(np.where(m > 0, constraint.upper, constraint.lower))
            continue
        rows.append(np.zeros(0, dtype=bool))
        bounds.append(np.zeros(0))
        at, u = constraint.indices(problem.num_controls), constraint.of(flat)
        if isinstance(constraint, ControlBounds):
            free[at] &= (u > constraint.lower) & (u < constraint.upper)
        elif isinstance(constraint, Lasso):
            free[at] &= u != 0.0
    return _Active(free, tuple(rows), tuple(bounds))


def _newton_step(problem: ConstrainedProblem, point: Trajectory, active: _Active) -> Trajectory:
    """The next controls and prices, rolled out."""
    multipliers = point.constraint_multipliers
    assert multipliers is not None
    priced = problem.priced(multipliers)
    gradient, jacobian, lacks = _system(problem, priced, point, active)
    hessian = reduced_hessian(priced, point.controls)[np.ix_(active.free, active.free)]
    a = jacobian[:, active.free]
    size = len(hessian)
    matrix = np.block([[hessian, a.T], [a, np.zeros((len(a), len(a)))]])
    step = np.linalg.lstsq(matrix, -np.concatenate([gradient[active.free], lacks]), rcond=1e-13)[0]
    flat = np.concatenate(point.controls)
    flat[active.free] += step[:size]
    changed = _moved(problem, multipliers, active, step[size:])
    return _lifted(problem, flat, changed, active)


def _system(
    problem: ConstrainedProblem, priced: OptimalControlProblem, point: Trajectory, active: _Active
) -> tuple[Array, Array, Array]:
    """The Lagrangian's gradient in all controls, the Jacobian of the active rows, and what these lack."""
    multipliers = point.constraint_multipliers
    assert multipliers is not None
    gradient = np.concatenate(priced.adjoints(point).gradient) + problem.control_prices(multipliers)
    values = problem.constraint_values(point)
    lacks = [(z - b)[on] for z, b, on in zip(values, active.bounds, active.rows, strict=True) if on.size]
    return gradient, row_jacobian(problem, point, active.rows), np.concatenate([np.zeros(0), *lacks])


def _moved(problem: ConstrainedProblem, multipliers: Arrays, active: _Active, change: Array) -> Arrays:
    """The prices of output constraints after a step: those of active rows change, all others are zero."""
    moved, start = list[Array](), 0
    for constraint, m, on in zip(problem.constraints, multipliers, active.rows, strict=True):
        if not isinstance(constraint, OutputConstraint):
            moved.append(m)
            continue
        count = int(on.sum())
        new = np.zeros_like(m)
        new[on] = m[on] + change[start : start + count]
        moved.append(new)
        start += count
    return tuple(moved)


def _lifted(problem: ConstrainedProblem, flat: Array, multipliers: Arrays, active: _Active) -> Trajectory:
    """Rolled out, and with the prices of controls that are held: what the gradient leaves there."""
    priced = problem.priced(multipliers)
    lifted = priced.lift(problem.split(flat))
    gradient = np.concatenate(priced.adjoints(lifted).gradient)
    left = np.where(active.free, 0.0, -gradient)
    prices = list(multipliers)
    for j, constraint in enumerate(problem.constraints):
        if isinstance(constraint, OutputConstraint):
            continue
        at, u = constraint.indices(problem.num_controls), constraint.of(flat)
        if isinstance(constraint, Lasso):
            held = np.where(u != 0.0, constraint.weight * np.sign(u), np.clip(left[at], -constraint.weight,
                                                                            constraint.weight))  # fmt: skip
        else:
            assert isinstance(constraint, ControlBounds)
            held = np.where(u >= constraint.upper, np.maximum(left[at], 0.0), 0.0)
            held = np.where(u <= constraint.lower, np.minimum(left[at], 0.0) + held, held)
        prices[j] = held
        left[at] -= held
    return Trajectory(lifted.controls, lifted.states, lifted.multipliers, tuple(prices))


def _is_minimum(problem: ConstrainedProblem, point: Trajectory, active: _Active) -> bool:
    """Whether the Hessian is not negative where the active constraints leave freedom."""
    assert point.constraint_multipliers is not None
    hessian = reduced_hessian(problem.priced(point.constraint_multipliers), point.controls)
    hessian = hessian[np.ix_(active.free, active.free)]
    a = row_jacobian(problem, point, active.rows)[:, active.free]
    if len(a):
        _, singular, right = np.linalg.svd(a)
        rank = int((singular > 1e-10 * max(singular[0], 1e-300)).sum()) if singular.size else 0
        free = right[rank:].T
        hessian = free.T @ hessian @ free
    if not hessian.size:
        return True
    eigenvalues = np.linalg.eigvalsh(hessian)
    return bool(eigenvalues[0] >= _FLAT * max(abs(eigenvalues[-1]), 1.0))
