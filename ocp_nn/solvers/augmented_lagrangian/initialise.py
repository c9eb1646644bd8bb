"""Starting points: random weights, and weights fitted to a guess of the state trajectory.

Multiple shooting may guess *states*.  ``"states"`` gives every hidden layer a trajectory that carries the data
through the network, then fits each layer to it (our derivation):

1. The first layer spreads its units over the data: random directions, kinks (or centres) at stratified quantiles of the
   projections, so that the units are distinct features of x whatever the dimension.
2. Every further layer should repeat the state before it.  For a smooth activation its weights are the ridge fit of
   the inverse activation of that target on the *actual* state of the rollout, so errors do not build up with depth.
   A ReLU layer repeats non-negative states exactly with W = I.
3. The last layer is the ridge fit of y, or of outputs that say y where the loss is of another kind than squares.

Standard weights lose the signal of deep narrow networks: it contracts by about phi'(0) a layer (sigmoid: 1/4), and
neither states nor gradients arrive.  :func:`signal_ratio` looks at that; ``"auto"`` takes ``"states"`` where nothing
above rounding arrives, or too little for ReLU units.
"""

from __future__ import annotations

from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from ...base import checks
from ...base.floating import overflow_is_a_value
from ...network.layers import Dense
from ...problem.optimal_control import PROBLEM, OptimalControlProblem
from ...problem.training import TrainingProblem

__all__ = ["ALL_INITIALISATIONS", "INITIALISATIONS", "initialise", "signal_ratio"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]

INITIALISATIONS = ("auto", "standard", "xavier", "he", "orthogonal", "states")

# And of networks over time (:mod:`.over_time.starts`).
ALL_INITIALISATIONS = (*INITIALISATIONS, "linear", "slow")

# "auto" starts from states where less of the signal arrives.  In smooth layers multiple shooting revives whatever is
# above rounding, and ends at lower objectives from there (scripts/deep_suite.py); ReLU units that are dead stay dead.
_SMOOTH_SIGNAL, _RELU_SIGNAL = 1e-15, 0.15

# Slope of a smooth unit at its centre, in standard deviations of its projection.
_GAIN = 2.0

# Ridge per sample of the layer-wise fits; keeps the weights of near-constant states small.
_RIDGE = 1e-3

# Range of the trajectory inside each bounded activation, so that phi' stays useful.
_RANGE = {"tanh": (-0.8, 0.8), "sigmoid": (0.1, 0.9)}


@overflow_is_a_value
def initialise(problem: OptimalControlProblem, method: str = "auto", seed: int = 0) -> Arrays:
    """Controls to start from.

    Parameters
    ----------
    problem : OptimalControlProblem
    method : str
        ``"standard"`` (W ~ N(0,1)/sqrt(n_in)), ``"xavier"`` (Glorot and Bengio 2010), ``"he"`` (He et al. 2015),
        ``"orthogonal"`` (Saxe et al. 2014), ``"states"`` (state trajectories), all with b = 0 but the last; or
        ``"auto"``: ``"states"`` where standard weights lose the signal, ``"standard"`` otherwise.
    seed : int

    Returns
    -------
    tuple of arrays
        One a block.

    Raises
    ------
    ValueError
        For an unknown method, or ``"states"`` for anything but a feed-forward network of dense layers without shared
        weights.
    """
    checks.check("problem", problem, PROBLEM)
    checks.check("initialisation", method, checks.one_of(INITIALISATIONS))
    standard = problem.init_controls(seed)
    if method == "auto":
        fits = can_fit_states(problem) and signal_ratio(problem, standard) < _least_signal(problem)
        method = "states" if fits else "standard"
    if method == "standard":
        return standard
    if method == "states":
        return fit_states(problem, seed)
    rng = np.random.default_rng(seed)
    return tuple(
        _scaled_weights(layer, method, rng) if isinstance(layer, Dense) else u
        for layer, u in zip(problem.block_layers, standard, strict=True)
    )


def signal_ratio(problem: OptimalControlProblem, controls: Arrays) -> float:
    """How much of the input's spread reaches the last state: the ratio of mean standard deviations over samples."""
    states = problem.rollout(controls).states
    spread = [float(x.std(axis=0).mean()) for x in (states[0], states[-1])]
    return spread[1] / spread[0] if spread[0] > 0 else 1.0


def _least_signal(problem: OptimalControlProblem) -> float:
    return _RELU_SIGNAL if problem.has_kinks else _SMOOTH_SIGNAL


def can_fit_states(problem: OptimalControlProblem) -> TypeGuard[TrainingProblem]:
    """Whether this is a feed-forward network, every layer of it dense and with weights of its own, with hidden states
    between: then state trajectories can be fitted.
    """
    if not isinstance(problem, TrainingProblem) or problem.network.is_tied:
        return False
    return problem.num_stages > 1 and all(isinstance(layer, Dense) for layer in problem.layers)


def _scaled_weights(layer: Dense, method: str, rng: np.random.Generator) -> Array:
    n_in, n_out = layer.num_inputs, layer.num_outputs
    weight = rng.standard_normal((n_in, n_out))
    if method == "xavier":
        weight *= np.sqrt(2.0 / (n_in + n_out))
    elif method == "he":
        weight *= np.sqrt(2.0 / n_in)
    else:
        tall, triangle = np.linalg.qr(weight if n_in >= n_out else weight.T)
        tall *= np.sign(np.diag(triangle))  # uniform over the orthogonal matrices (Mezzadri 2007)
        weight = tall if n_in >= n_out else tall.T
    return np.vstack([weight, np.zeros(n_out)]).ravel()


@overflow_is_a_value
def fit_states(problem: OptimalControlProblem, seed: int) -> Arrays:
    """Controls whose rollout carries spread-out features of the data through every layer.

    Raises
    ------
    ValueError
        For a network with symbolic stages, with shared weights or without hidden states.
    """
    if not can_fit_states(problem):
        raise ValueError(
            "initialisation 'states' needs dense layers with weights of their own and at least one hidden layer; use "
            "'standard'"
        )
    first, *middle, _ = (layer for layer in problem.network.layers if isinstance(layer, Dense))
    controls = [_spread_units(first, problem.x, np.random.default_rng(seed))]
    state = first.forward(problem.x, controls[0])
    target = np.clip(state, *_RANGE.get(first.activation, (-np.inf, np.inf)))
    for layer in middle:
        controls.append(_carry(layer, state, _resized(target, layer.num_outputs)))
        state = layer.forward(state, controls[-1])
        if layer.num_outputs != target.shape[1]:
            target = state
    # the objective's own weight decay is the right ridge for the last layer: it then is optimal
    controls.append(_ridge_fit(state, problem.data.sensible_outputs(), max(problem.weight_decay, 1e-8)))
    return tuple(controls)


def _spread_units(layer: Dense, x: Array, rng: np.random.Generator) -> Array:
    """Random directions of alternating sign with centres at stratified quantiles of the projections."""
    units = layer.num_outputs
    directions = rng.standard_normal((x.shape[1], units))
    if x.shape[1] == 1:
        directions = np.abs(directions)
    directions /= np.linalg.norm(directions, axis=0)
    directions *= np.where(np.arange(units) % 2 == 0, 1.0, -1.0)
    projections = x @ directions
    ranks = (np.arange(units) + rng.uniform(size=units)) / units
    # a falling unit takes the mirrored quantile, so that centres stay spread along one axis
    ranks = np.where(np.arange(units) % 2 == 0, ranks, 1.0 - ranks)
    centres = np.array([np.quantile(projections[:, j], ranks[j]) for j in range(units)])
    spread = projections.std(axis=0)
    gain = np.where(spread > 0, 1.0 / np.where(spread > 0, spread, 1.0), 1.0)
    gain *= _GAIN if layer.activation in _RANGE else 1.0
    return np.vstack([directions * gain, -centres * gain]).ravel()


def _resized(target: Array, width: int) -> Array:
    """The trajectory for a layer of another width: columns repeated or left out."""
    return target[:, np.arange(width) % target.shape[1]]


def _carry(layer: Dense, state: Array, target: Array) -> Array:
    """Weights that make the layer map ``state`` close to ``target``."""
    if layer.residual:
        return np.zeros(layer.num_controls)
    if layer.activation in ("relu", "identity") and np.array_equal(_resized(state, layer.num_outputs), target):
        selection = np.eye(layer.num_inputs)[:, np.arange(layer.num_outputs) % layer.num_inputs]
        return np.vstack([selection, np.zeros(layer.num_outputs)]).ravel()
    return _ridge_fit(state, layer.phi.inverse(target), _RIDGE * len(state))


def _ridge_fit(x: Array, y: Array, ridge: float) -> Array:
    """[W; b] minimising ||x W + b - y||^2 + ridge ||W||^2, by the normal equations of the centred data."""
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    centred = x - mean_x
    normal = centred.T @ centred
    normal[np.diag_indices_from(normal)] += ridge
    try:
        weight = np.linalg.solve(normal, centred.T @ (y - mean_y))
    except np.linalg.LinAlgError:  # the ridge is lost in rounding: leave the mean
        weight = np.zeros((x.shape[1], y.shape[1]))
    return np.vstack([weight, mean_y - mean_x @ weight]).ravel()
