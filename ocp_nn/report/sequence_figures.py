"""Figures of an identified model: simulation and residual, correlations with their bands, states and poles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..learning.sequence_metrics import ResidualTests
from .axes import BLACK, BLUE, GREEN, GREY, RED, log_ticks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["correlations_figure", "simulation_figure", "states_figure"]

Array = NDArray[np.float64]


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def simulation_figure(
    y: Array, simulated: Array, linear: Array, labels: Sequence[str], *, warm_up: int, part: str
) -> Figure:
    """Every output of a record, measured and simulated, with the residuals below; arrays (T, m).

    The warm-up, which told the initial state, is shaded.  A linear model that leaves the range is cut off.
    """
    figure = _figure(9.0, 3.6 * y.shape[1] + 0.4)
    axes = figure.subplots(2 * y.shape[1], 1, sharex=True, squeeze=False, height_ratios=[3, 1] * y.shape[1])[:, 0]
    for j, label in enumerate(labels):
        above, below = axes[2 * j], axes[2 * j + 1]
        above.plot(y[:, j], color=GREY, linewidth=2.6, label="measured")
        above.plot(linear[:, j], ":", color=BLUE, linewidth=1.2, label="linear model")
        above.plot(simulated[:, j], color=RED, linewidth=1.2, label="ours")
        low, high = np.nanmin(y[:, j]), np.nanmax(y[:, j])
        above.set_ylim(low - 0.3 * (high - low), high + 0.3 * (high - low))
        above.set_ylabel(label)
        below.plot(y[:, j] - simulated[:, j], color=BLACK, linewidth=0.9)
        below.set_ylabel("residual")
        for ax in (above, below):
            ax.axvspan(0, warm_up, color="0.93", zorder=0)
    axes[0].legend(frameon=False, ncols=3, fontsize=9, loc="upper right")
    axes[0].set_title(f"free run of the {part} record; shaded: the warm-up that told its initial state", fontsize=10)
    axes[-1].set_xlabel("sample")
    return figure


def correlations_figure(tests: ResidualTests, inputs: Sequence[str], outputs: Sequence[str]) -> Figure:
    """Autocorrelation of every residual, and its correlation with every input, with the bands of their tests."""
    rows: list[tuple[str, int | None, int]] = []
    for j, label in enumerate(outputs):
        rows += [(f"residual of {label}", None, j)]
        rows += [(f"residual of {label} with {name}", i, j) for i, name in enumerate(inputs)]
    figure = _figure(8.0, 2.2 * len(rows))
    for ax, (title, i, j) in zip(figure.subplots(len(rows), 1, squeeze=False)[:, 0], rows, strict=True):
        if i is None:
            lags, values, band = tests.lags[1:], tests.autocorrelation[1:, j], tests.autocorrelation_band[j]
        else:
            lags, values, band = tests.cross_lags, tests.cross_correlation[:, i, j], tests.cross_band[i, j]
        ax.axhspan(-band, band, color="0.92", zorder=0)
        ax.vlines(lags, 0, values, color=BLUE if i is None else GREEN, linewidth=2)
        ax.axhline(0, color=BLACK, linewidth=0.6)
        ax.set_title(f"{title}; {100 * tests.level:g} % band", fontsize=10)
    ax.set_xlabel("lag (samples); to the left of zero: feedback")
    return figure


def states_figure(states: Array, defects: Array, ahead: Mapping[int, Array], poles: NDArray[np.complex128]) -> Figure:
    """States (T, n) and largest defects (T - 1,) of the first training record, k-step errors, poles of the linear part.

    The k-step errors are RMSE in units of the outputs' standard deviations, the worst output's.
    """
    figure = _figure(9.0, 6.0)
    grid = figure.add_gridspec(2, 3)
    above = figure.add_subplot(grid[0, :])
    left, middle, right = (figure.add_subplot(grid[1, column]) for column in range(3))
    for j, state in enumerate(states.T):
        above.plot(state, linewidth=1.1, label=f"state {j + 1}", color=(BLUE, RED, GREEN, BLACK)[j % 4])
    above.legend(frameon=False, ncols=4, fontsize=9)
    above.set(xlabel="sample", ylabel="states", title="states of the first training record")
    left.semilogy(np.maximum(defects, 1e-18), ".", markersize=2, color=BLACK)
    left.set(xlabel="sample", ylabel="largest defect")
    if ahead:
        middle.loglog(list(ahead), [float(np.max(error)) for error in ahead.values()], "o-", color=BLUE)
        log_ticks(middle)
    middle.set(xlabel="steps ahead", ylabel="RMSE (std of the output)")
    circle = np.exp(1j * np.linspace(0, 2 * np.pi, 200))
    right.plot(circle.real, circle.imag, color=GREY, linewidth=0.8)
    right.plot(poles.real, poles.imag, "x", color=RED)
    right.set(xlabel="real", ylabel="imaginary", title="poles of the linear part")
    right.set_aspect("equal")
    return figure
