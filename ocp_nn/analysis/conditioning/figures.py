"""Figures of a sweep, from its CSV files alone.

Every function takes the tables (:func:`.findings.load_sweep`) and hands back a matplotlib ``Figure``, or draws into an
``Axes`` that it is given.  Bands span the seeds, lines are medians.  Colours are those of Okabe and Ito (Color
universal design, 2008), with a line style and a marker for each series so that they can be printed in grey.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .groups import Row, Sweep, groups

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "FIGURES",
    "depth_figure",
    "penalty_figure",
    "products_figure",
    "spectra_figure",
    "summary_figure",
]

Array = NDArray[np.float64]

BLUE, ORANGE, GREEN, RED, BLACK, GREY, PINK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#000000", "#777777", "#CC79A7"
)  # fmt: skip

# (matrix, shooting, which penalty: None, first or last, label, style)
_FORMULATIONS: tuple[tuple[str, str, int | None, str, dict[str, Any]], ...] = (
    (
        "gauss_newton",
        "single",
        None,
        "single: Gauss-Newton",
        {"color": BLUE, "marker": "o", "linestyle": "-", "markersize": 9, "markerfacecolor": "none"},
    ),
    ("hessian", "single", None, "single: exact Hessian", {"color": PINK, "marker": "^", "linestyle": ":"}),
    ("kkt_gauss_newton", "multiple", None, "multiple: KKT", {"color": ORANGE, "marker": "s", "linestyle": "--"}),
    ("al_gauss_newton", "multiple", -1, "multiple: AL in (u, x)", {"color": RED, "marker": "v", "linestyle": "-."}),
    ("dual", "multiple", -1, "multiple: forward DP", {"color": GREEN, "marker": "D", "linestyle": "--"}),
)

# Beyond this a condition number says no more than "singular": 1/eps.
_SINGULAR = 4.5e15


def depth_figure(sweep: Sweep, initialisation: str | None = None) -> Figure:
    """Condition number over depth, a panel an activation, a line a formulation."""
    start = _first(sweep, initialisation)
    activations = _ordered(row["activation"] for row in sweep.matrices)
    figure, axes = _panels(len(activations), 3.6)
    for ax, name in zip(axes, activations, strict=True):
        plot_depth(sweep, ax, name, start)
        ax.set_title(name)
    axes[0].set_ylabel("condition number")
    _legend_below(figure, axes[0])
    _title(figure, f"Condition numbers at {start!r} weights: median and range over seeds{_at_penalty(sweep)}")
    return figure


def plot_depth(sweep: Sweep, ax: Axes, activation: str, initialisation: str) -> None:
    width = _widths(sweep)[0]
    penalties = sweep.penalties
    for matrix, shooting, which, label, style in _FORMULATIONS:
        beta = None if which is None or not penalties else penalties[which]
        rows = [
            row
            for row in sweep.start(matrix, shooting, beta).values()
            if (row["activation"], row["initialisation"], int(row["width"])) == (activation, initialisation, width)
        ]
        _band(ax, rows, lambda row: int(row["depth"]), label, style)
    ax.set_xlabel("hidden layers")
    _log_axes(ax)


def penalty_figure(sweep: Sweep, initialisation: str | None = None) -> Figure:
    """Condition number over the penalty, a panel an activation, for the deepest network."""
    start, depth = _first(sweep, initialisation), _depths(sweep)[-1]
    activations = _ordered(row["activation"] for row in sweep.matrices)
    figure, axes = _panels(len(activations), 3.6)
    for ax, name in zip(axes, activations, strict=True):
        plot_penalty(sweep, ax, name, start, depth)
        ax.set_title(name)
    axes[0].set_ylabel("condition number")
    _legend_below(figure, axes[0])
    _title(figure, f"{depth} layers at {start!r} weights, multiple shooting: median and range over seeds")
    return figure


def plot_penalty(sweep: Sweep, ax: Axes, activation: str, initialisation: str, depth: int) -> None:
    width = _widths(sweep)[0]

    def chosen(row: Row) -> bool:
        run = (row["activation"], row["initialisation"], int(row["width"]), int(row["depth"]), row["phase"])
        return run == (activation, initialisation, width, depth, "start") and row["shooting"] == "multiple"

    forms = (
        ("al_gauss_newton", "AL in (u, x)", {"color": RED, "marker": "v", "linestyle": "-."}),
        ("dual", "forward DP, dual", {"color": GREEN, "marker": "D", "linestyle": "--"}),
        ("primal", "forward DP, primal", {"color": BLUE, "marker": "o", "markersize": 9, "markerfacecolor": "none"}),
        ("primal_qr", "forward DP, primal by QR", {"color": BLACK, "marker": "s", "linestyle": "-"}),
    )
    for matrix, label, style in forms:
        rows = [row for row in sweep.matrices if row["matrix"] == matrix and row["penalty"] and chosen(row)]
        _band(ax, rows, lambda row: float(row["penalty"]), label, style)
    ax.set_xlabel("penalty")
    _log_axes(ax)


def products_figure(sweep: Sweep, initialisation: str | None = None) -> Figure:
    """Largest singular value of A_k ... A_j over (j, k), a panel an activation, for the deepest network."""
    from matplotlib.figure import Figure

    start, depth = _first(sweep, initialisation), _depths(sweep)[-1]
    activations = _ordered(row["activation"] for row in sweep.products)
    figure = Figure(figsize=(3.6 * len(activations) + 0.8, 4.4), layout="constrained")
    axes = figure.subplots(1, len(activations), squeeze=False)[0]
    image: Any = None
    for ax, name in zip(axes, activations, strict=True):
        image = plot_products(sweep, ax, name, start, depth)
        ax.set_title(name)
    figure.colorbar(image, ax=list(axes), label="largest singular value (log10)", extend="both")
    _title(figure, f"Products $A_k \\cdots A_j$, {depth} layers at {start!r} weights: medians over samples and seeds")
    return figure


def plot_products(sweep: Sweep, ax: Axes, activation: str, initialisation: str, depth: int) -> Any:
    width = _widths(sweep)[0]
    rows = [
        row
        for row in sweep.products
        if (row["activation"], row["initialisation"], int(row["width"]), int(row["depth"]), row["phase"])
        == (activation, initialisation, width, depth, "start")
    ]
    table = np.full((depth + 1, depth + 1), np.nan)
    cells: dict[tuple[int, int], list[float]] = {}
    for row in rows:
        cells.setdefault((int(row["last"]), int(row["first"])), []).append(float(row["largest"]))
    for cell, values in cells.items():
        table[cell] = np.log10(max(float(np.median(values)), 1e-300))
    from matplotlib.ticker import MaxNLocator

    # a diverging map: white keeps the signal, blue loses it, red blows it up
    image = ax.imshow(table, cmap="RdBu_r", vmin=-8, vmax=8, origin="lower")
    ax.set_facecolor("#d0d0d0")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("from stage j")
    ax.set_ylabel("to stage k")
    return image


def spectra_figure(sweep: Sweep, initialisation: str | None = None) -> Figure:
    """Singular values of the single-shooting Jacobian before and after training, for the deepest network."""
    start, depth = _first(sweep, initialisation), _depths(sweep)[-1]
    activations = _ordered(row["activation"] for row in sweep.spectra)
    figure, axes = _panels(len(activations), 3.4)
    for ax, name in zip(axes, activations, strict=True):
        plot_spectra(sweep, ax, name, start, depth)
        ax.set_title(name)
    axes[0].set_ylabel("singular value / largest")
    _legend_below(figure, axes[0])
    _title(figure, f"Single-shooting Jacobian, {depth} layers from {start!r} weights; a line a seed")
    return figure


def plot_spectra(sweep: Sweep, ax: Axes, activation: str, initialisation: str, depth: int) -> None:
    width = _widths(sweep)[0]
    cases: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
        ("start", "", "before", {"color": GREY, "linestyle": ":"}),
        ("end", "lm", "after single shooting (lm)", {"color": BLUE, "linestyle": "-"}),
        ("end", "al", "after multiple shooting (al)", {"color": RED, "linestyle": "--"}),
    )
    for phase, method, label, style in cases:
        curves: dict[str, list[tuple[int, float]]] = {}
        for row in sweep.spectra:
            run = (row["activation"], row["initialisation"], int(row["width"]), int(row["depth"]))
            here = (row["matrix"], row["phase"], row["method"]) == ("jacobian", phase, method)
            if here and run == (activation, initialisation, width, depth):
                curves.setdefault(row["run"], []).append((int(row["index"]), float(row["value"])))
        for count, curve in enumerate(curves.values()):
            index, value = np.array(sorted(curve)).T
            scaled = value / value[0] if value[0] > 0 else value
            shown = scaled > 1e-18
            ax.plot(index[shown] + 1, scaled[shown], label=label if count == 0 else None, linewidth=1.2, **style)
    ax.axhline(1e-16, color=BLACK, linewidth=0.8, alpha=0.5)
    ax.set_yscale("log")
    ax.set_ylim(1e-18, 3.0)
    ax.set_xlim(0, max((int(row["index"]) for row in sweep.spectra if row["matrix"] == "jacobian"), default=1) + 2)
    ax.set_xlabel("index")
    ax.grid(True, which="major", alpha=0.3)


def summary_figure(sweep: Sweep, initialisation: str | None = None) -> Figure:
    """One page: formulations over depth, the penalty, lost signals, and which method trains."""
    from matplotlib.figure import Figure

    start, depth = _first(sweep, initialisation), _depths(sweep)[-1]
    names = _ordered(row["activation"] for row in sweep.matrices)
    smooth, lossy = names[0], _least_signal(sweep, start)
    figure = Figure(figsize=(12.0, 7.2), layout="constrained")
    (top, right), (low, last) = figure.subplots(2, 2)
    plot_depth(sweep, top, smooth, start)
    top.set_ylabel("condition number")
    top.set_title(f"(a) {smooth}, {start!r} weights{_at_penalty(sweep)}", fontsize="medium")
    top.legend(frameon=False, fontsize="x-small", ncols=2, loc="upper left")
    top.set_ylim(top=top.get_ylim()[1] * 1e2)
    plot_penalty(sweep, right, smooth, start, depth)
    right.set_ylabel("condition number")
    right.set_title(f"(b) {depth} {smooth} layers: the penalty", fontsize="medium")
    right.legend(frameon=False, fontsize="x-small")
    image = plot_products(sweep, low, lossy, start, depth)
    figure.colorbar(image, ax=low, label="log10 largest singular value", extend="both")
    low.set_title(f"(c) {depth} {lossy} layers: products $A_k \\cdots A_j$", fontsize="medium")
    plot_prediction(sweep, last)
    last.set_title("(d) rank kept at the start, and what trained from there", fontsize="medium")
    return figure


def plot_prediction(sweep: Sweep, ax: Axes) -> None:
    """Condition number against relative rank of every run, marked by which of lm and al succeeded."""
    marks = {
        (True, True): ("both train", BLUE, "o"),
        (False, True): ("only multiple shooting (al)", GREEN, "D"),
        (True, False): ("only single shooting (lm)", ORANGE, "s"),
        (False, False): ("neither", RED, "x"),
    }
    ends = {(row["run"], row["method"]): float(row["error"]) <= sweep.threshold for row in sweep.training}
    jacobians, conditions = sweep.start("jacobian", "single"), sweep.start("gauss_newton", "single")
    points: dict[tuple[bool, bool], list[tuple[float, float]]] = {}
    for run, row in jacobians.items():
        if row["rank"] and (run, "lm") in ends and (run, "al") in ends:
            share = float(row["rank"]) / min(int(row["rows"]), int(row["columns"]))
            outcome = ends[run, "lm"], ends[run, "al"]
            points.setdefault(outcome, []).append((share, float(conditions[run]["condition"])))
    for outcome, (label, color, marker) in marks.items():
        if outcome in points:
            x, y = zip(*points[outcome], strict=True)
            face = color if marker == "x" else "none"
            edges: dict[str, Any] = {"facecolors": face, "edgecolors": color} if marker != "x" else {"color": color}
            ax.scatter(x, y, marker=marker, s=36, label=f"{label} ({len(x)})", **edges)
    ax.set_yscale("log")
    ax.set_xlabel("rank of the single-shooting Jacobian / largest possible")
    ax.set_ylabel("condition number, single shooting GN")
    ax.grid(True, alpha=0.3)
    if points:
        ax.legend(frameon=False, fontsize="x-small")
    else:
        ax.text(0.5, 0.5, "no trainings in this sweep", transform=ax.transAxes, ha="center", color=GREY)


def _band(ax: Axes, rows: Sequence[Row], of: Callable[[Row], float], label: str, style: dict[str, Any]) -> None:
    """Median over runs with the same abscissa, and the range as a band; singular ones at the top."""
    values: dict[float, list[float]] = {}
    for row in rows:
        values.setdefault(of(row), []).append(min(float(row["condition"]), _SINGULAR))
    if not values:
        return
    x = np.array(sorted(values))
    ax.plot(x, [np.median(values[v]) for v in x], label=label, linewidth=1.4, **({"markersize": 5} | style))
    lows, highs = [min(values[v]) for v in x], [max(values[v]) for v in x]
    ax.fill_between(x, lows, highs, color=style["color"], alpha=0.15, linewidth=0)


def _log_axes(ax: Axes) -> None:
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    ax.set_yscale("log")
    ax.set_xscale("log")
    if ax.get_xlabel() == "hidden layers" and ax.lines:
        ax.set_xticks(np.asarray(ax.lines[0].get_xdata()), minor=False)
        ax.xaxis.set_major_formatter(ScalarFormatter())
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.minorticks_off()
    ax.grid(True, which="major", alpha=0.3)


def _panels(count: int, height: float) -> tuple[Figure, Sequence[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(3.6 * count, 6.4), height + 0.7), layout="constrained")
    return figure, figure.subplots(1, count, squeeze=False, sharey=True)[0]


def _title(figure: Figure, title: str) -> None:
    """Over the whole figure, on as many lines as its width asks for: ten characters to an inch at 12 points."""
    figure.suptitle("\n".join(textwrap.wrap(title, int(10 * figure.get_figwidth()))))


def _legend_below(figure: Figure, ax: Axes) -> None:
    handles, labels = ax.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize="small")


def _at_penalty(sweep: Sweep) -> str:
    return f"; penalty {sweep.penalties[-1]:g}" if sweep.penalties else ""


def _ordered(names: Iterable[str]) -> list[str]:
    """Without doubles, smooth activations first."""
    order = {"tanh": 0, "sigmoid": 1, "softplus": 2, "relu": 3, "identity": 4}
    return sorted(set(names), key=lambda name: order.get(name, 9))


def _first(sweep: Sweep, initialisation: str | None) -> str:
    """The initialisation to show: the one asked for, else ``standard`` if it is there."""
    names = sorted({row["initialisation"] for row in sweep.matrices})
    if initialisation is not None:
        if initialisation not in names:
            raise ValueError(f"the sweep has no {initialisation!r} weights, only {', '.join(names)}")
        return initialisation
    return "standard" if "standard" in names else names[0]


def _depths(sweep: Sweep) -> list[int]:
    return sorted({int(row["depth"]) for row in sweep.matrices})


def _widths(sweep: Sweep) -> list[int]:
    return sorted({int(row["width"]) for row in sweep.matrices})


def _least_signal(sweep: Sweep, initialisation: str) -> str:
    """The activation whose deepest network loses most of the signal."""
    deepest = [g for g in groups(sweep) if g.initialisation == initialisation and g.depth == _depths(sweep)[-1]]
    return min(deepest, key=lambda g: g.signal if np.isfinite(g.signal) else np.inf).activation


# File name: function of the tables.
FIGURES: dict[str, Callable[[Sweep], Figure]] = {
    "condition_over_depth": depth_figure,
    "condition_over_penalty": penalty_figure,
    "products": products_figure,
    "spectra": spectra_figure,
    "summary": summary_figure,
}
