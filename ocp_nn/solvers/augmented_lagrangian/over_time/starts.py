"""Where a solve over time begins."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ....base import checks
from ....problem.identification import IdentificationProblem
from ....problem.starts.start import start
from ....problem.trajectory import Trajectory
from ..options import Options

__all__ = ["starting_states"]

Array = NDArray[np.float64]

# Starts by the names of the options.
_KINDS = {"auto": "auto", "standard": "random", "linear": "linear", "states": "delays", "slow": "slow"}


def starting_states(problem: IdentificationProblem, initial: object, options: Options) -> tuple[Array, Array, Array]:
    """theta, states (T, N, n) and multipliers (T - 1, N, n) to start from.

    Raises
    ------
    ValueError
        For an initial point that does not have the problem's shapes, or an initialisation for other problems.
    """
    if initial is None:
        theta, states = _guessed(problem, options)
        return theta, states, np.zeros_like(states[1:])
    trajectory = problem.start(initial)  # type: ignore[arg-type]
    states = np.stack(trajectory.states)
    given = trajectory.multipliers if isinstance(initial, Trajectory) else None
    multipliers = np.zeros_like(states[1:]) if given is None else np.stack(given)[1:]
    return trajectory.controls[0], states, multipliers


def _guessed(problem: IdentificationProblem, options: Options) -> tuple[Array, Array]:
    checks.check("initialisation", options.initialisation, checks.one_of(tuple(_KINDS)))
    theta, states = start(problem.model, problem.records, _KINDS[options.initialisation], options.seed)
    if not problem.has_free_start:
        states[0] = problem.x
    return theta, states
