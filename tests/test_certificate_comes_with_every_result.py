"""Every solver's result carries a certificate of its own trajectory."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import ocp_nn
from ocp_nn import Network, Options, TrainingProblem, single_shooting, solve, solve_ipopt


@pytest.fixture(scope="module")
def problem() -> TrainingProblem:
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (20, 2))
    return TrainingProblem(Network.mlp([2, 3, 3, 1]), x, np.sin(x[:, :1]) * x[:, 1:], 1e-2)


@pytest.mark.parametrize("solver", ["ours", "ipopt"])
def test_a_converged_result_passes(problem, solver):
    result = solve(problem) if solver == "ours" else solve_ipopt(single_shooting(problem))
    assert result.success
    assert result.certificate.passed(1e-6)
    assert result.certificate.objective == pytest.approx(result.objective, rel=1e-12)


def test_an_unfinished_result_does_not_pass(problem):
    result = solve(problem, options=Options(max_outer=1))
    assert not result.success
    assert not result.certificate.passed(1e-6)


def test_open_defects_cannot_pass_as_trained(problem):
    result = solve(problem)
    states = list(result.trajectory.states)
    states[-1] = states[-1] + 1e-3
    planted = dataclasses.replace(result, trajectory=dataclasses.replace(result.trajectory, states=tuple(states)))
    assert not planted.certificate.passed(1e-6)


def test_a_result_without_its_problem_says_what_to_call(problem):
    lonely = dataclasses.replace(solve(problem), problem=None)
    with pytest.raises(ValueError, match=r"ocp_nn\.certify"):
        _ = lonely.certificate
    assert ocp_nn.certify(problem, lonely.trajectory).passed(1e-6)
