"""Networks over time: x_{t+1} = f(x_t, v_t; theta), y_t = g(x_t, v_t; theta), one theta for all times.

A recurrent network is this with a network for f; so is a discretised differential equation with a few physical
parameters.  The states are hidden: what a record holds are the exogenous inputs v and the outputs y.

The default form has a linear part beside the network (:mod:`.state_space_networks`), so that a linear model is a point
of its parameter space, and a place to start from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import casadi as ca
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import checks, display
from . import state_space_checks
from .observer import ExtendedKalmanFilter, fitted_initial_state
from .own_dynamics import normal_form, runge_kutta
from .records import checked_inputs, checked_outputs
from .state_space_networks import Architecture
from .system import System

__all__ = ["StateSpaceModel"]

Array = NDArray[np.float64]

_WIDTHS = ("num_states", "num_inputs", "num_outputs")


class StateSpaceModel:
    """A state-space model made of matrices and networks, or of CasADi functions.

    ``StateSpaceModel(num_states=2, num_inputs=1, num_outputs=1)`` is made of networks, and
    ``StateSpaceModel(dynamics=f, output=g)`` of functions; the arguments of the one are not for the other.

    Parameters
    ----------
    num_states, num_inputs, num_outputs : int
        n, q and m; q may be zero.
    hidden_layer_sizes : sequence of int
        Widths of the hidden layers of f; none at all for a linear f.
    activation : str
        A key of :data:`.activations.ACTIVATIONS`, for the hidden layers.
    linear : bool
        Whether a linear part A x + B v + b stands beside the network of f, and C x + d beside that of g.
    feedthrough : bool
        Whether v_t acts on y_t directly.
    output_layer_sizes : sequence of int
        Widths of the hidden layers of g; none (the default) for a linear g.
    dynamics, output : casadi.Function
        f(x, v, theta) and g(x, v, theta), or f(x, theta) and g(x, theta) without inputs; columns in and out.
    guess : array, shape (num_parameters,)
        For functions: parameters to start from, where those near zero make no sense.

    Attributes
    ----------
    num_parameters : int
        Length P of theta.
    dynamics, output : casadi.Function
        (x, v, theta) -> x_next and (x, v, theta) -> y; v has no rows if there are no inputs.
    stage_function, output_function : casadi.Function
        The same two with the arguments in the order (x, u, v) of a stage with the control u = theta.
    parts : dict of slice
        Where each matrix lies in theta; for functions it is one part, ``"theta"``.

    Raises
    ------
    ValueError
        For arguments of both kinds or of none, and what the parameters above do not allow.
    """

    def __init__(
        self,
        *,
        num_states: int | None = None,
        num_inputs: int | None = None,
        num_outputs: int | None = None,
        hidden_layer_sizes: Sequence[int] = (8,),
        activation: str = "tanh",
        linear: bool = True,
        feedthrough: bool = False,
        output_layer_sizes: Sequence[int] = (),
        dynamics: ca.Function | None = None,
        output: ca.Function | None = None,
        guess: Any = None,
    ) -> None:
        fields = Architecture.__dataclass_fields__
        options = {name: value for name, value in locals().items() if name in fields}
        self.architecture: Architecture | None = None
        self._guess: Array | None = None
        if dynamics is None and output is None:
            state_space_checks.check_of_networks(options, guess)
            self.architecture = Architecture(**options)
            self._system = System(*self.architecture.functions())
            return
        state_space_checks.check_of_functions(options, dynamics, output)
        self._system = System(*normal_form(dynamics, output))
        if guess is not None:
            self._guess = self.check_parameters(guess, "guess")

    @classmethod
    def from_ode(
        cls, ode: ca.Function, output: ca.Function, *, sampling_time: float, steps: int = 1, guess: Any = None
    ) -> StateSpaceModel:
        """The model of dx/dt = ode(x, v, theta), sampled, with v held between samples.

        Parameters
        ----------
        ode : casadi.Function
            (x, v, theta), or (x, theta) without inputs, to the derivative of x.
        output : casadi.Function
            As for the model itself.
        sampling_time : float
            Time between samples, in the unit of the derivative.
        steps : int
            Classical Runge-Kutta steps (order four) from one sample to the next.
        guess : array, shape (num_parameters,)
            As for the model itself.

        Raises
        ------
        ValueError
            As the model itself, for a sampling time that is not positive, and for less than one step.
        """
        checks.check("sampling_time", sampling_time, checks.POSITIVE)
        checks.check("steps", steps, checks.WIDTH)
        return cls(dynamics=runge_kutta(ode, float(sampling_time), int(steps)), output=output, guess=guess)

    def __repr__(self) -> str:
        kind = "functions" if self.architecture is None else _words(self.architecture)
        widths = ", ".join(f"{name}={getattr(self, name)}" for name in (*_WIDTHS, "num_parameters"))
        return f"StateSpaceModel({widths}, {kind})"

    def __reduce__(self) -> tuple[Any, tuple[dict[str, Any]]]:
        return StateSpaceModel.from_description, (self.describe(),)  # without what evaluates

    def describe(self) -> dict[str, Any]:
        """The model in plain words and numbers, functions as CasADi serialises them; equal for equal models."""
        if self.architecture is not None:
            return self.architecture.describe()
        guess = None if self._guess is None else self._guess.tolist()
        functions = {"dynamics": self.dynamics.serialize(), "output": self.output.serialize()}
        return {"kind": "functions", **functions, "guess": guess}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> StateSpaceModel:
        """The model that :meth:`describe` described.

        Raises
        ------
        ValueError
            For a kind that is neither of the two.
        """
        entries = dict(description)
        kind = entries.pop("kind", None)
        if kind == "functions":
            functions = {name: ca.Function.deserialize(entries.pop(name)) for name in ("dynamics", "output")}
            return cls(**functions, **entries)
        if kind != "networks":
            raise ValueError(f"the kind of a state-space model must be 'networks' or 'functions', received {kind!r}")
        return cls(**entries)

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

    # ---- parameters

    @property
    def parts(self) -> dict[str, slice]:
        return {"theta": slice(0, self.num_parameters)} if self.architecture is None else self.architecture.parts

    def matrices(self, theta: ArrayLike) -> dict[str, Array]:
        """The parts of theta as matrices, copies; for functions the whole vector as one column.

        Raises
        ------
        ValueError
            If theta is no vector of the model's length, of finite numbers.
        """
        vector = self.check_parameters(theta).copy()
        return {"theta": vector[:, None]} if self.architecture is None else self.architecture.split(vector)

    def initial_parameters(self, seed: int = 0) -> Array:
        """Standard random weights: W ~ N(0, 1) / sqrt(columns) for every matrix and biases of zero.

        For functions it is 0.1 N(0, 1), or their ``guess`` whatever the seed.
        """
        checks.check("seed", seed, checks.SEED)
        rng = np.random.default_rng(seed)
        if self.architecture is not None:
            return self.architecture.initial_parameters(rng)
        return 0.1 * rng.standard_normal(self.num_parameters) if self._guess is None else self._guess.copy()

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
        theta, v, y = self._checked(theta, v, y)
        checks.check("steps", steps, checks.WIDTH)
        n = self.num_states
        mean = self._state("x0", np.zeros(n) if x0 is None else x0)
        prior = mean, np.diag(state_space_checks.deviations("initial_deviation", initial_deviation, n) ** 2)
        noise = (
            state_space_checks.deviations("process_noise", process_noise, n, zero=True),
            state_space_checks.deviations("measurement_noise", measurement_noise, self.num_outputs),
        )
        filtered = self._filter.filtered(theta, v, y, prior, noise)
        return self._carried_on(theta, v, mean, filtered, int(steps))

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

    def _carried_on(self, theta: Array, v: Array, x0: Array, filtered: Array, steps: int) -> Array:
        """y_t from the filtered state at t - steps; the first rows from x0."""
        first, _ = self._system.simulate(theta, v[:steps], x0)
        x, length = filtered[: max(0, len(v) - steps)], len(v)
        for k in range(steps if len(x) else 0):
            x, _ = self._system.values(x, v[k : k + len(x)], theta)
        if not len(x):
            return first
        _, y = self._system.values(x, v[steps:length], theta)
        y[~np.isfinite(y).all(axis=1)] = np.inf
        return np.concatenate([first, y])

    def _state(self, name: str, x: ArrayLike) -> Array:
        return state_space_checks.vector(name, x, self.num_states, "states")

    def _checked(self, theta: ArrayLike, v: ArrayLike, y: ArrayLike) -> tuple[Array, Array, Array]:
        inputs, outputs = checked_inputs("v", v, self.num_inputs), checked_outputs("y", y, self.num_outputs)
        if len(inputs) != len(outputs):
            raise ValueError(
                f"v and y must be as long as each other, received {len(inputs)} and {len(outputs)} samples"
            )
        return self.check_parameters(theta), inputs, outputs


def _words(architecture: Architecture) -> str:
    form = "linear + " if architecture.linear else ""
    hidden = display.widths(architecture.hidden_layer_sizes)
    return f"{form}{architecture.activation} {hidden}" if architecture.hidden_layer_sizes else "linear"
