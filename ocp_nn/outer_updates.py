"""The small decisions of the outer loop: penalties, multipliers, accuracies, and when to stop or start over."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .damping import Damping
from .initialise import can_fit_states, fit_states, initialise
from .inner_problem import ROUNDING, AugmentedLagrangian, Point
from .inner_result import InnerResult
from .linearisation import Method
from .options import Options
from .problem import TrainingProblem
from .solver_state import Finish, SolverState

__all__ = [
    "SAMPLE_PATIENCE",
    "SETTLED_GAIN",
    "Restart",
    "bounded_multipliers",
    "counted",
    "first_finish",
    "first_penalty",
    "follows",
    "has_settled",
    "inner_method",
    "inner_steps",
    "inner_tolerance",
    "next_finish",
    "next_fruitless",
    "objective_of_rollout",
    "projects",
    "raised_penalty",
    "restart_controls",
    "restart_kind",
    "rollout_objective",
    "safeguarded",
    "sample_of",
    "sample_options",
    "softened",
]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]
Restart = Literal["perturbed", "new"]

# First penalty relative to mean(y^2): a defect of a hundredth costs what a residual of the target's own size does.
_RELATIVE_PENALTY = 1e4

# A restart divides the first penalty by ten and allows four times the inner steps: the states then move far from
# the rollout before the defects close, which is what frees deep ReLU networks (scripts/deep_suite.py).
_RESTART_SOFTER, _RESTART_PATIENCE = 10.0, 4

# Outer iterations after a restart before it may count as settled: perturbed controls often rest at the mean for some.
_RESTART_OUTER = 8

# Restarts from a kink, and those with new weights, go on until this many in a row gain less than this fraction of the
# objective.
_FRUITLESS_RESTARTS, _FRUITFUL_GAIN = 3, 0.01

# ||d_k|| below this fraction of the tolerance is closed.
_CLOSED = 0.1

# The sample start: samples per control and output, and at least; how many times as many there must be; most steps.
_SAMPLE_PER_CONTROL, _LEAST_SAMPLE, _WORTH_SAMPLING, _SAMPLE_STEPS = 2.0, 1000, 4, 100

# Iterations on a sample, after its states are eliminated, that may gain little on all data before it is left.
SAMPLE_PATIENCE = 2

# Size of a restart's perturbation, relative to standard weights.
_PERTURBATION = 0.5

# Steps with the exact Hessian in an outer iteration, and the work of a Hessian product in least-squares solves: two
# sweeps and a solve with a factor that is there, about a quarter.
_NEWTON_STEPS, _PRODUCT = 2, 0.25

# Gauss-Newton steps in an outer iteration of the finish.
_FINISH_STEPS = 2

# Stages up to which the finish of a smooth network projects the last control out.
_SHALLOW = 3

# Rollouts that explain nine tenths of the targets' variance are off every plateau: from there single shooting is as
# good, and faster than waiting for the defects to close (scripts/deep_suite.py).
_FOLLOWS = 0.1

# Point and rollout agree within a percent, and an outer iteration gains no more than two: the finish is faster then.
_SETTLED_GAP, SETTLED_GAIN = 0.01, 0.02


def first_penalty(problem: TrainingProblem, options: Options) -> tuple[float, ...]:
    """beta_k of every node; infinite for an eliminated state."""
    inner = problem.num_stages - 1
    nodes = options.nodes(problem.num_stages)
    if isinstance(options.penalty, str):
        values = np.full(inner, _RELATIVE_PENALTY * _target_scale(problem))
    else:
        values = np.asarray(options.penalty, dtype=float)
    if values.ndim == 1 and len(values) != inner:
        raise ValueError(f"penalty needs one value or one for each of {inner} nodes, received {len(values)}")
    values = np.broadcast_to(values, (inner,))
    return tuple(float(beta) if k + 1 in nodes else np.inf for k, beta in enumerate(values))


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


def inner_tolerance(options: Options, state: SolverState, first: float) -> float:
    """eps_t of the next outer iteration, given the norm of its first gradient.

    In the finish it is the solve's own, or none at all where that is met already and was not enough.
    """
    if state.finish is not None:
        return 0.0 if state.is_stationary(options.tolerance) else options.tolerance * max(1.0, state.point.objective)
    if options.inner_accuracy == "relative":
        return options.inner_tolerance * first
    if options.inner_accuracy == "absolute":
        # NumPy's power: Python's own raises where it overflows
        return options.inner_tolerance * float(np.power(options.inner_decay, state.outer))
    return 0.0


def inner_method(state: SolverState, options: Options) -> Method:
    """How the steps of the next outer iteration are made."""
    return Method(
        globalisation=options.globalisation,
        acceleration=options.acceleration,
        second_order=state.finish is not None and state.finish.prefers_second_order,
        form=options.form,
        max_memory=options.max_memory,
    )


def counted(state: SolverState, inner: InnerResult) -> dict[str, int]:
    """The counts with the work of an outer iteration."""
    second_order = state.finish is not None and state.finish.prefers_second_order
    steps = "newton" if second_order else "gauss_newton"
    return state.added(**{steps: inner.steps, "least_squares": inner.solves, "hessian_products": inner.products})


def projects(problem: TrainingProblem, state: SolverState) -> bool:
    """Whether the last control is projected out: in the finish, of shallow networks and of those with kinks.

    On shallow ones that saves up to a third of the steps, and at kinks it goes on where other steps are stopped
    (ReLU 20x8 of scripts/deep_suite.py); smooth deep ones it leads into worse valleys (sin2x 4x10 and tanh 50x8 of
    scripts/bench.py).
    """
    return state.finish is not None and (problem.num_stages <= _SHALLOW or problem.network.has_kinks)


def first_finish(state: SolverState, options: Options) -> Finish:
    """The finish before its first step; backtracking along a line has no use for the exact Hessian."""
    finish = Finish((state.damping, state.damping))
    return finish if options.globalisation != "armijo" else replace(finish, gains=(finish.gains[0], -1.0))


def next_finish(state: SolverState, inner: InnerResult, damping: Damping, objective: float) -> Finish | None:
    """The finish after an iteration, by what that gained for its work."""
    if state.finish is None:
        return None
    work = inner.solves + _PRODUCT * inner.products
    if inner.stalled and inner.steps == 0:
        gain = -1.0
    elif inner.steps == 0:  # out of time
        return state.finish
    else:
        gain = (state.rollout_objective - objective) / (work * objective) if objective > 0 else 0.0
    return state.finish.after(gain, damping)


def rollout_objective(problem: TrainingProblem, controls: Arrays) -> float:
    """J at the rollout of the controls; infinite where that overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        objective = problem.cost(controls, problem.network.predict(controls, problem.x))
    return objective if np.isfinite(objective) else np.inf


def objective_of_rollout(problem: TrainingProblem, lagrangian: AugmentedLagrangian, point: Point) -> float:
    """:func:`rollout_objective` of a point; known where that is a rollout."""
    return point.objective if lagrangian.is_reduced else rollout_objective(problem, point.controls)


def reference_objective(problem: TrainingProblem, options: Options) -> float:
    """J of the state-trajectory initialisation, by which a trap is recognised; infinite where there is none."""
    if not can_fit_states(problem.network):
        return np.inf
    return rollout_objective(problem, fit_states(problem, options.seed))


def safeguarded(lagrangian: AugmentedLagrangian, state: SolverState) -> Point:
    """The point to start a subproblem from: the last one, or the best rollout where that has the lower L_beta."""
    point = lagrangian.again(state.point)
    if point.value <= state.safeguard.objective * (1.0 + ROUNDING):
        return point
    rollout = lagrangian.problem.rollout(state.safeguard.controls)
    return lagrangian.at(rollout.controls, rollout.states)


def has_settled(
    problem: TrainingProblem, state: SolverState, inner: InnerResult, objective: float, options: Options
) -> bool:
    """Whether the multipliers and penalties have done what they can: the finish takes over.

    That is when the best rollout follows the data, when no step was possible, or when the iteration gained little and
    the rollout agrees with the point, or never will: defects within the tolerance, or penalties at their cap, may
    still add up along unstable stages.
    """
    if follows(problem, min(objective, state.safeguard.objective)):
        return True
    if _is_softened(state) and state.outer - state.restart_outer < _RESTART_OUTER:
        return False
    agrees = abs(objective - inner.point.objective) <= _SETTLED_GAP * objective
    closed = inner.point.max_defect <= options.tolerance
    capped = all(beta >= options.max_penalty for beta in state.penalty)
    gained_little = state.rollout_objective - objective <= SETTLED_GAIN * objective
    return inner.stalled or (gained_little and (agrees or closed or capped))


def follows(problem: TrainingProblem, objective: float) -> bool:
    """Whether a rollout with this objective explains most of the targets' variance."""
    return objective <= _FOLLOWS * problem.line.mean_objective


def sample_of(problem: TrainingProblem, options: Options) -> TrainingProblem | None:
    """The problem on a random sample of the data, its weight decay in proportion; None where all are not many more."""
    wanted = max(_LEAST_SAMPLE, round(_SAMPLE_PER_CONTROL * problem.network.num_controls / problem.network.num_outputs))
    if not options.sample_start or problem.num_samples < _WORTH_SAMPLING * wanted:
        return None
    chosen = np.random.default_rng(options.seed).choice(problem.num_samples, wanted, replace=False)
    rows = np.sort(chosen)
    decay = problem.weight_decay * wanted / problem.num_samples
    return TrainingProblem(problem.network, problem.x[rows], problem.y[rows], decay)


def sample_options(options: Options) -> Options:
    """The options of the loop on a sample."""
    return replace(options, sample_start=False, max_restarts=0, max_steps=min(options.max_steps, _SAMPLE_STEPS))


def restart_kind(problem: TrainingProblem, state: SolverState, options: Options) -> Restart | None:
    """How to start over, or None to go on.

    From perturbed controls where the run has ended in a trap, or at a kink that second-order steps cannot leave; with
    new weights where it has ended at a straight line.
    """
    if state.counts["restarts"] >= options.max_restarts:
        return None
    at_rest = state.is_stationary(options.tolerance) and state.point.max_defect <= options.tolerance
    # smooth networks often leave a plateau by the finish; at a kink that takes long
    settled = state.settled and (problem.network.has_kinks or not options.second_order)
    exhausted = state.finish is not None and state.finish.is_exhausted
    lost = (at_rest or settled or exhausted) and not follows(problem, state.best.objective)
    if lost and state.best.objective > reference_objective(problem, options):
        return "perturbed"
    if (at_rest or exhausted) and _is_straight(problem, state) and next_fruitless(state) < _FRUITLESS_RESTARTS:
        return "new"
    at_kink = exhausted and not lost and not state.is_stationary(options.tolerance)
    return "perturbed" if at_kink and state.fruitless < _FRUITLESS_RESTARTS else None


def _is_straight(problem: TrainingProblem, state: SolverState) -> bool:
    """Whether the best rollout is no better than linear least squares on data that bend."""
    if problem.network.is_affine:
        return False
    squares = problem.line.squares(state.best.objective, state.best.controls)
    return problem.line.matches(squares) and problem.line.bends


def restart_controls(problem: TrainingProblem, state: SolverState, options: Options, kind: Restart) -> Arrays:
    """Controls to restart from; the best rollout's where those would overflow."""
    start = _new_start if kind == "new" else _perturbed_start
    controls = start(problem, state, options)
    return controls if np.isfinite(rollout_objective(problem, controls)) else state.best.controls


def _new_start(problem: TrainingProblem, state: SolverState, options: Options) -> Arrays:
    """Those that another seed begins with."""
    seed = np.random.default_rng([options.seed, state.counts["restarts"] + 1]).integers(2**31)
    return initialise(problem, options.initialisation, int(seed))


def _perturbed_start(problem: TrainingProblem, state: SolverState, options: Options) -> Arrays:
    """The best rollout's, or the first ones if that is no better than the mean, perturbed."""
    rng = np.random.default_rng([options.seed, state.counts["restarts"] + 1])
    base = state.best.controls if state.best.objective < 0.9 * problem.line.mean_objective else state.start
    return tuple(
        u + _PERTURBATION * rng.standard_normal(u.shape) / np.sqrt(layer.num_inputs)
        for layer, u in zip(problem.network.layers, base, strict=True)
    )


def softened(problem: TrainingProblem, options: Options) -> Options:
    """The options of a restart: a smaller first penalty."""
    return replace(options, penalty=[beta / _RESTART_SOFTER for beta in first_penalty(problem, options)])


def inner_steps(state: SolverState, options: Options) -> int:
    """Steps allowed in the next outer iteration."""
    if state.finish is not None and state.finish.prefers_second_order:
        return _NEWTON_STEPS
    if state.finish is not None:
        return min(_FINISH_STEPS, options.max_inner)
    return options.max_inner * (_RESTART_PATIENCE if _is_softened(state) else 1)


def _is_softened(state: SolverState) -> bool:
    """Whether the last restart has given the states more freedom."""
    return state.counts["restarts"] > 0 and not state.fresh


def next_fruitless(state: SolverState) -> int:
    """Restarts in a row that have hardly improved the best objective, the last one included."""
    gained = state.best.objective <= (1.0 - _FRUITFUL_GAIN) * state.restart_objective
    return 0 if gained else state.fruitless + 1
