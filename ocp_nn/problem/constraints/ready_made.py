"""Constraints that networks are most often asked for, by name.

**By weights.**  A network of layers phi(W x + b) with phi non-decreasing rises in an input where every weight after the
first layer is >= 0 and that input's weights in the first are >= 0; it falls where the latter are <= 0 (Sill 1998).
Inputs without such a wish keep weights of either sign in the first layer.  With phi convex too, the network is convex
in its inputs where all weights after the first layer are >= 0 (Amos, Xu and Kolter 2017).  Such bounds hold
everywhere, not only at the data, and they are sufficient, not necessary: they cost some freedom.

**At points.**  :func:`at_points` adds points that are no data, at which output constraints hold too;
:func:`monotone_at_points` (:mod:`.tangents`) constrains derivatives at data and points and leaves weights free.

**Lipschitz constant.**  ||W||_2 <= ||W||_F, so that ||W_k||_F <= (L / prod of slopes)^(1/K) for all K layers bounds
the constant by L.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import casadi as ca
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...base import checks
from ...network.layers import Dense
from ...network.network import Network
from ..losses import Softmax
from ..training import TRAINING_PROBLEM, TrainingProblem
from .constrained_problem import Constraint
from .control_sets import ControlBounds, GroupLasso
from .output_constraint import OutputConstraint

__all__ = [
    "at_points",
    "checked_signs",
    "convex_in_inputs",
    "lipschitz",
    "monotone",
    "nonnegative",
    "output_range",
    "sparse_inputs",
    "sparse_units",
]

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

_NETWORK = checks.instance(Network, "an ocp_nn.Network")

# Convex and non-decreasing.
_CONVEX = ("relu", "softplus", "identity")

# Largest slopes.
_SLOPES = {"tanh": 1.0, "sigmoid": 0.25, "relu": 1.0, "softplus": 1.0, "identity": 1.0}


def nonnegative(network: Network, *, layers: Sequence[int] | None = None, biases: bool = False) -> ControlBounds:
    """W_k >= 0 for some layers, all by default; ``biases`` too.

    Raises
    ------
    ValueError
        For layers that do not exist or are not dense.
    """
    tables = _tables(network)
    chosen = range(len(tables)) if layers is None else layers
    for k in chosen:
        if not 0 <= k < len(tables):
            raise ValueError(f"layers must lie in 0..{len(tables) - 1}, received {k}")
    entries = [tables[k].ravel() if biases else tables[k][:-1].ravel() for k in chosen]
    return ControlBounds(lower=0.0, entries=np.unique(np.concatenate(entries)), name="nonnegative weights")


def monotone(network: Network, signs: Sequence[int] | Mapping[int, int]) -> ControlBounds:
    """By weights: outputs rise (1), fall (-1) or do as they like (0) in each input.

    Parameters
    ----------
    network : Network
    signs : sequence of int, one an input, or {input: sign}

    Raises
    ------
    ValueError
        For signs that are none, layers that are not dense, or a first layer with a skip connection in an input that
        is to fall.
    """
    wanted = checked_signs(signs, network.num_inputs)
    first, *others = _tables(network)
    layer = network.layers[0]
    if isinstance(layer, Dense) and layer.residual and (wanted < 0).any():
        raise ValueError("monotone: the first layer hands its inputs on by a skip connection, so no output can fall")
    rows = np.flatnonzero(wanted)
    rising = np.repeat(wanted[rows] > 0, first.shape[1])
    entries, lower, upper = [first[rows].ravel()], [_where(rising, -np.inf)], [_where(~rising, np.inf)]
    for table in others:
        entries.append(table[:-1].ravel())
        lower.append(np.zeros(entries[-1].shape))
        upper.append(np.full(entries[-1].shape, np.inf))
    lows, highs = np.concatenate(lower), np.concatenate(upper)
    return _bounds(np.concatenate(entries), lows, highs, "monotone")


def convex_in_inputs(network: Network) -> ControlBounds:
    """By weights: every output is a convex function of all inputs.

    Raises
    ------
    ValueError
        For a network without hidden layers, or with activations that are not convex and non-decreasing.
    """
    tables = _tables(network)
    if len(tables) < 2:
        raise ValueError("convex_in_inputs: a network without hidden layers is affine, and convex as it is")
    for layer in network.layers:
        assert isinstance(layer, Dense)
        if layer.activation not in _CONVEX:
            raise ValueError(
                f"convex_in_inputs: expected convex, non-decreasing activations ({', '.join(_CONVEX)}), received "
                f"{layer.activation!r}"
            )
    entries = np.concatenate([table[:-1].ravel() for table in tables[1:]])
    return ControlBounds(lower=0.0, entries=np.unique(entries), name="convex")


def output_range(
    problem: TrainingProblem, lower: ArrayLike = -np.inf, upper: ArrayLike = np.inf, *, samples: ArrayLike | None = None
) -> OutputConstraint:
    """Outputs within bounds at all samples of a problem (:func:`at_points` adds points), or at some.

    Parameters
    ----------
    problem : TrainingProblem
    lower, upper : array_like
        In the network's units, one or one an output; of the network's outputs, which for a classifier are no
        probabilities.
    samples : sequence of int, optional
    """
    checks.check("problem", problem, TRAINING_PROBLEM)
    term = problem.terms[0]
    return OutputConstraint(
        term.layer,
        lower,
        upper,
        stages=term.stage,
        block=term.block,
        samples=None if samples is None else np.asarray(samples).tolist(),
        name="output range",
    )


def lipschitz(network: Network, bound: float) -> list[Constraint]:
    """The network's Lipschitz constant (Euclidean norms) is at most ``bound``, by the Frobenius norms of its layers.

    Raises
    ------
    ValueError
        For a bound that is not positive, layers that are not dense, or skip connections.
    """
    checks.check("bound", bound, checks.POSITIVE)
    tables = _tables(network)
    layers = [layer for layer in network.layers if isinstance(layer, Dense)]
    if any(layer.residual for layer in layers):
        raise ValueError("lipschitz: layers with skip connections are not covered")
    slopes = float(np.prod([_SLOPES[layer.activation] for layer in layers]))
    radius = (bound / slopes) ** (1.0 / len(tables))
    constraints: list[Constraint] = []
    for k, (layer, block) in enumerate(zip(layers, network.blocks, strict=True)):
        x, u = ca.SX.sym("x", layer.num_inputs), ca.SX.sym("u", layer.num_controls)
        square = ca.sumsqr(u[: layer.num_inputs * layer.num_outputs]) / radius**2
        norm = ca.Function("norm", [x, u], [square])
        constraint = OutputConstraint(norm, upper=1.0, stages=k, block=block, samples=[0], name=f"norm of layer {k}")
        constraints.append(constraint)
    return constraints


def sparse_inputs(network: Network, weight: float) -> GroupLasso:
    """A group for every input, its weights in the first layer: inputs that do not help leave the network.

    Raises
    ------
    ValueError
        For a first layer that is not dense, or a weight that is not positive.
    """
    table = _tables(network)[0]
    return GroupLasso(weight, [row.tolist() for row in table[:-1]], name="sparse inputs")


def sparse_units(network: Network, weight: float, *, layer: int = 0) -> GroupLasso:
    """A group for every unit of a hidden layer, its weights in the next one: units that do not help leave the network.

    Raises
    ------
    ValueError
        For a layer that has none after it, or a weight that is not positive.
    """
    tables = _tables(network)
    if not 0 <= layer < len(tables) - 1:
        raise ValueError(f"layer must be a hidden one, in 0..{len(tables) - 2}, received {layer}")
    return GroupLasso(weight, [row.tolist() for row in tables[layer + 1][:-1]], name=f"sparse units of layer {layer}")


def at_points(problem: TrainingProblem, points: ArrayLike) -> TrainingProblem:
    """The same problem with points that are no data: samples of weight zero, at which constraints hold all the same.

    Parameters
    ----------
    problem : TrainingProblem
    points : array_like (M, inputs)

    Raises
    ------
    ValueError
        For points of another width, or that are not finite.
    """
    checks.check("problem", problem, TRAINING_PROBLEM)
    more = checks.table("points", points, problem.network.num_inputs)
    weights = np.ones(problem.num_samples) if problem.sample_weight is None else problem.sample_weight
    targets = np.zeros((len(more), problem.y.shape[1]))
    if isinstance(problem.loss, Softmax):
        targets[:, 0] = 1.0
    return TrainingProblem(
        problem.network,
        np.concatenate([problem.x, more]),
        np.concatenate([problem.y, targets]),
        problem.weight_decay,
        loss=problem.loss,
        sample_weight=np.concatenate([weights, np.zeros(len(more))]),
    )


def checked_signs(signs: Sequence[int] | Mapping[int, int], inputs: int) -> NDArray[np.int64]:
    """One of -1, 0 and 1 for every input.

    Raises
    ------
    ValueError
        For other numbers, another length, or inputs that do not exist.
    """
    if isinstance(signs, Mapping):
        if unknown := [j for j in signs if not (isinstance(j, int | np.integer) and 0 <= j < inputs)]:
            raise ValueError(f"signs: inputs lie in 0..{inputs - 1}, received {unknown[0]!r}")
        full = np.zeros(inputs)
        for j, sign in signs.items():
            full[j] = sign
    else:
        full = np.asarray(signs, dtype=float)
    if full.shape != (inputs,) or not np.isin(full, (-1, 0, 1)).all() or not full.any():
        raise ValueError(
            f"signs: expected -1, 0 or 1 for each of {inputs} inputs, not all of them 0, received {full.tolist()}"
        )
    return full.astype(np.int64)


def _tables(network: Network) -> list[Indices]:
    """Of every layer, where its controls stand among all: (inputs + 1, outputs), biases in the last row."""
    checks.check("network", network, _NETWORK)
    starts = [0, *accumulate(layer.num_controls for layer in network.block_layers)]
    tables = []
    for k, (layer, block) in enumerate(zip(network.layers, network.blocks, strict=True)):
        if not isinstance(layer, Dense):
            raise ValueError(f"layer {k} is not dense: give an ocp_nn.ControlBounds or OutputConstraint of your own")
        entries = starts[block] + np.arange(layer.num_controls)
        tables.append(entries.reshape(layer.num_inputs + 1, layer.num_outputs))
    return tables


def _where(zero: NDArray[np.bool_], other: float) -> Array:
    return np.where(zero, 0.0, other)


def _bounds(entries: Indices, lower: Array, upper: Array, name: str) -> ControlBounds:
    """Bounds of entries that may come more than once (shared weights): the narrower ones count."""
    unique = np.unique(entries)
    lows, highs = np.full(len(unique), -np.inf), np.full(len(unique), np.inf)
    at = np.searchsorted(unique, entries)
    np.maximum.at(lows, at, lower)
    np.minimum.at(highs, at, upper)
    if not (lows <= highs).all():
        raise ValueError(f"{name}: weights that layers share would have to be of both signs")
    return ControlBounds(lows, highs, entries=unique, name=name)
