"""Small dense nonlinear least squares: Levenberg-Marquardt with Nielsen's rule for the damping.

K. Madsen, H. B. Nielsen, O. Tingleff, Methods for Non-Linear Least Squares Problems, 2nd ed., 2004, algorithm 3.16; the
damping is relative to the largest curvature.  For what has a few hundred unknowns and is solved on the way: initial
states, starts.  Training has its own solvers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..base.floating import overflow_is_a_value

__all__ = ["minimise_squares"]

Array = NDArray[np.float64]

# Damping to begin with and where to give up, as shares of the largest curvature.
_FIRST, _LAST = 1e-3, 1e12


@overflow_is_a_value
def minimise_squares(
    value: Callable[[Array], float],
    normal_equations: Callable[[Array], tuple[Array, Array]],
    x: Array,
    *,
    max_steps: int = 50,
    tolerance: float = 1e-12,
) -> tuple[Array, float]:
    """Go down from ``x`` on 1/2 ||r(x)||^2, to where a step gains less than a share ``tolerance``.

    Parameters
    ----------
    value : callable
        1/2 ||r||^2 at a point; infinity or NaN is a point to keep away from.
    normal_equations : callable
        J'J and J'r at a point.
    x : array, shape (n,)
    max_steps : int
        Trial points at most.
    tolerance : float

    Returns
    -------
    x : array, shape (n,)
        The lowest point met: the start itself, if its value is not finite.
    value : float
    """
    best = value(x)
    damping, growth = _FIRST, 2.0
    fresh: tuple[Array, Array] | None = None
    for _ in range(max_steps if np.isfinite(best) else 0):
        curvature, gradient = fresh if fresh is not None else normal_equations(x)
        fresh = curvature, gradient
        step, promised = _damped_step(curvature, gradient, damping)
        trial = value(x + step)
        gained = best - trial
        if promised <= tolerance * best:  # the last digits: what it gains is rounded, where it leads is not
            return (x + step, float(trial)) if gained >= -tolerance * best else (x, float(best))
        if gained > 0:
            x, best, fresh = x + step, trial, None
            damping *= max(1 / 3, 1 - (2 * gained / promised - 1) ** 3)
            growth = 2.0
            if gained <= tolerance * best:
                break
        else:
            damping, growth = damping * growth, 2 * growth
            if damping > _LAST:
                break
    return x, float(best)


def _damped_step(curvature: Array, gradient: Array, damping: float) -> tuple[Array, float]:
    """The step and the decrease of the linear model along it; none where the equations cannot be solved."""
    weight = damping * max(float(np.max(np.diag(curvature))), np.finfo(float).tiny)
    try:
        step = -np.linalg.solve(curvature + weight * np.eye(len(gradient)), gradient)
    except np.linalg.LinAlgError:
        return np.zeros_like(gradient), np.inf
    return np.asarray(step, dtype=float), float(-step @ gradient - step @ curvature @ step / 2)
