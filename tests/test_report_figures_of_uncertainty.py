"""Bands, coverage and the choice of a weight decay, as they are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from ocp_nn.learning.selection import Selection
from ocp_nn.report import plot_bands, plot_coverage, plot_selection

X = np.linspace(0, 1, 20)


def test_bands_hold_ninety_per_cent_and_the_noise():
    ax = plot_bands(X, np.sin(X), 0.1 + 0 * X, 0.2, samples=(X[::2], np.sin(X[::2])))
    wide, narrow = (of.get_paths()[0].vertices for of in ax.collections)
    assert np.ptp(narrow[:, 1]) < np.ptp(wide[:, 1])
    at_zero = narrow[np.isclose(narrow[:, 0], 0.0), 1]
    assert at_zero.max() - at_zero.min() == pytest.approx(2 * 1.6448536 * 0.1)
    at_zero = wide[np.isclose(wide[:, 0], 0.0), 1]
    assert at_zero.max() - at_zero.min() == pytest.approx(2 * 1.6448536 * np.hypot(0.1, 0.2))
    assert [line.get_label() for line in ax.lines] == ["network", "training samples"]
    with pytest.raises(ValueError, match="one length, received 20, 20 and 3"):
        plot_bands(X, X, X[:3])


def test_coverage_of_honest_deviations_is_the_diagonal():
    rng = np.random.default_rng(0)
    y = rng.standard_normal(20000)
    ax = plot_coverage([("honest", y, 0 * y, 1 + 0 * y), ("too narrow", y, 0 * y, 0.5 + 0 * y)])
    honest, narrow, _ = ax.lines
    np.testing.assert_allclose(honest.get_ydata(), honest.get_xdata(), atol=0.02)
    assert (narrow.get_ydata() < honest.get_ydata()).all()
    with pytest.raises(ValueError, match="short: expected arrays of one length"):
        plot_coverage([("short", y, y[:5], y)])


@pytest.mark.parametrize("rule", ["evidence", "held-out"])
def test_the_choice_shows_what_was_tried(rule):
    values = {"log_evidence": (-5.0, -2.0, -3.0)} if rule == "evidence" else {"errors": (5.0, 2.0, 3.0)}
    selection = Selection(weight_decay=0.1, candidates=(1.0, 0.1, 0.01), num_train=9, num_used=9, **values)
    ax = plot_selection(selection)
    tried, chosen = ax.lines
    np.testing.assert_array_equal(tried.get_xdata(), selection.candidates)
    assert list(chosen.get_xdata()) == [0.1] and abs(chosen.get_ydata()[0]) == 2.0
    assert rule[:4] in ax.get_ylabel()
    with pytest.raises(ValueError, match="selection must be"):
        plot_selection(values)
