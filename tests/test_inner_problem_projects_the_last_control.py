"""A projected L_beta has the last control that is best for its state: the ridge regression of the last layer."""

from __future__ import annotations

from dataclasses import replace

import casadi as ca
import numpy as np
import pytest
from subproblems import INF, as_symbolic

from ocp_nn import Dense, Network, TrainingProblem
from ocp_nn.forward_dp import prepare
from ocp_nn.solvers.augmented_lagrangian import reuse as reuse_module
from ocp_nn.solvers.augmented_lagrangian.damping import Damping
from ocp_nn.solvers.augmented_lagrangian.gauss_newton import minimise
from ocp_nn.solvers.augmented_lagrangian.lagrangian import AugmentedLagrangian
from ocp_nn.solvers.augmented_lagrangian.linearisation import Method

NETWORKS = {
    "one output": Network.mlp([2, 4, 4, 1]),
    "several outputs": Network.mlp([2, 4, 3, 5]),
    "relu": Network.mlp([2, 6, 2], "relu"),
    "one layer": Network.mlp([3, 2]),
}
PENALTIES = {"finite": (3.0, 40.0), "mixed": (3.0, INF), "infinite": (INF, INF)}


def problem_of(network, weight_decay=0.1, samples=12, seed=0):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((samples, network.num_inputs)), rng.standard_normal((samples, network.num_outputs))
    return TrainingProblem(network, x, y, weight_decay)


def place(problem, penalty, seed=0):
    """L_beta, not projected, with random multipliers, and random controls and states."""
    rng = np.random.default_rng(seed)
    controls = tuple(u + 0.2 * rng.standard_normal(u.shape) for u in problem.network.init_controls(seed))
    states = (problem.x, *(s + 0.1 * rng.standard_normal(s.shape) for s in problem.rollout(controls).states[1:]))
    multipliers = tuple(rng.standard_normal(s.shape) for s in states[1:])
    return AugmentedLagrangian(problem, multipliers, penalty[: len(multipliers)]), controls, states


def normal_residual(problem, point):
    """[x 1]' ([x 1] U - y) + rho U for the last control U and the state before it."""
    inputs = np.column_stack([point.states[-1], np.ones(problem.num_samples)])
    table = point.controls[-1].reshape(inputs.shape[1], -1)
    return inputs.T @ (inputs @ table - problem.y) + problem.weight_decay * table


def evaluated_points(lagrangian, controls, states):
    """A plain evaluation and a slack rollout of a step."""
    point = lagrangian.at(controls, states)
    step = prepare(lagrangian.subproblem(point, 0.5)).step()
    moved = tuple(u + du for u, du in zip(controls, step.controls, strict=True))
    return point, lagrangian.slack_rollout(moved, step.multipliers)


@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_every_point_satisfies_the_normal_equations_and_its_value_is_what_it_says(network, penalty):
    problem = problem_of(network)
    plain, controls, states = place(problem, penalty)
    lagrangian = replace(plain, projected=True)
    for point in evaluated_points(lagrangian, controls, states):
        assert np.abs(normal_residual(problem, point)).max() < 1e-11
        same = plain.at(point.controls, point.states)
        assert point.value == pytest.approx(same.value, rel=1e-13)
        np.testing.assert_array_equal(point.outputs[-1], same.outputs[-1])
    assert np.abs(normal_residual(problem, plain.at(controls, states))).max() > 0.1


@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_nothing_but_the_last_control_changes_and_the_value_only_falls(network, penalty):
    for seed in range(5):
        problem = problem_of(network, seed=seed)
        plain, controls, states = place(problem, penalty, seed)
        point, before = replace(plain, projected=True).at(controls, states), plain.at(controls, states)
        assert point.value < before.value
        for kind in ("states", "defects"):
            for a, b in zip(getattr(point, kind), getattr(before, kind), strict=True):
                np.testing.assert_array_equal(a, b)
        for a, b in zip(point.controls[:-1], controls[:-1], strict=True):
            np.testing.assert_array_equal(a, b)
        # no other last control is better
        rng = np.random.default_rng(seed)
        for _ in range(5):
            other = (*controls[:-1], point.controls[-1] + 0.01 * rng.standard_normal(controls[-1].shape))
            assert plain.at(other, states).value > point.value


@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_the_subproblems_that_are_trusted_would_pass_their_checks(network, penalty):
    plain, controls, states = place(problem_of(network), penalty)
    for lagrangian in (plain, replace(plain, projected=True)):
        trusted = lagrangian.subproblem(lagrangian.at(controls, states), 0.1)
        checked = replace(trusted)  # made anew, checks and all
        assert all(
            a is b for a, b in zip(trusted.controls + trusted.gaps, checked.controls + checked.gaps, strict=True)
        )


@pytest.mark.parametrize("method", [Method(), Method(second_order=True)], ids=["Gauss-Newton", "second order"])
def test_all_steps_go_from_one_projected_point_to_another(method, monkeypatch):
    """Earlier factorisations included: every linearisation after the first step is at such a point."""
    monkeypatch.setattr(reuse_module, "_WORTH_REUSING", 0.0)
    problem = problem_of(NETWORKS["several outputs"])
    plain, controls, _ = place(problem, PENALTIES["infinite"])
    lagrangian = replace(plain, projected=True)
    point = lagrangian.at(controls, problem.rollout(controls).states)
    values = [point.value]
    for count in range(1, 6):
        result = minimise(lagrangian, point, Damping(0.1), tolerance=lambda _: 0.0, max_steps=count, method=method)
        assert np.abs(normal_residual(problem, result.point)).max() < 1e-10
        values.append(result.point.value)
    assert np.all(np.diff(values) < 0)


def test_one_layer_is_solved_by_its_evaluation():
    problem = problem_of(NETWORKS["one layer"])
    lagrangian = AugmentedLagrangian(problem, (), (), projected=True)
    point = lagrangian.at(problem.network.init_controls(0), (problem.x,))
    gradient = lagrangian.gradient(point, lagrangian.subproblem(point, 0.1))[0]
    assert np.abs(np.concatenate(gradient)).max() < 1e-12


def deficient_states(samples=12):
    """States before the last layer that do not have full rank, with the constant column or without."""
    rng = np.random.default_rng(0)
    one, two = rng.standard_normal((2, samples, 1))
    return {
        "repeated": np.hstack([one, one, two]),
        "zero": np.hstack([one, np.zeros((samples, 1)), two]),
        "constant": np.hstack([one, two, np.full((samples, 1), 0.7)]),
        "sum": np.hstack([one, two, one + two]),
        "nearly repeated": np.hstack([one, one + 1e-9 * two, two]),
        "all zero": np.zeros((samples, 3)),
        "huge": 1e8 * np.hstack([one, one, two]),
    }


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("name", deficient_states())
def test_without_weight_decay_and_rank_it_stays_finite_and_no_worse(name, outputs):
    network = Network.mlp([1, 3, outputs])
    problem = problem_of(network, weight_decay=0.0)
    plain, controls, _ = place(problem, (3.0,))
    states = (problem.x, deficient_states()[name])
    before, point = plain.at(controls, states), replace(plain, projected=True).at(controls, states)
    assert point.is_finite and np.isfinite(point.controls[-1]).all()
    assert point.value <= before.value * (1 + 1e-12)


def test_fewer_samples_than_weights_without_weight_decay_are_no_worse_either():
    for seed in range(20):
        problem = problem_of(Network.mlp([2, 8, 2]), weight_decay=0.0, samples=3, seed=seed)
        plain, controls, states = place(problem, (3.0,), seed)
        point = replace(plain, projected=True).at(controls, states)
        assert point.is_finite and point.value <= plain.at(controls, states).value * (1 + 1e-12)


@pytest.mark.parametrize("weight_decay", [0.0, 1e-12])
@pytest.mark.parametrize("distance", [1e-7, 1e-9, 1e-11])
def test_nearly_dependent_states_never_make_the_best_control_worse(distance, weight_decay):
    """The squared condition number is beyond floating point; the control of a least-squares solve comes in."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        problem = problem_of(Network.mlp([1, 4, 1]), weight_decay, samples=18, seed=seed)
        state = rng.standard_normal((18, 4))
        state[:, 1:] = state[:, :1] @ rng.standard_normal((1, 3)) + distance * state[:, 1:]
        plain, controls, _ = place(problem, (1e-6,), seed)
        rows = np.vstack([np.column_stack([state, np.ones(18)]), np.sqrt(weight_decay) * np.eye(5)])
        best = np.linalg.lstsq(rows, np.vstack([problem.y, np.zeros((5, 1))]), rcond=1e-15)[0]
        controls = (*controls[:-1], best.ravel())
        before = plain.at(controls, (problem.x, state))
        after = replace(plain, projected=True).at(controls, (problem.x, state))
        assert after.value <= before.value + 1e-12 * (abs(before.value) + before.objective), seed


@pytest.mark.parametrize(
    "last", [Dense(3, 2, "tanh"), Dense(3, 3, "identity", residual=True)], ids=["nonlinear", "residual"]
)
def test_a_last_layer_that_is_not_affine_keeps_its_control(last):
    problem = problem_of(Network([Dense(2, 3), last]))
    plain, controls, states = place(problem, (3.0,))
    point = replace(plain, projected=True).at(controls, states)
    np.testing.assert_array_equal(point.controls[-1], controls[-1])
    assert point.value == plain.at(controls, states).value


def test_a_symbolic_last_layer_keeps_its_control():
    x, u = ca.SX.sym("x", 3), ca.SX.sym("u", 3)
    for network in (as_symbolic(Network.mlp([2, 3, 1])), Network([Dense(2, 3), ca.Function("f", [x, u], [x * u])])):
        problem = problem_of(network)
        plain, controls, states = place(problem, (3.0,))
        point = replace(plain, projected=True).at(controls, states)
        np.testing.assert_array_equal(point.controls[-1], controls[-1])
