"""Ugly problems end in a status with a remedy and a usable trajectory; never in an exception, a warning or a NaN.

Warnings are errors in this suite, so an overflow that is not meant shows here too.
"""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from ocp_nn import Network, Options, Status, TrainingProblem, Trajectory, solve
from ocp_nn.solvers.augmented_lagrangian.outer_loop import init, step, terminate

INF = float("inf")
SHOOTING = ("multiple", "single")


def rng_of(seed=0):
    return np.random.default_rng(seed)


def sine(samples=40, sizes=(1, 5, 5, 1), activation="tanh", weight_decay=1e-2, scale=1.0, seed=0):
    rng = rng_of(seed)
    x = rng.uniform(-2, 2, (samples, sizes[0]))
    y = scale * np.sin(2 * x[:, :1]) * np.ones((1, sizes[-1]))
    return TrainingProblem(Network.mlp(sizes, activation), x, y, weight_decay)


def constant_feature():
    rng = rng_of()
    x = np.column_stack([rng.uniform(-2, 2, 30), np.zeros(30), np.ones(30)])
    return TrainingProblem(Network.mlp([3, 5, 5, 1]), x, np.sin(x[:, :1]), 1e-2)


def duplicates():
    base = sine(samples=10)
    return TrainingProblem(base.network, np.tile(base.x, (4, 1)), np.tile(base.y, (4, 1)), 1e-2)


def contradictory():
    """The same input with different targets."""
    return TrainingProblem(Network.mlp([1, 4, 1]), np.ones((6, 1)), np.arange(6.0), 1e-2)


PROBLEMS = {
    "one sample": lambda: sine(samples=1),
    "two samples": lambda: sine(samples=2),
    "fewer samples than controls": lambda: sine(samples=8),
    "duplicate samples": duplicates,
    "contradictory samples": contradictory,
    "constant features": constant_feature,
    "all inputs zero": lambda: TrainingProblem(Network.mlp([2, 4, 4, 1]), np.zeros((9, 2)), np.arange(9.0), 1e-2),
    "all targets zero": lambda: sine(scale=0.0),
    "huge targets": lambda: sine(scale=1e6),
    "tiny targets": lambda: sine(scale=1e-6),
    "huge inputs": lambda: TrainingProblem(Network.mlp([1, 4, 1]), 1e8 * sine().x, sine().y, 1e-2),
    "no weight decay": lambda: sine(weight_decay=0.0),
    "huge weight decay": lambda: sine(weight_decay=1e8),
    "one stage": lambda: sine(sizes=(1, 1)),
    "one stage, several outputs": lambda: sine(sizes=(1, 3)),
    "width one": lambda: sine(sizes=(1, 1, 1, 1)),
    "dead relus": lambda: sine(activation="relu", sizes=(1, 2, 2, 2, 1)),
    "softplus": lambda: sine(activation="softplus"),
}
LIMITED = {"max_outer": 60, "max_restarts": 2}


@pytest.mark.parametrize("shooting", SHOOTING)
@pytest.mark.parametrize("make", PROBLEMS.values(), ids=PROBLEMS)
def test_ugly_problems_are_solved_or_end_with_a_remedy(make, shooting):
    problem = make()
    start = init(problem, options=Options(shooting=shooting, **LIMITED)).best.objective
    result = solve(problem, options=Options(shooting=shooting, **LIMITED))
    assert result.status in (Status.CONVERGED, Status.OUTER_LIMIT, Status.STALLED, Status.AT_KINK)
    assert problem.has_kinks or result.status is not Status.AT_KINK
    assert result.success or result.status.remedy in result.message
    assert_usable(problem, result)
    assert result.rollout_objective <= start


def assert_usable(problem, result):
    """The result is finite and says of itself what is the case."""
    problem.check(result.trajectory)
    assert all(np.isfinite(u).all() for u in result.trajectory.controls)
    assert result.objective == pytest.approx(problem.objective(result.trajectory), rel=1e-12)
    rollout = problem.rollout(result.trajectory.controls)
    assert result.rollout_objective == pytest.approx(problem.objective(rollout), rel=1e-12)
    if result.success:
        tolerance = 1e-6 * max(1.0, result.objective)
        gradient = np.concatenate(problem.adjoints(rollout).gradient)
        assert result.max_defect <= 1e-6 and result.stationarity <= tolerance
        # the rollout differs from the trajectory by its defects, so its gradient is small only to their size
        assert np.linalg.norm(gradient) <= 10 * tolerance


# Which of them have to be solved, not only survived.
SOLVED = [
    "one sample",
    "two samples",
    "fewer samples than controls",
    "duplicate samples",
    "contradictory samples",
    "constant features",
    "all inputs zero",
    "all targets zero",
    "tiny targets",
    "huge weight decay",
    "one stage",
    "one stage, several outputs",
    "width one",
    "softplus",
]


@pytest.mark.parametrize("shooting", SHOOTING)
@pytest.mark.parametrize("name", SOLVED)
def test_these_are_solved_to_the_tolerance(name, shooting):
    assert solve(PROBLEMS[name](), options=Options(shooting=shooting, max_restarts=2)).status is Status.CONVERGED


def test_duplicate_samples_weigh_like_one_of_doubled_weight():
    """Four copies of the data and four times the weight decay: the same minimiser, four times the objective."""
    once = sine(samples=10, weight_decay=0.5)
    copies = np.tile(once.x, (4, 1)), np.tile(once.y, (4, 1))
    four = TrainingProblem(once.network, *copies, 2.0)
    one = solve(once, options=Options())
    assert solve(four, one.trajectory.controls).objective == pytest.approx(4 * one.objective, rel=1e-8)


@pytest.mark.parametrize("shooting", SHOOTING)
@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e2])
def test_targets_of_any_size_are_followed(scale, shooting):
    problem = sine(scale=scale, weight_decay=1e-6 * scale)
    result = solve(problem, options=Options(tolerance=1e-4 * min(1.0, scale), max_outer=300, shooting=shooting))
    error = problem.network.predict(result.trajectory.controls, problem.x) - problem.y
    assert np.mean(error**2) < 0.01 * np.mean(problem.y**2)


@pytest.mark.parametrize("shooting", SHOOTING)
@pytest.mark.parametrize("scale", [30.0, 300.0])
def test_saturated_weights_are_left(scale, shooting):
    problem = sine()
    controls = tuple(scale * u + scale for u in problem.network.init_controls(0))
    result = solve(problem, controls, options=Options(shooting=shooting, **LIMITED))
    assert_usable(problem, result)
    assert result.rollout_objective < 0.01 * problem.objective(problem.rollout(controls))


def test_rank_deficient_jacobians_are_no_obstacle():
    """All hidden units the same and no weight decay: J'J has rank 4 of 16 controls, in every layer."""
    problem = sine(sizes=(1, 5, 1), weight_decay=0.0)
    copies = (np.repeat([0.7, 0.1], 5), np.append(np.full(5, 0.3), 0.0))
    result = solve(problem, copies, options=Options(max_outer=40, max_restarts=0))
    assert_usable(problem, result)
    assert result.objective < problem.objective(problem.rollout(copies))


def test_dead_units_stay_finite():
    """Biases so negative that every ReLU is off for every sample: only the last bias can move."""
    problem = sine(activation="relu", sizes=(1, 4, 4, 1))
    dead = tuple(u - 50.0 * (np.arange(len(u)) >= len(u) - 4) for u in problem.network.init_controls(0)[:-1])
    controls = (*dead, problem.network.init_controls(0)[-1])
    result = solve(problem, controls, options=Options(max_outer=40))
    assert_usable(problem, result)
    assert result.objective <= problem.objective(problem.rollout(controls))


@pytest.mark.parametrize("shooting", SHOOTING)
@pytest.mark.parametrize("name", ["softplus", "dead relus"])
def test_a_start_that_overflows_is_status_non_finite_and_kept(name, shooting):
    problem = PROBLEMS[name]()
    controls = tuple(np.full_like(u, 1e200) for u in problem.network.init_controls(0))
    result = solve(problem, controls, options=Options(shooting=shooting))
    assert result.status is Status.NON_FINITE
    assert result.message == Status.NON_FINITE.message and "smaller weights" in result.message
    for kept, given in zip(result.trajectory.controls, controls, strict=True):
        np.testing.assert_array_equal(kept, given)
    assert not result.history and not np.isfinite(result.rollout_objective)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_numbers_are_status_non_finite(value):
    problem = sine()
    controls = (np.full(10, value), *problem.network.init_controls(0)[1:])
    assert solve(problem, controls).status is Status.NON_FINITE


def test_penalties_start_and_stay_at_their_cap():
    problem = sine()
    options = Options(penalty=1e10, max_penalty=1e10, second_order=False, max_restarts=0, max_outer=15)
    result = solve(problem, options=options)
    assert all(record.penalty == 1e10 for record in result.history)
    assert result.rollout_objective < result.history[0].rollout_objective
    assert_usable(problem, result)


def test_a_first_penalty_above_the_cap_is_kept():
    state = init(sine(), options=Options(penalty=1e6))
    options = Options(penalty=1e6, max_penalty=1e3)
    assert step(sine(), state, options).penalty == (1e6, 1e6)


# ---- every status


def stop_at(count, how):
    def callback(record):
        if record.iteration >= count:
            if how == "raise":
                raise KeyboardInterrupt
            return True
        return None

    return callback


PLAIN = {"second_order": False, "max_restarts": 0}
STATUSES = {
    "converged": (Status.CONVERGED, {}, None),
    "converged, single shooting": (Status.CONVERGED, {"shooting": "single"}, None),
    "outer limit": (Status.OUTER_LIMIT, {"max_outer": 2}, None),
    "outer limit, second order": (Status.OUTER_LIMIT, {"max_outer": 6}, None),
    "inner limit": (Status.INNER_LIMIT, {"max_steps": 7}, None),
    "time limit": (Status.TIME_LIMIT, {"time_limit": 1e-9}, None),
    "penalty limit": (Status.PENALTY_LIMIT, {"max_penalty": 1.0, "penalty": 1.0, **PLAIN}, None),
    "stalled": (Status.STALLED, {"tolerance": 1e-300, "shooting": "single", **PLAIN}, None),
    "stalled, second order": (Status.STALLED, {"tolerance": 1e-300}, None),
    "interrupted by the callback": (Status.INTERRUPTED, {}, stop_at(3, "return")),
    "interrupted by Ctrl-C": (Status.INTERRUPTED, {}, stop_at(3, "raise")),
}


@pytest.mark.parametrize(("status", "settings", "callback"), STATUSES.values(), ids=STATUSES)
def test_every_status_is_reached_and_says_what_to_do(status, settings, callback):
    problem = sine(samples=20, sizes=(1, 4, 1), weight_decay=0.3)
    result = solve(problem, options=Options(**settings), callback=callback)
    assert result.status is status
    assert result.message.startswith(status.sentence) and result.message.endswith(status.remedy)
    assert status.remedy or status is Status.CONVERGED
    assert result.success == (status is Status.CONVERGED)
    assert_usable(problem, result)
    best = min(record.rollout_objective for record in result.history)
    assert result.rollout_objective <= best * (1 + 1e-9)


@pytest.mark.parametrize("how", ["return", "raise"])
def test_an_interrupted_solve_keeps_its_history_and_can_go_on(how):
    problem = sine()
    stopped = solve(problem, options=Options(), callback=stop_at(3, how))
    assert [record.iteration for record in stopped.history] == [1, 2, 3]
    gone_on, whole = solve(problem, stopped.state), solve(problem)
    assert gone_on.success and gone_on.objective == whole.objective
    assert gone_on.counts == whole.counts


def test_an_error_in_a_callback_is_the_callers():
    def callback(record):
        raise RuntimeError("plot window closed")

    with pytest.raises(RuntimeError, match="plot window"):
        solve(sine(), callback=callback)


def test_a_finished_state_is_not_gone_on_from():
    problem = sine()
    result = solve(problem)
    assert terminate(problem, result.state) is Status.CONVERGED
    assert len(solve(problem, result.state).history) <= 1


# ---- bad starting points


def test_wrong_shapes_are_one_clear_error():
    problem = sine()
    with pytest.raises(ValueError, match="one control vector a stage"):
        solve(problem, [np.zeros(3)])
    rollout = problem.rollout(problem.network.init_controls(0))
    with pytest.raises(ValueError, match="expected states of shapes"):
        solve(problem, Trajectory(rollout.controls, rollout.states[:-1]))


def test_an_infeasible_trajectory_is_a_start():
    """Zero states, far from the rollout, and multipliers to go with them."""
    problem = sine()
    rollout = problem.rollout(problem.network.init_controls(0))
    states = (problem.x, *(np.zeros_like(s) for s in rollout.states[1:]))
    start = Trajectory(rollout.controls, states, tuple(np.full_like(s, 0.1) for s in states))
    state = init(problem, start)
    assert state.point.max_defect > 0.01
    for multiplier in state.multipliers:
        np.testing.assert_array_equal(multiplier, np.full_like(multiplier, 0.1))
    assert solve(problem, start).success


# ---- determinism


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_same_seed_gives_the_same_bits(activation):
    problem = sine(activation=activation, sizes=(1, 5, 5, 5, 1))
    options = Options(seed=3, max_outer=50)
    first, second = solve(problem, options=options), solve(problem, options=options)
    np.testing.assert_array_equal(np.concatenate(first.trajectory.controls), np.concatenate(second.trajectory.controls))
    assert first.counts == second.counts
    assert [r.objective for r in first.history] == [r.objective for r in second.history]


def test_another_seed_gives_another_start():
    assert init(sine(), options=Options(seed=1)).best.objective != init(sine(), options=Options(seed=2)).best.objective


def test_the_number_of_blas_threads_changes_rounding_alone(monkeypatch):
    """Matrices large enough for BLAS to use its threads, and a solver that does not limit them."""
    monkeypatch.setattr("ocp_nn.problem.blas._ONE_THREAD_SIZE", 0)
    rng = rng_of()
    x = rng.uniform(-2, 2, (100, 2))
    problem = TrainingProblem(Network.mlp([2, 20, 20, 1]), x, np.sin(x.sum(axis=1)), 1.0)
    options = Options(max_outer=3, max_restarts=0)
    objectives = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            objectives.append(solve(problem, options=options).rollout_objective)
    assert objectives[0] == pytest.approx(objectives[1], rel=1e-9)


def test_a_small_solve_is_the_same_on_any_number_of_threads():
    problem = sine()
    results = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            results.append(solve(problem))
    assert results[0].objective == pytest.approx(results[1].objective, rel=1e-12)
    assert results[0].counts == results[1].counts
