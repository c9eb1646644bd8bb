"""Order, weight decay and start are chosen by segments that a solution has not seen, by a rule that is written down."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares

pytest.importorskip("sklearn")

from sklearn.exceptions import ConvergenceWarning

from ocp_nn import Options, StateSpaceModel, StateSpaceRegressor, Trajectory, load_records
from ocp_nn.learning.state_space import segments
from ocp_nn.learning.state_space.choice import (
    RACE,
    WEIGHT_DECAYS,
    Candidate,
    ChoiceSettings,
    Start,
    best_of,
    descend,
    finalists,
)
from ocp_nn.learning.state_space.initial_state import InitialStates
from ocp_nn.learning.state_space.revival import revived
from ocp_nn.learning.state_space.segments import MOST_SAMPLES, folds, shortened
from ocp_nn.network.records import Records

WIENER = load_records("wiener", samples=250, seed=2)
RNG = np.random.default_rng(0)


def records(*lengths: int) -> Records:
    return Records.checked([(RNG.standard_normal(k), np.arange(k, dtype=float)) for k in lengths])


# ---- segments


def test_every_sample_is_held_out_once_and_never_trained_on_then():
    whole = records(103, 60)
    parts = folds(whole, 5)
    held_out = np.concatenate([np.concatenate(part.held_out.outputs).ravel() for part in parts])
    np.testing.assert_array_equal(np.sort(held_out), np.sort(np.concatenate(whole.outputs).ravel()))
    for part in parts:
        for y, gone, all_of_it in zip(part.train.outputs, part.held_out.outputs, whole.outputs, strict=True):
            missing = np.isnan(y).ravel()
            np.testing.assert_array_equal(all_of_it[missing], gone)
            np.testing.assert_array_equal(y[~missing], all_of_it[~missing])


def test_of_many_records_whole_ones_are_held_out():
    parts = folds(records(*[20] * 7), 5)
    assert [len(part.held_out) for part in parts] == [2, 2, 1, 1, 1]
    assert parts[0].kept == (1, 2, 3, 4, 6)
    states = RNG.standard_normal((20, 7, 2))
    np.testing.assert_array_equal(parts[0].states(states), states[:, [1, 2, 3, 4, 6]])


def test_pieces_too_short_to_judge_are_none():
    assert folds(records(30), 5) == []


def test_long_records_are_looked_at_in_pieces():
    assert shortened(short := records(200), 5) is short
    several = shortened(records(5 * MOST_SAMPLES), 5)
    assert (len(several), sum(several.lengths)) == (5, MOST_SAMPLES)
    assert [int(y[0, 0]) for y in several.outputs] == [k * MOST_SAMPLES for k in range(5)]


# ---- the rule


def candidate(errors, *, states=2, decay=1.0, objective=1.0, first=30.0, seed=0):
    model = StateSpaceModel(num_states=states, num_inputs=1, num_outputs=1)
    together = float(np.exp(np.mean(np.log(errors)))) if len(errors) else np.nan
    return Candidate(
        start=Start(model, seed, first),
        weight_decay=decay,
        objective=objective,
        trajectory=Trajectory((np.zeros(model.num_parameters),), ()),
        error=together,
        errors=tuple(errors),
    )


BEST = [0.1, 0.2, 0.1, 0.2]


def test_a_stronger_decay_is_taken_unless_its_errors_are_clearly_higher():
    as_good = candidate([0.12, 0.15, 0.11, 0.22], decay=10.0)
    scattered = candidate([0.1, 0.9, 0.05, 0.3], decay=10.0)
    clearly_worse = candidate([0.13, 0.25, 0.12, 0.26], decay=10.0)
    best = candidate(BEST, decay=0.1)
    assert best_of([as_good, best]) is as_good
    assert best_of([scattered, best]) is scattered
    assert best_of([clearly_worse, best]) is best


def test_fewer_states_come_before_a_stronger_decay():
    small = candidate([0.11, 0.19, 0.1, 0.2], states=1, decay=0.1)
    assert best_of([candidate(BEST, decay=0.1), candidate(BEST, decay=10.0), small]) is small


def test_what_overflowed_or_was_not_judged_is_not_chosen():
    fine = candidate(BEST)
    assert best_of([candidate([0.01, np.inf]), candidate([]), fine]) is fine
    unjudged = [candidate([], decay=3.0), candidate([], decay=1.0), candidate([], decay=0.3, seed=1)]
    assert best_of(unjudged) is unjudged[1]


def test_the_race_is_won_by_the_least_objective_of_each_order_and_beginning():
    paths = [[candidate([], objective=j, seed=s, first=f)] for s, (j, f) in enumerate([(3, 30.0), (2, 30.0), (5, 3.0)])]
    paths.append([candidate([], states=1, objective=9)])
    early = [candidate([], objective=0.1, decay=10.0)]
    assert finalists([*paths, early]) == [paths[1], paths[2], paths[3]]


# ---- paths


def test_hidden_units_that_are_out_begin_anew_and_others_stay():
    model = StateSpaceModel(num_states=2, num_inputs=1, num_outputs=1, hidden_layer_sizes=(3,), output_layer_sizes=(2,))
    theta = model.initial_parameters(0)
    parts = model.architecture.split(theta)
    parts["W1"][1], parts["output_W2"][:, 0] = 1e-5, 1e-9
    new, old = model.matrices(revived(model, theta, 5)), model.matrices(theta)
    fresh = model.matrices(model.initial_parameters(5))
    np.testing.assert_array_equal(new["W1"][1], fresh["W1"][1])
    np.testing.assert_array_equal(new["W2"][:, 1], 0.01 * fresh["W2"][:, 1])
    np.testing.assert_array_equal(new["output_W1"][0], fresh["output_W1"][0])
    for name in new:
        rows = {"W1": [0, 2], "b1": [0, 2], "output_W1": [1], "output_b1": [1]}.get(name, slice(None))
        columns = {"W2": [0, 2], "output_W2": [1]}.get(name, slice(None))
        np.testing.assert_array_equal(new[name][rows][:, columns], old[name][rows][:, columns])


def test_a_path_from_strong_decay_does_not_stay_linear():
    """Without new weights for its units it ends at the linear model, whose objective is several times as large."""
    data = load_records("wiener", samples=300)
    scaled = data.train.scaled(*data.train.scalers())
    settings = ChoiceSettings(30, Options(tolerance=1e-3))

    def least(outputs: tuple[int, ...]) -> float:
        widths = {"num_states": 2, "num_inputs": 1, "num_outputs": 1}
        model = StateSpaceModel(**widths, hidden_layer_sizes=(), output_layer_sizes=outputs)
        return descend(Start(model, 0), scaled, (30.0, 10.0, 3.0, 0.3, 0.01), settings)[-1].objective

    assert least((4,)) < 0.3 * least(())


def test_a_path_begins_at_its_first_decay_and_keeps_one_that_is_given():
    whole = records(40)
    scaled = whole.scaled(*whole.scalers())
    model = StateSpaceModel(num_states=1, num_inputs=1, num_outputs=1, hidden_layer_sizes=(2,))
    settings = ChoiceSettings(5, Options(max_outer=1))
    found = descend(Start(model, 0, 3.0), scaled, (30.0, 3.0, 1.0), settings)
    assert [c.weight_decay for c in found] == [3.0, 1.0]
    assert [c.weight_decay for c in descend(Start(model, 0, 3.0), scaled, (30.0,), settings)] == [30.0]
    longer = descend(Start(model, 0, 3.0), scaled, (30.0, 3.0, 1.0, 0.3), settings, found)
    assert longer[:2] == found
    assert RACE in WEIGHT_DECAYS


# ---- initial states


def test_an_initial_state_is_the_maximum_a_posteriori():
    """Against SciPy, for a stable nonlinear model of random weights."""
    model = StateSpaceModel(num_states=2, num_inputs=1, num_outputs=1, hidden_layer_sizes=(4,))
    theta = 0.5 * model.initial_parameters(1)
    v, states = RNG.standard_normal((12, 1)), RNG.standard_normal((500, 2)) @ [[1.0, 0.6], [0.0, 0.3]] + 0.2
    y = model.simulate(theta, v, [0.7, -0.4])[0] + 0.1 * RNG.standard_normal((12, 1))
    y[3] = np.nan
    known = InitialStates.of(states, 0.1 * RNG.standard_normal((500, 1)))
    whiten = np.linalg.cholesky(np.linalg.inv(np.cov(states.T, bias=True))).T

    def rows(x0):
        errors = (model.simulate(theta, v, x0)[0] - y).ravel() / known.noise
        return np.concatenate([errors[np.isfinite(errors)], whiten @ (x0 - states.mean(axis=0))])

    expected = least_squares(rows, [0.0, 0.0], xtol=1e-12, ftol=1e-12, gtol=1e-12).x
    np.testing.assert_allclose(known.estimate(model, theta, v, y), expected, atol=1e-4)


def test_the_training_states_tell_which_of_two_minima_it_is():
    """y = x^2 does not tell the sign of x; all training states are negative."""
    ca = pytest.importorskip("casadi")
    x, v, p = ca.SX.sym("x"), ca.SX.sym("v"), ca.SX.sym("p")
    model = StateSpaceModel(dynamics=ca.Function("f", [x, v, p], [p * x]), output=ca.Function("g", [x, v, p], [x * x]))
    known = InitialStates.of(-1.0 + 0.1 * RNG.standard_normal((200, 1)), 0.01 * RNG.standard_normal((200, 1)))
    v, theta = np.zeros((10, 1)), np.array([0.9])
    y = model.simulate(theta, v, [-1.1])[0]
    np.testing.assert_allclose(known.estimate(model, theta, v, y), [-1.1], atol=0.01)


def test_without_measurements_it_is_the_mean():
    model = StateSpaceModel(num_states=2, num_inputs=1, num_outputs=1)
    known = InitialStates.of(RNG.standard_normal((50, 2)) + 3.0, np.ones((50, 1)))
    found = known.estimate(model, 0.1 * model.initial_parameters(0), np.zeros((4, 1)), np.full((4, 1), np.nan))
    np.testing.assert_allclose(found, known.mean, atol=1e-8)


# ---- all of it


def test_the_order_and_the_decay_of_a_known_system_are_found():
    data = WIENER
    model = StateSpaceRegressor(
        [1, 2], (), output_layer_sizes=(4,), num_starts=1, warm_up=20, max_iter=60, random_state=0
    ).fit(data.train.inputs[0], data.train.outputs[0])
    assert model.num_states_ == 2
    assert model.weight_decay_ in WEIGHT_DECAYS
    assert {c.num_states for c in model.candidates_} == {1, 2}
    assert model.score(data.test.inputs[0], data.test.outputs[0]) > 0.995


def test_a_decay_that_is_given_is_kept_whatever_the_order():
    model = StateSpaceRegressor(
        [1, 2], (), output_layer_sizes=(2,), weight_decay=1.0, num_starts=1, warm_up=20, max_iter=60, random_state=0
    ).fit(WIENER.train.inputs[0], WIENER.train.outputs[0])
    assert (model.num_states_, model.weight_decay_) == (2, 1.0)
    assert [c.weight_decay for c in model.candidates_] == [1.0, 1.0]


def test_of_several_starts_the_least_objective_is_kept():
    """Where nothing is judged; among the starts are both beginnings."""
    options = {"weight_decay": 0.3, "warm_up": 20, "max_iter": 1, "tol": 1e-12}
    v, y = WIENER.train.inputs[0][:100], WIENER.train.outputs[0][:100]

    def objective(starts: int) -> float:
        model = StateSpaceRegressor(2, (3,), num_starts=starts, random_state=4, **options)
        with pytest.warns(ConvergenceWarning):
            return model.fit(v, y).result_.objective

    assert objective(3) <= objective(1) + 1e-9


def test_long_records_are_trained_on_as_a_whole_after_a_choice_in_pieces(monkeypatch):
    monkeypatch.setattr(segments, "MOST_SAMPLES", 150)
    model = StateSpaceRegressor(
        2, (), output_layer_sizes=(4,), weight_decay=0.01, num_starts=1, warm_up=20, max_iter=100, random_state=0
    ).fit(WIENER.train.inputs[0], WIENER.train.outputs[0])
    assert (model.states_[0].shape, model.initial_states_.shape) == ((250, 2), (1, 2))
    assert model.score(WIENER.test.inputs[0], WIENER.test.outputs[0]) > 0.99
