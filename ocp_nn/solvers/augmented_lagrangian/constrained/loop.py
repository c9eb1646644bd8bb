"""Constraints by the augmented Lagrangian: the loop around the loop.

    given multipliers m and penalties g of all constraints, repeat
      1. minimise J + sum of envelopes over the dynamics, approximately        (:func:`ocp_nn.solve`)
      2. m_j <- g_j (v_j - p_j), v_j = c_j + m_j/g_j and p_j its projection    (max(0, m + g c) for c <= 0)
      3. raise g_j where ||c_j - p_j|| did not fall enough
    until constraints, prices and the gradient of the Lagrangian are right to the tolerance.

What step 1 minimises is an optimal control problem like any other: an output constraint is a term, bounds and sparsity
of controls stand beside the weight decay (:meth:`ocp_nn.ConstrainedProblem.augmented`).  c_j - p_j measures violation
and complementarity at once, and g_j times it is the change of the multiplier (Birgin and Martinez 2014, chapter 4).
Active sets are those of the envelopes and are kept from one subproblem to the next by the multipliers; the second-order
steps of step 1 see them as curvature.  In the end bounds and sparsity of controls hold exactly: p replaces u.

After every round a feasible point is looked for close by (:mod:`.restore`): the result of a loop that is ended early.

Close to a solution Newton's method on the conditions of Karush, Kuhn and Tucker finds it, where the problem is small
(:mod:`.polish`).  From a saddle the loop goes on down (:mod:`.curvature`), and from a solution with weights that lie
idle at their bounds, too (:mod:`.escape`).

From the second round on the states are eliminated in feed-forward networks: the dynamics are closed by then.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....base.floating import overflow_is_a_value
from ....problem.certificate import certify
from ....problem.constraints.constrained_problem import ConstrainedProblem
from ....problem.constraints.constraint_check import ConstraintCheck, constraint_checks
from ....problem.constraints.output_constraint import OutputConstraint
from ....problem.record import Record, Status
from ....problem.result import Result
from ....problem.trajectory import Trajectory
from ..options import Options
from ..state import Iterate, iterate
from .curvature import way_down
from .escape import better, escaped, restarted
from .polish import polished
from .restore import restored
from .start import first_state
from .state import ConstrainedState, exact_controls, exact_point, record_of

__all__ = ["solve_constrained"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]
Solve = Callable[..., Result]
Callback = Callable[[Iterate], bool | None]

# A penalty is multiplied by this where what its constraint lacks is more than this part of what it lacked before.
_GROWTH, _REDUCTION = 10.0, 0.25

# Feasibility and prices are asked for more accurately than the gradient: they are what a user looks at.
_FEASIBLE = 0.05

# What constraints lack at most where the active ones are taken for known.
_NEAR = 1e-3

# By how much the tolerance falls from one subproblem to the next.
_TIGHTER = 0.1

# Infeasible: so many penalties in a row have been raised without a violation that fell by this much.
_FRUITLESS, _FALLS = 4, 0.7

# Subproblems that end short of the last tolerance without anything left to gain, until the loop ends too.
_SHORT = 3

# Ways on from idle weights that are tried, and Gauss-Newton steps of a subproblem: more multipliers help more than more
# steps under wrong ones.
_ESCAPES, _STEPS = 2, 500

# Saddles that are left.
_SADDLES = 5

# Multipliers are kept within these bounds, the safeguard of the theory.
_LARGEST = 1e10


def solve_constrained(
    problem: ConstrainedProblem, initial: Any, options: Options, callback: Callback | None, solve: Solve
) -> Result:
    """The loop, run to its end; ``solve`` is that of problems without constraints."""
    began = time.perf_counter()
    deadline = began + options.time_limit
    history: list[Record] = []
    state, best, status = first_state(problem, initial, options, solve), None, None
    try:
        while status is None:
            state = _with_feasible(problem, _step(problem, state, options, deadline, solve))
            history.append(record_of(problem, state, time.perf_counter() - began))
            solution = _solution(problem, state, options)
            status = _status(state, options) if solution is None else Status.CONVERGED
            if solution is not None:
                best = better(problem, best, solution)
                state, status = _gone_on(problem, best, state, options)
            stopped = callback is not None and callback(iterate(history[-1], state))
            if status is None and (stopped or time.perf_counter() > deadline):
                status = Status.INTERRUPTED if stopped else Status.TIME_LIMIT
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
    if best is not None:  # an escape that was not finished takes nothing away
        status = Status.CONVERGED
    final = _final(problem, state, status) if best is None else best
    return _result(problem, state, final, options, status, history, time.perf_counter() - began)


def _with_feasible(problem: ConstrainedProblem, state: ConstrainedState) -> ConstrainedState:
    """With the feasible point close by, where it is better than the one before."""
    point = restored(problem, exact_controls(problem, state))
    objective = np.inf if point is None else problem.objective(point)
    return (
        replace(state, feasible=point, feasible_objective=objective) if objective < state.feasible_objective else state
    )


def _final(problem: ConstrainedProblem, state: ConstrainedState, status: Status) -> Trajectory:
    """Without a solution: the best feasible point, if there is one."""
    usable = state.feasible is not None and status is not Status.INFEASIBLE
    return exact_point(problem, state, state.feasible.controls if usable and state.feasible else None)


def _gone_on(
    problem: ConstrainedProblem, best: Trajectory, state: ConstrainedState, options: Options
) -> tuple[ConstrainedState, Status | None]:
    """After a solution: the end, or another start down from a saddle, or from weights that lie idle at bounds."""
    below = way_down(problem, best) if options.second_order and state.saddles < _SADDLES else None
    if below is not None:
        return restarted(replace(state, saddles=state.saddles + 1), best, below, options), None
    many = state.escapes >= min(_ESCAPES, options.max_restarts)
    escape = None if many else escaped(problem, best, state, options)
    return (state, Status.CONVERGED) if escape is None else (escape, None)


def _solution(problem: ConstrainedProblem, state: ConstrainedState, options: Options) -> Trajectory | None:
    """A point whose certificate passes: where the loop is, or close to it; None where there is none yet."""
    assert state.inner is not None
    if state.inner.status is Status.INTERRUPTED or max(state.lacks) > _NEAR:
        return None
    point = exact_point(problem, state)
    if (
        max(state.lacks) <= _FEASIBLE * options.tolerance
        and certify(problem, point, tolerance=options.tolerance).passed()
    ):
        return point
    return polished(problem, point, options.tolerance) if options.second_order else None


@overflow_is_a_value
def _step(
    problem: ConstrainedProblem, state: ConstrainedState, options: Options, deadline: float, solve: Solve
) -> ConstrainedState:
    """One subproblem, and what follows from its solution."""
    start, inner_options = _subproblem(problem, state, options, deadline)
    inner = solve(problem.augmented(state.multipliers, state.penalties), start, options=inner_options)
    multipliers, lacks, checks = _updated(problem, state, inner.trajectory)
    raised = tuple(
        lack > max(_REDUCTION * before, _FEASIBLE * options.tolerance)
        for lack, before in zip(lacks, state.lacks, strict=True)
    )
    pairs = zip(state.penalties, state.caps, raised, strict=True)
    return replace(
        state,
        trajectory=inner.trajectory,
        multipliers=multipliers,
        penalties=tuple([min(_GROWTH * g, cap) if up else g for g, cap, up in pairs]),
        lacks=lacks,
        checks=checks,
        inner=inner,
        iteration=state.iteration + 1,
        tolerance=max(options.tolerance, _TIGHTER * state.tolerance),
        fruitless=_fruitless(state, checks, any(raised), options),
        short=state.short + 1 if _is_short(inner, options) else 0,
        counts={name: state.counts.get(name, 0) + number for name, number in inner.counts.items()},
    )


def _subproblem(
    problem: ConstrainedProblem, state: ConstrainedState, options: Options, deadline: float
) -> tuple[Trajectory | Arrays, Options]:
    """Where a subproblem starts, and how it is solved."""
    inner = replace(
        options,
        tolerance=max(options.tolerance, state.tolerance),
        time_limit=max(deadline - time.perf_counter(), 1e-9),
        form="auto" if options.form in ("dual", "covariance") else options.form,
        max_restarts=0,
        max_steps=min(options.max_steps, _STEPS),
    )
    start = replace(state.trajectory, constraint_multipliers=None)
    if problem.has_free_start:
        return start, inner
    if state.iteration == 0 and options.shooting != "single":
        return start if start.multipliers is not None else start.controls, inner
    return start.controls, replace(inner, shooting="single")


def _updated(
    problem: ConstrainedProblem, state: ConstrainedState, trajectory: Trajectory
) -> tuple[Arrays, tuple[float, ...], tuple[ConstraintCheck, ...]]:
    """The next multipliers, what constraints lack, and how they stand at the trajectory."""
    values = problem.constraint_values(trajectory)
    multipliers, lacks = list[Array](), list[float]()
    for constraint, z, m, g in zip(problem.constraints, values, state.multipliers, state.penalties, strict=True):
        if isinstance(constraint, OutputConstraint):
            mask = constraint.mask(problem.num_samples)
            new = g * constraint.outside(z + m / g) * (1.0 if mask is None else mask[:, None])
        else:
            new = g * constraint.outside(z, m, g)
        with np.errstate(invalid="ignore"):
            lacks.append(float(np.max(np.abs(new - m), initial=0.0)) / g)
        multipliers.append(np.clip(new, -_LARGEST, _LARGEST))
    return tuple(multipliers), tuple(lacks), constraint_checks(problem, values, multipliers)


def _is_short(inner: Result, options: Options) -> bool:
    """Whether a subproblem with the last tolerance ended without reaching it."""
    assert isinstance(inner.options, Options)
    return inner.options.tolerance <= options.tolerance and not inner.success


def _fruitless(state: ConstrainedState, checks: tuple[ConstraintCheck, ...], raised: bool, options: Options) -> int:
    """How often in a row a penalty grew and the violation did not fall."""
    violation = max(check.violation for check in checks)
    falls = violation <= max(_FALLS * state.violation, options.tolerance)
    return state.fruitless + 1 if raised and not falls else 0


def _status(state: ConstrainedState, options: Options) -> Status | None:
    """Why to stop without a solution, or None to go on."""
    assert state.inner is not None
    if state.inner.status in (Status.INTERRUPTED, Status.TIME_LIMIT, Status.NON_FINITE):
        return state.inner.status
    if state.fruitless >= _FRUITLESS:
        return Status.INFEASIBLE
    if state.iteration >= options.max_outer:
        return Status.OUTER_LIMIT
    if state.counts.get("gauss_newton", 0) >= options.max_steps:
        return Status.INNER_LIMIT
    closed = max(state.lacks) <= _FEASIBLE * options.tolerance
    return Status.STALLED if closed and state.short >= _SHORT else None


def _result(
    problem: ConstrainedProblem,
    state: ConstrainedState,
    trajectory: Trajectory,
    options: Options,
    status: Status,
    history: list[Record],
    seconds: float,
) -> Result:
    defects = problem.defects(trajectory)
    initial = trajectory.states[0] if problem.has_free_start else None
    return Result(
        status=status,
        message=_message(status, state),
        trajectory=trajectory,
        objective=problem.objective(trajectory),
        rollout_objective=problem.objective(problem.rollout(trajectory.controls, initial=initial)),
        max_defect=max((float(np.abs(d).max()) for d in defects), default=0.0),
        stationarity=_stationarity(problem, trajectory),
        seconds=seconds,
        solver="augmented Lagrangian",
        history=tuple(history),
        counts=state.counts | {"outer": state.iteration},
        problem=problem,
        model=problem.trained_model(trajectory.controls),
        options=options,
    )


def _stationarity(problem: ConstrainedProblem, trajectory: Trajectory) -> float:
    """2-norm of the Lagrangian's gradient in the controls, prices included."""
    multipliers = trajectory.constraint_multipliers
    assert multipliers is not None
    gradient = np.concatenate(problem.priced(multipliers).adjoints(trajectory).gradient)
    return float(np.linalg.norm(gradient + problem.control_prices(multipliers)))


def _message(status: Status, state: ConstrainedState) -> str:
    if status is not Status.INFEASIBLE:
        return status.message
    worst = state.worst
    return (
        f"The constraint {worst.name!r} cannot be met from here: it is violated by {worst.violation:.2e} in "
        f"{worst.worst}, and a larger penalty changes nothing. Check that the constraints admit any point, or start "
        "from other controls."
    )
