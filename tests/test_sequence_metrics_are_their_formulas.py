"""Fit in per cent, errors and correlations of residuals are what their formulas say, and their bands hold."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import stats

from ocp_nn import fit_percent, residual_tests
from ocp_nn.learning.sequence_metrics import sequence_r2, sequence_rmse

RNG = np.random.default_rng(0)
Y = RNG.standard_normal((100, 2)) * [1.0, 50.0] + [3.0, -7.0]
SIMULATED = Y + 0.1 * RNG.standard_normal(Y.shape) * [1.0, 50.0]


def test_fit_is_one_minus_the_normalised_error():
    for j in range(2):
        y, s = Y[20:, j], SIMULATED[20:, j]
        expected = 100 * (1 - np.linalg.norm(y - s) / np.linalg.norm(y - y.mean()))
        assert fit_percent(Y, SIMULATED, warm_up=20)[j] == pytest.approx(expected, rel=1e-12)


def test_the_mean_fits_nothing_and_the_truth_everything():
    np.testing.assert_allclose(fit_percent(Y, np.broadcast_to(Y.mean(axis=0), Y.shape)), 0, atol=1e-12)
    np.testing.assert_array_equal(fit_percent(Y, Y), 100)


def test_errors_are_in_units_and_after_the_warm_up():
    wrong = SIMULATED.copy()
    wrong[:20] = 1e6
    np.testing.assert_allclose(
        sequence_rmse(Y, wrong, warm_up=20), np.sqrt(np.mean((Y - SIMULATED)[20:] ** 2, axis=0)), rtol=1e-12
    )


def test_r2_is_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics")
    assert sequence_r2(Y, SIMULATED) == pytest.approx(metrics.r2_score(Y, SIMULATED), rel=1e-12)


def test_outputs_that_were_not_measured_count_nowhere():
    missing = Y.copy()
    missing[::3, 0] = np.nan
    rest = np.delete(np.arange(100), np.arange(0, 100, 3))
    assert fit_percent(missing, SIMULATED)[0] == pytest.approx(fit_percent(Y[rest, 0], SIMULATED[rest, 0])[0])


def test_a_run_that_overflows_fits_minus_infinity():
    assert fit_percent(Y[:, 0], np.full(100, np.inf))[0] == -np.inf


def test_correlations_are_plain_sums():
    e, v = RNG.standard_normal(60), RNG.standard_normal(60)
    found = residual_tests(e, v, lags=5)
    e, v = e - e.mean(), v - v.mean()
    own = [np.sum(e[k:] * e[: 60 - k]) / np.sum(e * e) for k in range(6)]
    np.testing.assert_allclose(found.autocorrelation[:, 0], own, rtol=1e-12)
    scale = np.sqrt(np.sum(e * e) * np.sum(v * v))
    cross = [sum(e[t + k] * v[t] for t in range(60) if 0 <= t + k < 60) / scale for k in range(-5, 6)]
    np.testing.assert_allclose(found.cross_correlation[:, 0, 0], cross, rtol=1e-10, atol=1e-14)
    np.testing.assert_array_equal(found.cross_lags, range(-5, 6))
    assert found.statistic[0] == pytest.approx(60 * sum(r * r for r in own[1:]))
    assert found.threshold == pytest.approx(stats.chi2.ppf(0.99, 5))
    assert found.autocorrelation_band[0] == pytest.approx(stats.norm.ppf(0.995) / np.sqrt(60))


def coloured(rng: np.random.Generator, samples: int, pole: float) -> np.ndarray:
    x = rng.standard_normal(samples)
    for t in range(1, samples):
        x[t] += pole * x[t - 1]
    return x


def test_white_residuals_pass_as_often_as_the_level_says():
    rng = np.random.default_rng(1)
    passed = [residual_tests(rng.standard_normal(400), np.zeros(400), level=0.9).is_white[0] for _ in range(400)]
    assert 0.85 < np.mean(passed) < 0.95


def test_the_cross_band_holds_for_coloured_residuals_and_inputs():
    """With the band of white ones, a third of the lags would lie outside."""
    rng = np.random.default_rng(2)
    outside, naive = [], []
    for _ in range(200):
        found = residual_tests(coloured(rng, 500, 0.8), coloured(rng, 500, 0.8), lags=20, level=0.9)
        outside.append(found.share_outside[0, 0])
        narrow = stats.norm.ppf(0.95) / np.sqrt(500)
        naive.append(np.mean(np.abs(found.cross_correlation[20:, 0, 0]) > narrow))
    assert 0.05 < np.mean(outside) < 0.15
    assert np.mean(naive) > 0.3


def test_what_the_inputs_still_explain_is_outside():
    rng = np.random.default_rng(3)
    v = rng.standard_normal(500)
    e = rng.standard_normal(500)
    e[3:] += 0.5 * v[:-3]
    found = residual_tests(e, v)
    assert abs(found.cross_correlation[found.cross_lags == 3][0, 0, 0]) > found.cross_band[0, 0]
    assert not residual_tests(coloured(rng, 500, 0.5), v).is_white[0]


def test_sums_over_several_records_stay_within_them():
    e, v = [RNG.standard_normal(n) for n in (60, 45, 5)], [RNG.standard_normal(n) for n in (60, 45, 5)]
    found = residual_tests([*e], [*v], warm_up=3, lags=5)
    e, v = [x[3:] - np.concatenate([x[3:] for x in e[:2]]).mean() for x in e[:2]], [x[3:] for x in v[:2]]
    v = [x - np.concatenate(v).mean() for x in v]
    power = sum(x @ x for x in e)
    own = [sum(x[k:] @ x[: len(x) - k] for x in e) / power for k in range(6)]
    np.testing.assert_allclose(found.autocorrelation[:, 0], own, rtol=1e-12)
    scale = np.sqrt(power * sum(x @ x for x in v))
    cross = [sum(x[k:] @ w[: len(w) - k] for x, w in zip(e, v, strict=True)) / scale for k in range(6)]
    np.testing.assert_allclose(found.cross_correlation[5:, 0, 0], cross, rtol=1e-10, atol=1e-14)
    assert found.statistic[0] == pytest.approx((57 + 42) * sum(r * r for r in own[1:]))


def test_one_record_is_a_list_of_one():
    alone, listed = residual_tests(Y, SIMULATED), residual_tests([Y], [SIMULATED])
    np.testing.assert_array_equal(alone.statistic, listed.statistic)
    np.testing.assert_array_equal(alone.cross_correlation, listed.cross_correlation)


BAD = {
    "one record for each of 2, received 1": lambda: residual_tests([Y, Y], [Y]),
    "as many outputs and inputs as each other": lambda: residual_tests([Y, Y[:, :1]], [Y, Y]),
    "one shape, received (100, 2) and (99, 2)": lambda: fit_percent(Y, SIMULATED[:-1]),
    "warm_up must be an integer from 0 to 99, received 100": lambda: fit_percent(Y, SIMULATED, warm_up=100),
    "every output must be measured after a warm-up of 0": lambda: fit_percent(Y * [1, np.nan], SIMULATED),
    "as long as each other, received 100 and 99 samples": lambda: residual_tests(Y, Y[:-1]),
    "eight samples or more after the warm-up, received 4": lambda: residual_tests(Y, Y, warm_up=96),
    "level must be": lambda: residual_tests(Y, Y, level=1.0),
    "lags must be an integer >= 1": lambda: residual_tests(Y, Y, lags=0),
}


@pytest.mark.parametrize("message", BAD)
def test_mistakes_are_one_sentence(message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        BAD[message]()
    assert "\n" not in str(caught.value)
