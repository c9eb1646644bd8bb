"""Claim: the derivative checker passes right derivatives of any scale and names the layer and derivative gone wrong."""

from __future__ import annotations

from dataclasses import replace

import casadi as ca
import numpy as np
import pytest

from ocp_nn import Dense, Network
from ocp_nn.network.check_derivatives import check_derivatives
from ocp_nn.network.linear_stages import DenseStage


def _stage() -> ca.Function:
    x, u = ca.SX.sym("x", 3), ca.SX.sym("u", 7)
    return ca.Function("stage", [x, u], [ca.sin(ca.reshape(u[:6], 2, 3) @ x) + u[6] ** 2 * ca.sumsqr(x)])


def _stage_with_wrong_jacobian() -> ca.Function:
    """A stage that brings its own Jacobian in u, 1 % off in one column."""
    x, u = ca.MX.sym("x", 2), ca.MX.sym("u", 2)
    out = ca.tanh(x * u)
    in_x, in_u = ca.jacobian(out, x), ca.jacobian(out, u)
    wrong = ca.horzcat(in_u[:, 0], 1.01 * in_u[:, 1])
    sym = ca.MX.sym("out", 2)
    jacobian = ca.Function("jac_wrong", [x, u, sym], [in_x, wrong], ["x", "u", "out_o0"], ["jac_o0_i0", "jac_o0_i1"])
    options = {"custom_jacobian": jacobian, "never_inline": True, "enable_forward": False, "enable_reverse": False}
    return ca.Function("wrong", [x, u], [out], options)


@pytest.mark.parametrize(
    "network",
    [
        Network.mlp([3, 4, 4, 2], "tanh", residual=True),
        Network.mlp([2, 5, 1], "sigmoid"),
        Network.mlp([2, 5, 1], "softplus"),
        Network([Dense(2, 3, "tanh"), Dense(3, 3, "softplus", residual=True), _stage()]),
        _stage(),
        Dense(3, 2, "sigmoid"),
    ],
    ids=["residual tanh", "sigmoid", "softplus", "mixed", "function", "layer"],
)
def test_right_derivatives_pass(network) -> None:
    report = check_derivatives(network)
    assert report, str(report)
    assert "WRONG" not in str(report)
    names = {check.name for check in report.checks}
    assert names >= {"df/dx", "df/du", "df/dx transpose", "Hessian in u, u", "second derivative"}


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_scales_of_the_data_do_not_matter(scale: float) -> None:
    network = Network.mlp([2, 3, 1])
    x = scale * np.random.default_rng(0).standard_normal((6, 2))
    controls = [u / scale if k == 0 else u for k, u in enumerate(network.init_controls(1))]
    controls[0][-3:] = 0.2
    report = check_derivatives(network, x, controls)
    assert report, str(report)


def test_relu_away_from_its_kink_passes() -> None:
    controls = (np.array([1.0, -1.0, 0.5, 4.0]), np.array([1.0, 2.0, 0.0]))
    network = Network([Dense(1, 2, "relu"), Dense(2, 1, "identity")])
    assert check_derivatives(network, np.array([[1.0], [2.0]]), controls)
    # at the kink (-4 + 4 = 0) the differences see half a slope
    assert not check_derivatives(network, np.array([[1.0], [4.0]]), controls)


def test_a_wrong_jacobian_of_the_user_is_named() -> None:
    network = Network([Dense(3, 2, "tanh"), _stage_with_wrong_jacobian(), Dense(2, 1, "identity")])
    report = check_derivatives(network)
    assert not report
    named = {(check.layer, check.name) for check in report.wrong}
    assert (1, "df/du") in named
    assert {layer for layer, _ in named} == {1}
    assert (1, "df/dx") not in named
    assert "WRONG" in str(report)


def test_a_wrong_slope_formula_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network.mlp([2, 3, 1], "tanh")
    layer = network.layers[0]
    object.__setattr__(layer, "phi", replace(layer.phi, slope=lambda y: 1.001 * (1 - y * y)))
    wrong = {(check.layer, check.name) for check in check_derivatives(network).wrong}
    assert {(0, "df/dx"), (0, "df/du")} <= wrong
    assert all(k == 0 for k, _ in wrong)


def test_a_wrong_curvature_formula_is_named() -> None:
    network = Network.mlp([2, 3, 1], "tanh")
    layer = network.layers[0]
    object.__setattr__(layer, "phi", replace(layer.phi, curvature=lambda y: 1.01 * -2 * y * (1 - y * y)))
    wrong = {(check.layer, check.name) for check in check_derivatives(network).wrong}
    assert {(0, "Hessian in x, x"), (0, "Hessian in u, u"), (0, "second derivative")} <= wrong
    assert all(k == 0 and name.startswith(("Hessian", "second derivative")) for k, name in wrong)


@pytest.mark.parametrize("activation", ["tanh", "identity"])
def test_a_wrong_second_derivative_is_named(activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bilinear term W, x taken once instead of twice; the Hessian's products do not know of it."""
    original = DenseStage.second_derivative

    def once(self, dx, du):
        in_state = 0.0 if dx is None else self.slope * (dx @ self.layer.weights(du)[0].T)
        return original(self, dx, du) - in_state

    monkeypatch.setattr(DenseStage, "second_derivative", once)
    wrong = {(check.layer, check.name) for check in check_derivatives(Network([Dense(2, 3, activation)])).wrong}
    assert wrong == {(0, "second derivative")}


def test_a_transpose_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    original = DenseStage.transpose_control
    monkeypatch.setattr(DenseStage, "transpose_control", lambda self, eta: 0.999 * original(self, eta))
    wrong = {check.name for check in check_derivatives(Network.mlp([2, 3, 1])).wrong}
    assert "df/du transpose" in wrong
    assert "df/du" not in wrong


def test_a_point_with_infinite_values_is_refused() -> None:
    x, u = ca.SX.sym("x"), ca.SX.sym("u")
    stage = ca.Function("log", [x, u], [ca.log(x) * u])
    with pytest.raises(ValueError, match="layer 0 is not finite"):
        check_derivatives(stage, np.array([[-1.0]]))
