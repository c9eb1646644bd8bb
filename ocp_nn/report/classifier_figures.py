"""Figures of a classifier: which classes it takes for which, and whether its probabilities are frequencies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .axes import BLACK, BLUE, RED, make_axes, set_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["classifier_figure", "confusion", "plot_confusion", "plot_reliability", "reliability"]

Array = NDArray[np.float64]
Part = tuple[str, Array, Array]

# Intervals of probability, of equal width.
_BINS = 10

# Of a confusion matrix with more classes the counts are not written, and with more than that the classes neither.
_COUNTED, _NAMED = 15, 40
_LONGEST = 14


def confusion(y: Array, probabilities: Array) -> NDArray[np.intp]:
    """How often the class of a row is taken for that of a column: counts, (classes, classes).

    Parameters
    ----------
    y : array (N, classes)
        One 1 in every row.
    probabilities : array (N, classes)
    """
    counts = np.zeros((y.shape[1],) * 2, dtype=np.intp)
    np.add.at(counts, (y.argmax(axis=1), probabilities.argmax(axis=1)), 1)
    return counts


def reliability(y: Array, probabilities: Array) -> tuple[Array, Array, NDArray[np.intp]]:
    """Mean probability, share of true classes and number in every tenth of (0, 1) that has some, over all classes."""
    p, hit = probabilities.ravel(), y.ravel()
    tenth = np.minimum((p * _BINS).astype(int), _BINS - 1)
    number = np.bincount(tenth, minlength=_BINS)
    some = number > 0
    sums = (np.bincount(tenth, weights=values, minlength=_BINS)[some] for values in (p, hit))
    mean, share = (total / number[some] for total in sums)
    return mean, share, number[some]


def plot_confusion(y: Array, probabilities: Array, classes: Sequence[object], ax: Axes | None = None) -> Axes:
    """The :func:`confusion` of a part as a matrix, shaded by the share of a row."""
    ax = make_axes(ax)
    counts = confusion(y, probabilities)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    if len(classes) <= _COUNTED:
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if shares[row, column] > 0.5 else BLACK
            ax.text(column, row, str(count), ha="center", va="center", color=color, fontsize="small")
    if len(classes) <= _NAMED:
        names = [text if len(text := str(label)) <= _LONGEST else f"{text[: _LONGEST - 3]}..." for label in classes]
        is_long = max(map(len, names)) * len(names) > 40
        ax.set_xticks(range(len(names)), names, rotation=90 if is_long else 0)
        ax.set_yticks(range(len(names)), names)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    return ax


def plot_reliability(parts: Sequence[Part], ax: Axes | None = None) -> Axes:
    """How often a class is the true one over the probability that it was given.

    Bars on the diagonal are where calibrated probabilities would mostly lie, twice the binomial deviation either way
    (Broecker and Smith, Increasing the reliability of reliability diagrams, 2007).

    Parameters
    ----------
    parts : sequence of (label, y, probabilities)
        Training part first; arrays (N, classes).
    ax : matplotlib Axes, optional
    """
    ax = make_axes(ax)
    ax.plot([0, 1], [0, 1], color=BLACK, linewidth=1.0, linestyle="--", label="calibrated")
    styles: tuple[dict[str, Any], ...] = ({"color": BLUE, "marker": "o", "markerfacecolor": "none"},
                                          {"color": RED, "marker": "^"})  # fmt: skip
    for (label, y, probabilities), style in zip(parts, styles, strict=False):
        mean, share, number = reliability(y, probabilities)
        scatter = 2.0 * np.sqrt(mean * (1.0 - mean) / number)
        low, high = np.maximum(mean - scatter, 0.0), np.minimum(mean + scatter, 1.0)
        ax.vlines(mean, low, high, color=style["color"], linewidth=4.0, alpha=0.2)
        ax.plot(mean, share, linewidth=1.2, markersize=5, label=label, **style)
    ax.set_xlim(-0.03, 1.03)
    ax.set_ylim(-0.03, 1.03)
    ax.set_xlabel("probability given to a class")
    ax.set_ylabel("share of samples of that class")
    ax.grid(True, alpha=0.3)
    ax.legend(frameon=False, fontsize="small", title="bars: scatter if calibrated", title_fontsize="x-small")
    return ax


def classifier_figure(parts: Sequence[Part], classes: Sequence[object], title: str = "") -> Figure:
    """The confusion matrix of the last part beside the reliability diagram of all; arguments as above."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    label, y, probabilities = parts[-1]
    plot_confusion(y, probabilities, classes, left)
    left.set_title(f"{label} part: {len(y)} samples", fontsize="medium")
    plot_reliability(parts, right)
    set_title(figure, title)
    return figure
