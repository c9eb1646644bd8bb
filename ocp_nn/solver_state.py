"""What the outer loop carries from one iteration to the next, and the two loops it alternates between."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .damping import Damping
from .display import brief
from .inner_problem import Point
from .result import Record

__all__ = ["COUNTS", "Best", "Finish", "Iterate", "SolverState", "iterate", "record"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]

COUNTS = ("gauss_newton", "least_squares", "newton", "hessian_products", "restarts", "sample_steps")


@dataclass(frozen=True, eq=False)
class Best:
    """A rollout, by its controls, and its objective."""

    controls: Arrays
    objective: float

    __repr__ = brief

    def better(self, other: Best) -> Best:
        """The one with the lower objective."""
        return other if other.objective < self.objective else self


# What a least-squares solve must gain, relative to J, for Gauss-Newton not to ask what the exact Hessian can do.
_WORTHWHILE = 1e-3


@dataclass(frozen=True)
class Finish:
    """The finish in the controls alone: which of two kinds of steps is taken, and what they gain for their work.

    Gauss-Newton steps do better far from a solution, exact Hessians near one, and where the border is depends on the
    problem.  So the kind that last gained more, relative to J and for its work, goes on.  Each has its own damping.

    Attributes
    ----------
    damping : tuple of 2 Damping
        Of Gauss-Newton and of second-order steps, to continue with.
    gains : tuple of 2 floats
        Their latest gains; negative where no step was possible.
    second_order : bool
        Whether the last steps were refined by the exact Hessian.
    """

    damping: tuple[Damping, Damping]
    gains: tuple[float, float] = (np.inf, _WORTHWHILE)
    second_order: bool = False

    @property
    def prefers_second_order(self) -> bool:
        """Whether the next steps are to be refined by the exact Hessian."""
        return self.gains[1] > self.gains[0]

    @property
    def next_damping(self) -> Damping:
        return self.damping[self.prefers_second_order]

    def after(self, gain: float, damping: Damping) -> Finish:
        """What follows the preferred steps, given what they gained and the damping they ended with."""
        if self.prefers_second_order:
            return Finish((self.damping[0], damping), (self.gains[0], gain), True)
        return Finish((damping, self.damping[1]), (gain, self.gains[1]), False)

    @property
    def is_exhausted(self) -> bool:
        """Whether neither kind of step is possible any more."""
        return max(self.gains) < 0


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
    start : tuple of K arrays
        The controls the solve started from.
    stationarity : float
        2-norm of the gradient of the Lagrangian.
    rollout_objective : float
        J at the rollout of the point's controls.
    finish : Finish or None
        Set once every state is eliminated for the finish.
    settled : bool
        Point and rollout agree and the objective has stopped falling.
    stalled : bool
        No step decreases L_beta in floating point.
    restart_objective, restart_outer : float, int
        The best objective, and the outer iteration, at the last restart.
    fruitless : int
        Restarts in a row that hardly improved it.
    fresh : bool
        Whether the last restart was one with new weights, not one from perturbed controls.
    outer : int
    counts : dict
        Work so far; ``sample_steps`` are least-squares problems of the sample start.
    """

    point: Point
    multipliers: Arrays
    penalty: tuple[float, ...]
    violation: tuple[float, ...]
    damping: Damping
    best: Best
    safeguard: Best
    start: Arrays
    stationarity: float = np.inf
    rollout_objective: float = np.inf
    finish: Finish | None = None
    settled: bool = False
    stalled: bool = False
    restart_objective: float = np.inf
    restart_outer: int = 0
    fruitless: int = 0
    fresh: bool = False
    outer: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))

    __repr__ = brief

    @property
    def phase(self) -> str:
        """What the last step did."""
        if self.finish is not None and self.finish.second_order:
            return "second order"
        return "single shooting" if np.isinf(self.penalty).all() else "augmented Lagrangian"

    def added(self, **more: int) -> dict[str, int]:
        """The counts with more work added."""
        return {name: number + more.get(name, 0) for name, number in self.counts.items()}

    def is_stationary(self, tolerance: float) -> bool:
        """Whether the gradient is within the tolerance, relative to max(1, J)."""
        return self.stationarity <= tolerance * max(1.0, self.point.objective)


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

    state: SolverState = field(repr=False)


def iterate(record: Record, state: SolverState) -> Iterate:
    """The record with the state it belongs to."""
    return Iterate(state=state, **{name: getattr(record, name) for name in Record.columns()})


def record(state: SolverState, seconds: float) -> Record:
    """The row of the history for a state."""
    return Record(
        iteration=state.outer,
        phase=state.phase,
        objective=state.point.objective,
        rollout_objective=state.rollout_objective,
        max_defect=state.point.max_defect,
        stationarity=state.stationarity,
        penalty=max(state.penalty, default=np.inf),
        steps=state.counts["least_squares"] + state.counts["newton"],
        seconds=seconds,
    )
