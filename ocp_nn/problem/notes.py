"""What a reader should know of a result beside its status, in plain sentences.

A status is about optimisation: the point is stationary, or it is not.  Whether the network has learned anything is
another question, and these sentences answer it from the training data alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .optimal_control import OptimalControlProblem
from .training import TrainingProblem

__all__ = ["notes_on"]

Array = NDArray[np.float64]

# R^2 below which a network is no better than the mean; targets whose sum of squares is this much above that of their
# deviations do not vary beyond rounding.
_AT_MEAN, _CONSTANT = 0.01, 1e-24


def notes_on(problem: OptimalControlProblem, controls: Sequence[Array], objective: float) -> tuple[str, ...]:
    """Sentences on a trained network; none where it explains the targets better than linear least squares, or where
    the loss is another one than plain squares.

    Parameters
    ----------
    problem : OptimalControlProblem
    controls : sequence of K arrays
    objective : float
        J at their rollout.
    """
    if not isinstance(problem, TrainingProblem) or not problem.data.is_squares:
        return ()
    line = problem.line
    squares = line.squares(objective, controls)
    with np.errstate(over="ignore"):
        varies = _CONSTANT * float(np.vdot(problem.y, problem.y)) < line.mean_objective < np.inf
    if problem.network.is_affine or not (varies and np.isfinite(squares) and line.matches(squares)):
        return ()
    explained, linear = (_r2(line.share_explained(value)) for value in (squares, line.objective))
    if line.share_explained(squares) < _AT_MEAN:
        return (
            f"The network explains the targets no better than their mean does (R2 {explained}; linear least squares "
            f"{linear}); another seed, another initialisation or less weight decay may.",
        )
    if line.bends:
        advice = "random features of the inputs do, so another seed, another initialisation or less weight decay may."
    else:
        advice = "nor do random features of the inputs, so the data may be linear, or the weight decay too strong."
    return (
        f"The network explains the targets no better than linear least squares (R2 {explained} against {linear}); "
        f"{advice}",
    )


def _r2(value: float) -> str:
    return f"{round(value, 3) + 0.0:.3f}"  # without the sign of -0.000
