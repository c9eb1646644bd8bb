"""Bounds on the controls and states of a transcription, as a solver takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...problem.optimal_control import OptimalControlProblem
from .layout import Block

__all__ = ["Bounds", "bounds_of"]

Array = NDArray[np.float64]
Bound = tuple[ArrayLike, ArrayLike]
Bounds = Bound | Mapping[int, Bound]


def bounds_of(
    problem: OptimalControlProblem,
    nodes: Sequence[int],
    variables: Sequence[Block],
    num_constraints: int,
    control_bounds: Bounds | None,
    state_bounds: Bounds | None,
) -> dict[str, Array]:
    lower, upper = np.full(variables[-1].stop, -np.inf), np.full(variables[-1].stop, np.inf)
    first = (0,) if problem.has_free_start else ()
    stages = {"control": range(len(problem.block_lengths)), "state": (*first, *nodes)}
    for kind, given in (("control", control_bounds), ("state", state_bounds)):
        _check_stages(kind, given, stages[kind])
        for block in variables:
            pair = given.get(block.stage) if isinstance(given, Mapping) else given
            if pair is None or block.kind != kind:
                continue
            shape = (problem.num_samples, -1) if kind == "state" else (-1,)
            for vector, bound in zip((lower, upper), pair, strict=True):
                view = vector[block.where].reshape(shape)
                view[...] = bound
    if not (lower <= upper).all():
        raise ValueError("every lower bound must be <= its upper bound, and neither may be NaN")
    zero = np.zeros(num_constraints)
    return {"lbx": lower, "ubx": upper, "lbg": zero, "ubg": zero.copy()}


def _check_stages(kind: str, given: Bounds | None, stages: Sequence[int]) -> None:
    unknown = set(given) - set(stages) if isinstance(given, Mapping) else set()
    if unknown or (given is not None and not stages):
        remedy = ": make these nodes of multiple_shooting" if kind == "state" else ""
        raise ValueError(
            f"{kind}_bounds are for {kind}s that are variables, k in {list(stages)}; "
            f"received some for {sorted(unknown) or 'all'}{remedy}"
        )
