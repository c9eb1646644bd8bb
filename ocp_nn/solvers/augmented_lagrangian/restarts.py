"""Restarts: how a trap is recognised, and where the loop starts over.

* A solution worse than what the state-trajectory initialisation has before any training is a trap, and so is a kink
  that second-order steps cannot leave: the loop starts over from perturbed controls with a smaller penalty, under
  which the states move more freely.
* A solution no better than linear least squares, where the data bend, is another (:mod:`ocp_nn.problem.straight_line`):
  the loop starts over as another seed would.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ...problem.optimal_control import OptimalControlProblem
from ...problem.training import TrainingProblem
from .initialise import can_fit_states, fit_states, initialise
from .options import Options
from .penalty import first_penalty
from .rollouts import follows, rollout_objective
from .schedule import Restart
from .state import SolverState

__all__ = ["next_fruitless", "restart_controls", "restart_kind", "softened"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]

# A restart from perturbed controls divides the first penalty by this: the states then move far from the rollout before
# the defects close, which is what frees deep ReLU networks (scripts/deep_suite.py).
_RESTART_SOFTER = 10.0

# Restarts from a kink, and those with new weights, go on until this many in a row gain less than this fraction of the
# objective.
_FRUITLESS_RESTARTS, _FRUITFUL_GAIN = 3, 0.01

# Size of a restart's perturbation, relative to standard weights.
_PERTURBATION = 0.5


def restart_kind(problem: OptimalControlProblem, state: SolverState, options: Options) -> Restart | None:
    """How to start over, or None to go on.

    From perturbed controls where the run has ended in a trap, or at a kink that second-order steps cannot leave; with
    new weights where it has ended at a straight line.
    """
    if state.counts["restarts"] >= options.max_restarts:
        return None
    at_rest = state.is_at_rest(options.tolerance)
    # smooth networks often leave a plateau by the finish; at a kink that takes long
    settled = state.schedule.settled and (problem.has_kinks or not options.second_order)
    exhausted = state.schedule.finish is not None and state.schedule.finish.is_exhausted
    lost = (at_rest or settled or exhausted) and not follows(problem, state.best.objective)
    if lost and state.best.objective > _reference_objective(problem, options):
        return "perturbed"
    if (at_rest or exhausted) and _is_straight(problem, state) and next_fruitless(state) < _FRUITLESS_RESTARTS:
        return "new"
    at_kink = exhausted and not lost and not state.is_stationary(options.tolerance)
    return "perturbed" if at_kink and state.schedule.fruitless < _FRUITLESS_RESTARTS else None


def _is_straight(problem: OptimalControlProblem, state: SolverState) -> bool:
    """Whether the best rollout is no better than linear least squares on data that bend; plain squares only."""
    if not isinstance(problem, TrainingProblem) or problem.network.is_affine or not problem.data.is_squares:
        return False
    squares = problem.line.squares(state.best.objective, state.best.controls)
    return problem.line.matches(squares) and problem.line.bends


def restart_controls(problem: OptimalControlProblem, state: SolverState, options: Options, kind: Restart) -> Arrays:
    """Controls to restart from; the best rollout's where those would overflow."""
    start = _new_start if kind == "new" else _perturbed_start
    controls = start(problem, state, options)
    return controls if np.isfinite(rollout_objective(problem, controls)) else state.best.controls


def _new_start(problem: OptimalControlProblem, state: SolverState, options: Options) -> Arrays:
    """Those that another seed begins with."""
    seed = np.random.default_rng([options.seed, state.counts["restarts"] + 1]).integers(2**31)
    return initialise(problem, options.initialisation, int(seed))


def _perturbed_start(problem: OptimalControlProblem, state: SolverState, options: Options) -> Arrays:
    """The best rollout's, or the first ones if that is no better than the mean, perturbed."""
    rng = np.random.default_rng([options.seed, state.counts["restarts"] + 1])
    base = state.best.controls if state.best.objective < 0.9 * problem.null_objective else state.schedule.start
    return tuple(
        u + _PERTURBATION * rng.standard_normal(u.shape) / np.sqrt(layer.num_inputs)
        for layer, u in zip(problem.block_layers, base, strict=True)
    )


def softened(problem: OptimalControlProblem, options: Options) -> Options:
    """The options of a restart: a smaller first penalty."""
    return replace(options, penalty=[beta / _RESTART_SOFTER for beta in first_penalty(problem, options)])


def next_fruitless(state: SolverState) -> int:
    """Restarts in a row that have hardly improved the best objective, the last one included."""
    gained = state.best.objective <= (1.0 - _FRUITFUL_GAIN) * state.schedule.restart_objective
    return 0 if gained else state.schedule.fruitless + 1


def _reference_objective(problem: OptimalControlProblem, options: Options) -> float:
    """J of the state-trajectory initialisation, by which a trap is recognised; infinite where there is none."""
    if not can_fit_states(problem):
        return np.inf
    return rollout_objective(problem, fit_states(problem, options.seed))
