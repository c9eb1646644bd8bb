"""The figure of :mod:`ocp_nn.compare`: all methods on the same axes."""

from __future__ import annotations

from itertools import cycle

import numpy as np
from matplotlib.figure import Figure

from ..compare import Comparison
from .figures import BLACK, BLUE, GREEN, GREY, ORANGE, RED

__all__ = ["comparison_figure"]

# Colour, line and marker together tell the methods apart, in greyscale too.
_STYLES = (
    (BLUE, "-", "o"),
    (RED, "--", "s"),
    (GREEN, ":", "^"),
    (ORANGE, "-.", "D"),
    (BLACK, "-", "v"),
    (GREY, "--", "x"),
)


def comparison_figure(comparison: Comparison) -> Figure:
    """Objective of the rollout above the best one found, and stationarity, over time; cold starts only."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)
    cold = {method: r for (method, start), r in comparison.results.items() if start == "cold" and r.history}
    objectives = [record.rollout_objective for r in cold.values() for record in r.history]
    best = min((value for value in objectives if value is not None and np.isfinite(value)), default=0.0)
    floor = 1e-12 * max(1.0, abs(best))  # the best one itself is drawn on the floor of a logarithmic axis
    for (method, result), (color, line, marker) in zip(cold.items(), cycle(_STYLES), strict=False):
        kept = [record for record in result.history if record.rollout_objective is not None]
        seconds = [max(record.seconds, 1e-4) for record in kept]
        style = {"color": color, "linestyle": line, "marker": marker, "markersize": 4, "linewidth": 1.2}
        style |= {"markevery": max(1, len(kept) // 12), "label": method, "markerfacecolor": "none"}
        left.plot(seconds, [max((record.rollout_objective or 0.0) - best, floor) for record in kept], **style)
        right.plot(seconds, [record.stationarity for record in kept], **style)
    left.set(ylabel="objective of the rollout above the best", xlabel="seconds", yscale="log", xscale="log")
    right.set(ylabel="stationarity", xlabel="seconds", yscale="log", xscale="log")
    if cold:
        right.legend(fontsize="small")
    return figure
