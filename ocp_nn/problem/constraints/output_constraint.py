"""Constraints on what a stage shows: l <= c(x_k, u_b) <= u for samples of one stage or of several."""

from __future__ import annotations

from collections.abc import Sequence

import casadi as ca
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...base import checks
from ...network.layers import Layer
from ..structure import Stage

__all__ = ["OutputConstraint"]

Array = NDArray[np.float64]

_STAGES = checks.either(
    checks.integer(0), checks.sequence(checks.integer(0), "a sequence of stages, integers >= 0", least=1)
)
_SAMPLES = checks.optional(checks.sequence(checks.integer(0), "a sequence of samples, integers >= 0", least=1))


class OutputConstraint:
    """l <= c(x_k^i, u_b) <= u.

    Parameters
    ----------
    output : Dense, Symbolic or casadi.Function
        c(x, u), or with an exogenous input c(x, u, v); any smooth function of the state and one block of controls.
    lower, upper : array_like, (m,)
        One number or one an output, infinite where there is none; equal ones make an equality.
    stages : int or sequence of int
        k: at which states it is asked for.
    block : int
        b, the control block that c depends on.
    samples : sequence of int, optional
        Only for these samples; one alone where c depends on controls and on no state.
    exogenous : array_like (N, q), or (number of stages, N, q), optional
    name : str

    Raises
    ------
    ValueError
        For bounds that cross or do not fit the output, or exogenous inputs that do not.
    """

    def __init__(
        self,
        output: Layer | ca.Function,
        lower: ArrayLike = -np.inf,
        upper: ArrayLike = np.inf,
        *,
        stages: int | Sequence[int] = 0,
        block: int = 0,
        samples: Sequence[int] | None = None,
        exogenous: ArrayLike | None = None,
        name: str = "output constraint",
    ) -> None:
        checks.check("stages", stages, _STAGES)
        checks.check("samples", samples, _SAMPLES)
        checks.check("name", name, checks.instance(str, "a string"))
        self.stages = tuple(int(k) for k in np.atleast_1d(np.asarray(stages)))
        self.block, self.name = int(block), name
        self.layers: tuple[Layer, ...] = tuple(
            Stage(output, block, exogenous=v).layer for v in _per_stage(exogenous, len(self.stages))
        )
        self.samples = None if samples is None else np.unique(np.asarray(samples, dtype=np.intp))
        width = self.layers[0].num_outputs
        self.lower, self.upper = (_bound(name, bound, width) for bound in (lower, upper))
        if not (self.lower <= self.upper).all():
            raise ValueError(f"{name}: every lower bound must be <= its upper bound, and neither may be NaN")

    def __repr__(self) -> str:
        at = f"stage {self.stages[0]}" if len(self.stages) == 1 else f"{len(self.stages)} stages"
        return f"OutputConstraint({self.name}: {self.num_outputs} at {at})"

    @property
    def num_outputs(self) -> int:
        return self.layers[0].num_outputs

    def mask(self, num_samples: int) -> Array | None:
        """One for every sample it is asked for, else zero, (N,); None for all."""
        if self.samples is None:
            return None
        mask = np.zeros(num_samples)
        mask[self.samples] = 1.0
        return mask

    def shape(self, num_samples: int) -> tuple[int, int, int]:
        """Of its values and multipliers: stages, samples, outputs.  Samples it is not asked for have zeros there."""
        return len(self.stages), num_samples, self.num_outputs

    def check(self, widths: Sequence[int], lengths: Sequence[int], num_samples: int) -> None:
        """Raise ``ValueError`` unless it fits states of these widths, blocks of these lengths, and samples."""
        last = len(widths) - 1
        for k, layer in zip(self.stages, self.layers, strict=True):
            if not 0 <= k <= last:
                raise ValueError(f"{self.name}: stage {k} of a problem with stages 0..{last}")
            if layer.num_inputs != widths[k]:
                raise ValueError(f"{self.name}: expects {layer.num_inputs} states, but x_{k} has {widths[k]}")
        if not self.block < len(lengths) or self.layers[0].num_controls != lengths[self.block]:
            raise ValueError(
                f"{self.name}: a function of {self.layers[0].num_controls} controls, but block {self.block} is one of "
                f"lengths {list(lengths)}"
            )
        if self.samples is not None and self.samples.max() >= num_samples:
            raise ValueError(f"{self.name}: sample {self.samples.max()} of {num_samples}")

    def outside(self, values: Array) -> Array:
        """How far values (..., m) are from the interval, with a sign."""
        return values - np.clip(values, self.lower, self.upper)


def _per_stage(exogenous: ArrayLike | None, count: int) -> list[Array | None]:
    if exogenous is None:
        return [None] * count
    v = checks.real_array("exogenous", exogenous)
    if v.ndim == 2:
        return [v] * count
    if v.ndim != 3 or len(v) != count:
        raise ValueError(f"exogenous must be (N, q), or ({count}, N, q) with one a stage, received {v.shape}")
    return list(v)


def _bound(name: str, bound: ArrayLike, width: int) -> Array:
    array = np.asarray(bound, dtype=float)
    if array.ndim > 1 or (array.ndim and len(array) != width):
        raise ValueError(f"{name}: expected one bound or one for each of {width} outputs, received {array.shape}")
    return np.array(np.broadcast_to(array, (width,)))
