"""The sample a solve may start on: rows of the data, weight decay in proportion, only where there are many more."""

from __future__ import annotations

import numpy as np
import pytest

from ocp_nn import Network, Options, Status, TrainingProblem, solve
from ocp_nn.solvers.augmented_lagrangian import sample_start
from ocp_nn.solvers.augmented_lagrangian.initialise import initialise
from ocp_nn.solvers.augmented_lagrangian.outer_loop import step
from ocp_nn.solvers.augmented_lagrangian.rollouts import rollout_objective
from ocp_nn.solvers.augmented_lagrangian.sample_start import begin, sample_of, sample_options


def problem_of(samples, sizes=(2, 3, 1), weight_decay=0.5):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((samples, sizes[0]))
    y = np.column_stack([x[:, 0] + 10.0 * k for k in range(sizes[-1])])
    return TrainingProblem(Network.mlp(sizes), x, y, weight_decay)


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [((2, 3, 1), 1000), ((2, 50, 9, 1), 1238), ((2, 60, 60, 2), 3962), ((2, 50, 9, 3), 1000)],
    ids=["least", "two a control", "several outputs", "least of several outputs"],
)
def test_it_has_two_samples_a_control_and_output_and_a_thousand_at_least(sizes, wanted):
    network = Network.mlp(sizes)
    assert wanted == max(1000, 2 * network.num_controls // network.num_outputs)
    assert sample_of(problem_of(4 * wanted, sizes), Options()).num_samples == wanted
    assert sample_of(problem_of(4 * wanted - 1, sizes), Options()) is None


def test_it_is_not_taken_where_it_is_not_wanted():
    assert sample_of(problem_of(8000), Options(sample_start=False)) is None


@pytest.mark.parametrize("samples", [4000, 7001])
def test_its_rows_are_rows_of_the_data_in_order_and_none_twice(samples):
    problem = problem_of(samples, (2, 3, 2))
    sample = sample_of(problem, Options())
    position = {row.tobytes(): k for k, row in enumerate(problem.x)}
    rows = [position[row.tobytes()] for row in sample.x]
    assert rows == sorted(set(rows))
    np.testing.assert_array_equal(sample.y, problem.y[rows])
    assert sample.network is problem.network
    # from everywhere: a thousand random rows leave no tenth of the data out
    assert rows[0] < samples / 10 and rows[-1] > 0.9 * samples and max(np.diff(rows)) < samples / 10


@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_weight_decay_is_in_proportion_so_objectives_compare(weight_decay):
    problem = problem_of(5000, weight_decay=weight_decay)
    sample = sample_of(problem, Options())
    assert sample.weight_decay == pytest.approx(weight_decay * 1000 / 5000, rel=1e-15)
    controls = problem.network.init_controls(1)
    ratio = rollout_objective(sample, controls) / rollout_objective(problem, controls)
    assert ratio == pytest.approx(1000 / 5000, rel=0.1)


def test_the_seed_chooses_it():
    problem = problem_of(4000)
    one, again, other = (sample_of(problem, Options(seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.x, again.x)
    assert not np.array_equal(one.x, other.x)


def test_the_loop_on_it_is_short_and_has_no_sample_of_its_own():
    options = sample_options(Options(max_restarts=7, seed=3, penalty=5.0))
    assert (options.sample_start, options.max_restarts, options.max_steps) == (False, 0, 100)
    assert (options.seed, options.penalty) == (3, 5.0)
    assert sample_options(Options(max_steps=10)).max_steps == 10


def test_it_never_makes_the_start_worse():
    """Where the sample, and it alone, has targets of a hundred, all data are better off with the first controls."""
    problem = problem_of(4000, weight_decay=1e-3)
    inside = {row.tobytes() for row in sample_of(problem, Options()).x}
    targets = np.array([100.0 if row.tobytes() in inside else 0.0 for row in problem.x])
    misleading = TrainingProblem(problem.network, problem.x, targets, 1e-3)
    sampled, plain = (begin(misleading, options=Options(sample_start=value)) for value in (True, False))
    assert sampled.counts["sample_steps"] > 0
    assert sampled.best.objective == plain.best.objective
    np.testing.assert_array_equal(np.concatenate(sampled.best.controls), np.concatenate(plain.best.controls))


def test_ctrl_c_on_it_ends_the_solve_with_what_there_is(monkeypatch):
    def interrupted(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(sample_start, "step", interrupted)  # of the loop on the sample
    try:
        result = solve(problem_of(4000), options=Options(max_outer=1))
    except KeyboardInterrupt:
        pytest.fail("the solve has no result")
    assert result.status is Status.INTERRUPTED


def test_no_step_on_it_begins_after_the_deadline():
    assert begin(problem_of(4000), deadline=0.0).counts["sample_steps"] == 0


def test_its_steps_and_those_of_the_loop_are_observed():
    problem, seen = problem_of(4000), []
    state = begin(problem, observe=seen.append)
    assert 0 < len(seen) <= state.counts["sample_steps"]  # least-squares problems, rejected ones included
    assert rollout_objective(problem, seen[-1]) < 0.5 * rollout_objective(problem, initialise(problem))
    before = len(seen)
    state = step(problem, state, observe=seen.append)
    assert len(seen) > before
    np.testing.assert_array_equal(np.concatenate(seen[-1]), np.concatenate(state.point.controls))
