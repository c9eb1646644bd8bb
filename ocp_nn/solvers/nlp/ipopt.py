"""IPOPT on a transcription: the independent reference.

IPOPT (Waechter and Biegler, 2006) gets objective, gradient, constraints and Jacobian from CasADi (over long horizons,
where :mod:`.constraint_jacobian` puts the latter together, from CasADi's derivatives of a stage); the Hessian of the
Lagrangian comes from :mod:`.hessian`, because CasADi's takes minutes to build for networks of ordinary size.
What it calls a KKT point therefore does not rest on any derivative of ours.

Three defaults differ from IPOPT's own:

* ``nlp_scaling_method = none``, so that its ``inf_du`` and tolerance are those of the problem as stated;
* ``mumps_pivot_order = 5`` (METIS), 12-16 times faster per iteration on these programs than the default ordering;
* it prints nothing.

A failed solve returns a :class:`~ocp_nn.problem.result.Result` that says so.  What is raised: options that do not
exist, linear solvers that are not installed (IPOPT would hand the starting point back without a word), and Ctrl-C.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ...base import checks
from ...base.interrupts import PostponedInterrupts
from ...problem.blas import limited_blas
from ...problem.record import Record, Status
from ...problem.result import Result
from ...problem.trajectory import Trajectory
from .constraint_jacobian import constraint_jacobian
from .hessian import LagrangianHessian
from .nonlinear_program import NLP

__all__ = ["IpoptOptions", "solve_ipopt"]

Array = NDArray[np.float64]
Initial = Trajectory | Sequence[Array] | None

HESSIANS = ("exact", "gauss-newton", "limited-memory")

# IPOPT knows these; all but the first two need libraries that are not in CasADi's wheel.
LINEAR_SOLVERS = ("mumps", "spral", "ma27", "ma57", "ma77", "ma86", "ma97", "pardiso", "custom")

# IPOPT counts in 32 bits.
_MOST_ITERATIONS = 2**31 - 1

_KINDS = {
    "hessian": checks.one_of(HESSIANS),
    "tolerance": checks.POSITIVE,
    "max_iterations": checks.integer(0, _MOST_ITERATIONS),
    "time_limit": checks.POSITIVE_OR_INFINITE,
    "linear_solver": checks.one_of(LINEAR_SOLVERS),
    "mumps_pivot_order": checks.integer(0, 7),
    "ipopt": checks.MAPPING,
}


@dataclass(frozen=True, kw_only=True)
class IpoptOptions:
    """Options of :func:`solve_ipopt`.

    Attributes
    ----------
    hessian : {"exact", "gauss-newton", "limited-memory"}
        All three end at solutions of single shooting, the exact one soonest.  On multiple shooting only
        the exact one can be relied on: Gauss-Newton has no curvature in the states there, and both crawled for
        thousands of iterations where the exact Hessian took ten (2-3-3-1, 1-4-4-1).
    tolerance : float
        IPOPT's ``tol``.
    max_iterations : int
    time_limit : float
        Seconds of wall time.
    linear_solver : str
        What CasADi's wheel has: ``mumps`` and ``spral``.  ``ma97`` is refused: without its library it ends the process.
    mumps_pivot_order : int
        5 is METIS, 7 lets MUMPS choose (IPOPT's default).
    ipopt : mapping
        Any other options of IPOPT, by its own names; these win.

    Raises
    ------
    ValueError
        For values outside the ranges above.  Names IPOPT does not know are refused when the solver is built.
    """

    hessian: Literal["exact", "gauss-newton", "limited-memory"] = "exact"
    tolerance: float = 1e-8
    max_iterations: int = 3000
    time_limit: float = float("inf")
    linear_solver: str = "mumps"
    mumps_pivot_order: int = 5
    ipopt: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        checks.check_all(_KINDS, vars(self))
        linear_solver = self.ipopt.get("linear_solver", self.linear_solver)
        checks.check("linear_solver", linear_solver, _KINDS["linear_solver"])
        if linear_solver == "ma97":
            raise ValueError(
                "linear_solver 'ma97' ends the process where its library is missing: use 'mumps' or 'spral'"
            )

    def raw(self, *, warm: bool) -> dict[str, Any]:
        """All options by IPOPT's names."""
        options: dict[str, Any] = {
            "print_level": 0,
            "sb": "yes",
            "tol": self.tolerance,
            "max_iter": self.max_iterations,
            "linear_solver": self.linear_solver,
            "nlp_scaling_method": "none",
        }
        if np.isfinite(self.time_limit):
            options["max_wall_time"] = self.time_limit
        if self.linear_solver == "mumps":
            options["mumps_pivot_order"] = self.mumps_pivot_order
        if self.hessian == "limited-memory":
            options["hessian_approximation"] = "limited-memory"
        if warm:
            # the point is meant: do not push it away from bounds, do not start with a large barrier
            pushes = ("bound_push", "bound_frac", "slack_bound_push", "slack_bound_frac", "mult_bound_push")
            options |= {"warm_start_init_point": "yes", "mu_init": 1e-8}
            options |= {f"warm_start_{push}": 1e-12 for push in pushes}
        return options | dict(self.ipopt)


def solve_ipopt(nlp: NLP, initial: Initial = None, *, options: IpoptOptions | None = None) -> Result:
    """Solve a transcription with IPOPT.

    Parameters
    ----------
    nlp : NLP
        Of :func:`ocp_nn.single_shooting` or :func:`ocp_nn.multiple_shooting`.
    initial : Trajectory, sequence of controls, or None
        The starting point: a trajectory as it is (with its multipliers, if it has them: a warm start), the
        rollout of controls, or standard weights.
    options : IpoptOptions, optional

    Returns
    -------
    Result
        ``history`` has one record an iteration with IPOPT's ``obj``, ``inf_pr`` and ``inf_du``; ``message`` begins with
        IPOPT's own word for how it ended.

    Raises
    ------
    ValueError
        For options IPOPT does not know, a linear solver this installation does not have, or a program that was changed
        after its transcription.
    KeyboardInterrupt
        When Ctrl-C was pressed during the solve.
    """
    nlp_of_ours("solve_ipopt", nlp)
    checks.check("options", options, _OPTIONS)
    options = IpoptOptions() if options is None else options
    began = time.perf_counter()
    start = starting_point(nlp, initial)
    with PostponedInterrupts() as interrupts:
        return _solve(nlp, start, options, IterationWatch(nlp, began, interrupts))


def _solve(nlp: NLP, start: Trajectory, options: IpoptOptions, watch: IterationWatch) -> Result:
    warm = start.multipliers is not None and bool(nlp.num_constraints or nlp.is_bounded)
    settings: dict[str, Any] = {"print_time": False, "show_eval_warnings": False, "iteration_callback": watch}
    hessian = None if options.hessian == "limited-memory" else LagrangianHessian(nlp, options.hessian)
    if hessian is not None:
        settings["hess_lag"] = hessian
    jacobian = constraint_jacobian(nlp)
    if jacobian is not None:
        settings["jac_g"] = jacobian
    raw = options.raw(warm=warm)
    try:
        solver = ca.nlpsol("ipopt", "ipopt", nlp.problem, settings | {"ipopt": raw})
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(f"IPOPT refuses its options: {reason} (received {raw})") from None
    # a status tells of numbers that are not finite; threads make the Hessian's small products slower, not faster
    with np.errstate(over="ignore", invalid="ignore"), limited_blas(nlp.training):
        solution = solver(**nlp.bounds, **nlp.pack(start))
        stats = solver.stats()
        _raise_what_stopped_it(str(stats["return_status"]), raw, [watch.error, getattr(hessian, "error", None)])
        return _result(nlp, solution, stats, watch, options, watch.elapsed)


_NLP = checks.instance(NLP, "an ocp_nn.NLP (single_shooting, multiple_shooting or transcribe makes one)")
_OPTIONS = checks.optional(checks.instance(IpoptOptions, "an ocp_nn.IpoptOptions"))


def nlp_of_ours(solver: str, nlp: NLP) -> None:
    """Raise ``ValueError`` unless this is a program as it was transcribed: Hessian, layout and result are for that."""
    checks.check("nlp", nlp, _NLP)
    changed = nlp.changes()
    if changed:
        raise ValueError(
            f"{solver} solves programs as they were transcribed, but {changed}: give a program of your own to "
            "casadi.nlpsol, with nlp.bounds, nlp.pack and nlp.unpack"
        )


def starting_point(nlp: NLP, initial: Initial) -> Trajectory:
    """What ``initial`` stands for."""
    if initial is None:
        return nlp.guess()
    return nlp.training.start(initial)


class IterationWatch(ca.Callback):  # type: ignore[misc]
    """Notes the time and the rollout's objective of every iteration; keeps an exception (Ctrl-C) and asks to stop."""

    def __init__(self, nlp: NLP, began: float, interrupts: PostponedInterrupts) -> None:
        super().__init__()
        self.error: BaseException | None = None
        self.seconds: list[float] = []
        self.rollout_objectives: list[float] = []
        self._nlp, self._began, self._interrupts = nlp, began, interrupts
        self.construct("watch", {})

    def get_n_in(self) -> int:
        return int(ca.nlpsol_n_out())

    def get_n_out(self) -> int:
        return 1

    def get_name_in(self, i: int) -> str:
        return str(ca.nlpsol_out(i))

    def get_name_out(self, i: int) -> str:
        return "stop"

    def get_sparsity_in(self, i: int) -> ca.Sparsity:
        n, m = self._nlp.num_variables, self._nlp.num_constraints
        length = {"f": 1, "x": n, "lam_x": n, "g": m, "lam_g": m}.get(ca.nlpsol_out(i), 0)
        return ca.Sparsity.dense(length, 1 if length else 0)

    def has_eval_buffer(self) -> bool:
        return True

    def eval_buffer(self, arg: Sequence[Any], res: Sequence[Any]) -> int:
        stop = np.frombuffer(res[0])
        stop[:] = 0.0
        try:
            self._note(np.frombuffer(arg[0]))
            self._interrupts.deliver()
        except BaseException as error:  # cannot pass through C++: the caller raises it
            self.error = error
            stop[:] = 1.0
        return 0

    def _note(self, x: Array) -> None:
        self.rollout_objectives.append(_rollout_objective(self._nlp, self._nlp.roll(x)))
        self.seconds.append(self.elapsed)

    @property
    def elapsed(self) -> float:
        """Seconds since the solve began."""
        return time.perf_counter() - self._began


def _raise_what_stopped_it(word: str, raw: Mapping[str, Any], errors: Sequence[BaseException | None]) -> None:
    for error in errors:
        if error is not None:
            raise error
    if word == "NonIpopt_Exception_Thrown":
        raise KeyboardInterrupt("during IPOPT's iterations")
    if word == "Invalid_Option":
        raise ValueError(
            f"IPOPT ended with Invalid_Option and did nothing: linear_solver {raw['linear_solver']!r} needs a library "
            "that is not installed; CasADi's wheel has 'mumps' and 'spral'"
        )


_STATUSES: dict[str, tuple[Status, str]] = {
    "Solve_Succeeded": (Status.CONVERGED, ""),
    "Solved_To_Acceptable_Level": (Status.CONVERGED, "Its acceptable tolerance is met, not the one asked for."),
    "Maximum_Iterations_Exceeded": (Status.OUTER_LIMIT, "Raise max_iterations or loosen tolerance."),
    "Maximum_CpuTime_Exceeded": (Status.TIME_LIMIT, Status.TIME_LIMIT.remedy),
    "Maximum_WallTime_Exceeded": (Status.TIME_LIMIT, Status.TIME_LIMIT.remedy),
    "Search_Direction_Becomes_Too_Small": (Status.STALLED, Status.STALLED.remedy),
    "Restoration_Failed": (Status.STALLED, "Start from a rollout, or from other weights."),
    "Infeasible_Problem_Detected": (Status.INFEASIBLE, Status.INFEASIBLE.remedy),
    "Invalid_Number_Detected": (Status.NON_FINITE, Status.NON_FINITE.remedy),
    "User_Requested_Stop": (Status.INTERRUPTED, Status.INTERRUPTED.remedy),
}


def _result(
    nlp: NLP,
    solution: Mapping[str, Any],
    stats: Mapping[str, Any],
    watch: IterationWatch,
    options: IpoptOptions,
    seconds: float,
) -> Result:
    word = str(stats["return_status"])
    status, remedy = _STATUSES.get(word, (Status.FAILED, Status.FAILED.remedy))
    calls = {key.removeprefix("n_call_nlp_"): int(n) for key, n in stats.items() if key.startswith("n_call_nlp_")}
    return make_result(
        nlp,
        nlp.unpack(solution),
        status=status,
        message=f"{word}. {status.sentence} {remedy}".strip(),
        history=_history(nlp, stats.get("iterations") or {}, watch),
        counts={"iterations": int(stats.get("iter_count", 0))} | calls,
        seconds=seconds,
        solver=f"IPOPT ({options.hessian}), {nlp.transcription}",
    )


def make_result(nlp: NLP, trajectory: Trajectory, **known: Any) -> Result:
    """A result, measured at the trajectory."""
    training = nlp.training
    defects = training.defects(trajectory)
    return Result(
        trajectory=trajectory,
        objective=training.objective(trajectory),
        rollout_objective=_rollout_objective(nlp, trajectory),
        max_defect=max((float(np.abs(d).max()) for d in defects), default=0.0),
        stationarity=nlp.stationarity(trajectory),
        problem=training,
        model=training.trained_model(trajectory.controls),
        **known,
    )


def _rollout_objective(nlp: NLP, trajectory: Trajectory) -> float:
    """J at the rollout of a trajectory's controls, from its own x_0 where that is a variable."""
    problem = nlp.training
    initial = trajectory.states[0] if problem.has_free_start else None
    return problem.objective(problem.rollout(trajectory.controls, initial=initial))


def _history(nlp: NLP, iterations: Mapping[str, Sequence[float]], watch: IterationWatch) -> tuple[Record, ...]:
    rows = zip(
        iterations.get("obj", ()),
        iterations.get("inf_pr", ()),
        iterations.get("inf_du", ()),
        watch.rollout_objectives,
        watch.seconds,
        strict=False,  # the watch misses the iteration in which it stopped the solve
    )
    return tuple(
        Record(
            iteration=i,
            phase="newton" if i else "start",
            objective=float(objective),
            rollout_objective=rollout,
            max_defect=float(inf_pr),
            stationarity=float(inf_du),
            penalty=float("nan") if nlp.nodes else float("inf"),
            steps=i,
            seconds=seconds,
        )
        for i, (objective, inf_pr, inf_du, rollout, seconds) in enumerate(rows)
    )
