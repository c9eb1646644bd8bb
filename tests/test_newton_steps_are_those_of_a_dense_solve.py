"""Truncated Newton-CG finds the dense solution where there is one, and safe steps where there is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from ocp_nn import Network, TrainingProblem
from ocp_nn.curvature import reduced_hessian
from ocp_nn.newton import newton_step, start_newton, truncated_newton_step

INDEFINITE = {"convex": (0.1, 20.0), "indefinite": (-5.0, 20.0), "concave": (-9.0, -1.0)}


def quadratic(lowest, highest, size=12, seed=0):
    """A symmetric H with the given extreme eigenvalues, a positive definite preconditioner, and a gradient."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((size, size)))[0]
    hessian = basis @ np.diag(np.linspace(lowest, highest, size)) @ basis.T
    factor = rng.standard_normal((size, size))
    return hessian, factor @ factor.T / size + np.eye(size), rng.standard_normal(size)


def solve(hessian, metric, gradient, radius, **settings):
    options = {"accuracy": 1e-13, "max_products": 200} | settings
    return truncated_newton_step(
        lambda v: hessian @ v, lambda v: np.linalg.solve(metric, v), gradient, radius, **options
    )


def model(hessian, gradient, step):
    return float(gradient @ step + 0.5 * step @ hessian @ step)


@pytest.mark.parametrize("seed", range(5))
def test_convex_with_room_is_the_newton_step(seed):
    hessian, metric, gradient = quadratic(0.1, 20.0, seed=seed)
    result = solve(hessian, metric, gradient, radius=1e6)
    expected = -np.linalg.solve(hessian, gradient)
    np.testing.assert_allclose(result.step, expected, rtol=1e-7, atol=1e-9)
    assert not result.on_boundary
    assert result.predicted == pytest.approx(-model(hessian, gradient, expected), rel=1e-9)


def test_the_exact_preconditioner_needs_one_product():
    hessian, _, gradient = quadratic(0.1, 20.0)
    assert solve(hessian, hessian, gradient, radius=1e6, accuracy=1e-8).products == 1


@pytest.mark.parametrize("radius", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("spectrum", INDEFINITE.values(), ids=INDEFINITE)
def test_steps_stay_in_the_region_and_beat_the_cauchy_point(spectrum, radius):
    hessian, metric, gradient = quadratic(*spectrum)
    result = solve(hessian, metric, gradient, radius)
    length = float(np.sqrt(result.step @ metric @ result.step))
    assert length <= radius * (1 + 1e-9)
    assert result.on_boundary == (length >= radius * (1 - 1e-9))
    assert result.predicted == pytest.approx(-model(hessian, gradient, result.step), rel=1e-8)
    assert result.predicted >= cauchy_decrease(hessian, metric, gradient, radius) * (1 - 1e-6)


def cauchy_decrease(hessian, metric, gradient, radius):
    steepest = -np.linalg.solve(metric, gradient)
    longest = radius / float(np.sqrt(steepest @ metric @ steepest))
    best = minimize_scalar(
        lambda t: model(hessian, gradient, t * steepest),
        bounds=(0.0, longest),
        method="bounded",
        options={"xatol": 1e-12 * longest},
    )
    return max(-float(best.fun), -model(hessian, gradient, longest * steepest))


@pytest.mark.parametrize("spectrum", [INDEFINITE["indefinite"], INDEFINITE["concave"]])
def test_negative_curvature_is_followed_to_the_boundary(spectrum):
    hessian, metric, gradient = quadratic(*spectrum)
    assert solve(hessian, metric, gradient, radius=1e3).on_boundary


def test_a_looser_accuracy_takes_fewer_products():
    hessian, metric, gradient = quadratic(0.1, 20.0)
    loose, tight = (solve(hessian, metric, gradient, 1e6, accuracy=a) for a in (0.1, 1e-10))
    assert loose.products < tight.products
    residual = gradient + hessian @ loose.step
    norm = [float(np.sqrt(v @ np.linalg.solve(metric, v))) for v in (residual, gradient)]
    assert norm[0] <= 0.1 * norm[1]
    assert solve(hessian, metric, gradient, 1e6, max_products=3).products == 3


def problem_of(weight_decay=0.05, activation="tanh"):
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (40, 1))
    return TrainingProblem(Network.mlp([1, 4, 3, 1], activation), x, np.sin(2 * x), weight_decay)


def iterates(problem, seed, count):
    states = [start_newton(problem, np.concatenate(problem.network.init_controls(seed)))]
    while len(states) <= count and not states[-1].stalled:
        states.append(newton_step(problem, states[-1]))
    return states


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "softplus"])
def test_every_iterate_is_feasible_monotone_and_what_it_says(activation):
    problem = problem_of(activation=activation)
    states = iterates(problem, 1, 25)
    assert np.all(np.diff([s.objective for s in states]) <= 1e-12 * states[0].objective)
    assert states[-1].objective < 0.9 * states[0].objective
    for state in states[::6]:
        trajectory = problem.rollout(problem.network.split(state.controls))
        assert state.objective == pytest.approx(problem.objective(trajectory), rel=1e-13)
        np.testing.assert_allclose(state.gradient, np.concatenate(problem.adjoints(trajectory).gradient), atol=1e-10)
    assert [s.products for s in states] == sorted(s.products for s in states)


@pytest.mark.parametrize("seed", range(3))
def test_convergence_is_superlinear_to_a_minimiser(seed):
    """With the forcing min(0.1, sqrt ||g||) a gradient is the 1.5th power of the one before, or better, in the end."""
    problem = problem_of()
    states = iterates(problem, seed, 200)
    norms = np.array([np.linalg.norm(s.gradient) for s in states])
    assert norms.min() < 1e-10
    last = int(np.argmax(norms < 1e-6))
    assert norms[last + 1] <= 10 * norms[last] ** 1.5 + 1e-12
    hessian = reduced_hessian(problem, problem.network.split(states[int(norms.argmin())].controls))
    assert np.linalg.eigvalsh(hessian)[0] > 0


def test_a_rejected_step_changes_the_region_alone():
    problem = problem_of()
    start = np.concatenate(problem.network.init_controls(0))
    state = start_newton(problem, start, radius=1e6)
    after = newton_step(problem, state)
    assert after.radius < state.radius
    np.testing.assert_array_equal(after.controls, start)
    assert after.objective == state.objective
    # the preconditioner belongs to the point, so it is not computed again
    assert newton_step(problem, after).products > after.products and after.precondition is not None


def test_a_region_at_rounding_level_is_reported_as_stalled():
    problem = problem_of()
    state = iterates(problem, 0, 3)[-1]
    assert newton_step(problem, replace(state, radius=1e-13)).stalled


@pytest.mark.parametrize("form", ["dual", "primal"])
def test_without_weight_decay_the_preconditioner_stays_definite(form):
    """Two copies of one hidden unit: H_GN is singular, its factor is not."""
    network = Network.mlp([1, 2, 1])
    x = np.linspace(-1, 1, 9)[:, None]
    problem = TrainingProblem(network, x, x**2, weight_decay=0.0)
    start = np.array([0.5, 0.5, 0.1, 0.1, 0.3, 0.3, 0.0])
    after = newton_step(problem, start_newton(problem, start), form=form)
    assert np.isfinite(after.controls).all() and after.objective <= problem.cost(
        network.split(start), network.predict(network.split(start), x)
    )
