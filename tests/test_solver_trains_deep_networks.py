"""What the method promises for deep narrow networks, by iteration counts; scripts/deep_suite.py has the times.

sin(2x) + noise, 100 samples; trained means a rollout MSE below 0.01, where the mean has about 0.5.
"""

from __future__ import annotations

import numpy as np
import pytest

from ocp_nn import Network, Options, Status, TrainingProblem, Trajectory, solve
from ocp_nn.problem.blas import limited_blas
from ocp_nn.solvers.augmented_lagrangian.initialise import fit_states
from ocp_nn.solvers.augmented_lagrangian.outer_loop import init, step, terminate

TARGET = 0.01


def sin2x(activation, depth, width, seed, weight_decay=1e-3):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-3.0, 3.0, (100, 1))
    y = np.sin(2 * x) + 0.05 * rng.standard_normal(x.shape)
    return TrainingProblem(Network.mlp([1, *[width] * depth, 1], activation), x, y, weight_decay)


def mse(problem, controls):
    return float(np.mean((problem.network.predict(controls, problem.x) - problem.y) ** 2))


def outer_iterations(problem, options, limit):
    """Outer iterations until the best rollout is trained; None where the solve ends or the limit comes first."""
    state = init(problem, options=options)
    while state.outer < limit:
        if mse(problem, state.best.controls) < TARGET:
            return state.outer
        if terminate(problem, state, options) is not None:
            return None
        state = step(problem, state, options)
    return None


DEFAULT = [
    ("sigmoid", 10, 5, 40),
    ("sigmoid", 20, 5, 40),
    ("tanh", 10, 8, 20),
    ("tanh", 30, 5, 40),
    ("relu", 10, 8, 400),
    ("relu", 20, 8, 40),
]


@pytest.mark.parametrize(("activation", "depth", "width", "limit"), DEFAULT)
def test_the_default_trains_deep_networks(activation, depth, width, limit):
    problem, options = sin2x(activation, depth, width, seed=1), Options(seed=1)
    assert mse(problem, init(problem, options=options).best.controls) > TARGET
    assert outer_iterations(problem, options, limit) is not None


@pytest.mark.parametrize("seed", range(5))
def test_sigmoids_from_standard_weights_need_multiple_shooting(seed):
    """The same weights, the same steps, the same solver: only the states are eliminated, and it stays at the mean.

    The penalty is a hundredth of the default, which needs a restart here.
    """
    problem = sin2x("sigmoid", 10, 5, seed)
    plain = {"seed": seed, "initialisation": "standard", "max_restarts": 0, "penalty": 100 * np.mean(problem.y**2)}
    assert outer_iterations(problem, Options(**plain), 40) is not None
    single = solve(problem, options=Options(shooting="single", second_order=False, max_outer=40, **plain))
    assert mse(problem, single.trajectory.controls) > 0.95 * np.var(problem.y)


def test_single_shooting_does_train_from_the_state_trajectories():
    """The initialiser helps other methods too: said wherever results are shown, and held here."""
    problem = sin2x("sigmoid", 10, 5, 0)
    options = Options(shooting="single", initialisation="states", second_order=False, max_restarts=0)
    assert outer_iterations(problem, options, 40) is not None


def test_restarts_are_what_frees_deep_relus():
    """Standard weights: without restarts the solve ends at the mean, with them it does not."""
    problem = sin2x("relu", 20, 8, 0)
    without = solve(problem, options=Options(initialisation="standard", max_restarts=0))
    assert without.counts["restarts"] == 0
    assert mse(problem, without.trajectory.controls) > 0.9 * np.var(problem.y)
    assert outer_iterations(problem, Options(initialisation="standard"), 150) is not None


def test_a_result_is_not_worse_than_the_untrained_state_trajectory():
    problem = sin2x("relu", 10, 8, 1)
    untrained = problem.objective(problem.rollout(fit_states(problem, 0)))
    assert solve(problem, options=Options(max_outer=60)).rollout_objective < untrained


def test_the_second_order_finish_converges_where_gauss_newton_does_not():
    """Within as many outer iterations, each of five Gauss-Newton steps or two with the exact Hessian."""
    problem = sin2x("tanh", 3, 8, 0, weight_decay=0.05)
    finished = solve(problem, options=Options(max_outer=200))
    assert finished.status is Status.CONVERGED and finished.max_defect < 1e-6
    plain = solve(problem, options=Options(second_order=False, max_outer=200))
    assert plain.status is Status.OUTER_LIMIT and plain.counts["newton"] == 0
    assert plain.stationarity > 10 * finished.stationarity


@pytest.mark.parametrize("options", [Options(), Options(shooting="single"), Options(shooting=[2, 5])])
def test_stepping_by_hand_is_solving(options):
    problem = sin2x("tanh", 8, 4, 0)
    limited = 25
    with limited_blas(problem):  # as solve does: another number of threads is another rounding
        state, history = init(problem, options=options), []
        while terminate(problem, state, options) is None and len(history) < limited:
            state = step(problem, state, options)
            history.append(state.point.objective)
    seen = []
    result = solve(problem, options=options, callback=lambda record: seen.append(record) or len(seen) >= limited)
    assert [record.objective for record in result.history] == history
    np.testing.assert_array_equal(np.concatenate(result.state.best.controls), np.concatenate(state.best.controls))
    assert result.state.penalty == state.penalty and result.state.counts == state.counts


def test_steps_leave_the_state_they_start_from_alone():
    """Any state can be kept and gone on from: twice the same step is twice the same state."""
    problem = sin2x("tanh", 4, 4, 0)
    with limited_blas(problem):
        state = step(problem, init(problem))
        kept = [a.copy() for a in (*state.point.controls, *state.point.states, *state.multipliers)]
        first, second = step(problem, state), step(problem, state)
    for before, after in zip(kept, (*state.point.controls, *state.point.states, *state.multipliers), strict=True):
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(np.concatenate(first.point.controls), np.concatenate(second.point.controls))


def test_the_multipliers_of_a_solution_are_the_back_propagated_adjoints():
    problem = sin2x("tanh", 3, 6, 0, weight_decay=0.05)
    result = solve(problem)
    assert result.success
    adjoints = problem.adjoints(Trajectory(result.trajectory.controls, result.trajectory.states)).costates
    for multiplier, costate in zip(result.trajectory.multipliers, adjoints[:-1], strict=True):
        np.testing.assert_allclose(multiplier, costate, atol=1e-8)


def test_no_subproblem_starts_above_the_best_rollout():
    """The safeguard: whatever multipliers and penalties, L_beta begins at most at the best feasible objective."""
    problem = sin2x("sigmoid", 10, 5, 0)
    options = Options(initialisation="standard", max_restarts=0, second_order=False)
    state = init(problem, options=options)
    for _ in range(20):
        before, state = state, step(problem, state, options)
        best = problem.objective(problem.rollout(before.safeguard.controls))
        assert before.safeguard.objective == pytest.approx(best, rel=1e-12)
        # value under the multipliers and penalties of the step just made
        value = state.point.objective + sum(
            float(np.vdot(m, d)) + 0.5 * beta * float(np.vdot(d, d))
            for m, d, beta in zip(before.multipliers, state.point.defects, before.penalty, strict=True)
        )
        assert value <= best * (1 + 1e-12)
    assert state.best.objective <= min(before.rollout_objective, state.rollout_objective)


def test_a_step_is_shortened_where_no_damping_helps():
    """Fifty tanh layers: damping holds the controls back but not the states, which then overshoot at any damping."""
    problem = sin2x("tanh", 50, 8, 3)
    options = Options(seed=3, initialisation="standard", max_restarts=0, second_order=False)
    assert outer_iterations(problem, options, 60) is not None
