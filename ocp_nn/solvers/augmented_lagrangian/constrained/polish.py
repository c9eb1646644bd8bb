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
from .curvature import Active, active_at, is_minimum
from .rows import is_small, row_jacobian

__all__ = ["polished"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]

# Newton steps.
_STEPS = 6


@overflow_is_a_value
def polished(problem: ConstrainedProblem, trajectory: Trajectory, tolerance: float) -> Trajectory | None:
    """A trajectory whose certificate passes at the tolerance, from one with constraint multipliers that is close to it.

    None where there is no such one nearby, or the problem is too large or of a kind that is not for this: x_0 a
    variable, or groups that are sparse.
    """
    if not is_small(problem):
        return None
    point, active = trajectory, active_at(problem, trajectory)
    for _ in range(_STEPS):
        try:
            point = _newton_step(problem, point, active)
        except np.linalg.LinAlgError:
            return None
        if not all(np.isfinite(u).all() for u in point.controls):
            return None
        if certify(problem, point, tolerance=tolerance).passed():
            return point if is_minimum(problem, point, active) else None
    return None


def _newton_step(problem: ConstrainedProblem, point: Trajectory, active: Active) -> Trajectory:
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
    problem: ConstrainedProblem, priced: OptimalControlProblem, point: Trajectory, active: Active
) -> tuple[Array, Array, Array]:
    """The Lagrangian's gradient in all controls, the Jacobian of the active rows, and what these lack."""
    multipliers = point.constraint_multipliers
    assert multipliers is not None
    gradient = np.concatenate(priced.adjoints(point).gradient) + problem.control_prices(multipliers)
    values = problem.constraint_values(point)
    lacks = [(z - b)[on] for z, b, on in zip(values, active.bounds, active.rows, strict=True) if on.size]
    return gradient, row_jacobian(problem, point, active.rows), np.concatenate([np.zeros(0), *lacks])


def _moved(problem: ConstrainedProblem, multipliers: Arrays, active: Active, change: Array) -> Arrays:
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


def _lifted(problem: ConstrainedProblem, flat: Array, multipliers: Arrays, active: Active) -> Trajectory:
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
