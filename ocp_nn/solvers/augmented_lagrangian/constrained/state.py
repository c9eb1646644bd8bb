"""The loop over constraints as an explicit state."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ....problem.constraints.constrained_problem import ConstrainedProblem
from ....problem.constraints.constraint_check import ConstraintCheck
from ....problem.constraints.output_constraint import OutputConstraint
from ....problem.optimal_control import OptimalControlProblem
from ....problem.record import Record
from ....problem.result import Result
from ....problem.trajectory import Trajectory

__all__ = ["LOOSEST", "ConstrainedState", "exact_controls", "exact_point", "record_of"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]

# Tolerance of the first subproblem.
LOOSEST = 1e-2


@dataclass(frozen=True, kw_only=True, eq=False)
class ConstrainedState:
    """The loop after an iteration.

    Attributes
    ----------
    trajectory : Trajectory
    multipliers : tuple of arrays
        m_j, after the update.
    penalties, caps, lacks : tuple of float
        g_j, its largest value, and the largest entry of |c_j - p_j|.
    checks : tuple of ConstraintCheck
    iteration : int
    tolerance : float
        Of the subproblem.
    fruitless : int
        Iterations in a row that raised a penalty for nothing.
    short : int
        Subproblems in a row with the last tolerance that did not reach it.
    escapes : int
        How often controls at an idle bound were moved.
    saddles : int
        How many were left.
    feasible : Trajectory or None
        The feasible point of least objective that was seen, without multipliers; None for large problems.
    feasible_objective : float
    counts : dict
    """

    trajectory: Trajectory
    multipliers: Arrays
    penalties: tuple[float, ...]
    caps: tuple[float, ...]
    lacks: tuple[float, ...]
    checks: tuple[ConstraintCheck, ...] = ()
    inner: Result | None = None
    iteration: int = 0
    tolerance: float = LOOSEST
    fruitless: int = 0
    short: int = 0
    escapes: int = 0
    saddles: int = 0
    feasible: Trajectory | None = None
    feasible_objective: float = np.inf
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def violation(self) -> float:
        return max((check.violation for check in self.checks), default=np.inf)

    @property
    def worst(self) -> ConstraintCheck:
        return max(self.checks, key=lambda check: check.violation)


def exact_controls(problem: ConstrainedProblem, state: ConstrainedState) -> Arrays:
    """The controls with bounds and sparsity met exactly."""
    flat = np.concatenate(state.trajectory.controls)
    for constraint, m, g in zip(problem.constraints, state.multipliers, state.penalties, strict=True):
        if not isinstance(constraint, OutputConstraint):
            at = slice(None) if constraint.entries is None else constraint.entries
            flat[at] = constraint.prox(flat[at] + m / g, g)
    return problem.split(flat)


def exact_point(problem: ConstrainedProblem, state: ConstrainedState, controls: Arrays | None = None) -> Trajectory:
    """A trajectory with the costates that belong to the prices: of these controls, or of :func:`exact_controls`."""
    controls = exact_controls(problem, state) if controls is None else controls
    priced: OptimalControlProblem = problem.priced(state.multipliers)
    initial = state.trajectory.states[0] if problem.has_free_start else None
    lifted = priced.lift(controls, initial=initial)
    return replace(lifted, constraint_multipliers=state.multipliers)


def record_of(problem: ConstrainedProblem, state: ConstrainedState, seconds: float) -> Record:
    """A row of the history: J, and the larger one of defects and violations."""
    assert state.inner is not None
    objective = problem.objective(state.trajectory)
    start = state.trajectory.states[0] if problem.has_free_start else None
    rollout = problem.objective(problem.rollout(state.trajectory.controls, initial=start))
    return Record(
        iteration=state.iteration,
        phase="constraints",
        objective=objective,
        rollout_objective=rollout,
        max_defect=max(state.inner.max_defect, state.violation),
        stationarity=state.inner.stationarity,
        penalty=max(state.penalties),
        steps=state.counts.get("least_squares", 0),
        seconds=seconds,
    )
