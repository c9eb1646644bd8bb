"""Terms of the subproblem, one by one or stacked over a long horizon."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from ..base import checks
from ..base.display import brief
from ..network.linear_stages import LinearStage
from ..network.stacked_stages import StackedStages

__all__ = [
    "LinearTerm",
    "Stack",
    "StackedMultipliers",
    "StackedTerms",
    "blocks_of",
    "num_rows",
    "outputs_of",
    "residuals_of",
    "stages_of",
]

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
# One array a stage, as a sequence or as one array whose first axis are the stages.
Stack = Sequence[Array] | Array


@dataclass(frozen=True, eq=False)
class LinearTerm:
    """The rows C dx_s + D du_d + r of a term.

    Attributes
    ----------
    stage : int
        s, the state it looks at.
    output : LinearStage
        C and D.
    residual : array (N, m)
        r.
    block : int
        d, the control block it looks at.
    """

    stage: int
    output: LinearStage
    residual: Array
    block: int

    __repr__ = brief

    def __post_init__(self) -> None:
        object.__setattr__(self, "residual", checks.real_array("residual", self.residual))


class StackedTerms(Sequence[LinearTerm]):
    """A sequence of terms of equal width, held as arrays; a row that was not measured is C = D = r = 0.

    Parameters
    ----------
    outputs : StackedStages of J stages
        C_j (N, m, n) and D_j (N, m, P).
    residual : array (J, N, m)
        r_j.
    stages : sequence of J int
        s(j), in order.
    block : int or sequence of J int
        d(j), one for all or one a term.

    Raises
    ------
    ValueError
        For shapes that do not fit.
    """

    def __init__(
        self,
        outputs: StackedStages,
        residual: Array,
        *,
        stages: Sequence[int] | Indices,
        block: int | Sequence[int] | Indices = 0,
    ) -> None:
        self.outputs = outputs
        self.residual = checks.real_array("residual", residual)
        self.stages = np.asarray(stages, dtype=np.intp)
        self.blocks = np.asarray(block, dtype=np.intp)
        if self.blocks.ndim == 0:
            self.blocks = np.full(len(outputs), self.blocks)
        expected = (len(outputs), outputs.num_samples, outputs.num_outputs)
        if self.residual.shape != expected:
            raise ValueError(f"expected a residual of shape {expected}, received {self.residual.shape}")
        if not self.stages.shape == self.blocks.shape == expected[:1]:
            raise ValueError(
                f"{len(outputs)} outputs need as many stages and blocks, received {self.stages.shape} and "
                f"{self.blocks.shape}"
            )

    def __repr__(self) -> str:
        return f"StackedTerms({self.outputs!r}, stages {self.stages[0]} to {self.stages[-1]})"

    def __len__(self) -> int:
        return len(self.outputs)

    @overload
    def __getitem__(self, index: int) -> LinearTerm: ...

    @overload
    def __getitem__(self, index: slice) -> StackedTerms: ...

    def __getitem__(self, index: int | slice) -> LinearTerm | StackedTerms:
        if isinstance(index, slice):
            some = self.outputs[index], self.residual[index]
            return StackedTerms(*some, stages=self.stages[index], block=self.blocks[index])
        return LinearTerm(int(self.stages[index]), self.outputs[index], self.residual[index], int(self.blocks[index]))


@dataclass(frozen=True, eq=False)
class StackedMultipliers(Sequence[Array]):
    """The multipliers of a step over a long horizon: eta_1..eta_{K-1}, then theta.

    Attributes
    ----------
    costates : array (K - 1, N, n)
        eta_k, those of the states x_1..x_{K-1}.
    theta : array (N, M)
        The predicted rows of all terms side by side.
    """

    costates: Array
    theta: Array

    __repr__ = brief

    def __len__(self) -> int:
        return len(self.costates) + 1

    @overload
    def __getitem__(self, index: int) -> Array: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Array, ...]: ...

    def __getitem__(self, index: int | slice) -> Array | tuple[Array, ...]:
        if isinstance(index, slice):
            return tuple([self[k] for k in range(len(self))[index]])
        k = range(len(self))[index]
        return self.theta if k == len(self.costates) else self.costates[k]


def stages_of(terms: Sequence[LinearTerm]) -> list[int]:
    """s(j) of every term."""
    if isinstance(terms, StackedTerms):
        return terms.stages.tolist()
    return [term.stage for term in terms]


def blocks_of(terms: Sequence[LinearTerm]) -> list[int]:
    """d(j) of every term."""
    if isinstance(terms, StackedTerms):
        return terms.blocks.tolist()
    return [term.block for term in terms]


def outputs_of(terms: Sequence[LinearTerm]) -> Sequence[LinearStage]:
    """C_j and D_j of every term."""
    if isinstance(terms, StackedTerms):
        return terms.outputs
    return tuple([term.output for term in terms])


def num_rows(terms: Sequence[LinearTerm]) -> int:
    """Rows a sample of all terms together."""
    if isinstance(terms, StackedTerms):
        return len(terms) * terms.outputs.num_outputs
    return sum([term.output.num_outputs for term in terms])


def residuals_of(terms: Sequence[LinearTerm]) -> tuple[Array, ...] | Array:
    """r of every term."""
    if isinstance(terms, StackedTerms):
        return terms.residual
    return tuple([term.residual for term in terms])
