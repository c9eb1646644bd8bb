"""Simulations, predictions and states of a state-space model for plain arrays, which are checked here.

The formulas are those of :mod:`.system` and :mod:`.observer`.
"""

from __future__ import annotations

from functools import cached_property

import casadi as ca
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import checks
from . import state_space_checks
from .observer import ExtendedKalmanFilter, carried_on, fitted_initial_state
from .records import checked_inputs, checked_outputs
from .system import System

__all__ = ["CheckedSystem"]

Array = NDArray[np.float64]


class CheckedSystem:
    """What a state-space model does, once its two functions are there."""

    def __init__(self, system: System) -> None:
        self._system = system

    # ---- sizes and functions

    @property
    def num_states(self) -> int:
        return self._system.num_states

    @property
    def num_inputs(self) -> int:
        return self._system.num_inputs

    @property
    def num_outputs(self) -> int:
        return self._system.num_outputs

    @property
    def num_parameters(self) -> int:
        return self._system.num_parameters

    @property
    def dynamics(self) -> ca.Function:
        return self._system.dynamics

    @property
    def output(self) -> ca.Function:
        return self._system.output

    @cached_property
    def stage_function(self) -> ca.Function:
        x, v, theta = self._system.symbols()
        return ca.Function("stage", [x, theta, v], [self.dynamics(x, v, theta)], ["x", "u", "v"], ["x_next"])

    @cached_property
    def output_function(self) -> ca.Function:
        x, v, theta = self._system.symbols()
        return ca.Function("output", [x, theta, v], [self.output(x, v, theta)], ["x", "u", "v"], ["y"])

    def check_parameters(self, theta: ArrayLike, name: str = "theta") -> Array:
        """The vector in double precision.

        Raises
        ------
        ValueError
            If it is no vector of the model's length, or not of finite real numbers.
        """
        return state_space_checks.vector(name, theta, self.num_parameters, "parameters")

    # ---- evaluation

    def values(self, theta: Array, x: Array, v: Array) -> tuple[Array, Array]:
        """f (N, n) and g (N, m) at the rows of x (N, n) and v (N, q), which are not checked."""
        return self._system.values(x, v, theta)

    def jacobians(self, theta: Array, x: Array, v: Array) -> tuple[Array, Array, Array, Array]:
        """df/dx (N, n, n), df/dtheta (N, n, P), dg/dx (N, m, n), dg/dtheta (N, m, P) at rows, not checked."""
        return self._system.jacobians(x, v, theta)

    def state_jacobians(self, theta: Array, x: Array, v: Array) -> tuple[Array, Array]:
        """df/dx (N, n, n) and dg/dx (N, m, n) at rows, not checked."""
        return self._system.state_jacobians(x, v, theta)

    def curvatures(self, theta: Array, x: Array, v: Array, costates: Array, slopes: Array) -> Array:
        """Hessians of <costate, f> + <slope, g> in (x, theta), (N, n + P, n + P), at rows, not checked."""
        return self._system.curvatures(x, v, theta, costates, slopes)

    def roll(self, theta: Array, v: Array, x0: Array, slacks: Array) -> Array:
        """x_0..x_T, (T + 1, n), with x_{t+1} = f(x_t, v_t; theta) - e_t and slacks e (T, n); nothing is checked."""
        return self._system.roll(theta, v, x0, slacks)

    def simulate(self, theta: ArrayLike, v: ArrayLike, x0: ArrayLike) -> tuple[Array, Array]:
        """The outputs and states from x_0 on, no measurement used.

        Parameters
        ----------
        theta : array, shape (P,)
        v : array, shape (T, q)
            Exogenous inputs; shape (T, 0) without any.
        x0 : array, shape (n,)

        Returns
        -------
        y : array, shape (T, m)
        x : array, shape (T + 1, n)
            x_0 to x_T.  From the step on that overflowed, an unstable model's y and x are infinite, without a warning.

        Raises
        ------
        ValueError
            For other shapes, no samples, or numbers that are not finite.
        """
        theta, v = self.check_parameters(theta), checked_inputs("v", v, self.num_inputs)
        return self._system.simulate(theta, v, self._state("x0", x0))

    def predict(
        self,
        theta: ArrayLike,
        v: ArrayLike,
        y: ArrayLike,
        *,
        steps: int = 1,
        x0: ArrayLike | None = None,
        process_noise: ArrayLike = 0.1,
        measurement_noise: ArrayLike = 1.0,
        initial_deviation: ArrayLike = 1.0,
    ) -> Array:
        """The outputs predicted ``steps`` ahead: row t from all inputs, and the outputs up to and with t - steps.

        The state at t - steps comes from an extended Kalman filter (:mod:`.observer`) and is carried on by f.  The
        first ``steps`` rows know no output: they are simulated from ``x0``.

        Parameters
        ----------
        theta : array, shape (P,)
        v : array, shape (T, q)
        y : array, shape (T, m)
            NaN where nothing was measured.
        steps : int
        x0 : array, shape (n,), or None
            Mean of the initial state, zero by default.
        process_noise, measurement_noise, initial_deviation : float or array
            Standard deviations, of the state equation (n,), of the outputs (m,) and of x_0 (n,).  What counts is their
            ratio: with the defaults, our choice for states and outputs of unit variance, some ten samples are averaged.

        Returns
        -------
        array, shape (T, m)
            Infinite where the filter or a simulation overflowed.

        Raises
        ------
        ValueError
            For other shapes, v and y of unequal length, inputs that are not finite, or deviations that are not positive
            (``process_noise`` may be zero).
        """
        checks.check("steps", steps, checks.WIDTH)
        noise = {"process_noise": process_noise, "measurement_noise": measurement_noise}
        x = self.filter(theta, v, y, x0=x0, initial_deviation=initial_deviation, **noise)
        mean = np.zeros(self.num_states) if x0 is None else self._state("x0", x0)
        v = checked_inputs("v", v, self.num_inputs)
        return carried_on(self._system, self.check_parameters(theta), v, mean, x, int(steps))

    def filter(
        self,
        theta: ArrayLike,
        v: ArrayLike,
        y: ArrayLike,
        *,
        x0: ArrayLike | None = None,
        process_noise: ArrayLike = 0.1,
        measurement_noise: ArrayLike = 1.0,
        initial_deviation: ArrayLike = 1.0,
    ) -> Array:
        """The states (T, n) by an extended Kalman filter: row t from the outputs up to and with t.

        Parameters and errors are those of :meth:`predict`; what overflows is infinite or NaN.
        """
        theta, v, y = self._checked(theta, v, y)
        n = self.num_states
        mean = self._state("x0", np.zeros(n) if x0 is None else x0)
        covariance = np.diag(state_space_checks.deviations("initial_deviation", initial_deviation, n) ** 2)
        noise = (
            state_space_checks.deviations("process_noise", process_noise, n, zero=True),
            state_space_checks.deviations("measurement_noise", measurement_noise, self.num_outputs),
        )
        return self._filter.filtered(theta, v, y, (mean, covariance), noise)

    def estimate_initial_state(
        self, theta: ArrayLike, v: ArrayLike, y: ArrayLike, *, window: int, guess: ArrayLike | None = None
    ) -> Array:
        """The initial state from which the simulation fits the first ``window`` outputs best, in least squares.

        The window is part of every figure that is measured with it.  See :mod:`.observer` for the method.

        Parameters
        ----------
        theta : array, shape (P,)
        v : array, shape (T, q)
        y : array, shape (T, m)
            NaN where nothing was measured.
        window : int
            w, at most T.
        guess : array, shape (n,), or None
            Where to start from, zero by default; it is what comes back if no simulation from it is finite.

        Returns
        -------
        array, shape (n,)

        Raises
        ------
        ValueError
            For other shapes, v and y of unequal length, inputs that are not finite, a window beyond the record, or one
            without any measurement.
        """
        theta, v, y = self._checked(theta, v, y)
        checks.check("window", window, checks.integer(1, len(y)))
        if not np.isfinite(y[:window]).any():
            raise ValueError(f"the first {window} rows of y must hold a measurement, received NaN everywhere")
        start = self._state("guess", np.zeros(self.num_states) if guess is None else guess)
        return fitted_initial_state(self._system, theta, v[:window], y[:window], start)

    @cached_property
    def _filter(self) -> ExtendedKalmanFilter:
        return ExtendedKalmanFilter(self._system)

    def _state(self, name: str, x: ArrayLike) -> Array:
        return state_space_checks.vector(name, x, self.num_states, "states")

    def _checked(self, theta: ArrayLike, v: ArrayLike, y: ArrayLike) -> tuple[Array, Array, Array]:
        inputs, outputs = checked_inputs("v", v, self.num_inputs), checked_outputs("y", y, self.num_outputs)
        if len(inputs) != len(outputs):
            raise ValueError(
                f"v and y must be as long as each other, received {len(inputs)} and {len(outputs)} samples"
            )
        return self.check_parameters(theta), inputs, outputs
