"""Claim: Hessian-vector products and the dense reduced Hessian are CasADi's derivatives of the same objective."""

from __future__ import annotations

import casadi as ca
import numpy as np
import pytest

from ocp_nn import Dense, Network, TrainingProblem
from ocp_nn.problem import curvature as curvature_module
from ocp_nn.problem.curvature import hessian_product, reduced_hessian


def _bilinear_stage(n_in: int, n_out: int) -> ca.Function:
    """A stage no dense layer covers: products of states, and controls that enter nonlinearly."""
    x, u = ca.SX.sym("x", n_in), ca.SX.sym("u", n_in * n_out + 1)
    weight = ca.reshape(u[:-1], n_out, n_in)
    return ca.Function("bilinear", [x, u], [ca.sin(weight @ x) + u[-1] ** 2 * ca.sumsqr(x)])


NETWORKS = {
    "one stage": Network.mlp([3, 2]),
    "tanh": Network.mlp([3, 4, 2], "tanh"),
    "sigmoid, width changes": Network.mlp([2, 5, 3, 1], "sigmoid"),
    "softplus, residual": Network.mlp([3, 3, 3, 2], "softplus", residual=True),
    "relu": Network.mlp([2, 4, 4, 1], "relu"),
    "nonlinear last layer": Network([Dense(2, 3, "tanh"), Dense(3, 2, "sigmoid")]),
    "symbolic between dense": Network([Dense(2, 3, "tanh"), _bilinear_stage(3, 2), Dense(2, 1, "identity")]),
    "symbolic only": Network([_bilinear_stage(2, 2), _bilinear_stage(2, 1)]),
}


def _problem(network: Network, num_samples: int = 7, seed: int = 0) -> tuple[TrainingProblem, tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((num_samples, network.num_inputs))
    y = rng.standard_normal((num_samples, network.num_outputs))
    controls = tuple(0.6 * rng.standard_normal(layer.num_controls) for layer in network.layers)
    return TrainingProblem(network, x, y, weight_decay=0.3), controls


def _casadi_hessian(problem: TrainingProblem, controls: tuple[np.ndarray, ...]) -> np.ndarray:
    u = ca.SX.sym("u", problem.network.num_controls)
    cuts = np.cumsum([0, *(layer.num_controls for layer in problem.network.layers)])
    objective = problem.weight_decay / 2 * ca.sumsqr(u)
    for x, y in zip(problem.x, problem.y, strict=True):
        state = ca.DM(x)
        for k, stage in enumerate(problem.network.stages):
            state = stage(state, u[int(cuts[k]) : int(cuts[k + 1])])
        objective += ca.sumsqr(state - ca.DM(y)) / 2
    hessian = ca.Function("hessian", [u], [ca.hessian(objective, u)[0]])
    return np.array(hessian(np.concatenate(controls)))


def _linearisation(problem: TrainingProblem, controls: tuple[np.ndarray, ...]):
    trajectory = problem.rollout(controls)
    return problem.linearize(trajectory), problem.adjoints(trajectory).costates


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_dense_hessian_is_casadis(network: Network) -> None:
    problem, controls = _problem(network)
    expected = _casadi_hessian(problem, controls)
    np.testing.assert_allclose(reduced_hessian(problem, controls), expected, rtol=0, atol=1e-10 * abs(expected).max())


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_product_is_a_product_with_casadis_hessian(network: Network) -> None:
    problem, controls = _problem(network)
    hessian = _casadi_hessian(problem, controls)
    direction = np.random.default_rng(1).standard_normal(len(hessian))
    product = hessian_product(problem, *_linearisation(problem, controls), network.split(direction))
    expected = hessian @ direction
    np.testing.assert_allclose(np.concatenate(product), expected, rtol=0, atol=1e-10 * abs(expected).max())


@pytest.mark.parametrize("name", ["tanh", "softplus, residual", "symbolic between dense"])
def test_chunks_of_samples_add_up(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, controls = _problem(NETWORKS[name], num_samples=11)
    whole = reduced_hessian(problem, controls)
    monkeypatch.setattr(curvature_module, "_CHUNK", 4 * max(problem.network.sizes) * len(whole))
    np.testing.assert_allclose(reduced_hessian(problem, controls), whole, rtol=0, atol=1e-12 * abs(whole).max())


@pytest.mark.parametrize("name", ["tanh", "symbolic only"])
def test_gauss_newton_is_the_hessian_where_residuals_vanish(name: str) -> None:
    network = NETWORKS[name]
    problem, controls = _problem(network)
    fitted = TrainingProblem(network, problem.x, network.predict(controls, problem.x), problem.weight_decay)
    np.testing.assert_allclose(
        reduced_hessian(fitted, controls, gauss_newton=True), reduced_hessian(fitted, controls), atol=1e-12
    )
    full, gauss_newton = reduced_hessian(problem, controls), reduced_hessian(problem, controls, gauss_newton=True)
    assert abs(full - gauss_newton).max() > 1e-2
