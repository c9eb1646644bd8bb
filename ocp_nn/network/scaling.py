"""Standardising columns: subtract the mean, divide by the standard deviation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import checks, display

__all__ = ["LARGEST", "Scaler"]

Array = NDArray[np.float64]

# A standard deviation below this share of the mean is rounding, not variation: such a column is constant.
_ROUNDING = 10 * np.finfo(float).eps

# The mean of a long column of large numbers is itself rounded; a share of the deviation that is worth correcting.
_OFF_CENTRE = 1e-6

# The smallest number above zero.
_DENORMAL = float(np.finfo(float).smallest_subnormal)

# Columns that are standardised stay below this: their range, and predictions well outside it, are then finite numbers.
LARGEST = 1e300


@dataclass(frozen=True, eq=False)
class Scaler:
    """The affine map t -> (t - mean) / scale, column by column.

    Fit it on the training part only.  A column that is constant *there* (a rare category, say) has its level as scale,
    or 1 if it is zero: it maps to zero instead of to infinity, its rounding too, in whatever unit it is given.

    Attributes
    ----------
    mean, scale : array, shape (columns,)
    """

    mean: Array
    scale: Array

    __repr__ = display.brief

    def __post_init__(self) -> None:
        for name in ("mean", "scale"):
            object.__setattr__(self, name, checks.real_array(name, getattr(self, name)))
            checks.check_finite(name, getattr(self, name))
        if self.mean.ndim != 1 or self.mean.shape != self.scale.shape:
            raise ValueError(
                f"mean and scale must be vectors of equal length, received {self.mean.shape} and {self.scale.shape}"
            )
        if not (self.scale > 0).all():
            raise ValueError(f"scale must be positive, received {self.scale.min()}")

    @classmethod
    def fit(cls, table: ArrayLike, weights: Array | None = None) -> Scaler:
        """Mean and (population) standard deviation of the columns of an (N, columns) table.

        Parameters
        ----------
        table : array_like, shape (N, columns)
        weights : array, shape (N,), optional
            Positive numbers: how often every row counts.

        Raises
        ------
        ValueError
            For a table of another shape or without rows, values that are not finite, or values beyond 1e300.
        """
        table = checks.table("table", table)
        if len(table) == 0:
            raise ValueError(
                f"a scaler is fitted on a table (N, columns) with at least one row, received {table.shape}"
            )
        largest = np.abs(table).max(axis=0)
        _check_size(largest)
        # by powers of two, which are exact: sums and squares then neither overflow nor underflow
        exponent = np.frexp(largest)[1]
        mean, deviation = _moments(np.ldexp(table, -exponent), weights)
        mean, deviation = np.ldexp(mean, exponent), np.maximum(np.ldexp(deviation, exponent), _DENORMAL)
        same = table.min(axis=0) == table.max(axis=0)
        mean = np.where(same, table[0], mean)
        level = np.abs(mean)
        constant = same | (deviation <= _ROUNDING * level)
        return cls(mean, np.where(constant, np.where(level > 0, level, 1.0), deviation))

    def transform(self, table: ArrayLike) -> Array:
        """Into standard units.

        Raises
        ------
        ValueError
            For a table of another shape, or a value that is no finite number, here or in standard units.
        """
        table = checks.table("table", table, len(self.mean))
        with np.errstate(over="ignore", invalid="ignore"):
            scaled: Array = (table - self.mean) / self.scale
        if lost := np.argwhere(np.isinf(scaled)).tolist():
            row, column = lost[0]
            raise ValueError(
                f"row {row}, column {column}: {table[row, column]:g} is too far from the mean {self.mean[column]:g} to "
                f"be expressed in standard deviations of {self.scale[column]:g}"
            )
        return scaled

    def inverse(self, table: ArrayLike) -> Array:
        """Back into the columns' own units; what these cannot hold becomes infinite."""
        table = checks.real_array("table", table)
        if table.ndim != 2 or table.shape[1] != len(self.mean):
            raise ValueError(f"expected a table of shape (N, {len(self.mean)}), received {table.shape}")
        with np.errstate(over="ignore", invalid="ignore"):
            original: Array = table * self.scale + self.mean
        return original


def _check_size(largest: Array) -> None:
    for column, value in enumerate(largest):
        if not value <= LARGEST:
            raise ValueError(
                f"column {column}: finite values up to {LARGEST:g} in magnitude can be standardised, received {value:g}"
            )


def _moments(table: Array, weights: Array | None) -> tuple[Array, Array]:
    """Mean and standard deviation, the mean corrected where its own rounding shows beside the deviation."""

    def average(values: Array) -> Array:
        # NumPy's average is no mean of a table without columns
        return np.asarray(values.mean(axis=0) if weights is None else np.average(values, axis=0, weights=weights))

    mean = average(table)
    off = average(table - mean)
    deviation = np.sqrt(average((table - mean) ** 2))
    if not (rounded := np.abs(off) > _OFF_CENTRE * deviation).any():
        return mean, deviation
    mean = np.where(rounded, mean + off, mean)
    return mean, np.sqrt(average((table - mean) ** 2))
