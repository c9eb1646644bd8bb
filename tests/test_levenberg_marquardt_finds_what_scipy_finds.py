"""The small dense Levenberg-Marquardt ends where SciPy's does, keeps away from overflow, and never goes up."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares

from ocp_nn.network.levenberg_marquardt import minimise_squares

T = np.linspace(0, 3, 40)
Y = 2 * np.exp(-1.3 * T) + 0.5 + 0.05 * np.random.default_rng(0).standard_normal(40)

PROBLEMS = {
    "rosenbrock": (
        lambda x: np.array([10 * (x[1] - x[0] ** 2), 1 - x[0]]),
        lambda x: np.array([[-20 * x[0], 10.0], [-1.0, 0.0]]),
        np.array([-1.2, 1.0]),
    ),
    "decay": (
        lambda x: x[0] * np.exp(-x[1] * T) + x[2] - Y,
        lambda x: np.column_stack([np.exp(-x[1] * T), -x[0] * T * np.exp(-x[1] * T), np.ones_like(T)]),
        np.array([1.0, 0.0, 0.0]),
    ),
    "scales": (
        lambda x: np.array([1e3 * (x[0] - 1), 1e-3 * (x[1] + 4), x[0] * x[1] * 1e-3]),
        lambda x: np.array([[1e3, 0], [0, 1e-3], [x[1] * 1e-3, x[0] * 1e-3]]),
        np.array([0.0, 0.0]),
    ),
    "a direction without curvature": (
        lambda x: np.array([x[0] + x[1] - 1.0]),
        lambda x: np.array([[1.0, 1.0]]),
        np.array([3.0, 0.0]),
    ),
}


def minimised(name, **options):
    residuals, jacobian, start = PROBLEMS[name]

    def normal_equations(x):
        j = jacobian(x)
        return j.T @ j, j.T @ residuals(x)

    return minimise_squares(lambda x: float(np.sum(residuals(x) ** 2)) / 2, normal_equations, start, **options)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_minimum_is_scipys(name):
    residuals, jacobian, start = PROBLEMS[name]
    expected = least_squares(residuals, start, jacobian, xtol=1e-15, ftol=1e-15, gtol=1e-15)
    x, value = minimised(name, max_steps=200)
    assert value == pytest.approx(expected.cost, rel=1e-8, abs=1e-15)
    assert value == pytest.approx(np.sum(residuals(x) ** 2) / 2, rel=1e-12, abs=1e-30)
    if name != "a direction without curvature":
        np.testing.assert_allclose(x, expected.x, rtol=1e-5)


@pytest.mark.parametrize("name", PROBLEMS)
def test_more_steps_are_never_worse(name):
    values = [minimised(name, max_steps=steps)[1] for steps in range(12)]
    assert values == sorted(values, reverse=True)


def test_overflow_is_stepped_back_from():
    """From -7 on, a Gauss-Newton step for e^x = 1 leads to where e^x overflows."""
    start = np.array([-7.0])
    assert (start - (np.exp(start) - 1) / np.exp(start))[0] > 710
    x, value = minimise_squares(
        lambda x: float((np.exp(x[0]) - 1) ** 2) / 2,
        lambda x: (np.exp(2 * x)[:, None], np.exp(x) * (np.exp(x) - 1)),
        start,
        max_steps=500,
    )
    assert abs(x[0]) < 1e-6 and value < 1e-12


def test_a_start_that_is_not_finite_comes_back():
    x, value = minimise_squares(lambda x: float("nan"), lambda x: (np.eye(1), x), np.array([2.0]))
    assert x == [2.0] and np.isnan(value)
