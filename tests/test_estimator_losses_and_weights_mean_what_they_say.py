"""``OCPRegressor``: Huber's loss shrugs at outliers, Poisson's predicts rates, weights are repetitions."""

from __future__ import annotations

import re

import numpy as np
import pytest

pytest.importorskip("sklearn")

from scipy.optimize import minimize
from sklearn.linear_model import PoissonRegressor
from sklearn.metrics import mean_poisson_deviance

from ocp_nn import Network, OCPRegressor, OverfittingWarning, Scaler, TrainingProblem, load
from ocp_nn.learning.estimator.inputs import robust_scaler
from ocp_nn.learning.held_out import mean_error, sample_errors, split_samples
from ocp_nn.learning.selection import choose_weight_decay
from ocp_nn.problem.losses import Huber, Poisson

RNG = np.random.default_rng(0)
X = RNG.uniform(-2, 2, (150, 2))
CURVE = np.sin(2 * X[:, 0]) + X[:, 1]
COUNTS = RNG.poisson(np.exp(1.0 + CURVE))
TIMES = RNG.integers(0, 4, 150)  # how often each sample counts, some never
QUICK = {"weight_decay": 0.1, "random_state": 0}


def test_the_default_loss_is_squares_and_unit_weights_are_none():
    plain = OCPRegressor((6,), **QUICK).fit(X, CURVE).predict(X)
    np.testing.assert_array_equal(OCPRegressor((6,), loss="squared", **QUICK).fit(X, CURVE).predict(X), plain)
    np.testing.assert_array_equal(OCPRegressor((6,), **QUICK).fit(X, CURVE, np.ones(150)).predict(X), plain)


def test_huber_shrugs_at_outliers_which_squares_follow():
    spoiled = np.where(np.arange(150) % 10 == 0, 30.0, CURVE + 0.1 * RNG.standard_normal(150))
    errors = {}
    for loss in ("squared", "huber"):
        fitted = OCPRegressor((8,), loss=loss, huber_delta=0.2, weight_decay=0.5, random_state=0).fit(X, spoiled)
        errors[loss] = np.sqrt(np.mean((fitted.predict(X) - CURVE) ** 2))
    assert errors["huber"] < 0.3 and errors["squared"] > 3.0


def test_huber_with_a_large_delta_is_squares_in_robust_units():
    fitted = OCPRegressor((6,), loss="huber", huber_delta=1e6, **QUICK).fit(X, CURVE)
    scaler = robust_scaler(CURVE[:, None], None)
    inputs = Scaler.fit(X).transform(X)
    squares = TrainingProblem(Network.mlp([2, 6, 1]), inputs, scaler.transform(CURVE[:, None]), 0.1)
    assert isinstance(fitted.result_.problem.loss, Huber)
    controls = fitted.trajectory_.controls
    assert fitted.result_.objective == pytest.approx(squares.objective(squares.rollout(controls)), rel=1e-12)


def test_huber_does_not_care_for_units():
    fitted = OCPRegressor((6,), loss="huber", huber_delta=0.5, **QUICK).fit(X, CURVE)
    moved = OCPRegressor((6,), loss="huber", huber_delta=0.5, **QUICK).fit(X, 1e4 * CURVE - 7)
    np.testing.assert_allclose(moved.predict(X), 1e4 * fitted.predict(X) - 7, rtol=1e-5, atol=1e-3)


def test_robust_units_are_median_and_mad_of_repeated_samples():
    table = np.column_stack([CURVE, COUNTS, np.where(np.arange(150) < 100, 3.0, CURVE)])
    repeated = np.repeat(table, TIMES, axis=0)
    counting = TIMES > 0
    found = robust_scaler(table[counting], TIMES[counting].astype(float))
    expected = robust_scaler(repeated, None)
    median = np.median(repeated, axis=0)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-12)
    np.testing.assert_allclose(found.scale, expected.scale, rtol=1e-12)
    np.testing.assert_array_equal(expected.mean[:2], median[:2])
    mad = np.median(np.abs(repeated - median), axis=0)
    np.testing.assert_allclose(expected.scale[:2], mad[:2] / 0.6744897501960817, rtol=1e-12)
    assert mad[2] == 0.0 and expected.scale[2] == pytest.approx(repeated[:, 2].std())


def test_poisson_predicts_rates_and_without_a_hidden_layer_is_poisson_regression():
    """But for the bias, whose decay is as nothing here."""
    inputs = Scaler.fit(X).transform(X)
    ours = OCPRegressor((), loss="poisson", weight_decay=1e-4, tol=1e-9).fit(inputs, COUNTS)
    theirs = PoissonRegressor(alpha=1e-4 / 150, tol=1e-10, max_iter=10_000).fit(inputs, COUNTS)
    np.testing.assert_allclose(ours.predict(inputs), theirs.predict(inputs), rtol=1e-5)
    deep = OCPRegressor((10,), loss="poisson", random_state=0).fit(X, COUNTS)
    assert isinstance(deep.result_.problem.loss, Poisson) and (deep.predict(X) > 0).all()
    assert mean_poisson_deviance(COUNTS, deep.predict(X)) < 0.8 * mean_poisson_deviance(COUNTS, theirs.predict(inputs))
    both = OCPRegressor((4,), loss="poisson", **QUICK).fit(X, np.column_stack([COUNTS, COUNTS[::-1]]))
    assert both.predict(X).shape == (150, 2)


def test_the_model_of_counts_gives_the_logarithm_of_the_rate(tmp_path):
    fitted = OCPRegressor((4,), loss="poisson", **QUICK).fit(X, COUNTS)
    fitted.result_.save(tmp_path / "model.npz")
    np.testing.assert_array_equal(np.exp(load(tmp_path / "model.npz").predict(X).ravel()), fitted.predict(X))


@pytest.mark.parametrize("loss", ["squared", "huber", "poisson"])
def test_weights_are_repetitions_and_zeros_removals(loss):
    """Without a hidden layer there is one minimum, which both must find; with one, see the package's docstring."""
    y = COUNTS if loss == "poisson" else CURVE
    settings = {"loss": loss, "weight_decay": 0.5, "tol": 1e-10}
    weighed = OCPRegressor((), **settings).fit(X, y, sample_weight=TIMES.astype(float))
    repeated = OCPRegressor((), **settings).fit(np.repeat(X, TIMES, axis=0), np.repeat(y, TIMES))
    np.testing.assert_allclose(weighed.predict(X), repeated.predict(X), rtol=1e-7, atol=1e-7)
    assert weighed.result_.problem.num_samples == np.count_nonzero(TIMES)


def test_scalers_weigh_samples_as_repetitions():
    counting = TIMES > 0
    found = Scaler.fit(X[counting], TIMES[counting].astype(float))
    expected = Scaler.fit(np.repeat(X, TIMES, axis=0))
    np.testing.assert_allclose([found.mean, found.scale], [expected.mean, expected.scale], rtol=1e-12, atol=1e-15)


def test_the_weight_decay_is_judged_by_the_loss_that_is_trained():
    network, inputs = Network.mlp([2, 5, 1]), Scaler.fit(X).transform(X)
    counts = COUNTS[:, None].astype(float)
    choice = choose_weight_decay(network, inputs, counts, [1.0], loss="poisson", repeats=2)
    assert 0.3 < choice.errors[0] < 1.2  # half the mean deviance of a count of its own rate is about 1/2
    weights = np.where(np.arange(150) < 75, 1.0, 0.0)
    half = choose_weight_decay(network, inputs, counts, [1.0], loss="poisson", sample_weight=weights)
    alone = choose_weight_decay(network, inputs[:75], counts[:75], [1.0], loss="poisson")
    assert half.num_train == alone.num_train == 75 and half.errors == pytest.approx(alone.errors, rel=1e-9)


def test_held_out_errors_are_weighted_means_of_the_loss():
    labels = np.eye(3)[RNG.integers(3, size=150)]
    weights = RNG.uniform(0.5, 2.0, 150)
    problem = TrainingProblem(Network.mlp([2, 3]), X, labels, 0.1, loss="softmax", sample_weight=weights)
    controls = problem.network.init_controls(0)
    output = problem.network.predict(controls, X)
    probabilities = np.exp(output) / np.exp(output).sum(axis=1, keepdims=True)
    expected = np.average(-np.log(probabilities[labels == 1]), weights=weights)
    assert mean_error(problem.loss, [sample_errors(problem, controls)]) == pytest.approx(expected, rel=1e-12)
    squares = TrainingProblem(Network.mlp([2, 3]), X, labels, 0.1, sample_weight=weights)
    expected = np.sqrt(np.average(((output - labels) ** 2).mean(axis=1), weights=weights))
    assert mean_error(squares.loss, [sample_errors(squares, controls)]) == pytest.approx(expected, rel=1e-12)


def test_every_class_has_its_share_of_what_is_held_out():
    labels = np.repeat([0, 1, 2], [100, 40, 10])
    problem = TrainingProblem(Network.mlp([2, 3]), X, np.eye(3)[labels], 0.1, loss="softmax")
    seen = set()
    for seed in range(10):
        split = split_samples(problem, 0.2, seed)
        assert np.abs(np.bincount(labels[split.test], minlength=3) - [20, 8, 2]).max() <= 1
        assert sorted([*split.train, *split.test]) == list(range(150)) and len(split.test) == 30
        seen |= set(split.test.tolist())
    assert len(seen) > 120, "draws differ"


def test_counts_that_are_reproduced_are_told():
    with pytest.warns(OverfittingWarning, match="reproduces the counts"):
        OCPRegressor((40,), loss="poisson", weight_decay=1e-9, random_state=0, max_iter=2000).fit(X[:12], COUNTS[:12])


@pytest.mark.parametrize(
    ("settings", "y", "weights", "words"),
    [
        ({"loss": "poisson"}, COUNTS - 1000, None, "poisson loss needs targets >= 0, received -"),
        ({"loss": "poisson"}, 0 * COUNTS, None, "poisson loss needs a positive target in every output"),
        ({"loss": "logistic"}, CURVE, None, "loss must be one of squared, huber, poisson, received 'logistic'"),
        ({"loss": "huber", "huber_delta": 0.0}, CURVE, None, "huber_delta must be a finite number > 0"),
        ({}, CURVE, np.full(150, np.nan), "sample_weight must be finite, received nan at position 0"),
        ({}, CURVE, -np.ones(150), "sample_weight must be >= 0, received -1 at position 0"),
        ({}, CURVE, np.zeros(150), "sample_weight must have a positive number, received zeros alone"),
        ({}, CURVE, np.ones((150, 1)), "sample_weight must have shape (150,), one number a sample"),
    ],
)
def test_bad_input_is_one_clear_sentence(settings, y, weights, words):
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        OCPRegressor((2,), weight_decay=1.0, **settings).fit(X, y, weights)
    assert "\n" not in str(error.value)


def test_hubers_fit_is_a_minimum_of_the_objective_as_it_is_written():
    inputs, scaler = Scaler.fit(X).transform(X), robust_scaler(CURVE[:, None], None)
    y = scaler.transform(CURVE[:, None]).ravel()
    fitted = OCPRegressor((), loss="huber", huber_delta=0.3, weight_decay=0.5, tol=1e-10).fit(X, CURVE)

    def objective(u):
        e = np.abs(inputs @ u[:2] + u[2] - y)
        return np.where(e <= 0.3, e**2 / 2, 0.3 * e - 0.045).sum() + 0.25 * u @ u

    best = minimize(objective, np.zeros(3), method="BFGS", options={"gtol": 1e-6})
    assert fitted.result_.objective == pytest.approx(best.fun, rel=1e-8)
