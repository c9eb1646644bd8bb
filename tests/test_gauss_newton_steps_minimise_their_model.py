"""A Gauss-Newton step minimises a model whose value, gradient and trial points are what the docstrings say.

The model's value is held against :meth:`Subproblem.value`, written from the definition; gradients against central
differences of L_beta; the single-shooting step against the normal equations of a Jacobian by central differences.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from oracles import reduced_inverse
from subproblems import DENSE, GENERIC, INF

from ocp_nn import Network, TrainingProblem
from ocp_nn.forward_dp import prepare
from ocp_nn.solvers.augmented_lagrangian.damping import Damping, first_damping
from ocp_nn.solvers.augmented_lagrangian.gauss_newton import minimise
from ocp_nn.solvers.augmented_lagrangian.lagrangian import AugmentedLagrangian
from ocp_nn.solvers.augmented_lagrangian.linearisation import Linearisation, Method
from ocp_nn.solvers.augmented_lagrangian.trial_points import gains

NETWORKS = {name: net for name, net in (DENSE | GENERIC).items() if net.num_stages > 1}
SMOOTH = {name: net for name, net in NETWORKS.items() if name != "relu"}
PENALTIES = {"finite": (3.0, 40.0, 0.5, 7.0), "mixed": (3.0, INF, 40.0, INF), "infinite": (INF,) * 4}


def lagrangian_and_point(network, penalty, *, samples=5, seed=0, weight_decay=0.1):
    """L_beta with random multipliers at random controls and states off the rollout."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((samples, network.num_inputs)), rng.standard_normal((samples, network.num_outputs))
    problem = TrainingProblem(network, x, y, weight_decay)
    rollout = problem.rollout([u + 0.2 * rng.standard_normal(u.shape) for u in network.init_controls(seed)])
    states = (x, *(s + 0.1 * rng.standard_normal(s.shape) for s in rollout.states[1:]))
    multipliers = tuple(rng.standard_normal(s.shape) for s in states[1:])
    lagrangian = AugmentedLagrangian(problem, multipliers, tuple(penalty[: network.num_stages - 1]))
    return lagrangian, lagrangian.at(rollout.controls, states)


def completed_squares(lagrangian):
    """sum_k ||lambda_{k+1}||^2 / (2 beta_k): what completing the squares adds to L_beta."""
    pairs = zip(lagrangian.multipliers, lagrangian.penalty, strict=True)
    return sum(0.5 * float(np.vdot(m, m)) / beta for m, beta in pairs if np.isfinite(beta))


def moved(lagrangian, point, du, dx, length):
    controls = tuple(u + length * d for u, d in zip(point.controls, du, strict=True))
    return lagrangian.at(controls, tuple(x + length * d for x, d in zip(point.states, dx, strict=True)))


@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("form", ["dual", "primal"])
def test_the_predicted_value_is_the_subproblems(network, penalty, form):
    lagrangian, point = lagrangian_and_point(network, penalty)
    subproblem = lagrangian.subproblem(point, damping=0.3)
    here = subproblem.value(tuple(map(np.zeros_like, point.controls)), tuple(map(np.zeros_like, point.states)))
    assert here - completed_squares(lagrangian) == pytest.approx(point.value, rel=1e-12)
    step = prepare(subproblem, form).step()
    damping = 0.5 * 0.3 * sum(float(d @ d) for d in step.controls)
    expected = subproblem.value(step.controls, step.states) - damping - completed_squares(lagrangian)
    assert lagrangian.predicted_value(point, step) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
@pytest.mark.parametrize("network", SMOOTH.values(), ids=SMOOTH)
def test_the_gradient_is_that_of_finite_differences(network, penalty):
    lagrangian, point = lagrangian_and_point(network, penalty)
    in_controls, in_states = lagrangian.gradient(point, lagrangian.subproblem(point, 0.1))
    no_du, no_dx = (tuple(map(np.zeros_like, arrays)) for arrays in (point.controls, point.states))
    for k in range(network.num_stages):
        du, dx = only(k, point.controls), only(k, point.states)
        predicted = float(in_controls[k] @ du[k])
        assert slope(lagrangian, point, du, no_dx) == pytest.approx(predicted, rel=1e-6, abs=1e-7)
        if k:
            predicted = float(np.vdot(in_states[k - 1], dx[k]))
            assert slope(lagrangian, point, no_du, dx) == pytest.approx(predicted, rel=1e-6, abs=1e-7)


def only(k, arrays):
    """A random direction in the k-th of the arrays, zero in the others."""
    rng = np.random.default_rng(k)
    return tuple(rng.standard_normal(a.shape) if j == k else np.zeros_like(a) for j, a in enumerate(arrays))


def slope(lagrangian, point, du, dx, length=1e-5):
    ahead, behind = (moved(lagrangian, point, du, dx, sign * length) for sign in (1.0, -1.0))
    return (ahead.value - behind.value) / (2 * length)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_an_eliminated_state_has_no_defect_and_no_gradient(network):
    lagrangian, point = lagrangian_and_point(network, PENALTIES["mixed"])
    _, in_states = lagrangian.gradient(point, lagrangian.subproblem(point, 0.1))
    for beta, defect, gradient in zip(lagrangian.penalty, point.defects, in_states, strict=True):
        assert np.any(defect) == np.isfinite(beta)
        assert np.any(gradient) == np.isfinite(beta)


@pytest.mark.parametrize("network", SMOOTH.values(), ids=SMOOTH)
def test_infinite_penalties_give_the_single_shooting_step(network):
    lagrangian, point = lagrangian_and_point(network, PENALTIES["infinite"])
    problem, damping = lagrangian.problem, 0.2
    flat = np.concatenate(point.controls)

    def residual(controls):
        return (network.predict(network.split(controls), problem.x) - problem.y).ravel()

    h = 1e-6
    jacobian = np.array([(residual(flat + h * e) - residual(flat - h * e)) / (2 * h) for e in np.eye(len(flat))]).T
    normal = jacobian.T @ jacobian + (problem.weight_decay + damping) * np.eye(len(flat))
    expected = -np.linalg.solve(normal, jacobian.T @ residual(flat) + problem.weight_decay * flat)
    step = prepare(lagrangian.subproblem(point, damping)).step()
    np.testing.assert_allclose(np.concatenate(step.controls), expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_the_slack_rollout_keeps_the_predicted_slacks(network):
    lagrangian, point = lagrangian_and_point(network, PENALTIES["mixed"])
    step = prepare(lagrangian.subproblem(point, 0.1)).step()
    rolled = lagrangian.slack_rollout(point.controls, step.multipliers)
    for eta, multiplier, beta, defect in zip(
        step.multipliers, lagrangian.multipliers, lagrangian.penalty, rolled.defects, strict=False
    ):
        np.testing.assert_allclose(defect, (eta - multiplier) / beta, atol=1e-14)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_for_a_small_step_both_trial_points_keep_the_slacks_to_first_order(network):
    """The linear trial misses them by the curvature of the stages, a second-order term."""
    lagrangian, point = lagrangian_and_point(network, PENALTIES["finite"])
    step = prepare(lagrangian.subproblem(point, 1e5)).step()
    linear = moved(lagrangian, point, step.controls, step.states, 1.0)
    for k, defect in enumerate(linear.defects):
        slack = (step.multipliers[k] - lagrangian.multipliers[k]) / lagrangian.penalty[k]
        change = max(np.abs(step.states[k]).max(), np.abs(step.controls[k]).max())
        assert np.abs(defect - slack).max() <= 20 * change**2 + 1e-13


def run(lagrangian, point, damping=1e-2, **settings):
    defaults = {"tolerance": lambda first: 0.0, "max_steps": 30}
    return minimise(lagrangian, point, Damping(damping), **(defaults | settings))


@pytest.mark.parametrize(
    "method",
    [Method(), Method(acceleration=False), Method(globalisation="armijo")],
    ids=["accelerated", "plain", "armijo"],
)
@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
def test_every_step_decreases_the_augmented_lagrangian(penalty, method):
    lagrangian, point = lagrangian_and_point(Network.mlp([1, 4, 4, 1]), penalty, samples=20)
    values = [point.value]
    for count in range(1, 8):
        result = run(lagrangian, point, max_steps=count, method=method)
        assert result.steps == count <= result.solves
        values.append(result.point.value)
    assert np.all(np.diff(values) < 0)


def test_armijo_walks_the_linear_step_alone():
    """One full step with a finite penalty is (u + du, x + dx), not the slack rollout."""
    lagrangian, point = lagrangian_and_point(Network.mlp([1, 4, 4, 1]), PENALTIES["finite"], samples=20)
    step = prepare(lagrangian.subproblem(point, 100.0)).step(refinements=0)
    result = run(lagrangian, point, 100.0, max_steps=1, method=Method(globalisation="armijo", form="dual"))
    for before, change, after in zip(point.states, step.states, result.point.states, strict=True):
        np.testing.assert_allclose(after, before + change, atol=1e-9)


@pytest.mark.parametrize("acceleration", [True, False])
@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
def test_the_accelerated_step_is_the_corrected_one(penalty, acceleration):
    """From a rollout without multipliers, where states move no further than controls move them."""
    lagrangian, _ = lagrangian_and_point(Network.mlp([1, 4, 4, 1]), penalty, samples=20)
    lagrangian = replace(lagrangian, multipliers=tuple(map(np.zeros_like, lagrangian.multipliers)))
    rollout = lagrangian.problem.rollout(lagrangian.problem.network.init_controls(0))
    point = lagrangian.at(rollout.controls, rollout.states)
    damped = prepare(lagrangian.subproblem(point, 10.0), "dual").damped()
    plain = damped.step(refinements=0)
    corrected = damped.corrected(plain, 0.375)
    assert corrected is not plain
    step = corrected if acceleration else plain
    linear = moved(lagrangian, point, step.controls, step.states, 1.0)
    trials = [lagrangian.slack_rollout(linear.controls, step.multipliers), linear]
    assert 0 < trials[0].value < trials[1].value or np.isinf(penalty[:2]).all()
    result = run(lagrangian, point, 10.0, max_steps=1, method=Method(acceleration=acceleration, form="dual"))
    for kind in ("controls", "states"):
        for found, expected in zip(getattr(result.point, kind), getattr(trials[0], kind), strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("relative", [1e-1, 1e-4])
def test_the_inner_loop_stops_at_its_tolerance(relative):
    lagrangian, point = lagrangian_and_point(Network.mlp([1, 4, 1]), PENALTIES["finite"], samples=20)
    first = run(lagrangian, point, max_steps=0).stationarity
    result = run(lagrangian, point, tolerance=lambda norm: relative * norm, max_steps=500)
    before = run(lagrangian, point, max_steps=result.steps - 1)
    assert result.stationarity <= relative * first < before.stationarity


def test_the_reported_stationarity_is_the_norm_of_the_gradient():
    lagrangian, point = lagrangian_and_point(Network.mlp([1, 4, 1]), PENALTIES["finite"], samples=20)
    result = run(lagrangian, point, max_steps=3)
    gradient = lagrangian.gradient(result.point, lagrangian.subproblem(result.point, 1.0))
    norm = np.linalg.norm(np.concatenate([np.ravel(g) for part in gradient for g in part]))
    assert result.stationarity == pytest.approx(norm, rel=1e-12)


@pytest.mark.parametrize("penalty", ["finite", "infinite"])
def test_every_step_is_observed_once_and_observing_changes_nothing(penalty):
    lagrangian, point = lagrangian_and_point(Network.mlp([1, 4, 1]), PENALTIES[penalty], samples=20)
    seen = []
    result = run(lagrangian, point, max_steps=4, observe=seen.append)
    assert len(seen) == result.steps + result.reuses >= 4
    assert seen[-1] is result.point.controls
    assert len({np.concatenate(controls).tobytes() for controls in (point.controls, *seen)}) == len(seen) + 1
    for a, b in zip(result.point.controls, run(lagrangian, point, max_steps=4).point.controls, strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_step_begins_after_the_deadline():
    lagrangian, point = lagrangian_and_point(Network.mlp([1, 4, 1]), PENALTIES["finite"])
    result = run(lagrangian, point, deadline=time.perf_counter() - 1.0)
    assert result.steps == 0 and result.point is point and not result.stalled


def shifted(lagrangian, point, length):
    """The point with its controls moved in a fixed random direction, all states rolled out."""
    rng = np.random.default_rng(0)
    controls = tuple(u + length * rng.standard_normal(u.shape) for u in point.controls)
    return lagrangian.at(controls, point.states)


@pytest.fixture(scope="module")
def at_rest():
    """A reduced L_beta and a stationary point of it, where residuals of a thousand make rounding large."""
    network = Network.mlp([1, 3, 1])
    rng = np.random.default_rng(0)
    problem = TrainingProblem(network, rng.standard_normal((20, 1)), 1e3 * rng.standard_normal((20, 1)), 1e3)
    controls = network.init_controls(0)
    lagrangian = AugmentedLagrangian(problem, (np.zeros((20, 3)),), (INF,))
    found = run(lagrangian, lagrangian.at(controls, problem.rollout(controls).states), 1e3, max_steps=200)
    assert found.stationarity < 1e-6
    return lagrangian, found.point


def accepted(lagrangian, before, after, least=0.0):
    return gains(Linearisation.at(lagrangian, before, Damping(1.0), Method()), after, least)


def test_where_rounding_hides_the_decrease_the_gradient_decides(at_rest):
    lagrangian, rest = at_rest
    near, nearer = (shifted(lagrangian, rest, length) for length in (3e-7, 1e-7))
    assert abs(near.value - nearer.value) <= 1e-13 * near.value
    assert accepted(lagrangian, near, nearer) and not accepted(lagrangian, nearer, near)
    assert not accepted(lagrangian, near, near)
    result = run(lagrangian, near, 1e3, max_steps=1)
    assert result.steps == 1 and result.stationarity < 0.5 * run(lagrangian, near, max_steps=0).stationarity


def test_where_rounding_hides_nothing_the_value_decides(at_rest):
    """Also against the gradient: at a saddle there is none."""
    lagrangian, rest = at_rest
    far, farther = (shifted(lagrangian, rest, length) for length in (0.01, 0.02))
    decrease = farther.value - far.value
    assert decrease > 1e-10 * far.value
    assert accepted(lagrangian, farther, far, least=0.99 * decrease) and not accepted(lagrangian, far, farther)
    assert not accepted(lagrangian, farther, far, least=1.01 * decrease)
    network, y = lagrangian.problem.network, lagrangian.problem.y
    centred = TrainingProblem(network, lagrangian.problem.x, y - y.mean(axis=0), 1.0)
    reduced = AugmentedLagrangian(centred, lagrangian.multipliers, (INF,))
    saddle, start = (
        reduced.at(controls, rest.states) for controls in (tuple(map(np.zeros_like, rest.controls)), rest.controls)
    )
    lower = run(reduced, start, 1e3, max_steps=3)
    assert run(reduced, saddle, max_steps=0).stationarity < 1e-9 < lower.stationarity
    assert lower.point.value < 0.999 * saddle.value and accepted(reduced, saddle, lower.point)


def test_a_minimum_to_rounding_is_reported_as_stalled():
    lagrangian, point = lagrangian_and_point(Network.mlp([2, 1]), (), samples=30)
    result = run(lagrangian, point, max_steps=200)
    assert result.stalled and result.steps < 200
    assert result.stationarity < 1e-6


def test_one_linear_stage_is_ridge_regression():
    lagrangian, point = lagrangian_and_point(Network.mlp([3, 2]), (), samples=30)
    problem = lagrangian.problem
    inputs = np.column_stack([problem.x, np.ones(30)])
    expected = np.linalg.solve(inputs.T @ inputs + problem.weight_decay * np.eye(4), inputs.T @ problem.y)
    result = run(lagrangian, point, max_steps=20)
    np.testing.assert_allclose(result.point.controls[0].reshape(4, 2), expected, atol=1e-8)


def test_damping_falls_after_good_steps_and_rises_ever_faster_after_bad_ones():
    damping = Damping(1.0)
    assert damping.accepted(1.0).value == pytest.approx(1 / 3)
    assert damping.accepted(0.5).value == pytest.approx(1.0)
    assert 1.0 < damping.accepted(0.01).value <= 2.0
    once, twice = damping.rejected(), damping.rejected().rejected()
    assert (once.value, twice.value) == (2.0, 8.0)
    assert twice.accepted(1.0).growth == damping.growth
    assert Damping(Damping.SMALLEST).accepted(1.0).value == Damping.SMALLEST
    assert Damping(2 * Damping.LARGEST).exhausted and not damping.exhausted


@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_the_first_damping_is_relative_to_the_mean_diagonal_of_the_gauss_newton_matrix(network, penalty):
    lagrangian, point = lagrangian_and_point(network, penalty)
    subproblem = lagrangian.subproblem(point, damping=0.7)
    normal = np.linalg.inv(reduced_inverse(subproblem))
    expected = np.mean(np.diag(normal)) - subproblem.ridge
    for relative in (1.0, 1e-3):
        assert first_damping(lagrangian, point, relative).value == pytest.approx(relative * expected, rel=1e-6)


def test_without_curvature_the_first_damping_is_absolute():
    """A dead ReLU layer in front of a zero one, no bias that moves: every derivative in the first control is zero."""
    network = Network.mlp([1, 2, 1], "relu")
    problem = TrainingProblem(network, np.full((4, 1), 1e150), np.ones((4, 1)))
    controls = tuple(1e250 * np.ones(layer.num_controls) for layer in network.layers)
    lagrangian = AugmentedLagrangian(problem, (np.zeros((4, 2)),), (INF,))
    with np.errstate(over="ignore", invalid="ignore"):
        point = lagrangian.at(controls, problem.rollout(controls).states)
        assert first_damping(lagrangian, point, 0.3).value == 0.3


@pytest.mark.parametrize("form", ["dual", "primal"])
def test_trial_points_that_overflow_are_rejected(form):
    """Softplus layers multiply: the undamped step overshoots beyond floating point, a shorter one is found."""
    network = Network.mlp([1, 3, 3, 3, 3, 1], "softplus")
    rng = np.random.default_rng(0)
    problem = TrainingProblem(network, 1e60 * rng.standard_normal((6, 1)), 1e100 * rng.standard_normal((6, 1)), 1.0)
    controls = tuple(1e-3 * u for u in network.init_controls(0))
    lagrangian = AugmentedLagrangian(problem, tuple(np.zeros((6, 3)) for _ in range(4)), (INF,) * 4)
    point = lagrangian.at(controls, problem.rollout(controls).states)
    result = run(lagrangian, point, max_steps=3, method=Method(form=form))
    assert result.point.is_finite
    assert result.point.value <= point.value
