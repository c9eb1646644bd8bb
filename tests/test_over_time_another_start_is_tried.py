"""Where one start over time leads nowhere another is tried, and the better end is the result."""

from dataclasses import replace

import numpy as np
import pytest
from systems import long_memory, mildly_nonlinear

from ocp_nn import IdentificationProblem, Options, StateSpaceModel, Status, Trajectory, certify, solve
from ocp_nn.solvers.augmented_lagrangian.over_time.loop import begin
from ocp_nn.solvers.augmented_lagrangian.over_time.restarts import later_starts, stopped, wants_restart
from ocp_nn.solvers.augmented_lagrangian.over_time.state import Attempt

V, Y = mildly_nonlinear()


def model(**others):
    return StateSpaceModel(num_states=2, num_inputs=1, num_outputs=1, hidden_layer_sizes=(4,), **others)


def problem():
    return IdentificationProblem(model(), [(V, Y)], 1e-2)


def noisy(weight_decay=1.0):
    """Half of what is measured is noise, from any start."""
    error = 0.7 * Y.std() * np.random.default_rng(5).standard_normal(Y.shape)
    return IdentificationProblem(model(), [(V, Y + error)], weight_decay)


def with_point(state, **others):
    return replace(state, point=replace(state.point, **others))


def test_only_the_solvers_own_choice_is_reconsidered():
    some = problem()
    assert later_starts(some, None, Options()) == ("slow", "auto")
    assert later_starts(some, None, Options(max_restarts=1)) == ("slow",)
    assert later_starts(some, None, Options(max_restarts=0)) == ()
    assert later_starts(some, None, Options(initialisation="linear")) == ()
    assert later_starts(some, some.init_controls(), Options()) == ()
    autonomous = StateSpaceModel(num_states=2, num_inputs=0, num_outputs=1, hidden_layer_sizes=(4,))
    assert later_starts(IdentificationProblem(autonomous, [(None, Y)], 1e-2), None, Options()) == ("auto", "auto")


def test_an_end_that_explains_the_record_stays():
    some = problem()
    state = begin(some, None, Options())
    at_rest = replace(with_point(state, objective=1e-3 * some.null_objective), stationarity=0.0)
    assert stopped(at_rest, Options()) is None and not wants_restart(some, at_rest, Options())
    poor = replace(with_point(state, objective=0.5 * some.null_objective), stationarity=0.0)
    assert wants_restart(some, poor, Options())
    assert not wants_restart(some, replace(poor, later_starts=("auto",)), Options())
    is_open = with_point(replace(poor, later_starts=("auto",)), defects=np.ones_like(poor.point.defects))
    stuck = replace(is_open, stalled=True, hardening=replace(is_open.hardening, stuck=100))
    assert wants_restart(some, stuck, Options())
    assert not wants_restart(some, replace(stuck, later_starts=()), Options())


def test_a_pulse_of_long_ago_is_found_from_states_that_forget_slowly():
    """They are the first start there; from the linear model a solve ends far above the noise."""
    records, floor = long_memory()
    chain = IdentificationProblem(
        StateSpaceModel(num_states=3, num_inputs=2, num_outputs=1, hidden_layer_sizes=(8,)), records, 1e-5
    )
    found = solve(chain, options=Options(time_limit=60))
    assert found.objective < 1.2 * floor and found.max_defect < 1e-6
    linear = solve(chain, options=Options(initialisation="linear", max_outer=found.counts["outer"]))
    assert linear.objective > 3 * floor or linear.max_defect > 1e-6


def test_the_better_end_is_returned_with_its_own_status():
    """The second start finds nothing better: the first end, converged and certified, is what comes back."""
    some = noisy()
    first = solve(some, options=Options(max_restarts=0))
    both = solve(some, options=Options())
    assert first.status is both.status is Status.CONVERGED
    assert (first.counts["restarts"], both.counts["restarts"]) == (0, 1)
    assert certify(some, both.trajectory, tolerance=1e-6).passed()
    assert both.objective <= first.objective * (1 + 1e-9)


def test_the_second_start_wins_where_it_ends_lower():
    some = noisy()
    state = begin(some, None, Options())
    high = Attempt(Status.CONVERGED, some.rollout(some.init_controls()), 0.0, 0.0, 1e6, tolerance=1e-6)
    assert replace(state, earlier=high).better_earlier is None


def test_closed_defects_count_before_the_objective():
    some = problem()
    state = begin(some, None, Options())
    trajectory = Trajectory((state.point.theta,), tuple(state.point.states))

    def beaten(defect, objective):
        attempt = Attempt(Status.STALLED, trajectory, 0.0, defect, objective, tolerance=1e-6)
        return replace(now, earlier=attempt).better_earlier is attempt

    now = with_point(state, objective=2.0, defects=np.full_like(state.point.defects, 1e-9))
    now = replace(now, best=replace(now.best, objective=np.inf))
    assert beaten(0.0, 1.0) and not beaten(0.0, 3.0) and not beaten(1.0, 1.0)
    now = with_point(now, defects=np.full_like(state.point.defects, 1.0))
    assert beaten(0.0, 3.0) and beaten(1.0, 1.0)


@pytest.mark.parametrize("limit", [{"max_outer": 3}, {"max_steps": 4}])
def test_limits_end_a_solve_before_another_start(limit):
    result = solve(noisy(), options=Options(**limit))
    assert result.status.is_limit and result.counts["restarts"] == 0


def test_the_objective_never_gets_worse_by_the_correction_of_second_order():
    some = problem()
    with_it, without = (solve(some, options=Options(acceleration=on)) for on in (True, False))
    assert with_it.status is without.status is Status.CONVERGED
    assert with_it.objective == pytest.approx(without.objective, rel=0.05)
