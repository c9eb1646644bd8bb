"""Figures layer by layer: what is drawn are the states, multipliers and weights, told apart without colour."""

from __future__ import annotations

import numpy as np
import pytest

from ocp_nn import Network, Options, TrainingProblem, Trajectory, solve
from ocp_nn.report import collapsed_units, layers_figure, plot_multipliers, plot_states, plot_weights, write_figure

RNG = np.random.default_rng(0)
X = RNG.uniform(-2, 2, (30, 2))
PROBLEM = TrainingProblem(Network.mlp([2, 4, 3, 1]), X, np.sin(X[:, :1]), 1e-2)
TRAJECTORY = solve(PROBLEM, options=Options(max_outer=5)).trajectory


def test_states_of_the_chosen_samples():
    ax = plot_states(TRAJECTORY, [4, 7])
    for points, line, sample in zip(ax.collections, ax.lines, [4, 7], strict=True):
        drawn = np.asarray(points.get_offsets())
        expected = [(k, value) for k, x in enumerate(TRAJECTORY.states) for value in x[sample]]
        np.testing.assert_array_equal(np.round(drawn[:, 0]), [k for k, _ in expected])
        np.testing.assert_array_equal(drawn[:, 1], [value for _, value in expected])
        np.testing.assert_allclose(line.get_ydata(), [x[sample].mean() for x in TRAJECTORY.states])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["sample 4", "sample 7"]


def test_multipliers_and_the_back_propagated_signal():
    adjoints = PROBLEM.adjoints(TRAJECTORY).costates
    ax = plot_multipliers(TRAJECTORY.multipliers, adjoints=adjoints)
    multipliers, signal = ax.lines
    expected = [np.sqrt(np.mean(m**2)) for m in TRAJECTORY.multipliers]
    np.testing.assert_allclose(multipliers.get_ydata(), expected)
    np.testing.assert_allclose(signal.get_ydata(), expected)  # of a rollout they are the same
    assert ax.get_yscale() == "log"
    assert len(plot_multipliers(TRAJECTORY.multipliers).lines) == 1


def test_multipliers_that_are_zero_are_no_accident():
    assert plot_multipliers([np.zeros((3, 2))]).get_yscale() == "linear"


def test_weights_and_biases():
    ax = plot_weights(PROBLEM.network, TRAJECTORY.controls)
    medians = sorted(float(line.get_ydata()[0]) for line in ax.lines if len(set(line.get_ydata())) == 1)
    for k, (layer, u) in enumerate(zip(PROBLEM.network.layers, TRAJECTORY.controls, strict=True)):
        weight, bias = layer.weights(u)
        assert np.isclose(medians, np.median(weight)).any()
        np.testing.assert_array_equal(np.asarray(ax.collections[k].get_offsets())[:, 1], bias)


def test_series_differ_without_colour():
    states = plot_states(TRAJECTORY, [0, 1, 2, 3])
    assert len({line.get_linestyle() for line in states.lines}) == 4
    multipliers = plot_multipliers(TRAJECTORY.multipliers, adjoints=TRAJECTORY.multipliers)
    assert len({(line.get_linestyle(), line.get_marker()) for line in multipliers.lines}) == 2


def test_the_axes_that_are_passed_in_are_handed_back():
    from matplotlib.figure import Figure

    ax = Figure().add_subplot()
    assert plot_states(TRAJECTORY, ax=ax) is ax
    assert plot_multipliers(TRAJECTORY.multipliers, ax) is ax
    assert plot_weights(PROBLEM.network, TRAJECTORY.controls, ax) is ax


def with_collapsed_units() -> Trajectory:
    """Layer 1 has a dead unit and two copies of one before them, layer 2 a saturated unit."""
    first, second = RNG.standard_normal((2, 30))
    one = np.column_stack([first, np.zeros(30), second, -first, 0.3 * second + 2])
    two = np.column_stack([first, second, 1 - 1e-9 * np.abs(first)])
    return Trajectory(TRAJECTORY.controls, (X, one, two))


def test_collapsed_units_are_found():
    one, two = collapsed_units(with_collapsed_units().states)
    assert (one.layer, one.units, one.constant, one.copies) == (1, 5, (1,), (3, 4))
    assert (two.layer, two.units, two.constant, two.copies) == (2, 3, (2,), ())
    healthy = PROBLEM.rollout(PROBLEM.network.init_controls(0))
    assert collapsed_units(healthy.states) == ()


def test_units_that_carry_a_small_signal_are_not_collapsed():
    assert collapsed_units([X, 5.0 + 0.02 * RNG.standard_normal((30, 3))]) == ()


def test_collapsed_units_are_named_and_marked():
    ax = plot_states(with_collapsed_units())
    assert ax.get_title() == "collapsed units: layer 1: constant 1 of 5 (1) and copies 2 of 5 (3, 4); " \
        "layer 2: constant 1 of 3 (2)"  # fmt: skip
    crosses = ax.collections[-1]
    assert crosses.get_label() == "constant over the samples (2)"
    np.testing.assert_allclose(np.asarray(crosses.get_offsets())[:, 1], [0.0, 1.0], atol=1e-8)
    assert plot_states(PROBLEM.rollout(PROBLEM.network.init_controls(0))).get_title() == ""


def test_of_many_collapsed_units_there_is_the_number():
    one = np.repeat(RNG.standard_normal((30, 1)), 9, axis=1)
    title = plot_states(Trajectory(TRAJECTORY.controls, (X, *([one] * 5)))).get_title()
    assert "layer 1: copies 8 of 9 (1, 2, 3, 4, 5, 6, ...)" in title and title.endswith("and 2 more layers")


@pytest.mark.parametrize("samples", [[30], [-31], [0, 1, 2, 3, 4]])
def test_samples_that_cannot_be_drawn(samples):
    with pytest.raises(ValueError, match="at most 4 row numbers below 30"):
        plot_states(TRAJECTORY, samples)


@pytest.mark.parametrize("trajectory", [TRAJECTORY, Trajectory(TRAJECTORY.controls, TRAJECTORY.states)])
def test_the_whole_figure_is_a_picture(trajectory, tmp_path):
    write_figure(tmp_path / "layers.png", layers_figure(PROBLEM.network, trajectory, "title"), dpi=50)
    assert (tmp_path / "layers.png").stat().st_size > 5000
