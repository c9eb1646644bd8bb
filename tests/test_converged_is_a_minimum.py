"""A solve that says converged has ended at a minimum to second order; saddles are left, kinks are called so."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import eigh

import ocp_nn
from ocp_nn import Network, Options, Status, TrainingProblem, certify, solve
from ocp_nn.learning.data import load_dataset
from ocp_nn.problem.curvature import reduced_hessian
from ocp_nn.problem.kinks import distance_to_kink, is_at_kink
from ocp_nn.solvers.augmented_lagrangian.lanczos import smallest_curvature
from ocp_nn.solvers.augmented_lagrangian.minimum import curvature_at, is_minimum, way_down

FIRST_ORDER = Options(second_order=False)


def problem_of(hidden=(6,), weight_decay=10.0, activation="tanh", samples=None, loss="squared"):
    data = load_dataset("diabetes")
    rows = slice(samples)
    x, y = ((a - a.mean(0)) / a.std(0) for a in (data.x[rows], data.y[rows].reshape(-1, 1)))
    if loss == "logistic":
        y = (y > 0).astype(float)
    network = Network.mlp([x.shape[1], *hidden, 1], activation)
    return TrainingProblem(network, x, y, weight_decay=weight_decay, loss=loss)


def alike(problem, value=0.1):
    """Controls that keep the units of a layer together: gradients do not part them."""
    return [np.full(length, value) for length in problem.block_lengths]


def pencil(problem, controls):
    """Eigenvalues of the Hessian in the metric of Gauss-Newton's, and vectors, dense: the oracle."""
    metric = reduced_hessian(problem, controls, gauss_newton=True)
    slope = np.trace(metric) / len(metric) - problem.weight_decay
    return eigh(reduced_hessian(problem, controls), metric + 1e-3 * slope * np.eye(len(metric)))


@pytest.fixture(scope="module")
def saddle():
    """A problem and a saddle of it, where first-order conditions hold."""
    problem = problem_of()
    result = solve(problem, alike(problem), options=FIRST_ORDER)
    assert result.success and result.certificate.passed() and result.curvature is None
    return problem, result


# ---- the Lanczos method


@pytest.mark.parametrize("size", [1, 2, 30])
@pytest.mark.parametrize("negative", [0, 1])
def test_the_smallest_curvature_is_that_of_the_pencil(size, negative):
    rng = np.random.default_rng(size)
    root = rng.standard_normal((size, size)) + 2 * np.eye(size)
    metric = root @ root.T
    values = np.linspace(0.2, 1.5, size)
    values[0] = -0.3 if negative else 0.2
    basis = np.linalg.qr(rng.standard_normal((size, size)))[0]
    hessian = root @ (basis * values) @ basis.T @ root.T
    found = smallest_curvature(
        lambda v: hessian @ v,
        lambda v: np.linalg.solve(metric, v),
        rng.standard_normal(size),
        negligible=1e-9,
    )
    assert found.value == pytest.approx(values[0], rel=0.02) and found.products <= size
    assert found.vector @ metric @ found.vector == pytest.approx(1.0)
    assert found.vector @ hessian @ found.vector == pytest.approx(found.value)
    residual = hessian @ found.vector - found.value * (metric @ found.vector)
    assert np.sqrt(residual @ np.linalg.solve(metric, residual)) == pytest.approx(found.error, abs=1e-8)


def test_products_are_bounded():
    rng = np.random.default_rng(0)
    diagonal = np.linspace(-1.0, 1.0, 400)
    found = smallest_curvature(
        lambda v: diagonal * v, lambda v: v, rng.standard_normal(400), negligible=1e-12, max_products=5
    )
    assert found.products == 5 and found.error > 0.01


@pytest.mark.parametrize("hidden", [(6,), (4, 4)])
@pytest.mark.parametrize("loss", ["squared", "huber", "logistic"])
@pytest.mark.parametrize("samples", [None, 12])
def test_the_curvature_at_controls_agrees_with_the_dense_pencil(hidden, loss, samples):
    problem = problem_of(hidden, 0.3, samples=samples, loss=loss)
    controls = problem.network.init_controls(seed=1)
    found = curvature_at(problem, controls, Options())
    values, _ = pencil(problem, controls)
    assert found.value == pytest.approx(values[0], rel=0.02, abs=1e-6)


# ---- saddles


def test_where_first_order_conditions_hold_at_a_saddle_the_solve_goes_on(saddle):
    problem, at_saddle = saddle
    values, _ = pencil(problem, at_saddle.trajectory.controls)
    assert values[0] < -0.01
    result = solve(problem, alike(problem))
    assert result.success and result.counts["escapes"] == 1
    assert result.objective < at_saddle.objective * (1 - 1e-3)
    values, _ = pencil(problem, result.trajectory.controls)
    assert values[0] > 0 and result.curvature == pytest.approx(values[0], rel=0.02)


def test_a_start_at_the_saddle_leaves_it(saddle):
    problem, at_saddle = saddle
    result = solve(problem, at_saddle.trajectory)
    assert result.success and result.counts["escapes"] == 1 and result.objective < at_saddle.objective


@pytest.mark.parametrize("shooting", ["single", "multiple", [1]])
def test_zero_weights_are_left_where_they_are_a_saddle(shooting):
    problem = problem_of((6, 6) if shooting == [1] else (6,), 3.0)
    start = [np.zeros(length) for length in problem.block_lengths]
    result = solve(problem, start, options=Options(shooting=shooting))
    if problem.num_stages == 3:  # with two hidden layers zero is a minimum: J is of third order there
        assert result.success and result.counts["escapes"] == 0 and result.curvature == pytest.approx(1.0, rel=2e-3)
    else:
        assert result.success and result.counts["escapes"] >= 1
        assert result.objective < 0.9 * problem.null_objective


def test_the_way_down_is_lower_to_both_sides(saddle):
    problem, at_saddle = saddle
    controls = at_saddle.trajectory.controls
    curvature = curvature_at(problem, controls, Options())
    assert not is_minimum(curvature.value, 1e-6) and is_minimum(None, 1e-6) and is_minimum(-0.9e-3, 1e-6)
    assert not is_minimum(-1.1e-3, 1e-6) and is_minimum(-1.1e-3, 1e-4)
    lower = way_down(problem, controls, curvature)
    assert lower.objective < at_saddle.objective
    assert lower.objective == pytest.approx(problem.objective(problem.rollout(lower.controls)))


def test_at_a_minimum_there_is_no_way_down():
    problem = problem_of()
    result = solve(problem)
    curvature = curvature_at(problem, result.trajectory.controls, Options())
    assert curvature.value == pytest.approx(result.curvature, rel=0.05)
    values, vectors = pencil(problem, result.trajectory.controls)
    pretended = type(curvature)(-1e-3, vectors[:, 0], 0)
    assert values[0] > 0 and way_down(problem, result.trajectory.controls, pretended) is None


def test_the_certificate_shows_the_curvature_and_refuses_a_saddle(saddle):
    problem, _ = saddle
    result = solve(problem)
    assert result.certificate.relative_curvature == result.curvature
    assert "smallest curvature, by the solver" in str(result.certificate)
    other = certify(problem, result.trajectory)
    assert other.relative_curvature is None and "by the solver" not in str(other)
    refused = type(other)(**vars(other) | {"relative_curvature": -1e-2})
    assert refused.failures() == ("negative curvature: -1.00e-02 of Gauss-Newton's is no minimum",)


def test_the_curvature_goes_along_in_files(tmp_path):
    result = solve(problem_of())
    result.save(tmp_path / "result.npz")
    loaded = ocp_nn.load(tmp_path / "result.npz")
    assert loaded.curvature == result.curvature > 0 and loaded.state.schedule.curvature == result.curvature
    assert loaded.counts["escapes"] == 0
    assert solve(loaded.problem, loaded).success


def test_files_from_before_the_count_are_read(tmp_path, monkeypatch):
    result = solve(problem_of(samples=20), options=Options(max_outer=2))
    old = {name: number for name, number in result.counts.items() if name != "escapes"}
    state = {name: number for name, number in result.state.counts.items() if name != "escapes"}
    for holder, counts in ((result, old), (result.state, state)):
        object.__setattr__(holder, "counts", counts)
    result.save(tmp_path / "old.npz")
    again = solve(result.problem, ocp_nn.load(tmp_path / "old.npz"))
    assert again.success and again.counts["escapes"] == 0


# ---- kinks


@pytest.mark.parametrize("hidden", [(6,), (4, 4)])
def test_relu_networks_end_at_kinks_and_the_status_says_so(hidden):
    problem = problem_of(hidden, 1.0, activation="relu", samples=100)
    result = solve(problem)
    assert result.status is Status.AT_KINK and "kink" in result.message and "smooth" in result.message
    assert not result.success and distance_to_kink(problem, result.trajectory.controls) < 1e-9


def test_dead_units_are_at_their_kink():
    problem = problem_of(activation="relu")
    zeros = [np.zeros(length) for length in problem.block_lengths]
    assert distance_to_kink(problem, zeros) == 0.0 and is_at_kink(problem, zeros)
    assert solve(problem, zeros, options=Options(max_restarts=0)).status is Status.AT_KINK


def test_the_distance_to_a_kink_is_that_of_the_nearest_unit_and_sample():
    problem = TrainingProblem(Network.mlp([1, 2, 1], "relu"), [[1.0], [2.0]], [[0.0], [1.0]])
    controls = [np.array([1.0, 1.0, -1.5, -1.0 + 1e-3]), np.ones(3)]  # a = x - 1.5 and x - 0.999
    assert distance_to_kink(problem, controls) == pytest.approx(1e-3 / 1.001)
    assert not is_at_kink(problem, controls)
    assert distance_to_kink(problem_of(), problem_of().init_controls()) == np.inf


# ---- the script


def test_the_suite_counts_saddles(capsys, tmp_path):
    sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
    try:
        suite = import_module("minima_suite")
    finally:
        sys.path.pop(0)
    assert suite.main(["--quick", "--markdown", str(tmp_path / "minima.md")]) == 0
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| all")]
    assert [row[3].strip() for row in rows] == ["4", "4", "4"]
    assert all(row[5].strip() == "0" for row in rows) and sum(int(row[7]) for row in rows) >= 2
    assert "minima_suite.py --quick" in (tmp_path / "minima.md").read_text()
    problem = suite.problem_of(suite.Case("diabetes", (6,), 10.0, "alike", 0), None)
    saddle = solve(problem, alike(problem), options=FIRST_ORDER)
    assert suite.smallest_eigenvalue(problem, saddle) < suite.NEGATIVE  # it can tell
