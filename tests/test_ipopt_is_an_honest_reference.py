"""Claim: IPOPT solves both transcriptions, tells how it ended in its own words, and never fails silently."""

from __future__ import annotations

import _thread

import casadi as ca
import numpy as np
import pytest

from ocp_nn import (
    IpoptOptions,
    Network,
    Status,
    TrainingProblem,
    Trajectory,
    certify,
    multiple_shooting,
    single_shooting,
    solve_ipopt,
    solve_nlp,
    transcribe,
)
from ocp_nn.solvers.nlp.hessian import LagrangianHessian

NODES = {"single": (), "partial": (2,), "multiple": (1, 2)}


@pytest.fixture(scope="module")
def problem() -> TrainingProblem:
    rng = np.random.default_rng(0)
    x = np.linspace(-2, 2, 30)[:, None]
    return TrainingProblem(Network.mlp([1, 4, 4, 1]), x, np.sin(2 * x) + 0.1 * rng.standard_normal(x.shape), 0.05)


@pytest.fixture(scope="module")
def solution(problem: TrainingProblem) -> Trajectory:
    result = solve_ipopt(single_shooting(problem))
    assert result.success, result.message
    return result.trajectory


@pytest.fixture(scope="module")
def well_posed() -> TrainingProblem:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((12, 2))
    return TrainingProblem(Network.mlp([2, 3, 3, 1]), x, np.tanh(x[:, :1] - x[:, 1:]), 0.3)


@pytest.mark.parametrize(
    ("hessian", "nodes"),
    [
        ("exact", ()),
        ("exact", (2,)),
        ("exact", (1, 2)),
        # the other two crawl on multiple shooting (see IpoptOptions): no claim there
        ("gauss-newton", ()),
        ("limited-memory", ()),
    ],
)
def test_every_hessian_reaches_the_certified_solution(well_posed, hessian, nodes) -> None:
    expected = solve_ipopt(single_shooting(well_posed))
    # from nearby: which basin a cold start ends in is not this test's business
    nearby = well_posed.lift(tuple(u + 0.01 for u in expected.trajectory.controls))
    result = solve_ipopt(transcribe(well_posed, nodes), nearby, options=IpoptOptions(hessian=hessian))
    assert result.success, result.message
    assert certify(well_posed, result.trajectory).passed(), str(certify(well_posed, result.trajectory))
    # the objective is known to the square of the gradient's tolerance (1e-6 is IPOPT's acceptable level)
    assert result.objective == pytest.approx(expected.objective, rel=1e-7)


@pytest.mark.parametrize("nodes", NODES.values(), ids=NODES)
def test_the_first_iteration_at_a_feasible_point_is_the_certificate(problem, nodes) -> None:
    start = problem.lift(problem.network.init_controls(3))
    # one costate is wrong, so that stationarity in the states is not zero either
    wrong = tuple(1.5 * m if k in nodes else m for k, m in enumerate(start.multipliers))
    start = Trajectory(start.controls, start.states, wrong)
    nlp = transcribe(problem, nodes)
    first = solve_ipopt(nlp, start, options=IpoptOptions(max_iterations=0)).history[0]
    certificate = certify(problem, nlp.unpack({"x": (p := nlp.pack(start))["x0"], "lam_g": p["lam_g0"]}))
    assert first.objective == pytest.approx(certificate.objective, abs=1e-8)
    assert first.max_defect == pytest.approx(certificate.max_defect, abs=1e-8)
    assert first.stationarity == pytest.approx(certificate.stationarity, abs=1e-8)
    assert first.stationarity > 0.1


@pytest.mark.parametrize("nodes", NODES.values(), ids=NODES)
def test_a_warm_start_at_the_solution_has_nothing_to_do(problem, solution, nodes) -> None:
    result = solve_ipopt(transcribe(problem, nodes), solution)
    assert result.success
    assert result.counts["iterations"] <= 1
    assert result.objective == pytest.approx(problem.objective(solution), rel=1e-12)


def test_bounded_programs_can_be_warm_started_at_their_solution(problem) -> None:
    nlp = multiple_shooting(problem, control_bounds=(-0.8, 0.8))
    result = solve_ipopt(nlp)
    again = solve_ipopt(nlp, result.trajectory)
    assert result.success and again.success
    assert again.objective == pytest.approx(result.objective, rel=1e-6)
    assert result.stationarity < 1e-4  # at a bound only what points inwards counts


@pytest.mark.parametrize("nodes", [(), (1, 2)], ids=["single", "multiple"])
def test_history_is_ipopts_iterations(problem, nodes) -> None:
    result = solve_ipopt(transcribe(problem, nodes), options=IpoptOptions(max_iterations=7))
    assert [r.iteration for r in result.history] == list(range(8))
    assert [r.steps for r in result.history] == list(range(8))
    assert result.counts["iterations"] == 7
    seconds = [r.seconds for r in result.history]
    assert seconds == sorted(seconds) and seconds[-1] <= result.seconds
    last = result.history[-1]
    assert last.objective == pytest.approx(result.objective, rel=1e-12)
    assert last.rollout_objective == pytest.approx(result.rollout_objective, rel=1e-12)
    assert last.max_defect == pytest.approx(result.max_defect, abs=1e-12)
    assert last.stationarity == pytest.approx(result.stationarity, rel=1e-6)


def test_limits_are_statuses_with_ipopts_words(problem) -> None:
    nlp = single_shooting(problem)
    limited = solve_ipopt(nlp, options=IpoptOptions(max_iterations=2))
    assert limited.status is Status.OUTER_LIMIT
    assert limited.message.startswith("Maximum_Iterations_Exceeded")
    late = solve_ipopt(nlp, options=IpoptOptions(time_limit=1e-6))
    assert late.status is Status.TIME_LIMIT
    assert late.message.startswith("Maximum_WallTime_Exceeded")


def test_values_that_overflow_are_a_status(problem) -> None:
    huge = tuple(np.full(u.shape, 1e200) for u in problem.network.init_controls(0))
    result = solve_ipopt(single_shooting(problem), huge)
    assert not result.success
    assert result.status is Status.NON_FINITE
    assert result.message.startswith("Invalid_Number_Detected")


def _add_constraint(nlp) -> None:
    nlp.problem["g"] = ca.vertcat(nlp.problem["g"], nlp.problem["x"][0])


def _change_objective(nlp) -> None:
    nlp.problem["f"] = nlp.problem["f"] + ca.sumsqr(nlp.problem["x"])


def _add_parameter(nlp) -> None:
    nlp.problem["p"] = ca.MX.sym("p")


def _lengthen_bounds(nlp) -> None:
    nlp.bounds["lbg"] = np.zeros(nlp.num_constraints + 1)


BY_HAND = {
    "a constraint": (_add_constraint, r"nlp\.problem\['g'\] was changed by hand"),
    "another objective": (_change_objective, r"nlp\.problem\['f'\] was changed by hand"),
    "a parameter": (_add_parameter, r"nlp\.problem\['p'\] was changed by hand"),
    "bounds of another length": (_lengthen_bounds, r"nlp\.bounds\['lbg'\] has \d+ numbers where \d+ are needed"),
}


@pytest.mark.parametrize(("change", "message"), BY_HAND.values(), ids=BY_HAND)
@pytest.mark.parametrize("solver", [solve_ipopt, lambda nlp: solve_nlp(nlp, "sqpmethod")], ids=["IPOPT", "another"])
def test_a_program_that_was_changed_by_hand_is_sent_to_casadi(problem, solver, change, message) -> None:
    nlp = multiple_shooting(problem)
    change(nlp)
    with pytest.raises(ValueError, match=f"{message}: give a program of your own to casadi.nlpsol"):
        solver(nlp)


def test_bounds_may_be_tightened_by_hand(problem) -> None:
    nlp = single_shooting(problem)
    nlp.bounds["ubx"][:] = 0.5
    assert max(float(u.max()) for u in solve_ipopt(nlp).trajectory.controls) <= 0.5 + 1e-6


def test_passed_through_options_arrive_and_win(problem) -> None:
    options = IpoptOptions(max_iterations=50, ipopt={"max_iter": 3})
    assert solve_ipopt(single_shooting(problem), options=options).counts["iterations"] == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ipopt": {"nonsense": 1}}, "No such IPOPT option: nonsense"),
        ({"linear_solver": "ma27"}, "ma27.*not installed"),
        ({"ipopt": {"linear_solver": "ma27"}}, "ma27.*not installed"),
    ],
)
def test_what_ipopt_cannot_do_is_an_error(problem, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        solve_ipopt(single_shooting(problem), options=IpoptOptions(**options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"linear_solver": "ma97"}, "ends the process"),
        ({"ipopt": {"linear_solver": "ma97"}}, "ends the process"),
        ({"linear_solver": "lapack"}, "one of mumps, spral"),
        ({"hessian": "bfgs"}, "one of exact"),
        ({"tolerance": 0}, "tolerance must be a finite number > 0, received 0"),
        ({"time_limit": -1}, "time_limit must be a number > 0"),
        ({"max_iterations": -1}, "max_iterations must be an integer from 0 to"),
    ],
)
def test_options_out_of_range_are_refused_at_once(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        IpoptOptions(**options)


def test_it_prints_nothing(problem, capfd) -> None:
    solve_ipopt(multiple_shooting(problem), options=IpoptOptions(max_iterations=3))
    solve_ipopt(single_shooting(problem), options=IpoptOptions(hessian="limited-memory", max_iterations=3))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("where", ["hessian", "iteration"])
def test_ctrl_c_is_raised_again(problem, monkeypatch, where) -> None:
    from ocp_nn.solvers.nlp import ipopt

    calls = []

    def interrupted(method):
        def wrapper(self, *arguments):
            calls.append(where)
            if len(calls) == 3:
                _thread.interrupt_main()  # what Ctrl-C does: delivered at the next bytecode of the main thread
            return method(self, *arguments)

        return wrapper

    if where == "hessian":
        monkeypatch.setattr(LagrangianHessian, "nonzeros", interrupted(LagrangianHessian.nonzeros))
    else:
        monkeypatch.setattr(ipopt.IterationWatch, "_note", interrupted(ipopt.IterationWatch._note))
    with pytest.raises(KeyboardInterrupt):
        solve_ipopt(single_shooting(problem))
    assert len(calls) == 3


def test_errors_inside_the_hessian_are_not_lost(problem, monkeypatch) -> None:
    def broken(self, *arguments):
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(LagrangianHessian, "nonzeros", broken)
    with pytest.raises(ZeroDivisionError, match="planted"):
        solve_ipopt(single_shooting(problem))


def test_the_program_is_any_solvers(problem, solution) -> None:
    nlp = single_shooting(problem)
    quiet = {"print_time": False, "ipopt": {"print_level": 0, "sb": "yes"}}
    solver = ca.nlpsol("solver", "ipopt", nlp.problem, quiet)
    found = nlp.unpack(solver(**nlp.bounds, **nlp.pack(nlp.training.rollout(solution.controls))))
    assert problem.objective(found) == pytest.approx(problem.objective(solution), rel=1e-10)
