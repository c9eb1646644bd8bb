"""Figures of uncertainty: bands around a fit, how often intervals hold, and how a weight decay was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from ..base import checks
from ..learning.selection import Selection
from .axes import BLACK, BLUE, GREEN, GREY, ORANGE, RED, make_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_bands", "plot_coverage", "plot_selection"]

Array = NDArray[np.float64]

# Deviations on either side of a band: 90 % of a normal variable.
_REACH = float(special.ndtri(0.95))

_SELECTION = checks.instance(Selection, "an ocp_nn.learning.selection.Selection")


def plot_bands(
    x: ArrayLike,
    mean: ArrayLike,
    std: ArrayLike,
    noise_std: float = 0.0,
    ax: Axes | None = None,
    *,
    samples: tuple[ArrayLike, ArrayLike] | None = None,
) -> Axes:
    """A prediction over one input with its 90 % bands: of the function, and lighter of new targets.

    Parameters
    ----------
    x, mean, std : array_like, shape (M,)
        In the order of x.
    noise_std : float
        Of the targets.
    ax : matplotlib Axes, optional
    samples : pair of array_like, shape (N,), optional
        Inputs and targets of the training samples.

    Raises
    ------
    ValueError
        For arrays of different lengths.
    """
    ax = make_axes(ax)
    x, mean, std = (np.ravel(checks.real_array(name, v)) for name, v in (("x", x), ("mean", mean), ("std", std)))
    if not len(x) == len(mean) == len(std):
        raise ValueError(f"x, mean and std must have one length, received {len(x)}, {len(mean)} and {len(std)}")
    for deviation, alpha, label in ((np.hypot(std, noise_std), 0.15, "new targets"), (std, 0.35, "the function")):
        ends = mean - _REACH * deviation, mean + _REACH * deviation
        ax.fill_between(x, *ends, color=BLUE, alpha=alpha, linewidth=0.0, label=f"90 % of {label}")
    ax.plot(x, mean, color=BLUE, linewidth=1.5, label="network")
    if samples is not None:
        inputs, targets = (np.ravel(checks.real_array("samples", part)) for part in samples)
        ax.plot(inputs, targets, "o", color=BLACK, markersize=3.5, markerfacecolor="none", label="training samples")
    ax.set_xlabel("input")
    ax.set_ylabel("output")
    ax.grid(True, alpha=0.3)
    ax.legend(frameon=False, fontsize="small")
    return ax


def plot_coverage(parts: Sequence[tuple[str, ArrayLike, ArrayLike, ArrayLike]], ax: Axes | None = None) -> Axes:
    """How many targets central intervals hold, over how many they should.

    The grey band is where honest intervals would mostly lie, twice the binomial deviation of the first part.

    Parameters
    ----------
    parts : sequence of (label, y, mean, deviation)
        Targets, predictions and standard deviations with the noise in them, (N,) each.
    ax : matplotlib Axes, optional

    Raises
    ------
    ValueError
        For arrays of different lengths.
    """
    ax = make_axes(ax)
    wanted = np.linspace(0.02, 0.98, 49)
    reach = special.ndtri(0.5 + wanted / 2)
    styles: tuple[dict[str, Any], ...] = tuple(
        {"color": color, "linestyle": line} for color, line in ((BLUE, "-"), (RED, "--"), (GREEN, "-."), (ORANGE, ":"))
    )
    for place, ((label, y, mean, deviation), style) in enumerate(zip(parts, styles, strict=False)):
        y, mean, deviation = (np.ravel(checks.real_array(label, part)) for part in (y, mean, deviation))
        if not len(y) == len(mean) == len(deviation):
            raise ValueError(
                f"{label}: expected arrays of one length, received {len(y)}, {len(mean)}, {len(deviation)}"
            )
        if place == 0:
            scatter = 2 * np.sqrt(wanted * (1 - wanted) / len(y))
            ax.fill_between(wanted, wanted - scatter, wanted + scatter, color=GREY, alpha=0.2, linewidth=0.0)
        inside = np.abs(y - mean)[:, None] <= deviation[:, None] * reach
        ax.plot(wanted, inside.mean(axis=0), linewidth=1.5, label=label, **style)
    ax.plot([0, 1], [0, 1], color=BLACK, linewidth=0.8)
    ax.set_xlabel("share of targets that intervals are to hold")
    ax.set_ylabel("share that they hold")
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.grid(True, alpha=0.3)
    ax.legend(frameon=False, fontsize="small")
    return ax


def plot_selection(selection: Selection, ax: Axes | None = None) -> Axes:
    """Log evidence, or held-out error, over the weight decays that were tried."""
    checks.check("selection", selection, _SELECTION)
    ax = make_axes(ax)
    values = np.array(selection.log_evidence or selection.errors)
    chosen = selection.candidates.index(selection.weight_decay)
    ax.plot(selection.candidates, values, color=BLUE, marker="o", markersize=4, markerfacecolor="none")
    ax.plot(
        selection.weight_decay,
        values[chosen],
        "o",
        color=RED,
        markersize=7,
        label=f"chosen: {selection.weight_decay:g}",
    )
    ax.set_xscale("log")
    ax.set_xlabel("weight decay")
    ax.set_ylabel("log evidence" if selection.log_evidence else "error on held-out samples")
    ax.grid(True, alpha=0.3)
    ax.legend(frameon=False, fontsize="small")
    return ax
