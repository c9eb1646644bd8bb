"""The figure: seconds to success of every method, and one chaotic record in the making."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ocp_nn.report import write_figure
from ocp_nn.report.axes import BLACK, BLUE, GREEN, GREY, ORANGE, PINK, RED, log_ticks

from . import scores
from .measures import WITHIN
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

    best = [run for run in scores.best_rates(runs) if run["problem"] != TANKS]
    figure = Figure(figsize=(10.5, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1.0))
    _successes(left, best)
    _one_record(right, best)
    entries = {}
    for ax in (left, right):
        entries |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    order = [name for name in _STYLES if name in entries]
    figure.legend(
        [entries[name] for name in order], order, loc="outside lower center", ncols=4, fontsize=9, frameon=False
    )
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
    ax.plot(x, height, linestyle="none", markersize=4.5, label=name, **style, **hollow)


def _one_record(ax: Axes, runs: Sequence[Run]) -> None:
    """Half the sum of squares over the floor against seconds, and the defects of multiple shooting."""
    chaotic = [run for run in runs if run["problem"].startswith("lorenz") and run["trace"]] or list(runs)
    if not chaotic:
        return
    problem, seed = chaotic[-1]["problem"], chaotic[0]["seed"]
    problem = max((run["problem"] for run in chaotic), key=lambda name: int(name.partition("-")[2]))
    for run in (run for run in chaotic if run["problem"] == problem and run["seed"] == seed):
        style = {key: value for key, value in _STYLES[run["method"]].items() if key != "marker"}
        at = [point["seconds"] for point in run["trace"]]
        fit = [scores.number(point["fit"]) / run["floor"] for point in run["trace"]]
        if len(at) == 1:
            style |= {"marker": _STYLES[run["method"]]["marker"], "linestyle": "none"}
        ax.plot(at, fit, label=run["method"], **style)
        if run["method"] in (OURS, IPOPT_MULTIPLE):
            defect = [scores.number(point["defect"]) for point in run["trace"]]
            ax.plot(at, defect, **style | {"linewidth": 0.9, "alpha": 0.6})
            ax.annotate(
                "largest defect", (at[-1], defect[-1]), (-3, 4), textcoords="offset points", fontsize=7, ha="right"
            )
    ax.axhline(WITHIN, color=GREY, linewidth=0.8)
    ax.set(xscale="log", yscale="log", ylim=(1e-9, 1e6))
    ax.set_xlabel("processor seconds")
    ax.set_title(f"{problem}, seed {seed}: half the sum of squares / noise floor", fontsize="medium")
    ax.grid(True, alpha=0.3)
    log_ticks(ax)
    log_ticks(ax, "x")
