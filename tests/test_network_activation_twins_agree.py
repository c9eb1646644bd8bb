"""Each activation's NumPy form is its CasADi definition: value, slope and curvature, at zero and far out too."""

from __future__ import annotations

import casadi as ca
import numpy as np
import pytest

from ocp_nn.network.activations import ACTIVATIONS, activation

POINTS = np.concatenate(
    [np.linspace(-6, 6, 97), [0.0, -0.0, 1e-300, -1e-300, 30, -30, 700, -700, 800, -800, 1e8, -1e8]]
)
EPS = np.finfo(float).eps


def derivatives(name: str) -> ca.Function:
    a = ca.SX.sym("a")
    value = ACTIVATIONS[name].symbolic(a)
    slope = ca.gradient(value, a)
    return ca.Function("phi", [a], [value, slope, ca.gradient(slope, a)])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_value_slope_and_curvature(name):
    phi = ACTIVATIONS[name]
    expected = np.array([[float(d) for d in derivatives(name)(point)] for point in POINTS]).T
    value = phi.value(POINTS)
    np.testing.assert_allclose(value, expected[0], rtol=8 * EPS, atol=4 * EPS)
    np.testing.assert_allclose(phi.slope(value), expected[1], rtol=8 * EPS, atol=4 * EPS)
    np.testing.assert_allclose(phi.curvature(value), expected[2], rtol=8 * EPS, atol=4 * EPS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_inverse_is_a_right_inverse_on_the_range(name):
    phi = ACTIVATIONS[name]
    values = phi.value(np.linspace(-2, 2, 41))
    np.testing.assert_allclose(
        phi.value(phi.inverse(values)), values, rtol=1e-12, atol=2e-3 if name == "softplus" else 0
    )


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_inverse_is_finite_outside_the_range(name):
    assert np.isfinite(ACTIVATIONS[name].inverse(np.array([-5.0, 0.0, 1.0, 5.0]))).all()


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(
        ValueError, match="activation must be one of tanh, sigmoid, relu, softplus, identity, received 'swish'"
    ):
        activation("swish")
