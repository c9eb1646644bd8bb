"""Starts: delays are derivatives, regression and smoother solve their least-squares problems, "auto" chooses."""

from __future__ import annotations

import casadi as ca
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from ocp_nn import StateSpaceModel
from ocp_nn.network.records import Records
from ocp_nn.problem.starts.delays import delay_states, window_sides
from ocp_nn.problem.starts.regression import fit_to_states
from ocp_nn.problem.starts.smoother import smoothed_states
from ocp_nn.problem.starts.start import start

TIMES = 0.1 * np.arange(200)


def lorenz(noise: float = 0.02, length: int = 400) -> Records:
    """The first coordinate of Lorenz' system, every 0.05, on its attractor."""

    def ode(_, x):
        return [10 * (x[1] - x[0]), x[0] * (28 - x[2]) - x[1], x[0] * x[1] - 8 / 3 * x[2]]

    times = 10 + 0.05 * np.arange(length)
    y = solve_ivp(ode, (0, times[-1]), [1, 1, 20], t_eval=times, rtol=1e-8, atol=1e-8).y[0]
    return Records.checked([(None, y / y.std() + noise * np.random.default_rng(0).standard_normal(length))])


def duffing(length: int = 500) -> Records:
    """A driven oscillator whose spring hardens, every 0.1, two records."""
    rng = np.random.default_rng(1)
    pairs = []
    for _ in range(2):
        v, x, y = np.repeat(rng.uniform(-1, 1, length // 5), 5), np.zeros(2), []
        for value in v:
            y.append(x[0])
            for _ in range(20):
                x = x + 0.005 * np.array([x[1], -0.1 * x[1] - x[0] - x[0] ** 3 + value])
        pairs.append((v, np.array(y) + 0.01 * rng.standard_normal(length)))
    return Records.checked(pairs)


@pytest.mark.parametrize("side", [2, 4])
def test_states_from_delays_are_an_output_and_its_derivatives(side):
    y = np.sin(TIMES)
    records = Records.checked([(None, y[:120]), (None, y[120:])])
    states = np.concatenate(delay_states(records, 3, side))
    for column, expected in zip(states.T, (y, np.cos(TIMES), -y), strict=True):
        inner = np.r_[side : 120 - side, 120 + side : 200 - side]
        assert np.corrcoef(column[inner], expected[inner])[0, 1] > 0.999
    np.testing.assert_allclose(states.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(states.std(axis=0), 1, rtol=1e-12)


def test_states_from_delays_bridge_missing_outputs():
    y = np.sin(TIMES)
    holes = y.copy()
    holes[[0, 7, 8, 50, 199]] = np.nan
    (complete,), (bridged,) = (delay_states(Records.checked([(None, of)]), 2, 4) for of in (y, holes))
    np.testing.assert_allclose(bridged[1:-1], complete[1:-1], atol=0.02)


def test_states_from_delays_take_outputs_first():
    y = np.column_stack([np.sin(TIMES), np.cos(3 * TIMES)])
    (states,) = delay_states(Records.checked([(None, y)]), 3, 2)
    for column, expected in zip(states.T, (y[:, 0], y[:, 1], np.cos(TIMES)), strict=True):
        assert np.corrcoef(column[2:-2], expected[2:-2])[0, 1] > 0.99


def test_fewer_states_than_outputs_are_principal_components():
    rng = np.random.default_rng(0)
    y = np.outer(np.sin(TIMES), [1.0, -2.0, 0.5]) + 0.01 * rng.standard_normal((200, 3))
    (states,) = delay_states(Records.checked([(None, y)]), 1, 2)
    assert abs(np.corrcoef(states[:, 0], np.sin(TIMES))[0, 1]) > 0.999


def test_windows_fit_into_the_shortest_record():
    long, short = np.arange(100.0), np.arange(6.0)
    assert window_sides(Records.checked([(None, long)]), 2) == [2, 4, 8]
    assert window_sides(Records.checked([(None, long), (None, short)]), 2) == [2]
    assert window_sides(Records.checked([(None, short[:2])]), 2) == [1]


def predator() -> StateSpaceModel:
    """Linear in its parameters."""
    x, v, theta = ca.SX.sym("x", 2), ca.SX.sym("v"), ca.SX.sym("theta", 4)
    f = ca.vertcat(theta[0] * x[0] + theta[1] * x[0] * x[1] + v, theta[2] * x[1] + v)
    names = [x, v, theta]
    return StateSpaceModel(dynamics=ca.Function("f", names, [f]), output=ca.Function("g", names, [theta[3] * x[0]]))


def test_regression_along_the_true_states_finds_the_parameters():
    model, theta = predator(), np.array([0.7, -0.2, 0.8, 1.5])
    v = np.random.default_rng(0).standard_normal((300, 1))
    y, x = model.simulate(theta, v, [1.0, 0.0])
    y[::3] = np.nan
    records = Records.checked([(v[:100], y[:100]), (v[100:], y[100:])])
    found = fit_to_states(model, records, [x[:100], x[100:300]], np.full(4, 0.1))
    np.testing.assert_allclose(found, theta, atol=2e-3)


def test_the_smoother_is_a_dense_least_squares_problem():
    model = StateSpaceModel(num_states=2, num_inputs=1, num_outputs=2, hidden_layer_sizes=())
    rng = np.random.default_rng(2)
    theta, length = 0.6 * rng.standard_normal(model.num_parameters), 12
    v, y, guess = rng.standard_normal((length, 1)), rng.standard_normal((length, 2)), rng.standard_normal((length, 2))
    y[3, 0] = y[7] = np.nan
    s, r = np.array([0.3, 0.2]), np.array([1.0, 0.5])

    def residuals(x):
        x = x.reshape(length, 2)
        x_next, outputs = model.values(theta, x, v)
        errors = ((outputs - y) / r)[np.isfinite(y)]
        return np.concatenate([errors, ((x[1:] - x_next[:-1]) / s).ravel(), x[0] - guess[0]])

    zero = residuals(np.zeros(2 * length))
    jacobian = np.stack([residuals(e) - zero for e in np.eye(2 * length)], axis=1)
    expected = np.linalg.lstsq(jacobian, -zero, rcond=None)[0].reshape(length, 2)
    np.testing.assert_allclose(smoothed_states(model, theta, v, y, guess, (s, r)), expected, atol=1e-9)


def van_der_pol() -> StateSpaceModel:
    x, theta = ca.SX.sym("x", 2), ca.SX.sym("theta", 2)
    ode = ca.vertcat(x[1], theta[0] * (1 - x[0] ** 2) * x[1] - theta[1] * x[0])
    return StateSpaceModel.from_ode(
        ca.Function("ode", [x, theta], [ode]),
        ca.Function("y", [x, theta], [x[0]]),
        sampling_time=0.1,
        guess=[0.5, 0.7],
    )


@pytest.mark.parametrize("kind", ["random", "auto"])
def test_functions_start_from_their_guess_and_states_smoothed_with_it(kind):
    """The second state is never measured: the model says what it is, even with parameters that are half off."""
    model, theta = van_der_pol(), np.array([1.0, 1.0])
    v = np.empty((400, 0))
    y, x = model.simulate(theta, v, [1.0, 0.0])
    y[100:110] = np.nan
    found, states = start(model, [(v, y + 0.05 * np.random.default_rng(0).standard_normal(y.shape))], kind)
    np.testing.assert_array_equal(found, model.initial_parameters())
    assert np.corrcoef(states[:, 0, 0], x[:-1, 0])[0, 1] > 0.98
    assert np.corrcoef(states[:, 0, 1], x[:-1, 1])[0, 1] > 0.95


def test_functions_without_a_guess_start_where_they_predict_best():
    """A network written in CasADi: no state has a meaning of its own, and random weights predict nothing."""
    like = StateSpaceModel(num_states=2, num_inputs=1, num_outputs=1)
    model, records = StateSpaceModel(dynamics=like.dynamics, output=like.output), duffing(200)
    theta, states = start(model, records)
    assert one_step_error(model, theta, records, states) < 0.2
    assert not np.array_equal(theta, model.initial_parameters())


def one_step_error(model, theta, records, states):
    ends = [model.values(theta, states[:length, i], records.inputs[i])[0] for i, length in enumerate(records.lengths)]
    return np.concatenate([f[:-1] - states[1 : len(f), i] for i, f in enumerate(ends)]).std()


def test_auto_takes_the_linear_model_where_it_follows_and_delays_where_not():
    """A hardening spring and its linear neighbour move alike; Lorenz' x has no linear predictor worth its name."""
    forced = StateSpaceModel(num_states=2, num_inputs=1, num_outputs=1)
    records = duffing()
    np.testing.assert_array_equal(start(forced, records)[0], start(forced, records, "linear")[0])
    chaotic, records = StateSpaceModel(num_states=3, num_inputs=0, num_outputs=1, hidden_layer_sizes=(16,)), lorenz()
    theta, states = start(chaotic, records)
    np.testing.assert_array_equal(theta, start(chaotic, records, "delays")[0])
    of_linear = one_step_error(
        chaotic, *start(chaotic, records, "linear")[:1], records, start(chaotic, records, "linear")[1]
    )
    assert one_step_error(chaotic, theta, records, states) < min(0.1, of_linear / 3)


@pytest.mark.parametrize("kind", ["linear", "delays", "auto"])
def test_networks_without_a_linear_part_are_fitted_to_the_states(kind):
    model = StateSpaceModel(num_states=2, num_inputs=1, num_outputs=1, linear=False, output_layer_sizes=(4,))
    records = duffing(200)
    theta, states = start(model, records, kind)
    assert one_step_error(model, theta, records, states) < 0.2
    outputs = np.concatenate([model.values(theta, states[:, i], v)[1] for i, v in enumerate(records.inputs)])
    assert np.std(outputs - np.concatenate(records.outputs)) < 0.2 * records.scalers()[1].scale[0]


def test_random_starts_differ_and_are_standard():
    model, records = StateSpaceModel(num_states=2, num_inputs=1, num_outputs=1), duffing(100)
    theta, states = start(model, records, "random", 3)
    np.testing.assert_array_equal(theta, model.in_units(model.initial_parameters(3), *records.scalers()))
    assert not np.array_equal(theta, start(model, records, "random", 4)[0])
    assert states.shape == (100, 2, 2) and np.isfinite(states).all()


@pytest.mark.parametrize("kind", ["auto", "linear", "delays", "random"])
@pytest.mark.parametrize(
    "pairs",
    [
        [([0.0, 1.0], [1.0, 2.0])],
        [([1.0] * 9, [3.0] * 9)],
        [(np.arange(30.0), np.arange(30.0)), ([1.0, 1.0], [np.nan, 0.0])],
        [(np.zeros(40), np.r_[1.0, np.full(39, np.nan)])],
        [(1e8 * np.sin(TIMES), 1e-8 * np.cos(TIMES))],
    ],
    ids=["two samples", "constant", "one record of two samples", "one measurement", "units"],
)
def test_poor_records_start_somewhere_finite(pairs, kind):
    for hidden in ((), (4,)):
        model = StateSpaceModel(num_states=3, num_inputs=1, num_outputs=1, hidden_layer_sizes=hidden)
        theta, states = start(model, pairs, kind)
        assert np.isfinite(theta).all() and np.isfinite(states).all()


def test_what_does_not_fit_is_refused():
    model, records = StateSpaceModel(num_states=2, num_inputs=1, num_outputs=1), duffing(50)
    with pytest.raises(ValueError, match="kind must be one of auto, linear, delays, slow, random, received 'n4sid'"):
        start(model, records, "n4sid")
    with pytest.raises(ValueError, match="model must be a StateSpaceModel"):
        start(None, records)
    with pytest.raises(ValueError, match="seed must be an integer"):
        start(model, records, seed=-1)
    with pytest.raises(ValueError, match="v of record 0 must have shape"):
        start(model, [(np.ones((5, 2)), np.ones(5))])
