"""Standardising columns: subtract the mean, divide by the standard deviation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import checks, display

__all__ = ["Scaler"]

Array = NDArray[np.float64]

# A standard deviation below this share of the mean is rounding, not variation: such a column is only centred.
_ROUNDING = 10 * np.finfo(float).eps


@dataclass(frozen=True, eq=False)
class Scaler:
    """The affine map t -> (t - mean) / scale, column by column.

    Fit it on the training part only.  A column that is constant *there* (a rare category, say) keeps scale 1, so that
    it maps to zero instead of to infinity.

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
    def fit(cls, table: ArrayLike) -> Scaler:
        """Mean and (population) standard deviation of the columns of an (N, columns) table."""
        table = checks.table("table", table)
        if len(table) == 0:
            raise ValueError(
                f"a scaler is fitted on a table (N, columns) with at least one row, received {table.shape}"
            )
        mean, scale = table.mean(axis=0), table.std(axis=0)
        constant = scale <= _ROUNDING * np.abs(mean)
        return cls(mean, np.where(constant, 1.0, scale))

    def transform(self, table: ArrayLike) -> Array:
        """Into standard units."""
        return (checks.table("table", table, len(self.mean)) - self.mean) / self.scale

    def inverse(self, table: ArrayLike) -> Array:
        """Back into the columns' own units."""
        table = checks.real_array("table", table)
        if table.ndim != 2 or table.shape[1] != len(self.mean):
            raise ValueError(f"expected a table of shape (N, {len(self.mean)}), received {table.shape}")
        return table * self.scale + self.mean
