"""Each initialisation has the statistics it names; state trajectories pass thirty layers of any activation."""

from __future__ import annotations

import numpy as np
import pytest
from subproblems import as_symbolic

from ocp_nn import Dense, Network, TrainingProblem
from ocp_nn.network.activations import ACTIVATIONS
from ocp_nn.solvers.augmented_lagrangian.initialise import INITIALISATIONS, can_fit_states, initialise, signal_ratio

HIDDEN_ACTIVATIONS = [name for name in ACTIVATIONS if name != "identity"]
SIZES = {
    "widths change": [3, 7, 4, 9, 2],
    "one input": [1, 8, 8, 1],
    "widening": [2, 3, 12, 1],
    "one hidden unit": [1, 1, 1],
    "many outputs": [4, 5, 5, 7],
}


def problem_of(network, samples=60, seed=0):
    """Targets that depend on every input, so that a lost signal shows."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2, 2, (samples, network.num_inputs))
    waves = np.sin(x @ rng.standard_normal((network.num_inputs, network.num_outputs)))
    return TrainingProblem(network, x, waves, 1e-3)


def deep(activation, depth=30, width=6, inputs=1, outputs=1, residual=False):
    return problem_of(Network.mlp([inputs, *[width] * depth, outputs], activation, residual))


@pytest.mark.parametrize(
    ("method", "variance"),
    [("standard", lambda n, m: 1 / n), ("xavier", lambda n, m: 2 / (n + m)), ("he", lambda n, m: 2 / n)],
)
def test_random_weights_have_the_variance_of_their_name(method, variance):
    network = Network.mlp([300, 100, 400, 50])
    controls = initialise(problem_of(network, samples=3), method, seed=1)
    for layer, u in zip(network.layers, controls, strict=True):
        weight, bias = layer.weights(u)
        # the sample variance of n numbers is within 5 standard errors sqrt(2/n) of the truth
        expected = variance(layer.num_inputs, layer.num_outputs)
        assert weight.var() == pytest.approx(expected, rel=5 * np.sqrt(2 / weight.size))
        assert abs(weight.mean()) < 5 * np.sqrt(expected / weight.size)
        assert not bias.any()


def test_orthogonal_weights_are_orthogonal():
    network = Network.mlp([7, 4, 4, 9])
    for layer, u in zip(network.layers, initialise(problem_of(network), "orthogonal", 0), strict=True):
        weight, bias = layer.weights(u)
        product = weight @ weight.T if layer.num_outputs <= layer.num_inputs else weight.T @ weight
        np.testing.assert_allclose(product, np.eye(len(product)), atol=1e-13)
        assert not bias.any()


@pytest.mark.parametrize("method", INITIALISATIONS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_every_method_serves_every_shape(method, activation, sizes):
    problem = problem_of(Network.mlp(sizes, activation))
    controls = problem.network.check_controls(initialise(problem, method, seed=3))
    assert np.isfinite(problem.objective(problem.rollout(controls)))
    for again, u in zip(initialise(problem, method, seed=3), controls, strict=True):
        np.testing.assert_array_equal(again, u)
    other = initialise(problem, method, seed=5)
    assert any(not np.array_equal(a, u) for a, u in zip(other, controls, strict=True))


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (3, 2), (10, 4)])
def test_state_trajectories_reach_the_end_of_thirty_layers(activation, residual, inputs, outputs):
    problem = deep(activation, inputs=inputs, outputs=outputs, residual=residual)
    controls = initialise(problem, "states", seed=0)
    assert signal_ratio(problem, controls) > 0.15
    last = problem.rollout(controls).states[-1]
    # distinct units, not one feature six times: several directions carry a tenth of the largest one
    sizes = np.linalg.svd(last - last.mean(axis=0), compute_uv=False)
    assert np.sum(sizes > 0.1 * sizes[0]) >= min(2, inputs + 1)
    # fitted to y by ridge regression, so better than the mean already
    mean_objective = 0.5 * np.sum((problem.y - problem.y.mean(axis=0)) ** 2)
    residuals = problem.network.predict(controls, problem.x) - problem.y
    assert 0.5 * np.sum(residuals**2) < 0.97 * mean_objective


def test_the_last_layer_is_the_ridge_fit():
    problem = deep("tanh", outputs=2)
    controls = initialise(problem, "states", seed=0)
    last = problem.rollout(controls).states[-1]
    centred = last - last.mean(axis=0)
    normal = centred.T @ centred + problem.weight_decay * np.eye(last.shape[1])
    weight, bias = problem.network.layers[-1].weights(controls[-1])
    np.testing.assert_allclose(weight.T, np.linalg.solve(normal, centred.T @ problem.y), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(bias, problem.y.mean(axis=0) - last.mean(axis=0) @ weight.T, atol=1e-9)


def test_relu_layers_carry_the_first_one_exactly():
    problem = deep("relu")
    states = problem.rollout(initialise(problem, "states", seed=0)).states
    np.testing.assert_array_equal(states[-1], states[1])


@pytest.mark.parametrize("inputs", [1, 2, 5])
def test_the_kinks_of_the_first_layer_lie_among_the_data(inputs):
    """Every unit is on for some samples and off for others."""
    problem = deep("relu", depth=2, width=8, inputs=inputs)
    on = problem.rollout(initialise(problem, "states", seed=0)).states[1] > 0
    assert np.all(on.any(axis=0)) and np.all(~on.all(axis=0))


@pytest.mark.parametrize(
    ("activation", "depth", "least", "most", "expected"),
    [
        ("tanh", 2, 0.15, 1.0, "standard"),
        ("tanh", 40, 1e-15, 0.15, "standard"),
        ("softplus", 20, 1e-15, 0.15, "standard"),
        ("sigmoid", 4, 1e-15, 0.15, "standard"),
        ("sigmoid", 15, 1e-15, 0.15, "standard"),
        ("sigmoid", 40, 0.0, 1e-15, "states"),
        ("relu", 1, 0.15, 1.0, "standard"),
        ("relu", 2, 1e-15, 0.15, "states"),
        ("relu", 40, 0.0, 1e-15, "states"),
    ],
)
def test_auto_takes_states_where_the_signal_is_lost(activation, depth, least, most, expected):
    """In smooth layers that is at rounding, in ReLU layers, which may be dead, much earlier."""
    problem = deep(activation, depth)
    assert least <= signal_ratio(problem, initialise(problem, "standard", 0)) < most
    chosen = np.concatenate(initialise(problem, "auto", 0))
    np.testing.assert_array_equal(chosen, np.concatenate(initialise(problem, expected, 0)))


def test_one_relu_layer_among_smooth_ones_has_kinks():
    """The layers of the network decide, not its first one alone."""
    smooth = deep("sigmoid", 10)
    layers = list(smooth.network.layers)
    mixed = problem_of(Network([*layers[:5], Dense(6, 6, "relu"), *layers[5:]]))
    assert 1e-15 < signal_ratio(mixed, initialise(mixed, "standard", 0)) < 0.15
    for problem, expected in ((smooth, "standard"), (mixed, "states")):
        chosen, right = (np.concatenate(initialise(problem, method, 0)) for method in ("auto", expected))
        np.testing.assert_array_equal(chosen, right)


def test_the_signal_ratio_is_one_for_a_network_that_copies_its_input():
    problem = problem_of(Network([Dense(3, 3, "identity"), Dense(3, 3, "identity"), Dense(3, 1, "identity")]))
    copy = np.vstack([np.eye(3), np.zeros(3)]).ravel()
    assert signal_ratio(problem, (copy, 0.5 * copy, np.zeros(4))) == pytest.approx(0.5)


def test_networks_of_symbolic_stages_start_from_their_own_weights():
    problem = problem_of(as_symbolic(Network.mlp([1, *[4] * 12, 1], "sigmoid")))
    assert not can_fit_states(problem.network)
    for method in ("auto", "standard", "xavier", "orthogonal"):
        chosen, own = np.concatenate(initialise(problem, method, 0)), problem.network.init_controls(0)
        np.testing.assert_array_equal(chosen, np.concatenate(own))
    with pytest.raises(ValueError, match="'states' needs dense layers"):
        initialise(problem, "states", 0)


def test_states_need_a_hidden_layer():
    with pytest.raises(ValueError, match="at least one hidden layer"):
        initialise(problem_of(Network.mlp([2, 1])), "states")


def test_an_unknown_method_names_the_known_ones():
    with pytest.raises(ValueError, match=r"initialisation must be one of .*orthogonal, states, received 'kaiming'"):
        initialise(problem_of(Network.mlp([2, 1])), "kaiming")
