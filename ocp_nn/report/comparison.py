"""The figure of :mod:`ocp_nn.analysis.compare`: all methods on the same axes."""

from __future__ import annotations

from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..analysis.compare import Comparison
from ..problem.record import Record
from ..solvers.augmented_lagrangian.options import Options
from .axes import BLACK, BLUE, GREEN, GREY, ORANGE, PINK, RED, log_ticks
from .phases import with_start

__all__ = ["comparison_figure"]

# Colour, line and marker together tell the methods apart, in greyscale too; their numbers have a large common multiple.
_COLOURS = (BLUE, RED, GREEN, ORANGE, BLACK, GREY, PINK)
_LINES = ("-", "--", ":", "-.")
_MARKERS = "os^Dvx*P"


# How far below the best objective, relative to it, the axis goes: the best one itself is drawn there.
_FLOOR = 1e-6


def comparison_figure(comparison: Comparison) -> Figure:
    """Objective of the rollout above the best one found, and stationarity, over time; cold starts only.

    Every line begins at its start, the first one of a method that counts seconds from there at the left edge.
    """
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)
    cold = {method: r for (method, start), r in comparison.results.items() if start == "cold" and r.history}
    histories = {method: [r for r in with_start(result) if _is_drawn(r)] for method, result in cold.items()}
    records = [record for history in histories.values() for record in history]
    best = min((_objective(record) for record in records), default=0.0)
    edge = 0.5 * min((record.seconds for record in records if record.seconds > 0), default=2e-4)
    styles = zip(cycle(_COLOURS), cycle(_LINES), cycle(_MARKERS), strict=False)
    floor = _FLOOR * max(1.0, abs(best))
    for (method, history), (color, line, marker) in zip(histories.items(), styles, strict=False):
        seconds = [max(record.seconds, edge) for record in history]
        style = {"color": color, "linestyle": line, "marker": marker, "markersize": 4, "linewidth": 1.2}
        style |= {"markevery": max(1, len(history) // 12), "label": method, "markerfacecolor": "none"}
        left.plot(seconds, [max(_objective(record) - best, floor) for record in history], **style)
        right.plot(seconds, [record.stationarity for record in history], **style)
    left.set(ylabel="objective of the rollout above the best", xlabel="seconds", yscale="log", xscale="log")
    right.set(ylabel="stationarity", xlabel="seconds", yscale="log", xscale="log")
    if records:
        _finish(figure, left, right, best)
    return figure


def _is_drawn(record: Record) -> bool:
    return record.rollout_objective is not None and np.isfinite(record.rollout_objective)


def _objective(record: Record) -> float:
    return record.rollout_objective if record.rollout_objective is not None else np.inf


def _finish(figure: Figure, left: Axes, right: Axes, best: float) -> None:
    """The tolerance, ticks, and one legend for both, below them."""
    handles, labels = right.get_legend_handles_labels()
    tolerance = Options().tolerance * max(1.0, best)
    handles.append(right.axhline(tolerance, color=GREY, linestyle=":", linewidth=1.2))
    for ax in (left, right):
        log_ticks(ax)
        log_ticks(ax, "x")
        ax.grid(True, which="major", alpha=0.3)
    figure.legend(handles, [*labels, "our tolerance"], loc="outside lower center", ncols=4, fontsize="small")
