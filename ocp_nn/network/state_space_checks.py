"""What the arguments of a state-space model may be: one clear sentence for each that may not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import checks
from .state_space_networks import Architecture

__all__ = ["check_lengths", "check_of_functions", "check_of_networks", "deviations", "vector"]

Array = NDArray[np.float64]

_WIDTHS = ("num_states", "num_inputs", "num_outputs")


def check_of_networks(options: Mapping[str, Any], guess: Any) -> None:
    missing = [name for name in _WIDTHS if options[name] is None]
    if missing:
        raise ValueError(
            f"a state-space model needs num_states, num_inputs and num_outputs, or the functions dynamics and output: "
            f"{', '.join(missing)} missing"
        )
    if guess is not None:
        raise ValueError("guess is for models of functions: networks start from initial_parameters(seed)")


def check_of_functions(options: Mapping[str, Any], dynamics: Any, output: Any) -> None:
    fields = Architecture.__dataclass_fields__
    if dynamics is None or output is None:
        raise ValueError(
            f"a state-space model of functions needs both, {'output' if output is None else 'dynamics'} missing"
        )
    for name, value in options.items():
        if value != (None if name in _WIDTHS else fields[name].default):
            raise ValueError(f"{name} is for models of networks: with dynamics and output it follows from these")


def vector(name: str, values: ArrayLike, length: int, what: str) -> Array:
    vector = checks.real_array(name, values)
    if vector.shape != (length,):
        raise ValueError(f"{name} must be a vector of the model's {length} {what}, received shape {vector.shape}")
    checks.check_finite(name, vector)
    return np.ascontiguousarray(vector)


def check_lengths(v: Array, y: Array) -> None:
    if len(v) != len(y):
        raise ValueError(f"v and y must be as long as each other, received {len(v)} and {len(y)} samples")


def deviations(name: str, values: ArrayLike, length: int, *, zero: bool = False) -> Array:
    given = checks.real_array(name, values)
    if given.shape not in ((), (length,)):
        raise ValueError(f"{name} must be a number or a vector of {length}, received shape {given.shape}")
    checks.check_finite(name, given)
    if not ((given >= 0) if zero else (given > 0)).all():
        raise ValueError(f"{name} must be {'>= 0' if zero else '> 0'}, received {given.min():g}")
    return np.broadcast_to(given, length).astype(float)
