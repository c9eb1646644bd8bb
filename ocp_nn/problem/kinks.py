"""Kinks: where a piecewise linear activation changes its slope, and how far from one a rollout is.

A kink holds an iterate as a valley does: J falls towards it from both sides, its gradient jumps there and does not
vanish, and no first-order condition that solvers check can hold.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..network.layers import Dense
from .optimal_control import OptimalControlProblem

__all__ = ["distance_to_kink", "is_at_kink"]

Array = NDArray[np.float64]

# Iterates that a kink holds are on it but for rounding; others are that close to none by chance.
_AT_KINK = 1e-9


def is_at_kink(problem: OptimalControlProblem, controls: Sequence[Array], initial: Array | None = None) -> bool:
    """Whether a ReLU unit is at its kink for some sample; arguments as for :func:`distance_to_kink`."""
    return problem.has_kinks and distance_to_kink(problem, controls, initial) <= _AT_KINK


def distance_to_kink(problem: OptimalControlProblem, controls: Sequence[Array], initial: Array | None = None) -> float:
    """The smallest |a| of all ReLU units and samples at the rollout, in parts of the unit's largest.

    Infinite without ReLU units; zero for a unit that is at zero for every sample.

    Parameters
    ----------
    problem : OptimalControlProblem
    controls : sequence of arrays
        One a block.
    initial : array (N, n_0), optional
        x_0 where that is a variable.
    """
    states = problem.rollout(controls, initial=initial).states
    at = [*range(len(problem.dynamics)), *(term.stage for term in problem.terms)]
    nearest = np.inf
    for layer, block, stage in zip(problem.layers, problem.row_blocks, at, strict=True):
        if isinstance(layer, Dense) and layer.activation == "relu":
            weight, bias = layer.weights(controls[block])
            a = np.abs(states[stage] @ weight.T + bias)
            largest = np.maximum(a.max(axis=0), np.finfo(float).tiny)
            nearest = min(nearest, float((a / largest).min()))
    return nearest
