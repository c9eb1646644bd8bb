"""``OCPRegressor`` says what its predictions are uncertain by, in scikit-learn's words and the targets' own units."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn")

import ocp_nn
from ocp_nn.learning.jacobian import output_jacobian

RNG = np.random.default_rng(0)
X = RNG.uniform(-3, 3, (80, 2))
CLEAN = 40 * np.sin(X[:, 0]) + 100 + 5 * X[:, 1]
Y = CLEAN + 4.0 * RNG.standard_normal(80)
FRESH = RNG.uniform(-3, 3, (400, 2))
TARGETS = 40 * np.sin(FRESH[:, 0]) + 100 + 5 * FRESH[:, 1] + 4.0 * RNG.standard_normal(400)


@pytest.fixture(scope="module")
def model():
    return ocp_nn.OCPRegressor((8,), weight_decay=0.1, random_state=0).fit(X, Y)


def test_the_noise_is_found_in_its_own_unit(model):
    assert isinstance(model.noise_std_, float)
    assert model.noise_std_ == pytest.approx(4.0, rel=0.25)
    assert 4 < model.effective_num_parameters_ < 33


def test_intervals_hold_about_their_share_of_new_targets(model):
    low, high = model.prediction_interval(FRESH, coverage=0.9)
    assert low.shape == high.shape == (400,)
    assert 0.84 < np.mean((low <= TARGETS) & (high >= TARGETS)) < 0.97
    low, high = model.prediction_interval(FRESH, coverage=0.9, calibrated=True)
    assert 0.84 < np.mean((low <= TARGETS) & (high >= TARGETS)) < 0.97


def test_standard_deviations_are_the_diagonal_of_covariances(model):
    mean, std = model.predict(FRESH[:20], return_std=True)
    again, cov = model.predict(FRESH[:20], return_cov=True)
    np.testing.assert_array_equal(mean, model.predict(FRESH[:20]))
    np.testing.assert_array_equal(mean, again)
    assert std.shape == (20,) and cov.shape == (20, 20)
    np.testing.assert_allclose(np.diag(cov), std**2, rtol=1e-10)
    low, high = model.prediction_interval(FRESH[:20], coverage=0.6826894921370859)
    np.testing.assert_allclose((high - low) / 2, np.hypot(std, model.noise_std_), rtol=1e-9)


def test_the_deviation_is_that_of_sampled_networks_to_first_order(model):
    posterior, (_, std) = model.posterior_, model.predict(FRESH[:5], return_std=True)
    inputs = model.result_.model.x_scaler.transform(FRESH[:5])
    jacobian = output_jacobian(posterior.problem, posterior.controls, inputs) * model.result_.model.y_scaler.scale[0]
    moved = np.array([np.concatenate(u) for u in posterior.sample(4000, seed=2)]) - np.concatenate(posterior.controls)
    np.testing.assert_allclose(np.std(moved @ jacobian.T, axis=0), std, rtol=0.05)


def test_units_change_the_evidence_by_their_density(model):
    other = ocp_nn.OCPRegressor((8,), weight_decay=0.1, random_state=0).fit(1e3 * X, 10 * Y + 3)
    assert other.log_marginal_likelihood_ == pytest.approx(model.log_marginal_likelihood_ - 80 * np.log(10), abs=1e-3)
    assert other.noise_std_ == pytest.approx(10 * model.noise_std_, rel=1e-5)


def test_several_outputs_have_their_own_noise():
    both = np.column_stack([Y, 0.01 * CLEAN + 0.2 * RNG.standard_normal(80)])
    model = ocp_nn.OCPRegressor((8,), weight_decay=0.1, random_state=0).fit(X, both)
    assert model.noise_std_.shape == (2,)
    np.testing.assert_allclose(model.noise_std_, [4.0, 0.2], rtol=0.3)
    mean, std = model.predict(FRESH[:6], return_std=True)
    _, cov = model.predict(FRESH[:6], return_cov=True)
    assert mean.shape == std.shape == (6, 2) and cov.shape == (6, 6, 2)
    np.testing.assert_allclose(np.einsum("iij->ij", cov), std**2, rtol=1e-10)
    assert model.prediction_interval(FRESH[:6])[0].shape == (6, 2)


def test_it_goes_through_a_pickle_and_is_made_anew_after_another_fit(model):
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(again.predict(FRESH, return_std=True)[1], model.predict(FRESH, return_std=True)[1])
    first = again.posterior_
    assert again.posterior_ is first
    assert again.fit(X[:60], Y[:60]).posterior_ is not first


def test_a_saved_result_has_all_that_it_is_made_of(model, tmp_path):
    model.result_.save(tmp_path / "model.npz")
    loaded = ocp_nn.load(tmp_path / "model.npz")
    again = ocp_nn.Posterior.of(loaded.problem, loaded.trajectory.controls)
    assert again.noise_variance == model.posterior_.noise_variance
    np.testing.assert_array_equal(again.predict(X)[1], model.posterior_.predict(X)[1])


def test_where_there_is_none_it_says_why(model):
    with pytest.raises(ValueError, match="at most one"):
        model.predict(X, return_std=True, return_cov=True)
    with pytest.raises(ValueError, match="return_std must be"):
        model.predict(X, return_std="yes")
    with pytest.raises(ValueError, match="coverage must be"):
        model.prediction_interval(X, 1.5)
    with pytest.raises(ValueError, match="features"):
        model.predict(X[:, :1], return_std=True)
    robust = ocp_nn.OCPRegressor((4,), loss="huber", weight_decay=0.1, random_state=0).fit(X, Y)
    with pytest.raises(ValueError, match="Gaussian noise"):
        robust.prediction_interval(X)
    monotone = ocp_nn.OCPRegressor((4,), weight_decay=0.1, monotonic_cst={0: 1}, random_state=0).fit(X, Y)
    with pytest.raises(ValueError, match="constraints"):
        monotone.prediction_interval(X)
    with pytest.warns(match="limit"):
        short = ocp_nn.OCPRegressor((8,), weight_decay=0.1, max_iter=1, tol=1e-12, random_state=0).fit(X, Y)
    with pytest.raises(ValueError, match="raise max_iter"):
        _ = short.noise_std_


def test_hubers_noise_is_that_without_outliers(model):
    spoiled = Y + 400.0 * (np.arange(80) % 16 == 0)
    robust = ocp_nn.OCPRegressor((8,), loss="huber", weight_decay=0.1, random_state=0).fit(X, spoiled)
    plain = ocp_nn.OCPRegressor((8,), weight_decay=0.1, random_state=0).fit(X, spoiled)
    assert robust.noise_std_ < 0.3 * plain.noise_std_
    _, std = robust.predict(FRESH, return_std=True)
    assert np.median(std) < np.median(plain.predict(FRESH, return_std=True)[1])
    assert np.isfinite(robust.log_marginal_likelihood_)


def test_rates_of_counts_have_deviations_and_no_noise():
    rate = np.exp(1 + np.sin(X[:, 0]))
    counts = RNG.poisson(rate)
    model = ocp_nn.OCPRegressor((6,), loss="poisson", weight_decay=0.3, random_state=0).fit(X, counts)
    mean, std = model.predict(FRESH, return_std=True)
    assert std.shape == mean.shape and (std > 0).all()
    z = np.log(model.predict(X))
    inside = np.abs(z - np.log(rate)) < 2 * model.predict(X, return_std=True)[1] / model.predict(X)
    assert inside.mean() > 0.8
    assert np.isfinite(model.log_marginal_likelihood_)
    with pytest.raises(ValueError, match="no noise of their own"):
        _ = model.noise_std_


@pytest.mark.parametrize("classes", [2, 3])
def test_averaged_probabilities_are_less_sure_where_weights_are(classes):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((90, 2))
    labels = np.digitize(x[:, 0] + 0.3 * rng.standard_normal(90), [-0.4, 0.4] if classes == 3 else [0.0])
    model = ocp_nn.OCPClassifier((5,), weight_decay=0.1, random_state=0).fit(x, labels)
    plain, marginal = model.predict_proba(x), model.predict_proba(x, marginal=True)
    np.testing.assert_allclose(marginal.sum(axis=1), 1.0)
    assert (marginal.max(axis=1) <= plain.max(axis=1) + 1e-12).mean() > 0.9
    if classes == 2:
        np.testing.assert_array_equal(marginal.argmax(axis=1), plain.argmax(axis=1))
        # against the average over draws of the log-odds
        mean, covariance = model.posterior_.predict(model.result_.model.x_scaler.transform(x))
        draws = mean + np.sqrt(covariance[:, :, 0]) * rng.standard_normal((1, 20000))
        np.testing.assert_allclose(marginal[:, 1], (1 / (1 + np.exp(-draws))).mean(axis=1), atol=0.02)
    assert 0 < model.effective_num_parameters_ < model.posterior_.problem.network.num_controls
    assert model.log_marginal_likelihood_ < 0
    with pytest.raises(ValueError, match="marginal must be"):
        model.predict_proba(x, marginal="yes")
