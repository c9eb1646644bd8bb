"""Figures, drawn into matplotlib ``Axes`` that are passed in and handed back.

The colours are those of Okabe and Ito (Color universal design, 2008), chosen to stay apart for colour-blind readers;
every series also has its own line style or marker, so that the figures can be printed in grey.  matplotlib is imported
only when something is drawn, and its global state (pyplot, rcParams) is left alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..network import Dense, Network
from ..problem import Trajectory
from ..result import Record
from .boxes import draw_boxes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "convergence_figure",
    "layers_figure",
    "plot_convergence",
    "plot_multipliers",
    "plot_objective",
    "plot_penalty",
    "plot_predictions",
    "plot_residuals",
    "plot_states",
    "plot_weights",
    "predictions_figure",
]

Array = NDArray[np.float64]

BLUE, ORANGE, GREEN, RED, BLACK, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#000000", "#777777"

# More outputs than this would need more than a screen; the first ones are drawn.
_MAX_OUTPUTS = 4


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    return Figure(figsize=(6.4, 3.6), layout="constrained").add_subplot()


# Markers closer together than this many to a curve would merge into a band.
_MAX_MARKERS = 40


def _stride(history: Sequence[Record]) -> int:
    """Outer iterations from one marker to the next."""
    return max(1, -(-len(history) // _MAX_MARKERS))


def _line(ax: Axes, history: Sequence[Record], values: Sequence[float | None], **style: Any) -> None:
    """A curve over steps with markers at the records; what a logarithm cannot show is left out."""
    points = [(r.steps, v) for r, v in zip(history, values, strict=True) if v is not None and 0 < v < np.inf]
    if points:
        ax.plot(*zip(*points, strict=True), markersize=4, linewidth=1.4, markevery=_stride(history), **style)


def _mark_finish(ax: Axes, history: Sequence[Record]) -> None:
    """A vertical line where the phase changes for the last time."""
    changes = [b for a, b in itertools.pairwise(history) if a.phase != b.phase]
    if changes:
        ax.axvline(changes[-1].steps, color=GREY, linestyle="-.", linewidth=1.0, label=f"{changes[-1].phase} from here")


def _widen_single_value(ax: Axes) -> None:
    """A range around one value: matplotlib finds none on a logarithmic axis an ulp beside a power of ten."""
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in ax.lines])
    if values.max() <= values.min() * (1 + 1e-9):
        ax.set_ylim(values.min() / 3, values.max() * 3)


def _finish(ax: Axes, ylabel: str) -> Axes:
    if ax.lines:
        _widen_single_value(ax)
        ax.set_yscale("log")
    ax.set_ylabel(ylabel)
    ax.grid(True, which="major", alpha=0.3)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize="small")
    return ax


def plot_objective(history: Sequence[Record], ax: Axes | None = None) -> Axes:
    """The objective at the iterate and at its rollout, over steps."""
    ax = _axes(ax)
    rollout = [record.rollout_objective for record in history]
    _line(
        ax, history, rollout, color=ORANGE, linestyle="--", marker="s", label="at its rollout", markerfacecolor="none"
    )
    _line(ax, history, [record.objective for record in history], color=BLUE, marker="o", label="at the iterate")
    _mark_finish(ax, history)
    return _finish(ax, "objective J")


def plot_convergence(history: Sequence[Record], ax: Axes | None = None, tolerance: float | None = None) -> Axes:
    """The largest defect and the stationarity residual, over steps."""
    ax = _axes(ax)
    _line(ax, history, [r.max_defect for r in history], color=RED, linestyle="--", marker="v", label="largest defect")
    _line(ax, history, [r.stationarity for r in history], color=BLACK, marker="o", label="stationarity")
    if tolerance is not None:
        ax.axhline(tolerance, color=GREY, linestyle=":", linewidth=1.2, label="tolerance of stationarity")
    return _finish(ax, "residual")


def plot_penalty(history: Sequence[Record], ax: Axes | None = None) -> Axes:
    """The largest finite penalty, over steps."""
    ax = _axes(ax)
    _line(ax, history, [r.penalty for r in history], color=GREEN, marker="D", drawstyle="steps-post")
    if not ax.lines:
        ax.text(0.5, 0.5, "no finite penalty", transform=ax.transAxes, ha="center", va="center", color=GREY)
    return _finish(ax, "penalty")


def convergence_figure(history: Sequence[Record], title: str = "", tolerance: float | None = None) -> Figure:
    """Objective, residuals and penalty below each other; one marker is one outer iteration."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 7.5), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 2))
    plot_objective(history, top)
    plot_convergence(history, middle, tolerance)
    plot_penalty(history, bottom)
    stride = _stride(history)
    marker = "a marker is an outer iteration" if stride == 1 else f"markers: every {stride} outer iterations"
    bottom.set_xlabel(f"Gauss-Newton and Newton steps ({marker})")
    top.set_title(title)
    return figure


def plot_predictions(
    parts: Sequence[tuple[str, Array, Array]], ax: Axes | None = None, *, quantity: str = "target"
) -> Axes:
    """Predicted over measured values.

    Parameters
    ----------
    parts : sequence of (label, measured, predicted)
        Training part first; each array of shape (N,).
    ax : matplotlib Axes, optional
    quantity : str
        Name and unit for the axis labels.
    """
    ax = _axes(ax)
    _scatter(ax, [(label, measured, predicted) for label, measured, predicted in parts])
    values = np.concatenate([np.concatenate(part[1:]) for part in parts])
    ends = [float(values.min()), float(values.max())]
    ax.plot(ends, ends, color=BLACK, linewidth=1.0, linestyle="--", label="exact")
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_xlabel(f"measured {quantity}")
    ax.set_ylabel(f"predicted {quantity}")
    ax.legend(frameon=False, fontsize="small")
    return ax


def plot_residuals(
    parts: Sequence[tuple[str, Array, Array]], ax: Axes | None = None, *, quantity: str = "target"
) -> Axes:
    """Predicted minus measured, over predicted values; arguments as for :func:`plot_predictions`."""
    ax = _axes(ax)
    _scatter(ax, [(label, predicted, predicted - measured) for label, measured, predicted in parts])
    ax.axhline(0.0, color=BLACK, linewidth=1.0, linestyle="--")
    ax.set_xlabel(f"predicted {quantity}")
    ax.set_ylabel("predicted - measured")
    return ax


def _scatter(ax: Axes, parts: Sequence[tuple[str, Array, Array]]) -> None:
    styles = ((BLUE, "o", "none", 16), (RED, "^", RED, 26), (GREEN, "s", GREEN, 20))
    for (label, x, y), (edge, marker, face, size) in zip(parts, styles, strict=False):
        ax.scatter(
            x, y, s=size, marker=marker, edgecolors=edge, facecolors=face, linewidths=0.8, alpha=0.8, label=label
        )
    ax.grid(True, alpha=0.3)


def predictions_figure(
    parts: Sequence[tuple[str, Array, Array]], targets: Sequence[str] = ("target",), title: str = ""
) -> Figure:
    """Predictions and residuals side by side, a row for each output.

    Parameters
    ----------
    parts : sequence of (label, measured, predicted)
        Arrays of shape (N, m).
    targets : sequence of str
        Name (and unit) of each output.
    title : str
    """
    from matplotlib.figure import Figure

    shown = list(targets)[:_MAX_OUTPUTS]
    figure = Figure(figsize=(9.0, 4.2 * len(shown)), layout="constrained")
    for row, (axes, target) in enumerate(zip(figure.subplots(len(shown), 2, squeeze=False), shown, strict=True)):
        columns = [(label, measured[:, row], predicted[:, row]) for label, measured, predicted in parts]
        plot_predictions(columns, axes[0], quantity=target)
        plot_residuals(columns, axes[1], quantity=target)
    figure.suptitle(title)
    return figure


# Colour, line and marker of the samples whose states are drawn.
_SAMPLE_STYLES = ((BLUE, "-", "o"), (RED, "--", "s"), (GREEN, ":", "^"), (ORANGE, "-.", "D"))


def plot_states(trajectory: Trajectory, samples: Sequence[int] = (0, 1, 2), ax: Axes | None = None) -> Axes:
    """States through the layers: every unit as a marker, the mean over the units as a line, for a few samples.

    Parameters
    ----------
    trajectory : Trajectory
    samples : sequence of int
        Row numbers, four at most.
    ax : matplotlib Axes, optional

    Raises
    ------
    ValueError
        For more than four samples, or one that is not there.
    """
    ax = _axes(ax)
    num_samples = len(trajectory.states[0])
    if len(samples) > len(_SAMPLE_STYLES) or not all(-num_samples <= i < num_samples for i in samples):
        raise ValueError(f"samples: at most {len(_SAMPLE_STYLES)} row numbers below {num_samples}, received {samples}")
    for position, (sample, (color, line, marker)) in enumerate(zip(samples, _SAMPLE_STYLES, strict=False)):
        shift = 0.12 * (position - 0.5 * (len(samples) - 1))
        rows = [x[sample] for x in trajectory.states]
        layers = np.concatenate([np.full(len(row), k + shift) for k, row in enumerate(rows)])
        ax.scatter(
            layers, np.concatenate(rows), s=14, marker=marker, edgecolors=color, facecolors="none", linewidths=0.7
        )
        means = [float(row.mean()) for row in rows]
        ax.plot(
            np.arange(len(rows)) + shift, means, color=color, linestyle=line, linewidth=1.6, label=f"sample {sample}"
        )
    return _finish_layers(ax, "state $x_k$ (line: mean of its units)", len(trajectory.states))


def plot_multipliers(
    multipliers: Sequence[Array], ax: Axes | None = None, *, adjoints: Sequence[Array] | None = None
) -> Axes:
    """Root mean square of the multipliers layer by layer; the band holds 80 % of the samples.

    Parameters
    ----------
    multipliers : sequence of arrays (N, n_k)
        lambda_0, lambda_1, ...: ``trajectory.multipliers``.
    ax : matplotlib Axes, optional
    adjoints : sequence of arrays, optional
        The back-propagated signal to compare with; at a solution it is the same.
    """
    ax = _axes(ax)
    layers = np.arange(len(multipliers))
    sizes = [np.sqrt(np.mean(m**2, axis=1)) for m in multipliers]
    low, high = (np.array([np.quantile(size, share) for size in sizes]) for share in (0.1, 0.9))
    ax.fill_between(layers, low, high, color=BLUE, alpha=0.2, linewidth=0, label="80 % of the samples")
    _layer_curve(ax, multipliers, color=BLUE, linestyle="-", marker="o", label=r"multipliers $\lambda_k$")
    if adjoints is not None:
        style = {"color": RED, "linestyle": "--", "marker": "x", "label": "back-propagated"}
        _layer_curve(ax, adjoints[: len(multipliers)], **style)
    if any(np.any(m != 0) for m in multipliers):
        ax.set_yscale("log")
    return _finish_layers(ax, "root mean square", len(multipliers))


def _layer_curve(ax: Axes, arrays: Sequence[Array], **style: Any) -> None:
    ax.plot(range(len(arrays)), [float(np.sqrt(np.mean(a**2))) for a in arrays], markersize=5, linewidth=1.4, **style)


def plot_weights(network: Network, controls: Sequence[Array], ax: Axes | None = None) -> Axes:
    """Weights of every layer as a box (quartiles; whiskers at 5 and 95 %), its biases as triangles."""
    ax = _axes(ax)
    pairs = [
        layer.weights(u) if isinstance(layer, Dense) else (u, np.empty(0))
        for layer, u in zip(network.layers, controls, strict=True)
    ]
    draw_boxes(ax, [weight.ravel() for weight, _ in pairs], BLUE, BLACK)
    for k, (_, bias) in enumerate(pairs):
        label = "biases" if k == 0 else None
        ax.scatter(np.full(len(bias), k + 0.3), bias, s=14, marker="^", edgecolors=RED, facecolors="none", label=label)
    ax.axhline(0.0, color=GREY, linewidth=0.8)
    return _finish_layers(ax, "weights (boxes)", network.num_stages)


def _finish_layers(ax: Axes, ylabel: str, num_layers: int) -> Axes:
    stride = -(-num_layers // 20)
    ax.set_xticks(range(0, num_layers, stride))
    ax.set_xlim(-0.6, num_layers - 0.4)
    ax.set_xlabel("layer k")
    ax.set_ylabel(ylabel)
    ax.grid(True, axis="y", alpha=0.3)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize="small")
    return ax


def layers_figure(
    network: Network,
    trajectory: Trajectory,
    title: str = "",
    *,
    samples: Sequence[int] = (0, 1, 2),
    adjoints: Sequence[Array] | None = None,
) -> Figure:
    """States, multipliers and weights below each other, layer by layer."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 8.5), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1)
    plot_states(trajectory, [i for i in samples if i < len(trajectory.states[0])], top)
    if trajectory.multipliers is None:
        middle.text(0.5, 0.5, "no multipliers", transform=middle.transAxes, ha="center", va="center", color=GREY)
    else:
        plot_multipliers(trajectory.multipliers, middle, adjoints=adjoints)
    plot_weights(network, trajectory.controls, bottom)
    top.set_title(title)
    return figure
