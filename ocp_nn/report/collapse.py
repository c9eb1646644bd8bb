"""Units that carry nothing of their own: constant over the data, or copies of another unit of their layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Collapse", "collapse_line", "collapsed_units"]

Array = NDArray[np.float64]

# A unit whose activation changes less than this over all samples, relative to max(1, its size), is constant: dead,
# saturated, or switched off by weight decay.  Data are standardised, so 1 is the scale of a signal.
_CONSTANT = 1e-3
# Two units whose activations are an affine function of each other to this share are copies.
_COPY = 1e-6
# So many layers and units are named in a line; of further ones there is the number.
_MAX_LAYERS, _MAX_UNITS = 3, 6


@dataclass(frozen=True)
class Collapse:
    """What is collapsed in one hidden layer.

    Attributes
    ----------
    layer : int
        k of the state x_k, from 1.
    units : int
        Its width.
    constant : tuple of int
        Units with the same activation for every sample.
    copies : tuple of int
        Units whose activation is an affine function, over the samples, of a unit before them.
    """

    layer: int
    units: int
    constant: tuple[int, ...]
    copies: tuple[int, ...]


def collapsed_units(states: Sequence[Array]) -> tuple[Collapse, ...]:
    """The hidden layers with collapsed units.

    Parameters
    ----------
    states : sequence of arrays (N, n_k)
        x_0, x_1, ...: ``trajectory.states``; the input x_0 is not looked at.
    """
    found = (_collapse(k, x) for k, x in enumerate(states) if k > 0)
    return tuple(layer for layer in found if layer.constant or layer.copies)


def _collapse(layer: int, x: Array) -> Collapse:
    change = np.ptp(x, axis=0)
    constant = change <= _CONSTANT * np.maximum(1.0, np.abs(x).max(axis=0))
    return Collapse(layer, x.shape[1], tuple(np.flatnonzero(constant).tolist()), _copies(x, ~constant))


def _copies(x: Array, live: NDArray[np.bool_]) -> tuple[int, ...]:
    units = np.flatnonzero(live)
    signals = x[:, units] - x[:, units].mean(axis=0)
    signals = signals / np.linalg.norm(signals, axis=0)
    alike = 1.0 - np.abs(signals.T @ signals) <= _COPY
    return tuple(int(unit) for j, unit in enumerate(units) if alike[j, :j].any())


def collapse_line(layers: Sequence[Collapse]) -> str:
    """How many units are collapsed in which layers, and which; empty where none is."""
    parts = [_of_layer(layer) for layer in layers[:_MAX_LAYERS]]
    if len(layers) > _MAX_LAYERS:
        parts.append(f"and {len(layers) - _MAX_LAYERS} more layers")
    return "; ".join(parts)


def _of_layer(layer: Collapse) -> str:
    kinds = (("constant", layer.constant), ("copies", layer.copies))
    found = (f"{kind} {len(units)} of {layer.units} ({_named(units)})" for kind, units in kinds if units)
    return f"layer {layer.layer}: {' and '.join(found)}"


def _named(units: Sequence[int]) -> str:
    more = ", ..." if len(units) > _MAX_UNITS else ""
    return ", ".join(map(str, units[:_MAX_UNITS])) + more
