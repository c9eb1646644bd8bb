"""Claim: the iterative route agrees with the dense one to 1 %, and what it calls a bound is one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ocp_nn import Network, TrainingProblem, Trajectory
from ocp_nn.analysis.conditioning import dense, formulations, linearise_at, measure
from ocp_nn.analysis.conditioning.operators import Operators

CASES = {
    "tanh, more weights than data": (Network.mlp([2, 5, 5, 5, 2], "tanh"), 12),
    "sigmoid, more data than weights": (Network.mlp([1, 3, 3, 1], "sigmoid"), 40),
    "relu": (Network.mlp([3, 6, 6, 1], "relu"), 15),
    "softplus, residual": (Network.mlp([4, 4, 4, 4, 1], "softplus", residual=True), 10),
}


def perturbed(name, weight_decay=1e-2):
    network, samples = CASES[name]
    rng = np.random.default_rng(3)
    x, y = (rng.standard_normal((samples, n)) for n in (network.num_inputs, network.num_outputs))
    problem = TrainingProblem(network, x, y, weight_decay)
    rollout = problem.rollout(network.init_controls(0))
    states = (rollout.states[0], *(s + 0.1 * rng.standard_normal(s.shape) for s in rollout.states[1:]))
    return problem, Trajectory(rollout.controls, states, tuple(rng.standard_normal(s.shape) for s in states))


def spectra(problem, trajectory, **options):
    found = measure(problem, trajectory, penalties=(1.0, 1e4), damping=1e-2, **options)
    return {(m.matrix, m.shooting, m.penalty): m.spectrum for m in found}


@pytest.mark.parametrize("case", CASES)
def test_within_one_percent(case):
    problem, trajectory = perturbed(case)
    written, iterated = (spectra(problem, trajectory, route=route) for route in ("dense", "iterative"))
    missing = {name for name, _, _ in written.keys() - iterated.keys()}
    assert missing <= {"covariance", "information"}
    for key, spectrum in iterated.items():
        known = written[key]
        assert spectrum.route == "iterative", key
        assert (spectrum.rows, spectrum.columns) == (known.rows, known.columns), key
        assert_allclose(spectrum.largest, known.largest, rtol=1e-2, err_msg=str(key))
        assert spectrum.accuracy < 1e-2 or spectrum.is_bound or np.isinf(spectrum.condition), key
        if spectrum.is_bound:
            assert spectrum.condition <= known.condition * 1.01, key
        elif not known.is_singular:
            assert_allclose(spectrum.condition, known.condition, rtol=1e-2, err_msg=str(key))
        else:
            assert spectrum.condition > 1e9, key


@pytest.mark.parametrize("case", ["tanh, more weights than data", "softplus, residual"])
def test_without_room_for_a_dense_hessian_bounds_remain(case, monkeypatch):
    problem, trajectory = perturbed(case)
    written = spectra(problem, trajectory, route="dense")
    monkeypatch.setattr(formulations, "DENSE_HESSIAN", 0)
    iterated = spectra(problem, trajectory, route="iterative")
    bounds = {key for key, spectrum in iterated.items() if spectrum.is_bound}
    assert {name for name, _, _ in bounds} == {"hessian", "hessian_no_decay", "constraint_jacobian", "kkt"}
    for key in bounds:
        assert 1.0 <= iterated[key].condition <= written[key].condition * 1.01, key
    # the preconditioned search is close, not just below
    key = ("constraint_jacobian", "multiple", None)
    assert_allclose(iterated[key].condition, written[key].condition, rtol=0.1)


def test_dead_units_make_singular_matrices_not_errors():
    network = Network.mlp([1, 3, 3, 1], "relu")
    problem = TrainingProblem(network, np.linspace(-1, 1, 8)[:, None], np.ones((8, 1)), 1e-2)
    start = problem.lift([np.zeros(layer.num_controls) for layer in network.layers])
    found = {m.matrix: m.spectrum for m in measure(problem, start, nodes=[()], route="iterative")}
    assert np.isinf(found["hessian_no_decay"].condition)
    assert np.isinf(found["gauss_newton_no_decay"].condition)
    assert np.isfinite(found["gauss_newton"].condition)


def test_auto_takes_the_route_by_size(monkeypatch):
    problem, trajectory = perturbed("tanh, more weights than data")
    key = ("kkt", "multiple", None)
    assert spectra(problem, trajectory)[key].route == "dense"
    monkeypatch.setattr(formulations, "DENSE_ORDER", 10)
    assert spectra(problem, trajectory)[key].route == "iterative"


def columns(product, size):
    return np.column_stack([product(e) for e in np.eye(size)])


@pytest.mark.parametrize("nodes", [(), (2,), (1, 3), (1, 2, 3)])
@pytest.mark.parametrize("case", ["tanh, more weights than data", "softplus, residual"])
def test_products_and_inverses(case, nodes):
    problem, trajectory = perturbed(case)
    point = linearise_at(problem, trajectory, nodes, damping=0.1)
    operators = Operators(point)
    size = operators.num_variables
    for gauss_newton in (False, True):
        kkt = dense.kkt_matrix(point, gauss_newton=gauss_newton)
        product = columns(lambda v, gn=gauss_newton: operators.kkt(v, gauss_newton=gn), len(kkt))
        inverse = columns(operators.kkt_inverse(gauss_newton=gauss_newton), len(kkt))
        assert_allclose(product, kkt, atol=1e-11)
        assert_allclose(inverse @ kkt, np.eye(len(kkt)), atol=1e-8)
    al = dense.al_matrix(point, 3.0)
    assert_allclose(columns(lambda z: operators.al_matrix(z, 3.0), size), al, atol=1e-11)
    assert_allclose(columns(operators.al_inverse(3.0), size) @ al, np.eye(size), atol=1e-8)
    root, dual = dense.primal_root(point, 3.0), dense.dual_matrix(point, 3.0)
    primal = columns(operators.control_inverse(3.0), point.num_controls) @ root.T @ root
    assert_allclose(primal, np.eye(point.num_controls), atol=1e-8)
    assert_allclose(columns(operators.output_inverse(3.0), len(dual)) @ dual, np.eye(len(dual)), atol=1e-8)
    if nodes:
        c = dense.constraint_jacobian(point)
        assert_allclose(columns(operators.constraint_transpose, len(c)), c.T, atol=1e-12)
        inverse = columns(operators.constraint_gram_inverse(), len(c))
        assert_allclose(inverse @ (c @ c.T), np.eye(len(c)), atol=1e-8)
    else:
        jacobian = dense.output_jacobian(point)
        assert_allclose(columns(operators.output_jacobian, size), jacobian, atol=1e-12)
        assert_allclose(columns(operators.output_jacobian_transpose, len(jacobian)), jacobian.T, atol=1e-12)
