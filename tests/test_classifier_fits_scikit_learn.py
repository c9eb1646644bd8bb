"""``OCPClassifier`` is a scikit-learn classifier: its checks pass, and its probabilities are those of its loss."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn")

from scipy import special
from sklearn.base import clone
from sklearn.datasets import load_iris, make_moons
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from ocp_nn import OCPClassifier, OverfittingWarning, Status, load
from ocp_nn.problem.losses import Logistic, Softmax

X, LABELS = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[LABELS]
MIXED = np.where(np.arange(150) % 5 == 0, np.roll(NAMES, 50), NAMES)  # a fifth of the flowers misnamed
MOONS, SIDES = make_moons(120, noise=0.2, random_state=0)
QUICK = {"weight_decay": 0.1, "random_state": 0}

# which samples are held out is drawn by their number, so repeated samples mean another draw
DRAWN = {"check_sample_weight_equivalence_on_dense_data": "early stopping holds out other samples of other tables"}
CHECKED = (
    (OCPClassifier(weight_decay=1.0), {}),
    (OCPClassifier((4, 4), weight_decay=1.0, early_stopping=True, class_weight="balanced"), DRAWN),
)
CHECKS = [
    (estimator, check)
    for estimator, failing in CHECKED
    for estimator, check in estimator_checks_generator(estimator, expected_failed_checks=failing, mark="skip")
]


@pytest.mark.parametrize(("estimator", "check"), CHECKS, ids=[str(getattr(c, "func", c).__name__) for _, c in CHECKS])
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def test_shapes_are_scikit_learns():
    three = OCPClassifier((4,), **QUICK).fit(X, NAMES)
    assert three.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    assert three.decision_function(X).shape == three.predict_proba(X).shape == three.predict_log_proba(X).shape
    assert three.predict_proba(X).shape == (150, 3) and three.score(X, NAMES) > 0.95
    assert isinstance(three.result_.problem.loss, Softmax)
    two = OCPClassifier((4,), **QUICK).fit(MOONS, SIDES == 1)
    assert two.decision_function(MOONS).shape == (120,) and two.predict_proba(MOONS).shape == (120, 2)
    assert two.classes_.tolist() == [False, True] and two.predict(MOONS).dtype == bool
    assert isinstance(two.result_.problem.loss, Logistic)


@pytest.mark.parametrize(("x", "y"), [(X, NAMES), (MOONS, SIDES)], ids=["softmax", "logistic"])
def test_the_objective_is_the_log_loss_of_the_probabilities(x, y):
    fitted = OCPClassifier((5,), **QUICK).fit(x, y)
    decay = 0.05 * sum(float(u @ u) for u in fitted.trajectory_.controls)
    total = log_loss(y, fitted.predict_proba(x), normalize=False)
    assert fitted.result_.rollout_objective == pytest.approx(total + decay, rel=1e-9)
    np.testing.assert_allclose(np.exp(fitted.predict_log_proba(x)), fitted.predict_proba(x), rtol=1e-12)
    np.testing.assert_allclose(fitted.predict_proba(x).sum(axis=1), 1.0, rtol=1e-12)
    assert (fitted.classes_[fitted.predict_proba(x).argmax(axis=1)] == fitted.predict(x)).all()


@pytest.mark.parametrize(("x", "y"), [(X, MIXED), (MOONS, SIDES)], ids=["softmax", "logistic"])
def test_without_a_hidden_layer_it_is_logistic_regression(x, y):
    """But for the bias, whose decay is as nothing where classes overlap."""
    scaled = StandardScaler().fit_transform(x)
    ours = OCPClassifier((), weight_decay=1e-3, tol=1e-9).fit(scaled, y)
    theirs = LogisticRegression(C=1e3, tol=1e-10, max_iter=10_000).fit(scaled, y)
    np.testing.assert_allclose(ours.predict_proba(scaled), theirs.predict_proba(scaled), atol=1e-3)


def test_a_probability_of_nearly_nothing_keeps_its_logarithm():
    fitted = OCPClassifier((), weight_decay=0.1).fit([[-1.0], [-2.0], [1.0], [2.0]], [0, 0, 1, 1])
    fitted.trajectory_.controls[-1][0] = 1e3
    assert fitted.predict_proba([[-2.0]])[0, 1] == 0.0 and -3000 < fitted.predict_log_proba([[-2.0]])[0, 1] < -1000


def test_pipeline_search_and_cross_validation_choose_by_probabilities():
    pipe = make_pipeline(StandardScaler(), OCPClassifier((6,), **QUICK))
    grid = {"ocpclassifier__weight_decay": [100.0, 0.3]}
    search = GridSearchCV(pipe, grid, cv=3, scoring="neg_log_loss").fit(MOONS, SIDES)
    assert search.best_params_ == {"ocpclassifier__weight_decay": 0.3}
    assert cross_val_score(clone(search.best_estimator_), X, NAMES, cv=3).min() > 0.9


def test_the_weight_decay_is_chosen_by_the_log_loss_of_parts_that_have_every_class():
    rare = np.flatnonzero(LABELS != 2)[:90].tolist() + np.flatnonzero(LABELS == 2)[:5].tolist()
    fitted = OCPClassifier((4,), random_state=0).fit(X[rare], NAMES[rare])
    assert 0.01 <= fitted.weight_decay_ <= 3.0 and fitted.score(X, NAMES) > 0.8


def test_a_balanced_class_weight_is_that_of_repeated_samples():
    few = np.r_[np.flatnonzero(SIDES == 0), np.flatnonzero(SIDES == 1)[:15]]  # 60 and 15
    balanced = OCPClassifier((), weight_decay=0.4, class_weight="balanced", tol=1e-9).fit(MOONS[few], SIDES[few])
    factors = {0: 75 / 120, 1: 75 / 30}
    named = OCPClassifier((), weight_decay=0.4, class_weight=factors, tol=1e-9).fit(MOONS[few], SIDES[few])
    repeated = np.r_[few, np.repeat(few[60:], 3)]  # 60 and 60, which is 8/5 of what 37.5 each weigh
    same = OCPClassifier((), weight_decay=0.64, tol=1e-9).fit(MOONS[repeated], SIDES[repeated])
    np.testing.assert_allclose(balanced.predict_proba(MOONS), named.predict_proba(MOONS), rtol=1e-12)
    np.testing.assert_allclose(balanced.predict_proba(MOONS), same.predict_proba(MOONS), rtol=1e-6)


def test_class_weights_multiply_sample_weights_and_balance_what_these_leave():
    weights = np.where(SIDES == 1, 0.25, 1.0)
    balanced = OCPClassifier((), weight_decay=0.1, class_weight="balanced", tol=1e-9)
    total = weights.sum() / 2
    np.testing.assert_allclose(
        balanced.fit(MOONS, SIDES, weights).result_.problem.sample_weight, total / np.bincount(SIDES)[SIDES], rtol=1e-12
    )


def test_a_model_file_a_pickle_and_a_warm_start(tmp_path):
    settings = {"hidden_layer_sizes": (6, 6), "weight_decay": 0.03, "tol": 1e-12, "random_state": 3}
    whole = OCPClassifier(**settings, max_iter=14)
    with pytest.warns(ConvergenceWarning):
        whole.fit(MOONS, SIDES)
    part = OCPClassifier(**settings, max_iter=5, warm_start=True)
    with pytest.warns(ConvergenceWarning):
        part.fit(MOONS, SIDES)
        part = pickle.loads(pickle.dumps(part)).set_params(max_iter=9).fit(MOONS, SIDES)
    np.testing.assert_array_equal(part.predict_proba(MOONS), whole.predict_proba(MOONS))
    whole.result_.save(tmp_path / "model.npz")
    outputs = load(tmp_path / "model.npz")
    np.testing.assert_array_equal(outputs.trajectory.controls[-1], whole.trajectory_.controls[-1])


def test_early_stopping_judges_by_the_log_loss_and_restarts_keep_the_best():
    noisy = np.random.default_rng(1).permutation(SIDES)
    stopped = OCPClassifier((20,), weight_decay=1e-3, early_stopping=True, n_iter_no_change=3, random_state=0)
    stopped.fit(MOONS, noisy)
    assert stopped.status_ is Status.STOPPED_EARLY
    trained_on = stopped.result_.problem.x * MOONS.std(axis=0) + MOONS.mean(axis=0)
    held_out = ~np.isclose(MOONS[:, None], trained_on).all(axis=2).any(axis=1)
    assert np.bincount(noisy[held_out]).tolist() == [6, 6]
    expected = log_loss(noisy[held_out], stopped.predict_proba(MOONS[held_out]))
    assert min(stopped.validation_errors_) == pytest.approx(expected, rel=1e-9)
    once = OCPClassifier((3, 3), weight_decay=0.01, random_state=1).fit(MOONS, noisy)
    several = OCPClassifier((3, 3), weight_decay=0.01, random_state=1, n_restarts=4).fit(MOONS, noisy)
    assert several.result_.rollout_objective < once.result_.rollout_objective


def test_labels_that_are_reproduced_are_told():
    noisy = np.random.default_rng(1).permutation(SIDES)
    with pytest.warns(OverfittingWarning, match="reproduces the labels, mistakes among them included"):
        ruined = OCPClassifier((40,), weight_decay=1e-7, random_state=0, max_iter=2000).fit(MOONS, noisy)
    assert ruined.notes_ and ruined.score(MOONS, noisy) == 1.0
    assert OCPClassifier((4,), **QUICK).fit(MOONS, SIDES).notes_ == ()


@pytest.mark.parametrize(
    ("settings", "y", "weights", "words"),
    [
        ({}, np.ones(120), None, r"needs samples of two classes or more, received one class: .*1.0"),
        ({}, SIDES, 1.0 * SIDES, "needs samples of two classes or more, received one class"),
        ({}, MOONS[:, 0], None, "Unknown label type: continuous"),
        ({}, np.ma.masked_equal(SIDES, 1), None, "y must have no masked entries"),
        ({}, None, None, "requires y to be passed"),
        ({}, SIDES[:-1], None, "inconsistent numbers of samples"),
        ({}, SIDES, np.ones(119), r"sample_weight must have shape \(120,\), one number a sample, received \(119,\)"),
        ({}, SIDES, np.r_[np.nan, np.ones(119)], "sample_weight must be finite, received nan at position 0"),
        ({}, SIDES, np.r_[1, -1, np.ones(118)], "sample_weight must be >= 0, received -1 at position 1"),
        ({}, SIDES, np.zeros(120), "sample_weight must have a positive number, received zeros alone"),
        ({"class_weight": {2: 1.0}}, SIDES, None, r"class_weight has the class 2, which y has not: .* \[0, 1\]"),
        ({"class_weight": {1: 0.0}}, SIDES, None, r"class_weight\[1\] must be a finite number > 0, received 0.0"),
        ({"class_weight": "even"}, SIDES, None, "class_weight must be 'balanced' or a mapping or None"),
    ],
)
def test_bad_input_is_one_clear_sentence(settings, y, weights, words):
    with pytest.raises(ValueError, match=words) as error:
        OCPClassifier((2,), weight_decay=1.0, **settings).fit(MOONS, y, weights)
    assert "\n" not in str(error.value)


def test_the_decision_is_the_network_in_log_odds():
    fitted = OCPClassifier((4,), **QUICK).fit(MOONS, SIDES)
    np.testing.assert_array_equal(fitted.result_.predict(MOONS).ravel(), fitted.decision_function(MOONS))
    np.testing.assert_allclose(special.logit(fitted.predict_proba(MOONS)[:, 1]), fitted.decision_function(MOONS))
