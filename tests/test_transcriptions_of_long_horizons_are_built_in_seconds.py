"""Programs over long horizons are built and differentiated in seconds, and all of their parts grow linearly."""

import time

import casadi as ca
import numpy as np
import pytest
from control_problems import PROBLEMS
from programs import anywhere, casadis, over_time

from ocp_nn import (
    Dense,
    IpoptOptions,
    Network,
    OptimalControlProblem,
    Stage,
    Term,
    TrainingProblem,
    multiple_shooting,
    single_shooting,
    solve_ipopt,
    transcribe,
)
from ocp_nn.solvers.nlp import ipopt
from ocp_nn.solvers.nlp.constraint_jacobian import constraint_jacobian
from ocp_nn.solvers.nlp.equal_rows import equal_terms
from ocp_nn.solvers.nlp.hessian import LagrangianHessian

X, Y = [[-1.0], [0.0], [1.0]], [0.3, -0.2, 0.1]
TIED = TrainingProblem(Network.mlp([1, 3, 3, 3, 1], tied=True), X, Y, 1e-2)
SHARED = {name: problem for name, problem in PROBLEMS.items() if "mixed" not in name}
SHARED |= {"long": over_time(20), "tied network": TIED}


def entries(nlp):
    """Entries of the Hessian, and of the Jacobian."""
    return np.array([nlp.hessian_sparsity.nnz(), nlp.jacobian_sparsity.nnz()])


def test_a_long_horizon_is_built_in_seconds_and_grows_linearly():
    began = time.process_time()
    nlps = [multiple_shooting(over_time(steps)) for steps in (100, 200, 300)]
    first, second, third = (entries(nlp) for nlp in nlps)
    np.testing.assert_array_equal(third - second, second - first)
    n, controls = 2, nlps[0].training.num_controls
    assert (second - first)[0] == 100 * (n * controls + n * (n + 1) // 2)
    options = IpoptOptions(max_iterations=3)
    assert solve_ipopt(nlps[-1], options=options).counts["iterations"] == 3
    assert time.process_time() - began < 20


@pytest.mark.parametrize("problem", SHARED.values(), ids=SHARED)
def test_the_jacobian_that_ipopt_gets_is_casadis(problem):
    nlp = multiple_shooting(problem)
    point = nlp.pack(anywhere(problem))
    _, g, _, expected, _ = casadis(nlp, 1.0, point)
    found_g, found = constraint_jacobian(nlp)(point["x0"], ca.DM(0, 0))
    assert found.sparsity() == nlp.jacobian_sparsity
    np.testing.assert_allclose(found.full(), expected, rtol=0, atol=1e-13)
    np.testing.assert_allclose(found_g.full(), g, rtol=0, atol=1e-13)


def test_where_nothing_is_gained_casadi_keeps_its_own():
    feed_forward = TrainingProblem(Network.mlp([1, 3, 3, 1]), X, Y, 1e-2)
    for nlp in (multiple_shooting(feed_forward), single_shooting(TIED), transcribe(TIED, (2,))):
        assert constraint_jacobian(nlp) is None
    assert constraint_jacobian(multiple_shooting(PROBLEMS["mixed losses and blocks"])) is None


def test_ipopt_takes_the_same_iterations_with_either(monkeypatch):
    problem = over_time(40)
    first = solve_ipopt(multiple_shooting(problem), options=IpoptOptions(max_iterations=30))
    monkeypatch.setattr(ipopt, "constraint_jacobian", lambda nlp: None)
    again = solve_ipopt(multiple_shooting(problem), options=IpoptOptions(max_iterations=30))
    assert again.counts["jac_g"] == first.counts["jac_g"] > 10
    assert again.objective == pytest.approx(first.objective, rel=1e-9)


def test_long_horizons_are_described_in_few_words():
    problem = over_time(60)
    assert len(multiple_shooting(problem).spy()) < 400
    assert transcribe(problem, range(1, 50)).transcription == "multiple shooting at 49 of 60 stages"
    assert transcribe(problem, [3, 4]).transcription == "multiple shooting at 3, 4"


def test_weights_of_every_kind_go_together():
    rng = np.random.default_rng(0)
    layer, output = Dense(2, 2, "tanh"), Dense(2, 2, "identity")
    kinds = [None, [1.0, 0.5, 2.0], rng.uniform(size=(3, 2)), None]
    problem = OptimalControlProblem(
        [Stage(layer)] * 3,
        [Term(k, output, rng.standard_normal((3, 2)), sample_weight=weight) for k, weight in enumerate(kinds)],
        rng.standard_normal((3, 2)),
    )
    assert [len(group) for group in equal_terms(problem)] == [4]
    nlp = multiple_shooting(problem)
    point = nlp.pack(anywhere(problem))
    f, *_, expected = casadis(nlp, 0.7, point)
    assert float(f[0, 0]) == pytest.approx(problem.objective(anywhere(problem)), rel=1e-12)
    found = LagrangianHessian(nlp, symmetric=True)(point["x0"], [], 0.7, point["lam_g0"]).full()
    assert np.abs(found - expected).max() < 1e-10 * np.abs(expected).max()
