"""What people look at: tables, figures and files made from results.  Solvers know nothing of this."""

from __future__ import annotations

from .collapse import collapsed_units
from .environment import environment, environment_line
from .figures import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    convergence_figure,
    plot_convergence,
    plot_objective,
    plot_penalty,
    plot_predictions,
    plot_residuals,
    predictions_figure,
)
from .files import atomic_write, write_figure, write_history, write_json
from .layer_figures import layers_figure, plot_multipliers, plot_states, plot_weights
from .live import LiveHistory
from .phases import phase_line, phases, with_start
from .summary import Fit, final_table, summarize, write_fit
from .tables import format_number, history_header, history_row, problem_line, shape_text
from .text_table import format_table
from .uncertainty_figures import plot_bands, plot_coverage, plot_selection

__all__ = [
    "BLACK",
    "BLUE",
    "GREEN",
    "GREY",
    "ORANGE",
    "RED",
    "Fit",
    "LiveHistory",
    "atomic_write",
    "collapsed_units",
    "convergence_figure",
    "environment",
    "environment_line",
    "final_table",
    "format_number",
    "format_table",
    "history_header",
    "history_row",
    "layers_figure",
    "phase_line",
    "phases",
    "plot_bands",
    "plot_convergence",
    "plot_coverage",
    "plot_multipliers",
    "plot_objective",
    "plot_penalty",
    "plot_predictions",
    "plot_residuals",
    "plot_selection",
    "plot_states",
    "plot_weights",
    "predictions_figure",
    "problem_line",
    "shape_text",
    "summarize",
    "with_start",
    "write_figure",
    "write_fit",
    "write_history",
    "write_json",
]
