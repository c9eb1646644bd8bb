"""A feasible point near a point: the cheapest steps in the controls that meet the linearised constraints.

The augmented Lagrangian comes to feasible points from outside, with its multipliers.  Who stops it before that wants a
point that may be used, and at little cost there is one close by.  With c the outputs near their bounds and C their
Jacobian, the states being eliminated, a step is the solution of

    minimise  du' M du    subject to  l <= c + C du <= u,        M = J_data' J_data + rho I:

of all steps that are feasible to first order the one that changes the outputs least.  It is a least-distance problem,
which non-negative least squares solve (Lawson and Hanson 1974, chapter 23); some steps make Newton's method for
inequalities.  Controls that are at a bound, or zero for sparsity, stay there.  Where the multipliers are right the
objective grows by <m, e> to first order, e being what was lacking: what the violation had taken from it, whatever the
way (our derivation).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from ....base.floating import overflow_is_a_value
from ....problem.constraints.constrained_problem import ConstrainedProblem
from ....problem.constraints.control_sets import ControlBounds
from ....problem.constraints.output_constraint import OutputConstraint
from ....problem.trajectory import Trajectory
from .rows import data_jacobian, is_small, row_jacobian, whole_jacobian

__all__ = ["restored"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Steps, and what may be lacking after them.
_STEPS, _CLOSED = 8, 1e-9

# A residual of non-negative least squares that is none: the constraints contradict each other.
_TINY = 1e-12

# Part of M that is no data, at least: of its trace.
_LEAST = 1e-8

# Outputs count as near their bounds within so many times the largest violation, and with more of them no point is
# looked for.
_BAND, _MOST_ROWS = 5.0, 2000


@overflow_is_a_value
def restored(problem: ConstrainedProblem, controls: Sequence[Array]) -> Trajectory | None:
    """A rolled-out trajectory that meets all constraints, from controls that meet those of control sets; else None.

    None too where problems are large, or x_0 is a variable.
    """
    point = problem.rollout(controls) if not problem.has_free_start else None
    if point is None or not any(isinstance(c, OutputConstraint) for c in problem.constraints):
        return point
    if not is_small(problem):
        return None
    for _ in range(_STEPS):
        worst = max(float(np.abs(e).max(initial=0.0)) for e in _lacks(problem, point))
        if worst <= _CLOSED:
            return point
        moved = _moved(problem, point, _BAND * worst)
        if moved is None or not all(np.isfinite(x).all() for x in moved.states):
            return None
        point = moved
    return None


def _lacks(problem: ConstrainedProblem, point: Trajectory) -> list[Array]:
    """How far outputs are outside, with a sign; nothing of control sets."""
    found = []
    for constraint, values in zip(problem.constraints, problem.constraint_values(point), strict=True):
        if not isinstance(constraint, OutputConstraint):
            found.append(np.zeros(0))
            continue
        mask = constraint.mask(problem.num_samples)
        found.append(constraint.outside(values) * (1.0 if mask is None else mask[:, None]))
    return found


def _moved(problem: ConstrainedProblem, point: Trajectory, band: float) -> Trajectory | None:
    """One step; None where none is feasible to first order."""
    values = problem.constraint_values(point)
    above, below = _slacks(problem, values)
    rows = [(up < band) | (down < band) for up, down in zip(above, below, strict=True)]
    if sum(int(on.sum()) for on in rows) > _MOST_ROWS:
        return None
    flat = np.concatenate(point.controls)
    free = _free(problem, flat)
    whole = whole_jacobian(problem, point)
    c, data = row_jacobian(problem, point, rows, whole)[:, free], data_jacobian(problem, whole)[:, free]
    metric = data.T @ data
    metric[np.diag_indices_from(metric)] += max(problem.decays[0], _LEAST * float(np.trace(metric)))
    up, down = (np.concatenate([some[on] for some, on in zip(of, rows, strict=True)]) for of in (above, below))
    g, h = np.concatenate([-c[up < band], c[down < band]]), -np.concatenate([up[up < band], down[down < band]])
    try:
        factor = np.linalg.cholesky(metric)
        shortest = _least_distance(linalg.solve_triangular(factor, g.T, lower=True).T, h)  # in the metric: L^-1
        if shortest is None:
            return None
        flat[free] += linalg.solve_triangular(factor, shortest, lower=True, trans="T")
    except (np.linalg.LinAlgError, ValueError, RuntimeError):
        return None
    return problem.rollout(problem.within_bounds(problem.split(flat)))


def _slacks(problem: ConstrainedProblem, values: Sequence[Array]) -> tuple[list[Array], list[Array]]:
    """Distances of outputs to their upper and lower bounds, infinite at samples that are not asked."""
    above, below = list[Array](), list[Array]()
    for constraint, z in zip(problem.constraints, values, strict=True):
        if not isinstance(constraint, OutputConstraint):
            above.append(np.zeros(0))
            below.append(np.zeros(0))
            continue
        mask = constraint.mask(problem.num_samples)
        asked = np.ones(z.shape, dtype=bool) if mask is None else np.broadcast_to(mask[:, None] > 0, z.shape)
        above.append(np.where(asked, constraint.upper - z, np.inf))
        below.append(np.where(asked, z - constraint.lower, np.inf))
    return above, below


def _least_distance(g: Array, h: Array) -> Array | None:
    """The shortest x with g x >= h, or None where there is none."""
    from scipy.optimize import nnls  # which takes longer to import than this package

    matrix = np.vstack([g.T, h])
    wanted = np.zeros(len(matrix))
    wanted[-1] = 1.0
    scale = np.maximum(np.linalg.norm(matrix, axis=0), 1e-300)
    dual, _ = nnls(matrix / scale, wanted)
    residual = (matrix / scale) @ dual - wanted
    return None if abs(residual[-1]) < _TINY else -residual[:-1] / residual[-1]


def _free(problem: ConstrainedProblem, flat: Array) -> Mask:
    """Controls that are neither at a bound nor zero for sparsity."""
    free = np.ones(len(flat), dtype=bool)
    for constraint in problem.constraints:
        if isinstance(constraint, OutputConstraint):
            continue
        at, u = constraint.indices(problem.num_controls), constraint.of(flat)
        if isinstance(constraint, ControlBounds):
            free[at] &= (u > constraint.lower) & (u < constraint.upper)
        else:
            free[at] &= u != 0.0
    return free
