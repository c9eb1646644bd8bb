"""At a feasible point where the Lagrangian is stationary in the states, the multipliers of the dynamics *are* the
back-propagated adjoints: found by linear algebra on CasADi's derivatives, by IPOPT, and by our own solver.
"""

from __future__ import annotations

import casadi as ca
import numpy as np
import pytest

from ocp_nn import Network, Options, TrainingProblem, solve
from ocp_nn.solvers.nlp.ipopt import IpoptOptions, solve_ipopt
from ocp_nn.solvers.nlp.transcription import multiple_shooting

NETWORKS = {
    "tanh": Network.mlp([2, 4, 3, 1]),
    "sigmoid": Network.mlp([2, 4, 3, 1], activation="sigmoid"),
    "softplus": Network.mlp([2, 3, 3, 3, 1], activation="softplus"),
    "residual": Network.mlp([2, 3, 3, 1], residual=True),
}


def problem_of(network: Network) -> TrainingProblem:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((12, 2))
    return TrainingProblem(network, x, np.sin(x[:, :1]) + 0.1 * rng.standard_normal((12, 1)), weight_decay=0.1)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_the_unique_multipliers_of_a_rollout_are_its_adjoints(network):
    """Stationarity in the states is linear in the multipliers: (dg/dx)' lambda = -df/dx has one solution."""
    problem = problem_of(network)
    lifted = problem.lift(network.init_controls(1))
    nlp = multiple_shooting(problem)
    x, f, g = (nlp.problem[key] for key in ("x", "f", "g"))
    slopes = ca.Function("slopes", [x], [ca.gradient(f, x), ca.jacobian(g, x)])
    packed = nlp.pack(lifted)
    gradient, jacobian = (np.array(value) for value in slopes(packed["x0"]))
    states = np.flatnonzero(np.abs(jacobian).sum(axis=0) > 0)
    states = [j for j in states if np.any(jacobian[:, j] == -1.0)]  # x_{k+1} enters its own defect as -x_{k+1}
    assert len(states) == jacobian.shape[0]
    multipliers = np.linalg.solve(jacobian[:, states].T, -gradient[states])
    np.testing.assert_allclose(multipliers.ravel(), np.ravel(packed["lam_g0"]), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_ipopts_multipliers_at_a_solution_are_the_adjoints_there(network):
    problem = problem_of(network)
    options = IpoptOptions(tolerance=1e-11, max_iterations=500)
    result = solve_ipopt(multiple_shooting(problem), network.init_controls(1), options=options)
    assert result.success and result.max_defect < 1e-10
    check_multipliers(problem, result)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_our_multipliers_at_a_solution_are_the_adjoints_there(network):
    problem = problem_of(network)
    result = solve(problem, options=Options(tolerance=1e-9))
    assert result.success
    check_multipliers(problem, result)


def check_multipliers(problem, result):
    expected = problem.adjoints(problem.rollout(result.trajectory.controls)).costates
    for k in range(1, problem.num_stages):
        np.testing.assert_allclose(result.trajectory.multipliers[k], expected[k], rtol=1e-10, atol=1e-10)
