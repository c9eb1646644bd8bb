"""A solve that ends no better than linear least squares starts over where the data bend, and nowhere else.

Where that does not help, the result's notes say so; they are silent on every network that has learned more than a line.
"""

from __future__ import annotations

import json

import casadi as ca
import numpy as np
import pytest

import ocp_nn
from ocp_nn import Dense, Network, Options, Status, TrainingProblem, solve
from ocp_nn.cli import main
from ocp_nn.problem.straight_line import StraightLine


def third_of_sin2x():
    data = ocp_nn.load_dataset("sin2x")
    order = np.argsort(data.x[:, 0])
    return data.x[order][::3], data.y[order][::3]


# ---- the networks of notebook 8: x + V tanh(W x + b), and one Runge-Kutta step along V tanh(W x + b)


def vector_field(x, u, width=2, hidden=4):
    matrix, b, back = ca.vertsplit(u, [0, hidden * width, hidden * (width + 1), u.numel()])
    return ca.reshape(back, width, hidden) @ ca.tanh(ca.reshape(matrix, hidden, width) @ x + b)


def residual_block(x, u):
    return x + vector_field(x, u)


def runge_kutta(x, u):
    k1 = vector_field(x, u)
    k2 = vector_field(x + k1 / 2, u)
    k3 = vector_field(x + k2 / 2, u)
    return x + (k1 + 2 * k2 + 2 * k3 + vector_field(x + k3, u)) / 6


def symbolic_network(dynamics):
    x, u = ca.SX.sym("x", 2), ca.SX.sym("u", 20)
    stage = ca.Function("stage", [x, u], [dynamics(x, u)])
    return Network([Dense(1, 2, "identity"), stage, stage, stage, Dense(2, 1, "identity")])


NOTEBOOK = {"residual blocks": symbolic_network(residual_block), "neural ODE": symbolic_network(runge_kutta)}


@pytest.mark.parametrize("name", NOTEBOOK)
@pytest.mark.parametrize("seed", range(6))
def test_symbolic_networks_reach_the_curve_from_every_seed(name, seed):
    result = solve(TrainingProblem(NOTEBOOK[name], *third_of_sin2x(), 0.02), options=Options(seed=seed))
    assert result.status is Status.CONVERGED and result.objective < 0.3 and result.notes == ()
    assert result.certificate.passed()


@pytest.mark.parametrize("name", NOTEBOOK)
def test_without_restarts_they_end_at_a_line_and_the_notes_say_so(name):
    problem = TrainingProblem(NOTEBOOK[name], *third_of_sin2x(), 0.02)
    result = solve(problem, options=Options(max_restarts=0))
    assert result.status is Status.CONVERGED and result.certificate.passed()
    assert result.objective == pytest.approx(problem.line.objective, rel=1e-3)
    assert len(result.notes) == 1
    assert "no better than linear least squares (R2 0.216 against 0.216); random features" in result.notes[0]


# activation, hidden layers, skip connections, weight decay, seed; J of the line is 7.34
DENSE = [
    ("sigmoid", [3] * 4, True, 0.1, 2),
    ("sigmoid", [3] * 8, True, 0.1, 0),
    ("softplus", [3] * 4, False, 0.1, 2),
    ("relu", [2] * 3, False, 0.02, 1),
]


@pytest.mark.parametrize(("activation", "hidden", "residual", "weight_decay", "seed"), DENSE)
def test_dense_networks_leave_the_line(activation, hidden, residual, weight_decay, seed):
    network = Network.mlp([1, *hidden, 1], activation, residual)
    problem = TrainingProblem(network, *third_of_sin2x(), weight_decay)
    trapped, free = (solve(problem, options=Options(seed=seed, max_restarts=allowed)) for allowed in (0, 40))
    assert trapped.objective > 7.34 and len(trapped.notes) == 1
    assert free.objective < 3.0 and free.notes == ()


# ---- where a line is all there is


def along_a_line(samples, inputs, noise, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((samples, inputs))
    return x, x[:, :1] - 0.5 * x[:, -1:] + noise * rng.standard_normal((samples, 1))


@pytest.mark.parametrize("noise", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("network", [Network.mlp([3, 5, 5, 1]), Network.mlp([3, 5, 1], "relu")], ids=["tanh", "relu"])
def test_a_linear_truth_causes_no_restart(network, noise):
    problem = TrainingProblem(network, *along_a_line(200, 3, noise), 10.0)
    free, without = (solve(problem, options=Options(max_restarts=allowed)) for allowed in (40, 0))
    assert not problem.line.bends
    assert free.counts == without.counts
    np.testing.assert_array_equal(np.concatenate(free.model.controls), np.concatenate(without.model.controls))


def test_diabetes_patients_cause_no_restart():
    """A network is no better than linear regression there, and the default says that."""
    data = ocp_nn.load_dataset("diabetes")
    problem = ocp_nn.learning.experiment.Experiment.prepare(data).problem(30.0)
    result = solve(problem)
    assert result.counts["restarts"] == 0
    assert "nor do random features" in result.notes[0]


def test_identity_networks_are_lines_and_nothing_is_said():
    network = Network.mlp([1, 3, 1], "identity")
    result = solve(TrainingProblem(network, *third_of_sin2x(), 1e-3), options=Options(max_outer=200))
    assert network.is_affine and result.counts["restarts"] == 0 and result.notes == ()
    assert not Network.mlp([1, 3, 1]).is_affine and not NOTEBOOK["neural ODE"].is_affine


def test_restarts_in_vain_are_three_and_leave_what_was_found():
    """Weight decay holds the network at the line; each restart is a fresh solve's first phase."""
    problem = TrainingProblem(Network.mlp([1, 3, 3, 1], "sigmoid", residual=True), *third_of_sin2x(), 1.0)
    assert problem.line.bends
    without, tried = (solve(problem, options=Options(max_restarts=allowed)) for allowed in (0, 40))
    assert tried.counts["restarts"] == 3
    assert tried.status is without.status is Status.CONVERGED
    assert tried.objective == pytest.approx(without.objective, rel=1e-6) and tried.certificate.passed()
    assert tried.counts["least_squares"] < 6 * without.counts["least_squares"]
    assert len(tried.notes) == 1


def test_a_restart_whose_weights_overflow_goes_on_from_the_best():
    x, u = ca.SX.sym("x", 1), ca.SX.sym("u", 3)
    steep = ca.Function("steep", [x, u], [ca.exp(ca.exp(1e6 * u[0] ** 2 * x**2)) - np.e + u[1] * x + u[2]])
    problem = TrainingProblem(Network([steep, steep]), *third_of_sin2x(), 1e-3)
    result = solve(problem, [np.array([0.0, 0.5, 0.0])] * 2, options=Options(max_outer=100))
    assert result.status is Status.CONVERGED and result.counts["restarts"] == 3
    assert result.objective == pytest.approx(problem.line.objective, rel=1e-3)


# ---- the yardstick


def test_the_line_is_that_of_numpy():
    x, y = along_a_line(50, 4, 0.3)
    y = np.hstack([y, y**2])
    line = StraightLine(x, y, 1e-3)
    inputs = np.column_stack([x, np.ones(50)])
    squares = np.sum((inputs @ np.linalg.lstsq(inputs, y, rcond=None)[0] - y) ** 2)
    assert line.objective == pytest.approx(0.5 * squares, rel=1e-12)
    assert line.mean_objective == pytest.approx(0.5 * np.sum((y - y.mean(axis=0)) ** 2), rel=1e-12)
    controls = [np.array([1.0, 2.0]), np.array([3.0])]
    assert line.squares(10.0, controls) == pytest.approx(10.0 - 0.5 * 1e-3 * 14.0)
    assert line.share_explained(line.mean_objective) == 0.0 and line.matches(line.objective)
    assert not line.matches(0.98 * line.objective)


@pytest.mark.parametrize("samples", [20, 100, 400])
@pytest.mark.parametrize("inputs", [1, 5])
def test_noise_along_a_line_seldom_bends(samples, inputs):
    bends = [StraightLine(*along_a_line(samples, inputs, 1.0, seed), 1e-3).bends for seed in range(40)]
    assert sum(bends) <= 4


@pytest.mark.parametrize("name", ["sin2x", "friedman"])
def test_curves_bend_unless_weight_decay_forbids_it(name):
    data = ocp_nn.load_dataset(name)
    y = (data.y - data.y.mean()) / data.y.std()
    assert StraightLine(data.x, y, 1e-2).bends
    assert not StraightLine(data.x, y, 1e4).bends


AWKWARD = {
    "more inputs than samples": (np.eye(4, 9), np.arange(4.0)[:, None]),
    "one sample": (np.ones((1, 2)), np.ones((1, 1))),
    "constant inputs": (np.ones((30, 2)), np.arange(30.0)[:, None]),
    "constant targets": (np.arange(30.0)[:, None], np.full((30, 1), 0.1)),
    "inputs near overflow": (1.7e308 * (-1.0) ** np.arange(60).reshape(30, 2), np.arange(30.0)[:, None]),
    "targets whose squares overflow": (np.arange(30.0)[:, None], 1e160 * np.cos(np.arange(30.0))[:, None]),
}


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_data_do_not_bend_and_do_not_warn(name):
    line = StraightLine(*AWKWARD[name], 1e-3)
    assert not line.bends and not np.isnan(line.objective)


# ---- notes


def test_a_deep_network_that_stays_at_the_mean_says_so():
    problem = TrainingProblem(Network.mlp([1, *[5] * 10, 1], "sigmoid"), *third_of_sin2x(), 1e-3)
    options = Options(shooting="single", initialisation="standard", max_restarts=0)
    result = solve(problem, options=options)
    assert len(result.notes) == 1 and "no better than their mean does (R2 0.0" in result.notes[0]


def test_constant_targets_are_nothing_to_explain():
    x = np.linspace(-1, 1, 20)[:, None]
    assert solve(TrainingProblem(Network.mlp([1, 3, 1]), x, np.full((20, 1), 0.1))).notes == ()


def held_at_a_line_by_seed_0():
    return TrainingProblem(Network.mlp([1, *[3] * 8, 1], "sigmoid", residual=True), *third_of_sin2x(), 0.1)


def test_notes_come_back_from_a_file_and_are_not_asked_of_older_ones(tmp_path):
    result = solve(held_at_a_line_by_seed_0(), options=Options(max_restarts=0))
    result.save(tmp_path / "new.npz")
    assert ocp_nn.load(tmp_path / "new.npz").notes == result.notes != ()
    with np.load(tmp_path / "new.npz") as file:
        arrays = dict(file)
    meta = json.loads(str(arrays.pop("meta")))
    del arrays["meta_sha256"], meta["digests"], meta["result"]["notes"], meta["state"]["fresh"]
    np.savez(tmp_path / "old.npz", meta=np.array(json.dumps(meta)), **arrays)
    old = ocp_nn.load(tmp_path / "old.npz")
    assert old.notes == () and not old.state.schedule.fresh


def test_a_solve_goes_on_from_a_file_after_a_restart_with_new_weights(tmp_path):
    """The kind of the last restart decides how many steps an iteration has."""
    problem = held_at_a_line_by_seed_0()
    whole = solve(problem)
    soft = [record.phase == "augmented Lagrangian" for record in whole.history]
    first = next(k for k in range(1, len(soft)) if soft[k] and not soft[k - 1])
    part = solve(problem, options=Options(max_outer=first + 1))
    assert part.counts["restarts"] == 1 and part.state.schedule.fresh and part.state.schedule.finish is None
    part.save(tmp_path / "part.npz")
    on = solve(problem, ocp_nn.load(tmp_path / "part.npz"))
    assert on.counts == whole.counts
    np.testing.assert_array_equal(np.concatenate(on.model.controls), np.concatenate(whole.model.controls))


def test_the_command_line_shows_notes(tmp_path, capsys):
    common = ["fit", "sin2x", "--hidden", "3,3", "--reference", "none"]
    assert main([*common, "--weight-decay", "1e3", "--out", str(tmp_path / "flat")]) == 0
    assert "note: The network explains the targets no better than their mean" in " ".join(
        capsys.readouterr().out.split()
    )
    note, *_ = json.loads((tmp_path / "flat" / "summary.json").read_text())["notes"]
    assert note.startswith("The network explains the targets no better than their mean")
    main([*common, "--weight-decay", "1e-3"])
    assert "note:" not in capsys.readouterr().out
