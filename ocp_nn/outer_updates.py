"""The small decisions of the outer loop: penalties, multipliers, accuracies, and when to stop or start over."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .gauss_newton import AugmentedLagrangian, Damping, InnerResult, Point
from .initialise import can_fit_states, fit_states
from .options import Options
from .problem import TrainingProblem
from .solver_state import SolverState

__all__ = [
    "bounded_multipliers",
    "first_damping",
    "first_penalty",
    "has_settled",
    "inner_steps",
    "inner_tolerance",
    "perturbed_start",
    "raised_penalty",
    "reference_objective",
    "rollout_objective",
    "safeguarded",
    "softened",
    "wants_restart",
    "was_fruitless",
]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]

# First penalty relative to mean(y^2): a defect of one unit costs what a hundred residuals of the target's own size do.
# It is multiplied by N m / P where data outnumber the controls: softer states would bend to data that no controls can
# follow (power-plant in scripts/bench.py: 1.1 s to within 5 % for three seeds instead of 3.3 s for one).
_RELATIVE_PENALTY = 100.0

# A restart divides the first penalty by ten and allows four times the inner steps: the states then move far from
# the rollout before the defects close, which is what frees deep ReLU networks (scripts/deep_suite.py).
_RESTART_SOFTER, _RESTART_PATIENCE = 10.0, 4

# Outer iterations after a restart before it may count as settled: perturbed controls often rest at the mean for some.
_RESTART_OUTER = 8

# Restarts from a kink go on until this many in a row gain less than this fraction of the objective.
_FRUITLESS_RESTARTS, _FRUITFUL_GAIN = 3, 0.01

# ||d_k|| below this fraction of the tolerance is closed.
_CLOSED = 0.1

# Size of a restart's perturbation, relative to standard weights.
_PERTURBATION = 0.5

# Point and rollout agree within a percent, and an outer iteration gains no more than two: Newton-CG is faster then.
_SETTLED_GAP, _SETTLED_GAIN = 0.01, 0.02


def first_penalty(problem: TrainingProblem, options: Options) -> tuple[float, ...]:
    """beta_k of every node; infinite for an eliminated state."""
    inner = problem.num_stages - 1
    nodes = options.nodes(problem.num_stages)
    if isinstance(options.penalty, str):
        data_per_control = problem.y.size / problem.network.num_controls
        values = np.full(inner, _RELATIVE_PENALTY * _target_scale(problem) * max(1.0, data_per_control))
    else:
        values = np.asarray(options.penalty, dtype=float)
    if values.ndim == 1 and len(values) != inner:
        raise ValueError(f"penalty needs one value or one for each of {inner} nodes, received {len(values)}")
    values = np.broadcast_to(values, (inner,))
    return tuple(float(beta) if k + 1 in nodes else np.inf for k, beta in enumerate(values))


def first_damping(problem: TrainingProblem, options: Options) -> Damping:
    """mu, in the target's own scale as the objective is."""
    return Damping(options.damping * _target_scale(problem))


def _target_scale(problem: TrainingProblem) -> float:
    scale = float(np.mean(problem.y**2))
    return scale if scale > 0 else 1.0


def raised_penalty(state: SolverState, violation: tuple[float, ...], options: Options) -> tuple[float, ...]:
    """Every beta_k whose defects did not fall enough, times the growth factor, up to the cap.

    Defects well within the tolerance need no more: beta times their rounding would drown the gradient.
    """
    enough = _CLOSED * options.tolerance
    return tuple(
        min(beta * options.penalty_growth, max(beta, options.max_penalty))
        if np.isfinite(beta) and now > enough and not now <= options.violation_reduction * before
        else beta
        for beta, now, before in zip(state.penalty, violation, state.violation, strict=True)
    )


def bounded_multipliers(multipliers: Arrays, problem: TrainingProblem, options: Options) -> Arrays:
    """Multipliers projected on the safeguarding box."""
    bound = options.multiplier_bound * max(1.0, float(np.abs(problem.y).max()))
    return tuple(np.clip(multiplier, -bound, bound) for multiplier in multipliers)


def inner_tolerance(options: Options, outer: int, first: float) -> float:
    """eps_t of outer iteration t, given the norm of its first gradient."""
    if options.inner_accuracy == "relative":
        return options.inner_tolerance * first
    if options.inner_accuracy == "absolute":
        return options.inner_tolerance * options.inner_decay**outer
    return 0.0


def rollout_objective(problem: TrainingProblem, controls: Arrays) -> float:
    """J at the rollout of the controls; infinite where that overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        objective = problem.cost(controls, problem.network.predict(controls, problem.x))
    return objective if np.isfinite(objective) else np.inf


def reference_objective(problem: TrainingProblem, options: Options) -> float:
    """J of the state-trajectory initialisation, by which a trap is recognised; infinite where there is none."""
    if options.max_restarts == 0 or not can_fit_states(problem.network):
        return np.inf
    return rollout_objective(problem, fit_states(problem, options.seed))


def safeguarded(lagrangian: AugmentedLagrangian, state: SolverState) -> Point:
    """The point to start a subproblem from: the last one, or the best rollout where that has the lower L_beta."""
    point = lagrangian.again(state.point)
    if point.value <= state.safeguard.objective:
        return point
    rollout = lagrangian.problem.rollout(state.safeguard.controls)
    return lagrangian.at(rollout.controls, rollout.states)


def has_settled(state: SolverState, inner: InnerResult, objective: float, options: Options) -> bool:
    """Whether the multipliers and penalties have done what they can: the second-order finish takes over.

    That is when no step was possible, or when the iteration gained little and the rollout agrees with the point, or
    never will: defects within the tolerance, or penalties at their cap, may still add up along unstable stages.
    """
    if state.counts["restarts"] and state.outer - state.restart_outer < _RESTART_OUTER:
        return False
    agrees = abs(objective - inner.point.objective) <= _SETTLED_GAP * objective
    closed = inner.point.max_defect <= options.tolerance
    capped = all(beta >= options.max_penalty for beta in state.penalty)
    gained_little = state.rollout_objective - objective <= _SETTLED_GAIN * objective
    return inner.stalled or (gained_little and (agrees or closed or capped))


def wants_restart(state: SolverState, options: Options) -> bool:
    """Whether the run has ended in a trap, or at a kink that second-order steps cannot leave."""
    if state.counts["restarts"] >= options.max_restarts:
        return False
    at_rest = state.is_stationary(options.tolerance) and state.point.max_defect <= options.tolerance
    trapped = (state.settled or at_rest) and state.best.objective > state.reference
    at_kink = state.newton is not None and state.newton.stalled and not state.is_stationary(options.tolerance)
    return trapped or (at_kink and state.fruitless < _FRUITLESS_RESTARTS)


def perturbed_start(problem: TrainingProblem, state: SolverState, options: Options) -> Arrays:
    """Controls to restart from: the best rollout's, or the first ones if that is no better than the mean, perturbed."""
    rng = np.random.default_rng([options.seed, state.counts["restarts"] + 1])
    mean_objective = 0.5 * float(np.sum((problem.y - problem.y.mean(axis=0)) ** 2))
    base = state.best.controls if state.best.objective < 0.9 * mean_objective else state.start
    return tuple(
        u + _PERTURBATION * rng.standard_normal(u.shape) / np.sqrt(layer.num_inputs)
        for layer, u in zip(problem.network.layers, base, strict=True)
    )


def softened(problem: TrainingProblem, options: Options) -> Options:
    """The options of a restart: a smaller first penalty."""
    return replace(options, penalty=[beta / _RESTART_SOFTER for beta in first_penalty(problem, options)])


def inner_steps(state: SolverState, options: Options) -> int:
    """Gauss-Newton steps allowed in the next outer iteration."""
    return options.max_inner * (_RESTART_PATIENCE if state.counts["restarts"] else 1)


def was_fruitless(state: SolverState) -> bool:
    """Whether the best objective has hardly improved since the last restart."""
    return state.best.objective > (1.0 - _FRUITFUL_GAIN) * state.restart_objective
