"""Where a solve over time begins."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ....base import checks
from ....problem.identification import IdentificationProblem
from ....problem.starts.start import start
from ....problem.trajectory import Trajectory
from ..options import Options

__all__ = ["another_start", "starting_states"]

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
        checks.check("initialisation", options.initialisation, checks.one_of(tuple(_KINDS)))
        return another_start(problem, _KINDS[options.initialisation], options.seed)
    trajectory = problem.start(initial)  # type: ignore[arg-type]
    states = np.stack(trajectory.states)
    given = trajectory.multipliers if isinstance(initial, Trajectory) else None
    multipliers = np.zeros_like(states[1:]) if given is None else np.stack(given)[1:]
    return trajectory.controls[0], states, multipliers


def another_start(problem: IdentificationProblem, kind: str, seed: int) -> tuple[Array, Array, Array]:
    """The start of a kind (:mod:`ocp_nn.problem.starts.start`), as above."""
    theta, states = start(problem.model, problem.records, kind, seed)
    if not problem.has_free_start:
        states[0] = problem.x
    return theta, states, np.zeros_like(states[1:])
