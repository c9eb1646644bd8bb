"""The finish goes on with the kind of steps that last gained more for its work, each with a damping of its own."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from ocp_nn import Network, Options, TrainingProblem
from ocp_nn.solvers.augmented_lagrangian import finish as policy
from ocp_nn.solvers.augmented_lagrangian.damping import Damping
from ocp_nn.solvers.augmented_lagrangian.inner_accuracy import inner_method, inner_steps
from ocp_nn.solvers.augmented_lagrangian.inner_result import InnerResult
from ocp_nn.solvers.augmented_lagrangian.outer_loop import init, step, terminate
from ocp_nn.solvers.augmented_lagrangian.schedule import Finish

START = Finish((Damping(1.0), Damping(2.0)))
INF = float("inf")


@pytest.mark.parametrize(
    ("gains", "second_order"),
    [
        ((INF, 1e-3), False),
        ((1e-2, 1e-3), False),
        ((1e-4, 1e-3), True),
        ((1e-3, 1e-3), False),
        ((-1.0, 0.0), True),
        ((0.0, -1.0), False),
        ((-1.0, -1.0), False),
    ],
)
def test_the_larger_gain_is_preferred_and_gauss_newton_where_they_are_equal(gains, second_order):
    finish = replace(START, gains=gains)
    assert finish.prefers_second_order is second_order
    assert finish.next_damping is finish.damping[second_order]


def test_gauss_newton_goes_first_and_until_it_gains_less_than_a_thousandth():
    assert not START.prefers_second_order and START.kind == 0
    assert not START.after(1.01e-3, Damping(3.0)).prefers_second_order
    assert START.after(0.99e-3, Damping(3.0)).prefers_second_order


def test_every_kind_keeps_its_own_damping_and_gain():
    one = START.after(1e-4, Damping(5.0))
    assert one == Finish((Damping(5.0), Damping(2.0)), (1e-4, 1e-3), False)
    two = one.after(1e-2, Damping(7.0))
    assert two == Finish((Damping(5.0), Damping(7.0)), (1e-4, 1e-2), True)
    three = two.after(1e-5, Damping(9.0))
    assert three == Finish((Damping(5.0), Damping(9.0)), (1e-4, 1e-5), True)
    assert three.next_damping == Damping(5.0)
    assert three.after(0.5, Damping(0.1)) == Finish((Damping(0.1), Damping(9.0)), (0.5, 1e-5), False)


@pytest.mark.parametrize(
    ("gains", "exhausted"),
    [((INF, 1e-3), False), ((-1.0, 1e-9), False), ((0.0, -1.0), False), ((0.0, 0.0), False), ((-1.0, -1.0), True)],
)
def test_it_is_exhausted_when_neither_kind_is_possible(gains, exhausted):
    assert replace(START, gains=gains).is_exhausted is exhausted


def test_a_kind_that_was_not_possible_gives_way_to_the_other():
    finish = START.after(-1.0, Damping(1e21))
    assert finish.prefers_second_order and not finish.is_exhausted
    finish = finish.after(-1.0, Damping(1e21))
    assert finish.is_exhausted


# ---- in the loop


def sine(samples=40, weight_decay=1e-3):
    x = np.random.default_rng(0).uniform(-2, 2, (samples, 1))
    return TrainingProblem(Network.mlp([1, 5, 5, 1]), x, np.sin(2 * x), weight_decay)


OPTIONS = Options(tolerance=1e-10, max_restarts=0)


@pytest.fixture(scope="module")
def finishing():
    """The states of a solve from the finish on."""
    problem = sine()
    state = init(problem, options=OPTIONS)
    found = []
    while terminate(problem, state, OPTIONS) is None:
        state = step(problem, state, OPTIONS)
        if state.schedule.finish is not None:
            found.append(state)
    return found


def test_the_steps_taken_are_those_that_were_preferred(finishing):
    kinds = set()
    for before, after in pairwise(finishing):
        second_order = before.schedule.finish.prefers_second_order
        kinds.add(second_order)
        worked = {name: after.counts[name] - before.counts[name] for name in after.counts}
        assert after.schedule.finish.kind == second_order
        assert after.phase == ("second order" if second_order else "single shooting")
        assert worked["newton" if second_order else "gauss_newton"] <= 2
        assert worked["gauss_newton" if second_order else "newton"] == 0
        assert (worked["hessian_products"] > 0) is second_order or worked["newton"] == 0
    assert kinds == {False, True}


def test_gains_are_relative_decreases_for_the_work(finishing):
    """A Hessian product is counted as a quarter of a least-squares problem."""
    for before, after in pairwise(finishing):
        worked = {name: after.counts[name] - before.counts[name] for name in after.counts}
        work = worked["least_squares"] + 0.25 * worked["hessian_products"]
        second_order = before.schedule.finish.prefers_second_order
        looked_at = after.schedule.curvature is not None  # at the end, by products that are no part of the steps
        if worked["newton"] + worked["gauss_newton"] and not looked_at:
            gain = (before.rollout_objective - after.rollout_objective) / (work * after.rollout_objective)
            assert after.schedule.finish.gains[second_order] == pytest.approx(gain, rel=1e-12, abs=1e-15)
        assert after.schedule.finish.gains[not second_order] == before.schedule.finish.gains[not second_order]
        assert after.schedule.finish.damping[not second_order] == before.schedule.finish.damping[not second_order]


def test_every_point_of_the_finish_is_a_rollout_with_a_projected_last_control(finishing):
    problem = sine()
    for state in finishing:
        assert state.penalty == (INF, INF) and state.point.max_defect == 0.0
        np.testing.assert_array_equal(state.point.outputs[-1], problem.network.predict(state.point.controls, problem.x))
        best = problem.best_last_control(state.point.states[-1], state.point.controls[-1])
        np.testing.assert_array_equal(state.point.controls[-1], best)


def test_the_objective_only_falls(finishing):
    values = [state.rollout_objective for state in finishing]
    assert np.all(np.diff(values) <= 1e-13 * values[0]) and values[-1] < values[0]


def next_finish(finish, inner, objective=1.0):
    problem = sine()
    return policy.next_finish(in_finish(init(problem), finish, rollout_objective=2.0), inner, objective)


def in_finish(state, finish, **others):
    return replace(state, schedule=replace(state.schedule, finish=finish), **others)


def inner_result(**numbers):
    return InnerResult(init(sine()).point, Damping(3.0), **numbers)


def test_no_step_is_a_negative_gain_and_no_time_is_none():
    assert next_finish(START, inner_result(stalled=True, solves=70)).gains == (-1.0, 1e-3)
    assert next_finish(START, inner_result()) is START
    assert next_finish(None, inner_result(steps=1, solves=1)) is None
    # stalled after a step that gained is a gain
    assert next_finish(START, inner_result(stalled=True, steps=1, solves=10)).gains[0] == pytest.approx(0.1)


def test_a_perfect_fit_gains_nothing_more():
    assert next_finish(START, inner_result(steps=1, solves=1), objective=0.0).gains == (0.0, 1e-3)


def test_before_the_finish_steps_are_gauss_newton():
    state = init(sine())
    assert state.schedule.finish is None
    assert not inner_method(state, OPTIONS).second_order
    preferring = in_finish(state, replace(START, gains=(0.0, 1.0)))
    assert inner_method(preferring, OPTIONS).second_order
    assert inner_steps(state, OPTIONS) == OPTIONS.max_inner
    assert inner_steps(preferring, OPTIONS) == inner_steps(in_finish(state, START), OPTIONS) == 2
