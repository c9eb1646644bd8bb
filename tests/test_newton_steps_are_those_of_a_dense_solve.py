"""Second-order steps are those of a dense solve, cut short as promised, and of a Hessian that is the problem's own.

Conjugate gradients after j products minimise the model over the Krylov space of (M^-1 (H + mu I), M^-1 g) of dimension
j: the oracle builds that space and solves the projected system.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from ocp_nn import Network, TrainingProblem
from ocp_nn.forward_dp import prepare
from ocp_nn.problem.curvature import hessian_product, reduced_hessian
from ocp_nn.solvers.augmented_lagrangian import linearisation as linearisation_module
from ocp_nn.solvers.augmented_lagrangian.damping import Damping
from ocp_nn.solvers.augmented_lagrangian.gauss_newton import minimise
from ocp_nn.solvers.augmented_lagrangian.lagrangian import AugmentedLagrangian
from ocp_nn.solvers.augmented_lagrangian.linearisation import Method
from ocp_nn.solvers.augmented_lagrangian.newton import refine_step

SPECTRA = {"convex": (0.1, 20.0), "indefinite": (-5.0, 20.0), "concave": (-9.0, -1.0)}
DAMPING = 0.3


def quadratic(spectrum, size=12, seed=0):
    """A symmetric H with the given extreme eigenvalues, a positive definite M, and a gradient."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((size, size)))[0]
    hessian = basis @ np.diag(np.linspace(*spectrum, size)) @ basis.T
    factor = rng.standard_normal((size, size))
    return hessian, factor @ factor.T / size + np.eye(size), rng.standard_normal(size)


def refine(hessian, metric, gradient, **settings):
    """The step, with a Hessian that counts its products."""
    products = []

    def product(v):
        products.append(v)
        return hessian @ v

    first = -np.linalg.solve(metric, gradient)
    options = {"damping": DAMPING, "accuracy": 1e-13, "max_products": 200} | settings
    refined = refine_step(product, lambda v: np.linalg.solve(metric, v), gradient, first, **options)
    assert refined.products == len(products)
    return refined


def decrease(hessian, gradient, step):
    """Of the model g's + 1/2 s'Hs, without damping."""
    return -float(gradient @ step + 0.5 * step @ hessian @ step)


def krylov_basis(hessian, metric, gradient, dimension, damping=DAMPING):
    """An orthonormal basis of span{M^-1 g, ..., (M^-1 (H + mu I))^(dimension - 1) M^-1 g}."""
    columns = []
    vector = np.linalg.solve(metric, gradient)
    for _ in range(dimension):
        for _ in range(2):
            for column in columns:
                vector = vector - (column @ vector) * column
        columns.append(vector / np.linalg.norm(vector))
        vector = np.linalg.solve(metric, hessian @ columns[-1] + damping * columns[-1])
    return np.array(columns).reshape(dimension, len(gradient)).T


def projected(hessian, metric, gradient, dimension):
    """(H + mu I in the Krylov space, the minimiser of the damped model there)."""
    basis = krylov_basis(hessian, metric, gradient, dimension)
    matrix = basis.T @ (hessian + DAMPING * np.eye(len(gradient))) @ basis
    return matrix, -basis @ np.linalg.solve(matrix, basis.T @ gradient)


@pytest.mark.parametrize("damping", [0.0, 0.3, 50.0])
@pytest.mark.parametrize("seed", range(3))
def test_positive_definite_and_accurate_is_the_dense_solution(seed, damping):
    hessian, metric, gradient = quadratic(SPECTRA["convex"], seed=seed)
    refined = refine(hessian, metric, gradient, damping=damping)
    expected = -np.linalg.solve(hessian + damping * np.eye(12), gradient)
    np.testing.assert_allclose(refined.step, expected, rtol=1e-7, atol=1e-9)
    assert refined.predicted == pytest.approx(decrease(hessian, gradient, expected), rel=1e-9)


def test_an_indefinite_hessian_that_the_damping_makes_definite_is_solved_too():
    hessian, metric, gradient = quadratic(SPECTRA["indefinite"])
    refined = refine(hessian, metric, gradient, damping=6.0)
    np.testing.assert_allclose(refined.step, -np.linalg.solve(hessian + 6.0 * np.eye(12), gradient), rtol=1e-7)


def test_the_exact_preconditioner_needs_one_product():
    hessian, _, gradient = quadratic(SPECTRA["convex"])
    assert refine(hessian, hessian + DAMPING * np.eye(12), gradient, accuracy=1e-8).products == 1


@pytest.mark.parametrize("max_products", [0, 1, 2, 5, 9])
def test_no_more_products_than_allowed_and_the_best_step_they_give(max_products):
    hessian, metric, gradient = quadratic(SPECTRA["convex"])
    refined = refine(hessian, metric, gradient, max_products=max_products)
    assert refined.products == max_products
    best = projected(hessian, metric, gradient, max_products)[1] if max_products else np.zeros(12)
    np.testing.assert_allclose(refined.step, best, rtol=1e-7, atol=1e-9)
    assert refined.predicted == pytest.approx(decrease(hessian, gradient, best), rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_negative_curvature_ends_with_the_best_step_before_it(seed):
    """The first Krylov space on which H + mu I is not definite has the dimension of the products made."""
    hessian, metric, gradient = quadratic(SPECTRA["indefinite"], seed=seed)
    refined = refine(hessian, metric, gradient)
    assert refined.products >= 2
    assert np.linalg.eigvalsh(projected(hessian, metric, gradient, refined.products)[0])[0] <= 0
    before, best = projected(hessian, metric, gradient, refined.products - 1)
    assert np.linalg.eigvalsh(before)[0] > 0
    np.testing.assert_allclose(refined.step, best, rtol=1e-6, atol=1e-9)
    assert refined.predicted == pytest.approx(decrease(hessian, gradient, best), rel=1e-8)


def test_negative_curvature_in_the_first_round_leaves_the_levenberg_marquardt_step():
    hessian, metric, gradient = quadratic(SPECTRA["concave"])
    refined = refine(hessian, metric, gradient)
    first = -np.linalg.solve(metric, gradient)
    np.testing.assert_array_equal(refined.step, first)
    assert refined.products == 1
    assert refined.predicted == pytest.approx(decrease(hessian, gradient, first), rel=1e-12)
    assert refined.predicted > -gradient @ first


def test_products_that_are_not_finite_leave_the_levenberg_marquardt_step_and_half_its_slope():
    _, metric, gradient = quadratic(SPECTRA["convex"])
    refined = refine(np.full((12, 12), np.nan), metric, gradient)
    first = -np.linalg.solve(metric, gradient)
    np.testing.assert_array_equal(refined.step, first)
    assert refined.predicted == pytest.approx(-0.5 * gradient @ first, rel=1e-12)


@pytest.mark.parametrize("accuracy", [0.5, 1e-2, 1e-6])
def test_the_residual_is_as_small_as_asked_and_was_not_before(accuracy):
    hessian, metric, gradient = quadratic(SPECTRA["convex"])
    refined = refine(hessian, metric, gradient, accuracy=accuracy)
    before = refine(hessian, metric, gradient, accuracy=accuracy, max_products=refined.products - 1)
    norms = []
    for step in (refined.step, before.step, np.zeros(12)):
        residual = gradient + hessian @ step + DAMPING * step
        norms.append(float(np.sqrt(residual @ np.linalg.solve(metric, residual))))
    assert norms[0] <= accuracy * norms[2] < norms[1]


@pytest.mark.parametrize(("size", "accuracy"), [(1e4, 0.5), (0.25, 0.5), (1e-2, 0.1), (1e-8, 1e-4)])
def test_steps_become_more_accurate_as_the_gradient_falls(size, accuracy):
    hessian, metric, gradient = quadratic(SPECTRA["convex"])
    gradient = size * gradient / np.linalg.norm(gradient)
    default, asked = (refine(hessian, metric, gradient, accuracy=a) for a in (None, accuracy * (1 - 1e-12)))
    np.testing.assert_array_equal(default.step, asked.step)
    assert default.products == asked.products


def test_a_gradient_of_zero_takes_no_product():
    hessian, metric, _ = quadratic(SPECTRA["convex"])
    refined = refine(hessian, metric, np.zeros(12))
    assert refined.products == 0 == refined.predicted and not refined.step.any()


# ---- on training problems


def problem_of(weight_decay=0.05, activation="tanh"):
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (40, 1))
    return TrainingProblem(Network.mlp([1, 4, 3, 1], activation), x, np.sin(2 * x), weight_decay)


def reduced(problem, controls):
    """L_beta with every state eliminated, and its point at these controls."""
    inner = problem.num_stages - 1
    zeros = tuple(np.zeros_like(s) for s in problem.rollout(controls).states[1:])
    lagrangian = AugmentedLagrangian(problem, zeros, (np.inf,) * inner)
    return lagrangian, lagrangian.at(tuple(controls), problem.rollout(controls).states)


def run(problem, controls, damping, max_steps, **settings):
    method = Method(**({"second_order": True} | settings))
    return minimise(
        *reduced(problem, controls), Damping(damping), tolerance=lambda _: 0.0, max_steps=max_steps, method=method
    )


@pytest.mark.parametrize("form", ["dual", "primal"])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "softplus"])
def test_the_exact_hessian_with_forward_dp_before_it_gives_the_dense_solution(activation, form):
    problem = problem_of(activation=activation)
    controls = run(problem, problem.network.init_controls(1), 0.1, 10).point.controls
    lagrangian, point = reduced(problem, controls)
    damping = 2.0
    subproblem = lagrangian.subproblem(point, damping)
    damped_problem = prepare(subproblem, form).damped()
    gradient = np.concatenate(lagrangian.gradient(point, subproblem)[0])
    costates = problem.adjoints(problem.rollout(controls)).costates
    split = problem.network.split

    def hessian(v):
        return np.concatenate(hessian_product(problem, subproblem.stages, costates, split(v)))

    first = np.concatenate(damped_problem.step().controls)
    refined = refine_step(hessian, damped_problem.precondition, gradient, first, damping=damping, accuracy=1e-12)
    dense = reduced_hessian(problem, controls)
    damped = dense + damping * np.eye(len(dense))
    assert np.linalg.eigvalsh(damped)[0] > 0
    expected = -np.linalg.solve(damped, gradient)
    assert np.linalg.norm(expected - first) > 1e-2 * np.linalg.norm(expected)
    np.testing.assert_allclose(refined.step, expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())
    assert refined.predicted == pytest.approx(decrease(dense, gradient, expected), rel=1e-8)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "softplus"])
def test_second_order_steps_only_decrease_and_their_products_are_counted(activation, monkeypatch):
    calls = []
    original = linearisation_module.hessian_product
    monkeypatch.setattr(linearisation_module, "hessian_product", lambda *a: calls.append(1) or original(*a))
    problem = problem_of(activation=activation)
    start = problem.network.init_controls(1)
    values = [problem.objective(problem.rollout(start))]
    for count in (1, 5, 10, 25):
        calls.clear()
        result = run(problem, start, 0.1, count)
        assert result.steps == count and result.products == len(calls) >= count
        assert result.point.value == pytest.approx(problem.objective(problem.rollout(result.point.controls)), rel=1e-13)
        values.append(result.point.value)
    assert np.all(np.diff(values) <= 1e-12 * values[0]) and values[-1] < 0.9 * values[0]


def near_a_minimiser(problem, seed):
    """Controls a little off a stationary point."""
    found = run(problem, problem.network.init_controls(seed), 0.1, 200)
    assert found.stationarity < 1e-12
    rng = np.random.default_rng(seed)
    return tuple(u + 1e-4 * rng.standard_normal(u.shape) for u in found.point.controls)


@pytest.mark.parametrize("seed", range(3))
def test_convergence_is_superlinear_to_a_minimiser(seed):
    """With the forcing min(1/2, sqrt ||g||) a gradient is the 1.5th power of the one before, or better."""
    problem = problem_of()
    start = near_a_minimiser(problem, seed)
    results = [run(problem, start, 1e-9, count) for count in range(5)]
    norms = [result.stationarity for result in results]
    assert norms[0] > 1e-2 and norms[-1] < 1e-8
    assert all(after <= 10 * before**1.5 for before, after in pairwise(norms))
    assert np.linalg.eigvalsh(reduced_hessian(problem, results[-1].point.controls))[0] > 0
    # the same steps without the exact Hessian are linear
    plain = run(problem, start, 1e-9, 4, second_order=False)
    assert plain.products == 0 and plain.stationarity > 1e3 * norms[-1]


@pytest.mark.parametrize("form", ["dual", "primal"])
def test_without_weight_decay_the_preconditioner_stays_definite(form):
    """Two copies of one hidden unit: H_GN is singular, its factor is not."""
    network = Network.mlp([1, 2, 1])
    x = np.linspace(-1, 1, 9)[:, None]
    problem = TrainingProblem(network, x, x**2, weight_decay=0.0)
    start = network.split(np.array([0.5, 0.5, 0.1, 0.1, 0.3, 0.3, 0.0]))
    _, point = reduced(problem, start)
    result = run(problem, start, 1e-6, 1, form=form)
    assert result.steps == 1 and result.point.value < point.value
    assert all(np.isfinite(u).all() for u in result.point.controls)
