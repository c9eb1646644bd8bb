"""Where the loop over constraints starts, and its first penalties."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ....forward_dp import mean_curvature
from ....problem.constraints.constrained_problem import ConstrainedProblem
from ....problem.constraints.output_constraint import OutputConstraint
from ....problem.identification import IdentificationProblem
from ....problem.result import Result
from ....problem.trajectory import Trajectory
from ..initialise import initialise
from ..lagrangian import AugmentedLagrangian
from ..options import Options
from .state import LOOSEST, ConstrainedState

__all__ = ["first_state"]

Solve = Callable[..., Result]

# First penalty of an output: so many times the weight of a data point.
_FIRST_PENALTY = 10.0

# A penalty grows by this factor at most.
_MOST_GROWTH = 1e10


def first_state(problem: ConstrainedProblem, initial: Any, options: Options, solve: Solve) -> ConstrainedState:
    """Where to start: within the bounds of controls, and with the multipliers of a trajectory that has any."""
    trajectory = _start(problem, initial, options, solve)
    known = trajectory.constraint_multipliers
    multipliers = problem.zero_multipliers() if known is None else problem.check_multipliers(known)
    penalties = _first_penalties(problem, trajectory)
    return ConstrainedState(
        trajectory=trajectory,
        multipliers=multipliers,
        penalties=penalties,
        caps=tuple([_MOST_GROWTH * max(g, 1.0) for g in penalties]),
        lacks=(np.inf,) * len(multipliers),
        tolerance=LOOSEST if known is None else options.tolerance,
    )


def _start(problem: ConstrainedProblem, initial: Any, options: Options, solve: Solve) -> Trajectory:
    if isinstance(initial, Result):
        initial = initial.trajectory
    if isinstance(initial, Trajectory):
        return replace(problem.start(initial), controls=problem.within_bounds(initial.controls))
    if initial is None and isinstance(problem.base, IdentificationProblem):
        loose = replace(options, tolerance=max(options.tolerance, LOOSEST))
        return solve(problem.base, options=loose).trajectory
    if initial is None:
        controls = initialise(problem.base, options.initialisation, options.seed)
        return problem.rollout(problem.within_bounds(controls, reflect=True))
    return problem.rollout(problem.within_bounds(problem.check_controls(initial)))


def _first_penalties(problem: ConstrainedProblem, trajectory: Trajectory) -> tuple[float, ...]:
    """Of outputs, ten times the weight of the data; of controls, the mean curvature of the data in them."""
    samples = problem.num_samples
    shares = [
        samples / len(c.samples) if isinstance(c, OutputConstraint) and c.samples is not None else 1.0
        for c in problem.constraints
    ]
    curvature = _mean_curvature(problem, trajectory)
    return tuple(
        _FIRST_PENALTY * share if isinstance(c, OutputConstraint) else curvature
        for c, share in zip(problem.constraints, shares, strict=True)
    )


def _mean_curvature(problem: ConstrainedProblem, trajectory: Trajectory) -> float:
    zeros = tuple(map(np.zeros_like, trajectory.states[1:]))
    lagrangian = AugmentedLagrangian(problem.base, zeros, (np.inf,) * len(problem.dynamics))
    try:
        with np.errstate(all="ignore"):
            value = mean_curvature(lagrangian.subproblem(lagrangian.at(trajectory.controls, trajectory.states), 1.0))
    except np.linalg.LinAlgError:
        return 1.0
    return float(value) if 1e-6 < value < 1e12 else 1.0
