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

__all__ = ["Finish", "Restart", "Schedule"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]
Restart = Literal["perturbed", "new"]

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
