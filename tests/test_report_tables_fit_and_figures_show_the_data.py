"""Tables align and fit 80 columns; figures draw the numbers they were given into the axes they were given."""

from __future__ import annotations

import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from ocp_nn import Network, Options, TrainingProblem, solve
from ocp_nn.problem.record import Record
from ocp_nn.report import (
    convergence_figure,
    environment,
    environment_line,
    format_number,
    format_table,
    history_header,
    history_row,
    layers_figure,
    phase_line,
    phases,
    plot_convergence,
    plot_objective,
    plot_penalty,
    plot_predictions,
    plot_residuals,
    predictions_figure,
    problem_line,
    shape_text,
    with_start,
)
from ocp_nn.solvers.augmented_lagrangian.initialise import initialise


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


def sine_problem() -> TrainingProblem:
    x = np.linspace(-2, 2, 30)[:, None]
    return TrainingProblem(Network.mlp([1, 4, 4, 1]), x, np.sin(x), 1e-2)


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


@pytest.mark.parametrize(
    ("sizes", "text"),
    [((10, 20, 20, 1), "10-20-20-1"), ((1, *[5] * 40, 1), "1-40x5-1"), ((3, 3, 3, 3, 3), "3-3-3-3-3"),
     ((2, *[8] * 4, 3, 1), "2-4x8-3-1"), ((4, 1), "4-1")],
)  # fmt: skip
def test_shapes_of_deep_networks_stay_short(sizes, text):
    assert shape_text(sizes) == text


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


def in_phases(*names: str) -> list[Record]:
    """A history whose iterations are made in these phases, five steps each."""
    return [record(i + 1, phase=name, steps=5 * (i + 1)) for i, name in enumerate(names)]


AL, SINGLE, SECOND = "augmented Lagrangian", "single shooting", "second order"


def test_single_shooting_is_marked_where_it_begins():
    """That is after the last step with states, whatever alternates later; and again after a restart."""
    ax = plot_objective(in_phases(AL, AL, SINGLE, SECOND, SINGLE, AL, SECOND))
    marks = [line for line in ax.lines if len(set(line.get_xdata())) == 1]
    assert [line.get_xdata()[0] for line in marks] == [10, 30]
    assert marks[0].get_label() == "single shooting from here"
    assert ax.get_legend_handles_labels()[1] == ["at its rollout", "at the iterate", "single shooting from here"]
    bands = [(band.get_x(), band.get_x() + band.get_width()) for band in ax.patches]
    assert bands == [(10, 25), (30, 35)]


@pytest.mark.parametrize("names", [(AL, AL), (SINGLE, SECOND)])
def test_where_nothing_changes_nothing_is_marked(names):
    ax = plot_objective(in_phases(*names))
    assert len(ax.lines) == 2 and not ax.patches


def test_the_start_is_shown_with_its_objective():
    ax = plot_objective(HISTORY)
    star = ax.lines[-2]
    assert (star.get_xdata()[0], star.get_ydata()[0], star.get_label()) == (5, 100.0, "start: J = 100")
    assert not any("start" in label for label in plot_objective(HISTORY[1:]).get_legend_handles_labels()[1])


def test_a_result_knows_its_start():
    problem = sine_problem()
    result = solve(problem, options=Options(seed=3, max_outer=4))
    start, *rest = with_start(result)
    assert tuple(rest) == result.history
    rollout = problem.rollout(initialise(problem, "auto", 3))
    assert start.objective == pytest.approx(problem.objective(rollout), rel=1e-12)
    gradient = np.concatenate(problem.adjoints(rollout).gradient)
    assert start.stationarity == pytest.approx(np.linalg.norm(gradient), rel=1e-12)
    assert (start.iteration, start.steps, start.max_defect) == (0, 0, 0.0) and np.isfinite(start.penalty)
    longer = solve(problem, result)
    assert with_start(longer)[0] == start  # the start of all, not of what goes on
    assert with_start(replace(result, state=None)) == result.history


def test_phases_count_iterations_and_steps():
    history = in_phases(AL, AL, SINGLE, SECOND, SINGLE, AL)
    counts = {name: (count.outer_iterations, count.steps) for name, count in phases(history).items()}
    assert counts == {AL: (3, 15), SINGLE: (2, 10), SECOND: (1, 5)}
    with_front = [record(0, phase="start", steps=0), *history]
    assert phases(with_front) == phases(history)
    line = phase_line(history[:3])
    assert line == "3 outer iterations: augmented Lagrangian 2 (10 steps), single shooting 1 (5 steps)"
    assert phase_line(()) == "no outer iteration"


def test_the_figure_says_what_each_phase_took():
    history = in_phases(AL, SINGLE)
    assert convergence_figure(history).axes[0].get_title() == phase_line(history)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [(126.46, 127.3, ["126.6", "127"]), (900.0, 2e4, ["1000", "2000", "5000", "10000", "20000"]),
     (1e-9, 1e-6, ["$10^{-9}$", "$10^{-8}$"]), (2e-6, 8e-5, ["$5 \\times 10^{-6}$", "$2 \\times 10^{-5}$"])],
)  # fmt: skip
def test_ticks_are_plain_numbers_and_at_least_two(low, high, labels):
    ax = plot_objective([record(i, objective=v, rollout_objective=None) for i, v in ((1, low), (2, high))])
    limits = ax.get_ylim()
    ax.figure.draw_without_rendering()
    ticks = zip(ax.get_yticks(), ax.yaxis.get_majorticklabels(), strict=True)
    shown = [text.get_text() for value, text in ticks if limits[0] <= value <= limits[1]]
    assert len(shown) >= 2 and set(labels) <= set(shown)
    assert not any(text.get_text() for text in ax.yaxis.get_minorticklabels())


@pytest.mark.parametrize("title", ["short", "a long name of a data set, " * 8, "1-" + "5-" * 60 + "1, time limit"])
def test_titles_are_inside_the_figure(title):
    y = np.zeros((4, 1))
    network = Network.mlp([1, 2, 1])
    trajectory = TrainingProblem(network, y, y).rollout(network.init_controls(0))
    figures = (convergence_figure(HISTORY, title), predictions_figure([("training", y, y + 1)], ("y",), title),
               layers_figure(network, trajectory, title, samples=[0]))  # fmt: skip
    for figure in figures:
        figure.draw_without_rendering()
        for text in (figure._suptitle, *(ax.title for ax in figure.axes)):
            box = text.get_window_extent()
            assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1


def test_axes_of_predictions_and_residuals_have_the_unit():
    y = np.arange(3.0)[:, None]
    left, right = predictions_figure([("training", y, y + 1)], ["yield [kg]"]).axes
    assert left.get_xlabel() == "measured yield [kg]" and left.get_ylabel() == "predicted yield [kg]"
    assert right.get_xlabel() == "predicted yield [kg]" and right.get_ylabel() == "predicted - measured yield [kg]"


def test_outputs_that_are_left_out_are_counted():
    y = np.arange(12.0).reshape(2, 6)
    figure = predictions_figure([("training", y, y)], [f"y{j}" for j in range(6)], "arm")
    assert len(figure.axes) == 8 and figure.get_suptitle() == "arm (the first 4 of 6 outputs)"


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
