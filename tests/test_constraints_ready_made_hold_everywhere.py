"""Networks that are monotone, convex, bounded or Lipschitz: on fine grids, not only where they were asked for."""

from __future__ import annotations

import numpy as np
import pytest

import ocp_nn
from ocp_nn.problem.constraints import over_time, ready_made, tangents


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (60, 2))
    y = np.tanh(2 * x[:, :1]) + 0.5 * np.sin(2 * x[:, 1:]) + 0.3 * rng.standard_normal((60, 1))
    return x, y


def problem_of(data, activation="tanh", hidden=(5, 4), decay=0.05):
    network = ocp_nn.Network.mlp([2, *hidden, 1], activation=activation)
    return ocp_nn.TrainingProblem(network, *data, decay)


def grid(input_, values=101):
    """Lines along an input, (lines, values, 2)."""
    along, across = np.linspace(-3, 3, values), np.linspace(-3, 3, 25)
    lines = np.empty((25, values, 2))
    lines[:, :, input_], lines[:, :, 1 - input_] = along, across[:, None]
    return lines


def along(result, input_):
    lines = grid(input_)
    return result.predict(lines.reshape(-1, 2)).reshape(lines.shape[:2])


@pytest.mark.filterwarnings("ignore::ocp_nn.ExtrapolationWarning")
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu", "softplus"])
@pytest.mark.parametrize("sign", [1, -1])
def test_monotone_by_weights_is_monotone_everywhere(data, activation, sign):
    problem = problem_of(data, activation)
    result = ocp_nn.solve(ocp_nn.ConstrainedProblem(problem, [ready_made.monotone(problem.network, {0: sign})]))
    assert (np.diff(along(result, 0), axis=1) * sign >= -1e-12).all()


def test_monotone_weights_leave_other_inputs_free(data):
    problem = problem_of(data)
    free = ocp_nn.solve(problem)
    result = ocp_nn.solve(ocp_nn.ConstrainedProblem(problem, [ready_made.monotone(problem.network, [1, 0])]))
    assert result.success
    assert result.objective < 1.5 * free.objective
    falls = np.diff(result.predict(grid(1).reshape(-1, 2)).reshape(25, -1), axis=1)
    assert falls.min() < 0 < falls.max()


def test_monotone_at_points_is_monotone_there_and_has_slopes_that_are_derivatives(data):
    problem = problem_of(data, hidden=(4,))
    points = np.random.default_rng(1).uniform(-2, 2, (20, 2))
    wanted = tangents.monotone_at_points(problem, {0: 1}, points)
    result = ocp_nn.solve(wanted)
    assert result.success
    (slopes,) = wanted.constraint_values(result.trajectory)
    assert slopes.min() >= -1e-7
    step = np.array([[1e-6, 0.0]])
    there = np.concatenate([problem.x, points])
    differences = (result.predict(there + step) - result.predict(there - step)) / 2e-6
    np.testing.assert_allclose(slopes[0], differences, atol=1e-6)
    theirs = ocp_nn.solve_ipopt(ocp_nn.multiple_shooting(wanted), result.trajectory)
    assert theirs.objective == pytest.approx(result.objective, rel=1e-6)


@pytest.mark.filterwarnings("ignore::ocp_nn.ExtrapolationWarning")
def test_convex_networks_are_convex_everywhere(data):
    problem = problem_of(data, "softplus")
    result = ocp_nn.solve(ocp_nn.ConstrainedProblem(problem, [ready_made.convex_in_inputs(problem.network)]))
    for input_ in (0, 1):
        assert (np.diff(along(result, input_), n=2, axis=1) >= -1e-12).all()


@pytest.mark.filterwarnings("ignore::ocp_nn.ExtrapolationWarning")
def test_a_lipschitz_bound_bounds_every_slope(data):
    problem = problem_of(data)
    result = ocp_nn.solve(ocp_nn.ConstrainedProblem(problem, ready_made.lipschitz(problem.network, 0.7)))
    assert result.success
    for input_ in (0, 1):
        lines = grid(input_)
        step = lines[0, 1, input_] - lines[0, 0, input_]
        assert np.abs(np.diff(along(result, input_), axis=1)).max() <= 0.7 * step * (1 + 1e-6)


def test_an_output_range_holds_at_points_that_are_no_data(data):
    problem = problem_of(data)
    points = np.random.default_rng(2).uniform(-2, 2, (50, 2))
    wider = ready_made.at_points(problem, points)
    result = ocp_nn.solve(ocp_nn.ConstrainedProblem(wider, [ready_made.output_range(wider, -0.6, 0.6)]))
    assert result.success
    assert np.abs(result.predict(np.concatenate([data[0], points]))).max() <= 0.6 + 1e-7
    free = ocp_nn.solve(problem)
    same = ocp_nn.solve(wider, free.trajectory.controls)
    assert same.objective == pytest.approx(free.objective, rel=1e-6), "points that are no data cost nothing"


@pytest.mark.parametrize("loss", ["squared", "huber", "logistic", "poisson"])
def test_points_are_no_data_for_any_loss(loss):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((30, 1))
    y = {"logistic": (x > 0).astype(float), "poisson": rng.poisson(2.0, (30, 1)).astype(float)}.get(loss, np.sin(x))
    problem = ocp_nn.TrainingProblem(ocp_nn.Network.mlp([1, 3, 1]), x, y, 0.1, loss=loss)
    controls = problem.init_controls(0)
    wider = ready_made.at_points(problem, [[0.0], [1.0]])
    assert wider.objective(wider.rollout(controls)) == pytest.approx(problem.objective(problem.rollout(controls)))


def test_nonnegative_weights_and_biases(data):
    problem = problem_of(data)
    bounds = ready_made.nonnegative(problem.network, layers=[1], biases=True)
    result = ocp_nn.solve(ocp_nn.ConstrainedProblem(problem, [bounds]))
    assert result.trajectory.controls[1].min() >= 0.0
    assert result.trajectory.controls[0].min() < 0.0


# --- over time


@pytest.fixture(scope="module")
def record():
    rng = np.random.default_rng(0)
    v, x = rng.standard_normal((60, 1)), np.zeros((61, 2))
    for t in range(60):
        x[t + 1] = np.array([[0.8, 0.3], [-0.3, 0.8]]) @ x[t] + np.array([0.2, 1.0]) * v[t]
    model = ocp_nn.StateSpaceModel(num_states=2, num_inputs=1, num_outputs=1, hidden_layer_sizes=(2,))
    return ocp_nn.IdentificationProblem(model, [(v, x[:60, :1] + 0.05 * rng.standard_normal((60, 1)))], 0.1)


def _matrices(problem, theta):
    model = problem.model
    x, v, step = np.zeros((1, 2)), np.zeros((1, 1)), 1e-6

    def value(dx, dv):
        f, g = model.values(theta, x + dx, v + dv)
        return np.concatenate([f[0], g[0]])

    columns = [value(step * e, 0.0) - value(-step * e, 0.0) for e in np.eye(2)]
    columns.append(value(0.0, step) - value(0.0, -step))
    whole = np.stack(columns, axis=1) / (2 * step)
    return whole[:2, :2], whole[:2, 2:], whole[2:, :2], whole[2:, 2:]


def test_a_stable_model_has_its_eigenvalues_within_the_radius(record):
    result = ocp_nn.solve(ocp_nn.ConstrainedProblem(record, [over_time.stable(record, 0.8)]))
    a, *_ = _matrices(record, result.trajectory.controls[0])
    assert result.success, result
    assert np.abs(np.linalg.eigvals(a)).max() <= 0.8 + 1e-6


def test_the_steady_state_gain_is_the_one_that_is_known(record):
    result = ocp_nn.solve(ocp_nn.ConstrainedProblem(record, [over_time.steady_state_gain(record, [[1.5]])]))
    a, b, c, d = _matrices(record, result.trajectory.controls[0])
    assert result.success, result
    assert (c @ np.linalg.solve(np.eye(2) - a, b) + d)[0, 0] == pytest.approx(1.5, abs=1e-5)
    theirs = ocp_nn.solve_ipopt(ocp_nn.multiple_shooting(result.problem), result.trajectory)
    assert theirs.objective == pytest.approx(result.objective, rel=1e-6)


def test_states_stay_within_their_bounds(record):
    result = ocp_nn.solve(ocp_nn.ConstrainedProblem(record, [over_time.state_bounds(record, -2.5, 2.5)]))
    assert result.success, result
    assert np.abs(np.stack(result.trajectory.states)).max() <= 2.5 + 1e-7


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda record: over_time.stable(record, 1.5), "radius must be"),
        (lambda record: over_time.steady_state_gain(record, [1.0, 2.0]), "gain must have shape"),
        (lambda record: over_time.state_bounds(record, [0.0, 0.0, 0.0]), "one for each of 2 outputs"),
    ],
)
def test_bad_constraints_over_time_are_one_clear_error(record, make, words):
    with pytest.raises(ValueError, match=words):
        make(record)
