"""The figure: seconds to success of every method, and one chaotic record in the making."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ocp_nn.report import write_figure
from ocp_nn.report.axes import BLACK, BLUE, GREEN, GREY, ORANGE, PINK, RED, log_ticks

from . import scores
from .measures import CLOSED, WITHIN
from .methods import IPOPT_MULTIPLE, OURS
from .problems import TANKS
from .scores import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw", "figure_of"]

_STYLES: dict[str, dict[str, Any]] = {
    OURS: {"color": RED, "linestyle": "-", "marker": "o", "linewidth": 2.4},
    IPOPT_MULTIPLE: {"color": BLACK, "linestyle": ":", "marker": "x", "linewidth": 1.8},
    "single-shooting LM": {"color": BLUE, "linestyle": "--", "marker": "s", "linewidth": 1.8},
    "IPOPT, single shooting": {"color": GREY, "linestyle": ":", "marker": "+", "linewidth": 1.8},
    "BPTT, L-BFGS": {"color": GREEN, "linestyle": "-.", "marker": "^", "linewidth": 1.8},
    "BPTT, Adam": {"color": PINK, "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "D", "linewidth": 1.8},
    "teacher forcing": {"color": ORANGE, "linestyle": (0, (1, 1)), "marker": "v", "linewidth": 1.8},
}


def draw(runs: Sequence[Run], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_figure(path, figure_of(runs), dpi=130)


def figure_of(runs: Sequence[Run]) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    best = [run for run in scores.best_rates(runs) if run["problem"] != TANKS]
    figure = Figure(figsize=(10.5, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1.0))
    _successes(left, best)
    _one_record(right, best)
    names = [name for name in _STYLES if any(run["method"] == name and run["trace"] for run in best)]
    handles = [Line2D([], [], markersize=5, **_STYLES[name]) for name in names]
    figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    return figure


def _successes(ax: Axes, runs: Sequence[Run]) -> None:
    """A band a problem, in it a row a method: a marker at the median, a line over the seeds, how many succeeded."""
    problems, names = scores.problems_of(runs), [name for name in _STYLES if name in scores.families(runs)]
    times = [t for run in runs if np.isfinite(t := scores.seconds(run))]
    low, high = min(times, default=0.1) / 1.5, max(times, default=10.0) * 1.3
    nowhere = 1.6 * high
    for row, problem in enumerate(problems):
        for place, name in enumerate(names):
            mine = scores.some(runs, problem, name)
            if mine and mine[0]["trace"]:
                height = row + 0.8 * ((place + 0.5) / len(names) - 0.5)
                _mark(ax, height, name, [scores.seconds(run) for run in mine], nowhere)
        if row % 2:
            ax.axhspan(row - 0.5, row + 0.5, color=BLACK, alpha=0.05, linewidth=0)
    ax.set(xscale="log", xlim=(low, nowhere * 1.5), ylim=(len(problems) - 0.5, -0.5))
    ax.set_yticks(range(len(problems)), problems)
    ax.axvline(high, color=GREY, linewidth=0.8)
    log_ticks(ax, "x")
    ticks = [tick for tick in 10.0 ** np.arange(-3, 5) if low <= tick < high]
    ax.set_xticks([*ticks, nowhere], [*(f"{tick:g}" for tick in ticks), "no seed"])
    ax.set_xlabel("processor seconds to success")
    ax.set_title("median and range of the seeds that succeeded, and how many", fontsize="medium")
    ax.grid(True, axis="x", alpha=0.3)


def _mark(ax: Axes, height: float, name: str, seconds: Sequence[float], nowhere: float) -> None:
    arrived = [value for value in seconds if np.isfinite(value)]
    style = {key: _STYLES[name][key] for key in ("color", "marker")}
    if arrived:
        ax.plot([min(arrived), max(arrived)], [height, height], color=style["color"], linewidth=1.3)
        text, at = f"{len(arrived)}/{len(seconds)}", max(arrived)
        ax.annotate(text, (at, height), (5, 0), textcoords="offset points", fontsize=6, va="center")
    x = float(np.median(arrived)) if arrived else nowhere
    hollow = {} if arrived else {"markerfacecolor": "none"}
    ax.plot(x, height, linestyle="none", markersize=4.5, **style, **hollow)


def _one_record(ax: Axes, runs: Sequence[Run]) -> None:
    """Half the sum of squares over the floor against seconds, and the defects of multiple shooting."""
    shown = [run for run in runs if run["trace"]]
    shown = [run for run in shown if run["problem"].startswith("lorenz")] or shown
    shown = [
        run for run in shown if run["problem"] == scores.problems_of(shown)[-1] and run["seed"] == shown[0]["seed"]
    ]
    for run in shown:
        style = {key: value for key, value in _STYLES[run["method"]].items() if key != "marker"}
        at = [point["seconds"] for point in run["trace"]]
        if len(at) == 1:
            style |= {"marker": _STYLES[run["method"]]["marker"], "linestyle": "none"}
        ax.plot(at, [scores.number(point["fit"]) / run["floor"] for point in run["trace"]], **style)
        if run["method"] in (OURS, IPOPT_MULTIPLE):
            _defects(ax, run, style | {"linewidth": 0.9, "alpha": 0.6})
    if shown:
        title = f"{shown[0]['problem']}, seed {shown[0]['seed']}: half the sum of squares / noise floor"
        ax.set_title(title, fontsize="medium")
    ax.axhline(WITHIN, color=GREY, linewidth=0.8)
    ax.set(xscale="log", yscale="log", ylim=(1e-10, 1e6))
    ax.set_xlabel("processor seconds")
    ax.grid(True, alpha=0.3)
    log_ticks(ax)
    log_ticks(ax, "x")


def _defects(ax: Axes, run: Run, style: dict[str, Any]) -> None:
    """The largest defect, and its name beside the last point above what counts as closed."""
    open_ones = [(p["seconds"], p["defect"]) for p in run["trace"] if p["defect"]]
    if not open_ones:
        return
    at, defect = np.array(open_ones, dtype=float).T
    ax.plot(at, defect, **style)
    place = int(np.flatnonzero(defect > CLOSED).max(initial=0))
    text = {"textcoords": "offset points", "fontsize": 7, "ha": "right", "va": "top", "color": style["color"]}
    ax.annotate("largest defect", (at[place], defect[place]), (-4, -4), **text)
