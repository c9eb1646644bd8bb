"""Single shooting over time ends with its exact Hessian, which finite differences check."""

import numpy as np
import pytest
from systems import mildly_nonlinear

from ocp_nn import IdentificationProblem, Options, StateSpaceModel, Status, solve
from ocp_nn.solvers.augmented_lagrangian.over_time.lagrangian import Lagrangian
from ocp_nn.solvers.augmented_lagrangian.over_time.newton import Polish, exact_hessian, is_due, newton_step
from ocp_nn.solvers.augmented_lagrangian.over_time.steps import Linearised

V, Y = mildly_nonlinear()


def simulation_error(problem):
    """L_beta without nodes."""
    steps, records, n = problem.num_stages, problem.num_samples, problem.model.num_states
    return Lagrangian(problem, np.zeros((steps - 1, records, n)), np.inf, np.zeros(steps - 1, dtype=bool))


def point_at(lagrangian, z):
    problem = lagrangian.problem
    parameters = problem.model.num_parameters
    states = np.zeros((problem.num_stages, problem.num_samples, problem.model.num_states))
    states[0] = z[parameters:].reshape(states[0].shape)
    return lagrangian.at(z[:parameters], states)


def gradient_at(lagrangian, z):
    point = point_at(lagrangian, z)
    in_theta, _, in_start = lagrangian.gradient(point, lagrangian.jacobians(point))
    return np.concatenate([in_theta, in_start.ravel()])


def two_records(**others):
    rng = np.random.default_rng(0)
    model = StateSpaceModel(num_states=2, num_inputs=1, num_outputs=2, hidden_layer_sizes=(3,), output_layer_sizes=(2,))
    records = [(rng.standard_normal((length, 1)), rng.standard_normal((length, 2))) for length in (20, 13)]
    records[0][1][4, 1] = np.nan
    problem = IdentificationProblem(model, records, 0.1, output_weight=[2.0, 0.5], **others)
    z = np.concatenate([0.5 * model.initial_parameters(1), rng.standard_normal(4)])
    return problem, z


def differences(function, z, step=1e-6):
    return np.array([(function(z + step * e) - function(z - step * e)) / (2 * step) for e in np.eye(len(z))])


def test_gradient_is_that_of_the_objective_by_differences():
    problem, z = two_records()
    lagrangian = simulation_error(problem)
    slopes = differences(lambda z: point_at(lagrangian, z).value, z)
    np.testing.assert_allclose(gradient_at(lagrangian, z), slopes, atol=1e-6)


@pytest.mark.parametrize("weight", [1e-4, 2.0])
def test_hessian_is_that_of_gradients_by_differences(weight):
    problem, z = two_records(initial_weight=weight)
    lagrangian = simulation_error(problem)
    point = point_at(lagrangian, z)
    hessian = exact_hessian(lagrangian, point, lagrangian.jacobians(point))
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-12)
    np.testing.assert_allclose(hessian, differences(lambda z: gradient_at(lagrangian, z), z), atol=1e-6)


def test_a_known_start_has_the_rows_of_the_identity():
    problem, z = two_records(initial_weight=np.inf, initial_state=[0.3, -0.2])
    z[-4:] = [0.3, -0.2, 0.3, -0.2]
    lagrangian = simulation_error(problem)
    point = point_at(lagrangian, z)
    hessian = exact_hessian(lagrangian, point, lagrangian.jacobians(point))
    free = differences(lambda z: gradient_at(lagrangian, z), z)[:-4, :-4]
    np.testing.assert_allclose(hessian[:-4, :-4], free, atol=1e-6)
    np.testing.assert_array_equal(hessian[-4:], np.eye(len(z))[-4:])


def test_steps_near_the_end_square_the_gradient():
    model = StateSpaceModel(num_states=2, num_inputs=1, num_outputs=1, hidden_layer_sizes=(4,))
    problem = IdentificationProblem(model, [(V, Y)], 1.0)
    result = solve(problem, options=Options(tolerance=0.1, shooting="single", second_order=False))
    lagrangian = simulation_error(problem)
    states = np.stack(result.trajectory.states)
    local = Linearised.at(lagrangian, lagrangian.at(result.trajectory.controls[0], states))
    gradients = [local.stationarity]
    while local.stationarity > 1e-9:
        local = newton_step(local)
        gradients.append(local.stationarity)
    assert 3 <= len(gradients) <= 8
    assert gradients[-2] < 1e-3 and gradients[-1] < 10 * gradients[-2] ** 2 + 1e-12


def test_second_order_steps_save_most_of_the_others():
    """Gauss-Newton alone needs several times as many steps for the same minimum, or does not end at all."""
    model = StateSpaceModel(num_states=2, num_inputs=1, num_outputs=1, hidden_layer_sizes=(4,))
    problem = IdentificationProblem(model, [(V, Y)], 1e-3)
    plain = solve(problem, options=Options(second_order=False, shooting="single", max_outer=400))
    ours = solve(problem, options=Options(shooting="single", max_outer=400))
    assert ours.status is Status.CONVERGED
    assert plain.counts["newton"] == 0 < ours.counts["newton"]
    assert ours.counts["gauss_newton"] < plain.counts["gauss_newton"]
    assert ours.objective <= plain.objective * (1 + 1e-6)


def test_they_wait_longer_after_each_that_was_not_worth_it():
    polish = Polish()
    waits = []
    for _ in range(4):
        polish = polish.after(False)
        waits.append(polish.wait)
    assert waits == [1, 2, 4, 8]
    assert polish.after(None).wait == 7
    assert polish.after(True) == Polish()


def test_they_are_not_due_with_nodes_or_where_memory_is_short():
    problem, z = two_records()
    lagrangian = simulation_error(problem)
    local = Linearised.at(lagrangian, point_at(lagrangian, z))
    assert is_due(Polish(), local.point, local, Options())
    assert not is_due(Polish(), local.point, local, Options(max_memory=1e3))
    assert not is_due(Polish(), local.point, local, Options(second_order=False))
    nodes = Lagrangian(problem, lagrangian.multipliers, 1.0, np.ones(problem.num_stages - 1, dtype=bool))
    with_nodes = Linearised.at(nodes, nodes.at(z[: problem.model.num_parameters], local.point.states))
    assert not is_due(Polish(), with_nodes.point, with_nodes, Options())
