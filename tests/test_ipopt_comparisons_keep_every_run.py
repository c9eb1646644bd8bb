"""Claim: a comparison judges all methods alike, keeps partial results, and reports failures as rows."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest

from ocp_nn import Network, Options, TrainingProblem, certify
from ocp_nn.analysis import compare as compare_module
from ocp_nn.analysis.compare import METHODS, compare
from ocp_nn.report.comparison import comparison_figure


@pytest.fixture(scope="module")
def problem() -> TrainingProblem:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((12, 2))
    return TrainingProblem(Network.mlp([2, 3, 1]), x, np.tanh(x[:, :1] - x[:, 1:]), 0.3)


@pytest.fixture(scope="module")
def comparison(problem):
    return compare(problem, methods=("al", "ipopt-single", "ipopt-multiple", "uno-single"), time_limit=20)


def test_cold_and_cross_starts_are_all_there(comparison) -> None:
    runs = [(row.method, row.start) for row in comparison.rows]
    others = ["ipopt-single", "ipopt-multiple", "uno-single"]
    cold = [("al", "cold"), *((name, "cold") for name in others)]
    assert runs == cold + [pair for name in others for pair in ((name, "al"), ("al", name))]
    assert set(comparison.results) == set(runs)


def test_rows_are_the_certificates(problem, comparison) -> None:
    for row in comparison.rows:
        certificate = certify(problem, comparison.results[row.method, row.start].trajectory)
        assert row.objective == certificate.objective
        assert row.stationarity == certificate.stationarity
        assert row.passed is certificate.passed()
        assert row.seconds > 0


def test_cross_starts_stay(comparison) -> None:
    for row in comparison.rows:
        if row.start == "cold":
            assert row.objective_change is None
        else:
            assert row.objective_change < 1e-6 and row.control_change < 1e-4 and row.multiplier_change < 1e-5


def test_everybody_starts_at_the_same_point(problem) -> None:
    starts = []

    def spy(problem, initial, time_limit):
        starts.append(initial)
        return METHODS["ipopt-single"](problem, initial, time_limit)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(compare_module.METHODS, "spy", spy)
        compare(problem, methods=("spy",), cross=False, seed=4)
    np.testing.assert_array_equal(starts[0][0], problem.network.init_controls(4)[0])


def test_a_method_that_fails_is_a_row_and_the_others_go_on(problem, monkeypatch) -> None:
    def broken(problem, initial, time_limit):
        raise ZeroDivisionError("planted")

    monkeypatch.setitem(METHODS, "broken", broken)
    seen = []
    comparison = compare(problem, methods=("ipopt-single", "broken", "uno-single"), on_row=seen.append)
    assert [row.method for row in seen[:3]] == ["ipopt-single", "broken", "uno-single"]
    assert seen == list(comparison.rows)
    failed = seen[1]
    assert failed.status == "error" and not failed.passed and "planted" in failed.message
    assert not any("broken" in (row.start, row.method) for row in seen[4:])


def test_an_interrupted_comparison_keeps_what_it_has(problem, monkeypatch, tmp_path) -> None:
    def interrupted(problem, initial, time_limit):
        raise KeyboardInterrupt

    monkeypatch.setitem(METHODS, "interrupted", interrupted)
    path = tmp_path / "rows.csv"
    with pytest.raises(KeyboardInterrupt):
        compare(problem, methods=("ipopt-single", "interrupted"), csv_path=path)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["start"], row["passed"]) for row in rows] == [("ipopt-single", "cold", "True")]
    assert float(rows[0]["objective"]) > 0
    assert rows[0]["control_change"] == ""


def test_time_limits_reach_the_solvers(problem) -> None:
    row = compare(problem, methods=("ipopt-multiple",), time_limit=1e-6).rows[0]
    assert row.status == "time limit" and not row.passed


def test_the_figure_has_a_line_a_method_on_shared_axes(comparison) -> None:
    figure = comparison_figure(comparison)
    left, right = figure.axes
    methods = ["al", "ipopt-single", "ipopt-multiple", "uno-single"]
    assert [line.get_label() for line in left.lines] == methods == [line.get_label() for line in right.lines[:-1]]
    assert left.get_shared_x_axes().joined(left, right)
    history = comparison.results["ipopt-single", "cold"].history
    np.testing.assert_array_equal(right.lines[1].get_ydata(), [record.stationarity for record in history])
    assert min(line.get_ydata().min() for line in left.lines) > 0


def test_the_figure_shows_where_ours_began_and_the_tolerance(problem, comparison) -> None:
    left, right = comparison_figure(comparison).axes
    ours, ipopt = left.lines[:2]
    best = min(r.rollout_objective for (_, start), r in comparison.results.items() if start == "cold")
    start = problem.objective(problem.rollout(problem.network.init_controls(0)))
    assert ours.get_xdata()[0] < ours.get_xdata()[1]
    assert ours.get_ydata()[0] == pytest.approx(start - best) == ipopt.get_ydata()[0]
    assert ours.get_xdata()[0] <= min(line.get_xdata()[0] for line in left.lines[1:])
    tolerance = right.lines[-1]
    assert set(tolerance.get_ydata()) == {Options().tolerance * max(1.0, best)}
    assert "our tolerance" in [text.get_text() for text in left.figure.legends[0].get_texts()]


def test_every_method_has_a_style_of_its_own(comparison) -> None:
    result = comparison.results["ipopt-single", "cold"]
    many = replace(comparison, results={(f"method {i}", "cold"): result for i in range(20)})
    lines = comparison_figure(many).axes[0].lines
    assert len({(line.get_color(), line.get_linestyle(), line.get_marker()) for line in lines}) == 20


def test_unknown_methods_are_refused(problem) -> None:
    with pytest.raises(ValueError, match=r"methods must be .*, received \('al', 'nonsense'\)"):
        compare(problem, methods=("al", "nonsense"))
    with pytest.raises(ValueError, match=r"methods must be .*, received \(\)"):
        compare(problem, methods=())
