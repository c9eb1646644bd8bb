"""A recursion x_{t+1} = F(x_t, w_t; theta) over many steps, in CasADi's virtual machine instead of in Python.

A compiled block of steps serves every length: Python comes back once a block, and the last block is filled with the
last w.  A step of two states and eight hidden units takes 0.3 us so, and ten times that when called from Python.
"""

from __future__ import annotations

from collections.abc import Sequence

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from .batch import BatchFunction

__all__ = ["Scan"]

Array = NDArray[np.float64]

# Steps of the compiled blocks: long enough that Python's part is small, short enough to be built in milliseconds.
_BLOCKS = (16, 128)

# Blocks kept for the next call, as in BatchEvaluator.
_KEPT = 4


class Scan:
    """The recursion of a function (x, w, theta) -> (x_next, outputs...), all columns."""

    def __init__(self, step: ca.Function) -> None:
        self._step = step
        self._kept: dict[int, list[BatchFunction]] = {size: [] for size in _BLOCKS}

    def __call__(self, start: Array, w: Array, theta: Array) -> list[Array]:
        """From ``start`` along the rows of ``w``: x_1..x_T and the outputs, each of shape (T, numbers of a step).

        Overflow is a value here: infinity and what follows from it, without warnings.
        """
        length, size = len(w), _BLOCKS[-1] if len(w) > _BLOCKS[0] else _BLOCKS[0]
        widths = [self._step.numel_out(i) for i in range(self._step.n_out())]
        outputs = [np.empty((length, width)) for width in widths]
        block = self._take(size)
        for first in range(0, length, size):
            rows = slice(first, min(first + size, length))
            results = block([start, _filled(w[rows], size), theta])
            for output, values in zip(outputs, results, strict=True):
                output[rows] = values.reshape(size, -1)[: rows.stop - first]
            start = outputs[0][rows.stop - 1]
        self._kept[size].append(block)
        del self._kept[size][:-_KEPT]
        return outputs

    def _take(self, size: int) -> BatchFunction:
        """A block that no other thread uses."""
        try:
            return self._kept[size].pop()
        except IndexError:
            return BatchFunction(self._block(size), 1, [])

    def _block(self, size: int) -> ca.Function:
        step = self._step
        x, theta = ca.MX.sym("x", step.numel_in(0)), ca.MX.sym("theta", step.numel_in(2))
        w = ca.MX.sym("w", step.numel_in(1), size)
        outputs = step.mapaccum("steps", size, 1)(x, w, ca.repmat(theta, 1, size))
        return ca.Function("scan", [x, w, theta], list(outputs) if isinstance(outputs, Sequence) else [outputs])


def _filled(rows: Array, size: int) -> Array:
    missing = size - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows
