"""``StateSpaceRegressor`` identifies systems from records, in their units and in the manner of scikit-learn."""

from __future__ import annotations

import pickle
import re
import time

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from ocp_nn import StateSpaceRegressor, Status, fit_percent, load_records

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

DATA = load_records("wiener", samples=400, seed=1)
V, Y = DATA.train.inputs[0], DATA.train.outputs[0]
V_NEW, Y_NEW = DATA.test.inputs[0], DATA.test.outputs[0]
# the filter is linear and its output is not
QUICK = {
    "num_states": 2,
    "hidden_layer_sizes": (),
    "output_layer_sizes": (4,),
    "weight_decay": 0.01,
    "num_starts": 2,
    "max_iter": 60,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def fitted():
    return StateSpaceRegressor(**QUICK).fit(V, Y)


def test_a_new_record_is_simulated_to_its_noise(fitted):
    """2 % of noise leave 98 % of fit to a perfect model."""
    assert fitted.score(V_NEW, Y_NEW) > 0.998
    run = fitted.predict(V_NEW, Y_NEW[:50])
    assert run.shape == Y_NEW.shape
    assert fit_percent(Y_NEW, run, warm_up=50)[0] > 96


def test_the_linear_model_beside_it_is_worse(fitted):
    linear = fitted.linear_model_
    assert linear.system.num_states == 2
    share = linear.fit_percent(V_NEW, Y_NEW, warm_up=50)[0]
    assert 50 < share < fitted.model_.fit_percent(V_NEW, Y_NEW, warm_up=50)[0] - 10


def test_nothing_of_the_outputs_is_used_beyond_the_first_rows(fitted):
    changed = Y_NEW.copy()
    changed[50:] = 1e3
    np.testing.assert_array_equal(fitted.predict(V_NEW, changed[:50]), fitted.predict(V_NEW, Y_NEW[:50]))


def test_without_first_rows_the_run_forgets_where_it_began(fitted):
    run = fitted.predict(V_NEW)
    np.testing.assert_allclose(run[100:], fitted.predict(V_NEW, Y_NEW[:50])[100:], atol=1e-3)


def test_what_a_fit_leaves(fitted):
    assert (fitted.num_states_, fitted.weight_decay_, fitted.candidates_) == (2, 0.01, ())
    assert fitted.status_ is fitted.result_.status
    assert isinstance(fitted.status_, Status)
    assert fitted.states_[0].shape == (400, 2)
    np.testing.assert_array_equal(fitted.initial_states_[0], fitted.states_[0][0])
    simulated, states = fitted.model_.simulate(V, fitted.initial_states_[0])
    np.testing.assert_allclose(states[:-1], fitted.states_[0], atol=1e-5)
    np.testing.assert_allclose(fitted.fit_percent_, fit_percent(Y, simulated, warm_up=50))


def test_the_model_is_that_of_its_parameters_in_units(fitted):
    model = fitted.model_
    x0 = model.estimate_initial_state(V_NEW, Y_NEW[:50])
    plain, states = model.system.simulate(model.theta, V_NEW, x0)
    simulated, others = model.simulate(V_NEW, x0)
    np.testing.assert_allclose(simulated, plain, atol=1e-10)
    np.testing.assert_allclose(others, states, atol=1e-10)


def test_units_change_nothing(fitted):
    moved = StateSpaceRegressor(**QUICK).fit(1e4 * V - 3e5, 1e-3 * Y + 7)
    expected = 1e-3 * fitted.predict(V_NEW, Y_NEW[:50]) + 7
    np.testing.assert_allclose(moved.predict(1e4 * V_NEW - 3e5, 1e-3 * Y_NEW[:50] + 7), expected, atol=1e-6)


def test_vectors_are_columns_and_come_back_as_vectors(fitted):
    flat = StateSpaceRegressor(**QUICK).fit(V.ravel(), Y.ravel())
    run = flat.predict(V_NEW.ravel(), Y_NEW[:50].ravel())
    assert run.shape == (400,)
    np.testing.assert_array_equal(run, fitted.predict(V_NEW, Y_NEW[:50]).ravel())
    assert flat.score(V_NEW.ravel(), Y_NEW.ravel()) == fitted.score(V_NEW, Y_NEW)


def test_several_records_of_any_length_with_gaps_in_their_outputs():
    gaps = Y.copy()
    gaps[40:60] = np.nan
    several = StateSpaceRegressor(**QUICK).fit([V[:220], V[220:]], [gaps[:220], gaps[220:]])
    assert several.initial_states_.shape == (2, 2)
    assert [len(x) for x in several.states_] == [220, 180]
    assert several.score(V_NEW, Y_NEW) > 0.99
    runs = several.predict([V_NEW, V_NEW[:90]], [Y_NEW[:50], Y_NEW[:50]])
    assert [len(run) for run in runs] == [400, 90]
    np.testing.assert_array_equal(runs[0][:90], runs[1])


def test_several_inputs_and_outputs():
    rng = np.random.default_rng(0)
    v, x, y = rng.standard_normal((300, 2)), np.zeros(2), np.zeros((300, 2))
    for t in range(300):
        y[t] = [x[0], 100 * x[1] - x[0]] + 0.01 * rng.standard_normal(2) * [1, 100]
        x = np.tanh([0.7 * x[0] + 0.4 * v[t, 0], 0.5 * x[1] - 0.3 * x[0] + 0.5 * v[t, 1]])
    model = StateSpaceRegressor(2, (6,), weight_decay=0.01, num_starts=1, random_state=0).fit(v[:200], y[:200])
    assert model.model_.fit_percent(v[200:], y[200:], warm_up=20).min() > 90


def test_a_clone_a_pickle_and_a_seed_give_the_same_model(fitted):
    again = clone(fitted).fit(V, Y)
    kept = pickle.loads(pickle.dumps(fitted))
    for other in (again, kept):
        np.testing.assert_array_equal(other.predict(V_NEW, Y_NEW[:50]), fitted.predict(V_NEW, Y_NEW[:50]))
    assert kept.result_.certificate.passed(1e-2) == fitted.result_.certificate.passed(1e-2)


def test_processes_share_the_starts_and_change_nothing(fitted):
    parallel = StateSpaceRegressor(**QUICK, n_jobs=2).fit(V, Y)
    np.testing.assert_array_equal(parallel.model_.standard_theta, fitted.model_.standard_theta)


def test_parameters_are_those_of_scikit_learn():
    model = StateSpaceRegressor(3).set_params(weight_decay=0.1, warm_up=7)
    assert (model.num_states, model.get_params()["weight_decay"], model.get_params()["warm_up"]) == (3, 0.1, 7)


def test_one_iteration_is_not_converged_and_says_so():
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        StateSpaceRegressor(**{**QUICK, "max_iter": 1, "num_starts": 1, "tol": 1e-12}).fit(V[:60], Y[:60])


def test_a_time_limit_ends_the_choice_with_a_model():
    begin = time.perf_counter()
    model = StateSpaceRegressor(2, (8,), time_limit=1.0, random_state=0).fit(V, Y)
    assert time.perf_counter() - begin < 15
    assert np.isfinite(model.predict(V_NEW, Y_NEW[:50])).all()


def test_systems_without_inputs():
    """A stable oscillation that decays to a limit cycle is followed for a period."""
    t = np.arange(200)
    y = np.sin(0.3 * t) + 0.01 * np.random.default_rng(0).standard_normal(200)
    model = StateSpaceRegressor(2, (4,), weight_decay=0.01, num_starts=1, random_state=0).fit(None, y)
    run = model.predict(np.empty((200, 0)), y[:50])
    assert fit_percent(y[:70], run[:70], warm_up=50)[0] > 90


BAD = {
    "num_states must be": lambda: StateSpaceRegressor(0).fit(V, Y),
    "hidden_layer_sizes must be": lambda: StateSpaceRegressor(hidden_layer_sizes=8).fit(V, Y),
    "activation must be one of": lambda: StateSpaceRegressor(activation="sin").fit(V, Y),
    "feedthrough must be True or False": lambda: StateSpaceRegressor(feedthrough="no").fit(V, Y),
    "weight_decay must be": lambda: StateSpaceRegressor(weight_decay=-1.0).fit(V, Y),
    "warm_up must be an integer >= 1": lambda: StateSpaceRegressor(warm_up=0).fit(V, Y),
    "num_starts must be an integer >= 1": lambda: StateSpaceRegressor(num_starts=0).fit(V, Y),
    "n_jobs must be an integer >= 1, -1 for all": lambda: StateSpaceRegressor(n_jobs=0).fit(V, Y),
    "time_limit must be": lambda: StateSpaceRegressor(time_limit=0).fit(V, Y),
    "v and y of record 0 must be as long as each other": lambda: StateSpaceRegressor().fit(V[1:], Y),
    "v of record 0 must be finite": lambda: StateSpaceRegressor().fit(np.where(V > 1, np.nan, V), Y),
    "v must have one record for each of 2, received 1": lambda: StateSpaceRegressor().fit([V], [Y, Y]),
}


@pytest.mark.parametrize("message", BAD)
def test_mistakes_are_one_sentence(message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        BAD[message]()
    assert "\n" not in str(caught.value)


AFTER = {
    "y_init must have at most the 400 rows of v, received 401": lambda model: model.predict(V_NEW, np.ones(401)),
    "v must have shape (N, 1)": lambda model: model.predict(np.ones((5, 2))),
    "y_init must have one record for each of 2": lambda model: model.predict([V, V], [Y]),
    "a record must be longer than the warm-up of 50": lambda model: model.score(V[:50], Y[:50]),
    "samples of a record have no weights": lambda model: model.score(V, Y, np.ones(400)),
}


@pytest.mark.parametrize("message", AFTER)
def test_mistakes_after_a_fit_are_one_sentence(fitted, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        AFTER[message](fitted)


def test_nothing_is_predicted_before_a_fit():
    with pytest.raises(NotFittedError):
        StateSpaceRegressor().predict(V)
