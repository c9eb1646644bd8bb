"""What the loop over time carries from one outer iteration to the next."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....base.display import brief
from ....base.schema import COUNT, FLAG, NUMBER, POSITIVE, Table
from ....base.schema import COUNTS as COUNT_TABLE
from ....problem.identification import IdentificationProblem
from ....problem.record import Status
from ....problem.trajectory import Trajectory
from ..damping import Damping
from ..state import COUNTS
from .hardening import Hardening
from .lagrangian import Lagrangian, Point
from .newton import Polish

__all__ = ["ATTEMPT", "HORIZON", "Attempt", "HorizonState", "Rollout", "Watch"]

Array = NDArray[np.float64]

# What of a state and of an attempt a file has as plain values.
HORIZON: Table = {
    "stationarity": NUMBER, "rollout_objective": NUMBER, "outer": COUNT, "counts": COUNT_TABLE, "stalled": FLAG,
}  # fmt: skip
ATTEMPT: Table = {"stationarity": NUMBER, "max_defect": NUMBER, "objective": NUMBER, "tolerance": POSITIVE}

# The trajectory is returned as it is, defects and all, where the simulation is worse by more than this part.
_FOLLOWS = 0.1


@dataclass(frozen=True, eq=False)
class Rollout:
    """Parameters and x_0, and the objective of the simulation from there: infinite where that overflows."""

    theta: Array
    initial: Array
    objective: float

    __repr__ = brief

    def better(self, other: Rollout) -> Rollout:
        """The one with the lower objective."""
        return other if other.objective < self.objective else self


@dataclass(frozen=True, eq=False)
class Attempt:
    """How an earlier start ended.

    Attributes
    ----------
    status : Status
    trajectory : Trajectory
    stationarity, max_defect, objective : float
        There.
    tolerance : float
        Of defects that count as closed.
    """

    status: Status
    trajectory: Trajectory
    stationarity: float
    max_defect: float
    objective: float
    tolerance: float

    __repr__ = brief

    def packed(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Scalars and arrays for a file."""
        scalars = {name: getattr(self, name) for name in ATTEMPT} | {"status": self.status.value}
        arrays = {"earlier_theta": self.trajectory.controls[0], "earlier_states": np.stack(self.trajectory.states)}
        if self.trajectory.multipliers is not None:
            arrays["earlier_multipliers"] = np.stack(self.trajectory.multipliers)
        return scalars, arrays


@dataclass(frozen=True)
class Watch:
    """Since when a solve has been at rest.

    Attributes
    ----------
    objective, stationarity : float
        What was clearly lower than before.
    steps : int
        Gauss-Newton steps until then.
    """

    objective: float = np.inf
    stationarity: float = np.inf
    steps: int = 0

    def after(self, objective: float, stationarity: float, steps: int, *, feasible: bool) -> Watch:
        """After an outer iteration: the watch begins anew where the point is not feasible, or clearly better."""
        better = objective < (1.0 - _CLEARLY) * self.objective or stationarity < 0.5 * self.stationarity
        return Watch(objective, stationarity, steps) if better or not feasible else self


# Part of the objective that is clearly lower.
_CLEARLY = 1e-3


@dataclass(frozen=True, eq=False)
class HorizonState:
    """State of the outer loop over time; immutable.

    Attributes
    ----------
    point : Point
    multipliers : array (T - 1, N, n)
        lambda_{t+1} of the defects d_t, for the next subproblem.
    estimate : array (T - 1, N, n)
        lambda + beta d at the point: its costates, whether multipliers are switched on or not.
    nodes : array of bool (T - 1,)
        Whether x_{t+1} is a variable.
    hardening : Hardening
    damping : Damping
    anchor : array (T, N, n)
        The states that the solve started from.
    best : Rollout
        The best simulation so far.
    rollout_objective, stationarity : float
        Of the point.
    stalled : bool
        No step decreases L_beta in floating point.
    watch : Watch
    polish : Polish
        When Newton steps are due.
    later_starts : tuple of str
        Kinds of start that are left to be tried.
    earlier : Attempt or None
        The best end of the starts before this one.
    outer : int
    counts : dict
    """

    point: Point
    multipliers: Array
    estimate: Array
    nodes: NDArray[np.bool_]
    hardening: Hardening
    damping: Damping
    anchor: Array
    best: Rollout
    rollout_objective: float = np.inf
    stationarity: float = np.inf
    stalled: bool = False
    watch: Watch = field(default_factory=lambda: Watch())
    polish: Polish = field(default_factory=Polish)
    later_starts: tuple[str, ...] = ()
    earlier: Attempt | None = None
    outer: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))

    __repr__ = brief

    def packed(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Scalars and arrays for a file (:mod:`ocp_nn.problem.saving`); the way back is in :mod:`.files`."""
        scalars = {name: getattr(self, name) for name in HORIZON}
        scalars |= {name: asdict(getattr(self, name)) for name in ("hardening", "damping", "polish", "watch")}
        scalars |= {"best": self.best.objective, "later_starts": list(self.later_starts), "earlier": None}
        arrays: dict[str, Any] = {
            "state_theta": self.point.theta,
            "state_states": self.point.states,
            "state_nodes": self.nodes.astype(float),
            "state_best_theta": self.best.theta,
            "state_best_initial": self.best.initial,
        }
        arrays |= {f"state_{name}": getattr(self, name) for name in ("multipliers", "estimate", "anchor")}
        if self.earlier is not None:
            scalars["earlier"], more = self.earlier.packed()
            arrays |= more
        return scalars, arrays

    @property
    def steps(self) -> int:
        """Gauss-Newton steps so far."""
        return self.counts["gauss_newton"]

    @property
    def phase(self) -> str:
        """What the last step did."""
        return "augmented Lagrangian" if self.nodes.any() else "single shooting"

    @property
    def penalty(self) -> tuple[float, ...]:
        """beta of the nodes; infinite where there are none."""
        return (self.hardening.penalty if self.nodes.any() else np.inf,)

    def lagrangian(self, problem: IdentificationProblem) -> Lagrangian:
        """L_beta of the next subproblem."""
        hardening = self.hardening
        weight = hardening.anchor_weight if self.nodes.any() else 0.0
        return Lagrangian(problem, self.multipliers, hardening.penalty, self.nodes, weight, self.anchor)

    def is_stationary(self, tolerance: float) -> bool:
        """Whether the gradient is within the tolerance, relative to max(1, J)."""
        return self.stationarity <= tolerance * max(1.0, self.point.objective)

    @property
    def simulation_follows(self) -> bool:
        """Whether the best simulation does about as well as the trajectory of multiple shooting."""
        return self.best.objective <= (1.0 + _FOLLOWS) * self.point.objective

    @property
    def ends_at(self) -> tuple[float, float]:
        """Largest defect and objective of the result that the present start would give."""
        if self.simulation_follows:
            return 0.0, self.best.objective
        return self.point.max_defect, self.point.objective

    @property
    def better_earlier(self) -> Attempt | None:
        """The end of an earlier start, where it is better: closed defects first, then the lower objective."""
        earlier, (defect, objective) = self.earlier, self.ends_at
        if earlier is None:
            return None
        is_open = not defect <= earlier.tolerance
        is_better = (earlier.max_defect > earlier.tolerance, earlier.objective) <= (is_open, objective)
        return earlier if is_better else None

    def added(self, **more: int) -> dict[str, int]:
        """The counts with more work added."""
        return {name: number + more.get(name, 0) for name, number in self.counts.items()}
