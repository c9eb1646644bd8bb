"""How a stage bends along (dx, du) is the second difference of the stage and the difference of its tangent."""

from __future__ import annotations

import numpy as np
import pytest
from oracles import second_derivative
from subproblems import GENERIC, as_symbolic

from ocp_nn import Dense, Network
from ocp_nn.network.activations import ACTIVATIONS
from ocp_nn.network.linear_stages import DenseStage, GenericStage, linearize_layer

SHAPES = {"widening": (2, 5), "narrowing": (4, 1), "square": (3, 3)}
LAYERS = {
    f"{activation}, {shape}": Dense(*widths, activation)
    for activation in ACTIVATIONS
    for shape, widths in SHAPES.items()
} | {f"{activation}, residual": Dense(3, 3, activation, residual=True) for activation in ACTIVATIONS}
STAGES = {name: layer for name, network in GENERIC.items() for layer in network.layers if not isinstance(layer, Dense)}


def place(layer, samples=6, seed=0):
    """(x, u, dx, du) at random; preactivations of dense layers are of size one, none of them near a kink."""
    rng = np.random.default_rng(seed)
    x, dx = rng.standard_normal((2, samples, layer.num_inputs))
    u, du = rng.standard_normal((2, layer.num_controls)) / np.sqrt(layer.num_inputs)
    return x, u, dx, du


def stage_at(layer, x, u):
    return linearize_layer(layer, x, u, layer.forward(x, u))


def close(found, expected, tolerance):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(1.0, np.abs(expected).max()))


def extrapolated(difference, step):
    """Richardson's value of a second-order difference."""
    return (4 * difference(step / 2) - difference(step)) / 3


@pytest.mark.parametrize("samples", [1, 6])
@pytest.mark.parametrize("layer", [*LAYERS.values(), *STAGES.values()], ids=[*LAYERS, *STAGES])
def test_it_is_the_difference_of_the_tangent_and_the_second_one_of_the_stage(layer, samples):
    x, u, dx, du = place(layer, samples)
    bend = stage_at(layer, x, u).second_derivative(dx, du)
    assert bend.shape == (samples, layer.num_outputs)

    def tangent(h):
        ahead, behind = (stage_at(layer, x + t * dx, u + t * du).apply(dx, du) for t in (h, -h))
        return (ahead - behind) / (2 * h)

    def stage(h):
        ahead, here, behind = (layer.forward(x + t * dx, u + t * du) for t in (h, 0.0, -h))
        return (ahead - 2 * here + behind) / h**2

    close(bend, extrapolated(tangent, 1e-3), 1e-8)
    close(bend, extrapolated(stage, 4e-3), 1e-7)


@pytest.mark.parametrize("layer", [*LAYERS.values(), *STAGES.values()], ids=[*LAYERS, *STAGES])
def test_it_is_casadis_to_rounding(layer):
    x, u, dx, du = place(layer, seed=1)
    close(stage_at(layer, x, u).second_derivative(dx, du), second_derivative(layer, x, u, dx, du), 1e-12)


@pytest.mark.parametrize("layer", [*LAYERS.values(), *STAGES.values()], ids=[*LAYERS, *STAGES])
def test_no_change_of_state_stands_for_zero(layer):
    x, u, dx, du = place(layer)
    stage = stage_at(layer, x, u)
    close(stage.second_derivative(None, du), stage.second_derivative(np.zeros_like(dx), du), 1e-14)


@pytest.mark.parametrize("layer", [*LAYERS.values(), *STAGES.values()], ids=[*LAYERS, *STAGES])
def test_it_is_quadratic_in_the_step(layer):
    x, u, dx, du = place(layer)
    stage = stage_at(layer, x, u)
    close(stage.second_derivative(-3.0 * dx, -3.0 * du), 9.0 * stage.second_derivative(dx, du), 1e-13)


@pytest.mark.parametrize("activation", ["relu", "identity"])
def test_without_curvature_of_the_activation_what_is_left_is_bilinear(activation):
    """2 dW dx where the unit is on; nothing where only states or only controls move."""
    x, u, dx, du = place(Dense(4, 3, activation))
    layer = Dense(4, 3, activation)
    stage = stage_at(layer, x, u)
    on = np.ones((6, 3)) if activation == "identity" else layer.forward(x, u) > 0
    assert 0 < np.mean(on) < 1 or activation == "identity"
    bend = stage.second_derivative(dx, du)
    assert np.abs(bend).max() > 0.1
    close(bend, 2 * on * (dx @ layer.weights(du)[0].T), 1e-14)
    assert not stage.second_derivative(None, du).any()
    assert not stage.second_derivative(dx, np.zeros_like(du)).any()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_dense_stages_and_the_same_behind_casadi_agree(activation):
    network = Network.mlp([3, 5, 2, 4], activation)
    for dense, symbolic in zip(network.layers, as_symbolic(network).layers, strict=True):
        x, u, dx, du = place(dense)
        stages = stage_at(dense, x, u), stage_at(symbolic, x, u)
        assert isinstance(stages[0], DenseStage) and isinstance(stages[1], GenericStage)
        close(*(stage.second_derivative(dx, du) for stage in stages), 1e-13)


@pytest.mark.parametrize("layer", [Dense(3, 2, "tanh"), STAGES["normalisation"]], ids=["dense", "generic"])
def test_some_of_the_samples_bend_as_they_do_among_all(layer):
    x, u, dx, du = place(layer, samples=9)
    stage = stage_at(layer, x, u)
    some = slice(2, 7)
    close(stage.rows(some).second_derivative(dx[some], du), stage.second_derivative(dx, du)[some], 1e-14)
