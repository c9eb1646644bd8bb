"""Evaluating a batch in NumPy gives what the CasADi stages give sample by sample; misfitting shapes are refused."""

from __future__ import annotations

import casadi as ca
import numpy as np
import pytest

from ocp_nn import Dense, Network, Symbolic, TrainingProblem
from ocp_nn.network.activations import ACTIVATIONS


def oscillator() -> ca.Function:
    """A stage that is not a layer: one Euler step of a driven oscillator, its stiffness and damping the control."""
    x, u = ca.SX.sym("x", 2), ca.SX.sym("u", 3)
    return ca.Function("oscillator", [x, u], [x + 0.1 * ca.vertcat(x[1], -u[0] * ca.sin(x[0]) - u[1] * x[1] + u[2])])


NETWORKS = {
    **{name: Network.mlp([3, 5, 4, 2], activation=name) for name in ACTIVATIONS},
    "residual": Network.mlp([3, 4, 4, 4, 2], residual=True),
    "one stage": Network.mlp([3, 2]),
    "own stages": Network([Dense(3, 2), oscillator(), Symbolic(oscillator()), Dense(2, 2, "identity")]),
}


def stage_by_stage(network: Network, controls, x):
    rows = []
    for sample in x:
        for stage, u in zip(network.stages, controls, strict=True):
            sample = stage(sample, u)
        rows.append(np.array(sample).ravel())
    return np.array(rows)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("num_samples", [1, 2, 7])
def test_predict(network, num_samples):
    x = np.random.default_rng(1).standard_normal((num_samples, 3))
    controls = network.init_controls(seed=2)
    np.testing.assert_allclose(
        network.predict(controls, x), stage_by_stage(network, controls, x), rtol=1e-13, atol=1e-14
    )


def test_predict_takes_any_memory_order_and_type():
    network = NETWORKS["tanh"]
    controls, x = network.init_controls(), np.arange(12).reshape(4, 3)
    expected = network.predict(controls, x.astype(float))
    np.testing.assert_array_equal(network.predict(controls, x), expected)
    np.testing.assert_array_equal(network.predict(controls, np.asfortranarray(x, dtype=float)), expected)
    np.testing.assert_array_equal(network.predict(controls, np.repeat(x, 2, axis=0)[::2]), expected)


def test_initial_controls_are_seeded_and_scaled():
    network = Network.mlp([400, 300, 1])
    first, again, other = network.init_controls(0), network.init_controls(0), network.init_controls(1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    weight, bias = network.layers[0].weights(first[0])
    assert weight.std() == pytest.approx(1 / 20, rel=0.02)
    assert not bias.any()


def test_counts():
    network = Network.mlp([3, 5, 4, 2])
    assert (network.sizes, network.num_stages, network.num_inputs, network.num_outputs) == ((3, 5, 4, 2), 3, 3, 2)
    assert network.num_controls == 4 * 5 + 6 * 4 + 5 * 2 == sum(len(u) for u in network.init_controls())
    assert [s.numel_in(1) for s in network.stages] == [20, 24, 10]
    split = network.split(np.arange(54.0))
    np.testing.assert_array_equal(np.concatenate(split), np.arange(54.0))
    assert [len(u) for u in split] == [20, 24, 10]


def _tall() -> ca.Function:
    x = ca.SX.sym("x", 2, 2)
    return ca.Function("tall", [x, ca.SX.sym("u")], [x])


def _one_argument() -> ca.Function:
    x = ca.SX.sym("x")
    return ca.Function("alone", [x], [x])


BAD_NETWORKS = {
    "no layers": (lambda: Network([]), "at least one layer"),
    "one size": (lambda: Network.mlp([3]), r"sizes must be a sequence of two widths or more .*, received \[3\]"),
    "zero width": (lambda: Network.mlp([3, 0, 1]), r"sizes must be .* \(integers >= 1\).*, received \[3, 0, 1\]"),
    "unknown activation": (
        lambda: Network.mlp([3, 2, 1], activation="swish"),
        "activation must be one of .*, received 'swish'",
    ),
    "widths that do not match": (
        lambda: Network([Dense(3, 4), Dense(5, 1)]),
        "stage 0 has 4 outputs but stage 1 expects 5 inputs",
    ),
    "skip connection between widths": (
        lambda: Dense(3, 4, residual=True),
        "a skip connection needs equal widths, got 3 -> 4",
    ),
    "matrix stage": (lambda: Network([_tall()]), "must map column vectors"),
    "stage without control": (lambda: Network([_one_argument()]), "must map column vectors"),
    "not a function": (lambda: Symbolic(np.tanh), r"must be a casadi\.Function"),
}


@pytest.mark.parametrize(("build", "message"), BAD_NETWORKS.values(), ids=BAD_NETWORKS)
def test_bad_network(build, message):
    with pytest.raises(ValueError, match=message):
        build()


NET = Network.mlp([2, 3, 1])
X, Y = np.arange(8.0).reshape(4, 2), np.arange(4.0)

BAD_PROBLEMS = {
    "columns of x": (
        lambda: TrainingProblem(NET, np.ones((4, 3)), Y),
        r"x must have shape \(N, 2\).*received \(4, 3\)",
    ),
    "columns of y": (
        lambda: TrainingProblem(NET, X, np.ones((4, 2))),
        r"y must have shape \(N, 1\).*received \(4, 2\)",
    ),
    "rows": (lambda: TrainingProblem(NET, X, Y[:3]), "received 4 and 3"),
    "empty": (lambda: TrainingProblem(NET, X[:0], Y[:0]), "x has no rows"),
    "NaN": (lambda: TrainingProblem(NET, np.where(X == 5, np.nan, X), Y), "received nan in row 2, column 1"),
    "infinite target": (
        lambda: TrainingProblem(NET, X, np.where(Y == 1, np.inf, Y)),
        "received inf in row 1, column 0",
    ),
    "negative weight decay": (lambda: TrainingProblem(NET, X, Y, -0.1), "must be a finite number >= 0, received -0.1"),
    "NaN weight decay": (lambda: TrainingProblem(NET, X, Y, float("nan")), "must be a finite number >= 0"),
    "number of controls": (lambda: TrainingProblem(NET, X, Y).rollout([np.zeros(9)]), "one control vector a stage"),
    "length of a control": (
        lambda: NET.predict([np.zeros(8), np.zeros(4)], X),
        r"expected .*\(9,\).* received .*\(8,\)",
    ),
    "inputs to predict": (
        lambda: NET.predict(NET.init_controls(), X.T),
        r"x must have shape \(N, 2\) with one row a sample, received \(2, 4\)",
    ),
}


@pytest.mark.parametrize(("act", "message"), BAD_PROBLEMS.values(), ids=BAD_PROBLEMS)
def test_bad_input(act, message):
    with pytest.raises(ValueError, match=message):
        act()


def test_a_vector_of_targets_is_one_output():
    np.testing.assert_array_equal(TrainingProblem(NET, X, Y).y, Y[:, None])
