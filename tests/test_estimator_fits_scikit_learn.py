"""``OCPRegressor`` is a scikit-learn estimator: its checks pass, and pipelines, searches, clones and pickles work."""

from __future__ import annotations

import itertools
import pickle
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures
from sklearn.utils.estimator_checks import estimator_checks_generator

from ocp_nn import OCPRegressor, Status, load, solve

X = np.random.default_rng(0).uniform(-2, 2, (120, 3))
Y = np.column_stack([np.sin(X[:, 0]) + X[:, 1], X[:, 2] ** 2 - X[:, 0]]) * [3.0, 100.0] + [5.0, -400.0]
QUICK = {"weight_decay": 0.1, "random_state": 0}


# which samples are held out is drawn by their number, so repeated samples mean another draw
DRAWN = {"check_sample_weight_equivalence_on_dense_data": "early stopping holds out other samples of other tables"}
NEGATIVE = {"check_regressor_multioutput": "its targets are negative, whatever the tags say, and no counts"}

# weight_decay="auto", the default, passes all of these too, but takes ten times as long: see below
CHECKED = (
    (OCPRegressor(weight_decay=1.0), {}),
    (OCPRegressor((4, 4), weight_decay=1.0, early_stopping=True), DRAWN),
    (OCPRegressor(loss="huber", weight_decay=1.0), {}),
    (OCPRegressor(loss="poisson", weight_decay=1.0), NEGATIVE),
)
CHECKS = [
    pair
    for estimator, failing in CHECKED
    for pair in estimator_checks_generator(estimator, expected_failed_checks=failing, mark="skip")
]


# a list, where scikit-learn's own parametrize_with_checks hands pytest a generator in some versions
@pytest.mark.parametrize(("estimator", "check"), CHECKS, ids=[str(getattr(c, "func", c).__name__) for _, c in CHECKS])
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def test_the_default_chooses_the_weight_decay_and_beats_a_line():
    y = np.sin(2 * X[:, 0]) + 0.1 * np.random.default_rng(1).standard_normal(120)
    default = OCPRegressor(random_state=0)
    assert default.weight_decay == "auto"
    assert cross_val_score(default, X[:, :1], y, cv=2).min() > 0.9
    assert default.fit(X[:, :1], y).weight_decay_ in (0.3, 0.1, 0.03, 0.01, 0.003)


def test_pipeline_search_and_cross_validation():
    pipe = make_pipeline(PolynomialFeatures(2, include_bias=True), OCPRegressor((4,), **QUICK))  # a constant column
    search = GridSearchCV(pipe, {"ocpregressor__weight_decay": [1000.0, 0.1]}, cv=2).fit(X, Y[:, 0])
    assert search.best_params_ == {"ocpregressor__weight_decay": 0.1}
    assert search.best_score_ > 0.9


def test_outputs_keep_their_shape_and_units():
    both = OCPRegressor((10,), **QUICK).fit(X, Y)
    assert both.predict(X).shape == Y.shape
    assert both.score(X, Y) > 0.98
    one = OCPRegressor((10,), **QUICK).fit(X, Y[:, 0])
    assert one.predict(X).shape == (120,)
    column = OCPRegressor((10,), **QUICK).fit(X, Y[:, :1]).predict(X)
    assert column.shape == (120, 1)
    np.testing.assert_array_equal(column.ravel(), one.predict(X))
    assert MultiOutputRegressor(OCPRegressor((10,), **QUICK)).fit(X, Y).score(X, Y) > 0.98


def test_scaling_is_inside():
    fitted = OCPRegressor((6,), **QUICK).fit(X, Y)
    moved = OCPRegressor((6,), **QUICK).fit(1e4 * X - 3e5, 1e-3 * Y + 7)
    np.testing.assert_allclose(moved.predict(1e4 * X - 3e5), 1e-3 * fitted.predict(X) + 7, rtol=1e-6)


def test_what_a_fit_leaves():
    fitted = OCPRegressor((6, 5), **QUICK).fit(X, Y)
    assert fitted.status_ is Status.CONVERGED
    assert fitted.certificate_.passed(1e-3)
    assert fitted.n_iter_ == fitted.history_[-1].iteration <= len(fitted.history_)
    assert [m.shape for m in fitted.multipliers_] == [s.shape for s in fitted.trajectory_.states]
    assert [s.shape for s in fitted.trajectory_.states] == [(120, 3), (120, 6), (120, 5)]


def test_the_result_is_a_model_file(tmp_path):
    fitted = OCPRegressor((6,), **QUICK).fit(X, Y)
    fitted.result_.save(tmp_path / "model.npz")
    np.testing.assert_array_equal(load(tmp_path / "model.npz").predict(X), fitted.predict(X))


def test_clone_and_pickle():
    fitted = OCPRegressor((6,), **QUICK).fit(X, Y)
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.predict(X), fitted.predict(X))
    assert copy.get_params() == clone(fitted).get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        clone(fitted).predict(X)


@pytest.mark.parametrize("first", [3, 8, 15])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_warm_start_goes_on_bit_for_bit(first):
    settings = {"hidden_layer_sizes": (8, 8), "weight_decay": 0.03, "tol": 1e-12, "random_state": 3}
    whole = OCPRegressor(**settings, max_iter=20).fit(X, Y)
    part = OCPRegressor(**settings, max_iter=first, warm_start=True).fit(X, Y)
    assert part.n_iter_ == first
    part = pickle.loads(pickle.dumps(part)).set_params(max_iter=20 - first).fit(X, Y)
    assert part.n_iter_ == whole.n_iter_ == 20
    for a, b in zip(part.trajectory_.controls, whole.trajectory_.controls, strict=True):
        np.testing.assert_array_equal(a, b)
    assert [r.objective for r in part.history_] == [r.objective for r in whole.history_]


def test_warm_start_on_other_data_starts_from_the_weights():
    cold = OCPRegressor((8,), **QUICK).fit(X, Y)
    warm = OCPRegressor((8,), **QUICK, warm_start=True).fit(X, Y)
    noise = 1e-3 * np.random.default_rng(5).standard_normal(Y.shape)
    warm.fit(X, Y + noise)
    assert warm.history_[0].rollout_objective < 1.05 * cold.result_.rollout_objective
    assert warm.set_params(hidden_layer_sizes=(5,)).fit(X, Y).trajectory_.states[1].shape == (120, 5)


def test_early_stopping_keeps_the_best_on_the_part_held_out():
    rng = np.random.default_rng(2)
    noisy = X[:60], np.sin(X[:60, 0]) + 0.5 * rng.standard_normal(60)
    settings = {"hidden_layer_sizes": (20,), "weight_decay": 1e-3, "random_state": 0, "n_iter_no_change": 5}
    stopped = OCPRegressor(**settings, early_stopping=True, validation_fraction=0.3).fit(*noisy)
    errors = stopped.validation_errors_
    assert stopped.status_ is Status.STOPPED_EARLY
    assert stopped.result_.message == Status.STOPPED_EARLY.message and "n_iter_no_change" in stopped.result_.message
    assert len(errors) == stopped.n_iter_ == len(stopped.history_)
    assert min(errors) < 0.9 * errors[-1] or int(np.argmin(errors)) == len(errors) - 6
    # the weights that are kept are those of the smallest error
    held_out = stopped.result_.problem.num_samples
    assert held_out == 42
    again = OCPRegressor(**settings, early_stopping=True, validation_fraction=0.3).set_params(
        max_iter=int(np.argmin(errors)) + 1
    )
    with pytest.warns(ConvergenceWarning):
        again.fit(*noisy)
    np.testing.assert_array_equal(again.predict(noisy[0]), stopped.predict(noisy[0]))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("patience", [2, 1000])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_what_early_stopping_says_is_true_of_the_weights_it_keeps(seed, patience):
    """Stopped by patience, or run to its end with an earlier iterate kept: never another iterate's status."""
    rng = np.random.default_rng(seed)
    noisy = X[:50], np.sin(X[:50, 0]) + 0.5 * rng.standard_normal(50)
    fitted = OCPRegressor((6,), weight_decay=0.03, random_state=seed, early_stopping=True, validation_fraction=0.3,
                          n_iter_no_change=patience, max_iter=200).fit(*noisy)  # fmt: skip
    result, problem = fitted.result_, fitted.result_.problem
    assert result.objective == pytest.approx(problem.objective(problem.rollout(fitted.trajectory_.controls)), rel=1e-9)
    gradient = np.concatenate(problem.adjoints(problem.rollout(fitted.trajectory_.controls)).gradient)
    assert result.stationarity == pytest.approx(np.linalg.norm(gradient), rel=1e-6, abs=1e-9)
    assert fitted.certificate_.objective == pytest.approx(result.objective, rel=1e-12)
    is_last = int(np.argmin(fitted.validation_errors_)) == len(fitted.validation_errors_) - 1
    assert is_last or fitted.status_ in (Status.STOPPED_EARLY, Status.OUTER_LIMIT)
    assert fitted.certificate_.passed() if result.success else result.stationarity > 1e-6


def test_stopping_early_is_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stopped = OCPRegressor((20,), weight_decay=1e-3, random_state=0, early_stopping=True, n_iter_no_change=1)
        assert stopped.fit(X, Y).status_ is Status.STOPPED_EARLY


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_warm_start_goes_on_after_stopping_early_and_keeps_the_better_weights():
    settings = {"hidden_layer_sizes": (8, 8), "weight_decay": 0.03, "tol": 1e-12, "random_state": 3}
    settings |= {"early_stopping": True, "n_iter_no_change": 3}
    whole = OCPRegressor(**{**settings, "n_iter_no_change": 1000}, max_iter=30).fit(X, Y)
    part = OCPRegressor(**settings, max_iter=30, warm_start=True).fit(X, Y)
    assert part.status_ is Status.STOPPED_EARLY and part.n_iter_ < 30
    least = min(part.validation_errors_)
    part.set_params(max_iter=30 - part.n_iter_, n_iter_no_change=1000).fit(X, Y)
    assert [r.objective for r in part.history_] == [r.objective for r in whole.history_]
    assert min(part.validation_errors_) > least, "this example should get no better"
    np.testing.assert_array_equal(part.predict(X), whole.predict(X))


def test_restarts_keep_the_lowest_objective():
    settings = {"hidden_layer_sizes": (3, 3), "weight_decay": 0.01}
    y = np.sin(3 * X[:, 0])
    seeds = [OCPRegressor(**settings, random_state=np.random.RandomState(8)).fit(X, y).result_.rollout_objective]
    several = OCPRegressor(**settings, random_state=np.random.RandomState(8), n_restarts=4).fit(X, y)
    assert several.result_.rollout_objective < seeds[0] - 1e-3


@pytest.mark.parametrize("settings", [{"n_restarts": 10**400}, {"early_stopping": True, "n_iter_no_change": 10**9}])
def test_a_time_limit_is_that_of_the_whole_fit(settings, monkeypatch):
    """Not of each of its solves; here every look at the clock is a second later."""
    clock = itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    with pytest.warns(ConvergenceWarning, match="time limit"):
        regressor = OCPRegressor((3,), weight_decay=1e-3, tol=1e-15, time_limit=200.0, random_state=0, **settings)
        regressor.fit(X, Y)
    assert 200 < next(clock) < 400


def test_ctrl_c_ends_all_restarts(monkeypatch):
    """Each solve returns with what it has found so far; no other begins."""
    solves = []

    def interrupted(problem, *arguments, **settings):
        solves.append(solve(problem, *arguments, callback=lambda _: True, **settings))
        return solves[-1]

    monkeypatch.setattr("ocp_nn.learning.estimator.base.solve", interrupted)
    regressor = OCPRegressor((3,), weight_decay=1e-3, n_restarts=5, random_state=0).fit(X, Y)
    assert len(solves) == 1 and regressor.status_ is Status.INTERRUPTED


def test_an_early_end_is_a_warning_with_a_remedy():
    with pytest.warns(ConvergenceWarning, match="outer limit: .*Raise max_iter or loosen tol"):
        OCPRegressor((8, 8), weight_decay=1e-3, max_iter=2, random_state=0).fit(X, Y)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"max_iter": 0}, "max_iter must be an integer >= 1, received 0"),
        ({"n_restarts": 1.5}, "n_restarts"),
        ({"hidden_layer_sizes": 10**400}, r"more than 1e\+100 weights fits into no memory: narrow its layers"),
        ({"hidden_layer_sizes": np.uint64(2**63)}, "weights would take .* narrow its layers"),
        ({"hidden_layer_sizes": [2, 10**5000]}, r"more than 1e\+100 weights fits into no memory: narrow its layers"),
        (
            {"weight_decay": "some"},
            "weight_decay must be a finite number >= 0 or 'auto' or 'evidence' or 'held-out', received 'some'",
        ),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"activation": "swish"}, "activation must be one of"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"tol": 0.0}, "tol must be"),
        ({"shooting": "double"}, "shooting"),
    ],
)
def test_bad_parameters_are_named(bad, words):
    with pytest.raises(ValueError, match=words):
        OCPRegressor(**{"weight_decay": 1.0, **bad}).fit(X, Y)


@pytest.mark.parametrize("seed", [-1, -(10**30), 2**32, True, 0.5])
def test_a_random_state_that_is_no_seed_is_named(seed):
    with pytest.raises(ValueError, match="random_state must be an integer"):
        OCPRegressor((2,), weight_decay=0.1, random_state=seed).fit([[0.0], [1.0]], [0.0, 1.0])
