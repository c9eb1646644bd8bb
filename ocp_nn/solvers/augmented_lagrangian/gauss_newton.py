"""Gauss-Newton on the augmented Lagrangian: the inner loop.

given a point, repeat
  1. linearise L_beta there; stop where its gradient is small              (:mod:`.linearisation`)
  2. solve the least-squares problem of a step, by forward DP, damped until one of two trial points gains enough
                                                                           (:mod:`.globalisations`)
  3. or, where every state is eliminated, make the step with a factorisation that is there
                                                                           (:mod:`.reuse`)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .damping import Damping
from .globalisations import GLOBALISATIONS
from .inner_result import InnerResult
from .lagrangian import AugmentedLagrangian, Point
from .linearisation import Linearisation, Method
from .reuse import reuse

__all__ = ["minimise"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]


def minimise(
    lagrangian: AugmentedLagrangian,
    point: Point,
    damping: Damping,
    *,
    tolerance: Callable[[float], float],
    max_steps: int,
    method: Method | None = None,
    deadline: float = np.inf,
    observe: Callable[[Arrays], object] | None = None,
) -> InnerResult:
    """Minimise L_beta approximately by Gauss-Newton steps.

    Parameters
    ----------
    lagrangian : AugmentedLagrangian
    point : Point
        Start, evaluated under ``lagrangian``.
    damping : Damping
    tolerance : callable
        From the 2-norm of the first gradient to the one at which to stop.
    max_steps : int
        Gauss-Newton steps at most; those with an earlier factorisation are not counted.
    method : Method, optional
    deadline : float
        ``time.perf_counter()`` value after which no further step is begun.
    observe : callable, optional
        Receives the controls after every step; what it returns is not looked at.

    Returns
    -------
    InnerResult
    """
    method = method or Method()
    advance = GLOBALISATIONS[method.globalisation]
    result = InnerResult(point, damping)
    target = 0.0
    while True:
        local = Linearisation.at(lagrangian, result.point, result.damping, method)
        result = replace(result, stationarity=local.stationarity)
        if result.steps == 0:
            target = tolerance(local.stationarity)
        if local.stationarity <= target or result.stalled or time.perf_counter() > deadline:
            return result
        if result.factor is not None:
            result = reuse(local, result, result.factor)
        elif result.steps >= max_steps:
            return result
        else:
            result = advance(local, result)
        if observe is not None and result.point is not local.point:
            observe(result.point.controls)
