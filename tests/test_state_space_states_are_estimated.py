"""States of a state-space model from measurements: initial ones by least squares, predictions by a Kalman filter."""

from __future__ import annotations

import casadi as ca
import numpy as np
import pytest

from ocp_nn import StateSpaceModel


def linear(a, b, c, seed: int = 0) -> tuple[StateSpaceModel, np.ndarray]:
    a, b, c = (np.atleast_2d(matrix).astype(float) for matrix in (a, b, c))
    model = StateSpaceModel(
        num_states=len(a), num_inputs=b.shape[1], num_outputs=len(c), hidden_layer_sizes=(), linear=True
    )
    theta = np.zeros(model.num_parameters)
    for name, matrix in {"A": a, "B": b, "C": c}.items():
        if name in model.parts:
            theta[model.parts[name]] = matrix.ravel(order="F")
    return model, theta


def lorenz() -> tuple[StateSpaceModel, np.ndarray]:
    """One coordinate in units of ten observed, sampled at 0.05."""
    x, theta = ca.SX.sym("x", 3), ca.SX.sym("theta", 3)
    s, rho, beta = theta[0], theta[1], theta[2]
    ode = ca.vertcat(s * (x[1] - x[0]), x[0] * (rho - 10 * x[2]) - x[1], 10 * x[0] * x[1] - beta * x[2])
    model = StateSpaceModel.from_ode(
        ca.Function("lorenz", [x, theta], [ode]), ca.Function("y", [x, theta], [x[0]]), sampling_time=0.05, steps=2
    )
    return model, np.array([10, 28, 8 / 3])


STABLE = linear([[0.9, 0.2], [-0.2, 0.9]], [[0], [1]], [1, 0])
UNSTABLE = linear([[1.1, 0.1], [0, 0.95]], [[0], [1]], [1, 1])
TWO_OUTPUTS = linear([[0.9, 0.2], [-0.2, 0.9]], [[1], [1]], [[1, 0], [0, 2]])


@pytest.mark.parametrize("model, theta", [STABLE, UNSTABLE, TWO_OUTPUTS], ids=["stable", "unstable", "two outputs"])
def test_the_initial_state_comes_back(model, theta):
    rng = np.random.default_rng(1)
    v, x0 = rng.standard_normal((50, 1)), rng.standard_normal(2)
    y, _ = model.simulate(theta, v, x0)
    np.testing.assert_allclose(model.estimate_initial_state(theta, v, y, window=50), x0, atol=1e-9)


def test_the_initial_state_is_the_least_squares_one_over_its_window_alone():
    model, theta = STABLE
    rng = np.random.default_rng(2)
    v, y = rng.standard_normal((40, 1)), rng.standard_normal((40, 1))
    y[[3, 11]] = np.nan
    forced, _ = model.simulate(theta, v, np.zeros(2))
    columns = [model.simulate(theta, 0 * v, e)[0][:20] for e in np.eye(2)]
    rows = np.isfinite(y[:20, 0])
    expected = np.linalg.lstsq(np.hstack(columns)[rows], (y - forced)[:20][rows, 0])[0]
    np.testing.assert_allclose(model.estimate_initial_state(theta, v, y, window=20), expected, atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_the_initial_state_of_a_chaotic_system_comes_back_from_the_mean(seed):
    """Lyapunov exponent 0.9: over the window of 100 samples an error grows ninetyfold."""
    model, theta = lorenz()
    rng = np.random.default_rng(seed)
    nothing = np.empty((500, 0))
    _, x = model.simulate(theta, nothing, np.array([0.1, 0.1, 2.0]) + 0.1 * rng.standard_normal(3))
    x0, v = x[-1], nothing[:100]
    y, _ = model.simulate(theta, v, x0)
    found = model.estimate_initial_state(theta, v, y, window=100, guess=[0.01, 0, 2.4])
    np.testing.assert_allclose(found, x0, atol=1e-6)


def test_a_guess_without_a_finite_simulation_comes_back():
    x, theta = ca.SX.sym("x"), ca.SX.sym("theta")
    square = ca.Function("f", [x, theta], [theta * x**2])
    model = StateSpaceModel(dynamics=square, output=ca.Function("g", [x, theta], [x]))
    v, y = np.empty((40, 0)), np.zeros((40, 1))
    assert model.estimate_initial_state([1.0], v, y, window=40, guess=[1e200]) == [1e200]
    assert abs(model.estimate_initial_state([1.0], v, y, window=40, guess=[0.9])[0]) < 0.9


def dense_kalman_filter(a, b, c, v, y, q, r, p0):
    """The textbook filter with matrices, measured outputs alone; predicted y one step ahead."""
    mean, cov, predictions = np.zeros(len(a)), p0 * np.eye(len(a)), []
    for t in range(len(y)):
        predictions.append(c @ mean)
        rows = np.isfinite(y[t])
        cm = c[rows]
        gain = cov @ cm.T @ np.linalg.inv(cm @ cov @ cm.T + r * np.eye(rows.sum()))
        mean = mean + gain @ (y[t, rows] - cm @ mean)
        cov = cov - gain @ cm @ cov
        mean, cov = a @ mean + b @ v[t], a @ cov @ a.T + q * np.eye(len(a))
    return np.array(predictions)


@pytest.mark.parametrize("model, theta", [STABLE, UNSTABLE, TWO_OUTPUTS], ids=["stable", "unstable", "two outputs"])
def test_one_step_predictions_are_those_of_the_kalman_filter(model, theta):
    rng = np.random.default_rng(4)
    v, y = rng.standard_normal((150, 1)), rng.standard_normal((150, model.num_outputs))
    y[rng.random(y.shape) < 0.3] = np.nan
    parts = model.matrices(theta)
    expected = dense_kalman_filter(parts["A"], parts["B"], parts["C"], v, y, 0.2**2, 0.5**2, 3.0**2)
    options = {"process_noise": 0.2, "measurement_noise": 0.5, "initial_deviation": 3.0}
    np.testing.assert_allclose(model.predict(theta, v, y, **options), expected, rtol=1e-9, atol=1e-9)


def test_predictions_further_ahead_carry_the_state_on():
    model, theta = STABLE
    rng = np.random.default_rng(5)
    v, y = rng.standard_normal((60, 1)), rng.standard_normal((60, 1))
    parts = model.matrices(theta)
    one, four = model.predict(theta, v, y), model.predict(theta, v, y, steps=4)
    for t in (4, 30, 59):
        until = y.copy()
        until[t - 3 :] = np.nan
        np.testing.assert_allclose(four[t], model.predict(theta, v, until)[t], atol=1e-12)
    np.testing.assert_allclose(four[:4], model.simulate(theta, v, np.zeros(2))[0][:4], atol=1e-12)
    assert np.abs(one - four).max() > 0.1
    assert parts["C"].shape == (1, 2)


def test_beyond_the_record_all_predictions_are_simulations():
    model, theta = STABLE
    v, y = np.ones((6, 1)), np.ones((6, 1))
    np.testing.assert_array_equal(model.predict(theta, v, y, steps=9, x0=[1, 2]), model.simulate(theta, v, [1, 2])[0])


def test_chaos_is_predicted_where_it_cannot_be_simulated():
    model, theta = lorenz()
    rng = np.random.default_rng(0)
    v = np.empty((600, 0))
    y, x = model.simulate(theta, v, [0.1, 0.2, 2.0])
    noisy = y + 0.02 * rng.standard_normal(y.shape)
    start = x[0] + [0.01, 0, 0]
    simulated = model.simulate(theta, v, start)[0]
    predicted = model.predict(
        theta, v, noisy, steps=5, x0=start, process_noise=1e-3, measurement_noise=0.02, initial_deviation=0.1
    )
    assert np.sqrt(np.mean((simulated - y)[300:] ** 2)) > 0.5
    assert np.sqrt(np.mean((predicted - y)[100:] ** 2)) < 0.05


def test_what_a_filter_overflows_in_is_infinite():
    model, theta = linear([[1e200]], [[0.0]], [[1.0]])
    y = np.full((20, 1), np.nan)
    y[0] = 1.0
    predicted = model.predict(theta, np.zeros((20, 1)), y)
    assert np.isposinf(predicted[3:]).all()
