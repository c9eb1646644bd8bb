"""The linear start recovers a linear system from its records: several, short, unstable, under feedback, incomplete."""

from __future__ import annotations

import numpy as np
import pytest

from ocp_nn import StateSpaceModel
from ocp_nn.network.records import Records
from ocp_nn.problem.starts.start import start
from ocp_nn.problem.starts.subspace import fit_linear_model

SYSTEMS = {
    "lightly damped": ([[0.95, 0.3], [-0.3, 0.95]], [[0.0], [1.0]], [[1.0, 0.2]]),
    "unstable": ([[1.03, 0.1], [0.0, 0.8]], [[0.5], [1.0]], [[1.0, 0.5]]),
    "two inputs, two outputs": (
        [[0.8, 0.3, 0.0], [-0.3, 0.8, 0.1], [0.0, 0.0, 0.5]],
        [[1.0, 0.0], [0.0, 0.5], [1.0, 1.0]],
        [[1.0, 0.0, 1.0], [0.0, 1.0, -0.5]],
    ),
}
EACH = pytest.mark.parametrize("name", SYSTEMS)


def matrices(name: str):
    return tuple(np.array(matrix) for matrix in SYSTEMS[name])


def simulated(a, b, c, v, x, d=None, offset=0.0):
    y = []
    for row in v:
        y.append(c @ x + offset + (0 if d is None else d @ row))
        x = a @ x + b @ row
    return np.array(y)


def records(name: str, noise: float = 0.0, lengths=(120, 70, 90), seed: int = 0, offset: float = 3.0) -> Records:
    a, b, c = matrices(name)
    rng = np.random.default_rng(seed)
    pairs = []
    for length in lengths:
        v = 1 + rng.standard_normal((length, b.shape[1]))
        y = simulated(a, b, c, v, rng.standard_normal(len(a)), offset=offset)
        pairs.append((v, y + noise * rng.standard_normal(y.shape)))
    return Records.checked(pairs)


def markov(a, b, c, steps: int = 8):
    return np.array([c @ np.linalg.matrix_power(a, k) @ b for k in range(steps)])


@EACH
def test_without_noise_it_is_the_system(name):
    a, b, c = matrices(name)
    model, states = fit_linear_model(records(name), len(a))
    np.testing.assert_allclose(markov(model.A, model.B, model.C), markov(a, b, c), atol=1e-8)
    for x, y in zip(states, records(name).outputs, strict=True):
        np.testing.assert_allclose(x @ model.C.T + model.d, y, rtol=1e-8, atol=1e-8)


@EACH
def test_with_noise_it_is_the_system_to_noise_level(name):
    """800 measurements for a handful of numbers: an error of a fifth of the noise is never reached (a tenth is)."""
    a, b, c = matrices(name)
    model, _ = fit_linear_model(records(name, noise=0.1, lengths=(100,) * 8), len(a))
    assert np.abs(markov(model.A, model.B, model.C) - markov(a, b, c)).max() < 0.02


def test_noise_and_records_are_averaged_out():
    a, b, c = matrices("lightly damped")

    def error(number: int) -> float:
        errors = []
        for seed in range(3):
            fitted, _ = fit_linear_model(records("lightly damped", 0.5, (100,) * number, seed), 2)
            errors.append(np.abs(markov(fitted.A, fitted.B, fitted.C) - markov(a, b, c)).max())
        return float(np.mean(errors))

    assert error(20) < error(1) / 2


@pytest.mark.parametrize("share, tolerance", [(0.02, 0.005), (0.3, 0.02), (0.75, 0.6)])
def test_missing_outputs_are_left_out_or_bridged(share, tolerance):
    """Windows without them, while there are enough; straight lines between measurements then, which are a rough guide.

    The largest Markov parameter is 1.
    """
    a, b, c = matrices("lightly damped")
    complete = records("lightly damped", noise=0.02, lengths=(300, 300))
    rng = np.random.default_rng(1)
    outputs = tuple(np.where(rng.random(y.shape) < share, np.nan, y) for y in complete.outputs)
    model, states = fit_linear_model(Records(complete.inputs, outputs), 2)
    assert np.abs(markov(model.A, model.B, model.C) - markov(a, b, c)).max() < tolerance
    assert [len(x) for x in states] == [300, 300] and all(np.isfinite(x).all() for x in states)


def test_feedthrough_is_found():
    a, b, c = matrices("lightly damped")
    rng = np.random.default_rng(0)
    v = rng.standard_normal((150, 1))
    y = simulated(a, b, c, v, rng.standard_normal(2), d=np.array([[0.7]]))
    model, _ = fit_linear_model(Records.checked([(v, y)]), 2, feedthrough=True)
    np.testing.assert_allclose(model.D, [[0.7]], atol=1e-8)
    np.testing.assert_allclose(markov(model.A, model.B, model.C), markov(a, b, c), atol=1e-8)


@pytest.mark.parametrize("growth", [0.97, 1.0, 1.04])
def test_a_system_without_inputs_is_found(growth):
    turn = growth * np.array([[np.cos(0.4), np.sin(0.4)], [-np.sin(0.4), np.cos(0.4)]])
    rng = np.random.default_rng(3)
    pairs = []
    for length in (60, 45):
        nothing = np.zeros((length, 1))
        pairs.append((None, simulated(turn, np.zeros((2, 1)), np.array([[1.0, 0.0]]), nothing, rng.standard_normal(2))))
    model, _ = fit_linear_model(Records.checked(pairs), 2)
    np.testing.assert_allclose(np.abs(np.linalg.eigvals(model.A)), growth, rtol=1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_an_unstable_system_under_feedback_is_found(seed):
    """What subspace methods for open loops get wrong: the noise reaches the inputs."""
    a, b, c = np.array([[1.0, 0.1], [0.2, 1.0]]), np.array([[0.005], [0.1]]), np.array([[1.0, 0.0]])
    rng = np.random.default_rng(seed)
    x, v, y = np.zeros(2), [], []
    for _ in range(2000):
        y.append(c @ x + 0.05 * rng.standard_normal(1))
        v.append(-6 * y[-1] - 4 * x[1] + 2 * rng.standard_normal(1))
        x = a @ x + b @ v[-1]
    model, _ = fit_linear_model(Records.checked([(np.array(v), np.array(y))]), 2)
    expected = np.sort(np.linalg.eigvals(a))
    np.testing.assert_allclose(np.sort(np.linalg.eigvals(model.A).real), expected, atol=0.03)


@EACH
def test_a_linear_model_starts_as_the_system(name):
    """Simulated from the start's first state, it is the record."""
    a, b, c = matrices(name)
    model = StateSpaceModel(num_states=len(a), num_inputs=b.shape[1], num_outputs=len(c), hidden_layer_sizes=())
    given = records(name, lengths=(30, 50))
    theta, states = start(model, given)
    assert states.shape == (50, 2, len(a))
    for i, (v, y) in enumerate(zip(given.inputs, given.outputs, strict=True)):
        np.testing.assert_allclose(model.simulate(theta, v, states[0, i])[0], y, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(states[30:, 0], np.broadcast_to(states[29, 0], (20, len(a))))


def test_network_weights_beside_the_linear_part_are_small_and_random():
    model = StateSpaceModel(num_states=2, num_inputs=1, num_outputs=1)
    given = records("lightly damped", noise=0.01)
    one, two = (model.matrices(start(model, given, "linear", seed)[0]) for seed in (0, 1))
    for name in ("A", "B", "b", "C", "d"):
        np.testing.assert_array_equal(one[name], two[name])
    assert not np.array_equal(one["W1"], two["W1"])
    assert 0 < np.abs(one["W2"]).max() < 0.05


@pytest.mark.parametrize("kind", ["linear", "delays", "random"])
def test_starts_do_not_depend_on_units(kind):
    """Records in other units start as the same simulation, in these units."""
    model = StateSpaceModel(num_states=2, num_inputs=1, num_outputs=1, feedthrough=True, output_layer_sizes=(3,))
    given = records("lightly damped", noise=0.01)
    inputs, outputs = given.scalers()
    scaled = given.scaled(inputs, outputs)
    (theta, x), (of_scaled, z) = start(model, given, kind), start(model, scaled, kind)
    np.testing.assert_allclose(x, z, atol=1e-6)
    x_next, y = model.values(theta, x[:50, 0], given.inputs[0][:50])
    z_next, y_scaled = model.values(of_scaled, z[:50, 0], scaled.inputs[0][:50])
    np.testing.assert_allclose(x_next, z_next, atol=1e-5)
    np.testing.assert_allclose(outputs.transform(y), y_scaled, atol=1e-5)
