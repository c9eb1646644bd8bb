"""The yardstick below every network: what linear least squares makes of the data, and whether more is to be had.

A network whose bending terms have died out is a straight line, and often a minimum: the residual of linear least
squares is orthogonal to the constant and to the inputs, so small bending terms gain less than their weight decay costs.
Such an end is recognised by its sum of squares, weight decay left out on both sides: it is paid for weights, and the
same line costs a deep network more of it than a regression.

Whether the data bend at all is asked of a ridge regression on random features, judged by generalised cross-validation
(Golub, Heath and Wahba 1979), ||r||^2 / (N - degrees of freedom)^2.  The features, beside the line, are tanh units of
one to three inputs each, with random directions and centres at samples: real data bend in few inputs at a time.  The
ridge is the weight decay or more, so where that is so strong that nothing can bend, the answer is no.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["StraightLine"]

Array = NDArray[np.float64]

# Random features, their inputs at most, samples they are fitted to at most, and slope in standard deviations.
_FEATURES, _INPUTS, _SAMPLES, _GAIN = 100, 3, 1000, 2.0

# Ridges that are tried, relative to the number of samples.
_RIDGES = np.geomspace(1e-4, 1e2, 13)

# The data bend where features lower the score by this part, and by this many samples' share: chance does that in less
# than one of twenty sets of noise along a line, of 20 to 1000 samples.
_CLEARLY, _CLEARLY_SAMPLES = 0.05, 10

# A network is better than a line where it leaves less than this part of the line's sum of squares.
_NO_BETTER = 0.99

# Part of the targets' sum of squares below which residuals are rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class StraightLine:
    """Linear least squares with an intercept on training data; everything is computed when first asked for.

    Attributes
    ----------
    x, y : ndarray, shapes (N, inputs) and (N, outputs)
    weight_decay : float
        Of the networks that are compared; the line itself has none.
    """

    x: Array
    y: Array
    weight_decay: float

    @cached_property
    def mean_objective(self) -> float:
        """1/2 ||y - mean(y)||^2."""
        with np.errstate(over="ignore", invalid="ignore"):
            return 0.5 * float(np.sum((self.y - self.y.mean(axis=0)) ** 2))

    @cached_property
    def objective(self) -> float:
        """1/2 ||y - W x - b||^2 at its minimum; infinite where floating point does not find it."""
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                residual = _residual(_basis(self.x), self.y)
                value = 0.5 * float(np.vdot(residual, residual))
        except np.linalg.LinAlgError:
            return np.inf
        return value if np.isfinite(value) else np.inf

    @cached_property
    def bends(self) -> bool:
        """Whether a regression on random features of x clearly does better than the line on samples left out."""
        if not _ROUNDING * self.mean_objective < self.objective < np.inf:
            return False
        rng = np.random.default_rng(0)
        rows = np.sort(rng.permutation(len(self.x))[:_SAMPLES])
        x, y = self.x[rows], self.y[rows]
        least_ridge = self.weight_decay * len(rows) / len(self.x)
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                ratio = _score_ratio(x, y, _random_features(x, rng), least_ridge)
        except np.linalg.LinAlgError:
            return False
        return ratio < 1.0 - max(_CLEARLY, _CLEARLY_SAMPLES / len(rows))

    def squares(self, objective: float, controls: Sequence[Array]) -> float:
        """1/2 ||r||^2 of a network, from its J and its controls: weight decay left out."""
        with np.errstate(over="ignore", invalid="ignore"):
            return objective - 0.5 * self.weight_decay * sum(float(u @ u) for u in controls)

    def matches(self, squares: float) -> bool:
        """Whether a network with this 1/2 ||r||^2 explains the targets no better than the line."""
        return squares >= _NO_BETTER * self.objective

    def share_explained(self, squares: float) -> float:
        """R^2: the part of the targets' variance that a model with this 1/2 ||r||^2 explains."""
        return 1.0 - squares / self.mean_objective


def _basis(x: Array) -> Array:
    """Orthonormal columns that span the constant and the inputs."""
    scale = np.abs(x).max(axis=0)
    columns = np.column_stack([np.ones(len(x)), x / np.where(scale > 0, scale, 1.0)])
    left, values, _ = np.linalg.svd(columns, full_matrices=False)
    return left[:, values > len(x) * np.finfo(float).eps * values[0]]


def _residual(basis: Array, columns: Array) -> Array:
    return columns - basis @ (basis.T @ columns)


def _random_features(x: Array, rng: np.random.Generator) -> Array:
    """tanh units of the standardised inputs, (N, features)."""
    scale = x.std(axis=0)
    standard = (x - x.mean(axis=0)) / np.where(scale > 0, scale, 1.0)
    directions = np.zeros((x.shape[1], _FEATURES))
    for j in range(_FEATURES):
        chosen = rng.permutation(x.shape[1])[: 1 + j % _INPUTS]
        direction = rng.standard_normal(len(chosen))
        directions[chosen, j] = direction / np.linalg.norm(direction)
    centres = standard[rng.integers(len(x), size=_FEATURES)]
    return np.tanh(_GAIN * (standard @ directions - np.sum(centres.T * directions, axis=0)))


def _score_ratio(x: Array, y: Array, features: Array, least_ridge: float) -> float:
    """The best score of line and features together over the line's; 1 where there are too few samples to tell."""
    basis = _basis(x)
    free = len(x) - basis.shape[1]
    if free < 1:
        return 1.0
    residual = _residual(basis, y)
    features = _residual(basis, features)
    values, vectors = np.linalg.eigh(features.T @ features)
    parts = np.sum((vectors.T @ (features.T @ residual)) ** 2, axis=1)
    shifted = values + np.maximum(_RIDGES * len(x), least_ridge)[:, None]
    kept = values / shifted
    line = float(np.vdot(residual, residual))
    squares = line - np.sum((2.0 - kept) * parts / shifted, axis=1)
    ratios = squares / line * (free / (free - np.sum(kept, axis=1))) ** 2
    return float(np.min(ratios))
