"""One function for the starts of identification: parameters theta and hidden states from records.

==========  ==================================================  =======================================================
kind        states                                              parameters
==========  ==================================================  =======================================================
"linear"    of a linear model's observer (:mod:`.subspace`)     the linear model's, network weights small; a regression
                                                                where the model has no linear part
"delays"    outputs, smoothed derivatives (:mod:`.delays`)      regression along the states (:mod:`.regression`)
"slow"      random memories of the inputs (:mod:`.slow`)        regression along the states
"random"    smoothed with the model (:mod:`.smoother`)          random weights, or the guess that came with functions
"auto"      of one of these                                     the same
==========  ==================================================  =======================================================

States have mean zero and variance one in the first two, so that small network weights see them well.  Models of
networks start in units of standard deviations, and their parameters are brought into the records' units at the end.

"auto" takes "linear", if its states lead to 70 % of the outputs' variance ten steps ahead, and otherwise whatever of
"linear" and "delays" predicts better.  Single shooting from "linear" went to the noise, or near it, wherever this
holds (forced Duffing oscillator, cascaded tanks, coupled drives), and on the last two from "delays" it did not; the x
of Lorenz' system has no linear model.  Where none of them predicts well, and the simulation of the better one says
nothing, it is "slow": outputs may answer to inputs of long ago (a pulse that shows 200 steps later: predictions 0.6,
simulation 1.0).  Functions that came with a guess start there, since their states may have a meaning that no record
shows; without one, the three are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...base import checks
from ...base.floating import overflow_is_a_value
from ...network.records import Records
from ...network.state_space import StateSpaceModel
from .delays import delay_states, window_sides
from .linear_model import LinearModel
from .regression import fit_to_states
from .slow import slow_states
from .smoother import smoothed_states
from .subspace import fit_linear_model

__all__ = ["start"]

Array = NDArray[np.float64]
Start = tuple[Array, list[Array]]

_KINDS = ("auto", "linear", "delays", "slow", "random")

# The last weights of the networks beside a linear part, as a share of standard random ones: the linear model decides,
# and the gradients of the first weights are not zero.
_SMALL = 0.01

# Steps ahead of the predictions that "auto" compares, and the mean squared error, as a share of the outputs' variance,
# with which a start is good enough (linear models: drives 0.2, Lorenz 1.0).
_AHEAD, _FOLLOWS = 10, 0.3

# The mean squared error, as such a share, from which on a simulation says nothing.
_NOTHING = 0.9

# Squared errors count as at most this many variances: a few that overflow do not hide the others.
_WORST = 100.0

# Deviations of the state equation, and of the outputs, for filters and smoothers, in units of the standard deviations
# of states and outputs: the model is taken for ten times as good as the measurements.
_OF_STATES, _OF_OUTPUTS = 0.1, 1.0


def start(model: StateSpaceModel, records: Any, kind: str = "auto", seed: int = 0) -> tuple[Array, Array]:
    """Parameters and states to start from.

    Parameters
    ----------
    model : StateSpaceModel
    records : Records, or a sequence of pairs (v, y)
    kind : str
        One of "auto", "linear", "delays", "slow" and "random".
    seed : int
        Of the random weights.

    Returns
    -------
    theta : array, shape (P,)
    states : array, shape (T, N, n)
        T samples of the longest of N records; beyond the end of a record its last state.

    Raises
    ------
    ValueError
        For records that do not fit the model, or another kind or seed.
    """
    checks.check("model", model, checks.instance(StateSpaceModel, "a StateSpaceModel"))
    checks.check("kind", kind, checks.one_of(_KINDS))
    checks.check("seed", seed, checks.SEED)
    records = Records.checked(records, num_inputs=model.num_inputs, num_outputs=model.num_outputs)
    inputs, outputs = records.scalers()
    if model.architecture is None:
        theta, states = _STARTS[kind](model, records, seed)
    else:
        theta, states = _STARTS[kind](model, records.scaled(inputs, outputs), seed)
        theta = model.in_units(theta, inputs, outputs)
    length = max(records.lengths)
    return theta, np.stack([np.pad(x, ((0, length - len(x)), (0, 0)), mode="edge") for x in states], axis=1)


def _best(model: StateSpaceModel, records: Records, seed: int) -> Start:
    """The first start that follows the records, or else the one that predicts best."""
    if model.has_guess:
        return _random(model, records, seed)
    candidates = []
    for start_of in (_linear, _delays) if model.architecture else (_random, _linear, _delays):
        candidate = start_of(model, records, seed)
        error = _prediction_error(model, records, *candidate)
        if error < _FOLLOWS:
            return candidate
        candidates.append((error, candidate))
    best = min(candidates, key=lambda entry: entry[0])[1]
    says_nothing = records.num_inputs and _simulation_error(model, records, *best) > _NOTHING
    return _slow(model, records, seed) if says_nothing else best


def _linear(model: StateSpaceModel, records: Records, seed: int) -> Start:
    feedthrough = model.architecture is not None and model.architecture.feedthrough
    linear, states = fit_linear_model(records, model.num_states, feedthrough=feedthrough)
    theta = _embedded(model, linear, seed)
    if not _has_linear_parts(model):
        theta = fit_to_states(model, records, states, theta)
    return theta, states


def _delays(model: StateSpaceModel, records: Records, seed: int) -> Start:
    candidates = []
    for side in window_sides(records, model.num_states):
        states = delay_states(records, model.num_states, side)
        theta = _embedded(model, _linear_regression(records, states), seed)
        theta = fit_to_states(model, records, states, theta)
        candidates.append((_prediction_error(model, records, theta, states), (theta, states)))
    return min(candidates, key=lambda entry: entry[0])[1]


def _slow(model: StateSpaceModel, records: Records, seed: int) -> Start:
    states = slow_states(records, model.num_states, seed)
    theta = _embedded(model, _linear_regression(records, states), seed)
    return fit_to_states(model, records, states, theta), states


def _random(model: StateSpaceModel, records: Records, seed: int) -> Start:
    theta = model.initial_parameters(seed)
    return theta, _smoothed(model, records, theta)


_STARTS: dict[str, Callable[[StateSpaceModel, Records, int], Start]] = {
    "auto": _best,
    "linear": _linear,
    "delays": _delays,
    "slow": _slow,
    "random": _random,
}


def _has_linear_parts(model: StateSpaceModel) -> bool:
    form = model.architecture
    return form is not None and form.has_linear_dynamics and form.has_linear_output


def _embedded(model: StateSpaceModel, linear: LinearModel, seed: int) -> Array:
    """The linear model's matrices where the model has them; random weights, made small beside a linear part."""
    theta = model.initial_parameters(seed)
    form = model.architecture
    if form is None:
        return theta
    parts = form.split(theta)  # views
    for name in parts.keys() & vars(linear).keys():
        parts[name][:] = getattr(linear, name).reshape(parts[name].shape)
    for prefix, is_beside in (("", form.has_linear_dynamics), ("output_", form.has_linear_output)):
        layers = sum(name.startswith(f"{prefix}W") for name in parts)
        if layers and is_beside:
            parts[f"{prefix}W{layers}"] *= _SMALL
    return theta


def _linear_regression(records: Records, states: list[Array]) -> LinearModel:
    """A, B, b of one step along the states, and C, d of the outputs."""
    x, q = np.concatenate([x[:-1] for x in states]), records.num_inputs
    v = np.concatenate([v[:-1] for v in records.inputs])
    n = x.shape[1]
    x_next = np.concatenate([x[1:] for x in states])
    a = np.linalg.lstsq(np.hstack([x, v, np.ones((len(x), 1))]), x_next, rcond=None)[0].T
    c = np.empty((records.num_outputs, n + 1))
    table = np.hstack([np.concatenate(states), np.ones((sum(records.lengths), 1))])
    for j, y in enumerate(np.concatenate(records.outputs).T):
        measured = np.isfinite(y)
        c[j] = np.linalg.lstsq(table[measured], y[measured], rcond=None)[0]
    nothing = np.zeros((len(c), q))
    return LinearModel(a[:, :n], a[:, n : n + q], a[:, -1], c[:, :n], nothing, c[:, -1], np.zeros((n, len(c))))


def _smoothed(model: StateSpaceModel, records: Records, theta: Array) -> list[Array]:
    """Filtered, and smoothed from there; zero where even the filter overflows."""
    _, outputs = records.scalers()
    of_states, of_outputs = np.full(model.num_states, _OF_STATES), _OF_OUTPUTS * outputs.scale
    states = []
    for v, y in zip(records.inputs, records.outputs, strict=True):
        x = model.filter(theta, v, y, process_noise=of_states, measurement_noise=of_outputs)
        is_finite = np.isfinite(x).all()
        deviations = of_states, of_outputs
        states.append(smoothed_states(model, theta, v, y, x, deviations) if is_finite else np.zeros_like(x))
    return states


@overflow_is_a_value
def _prediction_error(model: StateSpaceModel, records: Records, theta: Array, states: list[Array]) -> float:
    """Mean squared errors at the states and ten steps after them, added, as a share of the outputs' variance.

    The first is there because smoothed states know a little of what comes.
    """
    _, outputs = records.scalers()
    now, later = [], []
    for v, y, x in zip(records.inputs, records.outputs, states, strict=True):
        steps = min(_AHEAD, len(y) - 1)
        now.append(_squares(model, theta, x, v, y / outputs.scale, outputs.scale))
        x = x[:-steps]
        for k in range(steps):
            x, _ = model.values(theta, x, v[k : k + len(x)])
        later.append(_squares(model, theta, x, v[steps:], y[steps:] / outputs.scale, outputs.scale))
    return sum(float(np.sum(squares)) / max(1, squares.size) for squares in map(np.concatenate, (now, later)))


@overflow_is_a_value
def _simulation_error(model: StateSpaceModel, records: Records, theta: Array, states: list[Array]) -> float:
    """Mean squared error of the simulation from the first states, as a share of the outputs' variance."""
    _, outputs = records.scalers()
    squares = []
    for v, y, x in zip(records.inputs, records.outputs, states, strict=True):
        simulated = model.simulate(theta, v, x[0])[1][:-1]
        squares.append(_squares(model, theta, simulated, v, y / outputs.scale, outputs.scale))
    return float(np.mean(np.concatenate(squares)))


def _squares(model: StateSpaceModel, theta: Array, x: Array, v: Array, y: Array, scale: Array) -> Array:
    """Squared errors of the outputs that were measured, bounded; overflow is the bound too."""
    _, predicted = model.values(theta, x, v)
    squares = np.square(predicted / scale - y)[np.isfinite(y)]
    return np.where(squares < _WORST, squares, _WORST)
