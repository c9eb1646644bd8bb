"""A state observer for a running system: an extended Kalman filter, one sample at a time.

It is the filter of :mod:`.observer` (whose formulas it shares) taken out of its loop, for a controller: the record is
not there yet.  In the language of multiple shooting it carries the cost-to-arrive of an optimal control problem over
the past: its process noise is the variance 1/beta that a penalty beta allows the defects, and a penalty that is
infinite is no process noise at all (:mod:`ocp_nn.forward_dp.kalman`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import checks
from . import state_space_checks
from .records import checked_inputs, checked_outputs
from .state_space import StateSpaceModel

__all__ = ["Observer"]

Array = NDArray[np.float64]


class Observer:
    """The state of a system as its measurements arrive.

    Parameters
    ----------
    model : StateSpaceModel
    theta : array, shape (P,)
        For inputs and outputs in the units that they arrive in.
    process_noise, measurement_noise, initial_deviation : float or array
        Standard deviations of the state equation (n,), of the outputs (m,) and of x_0 (n,); what counts is their ratio.
    x0 : array, shape (n,), or None
        Mean of the initial state, zero by default.

    Attributes
    ----------
    state : array, shape (n,)
        The estimate: of the present state after :meth:`update`, of the next one after :meth:`predict`.
    covariance : array, shape (n, n)
        Of its error, to first order.

    Raises
    ------
    ValueError
        For shapes that are not the model's, and deviations that are not positive (``process_noise`` may be zero).
    """

    def __init__(
        self,
        model: StateSpaceModel,
        theta: ArrayLike,
        *,
        process_noise: ArrayLike = 0.1,
        measurement_noise: ArrayLike = 1.0,
        initial_deviation: ArrayLike = 1.0,
        x0: ArrayLike | None = None,
    ) -> None:
        checks.check("model", model, checks.instance(StateSpaceModel, "an ocp_nn.StateSpaceModel"))
        n, m = model.num_states, model.num_outputs
        self.model, self._theta = model, model.check_parameters(theta)
        self._process = np.diag(state_space_checks.deviations("process_noise", process_noise, n, zero=True) ** 2)
        self._measurement = state_space_checks.deviations("measurement_noise", measurement_noise, m) ** 2
        self.covariance = np.diag(state_space_checks.deviations("initial_deviation", initial_deviation, n) ** 2)
        self.state = state_space_checks.vector("x0", np.zeros(n) if x0 is None else x0, n, "states")

    def __repr__(self) -> str:
        return f"Observer({self.model!r})"

    def update(self, y: ArrayLike, v: ArrayLike | None = None) -> Array:
        """Take the outputs y_t, (m,), into account, NaN where nothing was measured; the state, (n,).

        ``v`` is the input now, (q,), which matters for models with feedthrough only: zero by default.

        Raises
        ------
        ValueError
            For other shapes, or inputs that are not finite.
        """
        row = self._input(np.zeros(self.model.num_inputs) if v is None else v)
        measured = self._row("y", y, self.model.num_outputs, checked_outputs)
        x, covariance = self.state, self.covariance
        _, _, slopes, _ = self.model.jacobians(self._theta, x[None], row)
        error = measured[0] - self.model.values(self._theta, x[None], row)[1][0]
        change = np.zeros_like(x)
        for j in np.flatnonzero(np.isfinite(measured[0])):
            slope = slopes[0, j]
            column = covariance @ slope
            gain = column / (slope @ column + self._measurement[j])
            change += gain * (error[j] - slope @ change)
            covariance = covariance - np.outer(gain, column)
        self.state, self.covariance = x + change, covariance
        return self.state

    def predict(self, v: ArrayLike) -> Array:
        """Go on by one step under the input v_t, (q,); the state, (n,)."""
        row = self._input(v)
        a, _, _, _ = self.model.jacobians(self._theta, self.state[None], row)
        self.state = self.model.values(self._theta, self.state[None], row)[0][0]
        predicted = a[0] @ self.covariance @ a[0].T + self._process
        self.covariance = (predicted + predicted.T) / 2
        return self.state

    def _input(self, v: ArrayLike) -> Array:
        return self._row("v", v, self.model.num_inputs, checked_inputs)

    def _row(self, name: str, values: ArrayLike, width: int, checked: Any) -> Array:
        vector = checks.real_array(name, values).reshape(-1)
        if len(vector) != width:
            raise ValueError(f"{name} must be a vector of {width} numbers, received {len(vector)}")
        table: Array = checked(name, vector[None], width)
        return table
