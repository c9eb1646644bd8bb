"""Lifted Newton: the quadratic program at points that satisfy nothing, its step, and deep networks by it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import casadi as ca
import numpy as np
import pytest

import ocp_nn
from ocp_nn import Network, OptimalControlProblem, Options, Stage, Status, Term, TrainingProblem, solve
from ocp_nn.network.layers import Dense, Symbolic
from ocp_nn.problem.dense_chain import DenseChain
from ocp_nn.solvers.augmented_lagrangian import lifted
from ocp_nn.solvers.augmented_lagrangian.damping import Damping
from ocp_nn.solvers.augmented_lagrangian.lagrangian import AugmentedLagrangian
from ocp_nn.solvers.augmented_lagrangian.lifted import Expansion, minimise_lifted
from ocp_nn.solvers.augmented_lagrangian.linearisation import Method
from ocp_nn.solvers.augmented_lagrangian.outer_loop import init, step
from ocp_nn.solvers.augmented_lagrangian.schedule import GAUSS_NEWTON, LIFTED, NEWTON, WORTHWHILE, Finish

INF = float("inf")


def sine(sizes=(1, 4, 4, 4, 1), activation="tanh", residual=False, loss="squared", samples=12, weight_decay=1e-2):
    x = np.random.default_rng(0).uniform(-2, 2, (samples, sizes[0]))
    y = np.sin(2 * x[:, :1]) * np.linspace(1, 0.5, sizes[-1])
    if loss != "squared":
        y = np.round(np.abs(y) if loss == "poisson" else y > 0)
    return TrainingProblem(Network.mlp(sizes, activation, residual), x, y, weight_decay, loss=loss)


def symbolic():
    x, u = ca.MX.sym("x", 2), ca.MX.sym("u", 3)
    stage = ca.Function("stage", [x, u], [x + ca.vertcat(ca.tanh(u[0] * x[1] + u[1]), u[2] * x[0] * x[1])])
    return TrainingProblem(
        Network([Dense(1, 2), Symbolic(stage), Symbolic(stage), Dense(2, 1, "identity")]),
        *(np.linspace(-1, 1, 9)[:, None] * a for a in (1.0, -0.5)),
        1e-2,
    )


def shared():
    """Two stages with one block, and terms at two states."""
    rng = np.random.default_rng(1)
    dynamics = [Stage(Dense(2, 2), 0), Stage(Dense(2, 2), 0), Stage(Dense(2, 2), 1)]
    terms = [Term(2, Dense(2, 1, "identity"), rng.standard_normal((7, 1)), block=2)]
    terms += [Term(3, Dense(2, 1, "identity"), rng.standard_normal((7, 1)), block=3)]
    return OptimalControlProblem(dynamics, terms, rng.standard_normal((7, 2)), weight_decay=[0.1, 0.2, 0.3, 0.4])


PROBLEMS = {
    "tanh": sine,
    "skip connections": lambda: sine(activation="sigmoid", residual=True),
    "several outputs": lambda: sine((2, 3, 3, 3, 2)),
    "widths change": lambda: sine((1, 4, 3, 5, 1)),
    "logistic": lambda: sine(loss="logistic"),
    "poisson": lambda: sine(loss="poisson"),
    "one sample": lambda: sine(samples=1),
    "symbolic": symbolic,
    "shared controls": shared,
}


def expansion(problem, *, gap=0.1, nodes=None, method=None):
    """At controls, states and multipliers that have nothing to do with each other."""
    rng = np.random.default_rng(2)
    trajectory = problem.lift(problem.init_controls(1))
    states = (trajectory.states[0], *(x + gap * rng.standard_normal(x.shape) for x in trajectory.states[1:]))
    multipliers = tuple(m + gap * rng.standard_normal(m.shape) for m in trajectory.multipliers[1:])
    penalty = tuple(0.5 if nodes is None or k + 1 in nodes else INF for k in range(problem.num_stages - 1))
    lagrangian = AugmentedLagrangian(problem, multipliers, penalty)
    return Expansion(lagrangian, lagrangian.at(trajectory.controls, states), method or Method())


def dense_program(local):
    """The quadratic program written out: Hessian, gradient, and the constraints' Jacobian in (u, x_1..x_{K-1})."""
    problem, point = local.problem, local.point
    sizes = [len(u) for u in point.controls] + [x.size for x in point.states[1:]]
    cuts = np.cumsum([0, *sizes])

    def split(z):
        parts = [z[a:b] for a, b in pairwise(cuts)]
        u, x = parts[: len(point.controls)], parts[len(point.controls) :]
        return tuple(u), (point.states[0], *(p.reshape(s.shape) for p, s in zip(x, point.states[1:], strict=True)))

    def defects(z):
        u, x = split(z)
        outputs = problem.evaluate(u, x)
        return np.concatenate([(f - s).ravel() for f, s in zip(outputs, x[1:], strict=False)])

    def lagrangian(z):
        u, x = split(z)
        outputs = problem.evaluate(u, x)
        cost = problem.cost(u, outputs[len(problem.dynamics) :], x[0])
        return cost + np.concatenate([m.ravel() for m in local.lagrangian.multipliers]) @ defects(z)

    def objective(z):
        u, x = split(z)
        return problem.cost(u, problem.term_outputs(u, x), x[0])

    def gradient(f, z, h=1e-6):
        columns = [(f(z + h * e) - f(z - h * e)) / (2 * h) for e in np.eye(len(z))]
        return np.array(columns).T

    z = np.concatenate([*point.controls, *(x.ravel() for x in point.states[1:])])
    hessian = gradient(lambda w: gradient(lagrangian, w, 1e-5), z, 1e-4)
    return hessian, gradient(objective, z), gradient(defects, z), defects(z), cuts[len(point.controls)]


@pytest.mark.parametrize("name", ["tanh", "widths change", "logistic", "symbolic", "shared controls"])
def test_a_step_solves_the_quadratic_program(name):
    """Against its KKT system, by finite differences."""
    small = {"tanh": sine(samples=3), "widths change": sine((1, 4, 3, 5, 1), samples=3)}
    small["logistic"] = sine(loss="logistic", samples=3)
    local, mu = expansion(small.get(name) or PROBLEMS[name](), gap=0.05), 50.0
    hessian, gradient, jacobian, defects, controls = dense_program(local)
    damped = hessian + np.diag(np.r_[np.full(controls, mu), np.zeros(len(hessian) - controls)])
    kkt = np.block([[damped, jacobian.T], [jacobian, np.zeros((len(jacobian),) * 2)]])
    solution = np.linalg.solve(kkt, -np.r_[gradient, defects])
    found = local.step(mu)
    du, dx = np.concatenate(found.controls), np.concatenate([s.ravel() for s in found.states[1:]])
    scale = np.abs(solution).max()
    np.testing.assert_allclose(du, solution[:controls], atol=2e-5 * scale)
    np.testing.assert_allclose(dx, solution[controls : len(hessian)], atol=2e-5 * scale)
    multipliers = np.concatenate([m.ravel() for m in found.multipliers])
    np.testing.assert_allclose(multipliers, solution[len(hessian) :], atol=2e-5 * scale)


@pytest.mark.parametrize("name", PROBLEMS)
def test_products_are_those_of_the_dense_hessian_and_stacked_sweeps_those_of_single_layers(name):
    local = expansion(PROBLEMS[name]())
    direction = np.random.default_rng(3).standard_normal(local.problem.num_controls)
    np.testing.assert_allclose(local.hessian(direction), local.dense_hessian @ direction, rtol=1e-10, atol=1e-10)
    one_by_one = replace(local)
    one_by_one.__dict__["_chain"] = None
    for mine, theirs in zip(
        local._swept(local.problem.split(direction)),
        one_by_one._swept(local.problem.split(direction)),
        strict=True,
    ):
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "stacked"), [("tanh", True), ("skip connections", True), ("widths change", False), ("symbolic", False)]
)
def test_equal_layers_are_stacked(name, stacked):
    local = expansion(PROBLEMS[name]())
    chain = DenseChain.of(local.problem, local.stages, local.costates, local.bends)
    assert (chain is not None) is stacked


@pytest.mark.parametrize("name", PROBLEMS)
def test_where_the_dynamics_hold_it_is_the_reduced_hessian(name):
    problem = PROBLEMS[name]()
    local = expansion(problem, gap=0.0)
    reduced = ocp_nn.problem.curvature.reduced_hessian(problem, local.point.controls)
    np.testing.assert_allclose(local.dense_hessian, reduced, atol=1e-10 * np.abs(reduced).max())
    gradient = np.concatenate(problem.adjoints(problem.rollout(local.point.controls)).gradient)
    np.testing.assert_allclose(local.gradient, gradient, atol=1e-10)
    assert local.stationarity == pytest.approx(np.linalg.norm(gradient))


@pytest.mark.parametrize("name", ["tanh", "symbolic", "shared controls"])
def test_factor_and_conjugate_gradients_find_the_same_step(name, monkeypatch):
    local = expansion(PROBLEMS[name](), gap=0.01)
    mu = 50.0
    monkeypatch.setattr(lifted, "_ACCURACY", 1e-10)
    dense = local.step(mu)
    monkeypatch.setattr(lifted, "DENSE", 0)
    products = replace(local).step(mu)
    assert dense.products == 0 < products.products
    scale = max(np.abs(np.concatenate(dense.controls)))
    for a, b in zip(dense.controls, products.controls, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6 * scale)
    assert products.predicted == pytest.approx(dense.predicted, rel=1e-6)


@pytest.mark.parametrize("most", [0, 400])
def test_negative_curvature_asks_for_more_damping(most, monkeypatch):
    monkeypatch.setattr(lifted, "DENSE", most)
    local = expansion(sine(), gap=1.0)
    smallest = np.linalg.eigvalsh(local.dense_hessian)[0]
    assert smallest < -0.1
    assert local.step(0.5 * -smallest) is None
    assert local.step(20.0 * -smallest) is not None


def test_only_nodes_have_gaps_where_some_states_are_eliminated():
    local = expansion(sine(), nodes=(2,))
    assert [np.abs(d).max() > 0 for d in local.point.defects] == [False, True, False]
    step = local.step(50.0)
    after, _ = local.moved(step)
    assert [np.abs(d).max() > 1e-12 for d in after.point.defects] == [False, True, False]


# ---- the loop


def minimised(problem, **options):
    local = expansion(problem, gap=0.0)
    settings = {"tolerance": 1e-8, "max_steps": 300, "method": Method()} | options
    return local, minimise_lifted(local.lagrangian, local.point, Damping(1e-2), **settings)


@pytest.mark.parametrize("name", ["tanh", "widths change", "logistic", "symbolic", "shared controls", "one sample"])
@pytest.mark.parametrize("most", [0, 400])
def test_it_ends_where_the_first_order_conditions_hold(name, most, monkeypatch):
    monkeypatch.setattr(lifted, "DENSE", most)
    problem = PROBLEMS[name]()
    start, result = minimised(problem)
    assert result.point.max_defect <= 1e-8 and result.stationarity <= 1e-8 * max(1.0, result.point.objective)
    assert result.point.objective < start.point.objective and not result.stalled
    gradient = problem.adjoints(problem.rollout(result.point.controls)).gradient
    assert np.linalg.norm(np.concatenate(gradient)) < 1e-6
    adjoints = problem.lift(result.point.controls).multipliers[1:]
    for mine, theirs in zip(result.multipliers, adjoints, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)
    assert (result.hessians > 0) is (most > 0) and (result.products > 0) is (most == 0)


def test_steps_and_time_are_limited_and_steps_are_seen():
    seen = []
    _, result = minimised(sine(), max_steps=3, observe=seen.append)
    assert result.steps == 3 and len(seen) == 3 and seen[-1] is result.point.controls
    _, result = minimised(sine(), deadline=0.0)
    assert result.steps == 0 and not result.stalled


def test_where_nothing_gains_it_is_stalled(monkeypatch):
    monkeypatch.setattr(lifted, "_gains", lambda *_: False)
    start, result = minimised(sine())
    assert result.stalled and result.steps == 0 and result.point is start.point


# ---- in the finish


def deep(seed=0):
    x = np.random.default_rng(seed).uniform(-3, 3, (60, 1))
    return TrainingProblem(Network.mlp([1, *[5] * 10, 1], "sigmoid"), x, np.sin(2 * x), 1e-3)


def test_deep_networks_converge_by_it_and_not_without():
    problem = deep()
    result = solve(problem, options=Options(max_outer=150))
    assert result.status is Status.CONVERGED and result.counts["lifted"] > 20
    assert result.certificate.passed() and result.curvature > 0
    assert "lifted Newton" in {record.phase for record in result.history}
    reduced = solve(problem, options=Options(max_outer=150, lifted=False))
    assert reduced.counts["lifted"] == 0 and reduced.status is Status.OUTER_LIMIT


@pytest.mark.parametrize(
    ("problem", "options"),
    [
        (sine((1, 4, 4, 1)), Options()),
        (sine(activation="relu"), Options()),
        (sine(), Options(shooting="single")),
        (sine(), Options(globalisation="armijo")),
        (sine(), Options(second_order=False)),
    ],
    ids=["shallow", "kinks", "single shooting", "armijo", "first order"],
)
def test_it_is_for_deep_smooth_networks_with_nodes(problem, options):
    assert solve(problem, options=replace(options, max_outer=60)).counts["lifted"] == 0


def test_it_goes_on_once_the_others_crawl_and_as_long_as_it_can():
    dampings = (Damping(1.0), Damping(2.0), Damping(3.0))
    start = Finish(dampings, (INF, WORTHWHILE, WORTHWHILE))
    assert start.preferred == GAUSS_NEWTON
    crawling = start.after(0.5 * WORTHWHILE, Damping(4.0))
    assert crawling.preferred == LIFTED and crawling.next_damping == Damping(3.0)
    assert crawling.after(0.0, Damping(5.0)).preferred == LIFTED
    over = crawling.after(-1.0, Damping(5.0))
    assert over.preferred == NEWTON and over.kind == LIFTED
    assert Finish(dampings, (2 * WORTHWHILE, WORTHWHILE, WORTHWHILE)).preferred == GAUSS_NEWTON
    assert not Finish(dampings, (-1.0, -1.0, 0.0)).is_exhausted and Finish(dampings, (-1.0,) * 3).is_exhausted


def test_a_solve_goes_on_from_a_file_in_the_middle_of_lifted_steps(tmp_path):
    problem = deep(1)
    whole = solve(problem, options=Options(max_outer=150))
    phases = [record.phase for record in whole.history]
    first = next(k for k in range(len(phases)) if set(phases[k : k + 4]) == {"lifted Newton"})
    part = solve(problem, options=Options(max_outer=first + 3))
    assert part.state.is_lifted and part.state.schedule.finish.kind == LIFTED and part.state.point.max_defect > 0
    part.save(tmp_path / "part.npz")
    on = solve(problem, replace(ocp_nn.load(tmp_path / "part.npz"), options=None), options=Options(max_outer=150))
    assert on.counts == whole.counts
    np.testing.assert_array_equal(np.concatenate(on.model.controls), np.concatenate(whole.model.controls))


@pytest.mark.parametrize("broken", [{"kind": 7}, {"gains": [1.0]}, {"damping": []}])
def test_a_broken_finish_is_one_clear_error(broken):
    from ocp_nn.solvers.augmented_lagrangian.unpacking import _finish

    good = {"damping": [{"value": 1.0, "growth": 2.0}] * 3, "gains": [1.0, 0.0, 0.0], "kind": LIFTED}
    assert _finish(good).kind == LIFTED
    assert _finish({"damping": good["damping"][:2], "gains": [1.0, 0.0], "second_order": True}).kind == NEWTON
    with pytest.raises(ValueError, match="the finish of the state has"):
        _finish(good | broken)


def test_it_returns_to_rollouts_where_it_cannot_go_on():
    problem = deep(2)
    options = Options(max_outer=200)
    state = init(problem, options=options)
    while not state.is_lifted:
        state = step(problem, state, options)
    finish = replace(state.schedule.finish, gains=(0.0, WORTHWHILE, -1.0))
    back = step(problem, replace(state, schedule=replace(state.schedule, finish=finish)), options)
    assert not back.is_lifted and back.point.max_defect == 0.0 and back.phase == "second order"
    assert back.rollout_objective <= state.safeguard.objective
