"""Parameters of a state-space model by regression along given states: the model as a predictor of one step.

    min over theta of  1/2 sum_t ||x_{t+1} - f(x_t, v_t; theta)||^2 + 1/2 sum_t ||y_t - g(x_t, v_t; theta)||^2
                       + ridge/2 ||theta||^2,

outputs in units of their standard deviations, by Levenberg-Marquardt.  No simulation takes part, so no horizon does.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ...network.levenberg_marquardt import minimise_squares
from ...network.records import Records
from ...network.state_space import StateSpaceModel

__all__ = ["fit_to_states"]

Array = NDArray[np.float64]

# Weight decay of the regression: states and outputs have unit variance, so that noise alone bounds the weights.
_RIDGE = 1e-3

# Steps of the regression; its last digits are of no use to a start.
_STEPS, _TOLERANCE = 60, 1e-5

# Rows at most, and rows at a time: their Jacobians have n + m rows of P numbers.
_MOST, _AT_A_TIME = 5_000, 2_048


def fit_to_states(model: StateSpaceModel, records: Records, states: list[Array], theta: Array) -> Array:
    """The parameters that continue the states (T_i, n) by one step best, from ``theta`` on."""
    _, outputs = records.scalers()
    rows = _Rows(model, records, states, 1 / outputs.scale)
    found, _ = minimise_squares(rows.value, rows.normal_equations, theta, max_steps=_STEPS, tolerance=_TOLERANCE)
    return found


class _Rows:
    """One row a time step, from all records."""

    def __init__(self, model: StateSpaceModel, records: Records, states: list[Array], weight: Array) -> None:
        self._model, self._weight = model, weight
        self._x = np.concatenate([x[:-1] for x in states])
        self._x_next = np.concatenate([x[1:] for x in states])
        self._v = np.concatenate([v[:-1] for v in records.inputs])
        y = np.concatenate([y[:-1] for y in records.outputs])
        self._measured = np.isfinite(y)
        self._y = np.where(self._measured, y, 0.0)
        self._stride = -(-len(self._x) // _MOST)

    def _pieces(self) -> Iterator[slice]:
        width = _AT_A_TIME * self._stride
        for start in range(0, len(self._x), width):
            yield slice(start, start + width, self._stride)

    def _residuals(self, theta: Array, rows: slice) -> tuple[Array, Array]:
        x_next, y = self._model.values(theta, self._x[rows], self._v[rows])
        errors = np.where(self._measured[rows], (y - self._y[rows]) * self._weight, 0.0)
        return x_next - self._x_next[rows], errors

    def value(self, theta: Array) -> float:
        squares = [float(np.sum(r * r)) for rows in self._pieces() for r in self._residuals(theta, rows)]
        return (sum(squares) + _RIDGE * float(theta @ theta)) / 2

    def normal_equations(self, theta: Array) -> tuple[Array, Array]:
        curvature, gradient = _RIDGE * np.eye(len(theta)), _RIDGE * theta
        for rows in self._pieces():
            _, b, _, d = self._model.jacobians(theta, self._x[rows], self._v[rows])
            d = np.where(self._measured[rows][:, :, None], d * self._weight[:, None], 0.0)
            for jacobian, residual in zip((b, d), self._residuals(theta, rows), strict=True):
                flat = jacobian.reshape(-1, len(theta))
                curvature += flat.T @ flat
                gradient = gradient + flat.T @ residual.ravel()
        return curvature, gradient
