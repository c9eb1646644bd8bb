"""The figures of the benchmark, from the results or from their summary: times and shares, no traces.

There are fifteen methods.  Five that people would think of are drawn in colours and with markers of their own, all
others in grey, so that their field is there without fifteen lines to tell apart; the tables have them all by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import scores
from .peers import OURS
from .scores import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["figures", "profiles_figure", "times_figure"]

# Okabe and Ito's colours; line, marker and width keep the methods apart in grey print.
_GREY = "#999999"
_STYLES: dict[str, dict[str, Any]] = {
    OURS: {"color": "#D55E00", "linestyle": "-", "marker": "o", "linewidth": 2.6},
    "single-shooting LM": {"color": "#0072B2", "linestyle": "--", "marker": "s", "linewidth": 1.8},
    "SciPy L-BFGS": {"color": "#009E73", "linestyle": "-.", "marker": "^", "linewidth": 1.8},
    "PyTorch Adam": {"color": "#CC79A7", "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "D", "linewidth": 1.8},
    "IPOPT, single shooting, exact": {"color": "#000000", "linestyle": ":", "marker": "x", "linewidth": 1.8},
}
_OTHERS = {"color": _GREY, "linestyle": "-", "linewidth": 0.9}

# Where in the figure of times those stand that did not arrive, and where the axis of seconds ends.
_NOT_REACHED, _LAST_SECOND = 16.0, 9.0


def figures(results: dict[str, Any], folder: Path) -> None:
    """``bench_times.png`` and ``bench_profiles.png``."""
    runs = results["runs"]
    if not scores.problems(runs):
        return
    folder.mkdir(parents=True, exist_ok=True)
    times_figure(runs).savefig(folder / "bench_times.png", dpi=110)
    profiles_figure(runs).savefig(folder / "bench_profiles.png", dpi=110)


def times_figure(runs: Sequence[Run], within: float = 0.05) -> Figure:
    """Seconds to come near the best known objective: a band a problem, a marker a method, a line its seeds."""
    from matplotlib.figure import Figure

    problems, families = scores.problems(runs), scores.families(runs)
    times = scores.reached(runs, within)
    figure = Figure(figsize=(8.0, 0.52 * len(problems) + 1.7), layout="constrained")
    ax = figure.add_subplot()
    for row, problem in enumerate(problems):
        for family in families:
            seconds = [value for (p, f, _), value in times.items() if (p, f) == (problem, family)]
            if seconds:
                _mark(ax, row, family, seconds)
        if row % 2:
            ax.axhspan(row - 0.5, row + 0.5, color="#000000", alpha=0.05, linewidth=0)
    ax.set_yticks(range(len(problems)), problems, fontsize=9)
    ax.set_ylim(len(problems) - 0.5, -0.5)
    ax.set(xscale="log", xlim=(8e-3, 30))
    ax.axvline(_LAST_SECOND, color=_GREY, linewidth=0.8)
    ax.set_xticks([0.01, 0.1, 1.0, _NOT_REACHED], ["0.01", "0.1", "1", "not\nreached"])
    ax.set_xlabel(f"processor seconds to {100 * within:g} % above the best known J")
    ax.set_title("median (marker) and range (line) of the seeds that arrived; k/n: of n seeds only k did", fontsize=9)
    ax.grid(True, axis="x", which="major", alpha=0.3)
    _legend(figure, ax)
    return figure


def _mark(ax: Axes, row: int, family: str, seconds: Sequence[float]) -> None:
    """A method's times on a problem; of the others only medians that arrived."""
    middle, arrived = scores.median(seconds), [value for value in seconds if np.isfinite(value)]
    if family not in _STYLES:
        if np.isfinite(middle):
            ax.plot(middle, row, marker="|", markersize=13, linestyle="none", color=_GREY, label="the others", zorder=1)
        return
    style = _STYLES[family]
    height = row + 0.15 * (list(_STYLES).index(family) - 0.5 * (len(_STYLES) - 1))
    face = style["color"] if np.isfinite(middle) else "none"
    x = min(middle, _NOT_REACHED)
    marker = {"marker": style["marker"], "markersize": 5.5, "linestyle": "none", "color": style["color"]}
    ax.plot(x, height, markerfacecolor=face, label=family, **marker)
    if np.isfinite(middle):
        ax.plot([min(arrived), max(arrived)], [height, height], color=style["color"], linewidth=1.3)
    if 0 < len(arrived) < len(seconds):
        text = f"{len(arrived)}/{len(seconds)}"
        at = max(x, max(arrived) if np.isfinite(middle) else x)
        ax.annotate(text, (at, height), (5, 0), textcoords="offset points", fontsize=6, va="center")


def profiles_figure(runs: Sequence[Run]) -> Figure:
    """Performance profiles (Dolan and More 2002) and shares solved against seconds, at 5 % and 1 %."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 6.6), layout="constrained")
    axes = figure.subplots(2, 2, sharey=True)
    for row, within in zip(axes, (0.05, 0.01), strict=True):
        for family, values in scores.instances(runs, within).items():
            for ax, column in zip(row, (1, 0), strict=True):
                _share(ax, family, [value[column] for value in values])
        level = f"to {100 * within:g} % above the best known J"
        row[0].set(xscale="log", xlim=(0.95, 1e3), xlabel="time over the fastest", ylabel="share of problems and seeds")
        row[1].set(xscale="log", xlim=(1e-2, 30), xlabel="processor seconds")
        row[0].set_title(f"performance profile {level}", fontsize=10)
        row[1].set_title(f"solved {level}", fontsize=10)
        for ax in row:
            ax.set_ylim(-0.03, 1.03)
            ax.grid(alpha=0.3)
    _legend(figure, axes[0, 0])
    return figure


def _share(ax: Axes, family: str, values: Sequence[float]) -> None:
    """A step for every value that is finite, from the left edge on to the right one."""
    steps = sorted(value for value in values if np.isfinite(value))
    share = np.arange(1, len(steps) + 1) / len(values)
    style = {name: value for name, value in _STYLES.get(family, _OTHERS).items() if name != "marker"}
    label = family if family in _STYLES else "the others"
    ends = share[-1] if steps else 0.0
    ax.step(
        [1e-9, *steps, 1e4], [0.0, *share, ends], where="post", label=label, zorder=2 + (family in _STYLES), **style
    )


def _legend(figure: Figure, ax: Axes) -> None:
    """Each label once, the highlighted methods first."""
    handles, labels = ax.get_legend_handles_labels()
    entries = dict(zip(labels, handles, strict=True))
    order = sorted(entries, key=[*_STYLES, "the others"].index)
    handles = [entries[name] for name in order]
    figure.legend(handles, order, loc="outside upper center", ncols=3, fontsize=9, frameon=False)
