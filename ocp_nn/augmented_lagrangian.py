"""The inexact augmented-Lagrangian solver: the outer loop.

    given controls u, states x, multipliers lambda and penalties beta, repeat
      1. minimise L_beta(u, x; lambda) approximately, by Gauss-Newton          (:func:`ocp_nn.gauss_newton.minimise`)
      2. roll the controls out; keep the best rollout
      3. lambda_{k+1} <- lambda_{k+1} + beta_k d_k
      4. raise beta_k where ||d_k|| did not fall enough
    until the defects and the gradient of the Lagrangian are small.

:func:`init`, :func:`step` and :func:`terminate` are that loop over an explicit state; :func:`ocp_nn.solve` runs it.
:class:`AugmentedLagrangian`, :class:`Damping` and :func:`minimise` are the pieces of 1, for those who write a loop of
their own.  Source: Evens et al. (:mod:`ocp_nn`).
What is added to the textbook algorithm (Bertsekas 1982; Birgin and Martinez 2014):

* **Safeguard.**  The best rollout is feasible, so L_beta <= J(best) can be asked of every start of a subproblem,
  whatever lambda and beta; an iterate above it is replaced by that rollout.
* **Finish.**  Once the best rollout follows the data, or rollout and iterate agree and gain little, the states are
  eliminated and the same Gauss-Newton goes on in the controls alone, with the exact Hessian (:mod:`ocp_nn.newton`)
  while that gains more for its work; the multipliers of the result are the back-propagated adjoints.
* **Sample start.**  Where there are many more samples than controls, the loop first runs on some of them.
* **Restarts.**  A solution worse than what the state-trajectory initialisation has before any training is a trap.
  The loop then starts over from perturbed controls with a smaller penalty, under which the states move more freely.
  One no better than linear least squares, where the data bend, is another (:mod:`ocp_nn.straight_line`): the loop
  then starts over as another seed would, a few times.

Single shooting (every beta infinite) is the same loop: steps 3 and 4 find nothing to do and step 1 is
Levenberg-Marquardt, which the finish takes over at once.

The Jacobian of the defects has an identity block for every state that is a variable, so its rows are independent
everywhere: the multipliers are unique and a stationary point of the infeasibility is feasible.  Unlike general
augmented-Lagrangian solvers this one cannot end at an infeasible stationary point.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from . import outer_updates as updates
from .certificate import certify
from .damping import Damping, first_damping
from .floating import overflow_is_a_value
from .gauss_newton import minimise
from .initialise import initialise
from .inner_problem import AugmentedLagrangian
from .options import Options
from .problem import TrainingProblem, Trajectory
from .result import Status
from .shooting import Shooting
from .solver_state import COUNTS, Best, SolverState

__all__ = [
    "AugmentedLagrangian",
    "Damping",
    "Initial",
    "SolverState",
    "init",
    "minimise",
    "solution",
    "step",
    "terminate",
]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]
Initial = SolverState | Trajectory | Sequence[Array] | None
Observer = Callable[[Arrays], object]


@overflow_is_a_value
def init(
    problem: TrainingProblem,
    initial: Initial = None,
    options: Options | None = None,
    *,
    deadline: float = np.inf,
    observe: Observer | None = None,
) -> SolverState:
    """The state to start from.

    Parameters
    ----------
    problem : TrainingProblem
    initial : None, controls, Trajectory or SolverState
        None initialises as the options say; controls start from their rollout; a trajectory also gives states,
        which need not satisfy the dynamics, and multipliers if it has any; a state is gone on from as it is.
    options : Options, optional
    deadline : float
        ``time.perf_counter()`` value after which no step of a sample start is begun.
    observe : callable, optional
        Receives the controls after every step of a sample start.

    Raises
    ------
    ValueError
        If the initial point does not have the problem's shapes, or a node or penalty does not exist.
    """
    options = options or Options()
    if isinstance(initial, SolverState):
        return initial
    sample_steps = 0
    if initial is None:
        initial = initialise(problem, options.initialisation, options.seed)
        if (sample := updates.sample_of(problem, options)) is not None:
            initial, sample_steps = _trained_on_sample(problem, sample, initial, options, deadline, observe)
    penalty = updates.first_penalty(problem, options)
    trajectory = problem.start(initial)
    multipliers = trajectory.multipliers or tuple(np.zeros_like(x) for x in trajectory.states)
    lagrangian = AugmentedLagrangian(problem, multipliers[1:], penalty)
    point = lagrangian.at(trajectory.controls, trajectory.states)
    damping = first_damping(lagrangian, point, options.damping)
    objective = updates.rollout_objective(problem, trajectory.controls)
    return SolverState(
        point=point,
        multipliers=multipliers[1:],
        penalty=penalty,
        violation=(np.inf,) * len(penalty),
        damping=damping,
        best=Best(trajectory.controls, objective),
        safeguard=Best(trajectory.controls, objective),
        start=trajectory.controls,
        rollout_objective=objective,
        settled=not isinstance(initial, Trajectory) and updates.follows(problem, objective),
        counts=dict.fromkeys(COUNTS, 0) | {"sample_steps": sample_steps},
    )


@overflow_is_a_value
def step(
    problem: TrainingProblem,
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
    restart = updates.restart_kind(problem, state, options)
    if restart is not None:
        state = _restarted(problem, state, options, restart)
    elif state.settled and state.finish is None and options.second_order:
        state = _eliminated(problem, state, options)
    lagrangian = AugmentedLagrangian(problem, state.multipliers, state.penalty, updates.projects(problem, state))
    inner = minimise(
        lagrangian,
        updates.safeguarded(lagrangian, state),
        state.damping if state.finish is None else state.finish.next_damping,
        tolerance=partial(updates.inner_tolerance, options, state),
        max_steps=updates.inner_steps(state, options),
        method=updates.inner_method(state, options),
        deadline=deadline,
        observe=observe,
    )
    damping = first_damping(lagrangian, inner.point, options.damping) if inner.stalled else inner.damping
    objective = updates.objective_of_rollout(problem, lagrangian, inner.point)
    rollout = Best(inner.point.controls, objective)
    violation = tuple(float(np.linalg.norm(d)) for d in inner.point.defects)
    return replace(
        state,
        point=inner.point,
        multipliers=updates.bounded_multipliers(lagrangian.estimate(inner.point), problem, options),
        penalty=updates.raised_penalty(state, violation, options),
        violation=violation,
        damping=damping,
        best=state.best.better(rollout),
        safeguard=state.safeguard.better(rollout),
        stationarity=inner.stationarity,
        rollout_objective=objective,
        finish=updates.next_finish(state, inner, damping, objective),
        settled=updates.has_settled(problem, state, inner, objective, options),
        stalled=inner.stalled and inner.steps == 0,
        outer=state.outer + 1,
        counts=updates.counted(state, inner),
    )


@overflow_is_a_value
def terminate(problem: TrainingProblem, state: SolverState, options: Options | None = None) -> Status | None:
    """Why to stop, or None to go on.  (Time and interrupts are for the caller to watch.)

    Converged is what its certificate confirms at the tolerance, too; where it does not, the loop goes on.
    """
    options = options or Options()
    again = updates.restart_kind(problem, state, options) is not None
    feasible = state.point.max_defect <= options.tolerance
    if feasible and state.is_stationary(options.tolerance) and not again and _is_certified(problem, state, options):
        return Status.CONVERGED
    if state.outer >= options.max_outer:
        return Status.OUTER_LIMIT
    if state.counts["gauss_newton"] >= options.max_steps:
        return Status.INNER_LIMIT
    if again or (state.finish is None and options.second_order):
        return None
    if state.stalled if state.finish is None else state.finish.is_exhausted:
        return Status.STALLED
    capped = [beta >= options.max_penalty for beta in state.penalty if np.isfinite(beta)]
    return Status.PENALTY_LIMIT if capped and all(capped) and not feasible else None


def solution(problem: TrainingProblem, state: SolverState) -> Trajectory:
    """What a converged state stands for: its point, with the multipliers lambda_0..lambda_{K-1}.

    Those of the nodes are the state's; those of the input and of eliminated states are back-propagated to.
    """
    point = state.point
    stages = problem.linearize(Trajectory(point.controls, point.states), point.outputs)
    shooting, residual = Shooting.from_penalty(state.penalty), point.outputs[-1] - problem.y
    return Trajectory(point.controls, point.states, shooting.multipliers(stages, residual, state.multipliers))


def _is_certified(problem: TrainingProblem, state: SolverState, options: Options) -> bool:
    """Whether the independent check agrees: not where rounding is larger than the tolerance, nor as long as multipliers
    are stationary layer by layer but not yet the adjoints.
    """
    return certify(problem, solution(problem, state), tolerance=options.tolerance).passed()


def _trained_on_sample(
    problem: TrainingProblem,
    sample: TrainingProblem,
    controls: Arrays,
    options: Options,
    deadline: float,
    observe: Observer | None,
) -> tuple[Arrays, int]:
    """Controls that this very loop finds on a sample of the data, and its steps; it ends where all data gain little."""
    options = updates.sample_options(options)
    state = init(sample, controls, options)
    best = Best(controls, updates.rollout_objective(problem, controls))
    patience = updates.SAMPLE_PATIENCE
    while patience and terminate(sample, state, options) is None and time.perf_counter() < deadline:
        state = step(sample, state, options, deadline=deadline, observe=observe)
        reached = Best(state.best.controls, updates.rollout_objective(problem, state.best.controls))
        gains = best.objective - reached.objective > updates.SETTLED_GAIN * best.objective
        patience = updates.SAMPLE_PATIENCE if gains or state.finish is None else patience - 1
        best = best.better(reached)
    return best.controls, state.counts["least_squares"]


def _restarted(problem: TrainingProblem, state: SolverState, options: Options, kind: updates.Restart) -> SolverState:
    """The loop started over; what it has found so far is kept."""
    controls = updates.restart_controls(problem, state, options, kind)
    begun = init(problem, controls, options if kind == "new" else updates.softened(problem, options))
    return replace(
        begun,
        best=state.best,
        start=state.start,
        restart_objective=state.best.objective,
        restart_outer=state.outer,
        fruitless=updates.next_fruitless(state),
        fresh=kind == "new",
        outer=state.outer,
        counts=state.added(restarts=1),
    )


def _eliminated(problem: TrainingProblem, state: SolverState, options: Options) -> SolverState:
    """The state that the finish begins with: the best rollout, every penalty infinite."""
    penalty = (np.inf,) * len(state.penalty)
    rollout = problem.rollout(state.best.controls)
    point = AugmentedLagrangian(problem, state.multipliers, penalty).at(rollout.controls, rollout.states)
    return replace(
        state,
        point=point,
        penalty=penalty,
        safeguard=state.best,
        stationarity=np.inf,
        rollout_objective=state.best.objective,
        finish=updates.first_finish(state, options),
    )
