"""Holding samples out, and what a trained network costs there: by the loss that it was trained on.

Squares are judged by their root mean square error, in the units of the targets; every other loss by its mean (for
labels the log loss, for counts half the mean deviance).  Sample weights weigh here too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..problem.losses import Logistic, Loss, Softmax, Squared
from ..problem.training import TrainingProblem
from .data import Split, random_split

__all__ = ["Errors", "mean_error", "sample_errors", "split_samples"]

Array = NDArray[np.float64]

# The errors of samples, (N,) or (N, outputs), and the samples' weights, (N,) or None.
Errors = tuple[Array, Array | None]


def split_samples(problem: TrainingProblem, share: float, seed: int) -> Split:
    """A random split; where the loss is one of labels, every class has its share on either side, to one sample.

    Raises
    ------
    DataError
        For a share outside (0, 1) or fewer than two samples.
    """
    split = random_split(problem.num_samples, share, seed)
    if not isinstance(problem.loss, Logistic | Softmax):
        return split
    labels = np.unique(problem.y, axis=0, return_inverse=True)[1].ravel()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    # class by class, every so many-th sample, from a random one on
    ranks = np.arange(len(labels) + 1) * (len(split.test) / len(labels)) + rng.uniform()
    held_out = np.diff(np.floor(ranks)) > 0
    return Split(np.sort(order[~held_out]), np.sort(order[held_out]))


def sample_errors(problem: TrainingProblem, controls: Sequence[Array]) -> Errors:
    """Squared errors, or losses, of the problem's samples."""
    output = problem.network.predict(controls, problem.x)
    if not isinstance(problem.loss, Squared):
        with np.errstate(over="ignore", invalid="ignore"):
            return problem.loss.values(output, problem.y), problem.sample_weight
    squares = (output - problem.y) ** 2
    return (squares, None) if problem.sample_weight is None else (squares.mean(axis=1), problem.sample_weight)


def mean_error(loss: Loss, parts: Sequence[Errors]) -> float:
    """Root mean square for squares, else the mean; over all samples of all parts, infinite where it overflows."""
    values = np.concatenate([errors for errors, _ in parts])
    weights = [weight for _, weight in parts if weight is not None]
    mean = float(np.average(values, weights=np.concatenate(weights) if weights else None))
    if isinstance(loss, Squared):
        return float(np.sqrt(mean))
    return np.inf if np.isnan(mean) else mean
