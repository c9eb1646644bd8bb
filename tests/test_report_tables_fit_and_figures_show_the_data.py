"""Tables align and fit 80 columns; figures draw the numbers they were given into the axes they were given."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from ocp_nn import Network, TrainingProblem
from ocp_nn.report import (
    convergence_figure,
    environment,
    environment_line,
    format_number,
    format_table,
    history_header,
    history_row,
    plot_convergence,
    plot_objective,
    plot_penalty,
    plot_predictions,
    plot_residuals,
    predictions_figure,
    problem_line,
)
from ocp_nn.result import Record


def record(iteration: int, **change) -> Record:
    defaults = {
        "phase": "second order" if iteration > 2 else "augmented Lagrangian",
        "objective": 100.0 / (iteration + 1),
        "rollout_objective": 110.0 / (iteration + 1),
        "max_defect": 10.0**-iteration,
        "stationarity": 3 * 10.0**-iteration,
        "penalty": 2.0**iteration,
        "steps": 5 * (iteration + 1),
        "seconds": 0.25 * iteration,
    }
    return Record(iteration=iteration, **(defaults | change))


HISTORY = tuple(record(i) for i in range(4))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1.23456, "1.235"), (54.1234, "54.12"), (12345.6, "1.235e+04"), (2e-7, "2.000e-07"), (None, "-"),
     (float("inf"), "inf"), (float("nan"), "nan"), (-0.5, "-0.5")],
)  # fmt: skip
def test_numbers(value, text):
    assert format_number(value) == text


def test_history_rows_stand_under_their_headings_and_fit():
    ugly = record(999, objective=1.2345678e-300, penalty=float("inf"), steps=99999, seconds=99999.123)
    lines = [history_header(), history_row(HISTORY[0]), history_row(ugly)]
    ends = [[m.end() for m in re.finditer(r"\S+", line.replace("max defect", "max_defect"))] for line in lines]
    assert ends[0][:-1] == ends[1][:-1] == ends[2][:-1]
    assert len(lines[0]) < 80 > len(lines[1])


def test_table_alignment():
    text = format_table(("method", "RMSE"), [("ours", "0.5"), ("theirs", "12.25"), ("none", "-")])
    assert text.splitlines() == ["method   RMSE", "------  -----", "ours      0.5", "theirs  12.25", "none        -"]


def test_problem_line_counts():
    problem = TrainingProblem(Network.mlp([3, 5, 4, 2]), np.ones((7, 3)), np.ones((7, 2)))
    line = problem_line("toy", problem)
    assert "7 training samples, 3 stages (3-5-4-2), 54 controls, 63 states, 63 defect constraints" in line
    assert "54 controls, 0 states, 0 defect constraints" in problem_line("toy", problem, "single")


def test_environment_names_what_the_numbers_depend_on():
    assert environment()["python"] == ".".join(map(str, sys.version_info[:3]))
    line = environment_line()
    assert all(word in line for word in ("ocp_nn", "Python", "CasADi", "NumPy", "BLAS threads"))
    assert "\n" not in line


@pytest.mark.parametrize("plot", [plot_objective, plot_convergence, plot_penalty])
def test_history_plots_use_the_axes_passed_in(plot):
    ax = Figure().add_subplot()
    assert plot(HISTORY, ax) is ax
    assert plot(HISTORY) is not ax


def test_convergence_shows_every_record_over_the_steps():
    defect, stationarity = plot_convergence(HISTORY).lines
    np.testing.assert_array_equal(defect.get_xdata(), [5, 10, 15, 20])
    np.testing.assert_array_equal(defect.get_ydata(), [r.max_defect for r in HISTORY])
    np.testing.assert_array_equal(stationarity.get_ydata(), [r.stationarity for r in HISTORY])


def test_series_differ_in_more_than_colour():
    for ax in (plot_objective(HISTORY), plot_convergence(HISTORY, tolerance=1e-6)):
        styles = {(line.get_linestyle(), line.get_marker()) for line in ax.lines}
        assert len(styles) == len(ax.lines) > 1


def test_the_finish_is_marked():
    labels = plot_objective(HISTORY).get_legend_handles_labels()[1]
    assert labels == ["at its rollout", "at the iterate", "second order from here"]
    assert plot_objective(HISTORY).lines[-1].get_xdata()[0] == HISTORY[3].steps
    assert len(plot_objective(HISTORY[:3]).lines) == 2


def test_long_histories_get_fewer_markers():
    ax = plot_objective([record(i % 3) for i in range(400)])
    assert ax.lines[0].get_markevery() == 10
    assert len(ax.lines[0].get_xdata()) == 400


def test_what_a_logarithm_cannot_show_is_left_out():
    history = (*HISTORY, record(4, max_defect=0.0, penalty=float("inf"), rollout_objective=None))
    assert len(plot_convergence(history).lines[0].get_ydata()) == 4
    single = [record(i, max_defect=0.0, penalty=float("inf")) for i in range(3)]
    assert not plot_penalty(single).lines
    convergence_figure(single).draw_without_rendering()
    convergence_figure(()).draw_without_rendering()


def test_predictions_and_residuals():
    measured, predicted = np.array([1.0, 2.0, 4.0]), np.array([1.5, 2.0, 3.0])
    parts = [("training", measured, predicted), ("test", measured[:1], predicted[:1])]
    ax = Figure().add_subplot()
    assert plot_predictions(parts, ax) is ax
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), np.column_stack([measured, predicted]))
    residuals = plot_residuals(parts)
    np.testing.assert_array_equal(residuals.collections[0].get_offsets(), [[1.5, 0.5], [2.0, 0.0], [3.0, -1.0]])


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_row_of_axes_for_each_output(outputs):
    y = np.random.default_rng(0).standard_normal((9, outputs))
    figure = predictions_figure([("training", y, y + 0.1), ("test", y[:3], y[:3])], [f"y{j}" for j in range(outputs)])
    figure.draw_without_rendering()
    assert len(figure.axes) == 2 * outputs


def test_one_record_beside_a_power_of_ten_has_a_range(tmp_path):
    """On a logarithmic axis of its own this value gives matplotlib an empty range, and a warning."""
    alone = record(1, penalty=100.00000000000003, objective=10.000000000000002, rollout_objective=None)
    figure = convergence_figure([alone])
    figure.savefig(tmp_path / "figure.png")
    assert all(low < high for low, high in (ax.get_ylim() for ax in figure.axes))
