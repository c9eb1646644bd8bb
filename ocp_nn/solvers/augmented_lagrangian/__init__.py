"""The inexact augmented-Lagrangian solver.

:mod:`.outer_loop` is the algorithm: :func:`init`, :func:`step` and :func:`terminate` over an explicit state, which
:func:`ocp_nn.solve` runs.  :class:`AugmentedLagrangian`, :class:`Damping` and :func:`minimise` are the pieces of a
subproblem, for those who write a loop of their own.
"""

from __future__ import annotations

from .damping import Damping
from .gauss_newton import minimise
from .lagrangian import AugmentedLagrangian
from .outer_loop import init, solution, step, terminate
from .state import Initial, SolverState

__all__ = [
    "AugmentedLagrangian",
    "Damping",
    "Initial",
    "SolverState",
    "init",
    "minimise",
    "solution",
    "step",
    "terminate",
]
