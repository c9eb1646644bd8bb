"""The data set itself, and what makes one usable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...base import checks, display
from ...network.links import check_classes
from ...network.scaling import LARGEST
from ...problem.losses import LOSSES, loss_named

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
    classes : tuple of str, int or float
        Where the targets are classes, their labels in order: two for one column of zeros and ones, or one for each
        column, of which one has a one in every row.
    loss : str
        Name of the loss that the targets are meant for.

    Raises
    ------
    DataError
        For shapes or names that do not fit, fewer than two samples, values that are not finite or too large to be
        standardised (beyond 1e300), a constant column, or targets that the loss has no meaning for.
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
    classes: tuple[str | int | float, ...] = ()
    loss: str = "squared"

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
        _check_loss(self.name, self.y, self.loss, self.classes)

    @property
    def feature_labels(self) -> tuple[str, ...]:
        """Names of the inputs with their units in brackets."""
        return _labels(self.feature_names, self.feature_units or ("",) * self.num_features)

    @property
    def target_labels(self) -> tuple[str, ...]:
        """Names of the targets with their units in brackets."""
        return _labels(self.target_names, self.target_units or (self.units,) * self.num_targets)

    @property
    def labels(self) -> NDArray[Any]:
        """The class of every sample, (N,); nothing where the targets are quantities."""
        if not self.classes:
            return np.array([])
        return np.array(self.classes)[self.y.argmax(axis=1) if self.num_targets > 1 else self.y[:, 0].astype(int)]

    @property
    def num_samples(self) -> int:
        return len(self.x)

    @property
    def num_features(self) -> int:
        return self.x.shape[1]

    @property
    def num_targets(self) -> int:
        return self.y.shape[1]


def _check_loss(name: str, y: Array, loss: str, classes: tuple[str | int | float, ...]) -> None:
    checks.check("loss", loss, checks.one_of(LOSSES), DataError)
    try:
        loss_named(loss).check_targets(y)
        check_classes(classes, loss_named(loss).link, y.shape[1])
    except ValueError as error:
        raise DataError(f"{name}: {error}") from None


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
