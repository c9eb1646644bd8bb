"""States of a model with given parameters that come close to its equations and to the measurements: a smoother.

    min over x of  1/2 sum ||(y_t - g(x_t, v_t)) / r||^2 + 1/2 sum ||(x_{t+1} - f(x_t, v_t)) / s||^2
                   + 1/2 ||(x_0 - mean) / deviation||^2,

linearised at a trajectory, again and again from a filtered one on: Gauss-Newton, each step one banded Cholesky factor.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from ...base.floating import overflow_is_a_value
from ...network.state_space import StateSpaceModel

__all__ = ["smoothed_states"]

Array = NDArray[np.float64]

# Linearisations: the first ones do most, and what is left a solver goes on with.
_STEPS = 5


@overflow_is_a_value
def smoothed_states(
    model: StateSpaceModel, theta: Array, v: Array, y: Array, x: Array, deviations: tuple[Array, Array]
) -> Array:
    """The states (T, n), from the trajectory ``x`` on.

    ``deviations`` are those of the state equation, s (n,), and of the outputs, r (m,).  The lowest trajectory met comes
    back: ``x`` itself where the model overflows along it.
    """
    best, lowest = x, _value(model, theta, v, y, x, x[0], deviations)
    for _ in range(_STEPS):
        trial = _linear_smoother(model, theta, v, y, best, x[0], deviations)
        value = _value(model, theta, v, y, trial, x[0], deviations)
        if not value < lowest:
            break
        best, lowest = trial, value
    return best


def _residuals(
    model: StateSpaceModel, theta: Array, v: Array, y: Array, x: Array, deviations: tuple[Array, Array]
) -> tuple[Array, Array]:
    """(x_{t+1} - f) / s (T - 1, n) and (y - g) / r (T, m), zero where not measured."""
    of_states, of_outputs = deviations
    x_next, outputs = model.values(theta, x, v)
    measured = np.isfinite(y)
    return (x[1:] - x_next[:-1]) / of_states, np.where(measured, np.where(measured, y, 0.0) - outputs, 0.0) / of_outputs


def _value(
    model: StateSpaceModel, theta: Array, v: Array, y: Array, x: Array, mean: Array, deviations: tuple[Array, Array]
) -> float:
    defects, errors = _residuals(model, theta, v, y, x, deviations)
    return float(np.sum(defects**2) + np.sum(errors**2) + np.sum((x[0] - mean) ** 2)) / 2


def _linear_smoother(
    model: StateSpaceModel, theta: Array, v: Array, y: Array, x: Array, mean: Array, deviations: tuple[Array, Array]
) -> Array:
    """One Gauss-Newton step: the normal equations are block tridiagonal in time."""
    (length, n), (s, r) = x.shape, deviations
    a, _, c, _ = model.jacobians(theta, x, v)
    a, c = a[:-1] / s[:, None], np.where(np.isfinite(y)[:, :, None], c / r[:, None], 0.0)
    defects, errors = _residuals(model, theta, v, y, x, deviations)
    blocks = c.transpose(0, 2, 1) @ c
    blocks[0] += np.eye(n)
    blocks[1:] += np.diag(1 / s**2)
    blocks[:-1] += a.transpose(0, 2, 1) @ a
    below = -a / s[:, None]
    right = np.einsum("tij,ti->tj", c, errors)
    right[0] += mean - x[0]
    right[1:] -= defects / s
    right[:-1] += np.einsum("tij,ti->tj", a, defects)
    try:
        step = scipy.linalg.solveh_banded(_band(blocks, below), right.ravel(), lower=True, check_finite=False)
    except (np.linalg.LinAlgError, ValueError):
        return x
    return x + step.reshape(length, n)


def _band(blocks: Array, below: Array) -> Array:
    """The lower band of a symmetric matrix of blocks (T, n, n) and (T - 1, n, n), as LAPACK stores it."""
    length, n, _ = blocks.shape
    band = np.zeros((2 * n, length * n))
    for j in range(n):
        for i in range(j, n):
            band[i - j, j::n] = blocks[:, i, j]
        for i in range(n):
            band[n + i - j, j : (length - 1) * n : n] = below[:, i, j]
    return band
