"""Claim: other CasADi solvers go through the same door; success is checked, what they lack is an error."""

from __future__ import annotations

import casadi as ca
import numpy as np
import pytest

from ocp_nn import Network, Status, TrainingProblem, certify, multiple_shooting, single_shooting, solve_ipopt
from ocp_nn.solvers.nlp.plugins import SOLVERS, solve_nlp


@pytest.fixture(scope="module")
def problem() -> TrainingProblem:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((12, 2))
    return TrainingProblem(Network.mlp([2, 3, 3, 1]), x, np.tanh(x[:, :1] - x[:, 1:]), 0.3)


def _needs(solver: str) -> None:
    if not ca.has_nlpsol(solver):
        pytest.skip(f"this CasADi has no {solver}")


@pytest.mark.parametrize("transcription", [single_shooting, multiple_shooting])
@pytest.mark.parametrize("solver", ["bonmin", "fatrop", "uno", "sleqp"])
def test_those_that_solve_it_end_in_certified_points(problem, solver, transcription) -> None:
    _needs(solver)
    result = solve_nlp(transcription(problem), solver)
    assert result.success, result.message
    assert certify(problem, result.trajectory).passed(1e-5), str(certify(problem, result.trajectory))
    assert result.history[-1].objective == result.objective
    # IPOPT, started there, stays
    confirmed = solve_ipopt(single_shooting(problem), result.trajectory)
    assert confirmed.success
    assert confirmed.objective == pytest.approx(result.objective, rel=1e-6)


def test_sqp_with_our_gauss_newton_hessian_goes_down(problem) -> None:
    _needs("sqpmethod")
    nlp = single_shooting(problem)
    near = solve_ipopt(nlp).trajectory
    result = solve_nlp(nlp, "sqpmethod", tuple(u + 0.02 for u in near.controls))
    assert result.objective < result.history[0].objective
    assert result.objective == pytest.approx(problem.objective(near), rel=1e-4)


def test_a_limit_is_not_a_success(problem) -> None:
    _needs("sqpmethod")
    result = solve_nlp(single_shooting(problem), "sqpmethod", options={"max_iter": 2})
    assert result.status is Status.OUTER_LIMIT
    assert "sqpmethod" in result.message


def test_a_claimed_success_that_is_none_is_not_believed(problem) -> None:
    _needs("uno")
    result = solve_nlp(
        single_shooting(problem), "uno", options={"uno": {"primal_tolerance": 1e2, "dual_tolerance": 1e2}}
    )
    assert result.status is Status.FAILED
    assert "not believed" in result.message


def test_a_trajectory_in_place_of_a_solver_is_one_short_line(problem) -> None:
    nlp = single_shooting(problem)
    with pytest.raises(ValueError, match=r"solver must be one of alpaqa.*, received Trajectory\(") as error:
        solve_nlp(nlp, nlp.guess(), "sqpmethod")
    assert len(str(error.value)) < 300


def test_missing_plugins_and_unknown_names_are_errors(problem, monkeypatch) -> None:
    nlp = single_shooting(problem)
    with pytest.raises(ValueError, match="one of alpaqa"):
        solve_nlp(nlp, "nonsense")
    monkeypatch.setitem(SOLVERS, "knitro", SOLVERS["uno"])
    if not ca.has_nlpsol("knitro"):
        with pytest.raises(ValueError, match="not part of this installation"):
            solve_nlp(nlp, "knitro")


def test_options_and_hessians_they_do_not_take_are_errors(problem) -> None:
    nlp = single_shooting(problem)
    with pytest.raises(ValueError, match="fatrop takes no Hessian"):
        solve_nlp(nlp, "fatrop", hessian="exact")
    with pytest.raises(ValueError, match=r"sqpmethod refuses its options.*nonsense"):
        solve_nlp(nlp, "sqpmethod", options={"nonsense": 1})
