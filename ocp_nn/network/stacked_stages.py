"""Linearised stages of equal shape over a long horizon, held as arrays instead of as one object a stage.

A network over time has thousands of stages of one shape, and usually one control for all of them.  A
:class:`StackedStages` is the sequence of its :class:`~.linear_stages.LinearStage` s as arrays A (K, N, n', n) and
B (K, N, n', P).  Whoever walks over a horizon asks for a :meth:`~StackedStages.block` of stages at a time, so that B,
by far the largest, need not exist as a whole: :class:`LazyStages` evaluate their blocks on demand.

Shapes: K stages, N samples, n and n' widths before and after, P numbers in the control.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ..base import checks
from .linear_stages import GenericStage, LinearStage

__all__ = ["LazyStages", "StackedStages", "stacked"]

Array = NDArray[np.float64]

# Numbers of B that the products over all stages ask for at a time (8 MiB).
_BLOCK_NUMBERS = 2**20


@dataclass(frozen=True)
class _Linear:
    """The layer of a stage that bends nowhere."""

    width: int

    def curvature_product(self, x: Array, u: Array, multiplier: Array, dx: Array, du: Array) -> tuple[Array, Array]:
        return np.zeros_like(dx), np.zeros_like(du)

    def second_derivative(self, x: Array, u: Array, dx: Array, du: Array) -> Array:
        return np.zeros((len(dx), self.width))

    def rows(self, samples: slice) -> _Linear:
        return self


class StackedStages(Sequence[LinearStage]):
    """A sequence of K linear stages of equal shape.

    Parameters
    ----------
    A : array (K, N, n', n)
        df/dx of every stage and sample.
    B : array (K, N, n', P)
        df/du.
    layers : sequence of K layers, optional
        What the stages are linearised from, asked for second derivatives only; without it they are linear maps.
    x : array (K, N, n), optional
        Where, with ``layers``.
    u : array (P,) or (K, P), optional
        The control there: one for all stages or one a stage.

    Raises
    ------
    ValueError
        For arrays of other shapes, or no stage at all.
    """

    def __init__(
        self,
        A: Array,
        B: Array,
        *,
        layers: Sequence[Any] | None = None,
        x: Array | None = None,
        u: Array | None = None,
    ) -> None:
        a, b = checks.real_array("A", A), checks.real_array("B", B)
        if a.ndim != 4 or b.ndim != 4 or a.shape[:3] != b.shape[:3] or not len(a):
            raise ValueError(
                f"expected A of shape (K, N, n', n) and B of shape (K, N, n', P) with K >= 1, received {a.shape} and "
                f"{b.shape}"
            )
        self._A, self._B = a, b
        self._describe((*a.shape, b.shape[3]), layers, x, u)

    def _describe(
        self, shape: tuple[int, int, int, int, int], layers: Sequence[Any] | None, x: Array | None, u: Array | None
    ) -> None:
        self._shape = shape
        if layers is not None:
            if len(layers) != shape[0] or x is None or x.shape != (*shape[:2], shape[3]):
                raise ValueError(
                    f"expected {shape[0]} layers and x of shape {(*shape[:2], shape[3])}, received {len(layers)} and "
                    f"{None if x is None else x.shape}"
                )
            if u is None or u.shape not in (shape[4:], (shape[0], shape[4])):
                raise ValueError(
                    f"expected u of shape {shape[4:]} or {(shape[0], shape[4])}, "
                    f"received {None if u is None else u.shape}"
                )
        self.layers, self.x, self.u = layers, x, u

    def __repr__(self) -> str:
        samples, after, before, controls = self._shape[1:]
        return f"{type(self).__name__}({len(self)} stages, {samples=}, {before=}, {after=}, {controls=})"

    @property
    def num_samples(self) -> int:
        return self._shape[1]

    @property
    def num_outputs(self) -> int:
        return self._shape[2]

    @property
    def num_inputs(self) -> int:
        return self._shape[3]

    @property
    def num_controls(self) -> int:
        return self._shape[4]

    @property
    def A(self) -> Array:
        """df/dx, (K, N, n', n)."""
        return self._A

    @property
    def B(self) -> Array:
        """df/du, (K, N, n', P)."""
        return self._B

    def block(self, start: int, stop: int) -> tuple[Array, Array]:
        """A and B of the stages from ``start`` up to ``stop``."""
        return self._A[start:stop], self._B[start:stop]

    def blocks(self, size: int | None = None) -> Iterator[tuple[slice, Array, Array]]:
        """All stages, ``size`` at a time (default: what fits into cache), as (stages, A, B)."""
        if size is None:
            size = max(1, _BLOCK_NUMBERS // max(1, self.num_samples * self.num_outputs * self.num_controls))
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            yield slice(start, stop), *self.block(start, stop)

    def __len__(self) -> int:
        return self._shape[0]

    @overload
    def __getitem__(self, index: int) -> GenericStage: ...

    @overload
    def __getitem__(self, index: slice) -> StackedStages: ...

    def __getitem__(self, index: int | slice) -> GenericStage | StackedStages:
        if isinstance(index, slice):
            return self._part(range(len(self))[index])
        k = range(len(self))[index]
        a, b = self.block(k, k + 1)
        if self.layers is None or self.x is None or self.u is None:
            linear: Any = _Linear(self.num_outputs)
            return GenericStage(linear, np.zeros((self.num_samples, self.num_inputs)), np.zeros(0), a[0], b[0])
        return GenericStage(self.layers[k], self.x[k], self.u if self.u.ndim == 1 else self.u[k], a[0], b[0])

    def _part(self, chosen: range) -> StackedStages:
        where = slice(chosen.start, chosen.stop if chosen.stop >= 0 else None, chosen.step)
        return StackedStages(self.A[where], self.B[where], **self._points(where))

    def _points(self, where: slice) -> dict[str, Any]:
        if self.layers is None or self.x is None or self.u is None:
            return {}
        return {
            "layers": self.layers[where],
            "x": self.x[where],
            "u": self.u if self.u.ndim == 1 else self.u[where],
        }

    def apply_controls(self, du: Array) -> Array:
        """B_k du for every stage, du being (P,) for all or (K, P): (K, N, n')."""
        out = np.empty((len(self), self.num_samples, self.num_outputs))
        for some, _, b in self.blocks():
            if du.ndim == 1:
                np.dot(b.reshape(out[some].size, self.num_controls), du, out=out[some].reshape(-1))
            else:
                np.einsum("knap,kp->kna", b, du[some], out=out[some])
        return out

    def apply(self, dx: Array, du: Array) -> Array:
        """A_k dx_k + B_k du for every stage: (K, N, n) and (P,) or (K, P) -> (K, N, n')."""
        out = self.apply_controls(du)
        for some, a, _ in self.blocks():
            out[some] += np.einsum("knab,knb->kna", a, dx[some])
        return out

    def transpose_state(self, eta: Array) -> Array:
        """A_k' eta_k for every stage: (K, N, n') -> (K, N, n)."""
        out = np.empty((len(self), self.num_samples, self.num_inputs))
        for some, a, _ in self.blocks():
            np.einsum("knab,kna->knb", a, eta[some], out=out[some])
        return out

    def transpose_control(self, eta: Array) -> Array:
        """B_k' eta_k summed over stages and samples: (K, N, n') -> (P,)."""
        total = np.zeros(self.num_controls)
        for some, _, b in self.blocks():
            total += eta[some].reshape(-1) @ b.reshape(eta[some].size, self.num_controls)
        return total

    def second_derivative(self, dx: Array, du: Array) -> Array:
        """How every stage bends along (dx_k, du): (K, N, n) and (P,) or (K, P) -> (K, N, n')."""
        if self.layers is None:
            return np.zeros((len(self), self.num_samples, self.num_outputs))
        if du.ndim == 1 and (shared := self._shared_point()) is not None:
            layer, x, u = shared
            bent: Array = layer.second_derivative(x, u, dx.reshape(x.shape), du)
            return bent.reshape(len(self), self.num_samples, -1)
        steps = np.broadcast_to(du, (len(self), self.num_controls))
        return np.stack([stage.second_derivative(x, u) for stage, x, u in zip(self, dx, steps, strict=True)])

    def _shared_point(self) -> tuple[Any, Array, Array] | None:
        """The layer, all states as one batch and the control, where all stages share layer and control."""
        if self.layers is None or self.x is None or self.u is None or self.u.ndim > 1:
            return None
        layer = self.layers[0]
        if any(other is not layer for other in self.layers):
            return None
        return layer, self.x.reshape(-1, self.num_inputs), self.u


class LazyStages(StackedStages):
    """Stages that are linearised a block at a time, whenever somebody asks for the block.

    Parameters
    ----------
    evaluate : callable
        (start, stop) -> A (stop - start, N, n', n) and B (stop - start, N, n', P).
    shape : tuple
        (K, N, n', n, P).
    layers, x, u
        As for :class:`StackedStages`.
    """

    def __init__(
        self,
        evaluate: Callable[[int, int], tuple[Array, Array]],
        shape: tuple[int, int, int, int, int],
        *,
        layers: Sequence[Any] | None = None,
        x: Array | None = None,
        u: Array | None = None,
    ) -> None:
        if len(shape) != 5 or min(shape) < 1:
            raise ValueError(f"expected the shape (K, N, n', n, P) of numbers >= 1, received {shape}")
        self._evaluate = evaluate
        self._describe(shape, layers, x, u)

    @property
    def A(self) -> Array:
        return np.concatenate([a for _, a, _ in self.blocks()])

    @property
    def B(self) -> Array:
        return np.concatenate([b for _, _, b in self.blocks()])

    def block(self, start: int, stop: int) -> tuple[Array, Array]:
        a, b = self._evaluate(start, stop)
        stages, (samples, after, before, controls) = stop - start, self._shape[1:]
        if a.shape != (stages, samples, after, before) or b.shape != (stages, samples, after, controls):
            raise ValueError(
                f"stages {start} to {stop - 1}: expected A and B of shapes {(stages, samples, after, before)} and "
                f"{(stages, samples, after, controls)}, received {a.shape} and {b.shape}"
            )
        return a, b

    def _part(self, chosen: range) -> StackedStages:
        if chosen.step != 1 or not chosen:
            return super()._part(chosen)
        first, where = chosen.start, slice(chosen.start, chosen.stop)
        evaluate, shape = self._evaluate, (len(chosen), *self._shape[1:])
        return LazyStages(lambda start, stop: evaluate(first + start, first + stop), shape, **self._points(where))


def stacked(stages: Sequence[LinearStage]) -> StackedStages:
    """Stages of equal widths as one stack; where their controls differ in length, B has columns of zeros at the end.

    Raises
    ------
    ValueError
        Where there is no stage, or the widths differ.
    """
    if isinstance(stages, StackedStages):
        return stages
    shapes = {(stage.num_samples, stage.num_outputs, stage.num_inputs) for stage in stages}
    if len(shapes) != 1:
        raise ValueError(f"expected stages of one shape (N, n', n), received {sorted(shapes)}")
    longest = max(stage.num_controls for stage in stages)

    def evaluate(start: int, stop: int) -> tuple[Array, Array]:
        some = stages[start:stop]
        a = np.stack([stage.A for stage in some])
        b = np.zeros((*a.shape[:3], longest))
        for rows, stage in zip(b, some, strict=True):
            rows[:, :, : stage.num_controls] = stage.B
        return a, b

    return LazyStages(evaluate, (len(stages), *next(iter(shapes)), longest))
