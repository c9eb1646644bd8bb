"""Penalties and multipliers of the outer loop: the first ones, and what follows from the defects."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ...problem.optimal_control import OptimalControlProblem
from .options import Options
from .state import SolverState

__all__ = ["bounded_multipliers", "first_penalty", "raised_penalty", "soft_penalty"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]

# First penalty relative to mean(y^2), or its like for other losses: a defect of a hundredth costs what a residual of
# the target's own size does.
_RELATIVE_PENALTY = 1e4

# ||d_k|| below this fraction of the tolerance is closed.
_CLOSED = 0.1


def first_penalty(problem: OptimalControlProblem, options: Options) -> tuple[float, ...]:
    """beta_k of every node; infinite for an eliminated state."""
    inner = problem.num_stages - 1
    nodes = options.nodes(problem.num_stages)
    if isinstance(options.penalty, str):
        values = _RELATIVE_PENALTY * problem.scale / np.array([stage.unit for stage in problem.dynamics]) ** 2
    else:
        values = np.asarray(options.penalty, dtype=float)
    if values.ndim == 1 and len(values) != inner:
        raise ValueError(f"penalty needs one value or one for each of {inner} nodes, received {len(values)}")
    values = np.broadcast_to(values, (inner,))
    return tuple(float(beta) if k + 1 in nodes else np.inf for k, beta in enumerate(values))


def soft_penalty(problem: OptimalControlProblem, options: Options) -> tuple[float, ...]:
    """beta_k of lifted steps: at a node a defect of one unit costs what a residual of the targets' size does."""
    soft = first_penalty(problem, replace(options, penalty="auto"))
    return tuple([beta / _RELATIVE_PENALTY for beta in soft])


def raised_penalty(state: SolverState, violation: tuple[float, ...], options: Options) -> tuple[float, ...]:
    """Every beta_k whose defects did not fall enough, times the growth factor, up to the cap; in the finish no other.

    Defects well within the tolerance need no more: beta times their rounding would drown the gradient.
    """
    if state.schedule.finish is not None:
        return state.penalty
    enough = _CLOSED * options.tolerance
    return tuple(
        min(beta * options.penalty_growth, max(beta, options.max_penalty))
        if np.isfinite(beta) and now > enough and not now <= options.violation_reduction * before
        else beta
        for beta, now, before in zip(state.penalty, violation, state.violation, strict=True)
    )


def bounded_multipliers(multipliers: Arrays, problem: OptimalControlProblem, options: Options) -> Arrays:
    """Multipliers projected on the safeguarding box."""
    bound = options.multiplier_bound * problem.multiplier_scale
    return tuple(np.clip(multiplier, -bound, bound) for multiplier in multipliers)
