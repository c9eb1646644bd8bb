"""A loop over constraints that is ended early has a feasible point to give, found close by at little cost."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

import ocp_nn
from ocp_nn.problem.constraints import ready_made
from ocp_nn.solvers.augmented_lagrangian.constrained import restore
from ocp_nn.solvers.augmented_lagrangian.constrained.restore import restored

RNG = np.random.default_rng(0)
X = RNG.uniform(-2, 2, (40, 2))
Y = np.sin(2 * X[:, :1]) + X[:, 1:]


def training(hidden=(6,), decay=1e-2):
    return ocp_nn.TrainingProblem(ocp_nn.Network.mlp([2, *hidden, 1]), X, Y, decay)


@pytest.fixture(scope="module")
def bounded():
    problem = training()
    return ocp_nn.ConstrainedProblem(problem, [ready_made.output_range(problem, -0.8, 0.8)])


def violation(problem, trajectory):
    return max(check.violation for check in ocp_nn.certify(problem, trajectory).constraints)


def test_the_least_distance_is_that_of_a_general_solver():
    rng = np.random.default_rng(1)
    for _ in range(20):
        g, h = rng.standard_normal((4, 6)), rng.standard_normal(4)
        ours = restore._least_distance(g, h)
        reference = optimize.minimize(
            lambda x: x @ x,
            np.zeros(6),
            jac=lambda x: 2 * x,
            constraints=[{"type": "ineq", "fun": lambda x, g=g, h=h: g @ x - h, "jac": lambda x, g=g: g}],
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        np.testing.assert_allclose(ours, reference.x, atol=1e-6)


def test_contradictions_have_no_least_distance():
    assert restore._least_distance(np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([1.0, 1.0])) is None


def after_one_round(problem):
    """Controls that lack little: those of the first subproblem."""
    states = []
    ocp_nn.solve(problem, options=ocp_nn.Options(max_outer=1), callback=lambda iterate: states.append(iterate.state))
    return problem.within_bounds(states[0].trajectory.controls)


def test_a_point_close_by_meets_every_bound(bounded):
    controls = after_one_round(bounded)
    out = violation(bounded, bounded.rollout(controls))
    assert out > 1e-2
    point = restored(bounded, controls)
    assert violation(bounded, point) <= 1e-9
    (before,), (after,) = bounded.constraint_values(bounded.rollout(controls)), bounded.constraint_values(point)
    assert np.sqrt(np.mean((after - before) ** 2)) < 2 * out  # the outputs that were right hardly move
    np.testing.assert_allclose(point.states[-1], bounded.rollout(point.controls).states[-1])


def test_the_objective_grows_by_the_price_of_what_was_lacking():
    """J(feasible) - J(out by e) = <m, e> up to second order, here for outputs that are known."""
    problem = training()
    term = problem.terms[0]
    known = [
        ocp_nn.OutputConstraint(term.layer, value, value, stages=term.stage, block=term.block, samples=[i])
        for i, value in ((3, 0.5), (20, -1.0))
    ]
    constrained = ocp_nn.ConstrainedProblem(problem, known)
    solution = ocp_nn.solve(constrained, options=ocp_nn.Options(tolerance=1e-9)).trajectory
    flat = np.concatenate(solution.controls)
    direction = RNG.standard_normal(len(flat))
    errors = []
    for size in (1e-3, 1e-4):
        moved = constrained.split(flat + size * direction)
        out = constrained.rollout(moved)
        pairs = zip(known, constrained.constraint_values(out), solution.constraint_multipliers, strict=True)
        price = sum(float(np.sum(m * c.outside(z))) for c, z, m in pairs)
        grown = constrained.objective(restored(constrained, moved)) - constrained.objective(out)
        assert abs(price) > 10 * abs(grown - price)
        errors.append(abs(grown - price))
    assert errors[1] < 0.03 * errors[0]


def test_a_loop_that_is_ended_early_gives_a_feasible_point(bounded):
    result = ocp_nn.solve(bounded, options=ocp_nn.Options(max_outer=2))
    assert result.status is ocp_nn.Status.OUTER_LIMIT
    assert violation(bounded, result.trajectory) <= 1e-9
    assert result.objective < 1.5 * ocp_nn.solve(bounded).objective


def test_the_best_feasible_point_is_told_on_the_way(bounded):
    seen = []
    ocp_nn.solve(bounded, callback=lambda iterate: seen.append(iterate.state))
    objectives = [state.feasible_objective for state in seen]
    assert objectives == sorted(objectives, reverse=True)
    assert all(violation(bounded, state.feasible) <= 1e-9 for state in seen if state.feasible is not None)
    assert np.isfinite(objectives[-1])


def test_of_bounds_on_weights_the_projection_is_feasible():
    problem = training()
    bounds = ocp_nn.ConstrainedProblem(problem, [ocp_nn.ControlBounds(-0.5, 0.5)])
    result = ocp_nn.solve(bounds, options=ocp_nn.Options(max_outer=1))
    assert violation(bounds, result.trajectory) == 0.0
    assert np.abs(np.concatenate(result.trajectory.controls)).max() <= 0.5


def test_bounds_on_weights_stay_met_while_outputs_are_restored():
    problem = training()
    both = [ready_made.output_range(problem, -0.8, 0.8), ocp_nn.ControlBounds(-1.0, 1.0)]
    constrained = ocp_nn.ConstrainedProblem(problem, both)
    point = restored(constrained, after_one_round(constrained))
    assert point is not None and violation(constrained, point) <= 1e-9


def test_where_nothing_is_feasible_there_is_no_point():
    problem = training()
    term = problem.terms[0]
    clash = [
        ocp_nn.OutputConstraint(term.layer, low, high, stages=term.stage, block=term.block, samples=[0], name=name)
        for low, high, name in ((1.0, 2.0, "high"), (-2.0, -1.0, "low"))
    ]
    constrained = ocp_nn.ConstrainedProblem(problem, clash)
    assert restored(constrained, problem.init_controls(0)) is None
    result = ocp_nn.solve(constrained)
    assert result.status is ocp_nn.Status.INFEASIBLE


def test_large_problems_are_left_to_the_loop():
    problem = training(hidden=(30, 30))
    constrained = ocp_nn.ConstrainedProblem(problem, [ready_made.output_range(problem, -0.8, 0.8)])
    assert restored(constrained, problem.init_controls(0)) is None
