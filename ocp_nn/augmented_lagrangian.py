"""The inexact augmented-Lagrangian solver: the outer loop.

    given controls u, states x, multipliers lambda and penalties beta, repeat
      1. minimise L_beta(u, x; lambda) approximately, by Gauss-Newton          (:func:`ocp_nn.gauss_newton.minimise`)
      2. roll the controls out; keep the best rollout
      3. lambda_{k+1} <- lambda_{k+1} + beta_k d_k
      4. raise beta_k where ||d_k|| did not fall enough
    until the defects and the gradient of the Lagrangian are small.

:func:`init`, :func:`step` and :func:`terminate` are that loop over an explicit state; :func:`solve` runs it.  What
is added to the textbook algorithm (Bertsekas 1982; Birgin and Martinez 2014):

* **Safeguard.**  The best rollout is feasible, so L_beta <= J(best) can be asked of every start of a subproblem,
  whatever lambda and beta; an iterate above it is replaced by that rollout.
* **Second-order finish.**  Once rollout and iterate agree, the states are eliminated and truncated Newton-CG closes
  the last digits (:mod:`ocp_nn.newton`); the multipliers of the result are the back-propagated adjoints.
* **Restarts.**  A solution worse than what the state-trajectory initialisation has before any training is a trap.
  The loop then starts over from perturbed controls with a smaller penalty, under which the states move more freely.

Single shooting (every beta infinite) is the same loop: steps 3 and 4 find nothing to do and step 1 is
Levenberg-Marquardt.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from .gauss_newton import AugmentedLagrangian, Damping, Point, minimise
from .initialise import can_fit_states, fit_states, initialise
from .newton import NewtonState, newton_step, start_newton
from .options import Options
from .problem import TrainingProblem, Trajectory
from .result import Record, Result, Status

__all__ = ["SolverState", "init", "solve", "step", "terminate"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]
Initial = Trajectory | Sequence[Array] | None
Callback = Callable[[Record], bool | None]

_COUNTS = ("gauss_newton", "least_squares", "newton", "hessian_products")


@dataclass(frozen=True, eq=False)
class Best:
    """The best rollout so far: its controls and objective."""

    controls: Arrays
    objective: float

    def better(self, other: Best) -> Best:
        return other if other.objective < self.objective else self


@dataclass(frozen=True, eq=False)
class SolverState:
    """Everything the outer loop carries.

    Attributes
    ----------
    point : Point
        Controls and states.
    multipliers : tuple of K - 1 arrays
        lambda_{k+1} of the defects d_k.
    penalty : tuple of K - 1 floats
        beta_k.
    violation : tuple of K - 1 floats
        ||d_k|| after the last outer iteration.
    damping : Damping
    best : Best
    safeguard : Best
        The best rollout since the last restart.
    start : tuple of K arrays
        The controls the solve started from.
    reference : float
        J of the state-trajectory initialisation, untrained; infinite where there is none.
    stationarity : float
        2-norm of the gradient of the Lagrangian.
    rollout_objective : float
        J at the rollout of the point's controls.
    newton : NewtonState or None
        Set once the second-order finish has begun.
    restart_objective : float
        The best objective at the last restart.
    fruitless : int
        Restarts in a row that did not improve the best objective.
    settled : bool
        Point and rollout agree and the objective has stopped falling.
    stalled : bool
        No step decreases L_beta in floating point.
    outer, restarts : int
    counts : dict
        Work so far.
    """

    point: Point
    multipliers: Arrays
    penalty: tuple[float, ...]
    violation: tuple[float, ...]
    damping: Damping
    best: Best
    safeguard: Best
    start: Arrays
    reference: float = np.inf
    stationarity: float = np.inf
    rollout_objective: float = np.inf
    newton: NewtonState | None = None
    restart_objective: float = np.inf
    fruitless: int = 0
    settled: bool = False
    stalled: bool = False
    outer: int = 0
    restarts: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTS, 0))

    @property
    def phase(self) -> str:
        """What the last step did."""
        if self.newton is not None:
            return "second order"
        return "single shooting" if np.isinf(self.penalty).all() else "augmented Lagrangian"


def init(problem: TrainingProblem, initial: Initial = None, options: Options | None = None) -> SolverState:
    """The state to start from.

    Parameters
    ----------
    problem : TrainingProblem
    initial : None, controls or Trajectory
        None initialises as the options say; controls start from their rollout; a trajectory also gives states,
        which need not satisfy the dynamics, and multipliers if it has any.
    options : Options, optional

    Raises
    ------
    ValueError
        If the initial point does not have the problem's shapes, or a node or penalty does not exist.
    """
    options = options or Options()
    if initial is None:
        initial = initialise(problem, options.initialisation, options.seed)
    trajectory = initial if isinstance(initial, Trajectory) else problem.rollout(initial)
    problem.check(trajectory)
    multipliers = trajectory.multipliers or tuple(np.zeros_like(x) for x in trajectory.states)
    penalty = _first_penalty(problem, options)
    with np.errstate(over="ignore", invalid="ignore"):
        point = AugmentedLagrangian(problem, multipliers[1:], penalty).at(trajectory.controls, trajectory.states)
        objective = _rollout_objective(problem, trajectory.controls)
    return SolverState(
        point=point,
        multipliers=multipliers[1:],
        penalty=penalty,
        violation=(np.inf,) * len(penalty),
        damping=Damping(options.damping),
        best=Best(trajectory.controls, objective),
        safeguard=Best(trajectory.controls, objective),
        start=trajectory.controls,
        reference=_reference_objective(problem, options),
        rollout_objective=objective,
    )


def step(
    problem: TrainingProblem, state: SolverState, options: Options | None = None, *, deadline: float = np.inf
) -> SolverState:
    """One outer iteration: of the augmented Lagrangian, or of the second-order finish once it has begun.

    ``deadline`` is a ``time.perf_counter()`` value after which no further inner step is begun.
    """
    options = options or Options()
    if _wants_restart(state, options):
        state = _restarted(problem, state, options)
    elif state.newton is not None:
        return _second_order(problem, state, state.newton, options)
    elif state.settled and options.second_order:
        return _begin_second_order(problem, state)
    lagrangian = AugmentedLagrangian(problem, state.multipliers, state.penalty)
    inner = minimise(
        lagrangian,
        _safeguarded(lagrangian, state),
        state.damping,
        tolerance=partial(_inner_tolerance, options, state.outer),
        max_steps=options.max_inner * (_RESTART_PATIENCE if state.restarts else 1),
        globalisation=options.globalisation,
        form=options.form,
        max_memory=options.max_memory,
        deadline=deadline,
    )
    objective = _rollout_objective(problem, inner.point.controls)
    rollout = Best(inner.point.controls, objective)
    violation = tuple(float(np.linalg.norm(d)) for d in inner.point.defects)
    return replace(
        state,
        point=inner.point,
        multipliers=_bounded(lagrangian.estimate(inner.point), problem, options),
        penalty=_raised(state, violation, options),
        violation=violation,
        damping=Damping(options.damping) if inner.stalled else inner.damping,
        best=state.best.better(rollout),
        safeguard=state.safeguard.better(rollout),
        stationarity=inner.stationarity,
        rollout_objective=objective,
        settled=inner.stalled or _has_settled(state, inner.point, objective),
        stalled=inner.stalled and inner.steps == 0,
        outer=state.outer + 1,
        counts=_added(state.counts, gauss_newton=inner.steps, least_squares=inner.solves),
    )


def terminate(problem: TrainingProblem, state: SolverState, options: Options | None = None) -> Status | None:
    """Why to stop, or None to go on.  (Time and interrupts are for the caller to watch.)"""
    options = options or Options()
    small = state.stationarity <= options.tolerance * max(1.0, state.point.objective)
    if state.outer >= options.max_outer:
        return Status.OUTER_LIMIT
    if _wants_restart(state, options):
        return None
    if small and state.point.max_defect <= options.tolerance:
        return Status.CONVERGED
    if state.newton is not None and state.newton.stalled:
        return Status.STALLED
    if state.stalled and not options.second_order:
        return Status.STALLED
    finite = [beta for beta in state.penalty if np.isfinite(beta)]
    if state.newton is None and finite and min(finite) >= options.max_penalty and not options.second_order:
        return Status.PENALTY_LIMIT if state.point.max_defect > options.tolerance else None
    return None


def solve(
    problem: TrainingProblem,
    initial: Initial = None,
    *,
    options: Options | None = None,
    callback: Callback | None = None,
) -> Result:
    """Train a network as an optimal control problem.

    Parameters
    ----------
    problem : TrainingProblem
    initial : None, controls or Trajectory
        As for :func:`init`.
    options : Options, optional
    callback : callable, optional
        Receives the :class:`ocp_nn.Record` of every outer iteration; returning True stops the solve.

    Returns
    -------
    Result
        With the best trajectory found, whatever the status.  Ctrl-C ends the solve with status interrupted.

    Raises
    ------
    ValueError
        If the initial point does not have the problem's shapes.
    """
    options = options or Options()
    began = time.perf_counter()
    deadline = began + options.time_limit
    history: list[Record] = []
    with threadpool_limits(_blas_threads(problem), user_api="blas"):
        state = init(problem, initial, options)
        status = None if np.isfinite(state.best.objective) else Status.NON_FINITE
        try:
            while status is None:
                state = step(problem, state, options, deadline=deadline)
                history.append(_record(state, time.perf_counter() - began))
                status = terminate(problem, state, options)
                stopped = callback is not None and callback(history[-1])
                if status is None and (stopped or time.perf_counter() > deadline):
                    status = Status.INTERRUPTED if stopped else Status.TIME_LIMIT
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
        return _result(problem, state, status, history, time.perf_counter() - began)


# A restart divides the first penalty by ten and allows four times the inner steps: the states then move far from the
# rollout before the defects close, which is what frees deep ReLU networks (scripts/deep_suite.py).
_RESTART_SOFTER, _RESTART_PATIENCE = 10.0, 4

# Restarts from a kink go on until this many in a row gain less than this fraction of the objective.
_FRUITLESS_RESTARTS, _FRUITFUL_GAIN = 3, 0.01

# Size of a restart's perturbation, relative to standard weights.
_PERTURBATION = 0.5

# Point and rollout agree within a percent, and an outer iteration gains no more than two: Newton-CG is faster from
# there.
_SETTLED_GAP, _SETTLED_GAIN = 0.01, 0.02

# First penalty relative to mean(y^2): a defect of one unit costs what a hundred residuals of the target's own size do.
_RELATIVE_PENALTY = 100.0


def _first_penalty(problem: TrainingProblem, options: Options) -> tuple[float, ...]:
    """beta_k of every node; infinite for an eliminated state."""
    nodes = options.nodes(problem.num_stages)
    if isinstance(options.penalty, str):
        scale = float(np.mean(problem.y**2))
        values = np.full(problem.num_stages - 1, _RELATIVE_PENALTY * (scale if scale > 0 else 1.0))
    else:
        values = np.asarray(options.penalty, dtype=float)
    if values.ndim == 1 and len(values) != problem.num_stages - 1:
        raise ValueError(f"penalty needs one value or {problem.num_stages - 1}, received {len(values)}")
    values = np.broadcast_to(values, (problem.num_stages - 1,))
    return tuple(float(beta) if k + 1 in nodes else np.inf for k, beta in enumerate(values))


def _rollout_objective(problem: TrainingProblem, controls: Arrays) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        objective = problem.cost(controls, problem.network.predict(controls, problem.x))
    return objective if np.isfinite(objective) else np.inf


def _reference_objective(problem: TrainingProblem, options: Options) -> float:
    if options.max_restarts == 0 or not can_fit_states(problem.network):
        return np.inf
    return _rollout_objective(problem, fit_states(problem, options.seed))


def _wants_restart(state: SolverState, options: Options) -> bool:
    """Whether the run has ended in a trap, or at a kink that second-order steps cannot leave."""
    if state.restarts >= options.max_restarts:
        return False
    trapped = state.settled and state.best.objective > state.reference
    at_kink = state.newton is not None and state.newton.stalled and state.fruitless < _FRUITLESS_RESTARTS
    not_stationary = state.stationarity > options.tolerance * max(1.0, state.best.objective)
    return trapped or (at_kink and not_stationary)


def _safeguarded(lagrangian: AugmentedLagrangian, state: SolverState) -> Point:
    """The point to start a subproblem from: the last one, or the best rollout where that has the lower L_beta."""
    point = lagrangian.again(state.point)
    if point.value <= state.safeguard.objective:
        return point
    rollout = lagrangian.problem.rollout(state.safeguard.controls)
    return lagrangian.at(rollout.controls, rollout.states)


def _inner_tolerance(options: Options, outer: int, first: float) -> float:
    """eps_t of the outer iteration, given the norm of its first gradient."""
    if options.inner_accuracy == "relative":
        return options.inner_tolerance * first
    if options.inner_accuracy == "absolute":
        return options.inner_tolerance * options.inner_decay**outer
    return 0.0


def _bounded(multipliers: Arrays, problem: TrainingProblem, options: Options) -> Arrays:
    bound = options.multiplier_bound * max(1.0, float(np.abs(problem.y).max()))
    return tuple(np.clip(multiplier, -bound, bound) for multiplier in multipliers)


def _raised(state: SolverState, violation: tuple[float, ...], options: Options) -> tuple[float, ...]:
    """Every beta_k whose defects did not fall enough, times the growth factor."""
    return tuple(
        min(beta * options.penalty_growth, max(beta, options.max_penalty))
        if np.isfinite(beta) and now > options.violation_reduction * before
        else beta
        for beta, now, before in zip(state.penalty, violation, state.violation, strict=True)
    )


def _has_settled(state: SolverState, point: Point, objective: float) -> bool:
    gap = abs(objective - point.objective) <= _SETTLED_GAP * objective
    return gap and state.rollout_objective - objective <= _SETTLED_GAIN * objective


def _restarted(problem: TrainingProblem, state: SolverState, options: Options) -> SolverState:
    """Perturbed controls, a smaller penalty, no multipliers; from the best rollout if that beats the mean."""
    restarts = state.restarts + 1
    rng = np.random.default_rng([options.seed, restarts])
    mean_objective = 0.5 * float(np.sum((problem.y - problem.y.mean(axis=0)) ** 2))
    base = state.best.controls if state.best.objective < 0.9 * mean_objective else state.start
    controls = tuple(
        u + _PERTURBATION * rng.standard_normal(u.shape) / np.sqrt(layer.num_inputs)
        for layer, u in zip(problem.network.layers, base, strict=True)
    )
    gained = state.best.objective < (1.0 - _FRUITFUL_GAIN) * state.restart_objective
    softer = tuple(beta / _RESTART_SOFTER for beta in _first_penalty(problem, options))
    fresh = init(problem, controls, replace(options, penalty="auto"))
    return replace(
        state,
        point=fresh.point,
        multipliers=fresh.multipliers,
        penalty=softer,
        violation=fresh.violation,
        damping=fresh.damping,
        safeguard=fresh.safeguard,
        rollout_objective=fresh.rollout_objective,
        newton=None,
        settled=False,
        restarts=restarts,
        restart_objective=state.best.objective,
        fruitless=0 if gained else state.fruitless + 1,
    )


def _begin_second_order(problem: TrainingProblem, state: SolverState) -> SolverState:
    return _with_newton(problem, state, start_newton(problem, np.concatenate(state.best.controls)))


def _second_order(problem: TrainingProblem, state: SolverState, newton: NewtonState, options: Options) -> SolverState:
    after = newton_step(problem, newton, form=options.form, max_memory=options.max_memory)
    advanced = _with_newton(problem, state, after)
    return replace(
        advanced,
        outer=state.outer + 1,
        counts=_added(state.counts, newton=1, hessian_products=after.products - newton.products),
    )


def _with_newton(problem: TrainingProblem, state: SolverState, newton: NewtonState) -> SolverState:
    """The state at a feasible iterate of the second-order finish: its rollout, with the adjoints as multipliers."""
    controls = problem.network.split(newton.controls)
    single = (np.inf,) * len(state.penalty)
    multipliers = newton.adjoints.costates[1:-1]
    rollout = problem.rollout(controls)
    return replace(
        state,
        point=AugmentedLagrangian(problem, multipliers, single).at(controls, rollout.states),
        multipliers=multipliers,
        penalty=single,
        best=state.best.better(Best(controls, newton.objective)),
        stationarity=float(np.linalg.norm(newton.gradient)),
        rollout_objective=newton.objective,
        newton=newton,
    )


def _added(counts: dict[str, int], **more: int) -> dict[str, int]:
    return {name: number + more.get(name, 0) for name, number in counts.items()}


def _record(state: SolverState, seconds: float) -> Record:
    return Record(
        iteration=state.outer,
        phase=state.phase,
        objective=state.point.objective,
        rollout_objective=state.rollout_objective,
        max_defect=state.point.max_defect,
        stationarity=state.stationarity,
        penalty=max(state.penalty, default=np.inf),
        steps=state.counts["least_squares"] + state.counts["newton"],
        seconds=seconds,
    )


def _result(
    problem: TrainingProblem, state: SolverState, status: Status, history: list[Record], seconds: float
) -> Result:
    if status is Status.CONVERGED:
        trajectory = Trajectory(state.point.controls, state.point.states, _with_input_costate(problem, state))
    elif status is Status.NON_FINITE:
        trajectory = Trajectory(state.point.controls, state.point.states)
    else:
        trajectory = problem.lift(state.best.controls)
    return Result(
        status=status,
        message=status.message,
        trajectory=trajectory,
        objective=problem.objective(trajectory),
        rollout_objective=_rollout_objective(problem, trajectory.controls),
        max_defect=max((float(np.abs(d).max()) for d in problem.defects(trajectory)), default=0.0),
        stationarity=state.stationarity,
        seconds=seconds,
        solver="augmented Lagrangian",
        history=tuple(history),
        counts={"outer": state.outer, "restarts": state.restarts, **state.counts},
    )


def _with_input_costate(problem: TrainingProblem, state: SolverState) -> Arrays:
    """lambda_0..lambda_{K-1}: the multipliers of the defects, preceded by the costate of the input."""
    first = problem.linearize(Trajectory(state.point.controls, state.point.states), state.point.outputs)[0]
    following = state.multipliers[0] if state.multipliers else state.point.outputs[-1] - problem.y
    return (first.transpose_state(following), *state.multipliers)


def _blas_threads(problem: TrainingProblem) -> int | None:
    """One thread where the matrices are small: handing them to more costs more than it gains (design measurements)."""
    smaller = min(problem.num_samples * problem.network.num_outputs, problem.network.num_controls)
    return 1 if smaller <= _ONE_THREAD_SIZE else None


# Order of the factorised matrix up to which one BLAS thread is used.
_ONE_THREAD_SIZE = 2000
