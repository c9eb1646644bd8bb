"""Solutions with controls at a bound that nothing holds there, and a way on from them.

Two weights of a unit that are both at zero have no slope, and may have a way down all the same: the objective changes
with their product.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ....problem.constraints.constrained_problem import ConstrainedProblem
from ....problem.constraints.control_sets import ControlBounds
from ....problem.trajectory import Trajectory
from ..options import Options
from .state import ConstrainedState

__all__ = ["better", "escaped", "restarted"]

# A price below this part of the largest holds nothing at a bound; how far controls without one are moved, in parts of
# the controls' size, and the tolerance of the subproblem after that.
_IDLE, _MOVE, _LOOSE = 1e-6, 0.1, 1e-3


def better(problem: ConstrainedProblem, best: Trajectory | None, other: Trajectory) -> Trajectory:
    """The one with the lower objective."""
    return other if best is None or problem.objective(other) < problem.objective(best) else best


def escaped(
    problem: ConstrainedProblem, solution: Trajectory, state: ConstrainedState, options: Options
) -> ConstrainedState | None:
    """Where to go on from a solution with controls at a bound that nothing holds there, moved inside; else None."""
    multipliers = solution.constraint_multipliers
    assert multipliers is not None
    flat = np.concatenate(solution.controls)
    largest = max((float(np.abs(m).max(initial=0.0)) for m in multipliers), default=0.0)
    size = float(np.sqrt(np.mean(flat**2)))
    rng = np.random.default_rng([options.seed, state.escapes])
    free = False
    for constraint, m in zip(problem.constraints, multipliers, strict=True):
        if not isinstance(constraint, ControlBounds):
            continue
        at, u = constraint.indices(problem.num_controls), constraint.of(flat)
        low, high = u <= constraint.lower, u >= constraint.upper
        idle = (low | high) & ~(low & high) & (np.abs(m) <= _IDLE * max(largest, 1.0))
        free |= bool(idle.any())
        moved = np.where(low, 1.0, -1.0) * np.abs(rng.standard_normal(len(u))) * _MOVE * max(size, _MOVE)
        flat[at] = np.where(idle, constraint.prox(u + moved, 1.0), u)
    if not free:
        return None
    trajectory = problem.rollout(problem.split(flat))
    return restarted(replace(state, escapes=state.escapes + 1), solution, trajectory, options)


def restarted(state: ConstrainedState, solution: Trajectory, start: Trajectory, options: Options) -> ConstrainedState:
    """The loop at another point, with the prices of a solution."""
    multipliers = solution.constraint_multipliers
    assert multipliers is not None
    return replace(state, trajectory=start, multipliers=multipliers, fruitless=0,
                   lacks=(np.inf,) * len(multipliers), tolerance=max(_LOOSE, options.tolerance))  # fmt: skip
