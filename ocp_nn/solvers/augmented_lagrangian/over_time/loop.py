"""The outer loop over time.

    given parameters theta, states x, multipliers lambda and a penalty beta, repeat
      1. minimise L_beta(theta, x; lambda) approximately                        (:mod:`.steps`)
      2. simulate with theta from x_0; keep the best simulation
      3. lambda_{t+1} <- lambda_{t+1} + beta d_t, once beta is large            (:mod:`.hardening`)
      4. raise beta
    until the defects and the gradient of the Lagrangian are small.

It is the loop of :mod:`..outer_loop` with other policies.  There a rollout is a safeguard and the measure of all
things; over a long horizon the rollout of an unstable or chaotic model says nothing, and what counts is the trajectory
of multiple shooting with its defects.  Hence no safeguard, a soft beginning, and

* **Other starts.**  Where one explains little, or its defects stay open, the next is tried (:mod:`.restarts`).
* **Finish.**  Where the simulation agrees with the trajectory the system is tame: the states are eliminated, and the
  same steps go on in theta and x_0 alone, with Newton steps where they become slow (:mod:`.newton`).  Where it never
  does, the augmented Lagrangian goes on to the end.

Single shooting is the same code without nodes: Levenberg-Marquardt on the simulation error.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ....base.floating import overflow_is_a_value
from ....problem.certificate import certify
from ....problem.identification import IdentificationProblem
from ....problem.record import Status
from ....problem.trajectory import Trajectory
from ..damping import Damping
from ..options import Options
from .hardening import FIRST_PENALTY, Hardening, Subproblem
from .lagrangian import Lagrangian, Point
from .newton import is_due, is_fruitful, newton_step
from .restarts import is_stationary, later_starts, stopped, wants_restart
from .starts import another_start, starting_states
from .state import Attempt, HorizonState, Rollout, Watch
from .steps import Linearised, advance

__all__ = ["begin", "returned", "step", "terminate"]

Array = NDArray[np.float64]

# A subproblem ends where a step gains less than this part of L_beta.
_GAIN = 1e-3

# A solve whose start already simulates half of the data begins where others finish: on such tame systems a soft
# beginning only takes the model away from a good start (cascaded tanks).
_TAME = 0.5

# Simulation and trajectory agree, relatively.
_AGREE = 0.01

# Defects this far below the tolerance are closed: beta stays.
_CLOSED = 0.1


@overflow_is_a_value
def begin(
    problem: IdentificationProblem, initial: object = None, options: Options | None = None, *, deadline: float = np.inf
) -> HorizonState:
    """The state to start from: as the options say, from parameters, from a trajectory, or where a state left off."""
    options = options or Options()
    if isinstance(initial, HorizonState):
        return initial
    begun = _begun(problem, starting_states(problem, initial, options), options)
    return replace(begun, later_starts=later_starts(problem, initial, options))


def _begun(problem: IdentificationProblem, start: tuple[Array, Array, Array], options: Options) -> HorizonState:
    """The state at parameters, states and multipliers."""
    theta, states, multipliers = start
    chosen = options.nodes(problem.num_stages)
    nodes = np.isin(np.arange(1, problem.num_stages), sorted(chosen))
    unit = problem.scale / max(float(np.mean(states.var(axis=(0, 1)))), np.finfo(float).tiny)
    first = FIRST_PENALTY * unit if isinstance(options.penalty, str) else float(np.max(options.penalty))
    lagrangian = Lagrangian(problem, multipliers, first, nodes)
    point = lagrangian.at(theta, states)
    rollout = _simulated(problem, point)
    begun = HorizonState(
        point=point,
        multipliers=multipliers,
        estimate=multipliers,
        nodes=nodes,
        hardening=Hardening(unit, first, first),
        damping=_first_damping(lagrangian, point, options),
        anchor=point.states,
        best=rollout,
        rollout_objective=rollout.objective,
    )
    follows = rollout.objective <= _TAME * problem.null_objective
    if not (follows and nodes.any()):
        return begun
    tame = _finished(problem, begun)
    return replace(tame, damping=_first_damping(tame.lagrangian(problem), tame.point, options))


@overflow_is_a_value
def step(
    problem: IdentificationProblem,
    state: HorizonState,
    options: Options | None = None,
    *,
    deadline: float = np.inf,
    observe: Callable[[tuple[Array, ...]], object] | None = None,
) -> HorizonState:
    """One outer iteration; ``deadline`` and ``observe`` as in :mod:`..outer_loop`."""
    options = options or Options()
    if wants_restart(problem, state, options):
        return _begun_again(problem, state, options)
    lagrangian = state.lagrangian(problem)
    local, damping, solves, taken = _minimised(lagrangian, state, options, deadline, observe)
    local, gained = _polished(local, state, options)
    point, hardening = local.point, state.hardening
    rollout = _simulated(problem, point, reduced=lagrangian.is_reduced)
    after = replace(
        state,
        point=point,
        multipliers=_next_multipliers(lagrangian, point, hardening, taken.gained),
        estimate=lagrangian.estimate(point),
        hardening=hardening.after(
            taken,
            closed=hardening.has_multipliers and _are_closed(point, state.point, options),
            growth=options.penalty_growth,
            largest=options.max_penalty,
        ),
        damping=damping if taken.gained else _first_damping(lagrangian, point, options),
        best=state.best.better(rollout),
        rollout_objective=rollout.objective,
        stationarity=local.stationarity,
        stalled=taken.steps > 0 and not (taken.gained or gained),
        polish=state.polish.after(gained),
        outer=state.outer + 1,
        counts=state.added(gauss_newton=taken.steps, least_squares=solves, newton=gained is not None),
    )
    feasible = point.max_defect <= options.tolerance
    watch = state.watch.after(point.objective, after.stationarity, after.steps, feasible=feasible)
    after = replace(after, watch=watch)
    return _finished(problem, after) if _agrees(after) else after


@overflow_is_a_value
def terminate(problem: IdentificationProblem, state: HorizonState, options: Options | None = None) -> Status | None:
    """Why to stop, or None to go on; converged is what the certificate confirms."""
    options = options or Options()
    if state.outer >= options.max_outer:
        return Status.OUTER_LIMIT
    if state.steps >= options.max_steps:
        return Status.INNER_LIMIT
    if wants_restart(problem, state, options):
        return None
    status = _status(problem, state, options)
    better = state.better_earlier
    return status if status is None or better is None else better.status


@overflow_is_a_value
def returned(problem: IdentificationProblem, state: HorizonState, status: Status) -> tuple[Trajectory, float]:
    """The trajectory that a status stands for, and the norm of the gradient there.

    Converged, the point; else the best simulation where it follows the trajectory of multiple shooting, and that
    trajectory, with its open defects, where none does; that of an earlier start if it has ended better.
    """
    better = state.better_earlier
    return _end(problem, state, status) if better is None else (better.trajectory, better.stationarity)


def _status(problem: IdentificationProblem, state: HorizonState, options: Options) -> Status | None:
    """How the present start has ended, if it has."""
    if is_stationary(state, options):
        trajectory = _trajectory(problem, state)
        if certify(problem, trajectory, tolerance=options.tolerance).passed():
            return Status.CONVERGED
    return stopped(state, options)


def _end(problem: IdentificationProblem, state: HorizonState, status: Status) -> tuple[Trajectory, float]:
    if status in (Status.CONVERGED, Status.NON_FINITE) or not state.simulation_follows:
        return _trajectory(problem, state), state.stationarity
    single = Lagrangian(problem, np.zeros_like(state.multipliers), np.inf, np.zeros_like(state.nodes))
    states = np.repeat(state.best.initial[None], problem.num_stages, axis=0)
    local = Linearised.at(single, single.at(state.best.theta, states))
    return _of_point(local), local.stationarity


def _begun_again(problem: IdentificationProblem, state: HorizonState, options: Options) -> HorizonState:
    """From the next start; the end of this one is kept if it is the best so far."""
    status = _status(problem, state, options) or Status.STALLED
    earlier = state.better_earlier or Attempt(
        status, *_end(problem, state, status), *state.ends_at, tolerance=options.tolerance
    )
    kind, *later = state.later_starts
    begun = _begun(problem, another_start(problem, kind, options.seed + len(later) + 1), options)
    return replace(
        begun,
        later_starts=tuple(later),
        earlier=earlier,
        watch=Watch(steps=state.steps),
        outer=state.outer + 1,
        counts=state.added(restarts=1),
    )


def _minimised(
    lagrangian: Lagrangian,
    state: HorizonState,
    options: Options,
    deadline: float,
    observe: Callable[[tuple[Array, ...]], object] | None,
) -> tuple[Linearised, Damping, int, Subproblem]:
    """The subproblem, approximately: the point, the damping to continue with, least squares solved, and how it went."""
    local, damping = Linearised.at(lagrangian, lagrangian.again(state.point)), state.damping
    steps, solves, gained = 0, 0, False
    bends = options.acceleration and state.point.max_defect <= options.tolerance
    while steps < options.max_inner and time.perf_counter() <= deadline:
        taken = advance(local, damping, options.form, acceleration=bends)
        steps, solves, damping = steps + 1, solves + taken.solves, taken.damping
        if taken.gain > 0:
            local, gained = Linearised.at(lagrangian, taken.point), True
            if observe is not None:
                observe((taken.point.theta,))
        if taken.gain < (0.0 if lagrangian.is_reduced else _GAIN) or taken.gain == 0:
            break
    went = Subproblem(steps, options.max_inner, gained, harder=damping.value > state.damping.value)
    return local, damping, solves, went


def _polished(local: Linearised, state: HorizonState, options: Options) -> tuple[Linearised, bool | None]:
    """A Newton step more where the subproblem was slow, and whether it was worth it; None if it was not due."""
    if not is_due(state.polish, state.point, local, options):
        return local, None
    stepped = newton_step(local)
    return (local, False) if stepped is None else (stepped, is_fruitful(local, stepped))


def _are_closed(point: Point, before: Point, options: Options) -> bool:
    """Whether the defects need no larger penalty: within the tolerance, or falling fast by the multipliers alone."""
    violation = point.max_defect
    return violation <= _CLOSED * options.tolerance or violation <= options.violation_reduction * before.max_defect


def _next_multipliers(lagrangian: Lagrangian, point: Point, hardening: Hardening, gained: bool) -> Array:
    """lambda + beta d, once beta is large; not after a subproblem that has got nowhere."""
    return lagrangian.estimate(point) if gained and hardening.has_multipliers else lagrangian.multipliers


def _first_damping(lagrangian: Lagrangian, point: Point, options: Options) -> Damping:
    """mu, relative to the mean curvature in theta."""
    jacobians = lagrangian.jacobians(point)
    size = float(np.vdot(jacobians.D, lagrangian.problem.weights[..., None] * jacobians.D)) / len(point.theta)
    value = options.damping * size
    return Damping(value if 0 < value < np.inf else options.damping)


def _simulated(problem: IdentificationProblem, point: Point, *, reduced: bool = False) -> Rollout:
    """The simulation with the parameters of a point from its x_0."""
    if reduced:
        return Rollout(point.theta, point.states[0], point.objective if np.isfinite(point.objective) else np.inf)
    with np.errstate(over="ignore", invalid="ignore"):
        states = problem.simulated(point.theta, point.states[0])
        outputs = tuple(problem.values(point.theta, states)[1])
        objective = problem.cost([point.theta], outputs, point.states[0])
    return Rollout(point.theta, point.states[0], objective if np.isfinite(objective) else np.inf)


def _agrees(state: HorizonState) -> bool:
    """Whether the simulation does as well as the trajectory, so that the states can be eliminated."""
    return bool(state.nodes.any()) and state.rollout_objective <= (1.0 + _AGREE) * state.point.objective


def _finished(problem: IdentificationProblem, state: HorizonState) -> HorizonState:
    """The state with every state eliminated."""
    nodes = np.zeros_like(state.nodes)
    lagrangian = Lagrangian(problem, np.zeros_like(state.multipliers), state.hardening.penalty, nodes)
    point = lagrangian.at(state.point.theta, state.point.states)
    return replace(state, point=point, nodes=nodes, stationarity=np.inf, multipliers=lagrangian.multipliers)


def _trajectory(problem: IdentificationProblem, state: HorizonState) -> Trajectory:
    """The point with its multipliers."""
    return _of_point(Linearised.at(state.lagrangian(problem), state.point), state.estimate)


def _of_point(local: Linearised, given: Array | None = None) -> Trajectory:
    costates = local.lagrangian.costates(local.point, local.jacobians, given)
    return Trajectory((local.point.theta,), tuple(local.point.states), tuple(costates))
