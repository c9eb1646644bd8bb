"""The README's first figure: methods that end at the same place are all seen there."""

from __future__ import annotations

import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import ocp_nn

SCRIPTS = str(Path(__file__).parents[1] / "scripts")


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, SCRIPTS)
    try:
        import readme_figure
    finally:
        sys.path.remove(SCRIPTS)
    return readme_figure


@pytest.fixture(scope="module")
def figure(script):
    """Two methods that end at the same weights and objective."""
    network = ocp_nn.Network.mlp([1, 3, 1])
    x = np.linspace(-3, 3, 20)[:, None]
    problem = ocp_nn.TrainingProblem(network, x, np.sin(2 * x), 1e-3)
    fails, works = network.init_controls(0), network.init_controls(1)
    curves = [np.array([[0, 35.0], [60, 27.0], [7000, 0.3]]), np.array([[0, 35.0], [10, 27.5]]),
              np.array([[0, 35.0], [112, 27.5]])]  # fmt: skip
    solutions = zip((works, fails, fails), curves, strict=True)
    made = script.figure_of(problem, dict(zip(("multiple", "Gauss-Newton", "L-BFGS"), solutions, strict=True)))
    made.draw_without_rendering()
    return made


def test_of_equal_curves_the_lower_one_is_much_broader(figure):
    _, _, upper, lower = figure.axes[0].lines
    np.testing.assert_array_equal(upper.get_ydata(), lower.get_ydata())
    assert lower.get_zorder() < upper.get_zorder() and lower.get_linewidth() > 3 * upper.get_linewidth()
    assert upper.get_linestyle() != lower.get_linestyle()


def test_every_end_is_marked_and_labelled_apart(figure):
    right = figure.axes[1]
    ends = [line for line in right.lines if len(line.get_xdata()) == 1]
    assert len({line.get_marker() for line in ends}) == 3
    assert [text.get_text() for text in right.texts] == [
        "J = 0.3\nafter 7000",
        "J = 27.5\nafter 10",
        "J = 27.5\nafter 112",
    ]
    boxes = [text.get_window_extent() for text in right.texts]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    frame = right.get_window_extent()
    assert all(frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1) for box in boxes)


def test_every_method_begins_at_the_start(figure):
    starts = {(line.get_xdata()[0], line.get_ydata()[0]) for line in figure.axes[1].lines if len(line.get_xdata()) > 1}
    assert starts == {(0.0, 35.0)}
