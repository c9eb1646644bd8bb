"""Figures, drawn into matplotlib ``Axes`` that are passed in and handed back.

matplotlib is imported only when something is drawn, and its global state (pyplot, rcParams) is left alone.  Colours and
axes are those of :mod:`.axes`; what is drawn layer by layer is in :mod:`.layer_figures`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..problem.record import Record
from .axes import BLACK, BLUE, GREEN, GREY, ORANGE, RED, log_ticks, make_axes, set_title
from .phases import ELIMINATED, phase_line, phases

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "BLACK",
    "BLUE",
    "GREEN",
    "GREY",
    "ORANGE",
    "RED",
    "convergence_figure",
    "plot_convergence",
    "plot_objective",
    "plot_penalty",
    "plot_predictions",
    "plot_residuals",
    "predictions_figure",
]

Array = NDArray[np.float64]

# More outputs than this would need more than a screen; the first ones are drawn.
_MAX_OUTPUTS = 4


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


def _eliminated_stretches(history: Sequence[Record]) -> Iterator[tuple[int, int]]:
    """First and last step of every stretch of iterations in which all states are eliminated."""
    begin, before = None, 0
    for record in history:
        if record.phase in ELIMINATED and begin is None:
            begin = before
        elif record.phase not in ELIMINATED and begin is not None:
            yield begin, before
            begin = None
        before = record.steps
    if begin is not None:
        yield begin, before


def _mark_finish(ax: Axes, history: Sequence[Record]) -> None:
    """A band where the states are eliminated, and a line where that begins: after the last step with states."""
    if "augmented Lagrangian" not in phases(history):
        return
    for number, (begin, end) in enumerate(_eliminated_stretches(history)):
        label = None if number else "single shooting from here"
        ax.axvspan(begin, end, color=GREY, alpha=0.12, linewidth=0)
        ax.axvline(begin, color=GREY, linestyle="-.", linewidth=1.0, label=label)


def _widen_single_value(ax: Axes) -> None:
    """A range around one value: matplotlib finds none on a logarithmic axis an ulp beside a power of ten."""
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in ax.lines if _has_values(line)])
    if values.max() <= values.min() * (1 + 1e-9):
        ax.set_ylim(values.min() / 3, values.max() * 3)


def _has_values(line: Any) -> bool:
    """Whether a line has values of its own: a vertical one across the axes has not."""
    return line.get_transform() == line.axes.transData


def _finish(ax: Axes, ylabel: str) -> Axes:
    if ax.lines:
        _widen_single_value(ax)
        ax.set_yscale("log")
        log_ticks(ax)
    ax.set_ylabel(ylabel)
    ax.grid(True, which="major", alpha=0.3)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize="small")
    return ax


def _mark_start(ax: Axes, history: Sequence[Record]) -> None:
    """The value of J where the solve began, if the history has it."""
    for record in history[:1]:
        if record.iteration == 0 and 0 < record.objective < np.inf:
            style: dict[str, Any] = {"marker": "*", "markersize": 11, "color": BLACK, "linestyle": "none", "zorder": 3}
            ax.plot([record.steps], [record.objective], label=f"start: J = {record.objective:.4g}", **style)


def plot_objective(history: Sequence[Record], ax: Axes | None = None) -> Axes:
    """The objective at the iterate and at its rollout, over steps."""
    ax = make_axes(ax)
    rollout = [record.rollout_objective for record in history]
    _line(
        ax, history, rollout, color=ORANGE, linestyle="--", marker="s", label="at its rollout", markerfacecolor="none"
    )
    _line(ax, history, [record.objective for record in history], color=BLUE, marker="o", label="at the iterate")
    _mark_start(ax, history)
    _mark_finish(ax, history)
    return _finish(ax, "objective J")


def plot_convergence(history: Sequence[Record], ax: Axes | None = None, tolerance: float | None = None) -> Axes:
    """The largest defect and the stationarity residual, over steps."""
    ax = make_axes(ax)
    _line(ax, history, [r.max_defect for r in history], color=RED, linestyle="--", marker="v", label="largest defect")
    _line(ax, history, [r.stationarity for r in history], color=BLACK, marker="o", label="stationarity")
    if tolerance is not None:
        ax.axhline(tolerance, color=GREY, linestyle=":", linewidth=1.2, label="tolerance of stationarity")
    return _finish(ax, "residual")


def plot_penalty(history: Sequence[Record], ax: Axes | None = None) -> Axes:
    """The largest finite penalty, over steps."""
    ax = make_axes(ax)
    _line(ax, history, [r.penalty for r in history], color=GREEN, marker="D", drawstyle="steps-post")
    if not ax.lines:
        ax.text(0.5, 0.5, "no finite penalty", transform=ax.transAxes, ha="center", va="center", color=GREY)
    return _finish(ax, "penalty")


def convergence_figure(history: Sequence[Record], title: str = "", tolerance: float | None = None) -> Figure:
    """Objective, residuals and penalty below each other; one marker is one outer iteration.

    A history with the start in front (:func:`.phases.with_start`) shows what J was before the first step.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 7.5), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 2))
    plot_objective(history, top)
    plot_convergence(history, middle, tolerance)
    plot_penalty(history, bottom)
    stride = _stride(history)
    marker = "a marker is an outer iteration" if stride == 1 else f"markers: every {stride} outer iterations"
    bottom.set_xlabel(f"Gauss-Newton and Newton steps ({marker})")
    top.set_title(phase_line(history), fontsize="small", wrap=True)
    set_title(figure, title)
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
    ax = make_axes(ax)
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
    ax = make_axes(ax)
    _scatter(ax, [(label, predicted, predicted - measured) for label, measured, predicted in parts])
    ax.axhline(0.0, color=BLACK, linewidth=1.0, linestyle="--")
    ax.set_xlabel(f"predicted {quantity}")
    ax.set_ylabel(f"predicted - measured {quantity}")
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
    left_out = f" (the first {len(shown)} of {len(targets)} outputs)" if len(shown) < len(targets) else ""
    set_title(figure, f"{title}{left_out}")
    return figure
