"""Identification of a state-space model from records, as an optimal control problem over time.

    minimise    sum_t sum_i w/2 ||g(x_t^i, v_t^i; theta) - y_t^i||^2
                + rho/2 ||theta||^2  +  alpha/2 sum_i ||x_0^i - xbar^i||^2
    subject to  x_{t+1}^i = f(x_t^i, v_t^i; theta),   t = 0..T-2

Time steps are stages, the hidden states are states, and the parameters theta are one control block that all stages and
all terms share.  Records are samples i, side by side from their first instant on; beyond the end of a shorter record,
and wherever an output was not measured, w is zero.  Single shooting is the simulation error (output error) method and
back-propagation through time; multiple shooting keeps the states as variables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import checks
from ..network.layers import Driven, Layer, Symbolic
from ..network.records import Records
from ..network.state_space import StateSpaceModel
from .data_term import DataTerm
from .losses import Squared
from .optimal_control import OptimalControlProblem
from .shooting import Shooting
from .structure import Stage, Term

__all__ = ["IDENTIFICATION_PROBLEM", "IdentificationProblem"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]


class IdentificationProblem(OptimalControlProblem):
    """Records of a dynamic system, a model of it, and a weight decay.

    Parameters
    ----------
    model : StateSpaceModel
    experiments : sequence of pairs (v, y)
        One a record: inputs, (T, inputs), of width 0 or None for an autonomous system, and outputs, (T, outputs), NaN
        where nothing was measured.  Records may differ in length.  Networks want them in units of their standard
        deviations: :class:`ocp_nn.Scaler`.
    weight_decay : float
        rho >= 0, of the parameters.
    output_weight : float or sequence of floats
        w > 0, one for all outputs or one an output: the inverse of its noise variance, up to a factor.
    initial_state : array_like, optional
        xbar, (n,) for all records or (records, n); zero by default.
    initial_weight : float
        alpha in (0, inf]; infinite where the initial states are known.

    Attributes
    ----------
    v, y : arrays (T, records, inputs) and (T, records, outputs)
        T of the longest record; y is zero where it was not measured.
    output_weight : array (outputs,)
        w.
    weights : array (T, records, outputs)
        w where there was a measurement, else zero.

    Raises
    ------
    ValueError
        For records that do not fit the model or each other, have a single sample, inputs that are not finite or no
        measurement, and numbers out of range.
    """

    def __init__(
        self,
        model: StateSpaceModel,
        experiments: Sequence[tuple[Any, Any]],
        weight_decay: float = 1e-3,
        *,
        output_weight: float | Sequence[float] = 1.0,
        initial_state: ArrayLike | None = None,
        initial_weight: float = 1e-4,
    ) -> None:
        checks.check("model", model, checks.instance(StateSpaceModel, "an ocp_nn.StateSpaceModel"))
        checks.check("weight_decay", weight_decay, checks.NON_NEGATIVE)
        checks.check("output_weight", output_weight, _WEIGHTS)
        checks.check("initial_weight", initial_weight, checks.POSITIVE_OR_INFINITE)
        records = Records.checked(experiments, num_inputs=model.num_inputs, num_outputs=model.num_outputs)
        self.model, self.records = model, records
        self.v, self.y, measured = records.batch()
        self.output_weight = _per_output(output_weight, model.num_outputs)
        self.weights = measured * self.output_weight
        prior = _initial_states(initial_state, len(records), model.num_states)
        dynamics, output = (_layer(f) for f in (model.stage_function, model.output_function))
        stages = [Stage(_driven(dynamics, v)) for v in self.v[:-1]]
        terms = [Term.of_data(t, _driven(output, self.v[t]), 0, self._data(t)) for t in range(len(self.v))]
        self._set(stages, terms, prior, float(weight_decay), float(initial_weight), (model.num_parameters,))

    def _data(self, t: int) -> DataTerm:
        weights = self.weights[t]
        return DataTerm(Squared(), self.y[t], None if (weights == 1.0).all() else weights)

    def __repr__(self) -> str:
        return f"IdentificationProblem({self.model!r}, {self.records!r}, weight_decay={self.weight_decay:g})"

    @property
    def weight_decay(self) -> float:
        """rho."""
        return self.decays[0]

    @property
    def null_objective(self) -> float:
        """J of the best constant outputs, weight decay left out: what explains nothing."""
        total = self.weights.sum(axis=(0, 1))
        means = (self.weights * self.y).sum(axis=(0, 1)) / np.where(total > 0, total, 1.0)
        return 0.5 * float(np.sum(self.weights * (self.y - means) ** 2))

    def init_controls(self, seed: int = 0) -> Arrays:
        """Standard random parameters: :meth:`ocp_nn.StateSpaceModel.initial_parameters`."""
        return (self.model.initial_parameters(seed),)

    def values(self, theta: Array, states: Array) -> tuple[Array, Array]:
        """f and g at all states at once, (T, records, n) and (T, records, m)."""
        flat = states.reshape(-1, states.shape[-1])
        f, g = self.model.values(theta, flat, self.v.reshape(len(flat), -1))
        return f.reshape(states.shape), g.reshape(*states.shape[:2], -1)

    def evaluate(self, controls: Sequence[Array], states: Sequence[Array]) -> Arrays:
        """As of any problem; all steps at once."""
        f, g = self.values(controls[0], np.stack(states))
        return (*f[:-1], *g)

    def term_outputs(self, controls: Sequence[Array], states: Sequence[Array]) -> Arrays:
        """As of any problem; all steps at once."""
        return tuple(self.values(controls[0], np.stack(states))[1])

    def cost(self, controls: Sequence[Array], outputs: Sequence[Array], initial: Array | None = None) -> float:
        """As of any problem; all steps at once."""
        residual = np.asarray(outputs) - self.y
        fit = 0.5 * float(np.vdot(self.weights * residual, residual))
        return fit + self.decay_cost(controls) + self.initial_cost(initial)

    def roll(
        self,
        shooting: Shooting,
        controls: Sequence[Array],
        initial: Array | None = None,
        *,
        states: Sequence[Array] = (),
        slacks: Sequence[Array] = (),
    ) -> tuple[Arrays, Arrays]:
        """As of any problem; all at once where every state is given, in CasADi's machine where none is."""
        start = self.x if initial is None else initial
        if not shooting.nodes:
            rolled = tuple(self.simulated(controls[0], start))
            return rolled, rolled[1:]
        if len(shooting.nodes) == len(self.dynamics) and not slacks:
            given = (start, *states[1:])
            return given, tuple(self.values(controls[0], np.stack(given))[0][:-1])
        return super().roll(shooting, controls, initial, states=states, slacks=slacks)

    def simulated(self, theta: Array, initial: Array) -> Array:
        """The states (T, records, n) from x_0 (records, n) on; infinite from where they overflow."""
        runs = [self.model.simulate(theta, self.v[:, i], x0)[1][:-1] for i, x0 in enumerate(initial)]
        return np.stack(runs, axis=1)


IDENTIFICATION_PROBLEM = checks.instance(IdentificationProblem, "an ocp_nn.IdentificationProblem")

_WEIGHTS = checks.either(
    checks.POSITIVE, checks.sequence(checks.POSITIVE, "a sequence of positive finite numbers, one an output")
)


def _per_output(weight: float | Sequence[float], outputs: int) -> Array:
    weights = np.asarray(weight, dtype=float)
    if weights.ndim and len(weights) != outputs:
        raise ValueError(
            f"output_weight must be one number or one for each of {outputs} outputs, received {len(weights)}"
        )
    return np.broadcast_to(weights, (outputs,))


def _initial_states(initial_state: ArrayLike | None, records: int, width: int) -> Array:
    if initial_state is None:
        return np.zeros((records, width))
    states = checks.real_array("initial_state", initial_state)
    if states.shape not in ((width,), (records, width)):
        raise ValueError(
            f"initial_state must have shape ({width},), or ({records}, {width}) with one row a record, received "
            f"{states.shape}"
        )
    checks.check_finite("initial_state", states)
    return np.array(np.broadcast_to(states, (records, width)))


def _layer(function: Any) -> Symbolic:
    """The stage of a function (x, u, v); of (x, u) where v is empty."""
    if function.numel_in(2):
        return Symbolic(function)
    x, u = function.mx_in(0), function.mx_in(1)
    return Symbolic(type(function)(function.name(), [x, u], [function(x, u, [])]))


def _driven(layer: Symbolic, v: Array) -> Layer:
    return Driven(layer, v) if layer.num_exogenous else layer
