"""Networks over time: x_{t+1} = f(x_t, v_t; theta), y_t = g(x_t, v_t; theta), one theta for all times.

A recurrent network is this with a network for f; so is a discretised differential equation with a few physical
parameters.  The states are hidden: what a record holds are the exogenous inputs v and the outputs y.

The default form has a linear part beside the network (:mod:`.state_space_networks`), so that a linear model is a point
of its parameter space, and a place to start from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import casadi as ca
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import checks, display
from . import state_space_checks
from .checked_system import CheckedSystem
from .network_system import NetworkSystem
from .own_dynamics import normal_form, runge_kutta
from .scaling import Scaler
from .state_space_networks import Architecture
from .system import System

__all__ = ["StateSpaceModel"]

Array = NDArray[np.float64]

_WIDTHS = ("num_states", "num_inputs", "num_outputs")


class StateSpaceModel(CheckedSystem):
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
            super().__init__(NetworkSystem(self.architecture))
            return
        state_space_checks.check_of_functions(options, dynamics, output)
        super().__init__(System(*normal_form(dynamics, output)))
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

    # ---- parameters

    @property
    def has_guess(self) -> bool:
        """Whether it is made of functions that came with parameters to start from."""
        return self._guess is not None

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

    def in_units(self, theta: ArrayLike, inputs: Scaler, outputs: Scaler) -> Array:
        """Parameters for v and y as they are, from those for standardised ones; the states are the same.

        Parameters
        ----------
        theta : array, shape (P,)
            Of the model of ``inputs.transform(v)`` and ``outputs.transform(y)``.
        inputs, outputs : Scaler
            With q and m columns.

        Raises
        ------
        ValueError
            For scalers of other widths, and for a model of functions, whose parameters have units of their own.
        """
        theta = self.check_parameters(theta)
        if self.architecture is None:
            raise ValueError("in_units is for models of networks: the parameters of functions have units of their own")
        received = len(inputs.mean), len(outputs.mean)
        if received != (self.num_inputs, self.num_outputs):
            raise ValueError(
                f"scalers must have {self.num_inputs} and {self.num_outputs} columns, received {received[0]} and "
                f"{received[1]}"
            )
        return self.architecture.in_units(theta, inputs, outputs)


def _words(architecture: Architecture) -> str:
    form = "linear + " if architecture.linear else ""
    hidden = display.widths(architecture.hidden_layer_sizes)
    return f"{form}{architecture.activation} {hidden}" if architecture.hidden_layer_sizes else "linear"
