"""Several threads at once get, bit for bit, what one gets alone: predictions, derivatives, whole solves.

What a thread shares with others are networks, problems and models; nothing that is written to during a call.
"""

from __future__ import annotations

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import casadi as ca
import numpy as np
import pytest

import ocp_nn
from ocp_nn import Dense, IpoptOptions, Network, Options, Symbolic, TrainingProblem
from ocp_nn.network import batch

THREADS = 4
RNG = np.random.default_rng(0)


def oscillator() -> ca.Function:
    x, u = ca.SX.sym("x", 2), ca.SX.sym("u", 3)
    return ca.Function("oscillator", [x, u], [x + 0.1 * ca.vertcat(x[1], -u[0] * ca.sin(x[0]) - u[1] * x[1] + u[2])])


def mixed() -> Network:
    """Symbolic layers, one function twice, between dense ones."""
    stage = oscillator()
    return Network([Dense(1, 2), stage, Symbolic(stage), Dense(2, 1, "identity")])


def at_once(work, jobs):
    """The results of ``work`` for every job, all threads beginning together."""
    barrier = threading.Barrier(THREADS)

    def share(rank):
        barrier.wait()
        return [work(job) for job in jobs[rank::THREADS]]

    with ThreadPoolExecutor(THREADS) as pool:
        shares = list(pool.map(share, range(THREADS)))
    return [shares[i % THREADS][i // THREADS] for i in range(len(jobs))]


def assert_same_bits(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        if isinstance(a, tuple):
            assert_same_bits(a, b)
        else:
            np.testing.assert_array_equal(a, b)


BATCHES = [
    (RNG.standard_normal((n, 2)), RNG.standard_normal(3), RNG.standard_normal((n, 2))) for n in (1, 3, 7, 40) * 500
]

CALLS = {
    "forward": lambda layer, x, u, m: layer.forward(x, u),
    "jacobians": lambda layer, x, u, m: layer.jacobians(x, u),
    "curvature": lambda layer, x, u, m: layer.curvature_product(x, u, m, x, u),
    "second derivative": lambda layer, x, u, m: layer.second_derivative(x, u, m, u),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_symbolic_layer(call):
    """Its first use, which builds CasADi's functions, is by all threads at once too."""
    alone, layer = Symbolic(oscillator()), Symbolic(oscillator())
    expected = [call(alone, *job) for job in BATCHES]
    assert_same_bits(at_once(lambda job: call(layer, *job), BATCHES), expected)


def test_predictions_of_a_network():
    network = mixed()
    controls = network.init_controls(1)
    inputs = [RNG.standard_normal((1 + i % 5, 1)) for i in range(4000)]
    expected = [network.predict(controls, x) for x in inputs]
    assert_same_bits(at_once(lambda x: network.predict(controls, x), inputs), expected)


@pytest.mark.parametrize("network", [mixed(), Network.mlp([1, 6, 6, 1])], ids=["symbolic", "dense"])
def test_whole_solves_of_one_problem(network):
    x = np.linspace(-2, 2, 40)[:, None]
    problem = TrainingProblem(network, x, np.sin(2 * x), 1e-2)

    def answer(seed):
        result = ocp_nn.solve(problem, options=Options(seed=seed, max_outer=8))
        return result.objective, *result.trajectory.controls, *result.trajectory.multipliers

    seeds = list(range(8))
    expected = [answer(seed) for seed in seeds]
    assert_same_bits(at_once(answer, seeds), expected)


def test_whole_solves_by_ipopt():
    x = np.linspace(-2, 2, 12)[:, None]
    nlp = ocp_nn.multiple_shooting(TrainingProblem(mixed(), x, np.sin(x), 1e-2))

    def answer(seed):
        start = nlp.guess(seed)
        result = ocp_nn.solve_ipopt(nlp, start, options=IpoptOptions(max_iterations=15))
        return result.objective, *result.trajectory.controls

    seeds = list(range(8))
    expected = [answer(seed) for seed in seeds]
    assert_same_bits(at_once(answer, seeds), expected)


def test_a_stage_that_evaluates_its_own_network():
    """One call inside another: each has buffers of its own."""
    inner = Symbolic(oscillator())
    u = np.array([0.3, 0.2, 0.1])

    class Stage(ca.Callback):
        def __init__(self):
            super().__init__()
            self.construct("stage", {"enable_fd": True})

        def get_n_in(self):
            return 2

        def get_sparsity_in(self, i):
            return ca.Sparsity.dense(2 if i == 0 else 1)

        def get_sparsity_out(self, i):
            return ca.Sparsity.dense(2)

        def eval(self, arguments):
            return [ca.DM(inner.forward(np.array(arguments[0]).reshape(1, 2), u).ravel())]

    stage = Stage()
    x = RNG.standard_normal((5, 2))
    np.testing.assert_array_equal(Symbolic(stage).forward(x, np.zeros(1)), inner.forward(x, u))


def kept(layer):
    evaluators = [value for value in vars(layer).values() if isinstance(value, batch.BatchEvaluator)]
    return [function for evaluator in evaluators for function in evaluator._kept]


def numbers(function):
    return sum(memory.size for memory in [*function._inputs, *function._outputs])


def test_what_is_kept_is_bounded_whatever_the_batch_sizes():
    layer = Symbolic(Dense(3, 3).function)
    u = RNG.standard_normal(layer.num_controls)
    for n in [*range(1, 600), 5000, 60_000]:
        x = RNG.standard_normal((n, 3))
        layer.forward(x, u)
        if n % 50 == 0:
            layer.jacobians(x, u)
    assert 2 <= len(kept(layer)) <= 2 * batch._KEPT
    assert max(map(numbers, kept(layer))) <= batch._LARGEST + layer.num_controls


def test_a_size_that_comes_again_is_not_built_again():
    layer = Symbolic(oscillator())
    for n in (5, 9, 5, 9):
        layer.forward(np.zeros((n, 2)), np.zeros(3))
    assert sorted(function.num_samples for function in kept(layer)) == [5, 9]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_pieces_of_a_large_batch_are_the_batch(call, monkeypatch):
    x, u, m = RNG.standard_normal((37, 2)), RNG.standard_normal(3), RNG.standard_normal((37, 2))
    whole = call(Symbolic(oscillator()), x, u, m)
    monkeypatch.setattr(batch, "_LARGEST", 100)
    in_pieces = Symbolic(oscillator())
    assert_same_bits([call(in_pieces, x, u, m)], [whole])
    assert max(function.num_samples for function in kept(in_pieces)) < 37


def test_no_samples_are_no_outputs():
    layer = Symbolic(oscillator())
    assert layer.forward(np.zeros((0, 2)), np.zeros(3)).shape == (0, 2)


def test_an_argument_of_another_size_is_refused_and_leaves_the_layer_as_it_was():
    layer = Symbolic(oscillator())
    x = np.ones((3, 2))
    before = layer.forward(x, np.ones(3))
    with pytest.raises(ValueError, match="expected an argument of 3 numbers, received 4"):
        layer.forward(x, np.ones(4))
    np.testing.assert_array_equal(layer.forward(x, np.ones(3)), before)


def test_copies_and_pickles_carry_no_buffers():
    layer = Symbolic(oscillator())
    x, u = RNG.standard_normal((4, 2)), RNG.standard_normal(3)
    expected = layer.forward(x, u)
    for other in (copy.copy(layer), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert not kept(other)
        np.testing.assert_array_equal(other.forward(x, u), expected)
