"""The adjoint recursion is back-propagation: its gradient is that of finite differences and of CasADi's AD, and its
costates are the sensitivities of the objective to the states: the multipliers that make the Lagrangian stationary.
"""

from __future__ import annotations

import casadi as ca
import numpy as np
import pytest

from ocp_nn import Dense, Network, TrainingProblem, Trajectory
from ocp_nn.network.activations import ACTIVATIONS


def driven_stage() -> ca.Function:
    x, u = ca.SX.sym("x", 3), ca.SX.sym("u", 2)
    return ca.Function("driven", [x, u], [x + u[0] * ca.sin(x) + u[1] * x[0] * ca.vertcat(1, x[1], x[2])])


NETWORKS = {
    **{name: Network.mlp([2, 4, 3, 2], activation=name) for name in ACTIVATIONS},
    "residual": Network.mlp([2, 3, 3, 3, 2], residual=True),
    "one stage": Network.mlp([2, 2]),
    "own stages": Network([Dense(2, 3), driven_stage(), driven_stage(), Dense(3, 2, "identity")]),
}


def problem_of(network: Network, num_samples: int = 6, seed: int = 0) -> TrainingProblem:
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((num_samples, 2)), rng.standard_normal((num_samples, 2))
    return TrainingProblem(network, x, y, weight_decay=0.1)


def controls_of(network: Network, seed: int = 5) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    return tuple(u + 0.3 * rng.standard_normal(u.shape) for u in network.init_controls(seed))


def symbolic_tail(problem: TrainingProblem, start: int, states, controls) -> ca.SX:
    """J as a CasADi expression of x_start (one list entry a sample) and the controls."""
    total = problem.weight_decay / 2 * sum(ca.sumsqr(u) for u in controls)
    for x, y in zip(states, problem.y, strict=True):
        for stage, u in zip(problem.network.stages[start:], controls[start:], strict=True):
            x = stage(x, u)
        total += ca.sumsqr(x - y) / 2
    return total


def symbolic_controls(network: Network) -> list[ca.SX]:
    return [ca.SX.sym(f"u{k}", layer.num_controls) for k, layer in enumerate(network.layers)]


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("num_samples", [1, 6])
def test_gradient_is_casadis(network, num_samples):
    problem = problem_of(network, num_samples)
    controls = controls_of(network)
    u = symbolic_controls(network)
    objective = symbolic_tail(problem, 0, [ca.DM(x) for x in problem.x], u)
    gradient = ca.Function("gradient", u, [objective, ca.gradient(objective, ca.vertcat(*u))])
    value, expected = gradient(*controls)
    trajectory = problem.rollout(controls)
    assert problem.objective(trajectory) == pytest.approx(float(value), rel=1e-13)
    received = np.concatenate(problem.adjoints(trajectory).gradient)
    np.testing.assert_allclose(received, np.array(expected).ravel(), rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_gradient_is_that_of_finite_differences(network):
    problem = problem_of(network)
    flat, step = np.concatenate(controls_of(network)), 1e-5
    received = np.concatenate(problem.adjoints(problem.rollout(network.split(flat))).gradient)

    def objective(v):
        return problem.objective(problem.rollout(network.split(v)))

    def derivative(j):
        # central differences, extrapolated once: an error of order step^4
        e = np.eye(1, len(flat), j)[0]
        near, far = (objective(flat + h * e) - objective(flat - h * e) for h in (step, 2 * step))
        return (8 * near - far) / (12 * step)

    expected = np.array([derivative(j) for j in range(len(flat))])
    np.testing.assert_allclose(received, expected, atol=1e-8 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_costates_are_sensitivities_to_the_states(network):
    problem = problem_of(network)
    trajectory = problem.rollout(controls_of(network))
    costates = problem.adjoints(trajectory).costates
    for k, state in enumerate(trajectory.states):
        x = [ca.SX.sym(f"x{i}", state.shape[1]) for i in range(problem.num_samples)]
        tail = symbolic_tail(problem, k, x, [ca.DM(u) for u in trajectory.controls])
        slope = ca.Function("slope", [ca.vertcat(*x)], [ca.gradient(tail, ca.vertcat(*x))])
        np.testing.assert_allclose(
            costates[k], np.array(slope(state.ravel())).reshape(state.shape), rtol=1e-10, atol=1e-11
        )
    np.testing.assert_array_equal(costates[-1], problem.outputs(trajectory)[-1] - problem.y)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_costates_make_the_lagrangian_stationary_off_the_rollout_too(network):
    """L = J + sum <lambda_{k+1}, d_k> has no slope in any state; its slope in the controls is the adjoint gradient."""
    problem, rng = problem_of(network), np.random.default_rng(3)
    feasible = problem.rollout(controls_of(network))
    states = (problem.x, *(x + 0.5 * rng.standard_normal(x.shape) for x in feasible.states[1:]))
    trajectory = Trajectory(feasible.controls, states)
    adjoints = problem.adjoints(trajectory)
    lagrangian, u, x = lagrangian_of(problem, adjoints.costates)
    slopes = ca.Function("slopes", [*u, *x], [ca.gradient(lagrangian, v) for v in (*u, *x)])
    values = slopes(*trajectory.controls, *(s.ravel() for s in states[1:]))
    values = values if isinstance(values, tuple) else (values,)
    for expected, received in zip(values[: len(u)], adjoints.gradient, strict=True):
        np.testing.assert_allclose(received, np.array(expected).ravel(), rtol=1e-9, atol=1e-11)
    for slope in values[len(u) :]:
        np.testing.assert_allclose(np.array(slope), 0, atol=1e-11)


def lagrangian_of(problem: TrainingProblem, multipliers):
    """The Lagrangian of multiple shooting, written from its definition, and its symbols."""
    network = problem.network
    u = symbolic_controls(network)
    x = [ca.SX.sym(f"x{k}", problem.num_samples * n) for k, n in enumerate(network.sizes[1:-1], 1)]
    tables = [ca.DM(problem.x), *(ca.reshape(v, -1, problem.num_samples).T for v in x)]
    total = problem.weight_decay / 2 * sum(ca.sumsqr(v) for v in u)
    for k, stage in enumerate(network.stages):
        for i in range(problem.num_samples):
            output = stage(tables[k][i, :].T, u[k])
            if k < network.num_stages - 1:
                total += ca.dot(ca.DM(multipliers[k + 1][i]), output - tables[k + 1][i, :].T)
            else:
                total += ca.sumsqr(output - problem.y[i]) / 2
    return total, u, x


def test_lift_attaches_the_adjoints_as_multipliers():
    problem = problem_of(NETWORKS["tanh"])
    trajectory = problem.lift(controls_of(problem.network))
    for received, expected in zip(trajectory.multipliers, problem.adjoints(trajectory).costates[:-1], strict=True):
        np.testing.assert_array_equal(received, expected)
    assert [m.shape for m in trajectory.multipliers] == [s.shape for s in trajectory.states]
    assert max(np.abs(d).max() for d in problem.defects(trajectory)) == 0


def test_trajectories_of_other_shapes_are_refused():
    problem = problem_of(NETWORKS["tanh"])
    trajectory = problem.rollout(controls_of(problem.network))
    wrong = Trajectory(trajectory.controls, tuple(s.T for s in trajectory.states))
    with pytest.raises(ValueError, match=r"expected states of shapes \[\(6, 2\), \(6, 4\), \(6, 3\)\], received"):
        problem.objective(wrong)
