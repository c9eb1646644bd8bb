"""Claim: every number of the dense route is numpy.linalg's on Jacobians and Hessians that CasADi builds.

The matrices here come from the CasADi programs of :mod:`ocp_nn.solvers.nlp.transcription` and plain linear algebra: the
matrices that forward DP factorises as Schur complements of the augmented Lagrangian's, not from its recursions.
"""

from __future__ import annotations

import casadi as ca
import numpy as np
import pytest
from numpy.testing import assert_allclose

from ocp_nn import Network, TrainingProblem, Trajectory
from ocp_nn.analysis.conditioning import linearise_at, measure, measure_layers
from ocp_nn.analysis.conditioning.dense import carried_covariances, constraint_jacobian, information_factors, kkt_matrix
from ocp_nn.forward_dp.condensed import Condensed
from ocp_nn.forward_dp.dual import DualForm
from ocp_nn.forward_dp.information import InformationForm
from ocp_nn.forward_dp.primal import PrimalForm
from ocp_nn.solvers.nlp.transcription import transcribe

# Condition numbers beyond this cannot be known to 1e-8 in double precision, by anybody.
RESOLVED = 1e7

RHO, MU = 0.2, 0.3

CASES = {
    "tanh": (Network.mlp([2, 3, 3, 3, 2], "tanh"), 5),
    "sigmoid, more data than weights": (Network.mlp([1, 2, 2, 1], "sigmoid"), 30),
    "softplus, residual": (Network.mlp([3, 3, 3, 1], "softplus", residual=True), 4),
    "relu": (Network.mlp([2, 4, 3, 1], "relu"), 6),
}


def perturbed(network, samples, seed=0):
    """A problem and a point off the dynamics, with arbitrary multipliers."""
    rng = np.random.default_rng(seed)
    x, y = (rng.standard_normal((samples, n)) for n in (network.num_inputs, network.num_outputs))
    problem = TrainingProblem(network, x, y, RHO)
    rollout = problem.rollout(tuple(0.7 * rng.standard_normal(layer.num_controls) for layer in network.layers))
    states = (rollout.states[0], *(s + 0.1 * rng.standard_normal(s.shape) for s in rollout.states[1:]))
    return problem, Trajectory(rollout.controls, states, tuple(rng.standard_normal(s.shape) for s in states))


class Explicit:
    """W, W_GN, C and the residual's Jacobian from CasADi, and which variables are controls."""

    def __init__(self, problem, trajectory, nodes):
        nlp = transcribe(problem, nodes)
        x, lam = nlp.problem["x"], ca.MX.sym("lam", nlp.num_constraints)
        lagrangian = nlp.problem["f"] + ca.dot(lam, nlp.problem["g"])
        self.controls = np.zeros(nlp.num_variables, dtype=bool)
        for block in nlp.variables:
            self.controls[block.where] = block.kind == "control"
        # the residual: the gradient of f in the targets, which enter as 1/2 |out - y|^2
        residual = self._residual(nlp, problem)
        parts = [ca.hessian(lagrangian, x)[0], ca.jacobian(nlp.problem["g"], x), ca.jacobian(residual, x)]
        evaluate = ca.Function("parts", [x, lam], [ca.densify(part) for part in parts])
        start = nlp.pack(trajectory)
        self.hessian, self.c, self.r = (np.array(v) for v in evaluate(start["x0"], start["lam_g0"]))
        self.c = self.c.reshape(nlp.num_constraints, nlp.num_variables)
        self.gauss_newton = self.r.T @ self.r + RHO * np.diag(self.controls.astype(float))

    @staticmethod
    def _residual(nlp, problem):
        blocks = {block.name: block.where for block in nlp.variables}
        x = nlp.problem["x"]
        state = ca.DM(problem.x.T)
        for k, layer in enumerate(problem.network.layers):
            if f"x{k}" in blocks:
                state = ca.reshape(x[blocks[f"x{k}"]], layer.num_inputs, problem.num_samples)
            state = layer.function.map(problem.num_samples)(
                state, ca.repmat(x[blocks[f"u{k}"]], 1, problem.num_samples)
            )
        return ca.vec(state - ca.DM(problem.y.T))

    def kkt(self, hessian):
        return np.block([[hessian, self.c.T], [self.c, np.zeros((len(self.c),) * 2)]])

    def al(self, beta):
        return self.gauss_newton + MU * np.diag(self.controls.astype(float)) + beta * self.c.T @ self.c

    def primal(self, beta):
        """Schur complement of the states in the augmented Lagrangian's matrix."""
        m, u = self.al(beta), self.controls
        return m[np.ix_(u, u)] - m[np.ix_(u, ~u)] @ np.linalg.solve(m[np.ix_(~u, ~u)], m[np.ix_(~u, u)])

    def dual(self, beta):
        """(rho + mu) times the covariance of the residual whose information is the rest of that matrix."""
        prior = self.al(beta) - self.r.T @ self.r
        return (RHO + MU) * (np.eye(len(self.r)) + self.r @ np.linalg.solve(prior, self.r.T))


def expected_matrices(explicit, beta):
    """(matrix name, penalty) -> the matrix."""
    if len(explicit.c):
        fixed = {
            "constraint_jacobian": explicit.c,
            "kkt": explicit.kkt(explicit.hessian),
            "kkt_gauss_newton": explicit.kkt(explicit.gauss_newton),
        }
        scaled = {"al_gauss_newton": explicit.al, "dual": explicit.dual, "primal": explicit.primal}
        scaled["primal_qr"] = lambda b: np.linalg.cholesky(explicit.primal(b))
        return {(n, None): m for n, m in fixed.items()} | {(n, beta): make(beta) for n, make in scaled.items()}
    rho, gram = RHO * np.eye(len(explicit.hessian)), explicit.r.T @ explicit.r
    fixed = {
        "jacobian": explicit.r,
        "gauss_newton": gram + rho,
        "gauss_newton_no_decay": gram,
        "hessian": explicit.hessian,
        "hessian_no_decay": explicit.hessian - rho,
        "dual": explicit.r @ explicit.r.T + (RHO + MU) * np.eye(len(explicit.r)),
        "primal": explicit.al(1.0),
        "primal_qr": np.linalg.cholesky(explicit.al(1.0)),
    }
    return {(name, None): matrix for name, matrix in fixed.items()}


@pytest.mark.parametrize("nodes", ["none", "second", "all"])
@pytest.mark.parametrize("case", CASES)
def test_every_spectrum(case, nodes):
    network, samples = CASES[case]
    problem, trajectory = perturbed(network, samples)
    chosen = {"none": (), "second": (2,), "all": range(1, problem.num_stages)}[nodes]
    explicit = Explicit(problem, trajectory, chosen)
    beta = 7.0
    found = measure(problem, trajectory, nodes=[chosen], penalties=(beta,), damping=MU, route="dense")
    spectra = {(m.matrix, m.penalty): m.spectrum for m in found if m.matrix not in ("covariance", "information")}
    expected = expected_matrices(explicit, beta)
    assert spectra.keys() == expected.keys()
    for key, matrix in expected.items():
        check_spectrum(key, spectra[key], matrix)


def check_spectrum(key, spectrum, matrix):
    values = np.linalg.svd(matrix, compute_uv=False)
    assert (spectrum.rows, spectrum.columns) == matrix.shape, key
    assert_allclose(spectrum.largest, values[0], rtol=1e-8, err_msg=str(key))
    assert_allclose(np.abs(spectrum.values), values, rtol=0, atol=1e-12 * values[0], err_msg=str(key))
    condition = np.linalg.cond(matrix)
    if condition < RESOLVED:
        assert_allclose(spectrum.condition, condition, rtol=1e-8, err_msg=str(key))
        assert spectrum.rank == np.linalg.matrix_rank(matrix), key
    else:
        assert spectrum.condition > RESOLVED, key
    if spectrum.negative is not None:
        eigenvalues = np.linalg.eigvalsh(matrix)
        assert spectrum.negative == np.sum(eigenvalues < -1e-12 * values[0]), key


def test_most_of_these_are_resolved():
    """The check above would mean little if it skipped the condition numbers."""
    skipped = total = 0
    for network, samples in CASES.values():
        problem, trajectory = perturbed(network, samples)
        for m in measure(problem, trajectory, penalties=(7.0,), damping=MU, route="dense"):
            total += 1
            skipped += m.spectrum.condition >= RESOLVED
    assert skipped < 0.2 * total


@pytest.mark.parametrize("nodes", [(2,), (1, 3), (1, 2, 3)])
def test_matrices_entry_by_entry(nodes):
    problem, trajectory = perturbed(*CASES["tanh"])
    explicit, point = Explicit(problem, trajectory, nodes), linearise_at(problem, trajectory, nodes)
    assert_allclose(constraint_jacobian(point), explicit.c, atol=1e-13)
    assert_allclose(kkt_matrix(point), explicit.kkt(explicit.hessian), atol=1e-12)
    assert_allclose(kkt_matrix(point, gauss_newton=True), explicit.kkt(explicit.gauss_newton), atol=1e-12)


@pytest.mark.parametrize("beta", [1.0, 1e3])
@pytest.mark.parametrize("nodes", [(2,), (1, 2, 3)])
def test_condensed_matrices_are_those_forward_dp_factorises(nodes, beta):
    problem, trajectory = perturbed(*CASES["tanh"])
    point = linearise_at(problem, trajectory, nodes, damping=MU)
    explicit, sub = Explicit(problem, trajectory, nodes), point.subproblem(beta)
    dual, primal, information = (make(Condensed(sub)).factor(sub) for make in (DualForm, PrimalForm, InformationForm))
    lower, upper = np.triu(dual.triangle).T, np.triu(primal.triangle)
    assert_allclose(lower @ lower.T, explicit.dual(beta), rtol=1e-9, atol=1e-9)
    assert_allclose(upper.T @ upper, explicit.primal(beta), rtol=1e-9, atol=1e-9)
    for elimination, columns in zip(information.eliminations, information_factors(point, beta), strict=True):
        cut = elimination.cut
        triangle = np.triu(elimination.reflectors[:cut, :cut])
        assert_allclose(np.linalg.cond(triangle), np.linalg.cond(columns), rtol=1e-8)
    assert_allclose(carried_covariances(point, beta)[-1], explicit.dual(beta), rtol=1e-9, atol=1e-9)


def test_carried_covariance_is_the_marginal_of_the_dynamics():
    """(rho + mu) P_k is the state block of the inverse of the prior's information matrix."""
    problem, trajectory = perturbed(*CASES["tanh"])
    nodes, beta = (1, 2, 3), 5.0
    point = linearise_at(problem, trajectory, nodes, damping=MU)
    explicit = Explicit(problem, trajectory, nodes)
    covariance = (RHO + MU) * np.linalg.inv(explicit.al(beta) - explicit.r.T @ explicit.r)
    for block in transcribe(problem, nodes).variables:
        if block.kind == "state":
            carried = carried_covariances(point, beta)[block.stage - 1]
            assert_allclose(carried, covariance[block.where, block.where], rtol=1e-9, atol=1e-9)


def test_stages_one_by_one():
    problem, trajectory = perturbed(*CASES["tanh"])
    rollout = problem.lift(trajectory.controls)
    layers = measure_layers(problem, rollout)
    jacobians = []
    for k, stage in enumerate(problem.network.stages):
        derivative = stage.jacobian()
        jacobians.append(
            [np.array(derivative(x, rollout.controls[k], 0)[0]) for x in rollout.states[k]]
        )  # fmt: skip
    for first in range(problem.num_stages):
        products = [np.eye(problem.network.sizes[first])] * problem.num_samples
        for last in range(first, problem.num_stages):
            products = [a @ p for a, p in zip(jacobians[last], products, strict=True)]
            values = np.array([np.linalg.svd(p, compute_uv=False) for p in products])
            assert_allclose(layers.product_largest[first, last], np.median(values[:, 0]), rtol=1e-8)
            assert_allclose(layers.product_smallest[first, last], np.median(values[:, -1]), rtol=1e-8)
    assert np.isnan(layers.product_largest[2, 1])
    outputs = problem.network.predict(rollout.controls, problem.x)
    spread = [x.var(axis=0).mean() for x in (*rollout.states, outputs)]
    assert_allclose(layers.state_variance, spread, rtol=1e-12)
    assert_allclose(layers.gradient_norm, casadi_gradient_norms(problem, rollout.controls), rtol=1e-8)


def casadi_gradient_norms(problem, controls):
    nlp = transcribe(problem, ())
    x = nlp.problem["x"]
    gradient = ca.Function("g", [x], [ca.gradient(nlp.problem["f"], x) - RHO * x])
    flat = np.array(gradient(np.concatenate(controls))).ravel()
    return [np.linalg.norm(part) for part in problem.network.split(flat)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"route": "fast"}, "route must be one of auto.*received 'fast'"),
        ({"matrices": ["hessan"]}, "matrices must be .*hessan"),
        ({"penalties": (0.0,)}, "penalties must be a sequence of finite numbers > 0"),
        ({"nodes": [(9,)]}, "nodes must lie in 1..3"),
        ({"damping": -1.0}, "damping must be"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    problem, trajectory = perturbed(*CASES["tanh"])
    with pytest.raises(ValueError, match=message):
        measure(problem, trajectory, **options)


def test_weight_decay_is_needed():
    problem, trajectory = perturbed(*CASES["tanh"])
    with pytest.raises(ValueError, match="weight_decay must be positive"):
        measure(TrainingProblem(problem.network, problem.x, problem.y, 0.0), trajectory)
