"""What ``fit`` is given, checked: data that are numbers, weights that weigh something, and scalers that heed them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...base import checks
from ...network.scaling import Scaler
from ...problem.data_term import DataTerm

__all__ = ["checked_weights", "refuse_what_becomes_numbers", "robust_scaler"]

Array = NDArray[np.float64]

# What scikit-learn makes numbers of without a word; the rest it refuses in words that its own tests ask for.
_CONVERTED = (str, bytes, int, float, np.generic, timedelta)

# The median distance from the median of a normal variable, in standard deviations.
_NORMAL = 0.6744897501960817

# As in Scaler: a spread below this share of the level is rounding.
_ROUNDING = 10 * np.finfo(float).eps


def refuse_what_becomes_numbers(name: str, values: Any) -> None:
    """Masked entries, booleans, strings of numbers, durations and integers beyond any float are no data."""
    if not (isinstance(values, np.ndarray | list | tuple) or hasattr(values, "columns")):
        return
    try:
        checks.real_array(name, values)
    except ValueError:
        kinds = set(map(type, np.asarray(values, dtype=object).flat))
        if all(issubclass(kind, _CONVERTED) and not issubclass(kind, complex) for kind in kinds):
            raise


def checked_weights(sample_weight: ArrayLike | None, num_samples: int) -> Array | None:
    """The weights, (N,); None where all are one.

    Raises
    ------
    ValueError
        Unless they are N finite numbers >= 0, one of them positive.
    """
    return DataTerm.of("squared", np.zeros((num_samples, 1)), sample_weight).weights


def robust_scaler(table: Array, weights: Array | None) -> Scaler:
    """Median and scaled median distance from it (MAD/0.6745), which a few outliers do not move.

    Where more than half of a column is one value, that distance is zero: mean and standard deviation then serve.
    """
    fallback = Scaler.fit(table, weights)
    middle = np.apply_along_axis(_median, 0, table, weights)
    spread = np.apply_along_axis(_median, 0, np.abs(table - middle), weights) / _NORMAL
    usable = spread > _ROUNDING * np.abs(middle)
    return Scaler(np.where(usable, middle, fallback.mean), np.where(usable, spread, fallback.scale))


def _median(values: Array, weights: Array | None) -> float:
    """The median of the values, each as often as its weight says."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(np.ones(len(values)) if weights is None else weights[order])
    lower, upper = (np.searchsorted(total, 0.5 * total[-1], side=side) for side in ("left", "right"))
    ends = values[order[min(lower, len(order) - 1)]], values[order[min(upper, len(order) - 1)]]
    return float(0.5 * ends[0] + 0.5 * ends[1])
