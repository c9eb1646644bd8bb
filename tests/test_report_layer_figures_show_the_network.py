"""Figures layer by layer: what is drawn are the states, multipliers and weights, told apart without colour."""

from __future__ import annotations

import numpy as np
import pytest

from ocp_nn import Network, Options, TrainingProblem, Trajectory, solve
from ocp_nn.report import layers_figure, plot_multipliers, plot_states, plot_weights, write_figure

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


@pytest.mark.parametrize("samples", [[30], [-31], [0, 1, 2, 3, 4]])
def test_samples_that_cannot_be_drawn(samples):
    with pytest.raises(ValueError, match="at most 4 row numbers below 30"):
        plot_states(TRAJECTORY, samples)


@pytest.mark.parametrize("trajectory", [TRAJECTORY, Trajectory(TRAJECTORY.controls, TRAJECTORY.states)])
def test_the_whole_figure_is_a_picture(trajectory, tmp_path):
    write_figure(tmp_path / "layers.png", layers_figure(PROBLEM.network, trajectory, "title"), dpi=50)
    assert (tmp_path / "layers.png").stat().st_size > 5000
