"""The inexact augmented-Lagrangian solver: the outer loop.

    given controls u, states x, multipliers lambda and penalties beta, repeat
      1. minimise L_beta(u, x; lambda) approximately, by Gauss-Newton          (:mod:`.gauss_newton`)
      2. roll the controls out; keep the best rollout                          (:mod:`.rollouts`)
      3. lambda_{k+1} <- lambda_{k+1} + beta_k d_k
      4. raise beta_k where ||d_k|| did not fall enough                        (:mod:`.penalty`)
    until the defects and the gradient of the Lagrangian are small.

:func:`init`, :func:`step` and :func:`terminate` are that loop over an explicit state; :func:`ocp_nn.solve` runs it.
Source: Evens et al. (:mod:`ocp_nn`).
What is added to the textbook algorithm (Bertsekas 1982; Birgin and Martinez 2014):

* **Safeguard.**  The best rollout is feasible, so L_beta <= J(best) can be asked of every start of a subproblem,
  whatever lambda and beta; an iterate above it is replaced by that rollout (:mod:`.rollouts`).
* **Finish.**  Once the best rollout follows the data, or rollout and iterate agree and gain little, the states are
  eliminated and the same Gauss-Newton goes on in the controls alone, with the exact Hessian (:mod:`.newton`) while that
  gains more for its work; the multipliers of the result are the back-propagated adjoints (:mod:`.finish`).  Where both
  crawl, in deep smooth networks, the states are variables again, to second order (:mod:`.lifted`).
* **Minima.**  What has come to rest is looked at to second order; a saddle is left along negative curvature, and
  the finish goes on from there (:mod:`.minimum`).
* **Restarts.**  A solution worse than what the state-trajectory initialisation has before any training is a trap, and
  so is one no better than a straight line through data that bend; the loop then starts over (:mod:`.restarts`).
* **Sample start.**  Where there are many more samples than controls, a solve begins on some of them
  (:mod:`.sample_start`).

Single shooting (every beta infinite) is the same loop: steps 3 and 4 find nothing to do and step 1 is
Levenberg-Marquardt, which the finish takes over at once.

The Jacobian of the defects has an identity block for every state that is a variable, so its rows are independent
everywhere: the multipliers are unique and a stationary point of the infeasibility is feasible.  Unlike general
augmented-Lagrangian solvers this one cannot end at an infeasible stationary point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ...base.floating import overflow_is_a_value
from ...problem.certificate import certify
from ...problem.kinks import is_at_kink
from ...problem.optimal_control import OptimalControlProblem
from ...problem.record import Status
from ...problem.shooting import Shooting
from ...problem.trajectory import Trajectory
from .damping import first_damping
from .finish import first_finish, has_settled, next_finish, projects
from .gauss_newton import minimise
from .initialise import initialise
from .inner_accuracy import counted, inner_method, inner_steps, inner_tolerance
from .inner_result import InnerResult
from .lagrangian import AugmentedLagrangian
from .lifted import minimise_lifted
from .minimum import MOST_ESCAPES, NEGATIVE, curvature_at, is_looked_at, is_minimum, way_down
from .options import Options
from .penalty import bounded_multipliers, first_penalty, raised_penalty, soft_penalty
from .restarts import next_fruitless, restart_controls, restart_kind, softened
from .rollouts import follows, rolled_out, rollout_objective, safeguarded
from .schedule import Finish, Restart, Schedule
from .state import COUNTS, Best, Initial, SolverState

__all__ = ["init", "returned", "solution", "step", "terminate"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]
Observer = Callable[[Arrays], object]


@overflow_is_a_value
def init(problem: OptimalControlProblem, initial: Initial = None, options: Options | None = None) -> SolverState:
    """The state to start from.

    Parameters
    ----------
    problem : OptimalControlProblem
    initial : None, controls, Trajectory or SolverState
        None initialises as the options say; controls start from their rollout; a trajectory also gives states,
        which need not satisfy the dynamics, and multipliers if it has any; a state is gone on from as it is.
    options : Options, optional

    Raises
    ------
    ValueError
        If the initial point does not have the problem's shapes, or a node or penalty does not exist.
    """
    options = options or Options()
    if isinstance(initial, SolverState):
        return initial
    if initial is None:
        initial = initialise(problem, options.initialisation, options.seed)
    penalty = first_penalty(problem, options)
    trajectory = problem.start(initial)
    multipliers = trajectory.multipliers or tuple(np.zeros_like(x) for x in trajectory.states)
    lagrangian = AugmentedLagrangian(problem, multipliers[1:], penalty)
    point = lagrangian.at(trajectory.controls, trajectory.states)
    start = trajectory.states[0] if problem.has_free_start else None
    rollout = Best(trajectory.controls, rollout_objective(problem, trajectory.controls, start), start)
    return SolverState(
        point=point,
        multipliers=multipliers[1:],
        penalty=penalty,
        violation=(np.inf,) * len(penalty),
        damping=first_damping(lagrangian, point, options.damping),
        best=rollout,
        safeguard=rollout,
        rollout_objective=rollout.objective,
        schedule=Schedule(
            start=trajectory.controls,
            settled=not isinstance(initial, Trajectory) and follows(problem, rollout.objective),
        ),
        counts=dict.fromkeys(COUNTS, 0),
    )


@overflow_is_a_value
def step(
    problem: OptimalControlProblem,
    state: SolverState,
    options: Options | None = None,
    *,
    deadline: float = np.inf,
    observe: Observer | None = None,
) -> SolverState:
    """One outer iteration.

    ``deadline`` is a ``time.perf_counter()`` value after which no further inner step is begun; ``observe`` receives the
    controls after every inner step.
    """
    options = options or Options()
    state = _next_phase(problem, state, options)
    lagrangian, inner = _subproblem(problem, state, options, deadline, observe)
    rollout = rolled_out(lagrangian, inner.point)
    violation = tuple(float(np.linalg.norm(d)) for d in inner.point.defects)
    reached = replace(
        state,
        point=inner.point,
        multipliers=bounded_multipliers(inner.multipliers or lagrangian.estimate(inner.point), problem, options),
        penalty=raised_penalty(state, violation, options),
        violation=violation,
        damping=inner.damping,
        best=state.best.better(rollout),
        safeguard=state.safeguard.better(rollout),
        stationarity=inner.stationarity,
        rollout_objective=rollout.objective,
        schedule=_next_schedule(problem, state, inner, rollout.objective, options),
        outer=state.outer + 1,
        counts=counted(state, inner),
    )
    return _left_saddle(problem, reached, options)


@overflow_is_a_value
def terminate(problem: OptimalControlProblem, state: SolverState, options: Options | None = None) -> Status | None:
    """Why to stop, or None to go on.  (Time and interrupts are for the caller to watch.)

    Converged is what its certificate confirms at the tolerance, too; where it does not, the loop goes on.
    """
    options = options or Options()
    again = restart_kind(problem, state, options) is not None
    if state.is_at_rest(options.tolerance) and not again and _is_certified(problem, state, options):
        if state.point.objective != 0 and is_at_kink(problem, state.point.controls):
            return Status.AT_KINK
        if is_minimum(state.schedule.curvature, options.tolerance):
            return Status.CONVERGED
    if state.outer >= options.max_outer:
        return Status.OUTER_LIMIT
    if state.counts["gauss_newton"] >= options.max_steps:
        return Status.INNER_LIMIT
    if again or (state.schedule.finish is None and options.second_order):
        return None
    if state.schedule.is_exhausted:
        return Status.AT_KINK if is_at_kink(problem, state.best.controls, state.best.initial) else Status.STALLED
    capped = [beta >= options.max_penalty for beta in state.penalty if np.isfinite(beta)]
    is_open = state.point.max_defect > options.tolerance
    return Status.PENALTY_LIMIT if capped and all(capped) and is_open else None


def solution(problem: OptimalControlProblem, state: SolverState) -> Trajectory:
    """What a converged state stands for: its point, with the multipliers lambda_0..lambda_{K-1}.

    Those of the nodes are the state's; those of the input and of eliminated states are back-propagated to.
    """
    point = state.point
    stages = problem.linearize(Trajectory(point.controls, point.states), point.outputs)
    shooting, gradients = Shooting.from_penalty(state.penalty), problem.output_gradients(point.term_outputs)
    multipliers = problem.multipliers(shooting, stages, gradients, state.multipliers)
    return Trajectory(point.controls, point.states, multipliers)


@overflow_is_a_value
def returned(problem: OptimalControlProblem, state: SolverState, status: Status) -> tuple[Trajectory, float]:
    """The trajectory that a status stands for, and the 2-norm of the Lagrangian's gradient there.

    Converged, the point; else the best rollout, where that gradient is the objective's.
    """
    if status is Status.CONVERGED:
        return solution(problem, state), state.stationarity
    if status is Status.NON_FINITE:
        return Trajectory(state.point.controls, state.point.states), state.stationarity
    trajectory = problem.lift(state.best.controls, initial=state.best.initial)
    adjoints = problem.adjoints(trajectory)
    parts = [*adjoints.gradient]
    if problem.has_free_start:
        parts.append(problem.initial_gradient(trajectory.states[0], adjoints.costates[0]).ravel())
    return trajectory, float(np.linalg.norm(np.concatenate(parts)))


def _is_certified(problem: OptimalControlProblem, state: SolverState, options: Options) -> bool:
    """Whether the independent check agrees: not where rounding is larger than the tolerance, nor as long as multipliers
    are stationary layer by layer but not yet the adjoints.
    """
    if problem.is_subproblem:
        return True
    return certify(problem, solution(problem, state), tolerance=options.tolerance).passed()


def _subproblem(
    problem: OptimalControlProblem, state: SolverState, options: Options, deadline: float, observe: Observer | None
) -> tuple[AugmentedLagrangian, InnerResult]:
    """L_beta for the multipliers and penalties of the state, and its approximate minimum."""
    if state.is_lifted:
        return _lifted_subproblem(problem, state, options, deadline, observe)
    lagrangian = AugmentedLagrangian(problem, state.multipliers, state.penalty, projects(problem, state))
    inner = minimise(
        lagrangian,
        safeguarded(lagrangian, state),
        state.inner_damping,
        tolerance=partial(inner_tolerance, options, state),
        max_steps=inner_steps(state, options),
        method=inner_method(state, options),
        deadline=deadline,
        observe=observe,
    )
    if inner.stalled:
        inner = replace(inner, damping=first_damping(lagrangian, inner.point, options.damping))
    return lagrangian, inner


def _lifted_subproblem(
    problem: OptimalControlProblem, state: SolverState, options: Options, deadline: float, observe: Observer | None
) -> tuple[AugmentedLagrangian, InnerResult]:
    """The same in the finish with the states as variables, which moves the multipliers too."""
    lagrangian = AugmentedLagrangian(problem, state.multipliers, state.penalty)
    inner = minimise_lifted(
        lagrangian,
        lagrangian.again(state.point),
        state.inner_damping,
        tolerance=0.0 if state.is_at_rest(options.tolerance) else options.tolerance,
        max_steps=inner_steps(state, options),
        method=inner_method(state, options),
        deadline=deadline,
        observe=observe,
    )
    assert inner.multipliers is not None
    return replace(lagrangian, multipliers=inner.multipliers), inner


def _next_phase(problem: OptimalControlProblem, state: SolverState, options: Options) -> SolverState:
    """The state as the coming iteration begins: started over or in the finish, where the schedule says so."""
    restart = restart_kind(problem, state, options)
    if restart is not None:
        return _restarted(problem, state, options, restart)
    if state.schedule.settled and state.schedule.finish is None and options.second_order:
        return _eliminated(problem, state, state.best, first_finish(problem, state, options))
    finish = state.schedule.finish
    if finish is not None and finish.prefers_lifted and not state.is_lifted:
        return _lifted(problem, state, options)
    if finish is not None and state.is_lifted and not finish.prefers_lifted:
        return _eliminated(problem, state, state.safeguard, finish)
    return state


def _left_saddle(problem: OptimalControlProblem, state: SolverState, options: Options) -> SolverState:
    """The state, at a lower point in the finish where it has come to rest at a saddle."""
    if not (state.is_at_rest(options.tolerance) and is_looked_at(problem, options)):
        return state
    if restart_kind(problem, state, options) is not None or not _is_certified(problem, state, options):
        return state
    curvature = curvature_at(problem, state.point.controls, options)
    if curvature is None:
        return state
    counts = state.added(hessian_products=curvature.products)
    state = replace(state, counts=counts, schedule=replace(state.schedule, curvature=curvature.value))
    is_saddle = curvature.value < NEGATIVE and state.counts.get("escapes", 0) < MOST_ESCAPES
    lower = way_down(problem, state.point.controls, curvature) if is_saddle else None
    if lower is None:
        return state
    finish = first_finish(problem, state, options)
    return replace(_eliminated(problem, state, lower, finish), counts=state.added(escapes=1))


def _next_schedule(
    problem: OptimalControlProblem, state: SolverState, inner: InnerResult, objective: float, options: Options
) -> Schedule:
    """The schedule after an iteration that ended with this rollout objective."""
    return replace(
        state.schedule,
        finish=next_finish(state, inner, objective),
        settled=has_settled(problem, state, inner, objective, options),
        stalled=inner.stalled and inner.steps == 0,
        curvature=None,
    )


def _restarted(problem: OptimalControlProblem, state: SolverState, options: Options, kind: Restart) -> SolverState:
    """The loop started over; what it has found so far is kept."""
    controls = restart_controls(problem, state, options, kind)
    begun = init(problem, controls, options if kind == "new" else softened(problem, options))
    schedule = replace(
        begun.schedule,
        start=state.schedule.start,
        restart_objective=state.best.objective,
        restart_outer=state.outer,
        fruitless=next_fruitless(state),
        fresh=kind == "new",
    )
    return replace(begun, best=state.best, schedule=schedule, outer=state.outer, counts=state.added(restarts=1))


def _eliminated(problem: OptimalControlProblem, state: SolverState, begin: Best, finish: Finish) -> SolverState:
    """The state at a rollout in the finish, every penalty infinite."""
    penalty = (np.inf,) * len(state.penalty)
    rollout = problem.rollout(begin.controls, initial=begin.initial)
    point = AugmentedLagrangian(problem, state.multipliers, penalty).at(rollout.controls, rollout.states)
    return replace(
        state,
        point=point,
        penalty=penalty,
        best=state.best.better(begin),
        safeguard=begin,
        stationarity=np.inf,
        rollout_objective=begin.objective,
        schedule=replace(state.schedule, finish=finish, curvature=None),
    )


def _lifted(problem: OptimalControlProblem, state: SolverState, options: Options) -> SolverState:
    """The state in the finish with its states as variables, and the adjoints as multipliers."""
    penalty = soft_penalty(problem, options)
    trajectory = problem.lift(state.point.controls)
    assert trajectory.multipliers is not None
    multipliers = trajectory.multipliers[1:]
    point = AugmentedLagrangian(problem, multipliers, penalty).at(trajectory.controls, trajectory.states)
    return replace(state, point=point, multipliers=multipliers, penalty=penalty)
