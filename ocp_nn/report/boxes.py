"""Box plots that leave matplotlib's global state alone: ``Axes.boxplot`` imports pyplot and chooses a backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_boxes"]

_WIDTH = 0.35


def draw_boxes(ax: Axes, samples: Sequence[NDArray[np.float64]], color: str, median_color: str) -> None:
    """A box for each of the samples at 0, 1, ...: quartiles, whiskers at 5 and 95 %, points outside them."""
    from matplotlib.cbook import boxplot_stats

    for k, found in enumerate(boxplot_stats(samples, whis=(5, 95))):
        low, high = found["q1"], found["q3"]
        left, right = k - _WIDTH / 2, k + _WIDTH / 2
        ax.plot([left, right, right, left, left], [low, low, high, high, low], color=color, linewidth=1.0)
        for end, whisker in ((low, found["whislo"]), (high, found["whishi"])):
            ax.plot([k, k], [end, whisker], color=color, linewidth=1.0)
            ax.plot([k - _WIDTH / 4, k + _WIDTH / 4], [whisker, whisker], color=color, linewidth=1.0)
        ax.plot([left, right], [found["med"]] * 2, color=median_color, linewidth=1.0)
        outside = found["fliers"]
        ax.plot(np.full(len(outside), k), outside, ".", markersize=3, color=color)
