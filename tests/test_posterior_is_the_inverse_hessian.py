"""The Laplace posterior: both forms against dense inverses, samples against their covariance, and polite refusals."""

from __future__ import annotations

import numpy as np
import pytest

import ocp_nn
from ocp_nn.learning.jacobian import output_jacobian
from ocp_nn.learning.posterior import Posterior

RNG = np.random.default_rng(0)
X = RNG.uniform(-2, 2, (40, 2))
Y = np.column_stack([np.sin(2 * X[:, 0]), X[:, 0] * X[:, 1]]) + 0.1 * RNG.standard_normal((40, 2))
NEW = RNG.uniform(-3, 3, (7, 2))


def trained(hidden, decay=0.05, **more):
    problem = ocp_nn.TrainingProblem(ocp_nn.Network.mlp([2, *hidden, 2]), X, Y, decay, **more)
    result = ocp_nn.solve(problem, options=ocp_nn.Options(tolerance=1e-9))
    assert result.success
    return problem, result.trajectory.controls


@pytest.fixture(scope="module")
def fitted():
    return trained((6,))


def dense(problem, controls):
    """J, H^-1 and the residuals, by differences of predictions."""
    flat = np.concatenate(controls)
    root = 1.0 if problem.sample_weight is None else np.sqrt(problem.sample_weight)[:, None]

    def outputs(u, x, scale):
        return (scale * problem.network.predict(problem.split(u), x)).ravel()

    def jacobian(x, scale=1.0, h=1e-6):
        steps = h * np.eye(len(flat))
        return np.column_stack([(outputs(flat + s, x, scale) - outputs(flat - s, x, scale)) / (2 * h) for s in steps])

    return jacobian(X, root), jacobian(NEW)


@pytest.mark.parametrize("form", ["primal", "dual"])
@pytest.mark.parametrize("weights", [None, RNG.uniform(0.5, 2, 40)])
def test_both_forms_are_the_dense_inverse(form, weights):
    problem, controls = trained((6,), sample_weight=weights)
    j, new = dense(problem, controls)
    np.testing.assert_allclose(output_jacobian(problem, controls), j, atol=1e-7)
    j, new = output_jacobian(problem, controls), output_jacobian(problem, controls, NEW)
    rho, count = problem.weight_decay, problem.y.size
    hessian = j.T @ j + rho * np.eye(j.shape[1])
    inverse = np.linalg.inv(hessian)
    posterior = Posterior.of(problem, controls, form=form)
    gamma = j.shape[1] - rho * np.trace(inverse)
    assert posterior.effective_parameters == pytest.approx(gamma, rel=1e-9)
    squares = 2 * problem.data.value(problem.network.predict(controls, X))
    variance = squares / (count - gamma)
    assert posterior.noise_variance == pytest.approx(variance, rel=1e-9)
    assert posterior.noise_variances.mean() == pytest.approx(variance, rel=1e-9)
    vectors = RNG.standard_normal((j.shape[1], 3))
    np.testing.assert_allclose(
        posterior.covariance_product(vectors), variance * inverse @ vectors, rtol=1e-8, atol=1e-10
    )
    one = posterior.covariance_product(vectors[:, 0])
    np.testing.assert_allclose(one, variance * inverse @ vectors[:, 0], rtol=1e-8, atol=1e-10)
    mean, covariances = posterior.predict(NEW)
    np.testing.assert_array_equal(mean, problem.network.predict(controls, NEW))
    blocks = new.reshape(7, 2, -1)
    np.testing.assert_allclose(
        covariances, variance * blocks @ inverse @ blocks.transpose(0, 2, 1), rtol=1e-8, atol=1e-12
    )
    assert posterior.log_determinant == pytest.approx(np.linalg.slogdet(hessian / rho)[1], rel=1e-10)


def test_the_evidence_is_the_gaussian_density_of_a_linear_network():
    """Of a linear network it is exact: y ~ N(0, s (I + J J'/rho))."""
    problem = ocp_nn.TrainingProblem(ocp_nn.Network.mlp([2, 2]), X, Y, 0.3)
    posterior = Posterior.of(
        problem, ocp_nn.solve(problem, options=ocp_nn.Options(tolerance=1e-12)).trajectory.controls
    )
    j, s = output_jacobian(problem, posterior.controls), 0.04
    covariance = s * (np.eye(len(j)) + j @ j.T / 0.3)
    y = Y.ravel()
    density = -0.5 * (
        len(y) * np.log(2 * np.pi) + np.linalg.slogdet(covariance)[1] + y @ np.linalg.solve(covariance, y)
    )
    assert posterior.log_evidence(s) == pytest.approx(density, rel=1e-10)
    around = [posterior.log_evidence(s) for s in np.geomspace(0.1, 10, 7) * 2 * problem.objective(
        problem.rollout(posterior.controls)) / len(y)]  # fmt: skip
    assert posterior.log_evidence() == pytest.approx(max(around)) and np.argmax(around) == 3


@pytest.mark.parametrize("form", ["primal", "dual"])
def test_samples_have_their_covariance(fitted, form):
    problem, controls = fitted
    posterior = Posterior.of(problem, controls, form=form)
    drawn = np.array([np.concatenate(u) for u in posterior.sample(20000, seed=1)]) - np.concatenate(controls)
    whole = posterior.covariance_product(np.eye(drawn.shape[1]))
    relative = np.linalg.solve(np.linalg.cholesky(whole), np.cov(drawn.T)) @ np.linalg.inv(np.linalg.cholesky(whole)).T
    np.testing.assert_allclose(np.linalg.eigvalsh(relative), 1.0, atol=0.15)
    np.testing.assert_allclose(drawn.mean(axis=0) / np.sqrt(np.diag(whole)), 0.0, atol=0.04)
    again = posterior.sample(2, seed=1)
    np.testing.assert_array_equal(again[0][0], posterior.sample(2, seed=1)[0][0])


def test_intervals_grow_with_coverage_and_away_from_data(fitted):
    posterior = Posterior.of(*fitted)
    (low, high), (lower, higher) = posterior.interval(X, 0.5), posterior.interval(X, 0.9)
    assert (lower < low).all() and (high < higher).all()
    inside = np.mean((lower <= Y) & (higher >= Y))
    assert 0.8 < inside <= 1.0
    far = posterior.predict(np.array([[8.0, 8.0]]))[1][0, 0, 0]
    assert far > 5 * np.median(posterior.predict(X)[1][:, 0, 0])


def test_more_weights_than_targets_need_no_large_matrix():
    problem, controls = trained((40,), decay=0.5)
    posterior = Posterior.of(problem, controls)
    assert posterior._is_dual and posterior._factor.shape == (80, 80)
    assert 0 < posterior.effective_parameters < 80


def test_where_there_is_none_it_says_so(fitted):
    problem, controls = fitted
    with pytest.raises(ValueError, match="needs a minimum"):
        Posterior.of(problem, tuple(0.0 * u for u in controls))
    bare = ocp_nn.TrainingProblem(problem.network, X, Y, 0.0)
    with pytest.raises(ValueError, match="needs a prior"):
        Posterior.of(bare, controls)
    robust = ocp_nn.TrainingProblem(problem.network, X, Y, 0.1, loss="huber")
    with pytest.raises(ValueError, match="sums of squares"):
        Posterior.of(robust, controls)
    few = ocp_nn.TrainingProblem(problem.network, X[:3], 0.0 * Y[:3], 0.1)
    with pytest.raises(ValueError, match="needs noise to be seen"):
        Posterior.of(few, tuple(0.0 * u for u in controls))
    with pytest.raises(ValueError, match="form must be"):
        Posterior.of(problem, controls, form="covariance")
    posterior = Posterior.of(problem, controls)
    mistakes = [
        lambda: posterior.interval(X, 1.0),
        lambda: posterior.sample(0),
        lambda: posterior.log_evidence(-1.0),
        lambda: posterior.covariance_product(np.zeros(3)),
        lambda: posterior.predict(np.zeros((2, 5))),
    ]
    for mistake in mistakes:
        with pytest.raises(ValueError, match=r"must|expected"):
            mistake()
