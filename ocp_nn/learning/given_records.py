"""What ``fit``, ``predict`` and ``score`` are given: one record, or a list of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..network.records import Records

__all__ = ["as_records", "is_list", "records_of"]

Array = NDArray[np.float64]


def is_list(values: Any) -> bool:
    """Whether it is several records: a list or tuple of arrays or tables; a list of numbers is one record."""
    return isinstance(values, list | tuple) and bool(values) and all(map(_is_record, values))


def _is_record(value: Any) -> bool:
    return value is None or (hasattr(value, "ndim") and value.ndim > 0)


def as_records(name: str, values: Any, count: int | None = None) -> list[Any]:
    """A list of records; None is as many as there are of the others.

    Raises
    ------
    ValueError
        If their number is not ``count``.
    """
    several: Sequence[Any] = values if is_list(values) else [values] * (count or 1) if values is None else [values]
    if count is not None and len(several) != count:
        raise ValueError(f"{name} must have one record for each of {count}, received {len(several)}")
    return list(several)


def records_of(v: Any, y: Any, **widths: int) -> Records:
    """Checked records of inputs and outputs.

    Raises
    ------
    ValueError
        As :meth:`.Records.checked`, and for lists of unequal length.
    """
    outputs = as_records("y", y)
    return Records.checked(list(zip(as_records("v", v, len(outputs)), outputs, strict=True)), **widths)
