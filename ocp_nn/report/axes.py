"""What figures share: colours, axes to draw into, titles that fit, and logarithmic axes whose ticks can be read.

The colours are those of Okabe and Ito (Color universal design, 2008), chosen to stay apart for colour-blind readers;
every series also has its own line style or marker, so that the figures can be printed in grey.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["BLACK", "BLUE", "GREEN", "GREY", "ORANGE", "PINK", "RED", "log_ticks", "make_axes", "set_title"]

BLUE, ORANGE, GREEN, RED, BLACK, GREY, PINK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#000000", "#777777", "#CC79A7"
)  # fmt: skip

# Characters of a title to an inch: matplotlib's font at 12 points is about 0.095 inches a character wide.
_CHARACTERS = 10.0


def make_axes(ax: Axes | None) -> Axes:
    """The axes passed in, or some in a figure of their own."""
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    return Figure(figsize=(6.4, 3.6), layout="constrained").add_subplot()


def set_title(figure: Figure, title: str) -> None:
    """A title over the whole figure, on as many lines as its width asks for."""
    width = int(_CHARACTERS * figure.get_figwidth())
    figure.suptitle("\n".join(textwrap.wrap(title, width)) if title else "")


def log_ticks(ax: Axes, axis: str = "y") -> None:
    """Ticks of a logarithmic axis as plain numbers where they are handy, and never fewer than two of them.

    To be called when everything is drawn: below 0.8 decades (which hold two of 1, 2 and 5 for certain) the ticks are
    those of a linear axis, up to three decades 1, 2 and 5 in each, beyond that powers of ten.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

    shown = ax.yaxis if axis == "y" else ax.xaxis
    low, high = sorted(ax.get_ylim() if axis == "y" else ax.get_xlim())
    decades = np.log10(high / low)
    locator: Any = MaxNLocator(5) if decades < 0.8 else LogLocator(subs=(1.0, 2.0, 5.0) if decades < 3 else (1.0,))
    shown.set_major_locator(locator)
    shown.set_major_formatter(FuncFormatter(lambda value, _: _tick_label(value)))
    shown.set_minor_formatter(NullFormatter())
    if decades < 0.8:
        shown.set_minor_locator(NullLocator())


def _tick_label(value: float) -> str:
    if not value > 0 or 1e-3 <= value < 1e5:
        return f"{value:g}"
    exponent = int(np.floor(np.log10(value) + 1e-9))
    mantissa = f"{value / 10.0**exponent:g}"
    return f"$10^{{{exponent}}}$" if mantissa == "1" else f"${mantissa} \\times 10^{{{exponent}}}$"
