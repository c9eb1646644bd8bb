"""A state-space model as it was identified: parameters, units, and the initial states of its records."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...base import checks
from ...network.records import Records, checked_inputs, checked_outputs
from ...network.scaling import Scaler
from ...network.state_space import StateSpaceModel
from ..sequence_metrics import fit_percent
from .initial_state import InitialStates

__all__ = ["IdentifiedModel"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class IdentifiedModel:
    """A state-space model with its parameters, for inputs and outputs in their own units.

    Attributes
    ----------
    system : StateSpaceModel
    standard_theta : array, shape (P,)
        Parameters for standardised inputs and outputs.
    input_scaler, output_scaler : Scaler
        Into standard units.
    initial_states : array, shape (records, n)
        Of the training records.
    known : InitialStates
        What the training records say about initial states of others.
    """

    system: StateSpaceModel
    standard_theta: Array
    input_scaler: Scaler
    output_scaler: Scaler
    initial_states: Array
    known: InitialStates

    def __repr__(self) -> str:
        return f"IdentifiedModel({self.system!r}, {len(self.initial_states)} initial states)"

    @property
    def theta(self) -> Array:
        """Parameters for inputs and outputs as they are: what ``system.simulate`` takes, and the exports; (P,)."""
        return self.system.in_units(self.standard_theta, self.input_scaler, self.output_scaler)

    def simulate(self, v: ArrayLike, x0: ArrayLike) -> tuple[Array, Array]:
        """Outputs (T, m) and states (T + 1, n) from x_0, (n,), on; no measurement is used.

        Raises
        ------
        ValueError
            As :meth:`ocp_nn.StateSpaceModel.simulate`.
        """
        scaled = self.input_scaler.transform(checked_inputs("v", v, self.system.num_inputs))
        y, x = self.system.simulate(self.standard_theta, scaled, x0)
        return self.output_scaler.inverse(y), x

    def estimate_initial_state(self, v: ArrayLike, y: ArrayLike) -> Array:
        """The x_0, (n,), that all rows of y, (w, m), tell together with the training states (:mod:`.initial_state`).

        Parameters
        ----------
        v : array, shape (T, q), T >= w
        y : array, shape (w, m)
            NaN where nothing was measured.

        Raises
        ------
        ValueError
            For other shapes, or more rows of y than of v.
        """
        v = checked_inputs("v", v, self.system.num_inputs)
        y = checked_outputs("y_init", y, self.system.num_outputs)
        if len(y) > len(v):
            raise ValueError(f"y_init must have at most the {len(v)} rows of v, received {len(y)}")
        records = Records((v[: len(y)],), (y,)).scaled(self.input_scaler, self.output_scaler)
        return self.known.estimate(self.system, self.standard_theta, records.inputs[0], records.outputs[0])

    @property
    def mean_initial_state(self) -> Array:
        """The mean over the training records, (n,)."""
        return np.asarray(self.initial_states.mean(axis=0))

    def run(self, v: ArrayLike, y_init: ArrayLike | None = None) -> tuple[Array, Array]:
        """Outputs (T, m) and states (T + 1, n) of a free run whose initial state the rows of ``y_init`` tell.

        Without them it starts from the mean of the initial states of the training records.
        """
        x0 = self.mean_initial_state if y_init is None else self.estimate_initial_state(v, y_init)
        return self.simulate(v, x0)

    def fit_percent(self, v: ArrayLike, y: ArrayLike, *, warm_up: int) -> Array:
        """Fit in per cent, (m,), of a run after a warm-up that told its initial state.

        Raises
        ------
        ValueError
            As :func:`.sequence_metrics.fit_percent`, and for a warm-up without samples.
        """
        checks.check("warm_up", warm_up, checks.integer(1))
        y = checked_outputs("y", y, self.system.num_outputs)
        simulated, _ = self.run(v, y[:warm_up])
        return fit_percent(y, simulated, warm_up=warm_up)
