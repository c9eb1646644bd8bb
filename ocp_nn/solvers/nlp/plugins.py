"""Other nonlinear solvers behind CasADi, through the same door as IPOPT.

What each can do with a training problem, found out by trying (CasADi 3.8; 2-3-3-1 tanh, 12 samples, standard weights):

=================  ==========================  =====================================================================
solver             Hessian                     what happened
=================  ==========================  =====================================================================
ipopt              ours: exact, Gauss-Newton;  solves both transcriptions: :func:`ocp_nn.solve_ipopt`, the reference
                   L-BFGS
bonmin             ours: exact, Gauss-Newton   solves both (it is IPOPT inside); gives no multipliers back
fatrop             CasADi's only               solves both; finds no stage structure here: dense, slow beyond toys
uno                CasADi's only               solves both
sleqp              CasADi's only               solves both, in two to six times the iterations; warns on stderr
alpaqa             CasADi's only, no options   comes within 1e-3 of the objective, stops at its limit of iterations
sqpmethod          ours: exact, Gauss-Newton   Gauss-Newton (the default here) goes down on both, linearly at the
                                               end; the exact Hessian is indefinite and its QPs diverge
=================  ==========================  =====================================================================

Not offered: ``feasiblesqpmethod`` solves single shooting but prints whatever it is told, ``qrsqp`` ended in a worse
point, ``scpgen`` and ``blocksqp`` need what the wheel does not have (a QP plugin of their kind, libhsl). CasADi's own
Hessian takes 20 s to build at 100 samples and 1-10-10-10-10-1, minutes beyond.

None of them raises when it fails, and some name a success that is none: the status here also needs a certificate-grade
stationarity and closed defects (:data:`LOOSE`), whatever the solver says.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import casadi as ca
import numpy as np

from ...base import checks
from ...problem.blas import limited_blas
from ...problem.record import Record, Status
from ...problem.result import Result
from ...problem.trajectory import Trajectory
from .hessian import LagrangianHessian
from .ipopt import Initial, make_result, nlp_of_ours, starting_point
from .nonlinear_program import NLP

__all__ = ["SOLVERS", "solve_nlp"]

# Largest stationarity (times max(1, |J|)) and defect of what is called converged here: the loosest default of any.
LOOSE = 1e-4


@dataclass(frozen=True, kw_only=True)
class _Plugin:
    """How a solver takes its Hessian, and what makes it quiet."""

    hessian: Literal["casadi", "upper", "whole"]
    settings: Mapping[str, Any] = field(default_factory=dict)
    default: Literal["casadi", "exact", "gauss-newton"] = "casadi"


_QUIET_SQP = {"print_header": False, "print_iteration": False, "print_status": False}
_QRQP = {"qpsol": "qrqp", "qpsol_options": {"print_iter": False, "print_header": False, "error_on_fail": False}}

SOLVERS: dict[str, _Plugin] = {
    "alpaqa": _Plugin(hessian="casadi"),
    "bonmin": _Plugin(
        hessian="upper",
        settings={"bonmin": {"print_level": 0, "sb": "yes", "bb_log_level": 0, "nlp_log_level": 0}},
        default="exact",
    ),
    "fatrop": _Plugin(hessian="casadi", settings={"fatrop": {"print_level": 0}}),
    "sleqp": _Plugin(hessian="casadi", settings={"print_level": 0}),
    "sqpmethod": _Plugin(
        hessian="whole", settings=_QUIET_SQP | _QRQP | {"max_iter": 500, "tol_du": 1e-6}, default="gauss-newton"
    ),
    "uno": _Plugin(hessian="casadi", settings={"uno": {"logger": "SILENT"}}),
}

_HESSIAN = checks.optional(checks.one_of(("casadi", "exact", "gauss-newton")))


def solve_nlp(
    nlp: NLP,
    solver: str,
    initial: Initial = None,
    *,
    hessian: Literal["casadi", "exact", "gauss-newton"] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Result:
    """Solve a transcription with one of :data:`SOLVERS` (see the module's table for what to expect).

    Parameters
    ----------
    nlp : NLP
    solver : str
        A CasADi plugin.
    initial : Trajectory, sequence of controls, or None
        As in :func:`ocp_nn.solve_ipopt`.
    hessian : {"casadi", "exact", "gauss-newton"}, optional
        CasADi's, or one of :class:`~ocp_nn.solvers.nlp.hessian.LagrangianHessian`; the default is the solver's best.
    options : mapping, optional
        CasADi's options for this solver, added to those that make it quiet; these win.

    Returns
    -------
    Result
        ``history`` has the start and the end only: these plugins do not tell their iterations.

    Raises
    ------
    ValueError
        For a solver that is unknown or not installed, a Hessian it does not take, or options it refuses.
    """
    plugin = _look_up(solver)
    nlp_of_ours("solve_nlp", nlp)
    checks.check("hessian", hessian, _HESSIAN)
    checks.check("options", options, checks.optional(checks.MAPPING))
    kind = plugin.default if hessian is None else hessian
    if kind != "casadi" and plugin.hessian == "casadi":
        raise ValueError(f"{solver} takes no Hessian from outside: expected hessian='casadi', received {kind!r}")
    settings: dict[str, Any] = {"print_time": False, "error_on_fail": False, "show_eval_warnings": False}
    settings |= dict(plugin.settings) | dict(options or {})
    callback = None if kind == "casadi" else LagrangianHessian(nlp, kind, symmetric=plugin.hessian == "whole")
    if callback is not None:
        settings["hess_lag"] = callback
    start = starting_point(nlp, initial)
    began = time.perf_counter()
    function = _build(solver, nlp, settings)
    with np.errstate(over="ignore", invalid="ignore"), limited_blas(nlp.training):
        try:
            solution = function(**nlp.bounds, **nlp.pack(start))
        except RuntimeError as error:
            if callback is not None and callback.error is not None:
                raise callback.error from None
            return _failed(nlp, start, solver, _last_line(error), began)
        if callback is not None and callback.error is not None:
            raise callback.error
        return _result(nlp, start, _without_nan_multipliers(solution), function.stats(), solver, began)


def _look_up(solver: str) -> _Plugin:
    checks.check("solver", solver, checks.one_of(SOLVERS))
    if not ca.has_nlpsol(solver):
        raise ValueError(f"CasADi's plugin {solver!r} is not part of this installation (casadi {ca.__version__})")
    return SOLVERS[solver]


def _build(solver: str, nlp: NLP, settings: Mapping[str, Any]) -> ca.Function:
    try:
        return ca.nlpsol("solver", solver, nlp.problem, settings)
    except (RuntimeError, NotImplementedError) as error:
        unknown = next((line for line in str(error).splitlines() if "nknown option" in line), _last_line(error))
        raise ValueError(f"{solver} refuses its options: {unknown.strip()} (received {sorted(settings)})") from None


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]


def _without_nan_multipliers(solution: Mapping[str, Any]) -> dict[str, Any]:
    """bonmin hands back NaN: that is to have no multipliers."""
    kept = {"x": solution["x"], "lam_g": solution["lam_g"]}
    if not np.isfinite(np.array(solution["lam_g"])).all():
        del kept["lam_g"]
    return kept


def _complete(nlp: NLP, trajectory: Trajectory) -> Trajectory:
    """With adjoints where the solver gave no multipliers."""
    if trajectory.multipliers is not None:
        return trajectory
    costates = nlp.training.adjoints(trajectory).costates
    return Trajectory(trajectory.controls, trajectory.states, costates[: nlp.training.num_stages])


def _result(
    nlp: NLP, start: Trajectory, solution: Mapping[str, Any], stats: Mapping[str, Any], solver: str, began: float
) -> Result:
    trajectory = _complete(nlp, nlp.unpack(solution))
    word = str(stats.get("return_status") or stats.get("unified_return_status"))
    claims = bool(stats.get("success"))
    known = {
        "counts": {"iterations": int(stats.get("iter_count") or 0)},
        "seconds": time.perf_counter() - began,
        "solver": f"{solver}, {nlp.transcription}",
    }
    draft = make_result(nlp, trajectory, status=Status.FAILED, message=word, **known)
    scale = max(1.0, abs(draft.objective))
    holds = draft.stationarity <= LOOSE * scale and draft.max_defect <= LOOSE
    limited = stats.get("unified_return_status") == "SOLVER_RET_LIMITED"
    status = Status.CONVERGED if claims and holds else Status.OUTER_LIMIT if limited else Status.FAILED
    doubt = (
        "" if holds or not claims else f" It reports success at stationarity {draft.stationarity:.1e}: not believed."
    )
    remedy = "Raise the solver's own limit of iterations." if limited else status.remedy
    message = f"{solver}: {word}. {status.sentence} {remedy}".strip() + doubt
    ends = (make_result(nlp, _complete(nlp, start), status=status, message="", **known), draft)
    return make_result(nlp, trajectory, status=status, message=message, history=_ends(nlp, *ends), **known)


def _failed(nlp: NLP, start: Trajectory, solver: str, reason: str, began: float) -> Result:
    return make_result(
        nlp,
        _complete(nlp, start),
        status=Status.FAILED,
        message=f"{solver} ended with an error and no point: {reason}",
        counts={"iterations": 0},
        seconds=time.perf_counter() - began,
        solver=f"{solver}, {nlp.transcription}",
    )


def _ends(nlp: NLP, start: Result, end: Result) -> tuple[Record, ...]:
    return tuple(
        Record(
            iteration=iteration,
            phase=phase,
            objective=result.objective,
            rollout_objective=result.rollout_objective,
            max_defect=result.max_defect,
            stationarity=result.stationarity,
            penalty=float("nan") if nlp.nodes else float("inf"),
            steps=iteration,
            seconds=seconds,
        )
        for phase, iteration, seconds, result in (
            ("start", 0, 0.0, start),
            ("end", end.counts["iterations"], end.seconds, end),
        )
    )
