"""An earlier factorisation gives further steps of a reduced problem: dense ones, downhill, and only while they gain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ocp_nn import Network, TrainingProblem
from ocp_nn.forward_dp import prepare
from ocp_nn.problem.curvature import reduced_hessian
from ocp_nn.solvers.augmented_lagrangian import reuse as reuse_module
from ocp_nn.solvers.augmented_lagrangian.damping import Damping
from ocp_nn.solvers.augmented_lagrangian.gauss_newton import minimise
from ocp_nn.solvers.augmented_lagrangian.inner_result import InnerResult
from ocp_nn.solvers.augmented_lagrangian.lagrangian import AugmentedLagrangian
from ocp_nn.solvers.augmented_lagrangian.linearisation import Linearisation, Method
from ocp_nn.solvers.augmented_lagrangian.reuse import reuse
from ocp_nn.solvers.augmented_lagrangian.secant import SecantFactor

INF = float("inf")
NEVER, ALWAYS = 2.0, 0.0  # values of _WORTH_REUSING, the least part of a step that a factorisation must take


def place(sizes=(1, 6, 6, 1), penalty=INF, samples=60, *, projected=False, seed=0):
    """L_beta of a sine without multipliers, and a rollout of it."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2, 2, (samples, sizes[0]))
    problem = TrainingProblem(Network.mlp(sizes), x, np.sin(2 * x[:, :1]), 1e-2)
    rollout = problem.rollout(problem.network.init_controls(seed))
    multipliers = tuple(map(np.zeros_like, rollout.states[1:]))
    lagrangian = AugmentedLagrangian(problem, multipliers, (penalty,) * len(multipliers), projected)
    return lagrangian, lagrangian.at(rollout.controls, rollout.states)


def run(lagrangian, point, max_steps=6, damping=100.0, tolerance=0.0, **method):
    """From a damping under which the model foretells its steps well."""
    return minimise(
        lagrangian,
        point,
        Damping(damping),
        tolerance=lambda _: tolerance,
        max_steps=max_steps,
        method=Method(**method),
    )


def fresh(precondition, local, uses):
    """A factor that knows nothing but the point itself."""
    controls, gradient = np.concatenate(local.point.controls), np.concatenate(local.gradient[0])
    return SecantFactor(precondition, controls, gradient, uses)


def worth_it(monkeypatch, least, uses=8):
    monkeypatch.setattr(reuse_module, "_WORTH_REUSING", least)
    monkeypatch.setattr(reuse_module, "_REUSES", uses)


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_for_as_many_least_squares_problems_it_ends_lower(seed, projected, monkeypatch):
    lagrangian, point = place(projected=projected, seed=seed)
    worth_it(monkeypatch, NEVER)
    without = run(lagrangian, point)
    worth_it(monkeypatch, ALWAYS)
    with_reuse = run(lagrangian, point)
    assert without.reuses == 0 < with_reuse.reuses
    assert with_reuse.steps == without.steps == 6
    assert with_reuse.point.value < without.point.value


@pytest.mark.parametrize("form", ["dual", "primal"])
def test_the_predicted_share_of_the_factorisation_decides(form, monkeypatch):
    lagrangian, point = place()
    share = prepare(lagrangian.subproblem(point, 0.1), form).factor_share
    assert 0 < share < 1
    for least, used in ((0.99 * share, True), (1.01 * share, False)):
        worth_it(monkeypatch, least)
        assert (run(lagrangian, point, form=form).reuses > 0) is used


def test_a_large_factorisation_is_worth_it_and_a_small_one_is_not():
    large, small = place((2, 24, 24, 1), samples=500), place((1, 3, 1), samples=20)
    shares = [prepare(lagrangian.subproblem(point, 0.1)).factor_share for lagrangian, point in (large, small)]
    assert shares[0] > 0.5 > shares[1]
    assert run(*large, damping=1e3).reuses > 0 == run(*small, damping=1e3).reuses


def test_the_augmented_lagrangian_never_increases(monkeypatch):
    """Neither over steps nor over reuses in between."""
    values = []
    original = Linearisation.at

    def noting(lagrangian, point, damping, method):
        values.append(point.value)
        return original(lagrangian, point, damping, method)

    monkeypatch.setattr(Linearisation, "at", noting)
    worth_it(monkeypatch, ALWAYS)
    result = run(*place(), max_steps=8)
    moves = np.diff(values)
    assert result.reuses > 8
    assert np.all(moves <= 0)
    # one linearisation a step and reuse; the others are of factors that failed, where the point stays
    assert np.sum(moves < 0) == result.steps + result.reuses


@pytest.mark.parametrize("form", ["dual", "primal"])
@pytest.mark.parametrize("uses", [1, 3])
def test_a_reused_step_is_the_dense_one_with_the_old_matrix_updated(uses, form, monkeypatch):
    """-H g: H is the inverse of Gauss-Newton matrix plus mu where the step before it started, updated by BFGS since."""
    lagrangian, start = place()
    damping = 100.0
    problem, split = lagrangian.problem, lagrangian.problem.network.split

    def gradient(flat):
        return np.concatenate(problem.adjoints(problem.rollout(split(flat))).gradient)

    matrix = reduced_hessian(problem, start.controls, gauss_newton=True)
    inverse = np.linalg.inv(matrix + damping * np.eye(len(matrix)))
    worth_it(monkeypatch, NEVER)
    path = [np.concatenate(u) for u in (start.controls, run(lagrangian, start, 1, damping, form=form).point.controls)]
    worth_it(monkeypatch, ALWAYS, uses)
    result = run(lagrangian, start, 1, damping, form=form)
    assert (result.steps, result.solves, result.reuses) == (1, 1, uses) and result.factor is None
    for _ in range(uses):
        inverse = bfgs(inverse, path[-1] - path[-2], gradient(path[-1]) - gradient(path[-2]))
        path.append(path[-1] - inverse @ gradient(path[-1]))
    np.testing.assert_allclose(np.concatenate(result.point.controls), path[-1], rtol=0, atol=1e-9)


def bfgs(inverse, s, y):
    """The update of an inverse matrix, in full (Nocedal and Wright 2006, equation 6.17)."""
    left = np.eye(len(s)) - np.outer(s, y) / (s @ y)
    return left @ inverse @ left.T + np.outer(s, s) / (s @ y)


@pytest.mark.parametrize("pairs", [0, 1, 4])
def test_the_secant_factor_is_the_dense_update_and_leaves_negative_curvature_out(pairs):
    rng = np.random.default_rng(pairs)
    root = rng.standard_normal((7, 7))
    start, hessian = root @ root.T + np.eye(7), np.diag([3.0, 2.0, 1.0, 0.5, 4.0, 1.5, -2.0])
    controls, inverse = rng.standard_normal(7), np.linalg.inv(start)
    factor = SecantFactor(lambda v: np.linalg.solve(start, v), controls, hessian @ controls, uses=9)
    steps = [*0.3 * np.eye(7)[rng.permutation(6)[:pairs]] + 0.05 * rng.standard_normal((pairs, 7)), 0.2 * np.eye(7)[6]]
    for s in steps:
        controls = controls + s
        factor = factor.moved(controls, hessian @ controls)
        inverse = bfgs(inverse, s, hessian @ s) if s @ hessian @ s > 0 else inverse
    assert len(factor.pairs) == pairs and factor.uses == 9 - len(steps)
    vector = rng.standard_normal(7)
    kept = vector.copy()
    np.testing.assert_allclose(factor.solve(vector), inverse @ vector, rtol=1e-10)
    np.testing.assert_array_equal(vector, kept)
    if pairs:
        s, y = factor.pairs[-1]
        np.testing.assert_allclose(factor.solve(y), s, rtol=1e-10)  # the secant equation


@pytest.mark.parametrize("uses", [1, 2, 5])
def test_no_factorisation_serves_more_often_than_allowed(uses, monkeypatch):
    worth_it(monkeypatch, ALWAYS, uses)
    for steps in (1, 4):
        assert run(*place(), max_steps=steps).reuses <= uses * steps


def test_reuses_stop_at_the_tolerance(monkeypatch):
    lagrangian, point = place()
    norms = []
    for uses in range(1, 9):
        worth_it(monkeypatch, ALWAYS, uses)
        norms.append(run(lagrangian, point, max_steps=1).stationarity)
    worth_it(monkeypatch, ALWAYS)
    assert run(lagrangian, point, max_steps=1).reuses == 8
    tolerance = min(norms[:-1])
    enough = next(uses for uses, norm in enumerate(norms, start=1) if norm <= tolerance)
    assert enough < 8 and run(lagrangian, point, max_steps=0).stationarity > tolerance
    result = run(lagrangian, point, max_steps=1, tolerance=tolerance)
    assert result.reuses == enough and result.stationarity == norms[enough - 1]


@pytest.mark.parametrize(
    ("penalty", "method"),
    [(3.0, {}), (INF, {"second_order": True}), (INF, {"globalisation": "armijo"})],
    ids=["states are variables", "second order", "armijo"],
)
def test_it_is_for_reduced_gauss_newton_alone(penalty, method, monkeypatch):
    lagrangian, point = place(penalty=penalty)
    results = []
    for least in (ALWAYS, NEVER):
        worth_it(monkeypatch, least)
        results.append(run(lagrangian, point, max_steps=8, **method))
    assert results[0].reuses == 0 and results[0].factor is None
    assert results[0].point.value == results[1].point.value


@pytest.mark.parametrize(
    "precondition",
    [lambda v: -v, lambda v: 1e3 * v, lambda v: 0.0 * v, lambda v: 1e200 * v],
    ids=["uphill", "too long", "nowhere", "overflow"],
)
def test_a_factor_that_does_not_gain_is_dropped_and_nothing_else_changes(precondition):
    lagrangian, point = place()
    local = Linearisation.at(lagrangian, point, Damping(0.1), Method())
    result = InnerResult(point, Damping(0.1), steps=3, solves=5, factor=fresh(precondition, local, 4))
    after = reuse(local, result, result.factor)
    assert vars(after) == vars(replace(result, factor=None))


def test_a_factor_that_gains_has_one_use_less(monkeypatch):
    lagrangian, point = place()
    local = Linearisation.at(lagrangian, point, Damping(100.0), Method())
    damped = local.prepared.damped(100.0)
    for uses, left in ((3, 2), (1, None)):
        result = InnerResult(point, Damping(0.1), steps=3, factor=fresh(damped.precondition, local, uses))
        after = reuse(local, result, result.factor)
        assert (after.factor and after.factor.uses) == left
        assert (after.steps, after.reuses) == (3, 1) and after.point.value < point.value
