"""What people look at: tables, figures and files made from results.  Solvers know nothing of this."""

from __future__ import annotations

from .environment import environment, environment_line
from .figures import (
    convergence_figure,
    plot_convergence,
    plot_objective,
    plot_penalty,
    plot_predictions,
    plot_residuals,
    predictions_figure,
)
from .files import atomic_write, write_figure, write_history, write_json, write_model
from .tables import format_number, format_table, history_header, history_row, problem_line

__all__ = [
    "atomic_write",
    "convergence_figure",
    "environment",
    "environment_line",
    "format_number",
    "format_table",
    "history_header",
    "history_row",
    "plot_convergence",
    "plot_objective",
    "plot_penalty",
    "plot_predictions",
    "plot_residuals",
    "predictions_figure",
    "problem_line",
    "write_figure",
    "write_history",
    "write_json",
    "write_model",
]
