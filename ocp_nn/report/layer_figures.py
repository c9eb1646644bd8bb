"""Figures layer by layer: states, multipliers and weights of a trajectory, and units that are collapsed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..network.layers import Dense
from ..network.network import Network
from ..problem.trajectory import Trajectory
from .axes import BLACK, BLUE, GREEN, GREY, ORANGE, RED, log_ticks, make_axes, set_title
from .boxes import draw_boxes
from .collapse import Collapse, collapse_line, collapsed_units

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["layers_figure", "plot_multipliers", "plot_states", "plot_weights"]

Array = NDArray[np.float64]

# Colour, line and marker of the samples whose states are drawn.
_SAMPLE_STYLES = ((BLUE, "-", "o"), (RED, "--", "s"), (GREEN, ":", "^"), (ORANGE, "-.", "D"))


def plot_states(trajectory: Trajectory, samples: Sequence[int] = (0, 1, 2), ax: Axes | None = None) -> Axes:
    """States through the layers: every unit as a marker, the mean over the units as a line, for a few samples.

    Units that are constant over all samples, or copies of others, are named above (:mod:`.collapse`).

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
    ax = make_axes(ax)
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
    _mark_collapsed(ax, trajectory.states, collapsed_units(trajectory.states))
    return _finish_layers(ax, "state $x_k$ (line: mean of its units)", len(trajectory.states))


def _mark_collapsed(ax: Axes, states: Sequence[Array], layers: Sequence[Collapse]) -> None:
    """Crosses at units that are constant over all samples, and in words which units carry nothing of their own."""
    if not layers:
        return
    points = [(layer.layer + 0.3, float(states[layer.layer][:, j].mean())) for layer in layers for j in layer.constant]
    if points:
        label = f"constant over the samples ({len(points)})"
        layer, value = zip(*points, strict=True)
        ax.scatter(layer, value, s=28, marker="x", color=BLACK, linewidths=1.2, label=label)
    ax.set_title(f"collapsed units: {collapse_line(layers)}", fontsize="small", wrap=True)


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
    ax = make_axes(ax)
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
        log_ticks(ax)
    return _finish_layers(ax, "root mean square", len(multipliers))


def _layer_curve(ax: Axes, arrays: Sequence[Array], **style: Any) -> None:
    ax.plot(range(len(arrays)), [float(np.sqrt(np.mean(a**2))) for a in arrays], markersize=5, linewidth=1.4, **style)


def plot_weights(network: Network, controls: Sequence[Array], ax: Axes | None = None) -> Axes:
    """Weights of every layer as a box (quartiles; whiskers at 5 and 95 %), its biases as triangles."""
    ax = make_axes(ax)
    pairs = [
        layer.weights(u) if isinstance(layer, Dense) else (u, np.empty(0))
        for layer, u in zip(network.layers, network.of_layers(controls), strict=True)
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
    set_title(figure, title)
    return figure
