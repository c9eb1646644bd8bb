"""What the outer loop carries from one iteration to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...base.display import brief
from ...base.schema import COUNT, FLAG, NUMBER, Optional, Table, or_none
from ...base.schema import COUNTS as COUNT_TABLE
from ...problem.packing import numbered
from ...problem.record import Record
from ...problem.trajectory import Trajectory
from .damping import Damping
from .lagrangian import Point
from .schedule import GAUSS_NEWTON, NEWTON, Schedule

__all__ = [
    "COUNTS",
    "LATER_COUNTS",
    "SCHEDULE",
    "STATE",
    "Best",
    "Initial",
    "Iterate",
    "SolverState",
    "iterate",
    "record",
]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]

# What of a state and of its schedule a file has as plain values.
STATE: Table = {"stationarity": NUMBER, "rollout_objective": NUMBER, "outer": COUNT, "counts": COUNT_TABLE}
SCHEDULE: Table = {
    "settled": FLAG, "stalled": FLAG, "restart_objective": NUMBER, "restart_outer": COUNT, "fruitless": COUNT,
    "fresh": Optional(FLAG, False), "curvature": Optional(or_none(NUMBER), None),
}  # fmt: skip

# Work that is counted; some names came later, and older files do not have them.
LATER_COUNTS = ("escapes", "lifted")
COUNTS = ("gauss_newton", "least_squares", "newton", "hessian_products", "restarts", "sample_steps", *LATER_COUNTS)


@dataclass(frozen=True, eq=False)
class Best:
    """A rollout, by its controls, and x_0 where that is a variable, and its objective."""

    controls: Arrays
    objective: float
    initial: Array | None = None

    __repr__ = brief

    @property
    def size(self) -> int:
        """P."""
        return sum([len(u) for u in self.controls])

    def better(self, other: Best) -> Best:
        """The one with the lower objective."""
        return other if other.objective < self.objective else self


@dataclass(frozen=True, eq=False)
class SolverState:
    """State of the outer loop; immutable, so that any of them can be kept and gone on from.

    Attributes
    ----------
    point : Point
        Controls and states.
    multipliers : tuple of K - 1 arrays
        lambda_{k+1} of the defects d_k.
    penalty : tuple of K - 1 floats
        beta_k.
    violation : tuple of K - 1 floats
        ||d_k|| after the last outer iteration.
    damping : Damping
    best : Best
        The best rollout of the solve.
    safeguard : Best
        The best rollout since the last restart: no subproblem starts above it.
    stationarity : float
        2-norm of the gradient of the Lagrangian.
    rollout_objective : float
        J at the rollout of the point's controls.
    schedule : Schedule
        The phase of the solve.
    outer : int
    counts : dict
        Work so far; ``sample_steps`` are least-squares problems of the sample start, ``escapes``
        saddles left, ``lifted`` lifted Newton steps.
    """

    point: Point
    multipliers: Arrays
    penalty: tuple[float, ...]
    violation: tuple[float, ...]
    damping: Damping
    best: Best
    safeguard: Best
    schedule: Schedule
    stationarity: float = np.inf
    rollout_objective: float = np.inf
    outer: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))

    __repr__ = brief

    @property
    def phase(self) -> str:
        """What the last step did."""
        finish = self.schedule.finish
        if finish is not None and finish.kind != GAUSS_NEWTON:
            return "second order" if finish.kind == NEWTON else "lifted Newton"
        return "single shooting" if np.isinf(self.penalty).all() else "augmented Lagrangian"

    @property
    def is_softened(self) -> bool:
        """Whether the last restart has given the states more freedom."""
        return self.counts["restarts"] > 0 and not self.schedule.fresh

    @property
    def is_lifted(self) -> bool:
        """Whether this is the finish with its states as variables."""
        return self.schedule.finish is not None and bool(np.isfinite(self.penalty).any())

    @property
    def inner_damping(self) -> Damping:
        """To begin the next subproblem with."""
        return self.damping if self.schedule.finish is None else self.schedule.finish.next_damping

    def added(self, **more: int) -> dict[str, int]:
        """The counts with more work added."""
        return {name: self.counts.get(name, 0) + more.get(name, 0) for name in COUNTS}

    def packed(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Scalars and arrays for a file (:mod:`ocp_nn.problem.saving`); the way back is in :mod:`.unpacking`."""
        schedule = self.schedule
        scalars = {name: getattr(self, name) for name in STATE} | {name: getattr(schedule, name) for name in SCHEDULE}
        scalars["damping"] = asdict(self.damping)
        scalars["best"], scalars["safeguard"] = self.best.objective, self.safeguard.objective
        scalars["finish"] = None if schedule.finish is None else asdict(schedule.finish)
        arrays = {
            "state_penalty": np.array(self.penalty),
            "state_violation": np.array(self.violation),
            **numbered("state_control", self.point.controls),
            **numbered("state_state", self.point.states[1:], 1),
            **numbered("state_multiplier", self.multipliers),
            **numbered("state_best", self.best.controls),
            **numbered("state_safeguard", self.safeguard.controls),
            **numbered("state_start", schedule.start),
        }
        if self.best.initial is not None and self.safeguard.initial is not None:  # x_0 is a variable
            arrays |= {"state_state_0": self.point.states[0]}
            arrays |= {"state_best_initial": self.best.initial, "state_safeguard_initial": self.safeguard.initial}
        return scalars, arrays

    def is_stationary(self, tolerance: float) -> bool:
        """Whether the gradient is within the tolerance, relative to max(1, J)."""
        return self.stationarity <= tolerance * max(1.0, self.point.objective)

    def is_at_rest(self, tolerance: float) -> bool:
        """Whether gradient and defects are within the tolerance."""
        return self.point.max_defect <= tolerance and self.is_stationary(tolerance)


# Where a solve may start: nowhere in particular, controls, a trajectory with states of its own, or an earlier state.
Initial = SolverState | Trajectory | Sequence[Array] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Iterate(Record):
    """What a callback receives: the record of an outer iteration, with the state after it.

    Attributes
    ----------
    state : SolverState
        ``state.point`` has controls, states and defects, ``state.multipliers`` and ``state.penalty`` those of the next
        subproblem, ``state.best.controls`` the best weights so far.  It is immutable and of the size of the data: keep
        of it what is needed.
    """

    state: Any = field(repr=False)


def iterate(record: Record, state: Any) -> Iterate:
    """The record with the state it belongs to."""
    return Iterate(state=state, **{name: getattr(record, name) for name in Record.columns()})


def record(state: Any, seconds: float) -> Record:
    """The row of the history for a state."""
    return Record(
        iteration=state.outer,
        phase=state.phase,
        objective=state.point.objective,
        rollout_objective=state.rollout_objective,
        max_defect=state.point.max_defect,
        stationarity=state.stationarity,
        penalty=max(state.penalty, default=np.inf),
        steps=sum(state.counts.get(name, 0) for name in ("least_squares", "newton", "lifted")),
        seconds=seconds,
    )
