"""A CasADi function of one sample, evaluated for batches, from any number of threads at once.

CasADi lets go of Python's lock while it computes, so no two calls may share memory: each takes a :class:`BatchFunction`
for itself, buffers and CasADi's own memory object included, and puts it back afterwards.  A few are kept for the next
call, since making one costs more than evaluating a small batch.

CasADi is column-major with one column a sample, NumPy here is row-major with one row a sample: the same memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import casadi as ca
import numpy as np
from numpy.typing import NDArray

__all__ = ["BatchEvaluator"]

Array = NDArray[np.float64]

# Numbers in the buffers of one batch function, 1 MB: larger batches are evaluated in pieces.
_LARGEST = 2**17

# Batch functions kept for later calls: with the size above, a layer keeps some megabytes at most.
_KEPT = 8


class BatchEvaluator:
    """A function of one sample for any number of them; arguments listed in ``shared`` are the same for all samples."""

    def __init__(self, function: ca.Function, shared: Sequence[int]) -> None:
        self._function, self._shared = function, tuple(shared)
        per_sample = [function.nnz_in(i) for i in range(function.n_in()) if i not in self._shared]
        self._lengths = [function.nnz_out(i) for i in range(function.n_out())]
        self._piece = max(1, _LARGEST // max(1, sum(per_sample) + sum(self._lengths)))
        self._kept: list[BatchFunction] = []

    def __call__(self, num_samples: int, *arguments: Array) -> list[Array]:
        """The outputs, each of shape (N, numbers of one sample)."""
        if 0 < num_samples <= self._piece:
            return self._evaluate(num_samples, arguments)
        outputs = [np.empty((num_samples, length)) for length in self._lengths]
        for start in range(0, num_samples, self._piece):
            rows = slice(start, min(start + self._piece, num_samples))
            some = [a if i in self._shared else a[rows] for i, a in enumerate(arguments)]
            for output, part in zip(outputs, self._evaluate(rows.stop - start, some), strict=True):
                output[rows] = part
        return outputs

    def _evaluate(self, num_samples: int, arguments: Sequence[Array]) -> list[Array]:
        batch = self._take(num_samples) or BatchFunction(self._function, num_samples, self._shared)
        outputs = batch(arguments)
        # The most recent ones stay.  Every operation on the list is a single one, so there is no lock that a fork could
        # leave locked; a call that ends with an exception does not put its function back.
        self._kept.append(batch)
        del self._kept[:-_KEPT]
        return [output.reshape(num_samples, -1) for output in outputs]

    def _take(self, num_samples: int) -> BatchFunction | None:
        for batch in reversed(self._kept.copy()):
            if batch.num_samples == num_samples:
                try:
                    self._kept.remove(batch)
                except ValueError:  # another thread was faster
                    continue
                return batch
        return None


class BatchFunction:
    """The function for N samples, without copies at the boundary of CasADi: for one call at a time."""

    def __init__(self, function: ca.Function, num_samples: int, shared: Sequence[int]) -> None:
        mapped = function.map(function.name(), "serial", num_samples, list(shared), [])
        self.num_samples = num_samples
        self._inputs = [np.zeros(mapped.nnz_in(i)) for i in range(mapped.n_in())]
        self._outputs = [np.zeros(mapped.nnz_out(i)) for i in range(mapped.n_out())]
        self._buffer, self._run = mapped.buffer()
        for i, memory in enumerate(self._inputs):
            self._buffer.set_arg(i, memory.data)
        for i, memory in enumerate(self._outputs):
            self._buffer.set_res(i, memory.data)

    def __call__(self, arguments: Sequence[Array]) -> list[Array]:
        for memory, argument in zip(self._inputs, arguments, strict=True):
            if memory.size != np.size(argument):
                raise ValueError(f"expected an argument of {memory.size} numbers, received {np.size(argument)}")
            memory[:] = np.ravel(argument)
        self._run()
        return [memory.copy() for memory in self._outputs]
