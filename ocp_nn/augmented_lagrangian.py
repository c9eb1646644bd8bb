"""The inexact augmented-Lagrangian solver: the outer loop.

    given controls u, states x, multipliers lambda and penalties beta, repeat
      1. minimise L_beta(u, x; lambda) approximately, by Gauss-Newton          (:func:`ocp_nn.gauss_newton.minimise`)
      2. roll the controls out; keep the best rollout
      3. lambda_{k+1} <- lambda_{k+1} + beta_k d_k
      4. raise beta_k where ||d_k|| did not fall enough
    until the defects and the gradient of the Lagrangian are small.

:func:`init`, :func:`step` and :func:`terminate` are that loop over an explicit state; :func:`ocp_nn.solve` runs it.
What is added to the textbook algorithm (Bertsekas 1982; Birgin and Martinez 2014):

* **Safeguard.**  The best rollout is feasible, so L_beta <= J(best) can be asked of every start of a subproblem,
  whatever lambda and beta; an iterate above it is replaced by that rollout.
* **Second-order finish.**  Once rollout and iterate agree, the states are eliminated and truncated Newton-CG closes
  the last digits (:mod:`ocp_nn.newton`); the multipliers of the result are the back-propagated adjoints.
* **Restarts.**  A solution worse than what the state-trajectory initialisation has before any training is a trap.
  The loop then starts over from perturbed controls with a smaller penalty, under which the states move more freely.

Single shooting (every beta infinite) is the same loop: steps 3 and 4 find nothing to do and step 1 is
Levenberg-Marquardt.

The Jacobian of the defects has an identity block for every state that is a variable, so its rows are independent
everywhere: the multipliers are unique and a stationary point of the infeasibility is feasible.  Unlike general
augmented-Lagrangian solvers this one cannot end at an infeasible stationary point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from . import outer_updates as updates
from .gauss_newton import AugmentedLagrangian, minimise
from .initialise import initialise
from .newton import NewtonState, newton_step, start_newton
from .options import Options
from .problem import TrainingProblem, Trajectory
from .result import Status
from .solver_state import Best, SolverState

__all__ = ["Initial", "SolverState", "init", "step", "terminate"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]
Initial = SolverState | Trajectory | Sequence[Array] | None


def init(problem: TrainingProblem, initial: Initial = None, options: Options | None = None) -> SolverState:
    """The state to start from.

    Parameters
    ----------
    problem : TrainingProblem
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
    penalty = updates.first_penalty(problem, options)
    # a start that overflows is reported by its status
    with np.errstate(over="ignore", invalid="ignore"):
        trajectory = initial if isinstance(initial, Trajectory) else problem.rollout(initial)
        problem.check(trajectory)
        multipliers = trajectory.multipliers or tuple(np.zeros_like(x) for x in trajectory.states)
        point = AugmentedLagrangian(problem, multipliers[1:], penalty).at(trajectory.controls, trajectory.states)
        objective = updates.rollout_objective(problem, trajectory.controls)
    return SolverState(
        point=point,
        multipliers=multipliers[1:],
        penalty=penalty,
        violation=(np.inf,) * len(penalty),
        damping=updates.first_damping(problem, options),
        best=Best(trajectory.controls, objective),
        safeguard=Best(trajectory.controls, objective),
        start=trajectory.controls,
        reference=updates.reference_objective(problem, options),
        rollout_objective=objective,
    )


def step(
    problem: TrainingProblem, state: SolverState, options: Options | None = None, *, deadline: float = np.inf
) -> SolverState:
    """One outer iteration: of the augmented Lagrangian, or of the second-order finish once it has begun.

    ``deadline`` is a ``time.perf_counter()`` value after which no further inner step is begun.
    """
    options = options or Options()
    if updates.wants_restart(state, options):
        state = _restarted(problem, state, options)
    elif state.newton is not None:
        return _second_order(problem, state, state.newton, options)
    elif state.settled and options.second_order:
        return _begin_second_order(problem, state)
    lagrangian = AugmentedLagrangian(problem, state.multipliers, state.penalty)
    inner = minimise(
        lagrangian,
        updates.safeguarded(lagrangian, state),
        state.damping,
        tolerance=partial(updates.inner_tolerance, options, state.outer),
        max_steps=updates.inner_steps(state, options),
        globalisation=options.globalisation,
        form=options.form,
        max_memory=options.max_memory,
        deadline=deadline,
    )
    objective = updates.rollout_objective(problem, inner.point.controls)
    rollout = Best(inner.point.controls, objective)
    violation = tuple(float(np.linalg.norm(d)) for d in inner.point.defects)
    return replace(
        state,
        point=inner.point,
        multipliers=updates.bounded_multipliers(lagrangian.estimate(inner.point), problem, options),
        penalty=updates.raised_penalty(state, violation, options),
        violation=violation,
        damping=updates.first_damping(problem, options) if inner.stalled else inner.damping,
        best=state.best.better(rollout),
        safeguard=state.safeguard.better(rollout),
        stationarity=inner.stationarity,
        rollout_objective=objective,
        settled=updates.has_settled(state, inner, objective, options),
        stalled=inner.stalled and inner.steps == 0,
        outer=state.outer + 1,
        counts=state.added(gauss_newton=inner.steps, least_squares=inner.solves),
    )


def terminate(problem: TrainingProblem, state: SolverState, options: Options | None = None) -> Status | None:
    """Why to stop, or None to go on.  (Time and interrupts are for the caller to watch.)"""
    options = options or Options()
    again = updates.wants_restart(state, options)
    feasible = state.point.max_defect <= options.tolerance
    if feasible and state.is_stationary(options.tolerance) and not again:
        return Status.CONVERGED
    if state.outer >= options.max_outer:
        return Status.OUTER_LIMIT
    if state.counts["gauss_newton"] >= options.max_steps:
        return Status.INNER_LIMIT
    if again or (state.newton is None and options.second_order):
        return None
    if state.stalled if state.newton is None else state.newton.stalled:
        return Status.STALLED
    capped = [beta >= options.max_penalty for beta in state.penalty if np.isfinite(beta)]
    return Status.PENALTY_LIMIT if capped and all(capped) and not feasible else None


def _restarted(problem: TrainingProblem, state: SolverState, options: Options) -> SolverState:
    """The loop started over from perturbed controls; what it has found so far is kept."""
    controls = updates.perturbed_start(problem, state, options)
    fresh = init(problem, controls, updates.softened(problem, replace(options, max_restarts=0)))
    return replace(
        fresh,
        best=state.best,
        start=state.start,
        reference=state.reference,
        restart_objective=state.best.objective,
        restart_outer=state.outer,
        fruitless=state.fruitless + 1 if updates.was_fruitless(state) else 0,
        outer=state.outer,
        counts=state.added(restarts=1),
    )


def _begin_second_order(problem: TrainingProblem, state: SolverState) -> SolverState:
    return _with_newton(problem, state, start_newton(problem, np.concatenate(state.best.controls)))


def _second_order(problem: TrainingProblem, state: SolverState, newton: NewtonState, options: Options) -> SolverState:
    after = newton_step(problem, newton, form=options.form, max_memory=options.max_memory)
    products = after.products - newton.products
    counts = state.added(newton=1, hessian_products=products)
    return replace(_with_newton(problem, state, after), outer=state.outer + 1, counts=counts)


def _with_newton(problem: TrainingProblem, state: SolverState, newton: NewtonState) -> SolverState:
    """The state at an iterate of the second-order finish: its rollout, with the adjoints as multipliers."""
    controls = problem.network.split(newton.controls)
    eliminated = (np.inf,) * len(state.penalty)
    multipliers = newton.adjoints.costates[1:-1]
    return replace(
        state,
        point=AugmentedLagrangian(problem, multipliers, eliminated).at(controls, problem.rollout(controls).states),
        multipliers=multipliers,
        penalty=eliminated,
        best=state.best.better(Best(controls, newton.objective)),
        stationarity=float(np.linalg.norm(newton.gradient)),
        rollout_objective=newton.objective,
        newton=newton,
    )
