"""The suite over long horizons: gradients, noise floors and Lyapunov exponents are right, and it runs in small."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import casadi as ca
import numpy as np
import pytest

import ocp_nn

SCRIPTS = str(Path(__file__).parents[1] / "scripts")


@pytest.fixture(scope="module")
def suite():
    sys.path.insert(0, SCRIPTS)
    try:
        import long_horizon_suite
    finally:
        sys.path.remove(SCRIPTS)
    return long_horizon_suite


def test_back_propagation_through_time_is_the_gradient_of_the_simulation(suite):
    from horizon_suite.methods import Simulation

    rng = np.random.default_rng(0)
    model = ocp_nn.StateSpaceModel(num_states=2, num_inputs=1, num_outputs=2, hidden_layer_sizes=(3,))
    records = [(rng.standard_normal((length, 1)), rng.standard_normal((length, 2))) for length in (12, 9)]
    records[0][1][4, 1] = np.nan
    weights = [0.5, 2.0]
    problem = ocp_nn.IdentificationProblem(model, records, 0.1, output_weight=weights, initial_weight=0.3)
    simulation = Simulation(problem)
    theta, initial = 0.3 * rng.standard_normal(model.num_parameters), rng.standard_normal((2, 2))
    z = simulation.packed(theta, initial)
    value, gradient = simulation(z)
    states = problem.simulated(theta, initial)
    outputs = tuple(problem.values(theta, states)[1])
    assert value == pytest.approx(problem.cost([theta], outputs, initial), rel=1e-13)
    step = 1e-6 * np.eye(len(z))
    differences = [(simulation(z + e)[0] - simulation(z - e)[0]) / 2e-6 for e in step]
    np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=1e-8)


def test_the_exponent_of_lorenz_is_that_of_the_literature(suite):
    x, theta = ca.SX.sym("x", 3), ca.SX.sym("theta", 1)
    flow = ca.vertcat(theta * (x[1] - x[0]), x[0] * (28 - x[2]) - x[1], x[0] * x[1] - 8 / 3 * x[2])
    model = ocp_nn.StateSpaceModel.from_ode(
        ca.Function("f", [x, theta], [flow]), ca.Function("g", [x, theta], [x[0]]), sampling_time=0.05, steps=4
    )
    problem = ocp_nn.IdentificationProblem(model, [(None, np.zeros((5, 1)))])
    found = suite.measures.lyapunov_exponent(problem, np.array([10.0]), np.array([1.0, 1.0, 25.0]))
    assert found / suite.problems.LORENZ_STEP == pytest.approx(suite.problems.EXPONENT, rel=0.03)


def test_a_model_that_overflows_has_no_exponent(suite):
    x, theta = ca.SX.sym("x"), ca.SX.sym("theta")
    doubling = ca.Function("f", [x, theta], [theta * x])
    model = ocp_nn.StateSpaceModel(dynamics=doubling, output=ca.Function("g", [x, theta], [x]))
    problem = ocp_nn.IdentificationProblem(model, [(None, np.zeros((5, 1)))])
    assert np.isnan(suite.measures.lyapunov_exponent(problem, np.array([2.0]), np.ones(1)))


@pytest.mark.parametrize("name", ["lorenz-150", "duffing-150", "pendulum-150", "chain-90"])
def test_the_floor_is_that_of_two_per_cent_of_noise(suite, name):
    problem = suite.problems.problem(name, 0)
    samples = problem.identification.weights.sum()
    per_sample = np.sqrt(2 * problem.floor / samples)
    # the pendulum's noise is 2 % of the deviation that it has over many steps
    assert per_sample == pytest.approx(0.02, rel=0.2 if name != "pendulum-150" else 0.6)
    assert problem.floor < 1e-2 * problem.identification.null_objective
    other = suite.problems.problem(name, 1)
    assert not np.allclose(problem.identification.y, other.identification.y)


def test_a_name_without_a_system_or_a_horizon_is_refused(suite):
    for name in ("lorenz", "lorenz-x", "rossler-100"):
        with pytest.raises(ValueError, match="a problem must be 'tanks' or one of lorenz"):
            suite.problems.problem(name, 0)
    with pytest.raises(ValueError, match="--data must name the folder"):
        suite.problems.problem("tanks", 0)


def test_success_needs_the_floor_and_closed_defects(suite):
    problem = suite.problems.problem("duffing-60", 0)
    watch = suite.measures.Watch(problem, 100.0, stops=True)
    fits = [(2.0, 0.0), (1.0, 1e-5), (1.04, 1e-7), (0.9, 0.0)]
    watch.replace_trace(
        [suite.measures.Point(float(i), fit * problem.floor, 1.0, defect) for i, (fit, defect) in enumerate(fits)]
    )
    assert watch.success == 2.0 and watch.is_over


@pytest.fixture(scope="module")
def small(suite, tmp_path_factory):
    folder = tmp_path_factory.mktemp("suite")
    files = {name: folder / f"a.{name}" for name in ("json", "markdown", "figure")}
    files["figure"] = folder / "a.png"
    command = ["--quick", "--budget", "0.2", "--methods", "ours", "teacher forcing", "BPTT, Adam 0.01"]
    suite.main(command + [part for name, path in files.items() for part in (f"--{name}", str(path))])
    return files


def test_it_runs_in_small(small):
    results = json.loads(small["json"].read_text())
    assert len(results["runs"]) == 6
    assert all(not run["status"].startswith(("failed", "ended:")) for run in results["runs"])
    assert all(run["objective"] is None or run["objective"] > 0 for run in results["runs"])
    assert "| duffing-100 | " in small["markdown"].read_text()
    assert small["figure"].stat().st_size > 10_000


def test_resumed_it_runs_nothing_and_redrawn_it_says_the_same(suite, small, monkeypatch, tmp_path):
    before = small["json"].read_text()
    monkeypatch.setattr(suite.measures, "run", None)
    methods = ["--methods", "ours", "teacher forcing", "BPTT, Adam 0.01"]
    suite.main(["--quick", *methods, "--json", str(small["json"]), "--resume"])
    suite.main(["--redraw", str(small["json"]), "--markdown", str(tmp_path / "b.md")])
    assert (tmp_path / "b.md").read_text() == small["markdown"].read_text()
    assert small["json"].read_text() == before


def test_of_a_run_that_two_files_have_the_later_one_counts(suite, small, tmp_path):
    other = json.loads(small["json"].read_text())
    other["runs"] = [other["runs"][0] | {"status": "again"}]
    again = tmp_path / "again.json"
    again.write_text(json.dumps(other))
    runs = suite.results_of([small["json"], again])["runs"]
    assert [run["status"] for run in runs].count("again") == 1 and len(runs) == 6


def test_jax_sysid_is_a_method_where_it_is_installed(suite):
    from horizon_suite import jax_peer, methods

    assert (jax_peer.JAX_SYSID in methods.METHODS) == jax_peer.is_there()
