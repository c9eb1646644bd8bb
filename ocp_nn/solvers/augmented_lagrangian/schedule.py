"""What phase a solve is in: the augmented Lagrangian, the finish in the controls alone, or a restart of the former.

A :class:`Schedule` keeps what the decisions between phases need.  The decisions themselves are policies of their own:
:mod:`.finish`, :mod:`.restarts`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...base.display import brief
from .damping import Damping

__all__ = ["GAUSS_NEWTON", "LIFTED", "NEWTON", "WORTHWHILE", "Finish", "Restart", "Schedule"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]
Restart = Literal["perturbed", "new"]

# What a least-squares solve must gain, relative to J, for Gauss-Newton not to ask what exact Hessians can do.
WORTHWHILE = 1e-3

# Kinds of steps of the finish, by their place in it.
GAUSS_NEWTON, NEWTON, LIFTED = range(3)


@dataclass(frozen=True)
class Finish:
    """The finish: which kind of steps is taken, and what each kind gains for its work.

    Gauss-Newton steps do better far from a solution, exact Hessians near one; in the controls alone they are cheaper,
    with the states as variables (lifted) they go further where valleys are curved; and where the borders are depends on
    the problem.  So the kind that last gained most, relative to J and for its work, goes on.  Each has its own damping.

    Attributes
    ----------
    damping : tuple of Damping
        Of Gauss-Newton, of second-order steps and, where there are any, of lifted ones, to continue with.
    gains : tuple of floats
        Their latest gains; negative where no step was possible.
    kind : int
        What the last steps were.
    """

    damping: tuple[Damping, ...]
    gains: tuple[float, ...] = (np.inf, WORTHWHILE)
    kind: int = GAUSS_NEWTON

    @property
    def preferred(self) -> int:
        """The kind to go on with: of equal gains the first; lifted steps once the others crawl."""
        crawl = max(self.gains[:LIFTED]) <= WORTHWHILE
        if crawl and len(self.gains) > LIFTED and self.gains[LIFTED] >= 0:
            return LIFTED
        return self.gains.index(max(self.gains))

    @property
    def prefers_second_order(self) -> bool:
        """Whether the next steps are to be refined by the exact Hessian."""
        return self.preferred == NEWTON

    @property
    def prefers_lifted(self) -> bool:
        """Whether the next steps have the states as variables."""
        return self.preferred == LIFTED

    @property
    def next_damping(self) -> Damping:
        return self.damping[self.preferred]

    def after(self, gain: float, damping: Damping) -> Finish:
        """What follows the preferred steps, given what they gained and the damping they ended with."""
        kind = self.preferred
        dampings = tuple([damping if k == kind else other for k, other in enumerate(self.damping)])
        return Finish(dampings, tuple([gain if k == kind else other for k, other in enumerate(self.gains)]), kind)

    @property
    def is_exhausted(self) -> bool:
        """Whether no kind of step is possible any more."""
        return max(self.gains) < 0


@dataclass(frozen=True, eq=False)
class Schedule:
    """The phase of a solve.

    Attributes
    ----------
    start : tuple of K arrays
        The controls the solve started from.
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
    curvature : float or None
        The smallest, relative to Gauss-Newton (:mod:`.minimum`), once the loop has come to rest and if it was found.
    """

    start: Arrays
    finish: Finish | None = None
    settled: bool = False
    stalled: bool = False
    restart_objective: float = np.inf
    restart_outer: int = 0
    fruitless: int = 0
    fresh: bool = False
    curvature: float | None = None

    __repr__ = brief

    @property
    def is_exhausted(self) -> bool:
        """Whether no step is possible any more, whatever its kind."""
        return self.stalled if self.finish is None else self.finish.is_exhausted
