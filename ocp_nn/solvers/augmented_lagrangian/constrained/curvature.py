"""Second order: whether a solution of the first-order conditions is a minimum, and the way down where it is none.

With the active constraints held, the Hessian H of the Lagrangian in the controls, the states being eliminated, must not
be negative on the null space of the active rows' Jacobian A (Nocedal and Wright 2006, section 12.5).  An eigenvector d
with d'Hd < 0 there is a way down: controls at a bound that nothing holds there may move inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....base.floating import overflow_is_a_value
from ....problem.constraints.constrained_problem import ConstrainedProblem
from ....problem.constraints.control_sets import ControlBounds, Lasso
from ....problem.constraints.output_constraint import OutputConstraint
from ....problem.curvature import reduced_hessian
from ....problem.trajectory import Trajectory
from .restore import restored
from .rows import is_small, row_jacobian

__all__ = ["Active", "active_at", "is_minimum", "way_down"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Arrays = tuple[Array, ...]

# A price below this part of the largest is none for outputs; at bounds, one that holds nothing.
_TINY, _IDLE = 1e-9, 1e-6

# Curvature on the free directions, relative to the largest, that still counts as not negative.
_FLAT = -1e-9

# Eigenvectors that are looked at, steps of the power method from each, and directions that are tried.
_VECTORS, _POWER_STEPS, _TRIED = 6, 50, 4

# Longest step along a direction, in parts of the controls' size, and halvings of it.
_LONGEST, _HALVINGS = 1.0, 12

# Part of the objective that a way down has to gain.
_GAIN = 1e-6


@dataclass(frozen=True, eq=False)
class Active:
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


@dataclass(frozen=True, eq=False)
class _Curvature:
    """H on the directions that the active rows leave.

    Attributes
    ----------
    free : array of bool (P,)
        Controls that may move.
    hessian : array (F, F)
    basis : array (F, D)
        An orthonormal one of the null space of the active rows' Jacobian.
    values, vectors : arrays (D,), (D, D)
        Eigenvalues of basis' H basis, rising, and eigenvectors.
    """

    free: Mask
    hessian: Array
    basis: Array
    values: Array
    vectors: Array

    @classmethod
    def of(cls, problem: ConstrainedProblem, point: Trajectory, free: Mask, rows: tuple[Mask, ...]) -> _Curvature:
        assert point.constraint_multipliers is not None
        hessian = reduced_hessian(problem.priced(point.constraint_multipliers), point.controls)[np.ix_(free, free)]
        a, basis = row_jacobian(problem, point, rows)[:, free], np.eye(len(hessian))
        if len(a):
            _, singular, right = np.linalg.svd(a)
            rank = int((singular > 1e-10 * max(singular[0], 1e-300)).sum()) if singular.size else 0
            basis = right[rank:].T
        values, vectors = np.linalg.eigh(basis.T @ hessian @ basis)
        return cls(free, hessian, basis, values, vectors)

    @property
    def least(self) -> float:
        """The curvature below which a direction counts as falling."""
        return _FLAT * max(float(np.abs(self.values).max(initial=0.0)), 1.0)

    @property
    def falls(self) -> bool:
        return bool(self.values.size and self.values[0] < self.least)

    def falling(self, inside: Array) -> list[Array]:
        """Directions (P,) of negative curvature, the steepest first, along which no control leaves its bound.

        From the eigenvectors that fall, in both senses, by projected steps of the power method: the least curvature on
        a cone is a hard problem, and these are some of its local solutions.
        """
        signs = inside[self.free]
        found: list[tuple[float, Array]] = []
        step = 1.0 / max(float(np.abs(self.values).max(initial=0.0)), 1e-300)
        for vector in self.vectors.T[: min(int((self.values < self.least).sum()), _VECTORS)]:
            for sense in (1.0, -1.0):
                d = self._allowed(sense * (self.basis @ vector), signs)
                for _ in range(_POWER_STEPS):
                    d = self._allowed(d - step * (self.hessian @ d), signs)
                bend = float(d @ self.hessian @ d)
                if bend < self.least:
                    direction = np.zeros(len(self.free))
                    direction[self.free] = d
                    found.append((bend, direction))
        return [direction for _, direction in sorted(found, key=lambda pair: pair[0])]

    def _allowed(self, d: Array, signs: Array) -> Array:
        """Near d, along the active rows and then away from the bounds; of length one, or zero."""
        d = self.basis @ (self.basis.T @ d)
        d = np.where(signs * d < 0, 0.0, d)
        norm = float(np.linalg.norm(d))
        return d / norm if norm > 0 else d


def active_at(problem: ConstrainedProblem, trajectory: Trajectory) -> Active:
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
    return Active(free, tuple(rows), tuple(bounds))


def is_minimum(problem: ConstrainedProblem, point: Trajectory, active: Active) -> bool:
    """Whether the Hessian is not negative where the active constraints leave freedom."""
    return not _Curvature.of(problem, point, active.free, active.rows).falls


@overflow_is_a_value
def way_down(problem: ConstrainedProblem, solution: Trajectory) -> Trajectory | None:
    """A feasible point of lower objective along negative curvature; None at a minimum, and where problems are large."""
    if not is_small(problem):
        return None
    active, inside = active_at(problem, solution), _idle(problem, solution)
    try:
        system = _Curvature.of(problem, solution, active.free | (inside != 0), active.rows)
    except np.linalg.LinAlgError:
        return None
    flat, before = np.concatenate(solution.controls), problem.objective(solution)
    found: list[tuple[float, Trajectory]] = []
    for direction in system.falling(inside)[:_TRIED]:
        found += _descent(problem, flat, direction, before)
    return min(found, key=lambda pair: pair[0])[1] if found else None


def _descent(problem: ConstrainedProblem, flat: Array, along: Array, before: float) -> list[tuple[float, Trajectory]]:
    """The first point of a halving line search that is clearly lower, with its objective."""
    step = _LONGEST * max(float(np.linalg.norm(flat)), 1.0)
    for _ in range(_HALVINGS):
        point = restored(problem, problem.within_bounds(problem.split(flat + step * along)))
        objective = np.inf if point is None else problem.objective(point)
        if point is not None and objective < before - _GAIN * max(abs(before), 1e-300):
            return [(objective, point)]
        step *= 0.5
    return []


def _idle(problem: ConstrainedProblem, point: Trajectory) -> Array:
    """1 for controls at a lower bound and -1 at an upper one that nothing holds there, 0 for all others; (P,)."""
    multipliers = point.constraint_multipliers
    assert multipliers is not None
    largest = max((float(np.abs(m).max(initial=0.0)) for m in multipliers), default=0.0)
    flat, inside = np.concatenate(point.controls), np.zeros(problem.num_controls)
    for constraint, m in zip(problem.constraints, multipliers, strict=True):
        if isinstance(constraint, ControlBounds):
            at, u = constraint.indices(problem.num_controls), constraint.of(flat)
            low, high = u <= constraint.lower, u >= constraint.upper
            unheld = (low ^ high) & (np.abs(m) <= _IDLE * max(largest, 1.0))
            inside[at] += np.where(unheld, np.where(low, 1.0, -1.0), 0.0)
    return inside
