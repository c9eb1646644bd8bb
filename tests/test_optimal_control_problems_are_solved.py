"""Shared control blocks, terms of any loss at any stage and unknown initial states go through the same solver."""

import casadi as ca
import numpy as np
import pytest
from control_problems import PROBLEMS, layer, random_point, readout, shared_over_time

from ocp_nn import (
    Dense,
    Network,
    OptimalControlProblem,
    Options,
    Stage,
    Status,
    Term,
    TrainingProblem,
    Trajectory,
    certify,
    conditioning,
    export,
    load,
    solve,
)
from ocp_nn.problem.curvature import hessian_product
from ocp_nn.solvers.augmented_lagrangian.lagrangian import AugmentedLagrangian

every_problem = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)


def flat(arrays):
    return np.concatenate([np.ravel(a) for a in arrays])


def unflat(vector, like):
    ends = np.cumsum([a.size for a in like])[:-1]
    return tuple(part.reshape(a.shape) for part, a in zip(np.split(vector, ends), like, strict=True))


def differences(value, point, step=1e-6):
    units = np.eye(point.size)
    return np.array([(value(point + step * e) - value(point - step * e)) / (2 * step) for e in units])


@every_problem
def test_the_gradient_of_the_augmented_lagrangian_is_that_of_differences(problem):
    controls, states = random_point(problem)
    rng = np.random.default_rng(2)
    multipliers = tuple(rng.standard_normal(x.shape) for x in states[1:])
    penalty = tuple(3.0 if k != 1 else np.inf for k in range(len(problem.dynamics)))
    lagrangian = AugmentedLagrangian(problem, multipliers, penalty)
    start = 0 if problem.has_free_start else 1
    everything = (*controls, *states[start:])

    def value(vector):
        parts = unflat(vector, everything)
        moved = parts[len(controls) :]
        return lagrangian.at(parts[: len(controls)], moved if start == 0 else (states[0], *moved)).value

    point = lagrangian.at(controls, states)
    in_controls, in_states = lagrangian.gradient(point, lagrangian.subproblem(point, 1.0))
    expected = differences(value, flat(everything))
    assert flat((*in_controls, *in_states)) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@every_problem
def test_the_gradient_is_back_propagated(problem):
    controls, _ = random_point(problem)
    adjoints = problem.adjoints(problem.rollout(controls))

    def value(vector):
        return problem.objective(problem.rollout(problem.split(vector)))

    assert flat(adjoints.gradient) == pytest.approx(differences(value, flat(controls)), rel=1e-6, abs=1e-6)


@every_problem
def test_hessian_products_are_differences_of_gradients(problem):
    controls, _ = random_point(problem)
    rollout = problem.rollout(controls)
    outputs = problem.outputs(rollout)
    terms = outputs[len(problem.dynamics) :]
    bends = [term.data.curvature(z) for term, z in zip(problem.terms, terms, strict=True)]
    direction = np.random.default_rng(5).standard_normal(problem.num_controls)
    stages = problem.linearize(rollout, outputs)
    product = hessian_product(problem, stages, problem.adjoints(rollout).costates, problem.split(direction), bends)

    def gradient(t):
        return flat(problem.adjoints(problem.rollout(problem.split(flat(controls) + t * direction))).gradient)

    expected = (gradient(1e-5) - gradient(-1e-5)) / 2e-5
    assert flat(product) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@every_problem
@pytest.mark.parametrize("shooting", ["multiple", "single", [2]], ids=str)
def test_every_formulation_ends_at_a_certified_point(problem, shooting):
    result = solve(problem, options=Options(shooting=shooting, seed=3))
    assert result.status is Status.CONVERGED
    assert result.certificate.passed(), result.certificate
    assert result.objective < problem.objective(problem.rollout(problem.init_controls(3)))


@every_problem
def test_single_and_multiple_shooting_solve_one_problem(problem):
    first = solve(problem, options=Options(seed=3, tolerance=1e-8))
    again = solve(problem, first.trajectory, options=Options(shooting="single", tolerance=1e-8))
    assert again.objective == pytest.approx(first.objective, rel=1e-9)


@every_problem
def test_planted_faults_are_caught(problem):
    good = solve(problem, options=Options(seed=3)).trajectory

    def replaced(**parts):
        return certify(problem, Trajectory(**{**vars(good), **parts}))

    def moved(arrays, k):
        return tuple(a + 1e-3 if j == k else a for j, a in enumerate(arrays))

    assert certify(problem, good).passed()
    for k in range(len(good.controls)):
        assert not replaced(controls=moved(good.controls, k)).passed()
    for k in range(len(good.states)):
        assert not replaced(states=moved(good.states, k)).passed()
    for k in range(1, len(good.states)):
        assert not replaced(multipliers=moved(good.multipliers, k)).passed()


def test_a_free_start_is_where_the_gradient_in_it_vanishes():
    problem = shared_over_time()
    result = solve(problem, options=Options(tolerance=1e-9))
    x0, costate = result.trajectory.states[0], result.trajectory.multipliers[0]
    assert problem.initial_weight * x0 + costate == pytest.approx(np.zeros_like(x0), abs=1e-7)
    assert np.abs(x0).max() > 1e-3


def test_training_is_the_same_written_out_as_stages_and_a_term():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 2))
    y = np.sin(x.sum(axis=1, keepdims=True))
    network = Network.mlp([2, 4, 4, 1])
    *layers, last = network.layers
    general = OptimalControlProblem(
        [Stage(layer, k) for k, layer in enumerate(layers)], [Term(2, last, y, block=2)], x, weight_decay=0.1
    )
    mine, theirs = (
        solve(problem, network.init_controls(1)) for problem in (general, TrainingProblem(network, x, y, 0.1))
    )
    assert mine.objective == pytest.approx(theirs.objective, rel=1e-8)


def test_tied_networks_share_their_weights():
    rng = np.random.default_rng(0)
    x = np.linspace(-2, 2, 40)[:, None]
    network = Network.mlp([1, 5, 5, 5, 5, 1], tied=True)
    assert network.blocks == (0, 1, 1, 1, 2) and network.num_controls == 10 + 30 + 6
    problem = TrainingProblem(network, x, np.sin(2 * x) + 0.1 * rng.standard_normal(x.shape), 1e-2)
    result = solve(problem)
    assert result.success and result.certificate.passed()
    again = Network.from_description(network.describe())
    assert again.predict(result.trajectory.controls, x) == pytest.approx(result.predict(x))
    assert np.mean((result.predict(x) - problem.y) ** 2) < 0.05


def test_tied_networks_are_saved_and_exported(tmp_path):
    x = np.linspace(-2, 2, 20)[:, None]
    problem = TrainingProblem(Network.mlp([1, 3, 3, 3, 1], tied=True), x, np.sin(x), 1e-2)
    result = solve(problem, options=Options(max_outer=3))
    result.save(tmp_path / "tied.npz")
    loaded = load(tmp_path / "tied.npz")
    assert loaded.model.network.blocks == (0, 1, 1, 2)
    assert np.array_equal(loaded.predict(x), result.predict(x))
    gone_on, whole = solve(problem, loaded), solve(problem)
    assert gone_on.objective == whole.objective
    function = export.casadi_function(result.model)
    assert np.array(function(x.T)).ravel() == pytest.approx(result.predict(x).ravel(), abs=1e-12)


def test_activity_regularisation_is_a_term_at_a_hidden_stage():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((30, 1))
    first, last = Dense(1, 4, "tanh"), Dense(4, 1, "identity")
    a, u = ca.SX.sym("x", 4), ca.SX.sym("u", last.num_controls)
    activity = ca.Function("activity", [a, u], [a])

    def trained(weight):
        terms = [
            Term(1, activity, np.zeros((30, 4)), block=1, sample_weight=np.full(30, weight)),
            Term(1, last, np.sin(x), block=1),
        ]
        return solve(OptimalControlProblem([Stage(first, 0)], terms, x, weight_decay=1e-3))

    free, quiet = trained(1e-6), trained(1.0)
    assert free.success and quiet.success
    assert np.abs(quiet.trajectory.states[1]).mean() < 0.5 * np.abs(free.trajectory.states[1]).mean()


F, H = layer(), readout()
X, Y = np.zeros((3, 2)), np.zeros((3, 1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OptimalControlProblem([Stage(F, 0)], [Term(0, H, Y, block=1)], X), "last at stage 1"),
        (lambda: OptimalControlProblem([Stage(F, 0)], [Term(1, H, Y, block=2)], X), "without gaps"),
        (lambda: OptimalControlProblem([Stage(F, 0)], [Term(1, H, Y, block=0)], X), "one length"),
        (lambda: OptimalControlProblem([Stage(F, 0)], [Term(1, H, Y[:2], block=1)], X), "2 samples, expected 3"),
        (lambda: OptimalControlProblem([Stage(F, 0)], [Term(1, H, Y, block=1)], X[:, :1]), "stage 0 expects 2 inputs"),
        (lambda: OptimalControlProblem([], [Term(0, H, Y)], X[0]), "shape"),
        (lambda: OptimalControlProblem([], [Term(0, H, Y)], X * np.nan), "finite"),
        (lambda: OptimalControlProblem([], [Term(0, H, Y)], X, weight_decay=[0.1, 0.2]), "each of 1 blocks"),
        (lambda: OptimalControlProblem([], [Term(0, H, Y)], X, weight_decay=-1.0), "weight_decay"),
        (lambda: OptimalControlProblem([], [Term(0, H, Y)], X, initial_weight=0.0), "initial_weight"),
        (lambda: Stage(layer(exogenous=1), exogenous=np.zeros((3, 2))), "v"),
        (lambda: Stage(layer(exogenous=1)), "missing"),
        (lambda: Stage(F, exogenous=np.zeros((3, 1))), "given"),
        (lambda: Stage("tanh"), "layer"),
        (lambda: Stage(F, unit=0.0), "unit"),
        (lambda: Term(0, H, Y, sample_weight=[[1.0], [np.nan], [1.0]]), "sample_weight"),
        (lambda: Term(0, H, Y + 1, loss="poisson", sample_weight=np.ones((3, 1))), "one number a sample"),
        (lambda: Network([Dense(1, 2), Dense(2, 1)], blocks=[0, 0]), "one length"),
        (lambda: Network([Dense(1, 2), Dense(2, 1)], blocks=[1, 0]), "in the order of their first use"),
        (lambda: Network([layer(exogenous=1)]), "exogenous"),
    ],
)
def test_what_does_not_fit_is_one_clear_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "problem",
    [shared_over_time(), TrainingProblem(Network.mlp([1, 2, 2, 2, 1], tied=True), [[0.0], [1.0]], [0.0, 1.0])],
    ids=["over time", "tied"],
)
def test_conditioning_has_a_route_of_its_own_for_feed_forward_networks(problem):
    """What is written out serves any problem; a linearised point, which may be large, does not."""
    point = problem.rollout(problem.init_controls())
    assert len(conditioning.measure(problem, point, nodes=[()])) > 5
    with pytest.raises(ValueError, match=r"TrainingProblem|weights of their own"):
        conditioning.linearise_at(problem, point)
