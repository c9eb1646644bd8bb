"""Claim: a certificate passes a solution of either solver and catches every fault planted into it."""

from __future__ import annotations

from dataclasses import replace

import casadi as ca
import numpy as np
import pytest

from ocp_nn import Network, TrainingProblem, Trajectory, certify, multiple_shooting, single_shooting, solve_ipopt


def _problem(activation: str = "tanh") -> TrainingProblem:
    rng = np.random.default_rng(0)
    network = Network.mlp([3, 4, 4, 2], activation, residual=True)
    return TrainingProblem(network, rng.standard_normal((15, 3)), rng.standard_normal((15, 2)), weight_decay=0.2)


@pytest.fixture(scope="module")
def solved() -> tuple[TrainingProblem, Trajectory]:
    problem = _problem()
    return problem, solve_ipopt(multiple_shooting(problem)).trajectory


def _changed(arrays: tuple[np.ndarray, ...], k: int, index: tuple[int, ...] | int, change: float):
    copies = [a.copy() for a in arrays]
    copies[k][index] += change
    return tuple(copies)


def test_a_solution_passes(solved) -> None:
    problem, trajectory = solved
    certificate = certify(problem, trajectory, curvature=True)
    assert certificate.passed(1e-8), str(certificate)
    assert certificate.multiplier_error < 1e-7
    assert "passed" in str(certificate)


def test_an_open_defect_is_found_and_named(solved) -> None:
    problem, trajectory = solved
    faulty = replace(trajectory, states=_changed(trajectory.states, 2, (11, 3), 1e-5))
    certificate = certify(problem, faulty)
    assert not certificate.passed()
    assert (certificate.worst.layer, certificate.worst.unit, certificate.worst.sample) == (1, 3, 11)
    assert certificate.max_defect == pytest.approx(1e-5, rel=1e-3)
    assert certificate.defects[1].rms == pytest.approx(1e-5 / np.sqrt(60), rel=1e-3)
    assert any("layer 1, unit 3, sample 11" in failure for failure in certificate.failures())


@pytest.mark.parametrize("k", [1, 2])
def test_a_wrong_multiplier_sign_is_found(solved, k: int) -> None:
    problem, trajectory = solved
    multipliers = tuple(-m if j == k else m for j, m in enumerate(trajectory.multipliers))
    certificate = certify(problem, replace(trajectory, multipliers=multipliers))
    assert not certificate.passed()
    assert certificate.multiplier_error == pytest.approx(2 * abs(trajectory.multipliers[k]).max(), rel=1e-6)


@pytest.mark.parametrize("k", [0, 1, 2])
def test_a_weight_off_by_1e_4_is_found(solved, k: int) -> None:
    problem, trajectory = solved
    controls = _changed(trajectory.controls, k, 1, 1e-4)
    assert not certify(problem, replace(trajectory, controls=controls)).passed()
    # the rollout of the wrong weights has no defect, and still is no solution
    certificate = certify(problem, problem.lift(controls))
    assert certificate.max_defect < 1e-14
    assert not certificate.passed()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("part", ["controls", "states", "multipliers"])
def test_numbers_that_are_not_finite_are_found(solved, part: str, value: float) -> None:
    problem, trajectory = solved
    index = 4 if part == "controls" else (2, 1)
    arrays = _changed(getattr(trajectory, part), 1, index, value)
    certificate = certify(problem, replace(trajectory, **{part: arrays}))
    assert not certificate.finite
    assert not certificate.passed(1e6)


def test_a_changed_input_is_found(solved) -> None:
    problem, trajectory = solved
    faulty = replace(trajectory, states=_changed(trajectory.states, 0, (0, 0), 1e-9))
    assert any("not the input" in failure for failure in certify(problem, faulty).failures())


def test_a_low_loss_with_open_defects_does_not_pass_as_trained() -> None:
    problem = _problem()
    start = problem.rollout(problem.network.init_controls(0))
    # states that let the last layer fit y exactly, with small weights: the objective is nearly zero
    last = np.zeros((5, 2))
    last[:2] = np.eye(2)
    states = (*start.states[:2], np.hstack([problem.y, np.zeros((15, 2))]))
    cheat = Trajectory((*(0 * u for u in start.controls[:2]), last.ravel()), states, None)
    certificate = certify(problem, cheat)
    assert certificate.objective < 0.5
    assert certificate.rollout_objective > 5
    assert not certificate.passed(1e-2)


def test_a_saddle_is_told_by_its_curvature() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 2))
    problem = TrainingProblem(
        Network.mlp([2, 3, 1]), x, np.tanh(x[:, :1]) - np.tanh(x[:, :1]).mean(), weight_decay=1e-3
    )
    zero = problem.lift(tuple(np.zeros(layer.num_controls) for layer in problem.network.layers))
    assert certify(problem, zero).passed()
    certificate = certify(problem, zero, curvature=True)
    assert certificate.smallest_curvature < -0.1
    assert not certificate.passed()


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu", "softplus", "identity"])
def test_the_certificate_and_the_solvers_agree_on_every_activation(activation: str) -> None:
    problem = _problem(activation)
    rng = np.random.default_rng(5)
    controls = tuple(rng.standard_normal(layer.num_controls) for layer in problem.network.layers)
    lifted = problem.lift(controls)
    certificate = certify(problem, lifted)
    nlp = single_shooting(problem)
    assert certificate.objective == pytest.approx(problem.objective(lifted), rel=1e-12)
    assert certificate.stationarity_controls == pytest.approx(nlp.stationarity(lifted), rel=1e-10)
    assert certificate.max_defect < 1e-13
    assert certificate.multiplier_error < 1e-12 * certificate.scale


def test_symbolic_stages_are_called_as_they_are() -> None:
    x, u = ca.SX.sym("x", 3), ca.SX.sym("u", 6)
    stage = ca.Function("stage", [x, u], [ca.sin(ca.reshape(u, 2, 3) @ x)])
    rng = np.random.default_rng(0)
    problem = TrainingProblem(Network([stage]), rng.standard_normal((9, 3)), rng.standard_normal((9, 2)), 0.1)
    result = solve_ipopt(single_shooting(problem))
    certificate = certify(problem, result.trajectory)
    assert certificate.passed()
    assert certificate.worst is None
    off = certify(problem, problem.lift((result.trajectory.controls[0] + 1e-3,)))
    assert not off.passed()


def test_without_multipliers_adjoints_stand_in(solved) -> None:
    problem, trajectory = solved
    certificate = certify(problem, replace(trajectory, multipliers=None))
    assert certificate.multiplier_error is None
    assert certificate.passed()


def test_wrong_shapes_are_refused(solved) -> None:
    problem, trajectory = solved
    with pytest.raises(ValueError, match="expected states"):
        certify(problem, replace(trajectory, states=trajectory.states[:-1]))
