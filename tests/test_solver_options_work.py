"""Every option has the effect it names, or is refused with one clear sentence; no field of ``Options`` is left out."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from itertools import pairwise

import numpy as np
import pytest
from oracles import reduced_inverse

from ocp_nn import Network, Options, Status, TrainingProblem, solve
from ocp_nn.forward_dp import FORMS, TooLargeError, prepare
from ocp_nn.solvers.augmented_lagrangian import linearisation as linearisation_module
from ocp_nn.solvers.augmented_lagrangian.globalisations import GLOBALISATIONS
from ocp_nn.solvers.augmented_lagrangian.initialise import INITIALISATIONS, initialise
from ocp_nn.solvers.augmented_lagrangian.lagrangian import AugmentedLagrangian
from ocp_nn.solvers.augmented_lagrangian.outer_loop import init, step
from ocp_nn.solvers.augmented_lagrangian.sample_start import begin

INF = float("inf")


def sine(samples=30, sizes=(1, 4, 4, 1), activation="tanh", weight_decay=0.05):
    x = np.random.default_rng(0).uniform(-2, 2, (samples, 1))
    return TrainingProblem(Network.mlp(sizes, activation), x, np.sin(2 * x), weight_decay)


def states(problem, options, count):
    """The first states of the outer loop."""
    some = [init(problem, options=options)]
    for _ in range(count):
        some.append(step(problem, some[-1], options))
    return some


def total_steps(problem, options, count=4):
    return [s.counts["gauss_newton"] for s in states(problem, options, count)]


# ---- effects; the name of each test is that of its option

EFFECTS = {}


def effect(*names):
    """Register a test as the one that shows the effect of these options."""

    def register(test):
        EFFECTS.update(dict.fromkeys(names, test))
        return test

    return register


def test_every_option_has_a_test():
    assert {field.name for field in fields(Options)} == set(EFFECTS)


@effect("seed")
def test_seed():
    problem = sine()
    for seed in (1, 2):
        expected = initialise(problem, "standard", seed)
        given = init(problem, options=Options(seed=seed)).best.controls
        np.testing.assert_array_equal(np.concatenate(given), np.concatenate(expected))


@effect("initialisation")
@pytest.mark.parametrize("method", INITIALISATIONS)
def test_initialisation(method):
    problem = sine(activation="sigmoid")
    given = init(problem, options=Options(initialisation=method, seed=3)).best.controls
    np.testing.assert_array_equal(np.concatenate(given), np.concatenate(initialise(problem, method, 3)))


@effect("shooting")
@pytest.mark.parametrize(
    ("shooting", "nodes"), [("multiple", (1, 2, 3)), ("single", ()), ([2], (2,)), ((1, 3), (1, 3)), ([], ())]
)
def test_shooting(shooting, nodes):
    problem = sine(sizes=(1, 4, 4, 4, 1))
    some = states(problem, Options(shooting=shooting, second_order=False, max_restarts=0), 3)
    for state in some:
        assert tuple(k + 1 for k, beta in enumerate(state.penalty) if np.isfinite(beta)) == nodes
    open_defects = {k + 1 for state in some for k, d in enumerate(state.point.defects) if d.any()}
    assert open_defects == set(nodes)


def test_single_shooting_is_multiple_shooting_with_infinite_penalties():
    """Bit by bit."""
    problem = sine()
    single, infinite = (solve(problem, options=o) for o in (Options(shooting="single"), Options(penalty=INF)))
    np.testing.assert_array_equal(
        np.concatenate(single.trajectory.controls), np.concatenate(infinite.trajectory.controls)
    )
    assert single.counts == infinite.counts


def test_every_shooting_finds_a_point_of_the_same_quality():
    problem = sine()
    start = init(problem).best.controls
    values = [solve(problem, start, options=Options(shooting=s)).objective for s in ("single", "multiple", [1], [2])]
    assert max(values) <= 1.05 * min(values)


@effect("tolerance")
@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-8])
def test_tolerance(tolerance):
    problem = sine()
    result = solve(problem, options=Options(tolerance=tolerance))
    assert result.success
    assert result.stationarity <= tolerance * max(1.0, result.objective)
    assert result.max_defect <= tolerance
    before = result.history[-2]
    assert before.stationarity > tolerance * max(1.0, before.objective) or before.max_defect > tolerance


@effect("inner_accuracy", "inner_tolerance")
def test_inner_accuracy_and_its_tolerance():
    problem = sine()
    common = {"max_inner": 200, "penalty": 1.0, "second_order": False, "max_restarts": 0}
    loose, tight = (
        Options(inner_accuracy="relative", inner_tolerance=tolerance, **common) for tolerance in (0.5, 1e-3)
    )
    assert total_steps(problem, loose, 1)[-1] < total_steps(problem, tight, 1)[-1] < 200
    absolute = Options(inner_accuracy="absolute", inner_tolerance=1e-2, **common)
    assert states(problem, absolute, 1)[-1].stationarity <= 1e-2
    assert total_steps(problem, Options(**(common | {"max_inner": 7})), 2) == [0, 7, 14]


@effect("inner_decay")
def test_inner_decay():
    """eps_t = inner_tolerance inner_decay^t: every outer iteration ends below its own."""
    problem = sine()
    for decay in (0.5, 0.2):
        options = Options(
            inner_accuracy="absolute",
            inner_tolerance=0.1,
            inner_decay=decay,
            max_inner=500,
            second_order=False,
            max_restarts=0,
        )
        for outer, state in enumerate(states(problem, options, 3)[1:]):
            assert state.stationarity <= 0.1 * decay**outer


@effect("max_inner")
@pytest.mark.parametrize("max_inner", [1, 3, 20])
def test_max_inner(max_inner):
    assert total_steps(sine(), Options(max_inner=max_inner), 1)[-1] == max_inner


@effect("max_steps")
def test_max_steps():
    result = solve(sine(), options=Options(max_steps=12))
    assert result.status is Status.INNER_LIMIT and 12 <= result.counts["gauss_newton"] < 12 + Options().max_inner
    assert solve(sine(), options=Options(max_steps=0)).counts["gauss_newton"] <= Options().max_inner


@effect("max_outer")
@pytest.mark.parametrize("max_outer", [1, 4])
def test_max_outer(max_outer):
    result = solve(sine(), options=Options(max_outer=max_outer))
    assert result.status is Status.OUTER_LIMIT
    assert result.counts["outer"] == len(result.history) == max_outer


@effect("time_limit")
def test_time_limit():
    result = solve(sine(), options=Options(time_limit=1e-6))
    assert result.status is Status.TIME_LIMIT and result.counts["gauss_newton"] == 0


@effect("penalty")
@pytest.mark.parametrize(
    ("penalty", "expected"), [(3.0, (3.0, 3.0)), ([3.0, 7.0], (3.0, 7.0)), ((INF, 2.0), (INF, 2.0))]
)
def test_penalty(penalty, expected):
    assert init(sine(), options=Options(penalty=penalty)).penalty == expected


def test_the_automatic_penalty_follows_the_scale_of_the_targets():
    """With y and every residual ten times as large, the same defect weighs a hundred times as much."""
    small, large = sine(), sine()
    large = TrainingProblem(large.network, large.x, 10 * large.y, 0.05)
    ratio = np.divide(init(large).penalty, init(small).penalty)
    np.testing.assert_allclose(ratio, 100.0)


@effect("penalty_growth", "violation_reduction")
@pytest.mark.parametrize("growth", [2.0, 10.0])
def test_penalty_growth_and_violation_reduction(growth):
    problem = sine()
    common = {"penalty": 1.0, "penalty_growth": growth, "second_order": False, "max_restarts": 0}
    always = states(problem, Options(violation_reduction=0.0, **common), 3)
    assert [state.penalty for state in always] == [(growth**t,) * 2 for t in range(4)]
    never = states(problem, Options(violation_reduction=1e9, **common), 3)
    assert all(state.penalty == (1.0, 1.0) for state in never)


def test_the_penalty_grows_at_the_nodes_that_lag_behind():
    problem = sine(sizes=(1, 4, 4, 4, 1))
    options = Options(penalty=1.0, second_order=False, max_restarts=0)
    some = states(problem, options, 12)
    for before, after in pairwise(some):
        for old, new, was, now in zip(before.penalty, after.penalty, before.violation, after.violation, strict=True):
            assert new == (2 * old if now > 0.25 * was else old)
    assert len(set(some[-1].penalty)) > 1


@effect("max_penalty")
def test_max_penalty():
    options = Options(penalty=1.0, max_penalty=5.0, violation_reduction=0.0, second_order=False, max_restarts=0)
    assert [max(state.penalty) for state in states(sine(), options, 4)] == [1.0, 2.0, 4.0, 5.0, 5.0]


@effect("multiplier_bound")
def test_multiplier_bound():
    problem = sine()
    common = {"penalty": 1.0, "second_order": False, "max_restarts": 0}
    largest = [
        max(np.abs(m).max() for m in states(problem, Options(multiplier_bound=bound, **common), 4)[-1].multipliers)
        for bound in (1e-3, 1e6)
    ]
    assert largest[0] == 1e-3 < largest[1] < 1e6


@effect("damping")
@pytest.mark.parametrize("shooting", ["single", "multiple"])
def test_damping(shooting):
    """It is relative to the mean diagonal entry of the Gauss-Newton matrix, which single shooting has dense."""
    problem = sine()
    start = np.concatenate(init(problem).best.controls)
    lengths = []
    for damping in (1.0, 1e2, 1e4):
        options = Options(damping=damping, max_inner=1, shooting=shooting)
        first = init(problem, options=options)
        scale = np.mean(np.diag(gauss_newton_matrix(problem, first)))
        assert first.damping.value == pytest.approx(damping * scale, rel=1e-6)
        lengths.append(np.linalg.norm(np.concatenate(states(problem, options, 1)[1].point.controls) - start))
    assert lengths[2] < lengths[1] < lengths[0]


def gauss_newton_matrix(problem, state):
    """J' Sigma^-1 J at a state of the outer loop."""
    lagrangian = AugmentedLagrangian(problem, state.multipliers, state.penalty)
    subproblem = lagrangian.subproblem(state.point, damping=1.0)
    return np.linalg.inv(reduced_inverse(subproblem)) - subproblem.ridge * np.eye(subproblem.num_controls)


@effect("acceleration")
@pytest.mark.parametrize("acceleration", [True, False])
def test_acceleration(acceleration):
    """The first step is the solution of the least-squares problem, with half of its correction or without."""
    problem = sine()
    options = Options(acceleration=acceleration, max_inner=1, shooting="single", damping=10.0, second_order=False)
    first = init(problem, options=options)
    lagrangian = AugmentedLagrangian(problem, first.multipliers, first.penalty)
    damped = prepare(lagrangian.subproblem(first.point, first.damping.value)).damped()
    plain = damped.step(refinements=0)
    corrected = damped.corrected(plain, 0.375)
    changes = [np.concatenate(step.controls) for step in (plain, corrected)]
    assert np.linalg.norm(changes[1] - changes[0]) > 1e-3 * np.linalg.norm(changes[0])
    after = np.concatenate(step(problem, first, options).point.controls)
    np.testing.assert_array_equal(after, np.concatenate(first.point.controls) + changes[acceleration])


@effect("sample_start")
def test_sample_start():
    """4000 samples for 33 controls are many; from 1000 of them the start is near the end already."""
    problem = sine(samples=4000)
    assert problem.num_samples == 4 * max(1000, 2 * problem.network.num_controls)
    sampled, plain = (begin(problem, options=Options(sample_start=value)) for value in (True, False))
    assert sampled.counts["sample_steps"] > 0 == plain.counts["sample_steps"]
    np.testing.assert_array_equal(
        np.concatenate(plain.best.controls), np.concatenate(initialise(problem, "auto", Options().seed))
    )
    assert sampled.best.objective < 0.01 * plain.best.objective
    after = step(problem, sampled)
    assert after.counts["sample_steps"] == sampled.counts["sample_steps"]
    assert after.best.objective < step(problem, plain).best.objective


@effect("gradient_start")
def test_gradient_start():
    """A classifier with a dear factorisation has gone down before the first step; with the option off it has not."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 3))
    labels = (x[:, :1] * x[:, 1:2] > 0).astype(float)
    problem = TrainingProblem(Network.mlp([3, 25, 1]), x, labels, 0.1, loss="logistic")
    descended, plain = (begin(problem, options=Options(gradient_start=value)) for value in (True, False))
    assert descended.best.objective < 0.5 * plain.best.objective


def test_there_is_no_sample_start_for_fewer_samples_or_from_given_controls():
    few, many = sine(samples=3999), sine(samples=4000)
    controls = initialise(many, "auto", 0)
    for problem, initial in ((few, None), (many, controls), (many, many.rollout(controls))):
        state = begin(problem, initial)
        assert state.counts["sample_steps"] == 0
        np.testing.assert_array_equal(np.concatenate(state.best.controls), np.concatenate(controls))


@effect("globalisation")
def test_globalisation(monkeypatch):
    used = []
    for name, advance in list(GLOBALISATIONS.items()):
        monkeypatch.setitem(GLOBALISATIONS, name, _noting(used, name, advance))
    start = init(sine()).best.objective
    for name in ("levenberg-marquardt", "armijo"):
        used.clear()
        result = solve(sine(), options=Options(globalisation=name, max_outer=40))
        assert set(used) == {name}
        assert result.objective < 0.1 * start


@pytest.mark.parametrize("globalisation", ["levenberg-marquardt", "armijo"])
def test_steps_called_second_order_use_the_hessian(globalisation):
    result = solve(sine(), options=Options(globalisation=globalisation, max_outer=60))
    claimed = any(record.phase == "second order" for record in result.history)
    assert claimed == (result.counts["newton"] > 0) == (result.counts["hessian_products"] > 0)


def _noting(used, name, advance):
    def noted(*arguments):
        used.append(name)
        return advance(*arguments)

    return noted


@effect("lifted")
@pytest.mark.parametrize("lifted", [True, False])
def test_lifted(lifted):
    x = np.random.default_rng(0).uniform(-2, 2, (30, 1))
    problem = TrainingProblem(Network.mlp([1, 4, 4, 4, 1]), x, np.sin(2 * x), 1e-2)
    result = solve(problem, options=Options(lifted=lifted, max_outer=60))
    assert (result.counts["lifted"] > 0) is lifted


@effect("second_order")
def test_second_order():
    problem = sine(weight_decay=0.5)
    plain, finished = (solve(problem, options=Options(second_order=value)) for value in (False, True))
    assert plain.success and finished.success
    assert plain.counts["newton"] == 0 < finished.counts["newton"]
    assert {record.phase for record in plain.history} == {"augmented Lagrangian"}
    assert finished.history[-1].phase == "second order"
    assert finished.counts["gauss_newton"] < plain.counts["gauss_newton"]


@effect("max_restarts")
@pytest.mark.parametrize("max_restarts", [0, 1, 3])
def test_max_restarts(max_restarts):
    """Ten sigmoid layers from standard weights by single shooting: the mean, whatever is tried."""
    problem = sine(sizes=(1, *[3] * 10, 1), activation="sigmoid", weight_decay=1e-3)
    options = Options(shooting="single", initialisation="standard", max_restarts=max_restarts)
    result = solve(problem, options=options)
    assert result.counts["restarts"] == max_restarts


@effect("form")
@pytest.mark.parametrize("form", FORMS)
def test_form(form, monkeypatch):
    used = []
    original = linearisation_module.prepare

    def noting(*arguments, **keywords):
        prepared = original(*arguments, **keywords)
        used.append(prepared.form)
        return prepared

    monkeypatch.setattr(linearisation_module, "prepare", noting)
    problem = sine(samples=8)
    result = solve(problem, options=Options(form=form, max_outer=2, max_restarts=0))
    assert set(used) == {form}
    reference = solve(problem, options=Options(max_outer=2, max_restarts=0))
    assert result.objective == pytest.approx(reference.objective, rel=1e-5)


@effect("max_memory")
def test_max_memory():
    with pytest.raises(TooLargeError, match=r"max_memory = 1.00e\+01 bytes"):
        solve(sine(), options=Options(max_memory=10.0))


# ---- refusals

INVALID = {
    "initialisation": ["kaiming", ""],
    "inner_accuracy": ["exact"],
    "globalisation": ["wolfe"],
    "form": ["sparse"],
    "shooting": ["partial"],
    "penalty": [0.0, -1.0, float("nan"), [1.0, -1.0], "large"],
    "penalty_growth": [1.0, 0.5, float("nan")],
    "tolerance": [0.0, -1e-6, float("nan")],
    "inner_tolerance": [0.0, -1.0],
    "inner_decay": [0.0, -1.0],
    "damping": [0.0, -1.0, float("nan")],
    "time_limit": [0.0, -1.0, float("nan")],
    "multiplier_bound": [0.0],
    "max_penalty": [0.0, -1.0],
    "max_memory": [0.0],
    "max_inner": [0, -1, 2.5],
    "max_steps": [-1, 1.0],
    "max_outer": [-1, 1.5],
    "max_restarts": [-1, 0.5],
    "seed": [-1, 1.5],
    "violation_reduction": [-0.1, float("nan")],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in INVALID.items() for value in values])
def test_bad_values_are_one_error_that_names_option_and_value(name, value):
    with pytest.raises(ValueError, match=name) as error:
        Options(**{name: value})
    assert "\n" not in str(error.value)
    assert repr(value) in str(error.value)


def test_options_without_a_refusal_are_booleans():
    assert {field.name for field in fields(Options)} - set(INVALID) == {
        "acceleration",
        "gradient_start",
        "sample_start",
        "second_order",
        "lifted",
    }


def test_unknown_options_are_refused():
    with pytest.raises(TypeError, match="max_iterations"):
        Options(max_iterations=10)


def test_options_are_keyword_only_and_immutable():
    with pytest.raises(TypeError):
        Options(3)
    with pytest.raises(FrozenInstanceError):
        Options().seed = 1
    assert replace(Options(), seed=1) == Options(seed=1)


def test_what_does_not_fit_the_network_is_refused_when_it_is_known():
    problem = sine()
    with pytest.raises(ValueError, match=r"^shooting nodes must lie in 1..2, received \[5\]"):
        solve(problem, options=Options(shooting=[5]))
    with pytest.raises(ValueError, match="one for each of 2 nodes, received 3"):
        solve(problem, options=Options(penalty=[1.0, 2.0, 3.0]))
