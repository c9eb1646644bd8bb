"""A step satisfies the conditions of the least-squares problem, checked from their definition and from CasADi."""

from __future__ import annotations

import casadi as ca
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import optimality_residuals
from subproblems import DENSE, GENERIC, INF, subproblem

from ocp_nn import Network, TrainingProblem, forward_dp
from ocp_nn.forward_dp import Subproblem

BETAS = st.sampled_from([1e-2, 1.0, 1e2, 1e5, INF])


@st.composite
def random_subproblems(draw):
    """Any shape, penalty and damping; inputs may be rank deficient, repeated or constant."""
    widths = draw(st.lists(st.integers(1, 4), min_size=2, max_size=5))
    samples = draw(st.integers(1, 9))
    seed = draw(st.integers(0, 2**16))
    activation = draw(st.sampled_from(["tanh", "sigmoid", "relu", "softplus"]))
    network = Network.mlp(widths, activation, residual=draw(st.booleans()))
    x = np.random.default_rng(seed).standard_normal((samples, widths[0]))
    degeneracy = draw(st.sampled_from(["none", "rank one", "repeated samples", "zero variance", "zero inputs"]))
    if degeneracy == "rank one":
        x = np.outer(x[:, 0], np.arange(1.0, widths[0] + 1))
    elif degeneracy == "repeated samples":
        x[:] = x[0]
    elif degeneracy == "zero variance":
        x[:, -1] = 3.0
    elif degeneracy == "zero inputs":
        x[:] = 0.0
    penalty = draw(st.lists(BETAS, min_size=len(widths) - 2, max_size=len(widths) - 2))
    rho, mu = draw(st.sampled_from([(1e-4, 0.0), (0.0, 1e-4), (1e-2, 1.0), (1.0, 0.0)]))
    return subproblem(network, samples, penalty, weight_decay=rho, damping=mu, x=x, seed=seed)


def assert_optimal(sub, step, tolerance=1e-8):
    residuals = optimality_residuals(sub, step)
    assert max(residuals.values()) <= tolerance, (step.form, residuals)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(random_subproblems())
def test_random_problems_in_every_form(sub):
    for form in forward_dp.FORMS:
        assert_optimal(sub, forward_dp.solve(sub, form))


@pytest.mark.parametrize("form", forward_dp.FORMS)
@pytest.mark.parametrize("name", [*DENSE, *GENERIC])
def test_named_problems(form, name):
    for penalty in (1e-2, 1e6, INF):
        sub = subproblem((DENSE | GENERIC)[name], 7, penalty)
        assert_optimal(sub, forward_dp.solve(sub, form))


@pytest.mark.parametrize("form", forward_dp.FORMS)
def test_no_nearby_step_is_better(form):
    sub = subproblem(DENSE["tanh, several outputs"], 6, 10.0)
    step = forward_dp.solve(sub, form)
    best = sub.value(step.controls, step.states)
    rng = np.random.default_rng(0)
    for _ in range(10):
        du = tuple(d + 1e-3 * rng.standard_normal(d.shape) for d in step.controls)
        dx = (step.states[0], *(d + 1e-3 * rng.standard_normal(d.shape) for d in step.states[1:]))
        assert sub.value(du, dx) > best


def network_function(network):
    """All outputs of the network as one CasADi expression of all controls, and those controls."""
    u = ca.MX.sym("u", network.num_controls)
    parts = ca.vertsplit(u, [0, *np.cumsum([layer.num_controls for layer in network.layers]).tolist()])
    x = ca.MX.sym("x", network.num_inputs)
    y = x
    for layer, part in zip(network.layers, parts, strict=True):
        y = layer.function(y, part)
    return ca.Function("jacobian", [x, u], [y, ca.densify(ca.jacobian(y, u))])


@pytest.mark.parametrize("form", forward_dp.FORMS)
@pytest.mark.parametrize("name", [*DENSE, *GENERIC])
def test_infinite_penalties_give_the_single_shooting_step(form, name):
    network, samples, rho, mu = (DENSE | GENERIC)[name], 8, 1e-2, 0.3
    rng = np.random.default_rng(3)
    problem = TrainingProblem(
        network,
        rng.standard_normal((samples, network.num_inputs)),
        rng.standard_normal((samples, network.num_outputs)),
        rho,
    )
    rollout = problem.rollout(network.init_controls(4))
    outputs = problem.outputs(rollout)
    sub = Subproblem.of_network(
        stages=problem.linearize(rollout, outputs),
        controls=rollout.controls,
        gaps=tuple(np.zeros_like(f) for f in outputs[:-1]),
        residual=outputs[-1] - problem.y,
        penalty=(INF,) * (network.num_stages - 1),
        weight_decay=rho,
        damping=mu,
    )
    u = np.concatenate(rollout.controls)
    function = network_function(network)
    values = [function(x, u) for x in problem.x]
    residual = np.concatenate([np.asarray(f).ravel() - y for (f, _), y in zip(values, problem.y, strict=True)])
    jacobian = np.vstack([np.asarray(j) for _, j in values])
    normal = jacobian.T @ jacobian + (rho + mu) * np.eye(u.size)
    expected = -np.linalg.solve(normal, jacobian.T @ residual + rho * u)
    step = forward_dp.solve(sub, form)
    np.testing.assert_allclose(np.concatenate(step.controls), expected, rtol=0, atol=1e-10 * np.abs(expected).max())
    for dx, layer_gap in zip(step.states[1:], sub.gaps, strict=True):
        assert dx.shape == layer_gap.shape


def test_multipliers_of_single_shooting_are_back_propagation():
    sub = subproblem(DENSE["sigmoid with skip connections"], 5, INF)
    step = forward_dp.solve(sub, "dual")
    eta = step.multipliers[-1]
    for stage, expected in zip(reversed(sub.stages[1:]), reversed(step.multipliers[:-1]), strict=True):
        eta = stage.transpose_state(eta)
        np.testing.assert_array_equal(eta, expected)
