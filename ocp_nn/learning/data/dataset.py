"""The data set itself, and what makes one usable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...base import checks, display
from ...network.scaling import LARGEST

__all__ = ["DataError", "Dataset", "label"]

Array = NDArray[np.float64]

# Fewer samples than this cannot be split into a training and a test part.
MIN_SAMPLES = 2


class DataError(ValueError):
    """The data cannot be used; the message says where and what to do."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Samples with names.

    Attributes
    ----------
    name : str
    x : array, shape (N, d)
    y : array, shape (N, m)
    feature_names, target_names : tuple of str
        Names of the columns of x and of y.
    units : str
        Unit of the targets where it is known and they share it, else empty.
    feature_units, target_units : tuple of str
        Units column by column, "" where unknown; or nothing at all.
    source : str
        Where the numbers come from.
    truth : array of y's shape, or None
        The noise-free targets of a synthetic set.

    Raises
    ------
    DataError
        For shapes or names that do not fit, fewer than two samples, values that are not finite or too large to be
        standardised (beyond 1e300), or a constant column.
    """

    name: str
    x: Array
    y: Array
    feature_names: tuple[str, ...]
    target_names: tuple[str, ...]
    units: str = ""
    feature_units: tuple[str, ...] = ()
    target_units: tuple[str, ...] = ()
    source: str = ""
    truth: Array | None = None

    def __repr__(self) -> str:
        features, targets = display.names(self.feature_names), display.names(self.target_names)
        return f"Dataset({self.name}, {self.num_samples} samples, {features} -> {targets})"

    def __post_init__(self) -> None:
        for name in ("x", "y", "truth"):
            if name != "truth" or self.truth is not None:
                object.__setattr__(self, name, _real(self.name, name, getattr(self, name)))
        if self.x.ndim != 2 or self.y.ndim != 2 or len(self.x) != len(self.y):
            raise DataError(
                f"{self.name}: x and y must be tables with as many rows as each other, "
                f"received shapes {self.x.shape} and {self.y.shape}"
            )
        if len(self.x) < MIN_SAMPLES:
            raise DataError(f"{self.name}: {len(self.x)} sample(s), at least {MIN_SAMPLES} are needed")
        if self.x.shape[1] == 0 or self.y.shape[1] == 0:
            raise DataError(f"{self.name}: no {'input' if self.x.shape[1] == 0 else 'target'} columns are left")
        _check_columns(self.name, self.x, self.feature_names, self.feature_units)
        _check_columns(self.name, self.y, self.target_names, self.target_units)

    @property
    def feature_labels(self) -> tuple[str, ...]:
        """Names of the inputs with their units in brackets."""
        return _labels(self.feature_names, self.feature_units or ("",) * self.num_features)

    @property
    def target_labels(self) -> tuple[str, ...]:
        """Names of the targets with their units in brackets."""
        return _labels(self.target_names, self.target_units or (self.units,) * self.num_targets)

    @property
    def num_samples(self) -> int:
        return len(self.x)

    @property
    def num_features(self) -> int:
        return self.x.shape[1]

    @property
    def num_targets(self) -> int:
        return self.y.shape[1]


def label(name: str, unit: str) -> str:
    """A name with its unit in brackets, where it has one."""
    return f"{name} [{unit}]" if unit else name


def _labels(names: tuple[str, ...], units: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(label, names, units))


def _real(dataset: str, name: str, values: Any) -> Array:
    try:
        return checks.real_array(name, values)
    except ValueError as error:
        raise DataError(f"{dataset}: {error}") from None


def _check_columns(dataset: str, table: Array, names: tuple[str, ...], units: tuple[str, ...]) -> None:
    if len(names) != table.shape[1]:
        raise DataError(f"{dataset}: {table.shape[1]} columns but {len(names)} names")
    if units and len(units) != table.shape[1]:
        raise DataError(f"{dataset}: {table.shape[1]} columns but {len(units)} units")
    for column, name in zip(table.T, names, strict=True):
        bad = np.flatnonzero(~np.isfinite(column))
        if bad.size:
            raise DataError(f"{dataset}: column {name!r} has the value {column[bad[0]]} in sample {bad[0] + 1}")
        if np.abs(column).max() > LARGEST:
            large = int(np.abs(column).argmax())
            raise DataError(
                f"{dataset}: column {name!r} has the value {column[large]:g} in sample {large + 1}, but only values up "
                f"to {LARGEST:g} in magnitude can be standardised; use another unit"
            )
        if column.min() == column.max():
            raise DataError(
                f"{dataset}: column {name!r} is constant ({column[0]:g} in all {len(column)} samples): "
                "it has no variance to learn from or to standardise by; drop it"
            )
