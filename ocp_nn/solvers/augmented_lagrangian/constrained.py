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

From the second round on the states are eliminated in feed-forward networks: the dynamics are closed by then.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...forward_dp import mean_curvature
from ...problem.constraints.constrained_problem import ConstrainedProblem
from ...problem.constraints.constraint_check import ConstraintCheck, constraint_checks
from ...problem.constraints.output_constraint import OutputConstraint
from ...problem.identification import IdentificationProblem
from ...problem.optimal_control import OptimalControlProblem
from ...problem.record import Record, Status
from ...problem.result import Result
from ...problem.trajectory import Trajectory
from .initialise import initialise
from .lagrangian import AugmentedLagrangian
from .options import Options
from .state import Iterate, iterate

__all__ = ["ConstrainedState", "solve_constrained"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]
Solve = Callable[..., Result]

# First penalty of an output: so many times the weight of a data point.
_FIRST_PENALTY = 10.0

# A penalty is multiplied by this where what its constraint lacks is more than this part of what it lacked before.
_GROWTH, _REDUCTION = 10.0, 0.25

# A penalty grows by this factor at most.
_MOST_GROWTH = 1e10

# Feasibility and prices are asked for more accurately than the gradient: they are what a user looks at.
_FEASIBLE = 0.05

# Tolerances of the first subproblem, and by how much they fall from one to the next.
_LOOSEST, _TIGHTER = 1e-2, 0.1

# Infeasible: so many penalties in a row have been raised without a violation that fell by this much.
_FRUITLESS, _FALLS = 4, 0.7

# Multipliers are kept within these bounds (times the scale of the problem), the safeguard of the theory.
_LARGEST = 1e10


@dataclass(frozen=True, kw_only=True, eq=False)
class ConstrainedState:
    """The loop after an iteration.

    Attributes
    ----------
    trajectory : Trajectory
    multipliers : tuple of arrays
        m_j, after the update.
    penalties, lacks : tuple of float
        g_j, and the largest entry of |c_j - p_j|.
    checks : tuple of ConstraintCheck
    iteration : int
    tolerance : float
        Of the subproblem.
    fruitless : int
        Iterations in a row that raised a penalty for nothing.
    counts : dict
    """

    trajectory: Trajectory
    multipliers: Arrays
    penalties: tuple[float, ...]
    lacks: tuple[float, ...]
    checks: tuple[ConstraintCheck, ...] = ()
    inner: Result | None = None
    iteration: int = 0
    tolerance: float = _LOOSEST
    fruitless: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def violation(self) -> float:
        return max((check.violation for check in self.checks), default=np.inf)

    @property
    def worst(self) -> ConstraintCheck:
        return max(self.checks, key=lambda check: check.violation)


def solve_constrained(
    problem: ConstrainedProblem,
    initial: Any,
    options: Options,
    callback: Callable[[Iterate], bool | None] | None,
    solve: Solve,
) -> Result:
    """The loop, run to its end; ``solve`` is that of problems without constraints."""
    began = time.perf_counter()
    deadline = began + options.time_limit
    history: list[Record] = []
    status = None
    state = _first(problem, initial, options, solve)
    while status is None:
        state = _step(problem, state, options, deadline, solve)
        history.append(_record(problem, state, time.perf_counter() - began))
        status = _status(problem, state, options)
        stopped = callback is not None and callback(iterate(history[-1], state))
        if status is None and (stopped or time.perf_counter() > deadline):
            status = Status.INTERRUPTED if stopped else Status.TIME_LIMIT
    return _result(problem, state, options, status, history, time.perf_counter() - began)


def _first(problem: ConstrainedProblem, initial: Any, options: Options, solve: Solve) -> ConstrainedState:
    """Where to start: within the bounds of controls, and with the multipliers of a trajectory that has any."""
    trajectory = _start(problem, initial, options, solve)
    known = trajectory.constraint_multipliers
    multipliers = problem.zero_multipliers() if known is None else problem.check_multipliers(known)
    return ConstrainedState(
        trajectory=trajectory,
        multipliers=multipliers,
        penalties=_first_penalties(problem, trajectory),
        lacks=(np.inf,) * len(multipliers),
        tolerance=_LOOSEST if known is None else options.tolerance,
    )


def _start(problem: ConstrainedProblem, initial: Any, options: Options, solve: Solve) -> Trajectory:
    if isinstance(initial, Result):
        initial = initial.trajectory
    if isinstance(initial, Trajectory):
        return replace(problem.start(initial), controls=problem.within_bounds(initial.controls))
    if initial is None and isinstance(problem.base, IdentificationProblem):
        loose = replace(options, tolerance=max(options.tolerance, _LOOSEST))
        return solve(problem.base, options=loose).trajectory
    controls = initialise(problem.base, options.initialisation, options.seed) if initial is None else initial
    return problem.rollout(problem.within_bounds(problem.check_controls(controls)))


def _first_penalties(problem: ConstrainedProblem, trajectory: Trajectory) -> tuple[float, ...]:
    """Of outputs, ten times the weight of the data; of controls, the mean curvature of the data in them."""
    samples = problem.num_samples
    shares = [
        samples / len(c.samples) if isinstance(c, OutputConstraint) and c.samples is not None else 1.0
        for c in problem.constraints
    ]
    curvature = _mean_curvature(problem, trajectory)
    return tuple(
        _FIRST_PENALTY * share if isinstance(c, OutputConstraint) else curvature
        for c, share in zip(problem.constraints, shares, strict=True)
    )


def _mean_curvature(problem: ConstrainedProblem, trajectory: Trajectory) -> float:
    zeros = tuple(map(np.zeros_like, trajectory.states[1:]))
    lagrangian = AugmentedLagrangian(problem.base, zeros, (np.inf,) * len(problem.dynamics))
    try:
        with np.errstate(all="ignore"):
            value = mean_curvature(lagrangian.subproblem(lagrangian.at(trajectory.controls, trajectory.states), 1.0))
    except np.linalg.LinAlgError:
        return 1.0
    return float(value) if 1e-6 < value < 1e12 else 1.0


def _step(
    problem: ConstrainedProblem, state: ConstrainedState, options: Options, deadline: float, solve: Solve
) -> ConstrainedState:
    """One subproblem, and what follows from its solution."""
    augmented = problem.augmented(state.multipliers, state.penalties)
    start, inner_options = _subproblem(problem, state, options, deadline)
    inner = solve(augmented, start, options=inner_options)
    multipliers, lacks, checks = _updated(problem, state, inner.trajectory)
    enough = [now <= max(_REDUCTION * before, 0.0) for now, before in zip(lacks, state.lacks, strict=True)]
    fine = _FEASIBLE * options.tolerance
    raised = [not ok and lack > fine and np.isfinite(before) for ok, lack, before in
              zip(enough, lacks, state.lacks, strict=True)]  # fmt: skip
    first = _first_penalties(problem, inner.trajectory) if any(raised) else state.penalties
    penalties = tuple(
        min(_GROWTH * g, _MOST_GROWTH * max(g0, 1.0)) if up else g
        for g, g0, up in zip(state.penalties, first, raised, strict=True)
    )
    return ConstrainedState(
        trajectory=inner.trajectory,
        multipliers=multipliers,
        penalties=penalties,
        lacks=lacks,
        checks=checks,
        inner=inner,
        iteration=state.iteration + 1,
        tolerance=max(options.tolerance, _TIGHTER * state.tolerance),
        fruitless=_fruitless(state, checks, raised, options),
        counts={name: state.counts.get(name, 0) + number for name, number in inner.counts.items()},
    )


def _subproblem(
    problem: ConstrainedProblem, state: ConstrainedState, options: Options, deadline: float
) -> tuple[Trajectory | Arrays, Options]:
    """Where a subproblem starts, and how it is solved."""
    left = max(deadline - time.perf_counter(), 1e-9)
    form = "auto" if options.form in ("dual", "covariance") else options.form
    inner = replace(options, tolerance=max(options.tolerance, state.tolerance), time_limit=left, form=form,
                    max_restarts=0, sample_start=False)  # fmt: skip
    start = replace(state.trajectory, constraint_multipliers=None)
    if state.iteration == 0 and options.shooting != "single":
        return start if start.multipliers is not None or problem.has_free_start else start.controls, inner
    if problem.has_free_start:
        return start, inner
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


def _fruitless(
    state: ConstrainedState, checks: tuple[ConstraintCheck, ...], raised: list[bool], options: Options
) -> int:
    """How often in a row a penalty grew and the violation did not fall."""
    violation = max(check.violation for check in checks)
    falls = violation <= max(_FALLS * state.violation, options.tolerance)
    return state.fruitless + 1 if any(raised) and not falls else 0


def _status(problem: ConstrainedProblem, state: ConstrainedState, options: Options) -> Status | None:
    """Why to stop, or None to go on."""
    assert state.inner is not None
    if state.inner.status in (Status.INTERRUPTED, Status.TIME_LIMIT, Status.NON_FINITE):
        return state.inner.status
    fine = max(state.lacks) <= _FEASIBLE * options.tolerance
    at_rest = state.inner.success and state.inner.options is not None
    if at_rest and fine and state.inner.options.tolerance <= options.tolerance:  # type: ignore[union-attr]
        return Status.CONVERGED
    if state.fruitless >= _FRUITLESS:
        return Status.INFEASIBLE
    if state.iteration >= options.max_outer:
        return Status.OUTER_LIMIT
    if state.counts.get("gauss_newton", 0) >= options.max_steps:
        return Status.INNER_LIMIT
    final = state.inner.options is not None and state.inner.options.tolerance <= options.tolerance
    if final and fine and not state.inner.success:  # a second chance changes nothing
        return state.inner.status
    return None


def _record(problem: ConstrainedProblem, state: ConstrainedState, seconds: float) -> Record:
    """A row of the history: J, and the larger one of defects and violations."""
    assert state.inner is not None
    objective = problem.objective(state.trajectory)
    start = state.trajectory.states[0] if problem.has_free_start else None
    rollout = problem.objective(problem.rollout(state.trajectory.controls, initial=start))
    return Record(
        iteration=state.iteration,
        phase="constraints",
        objective=objective,
        rollout_objective=rollout,
        max_defect=max(state.inner.max_defect, state.violation),
        stationarity=state.inner.stationarity,
        penalty=max(state.penalties),
        steps=state.counts.get("least_squares", 0),
        seconds=seconds,
    )


def _result(
    problem: ConstrainedProblem,
    state: ConstrainedState,
    options: Options,
    status: Status,
    history: list[Record],
    seconds: float,
) -> Result:
    trajectory = _exact(problem, state)
    objective, defects = problem.objective(trajectory), problem.defects(trajectory)
    initial = trajectory.states[0] if problem.has_free_start else None
    max_defect = max((float(np.abs(d).max()) for d in defects), default=0.0)
    assert state.inner is not None
    return Result(
        status=status,
        message=_message(status, state),
        trajectory=trajectory,
        objective=objective,
        rollout_objective=problem.objective(problem.rollout(trajectory.controls, initial=initial)),
        max_defect=max_defect,
        stationarity=state.inner.stationarity,
        seconds=seconds,
        solver="augmented Lagrangian",
        history=tuple(history),
        counts=state.counts | {"outer": state.iteration},
        problem=problem,
        model=problem.trained_model(trajectory.controls),
        options=options,
    )


def _message(status: Status, state: ConstrainedState) -> str:
    if status is not Status.INFEASIBLE:
        return status.message
    worst = state.worst
    return (
        f"The constraint {worst.name!r} cannot be met from here: it is violated by {worst.violation:.2e} in "
        f"{worst.worst}, and a larger penalty changes nothing. Check that the constraints admit any point, or start "
        "from other controls."
    )


def _exact(problem: ConstrainedProblem, state: ConstrainedState) -> Trajectory:
    """The trajectory with bounds and sparsity of controls met exactly, and the costates that belong to the prices."""
    trajectory, flat = state.trajectory, np.concatenate(state.trajectory.controls)
    for constraint, m, g in zip(problem.constraints, state.multipliers, state.penalties, strict=True):
        if not isinstance(constraint, OutputConstraint):
            at = slice(None) if constraint.entries is None else constraint.entries
            flat[at] = constraint.prox(flat[at] + m / g, g)
    controls = problem.split(flat)
    priced: OptimalControlProblem = problem.priced(state.multipliers)
    initial = trajectory.states[0] if problem.has_free_start else None
    lifted = priced.lift(controls, initial=initial)
    return replace(lifted, constraint_multipliers=state.multipliers)
