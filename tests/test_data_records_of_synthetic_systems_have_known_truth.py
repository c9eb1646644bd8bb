"""Synthetic records follow the equations that their names stand for, and what is added to them is the noise said."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from ocp_nn import load_records
from ocp_nn.learning.data import describe_records
from ocp_nn.learning.data import synthetic_records as systems

NAMES = [name for name, _ in describe_records()]


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_is_a_record_and_tests_are_others(name):
    first, again, other = (load_records(name, seed=seed, samples=120) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.train.outputs[0], again.train.outputs[0])
    assert not np.allclose(first.train.outputs[0], other.train.outputs[0])
    assert not np.allclose(first.train.outputs[0], first.test.outputs[0])
    assert first.train.lengths == first.test.lengths == (120,)
    assert np.isfinite(first.train.outputs[0]).all()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "pendulum"])
def test_noise_is_a_share_of_the_spread_beside_the_truth(name):
    """The pendulum's noise is fed back, so that other noise is another record."""
    noisy, clean = (load_records(name, samples=2000, noise=noise) for noise in (0.1, 0.0))
    truth = noisy.truth["train"][0]
    np.testing.assert_array_equal(clean.train.outputs[0], truth)
    added = noisy.train.outputs[0] - truth
    assert added.std() == pytest.approx(0.1 * truth.std(), rel=0.05)


def exact(flow, x, step):
    return solve_ivp(lambda _, s: flow(s), (0, step), x, rtol=1e-11, atol=1e-12).y[:, -1]


FLOWS = {
    "lorenz": (systems.lorenz, [3.0, -5.0, 25.0], 0.05),
    "duffing": (lambda x: systems.duffing(x, 0.7), [1.5, -0.3], 0.2),
    "pendulum": (lambda x: systems.pendulum(x, -0.2), [0.4, 1.0], 0.05),
    "tanks": (lambda x: systems.tanks(x, 2.0), [4.0, 6.0], 4.0),
}


@pytest.mark.parametrize("name", FLOWS)
def test_steps_are_those_of_an_accurate_integration(name):
    flow, x, step = FLOWS[name]
    error = np.abs(systems.runge_kutta(flow, np.array(x), step) - exact(flow, x, step))
    assert error.max() < 1e-4 * np.abs(x).max()


def test_the_angle_of_the_pendulum_satisfies_its_equation():
    """By central differences of the record itself: theta'' = 9 sin theta - 0.1 theta' + 10 u."""
    data = load_records("pendulum", samples=400, noise=0.0)
    theta, u, h = data.train.outputs[0].ravel(), data.train.inputs[0].ravel(), 0.05
    second = (theta[2:] - 2 * theta[1:-1] + theta[:-2]) / h**2
    force = 5 * (u[:-2] + u[1:-1])  # held between the samples
    expected = 9 * np.sin(theta[1:-1]) - 0.1 * (theta[2:] - theta[:-2]) / (2 * h) + force
    assert np.abs(second - expected).max() < 0.02 * np.abs(second).max()
    assert np.abs(theta).max() < 1.5


def test_tanks_overflow_at_their_brim():
    level = load_records("tanks", samples=3000, noise=0.0).train.outputs[0]
    assert level.max() == 10.0
    assert 0 <= level.min() < 4
    assert np.mean(level == 10.0) < 0.1


def test_the_wiener_system_is_a_filter_and_tanh():
    data = load_records("wiener", samples=50, noise=0.0)
    state = np.zeros(2)
    for v, y in zip(data.train.inputs[0], data.train.outputs[0], strict=True):
        assert y[0] == pytest.approx(np.tanh(state[0]), abs=1e-12)
        state = np.array([0.8 * state[0] + 0.3 * state[1] + 0.3 * v[0], -0.3 * state[0] + 0.8 * state[1] + 0.6 * v[0]])
