"""A callback receives the record of the history and the solver's state: it can look at, keep and go on from any."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np

from ocp_nn import Iterate, Network, Options, Record, TrainingProblem, solve
from ocp_nn.solvers.augmented_lagrangian.outer_loop import init, step


def problem_of() -> TrainingProblem:
    x = np.linspace(-2, 2, 30)[:, None]
    return TrainingProblem(Network.mlp([1, 5, 5, 1]), x, np.sin(2 * x), 1e-2)


def watched(**settings):
    seen: list[Iterate] = []
    result = solve(problem_of(), options=Options(**settings), callback=seen.append)
    return result, seen


def test_an_iterate_is_the_record_of_the_history():
    result, seen = watched()
    assert len(seen) == len(result.history) > 3
    for iterate, record in zip(seen, result.history, strict=True):
        assert isinstance(iterate, Record)
        assert [getattr(iterate, name) for name in Record.columns()] == list(astuple(record))
    assert all(type(record) is Record for record in result.history), "the history keeps no states alive"


def test_its_state_is_what_stepping_by_hand_has():
    problem, (result, seen) = problem_of(), watched()
    state = init(problem)
    for iterate in seen:
        state = step(problem, state)
        for ours, theirs in zip(iterate.state.point.controls, state.point.controls, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert iterate.objective == iterate.state.point.objective
        assert iterate.max_defect == iterate.state.point.max_defect
    assert seen[-1].state is result.state


def test_a_solve_goes_on_from_a_state_that_a_callback_kept():
    result, seen = watched()
    again = solve(problem_of(), seen[2].state)
    for ours, theirs in zip(again.trajectory.controls, result.trajectory.controls, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert again.counts == result.counts


def test_a_callback_may_stop_by_what_the_state_shows():
    _, seen = watched()
    third = seen[2].state.best.objective
    assert third < seen[1].state.best.objective
    result = solve(problem_of(), callback=lambda iterate: iterate.state.best.objective <= third)
    assert len(result.history) == 3 and result.rollout_objective == third


def test_an_iterate_prints_as_a_row_without_its_arrays():
    _, seen = watched(max_outer=1)
    assert len(repr(seen[0])) < 400 and "array" not in repr(seen[0])
