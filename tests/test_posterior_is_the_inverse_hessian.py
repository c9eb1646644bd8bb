"""The Laplace posterior: both forms against dense inverses, samples against their covariance, and polite refusals."""

from __future__ import annotations

import casadi as ca
import numpy as np
import pytest
from scipy import integrate, special, stats

import ocp_nn
from ocp_nn.learning import likelihood
from ocp_nn.learning.jacobian import output_jacobian
from ocp_nn.learning.posterior import Posterior
from ocp_nn.problem.losses import Custom, Huber

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


@pytest.mark.parametrize("form", ["primal", "dual"])
@pytest.mark.parametrize("weights", [None, RNG.uniform(0.5, 2, 40)])
def test_leverages_and_deleted_residuals_are_those_of_ridge_regression(form, weights):
    """Of a linear network they are exact: 40 regressions, each without a sample."""
    x, y = X, Y[:, :1]
    root = np.ones(40) if weights is None else np.sqrt(weights)
    problem = ocp_nn.TrainingProblem(ocp_nn.Network.mlp([2, 1]), x, y, 0.3, sample_weight=weights)
    controls = ocp_nn.solve(problem, options=ocp_nn.Options(tolerance=1e-12)).trajectory.controls
    posterior = Posterior.of(problem, controls, form=form)
    j = output_jacobian(problem, controls)
    hessian = j.T @ j + 0.3 * np.eye(3)
    np.testing.assert_allclose(posterior.leverages.ravel(), np.diag(j @ np.linalg.solve(hessian, j.T)), rtol=1e-9)
    for i in (0, 7, 39):
        others = np.arange(40) != i
        hessian = j[others].T @ j[others] + 0.3 * np.eye(3)
        without = np.linalg.solve(hessian, j[others].T @ (root[:, None] * y)[others])
        error = (j[i] @ without - root[i] * y[i])[0]
        variance = posterior.noise_variance * (1 + j[i] @ np.linalg.solve(hessian, j[i]))
        assert posterior.studentised_residuals[i, 0] == pytest.approx(error / np.sqrt(variance), rel=1e-7)


def test_calibrated_intervals_hold_their_share_whatever_the_noise():
    rng = np.random.default_rng(3)
    x, new = rng.uniform(-2, 2, (400, 1)), rng.uniform(-2, 2, (4000, 1))
    network = ocp_nn.Network.mlp([1, 5, 1])

    def targets(x):  # one target in ten is far off
        return np.sin(2 * x) + np.where(rng.uniform(size=x.shape) < 0.1, 1.0, 0.03) * rng.standard_normal(x.shape)

    problem, fresh = ocp_nn.TrainingProblem(network, x, targets(x), 0.05), targets(new)
    posterior = Posterior.of(problem, ocp_nn.solve(problem).trajectory.controls)
    shares = {}
    for calibrated in (False, True):
        for coverage in (0.5, 0.8):
            low, high = posterior.interval(new, coverage, calibrated=calibrated)
            shares[calibrated, coverage] = np.mean((low <= fresh) & (fresh <= high))
    assert shares[False, 0.5] > 0.8
    assert shares[True, 0.5] == pytest.approx(0.5, abs=0.08) and shares[True, 0.8] == pytest.approx(0.8, abs=0.05)
    with pytest.raises(ValueError, match="needs at least 999 samples, received 400"):
        posterior.interval(new, 0.999, calibrated=True)
    with pytest.raises(ValueError, match="calibrated must be"):
        posterior.interval(new, calibrated="yes")


def test_more_weights_than_targets_need_no_large_matrix():
    problem, controls = trained((40,), decay=0.5)
    posterior = Posterior.of(problem, controls)
    assert posterior._is_dual and posterior._factor.shape == (80, 80)
    assert 0 < posterior.effective_parameters < 80


LABELS = (X[:, :1] * X[:, 1:] > 0).astype(float)
OTHERS = {
    "huber": Y + 5.0 * (RNG.uniform(size=Y.shape) > 0.9),
    "logistic": np.column_stack([LABELS, X[:, 0] > 0]),
    "softmax": np.eye(3)[(2 * LABELS[:, 0] + (X[:, 0] > 0)).astype(int) % 3],
    "poisson": RNG.poisson(np.exp(0.8 * Y)).astype(float),
}


@pytest.mark.parametrize("form", ["primal", "dual"])
@pytest.mark.parametrize("loss", OTHERS)
@pytest.mark.parametrize("weights", [None, RNG.uniform(0.5, 2, 40)])
def test_of_every_loss_it_is_the_inverse_of_generalised_gauss_newton(loss, form, weights):
    y = OTHERS[loss]
    network = ocp_nn.Network.mlp([2, 5, y.shape[1]])
    problem = ocp_nn.TrainingProblem(network, X, y, 0.3, loss=loss, sample_weight=weights)
    controls = ocp_nn.solve(problem, options=ocp_nn.Options(tolerance=1e-9)).trajectory.controls
    posterior = Posterior.of(problem, controls, form=form)
    m, new = y.shape[1], output_jacobian(problem, controls, NEW)
    plain = output_jacobian(problem, controls, X).reshape(40, m, -1)
    curvature = problem.data.curvature(network.predict(controls, X), gauss_newton=True)
    if curvature.ndim == 2:
        curvature = curvature[:, :, None] * np.eye(m)
    hessian = np.einsum("iap,iab,ibq->pq", plain, curvature, plain) + 0.3 * np.eye(plain.shape[2])
    inverse = np.linalg.inv(hessian)
    scale = posterior.noise_variance
    assert scale == 1 or loss == "huber"
    np.testing.assert_allclose(
        posterior.covariance_product(np.eye(len(hessian))), scale * inverse, rtol=1e-7, atol=1e-8
    )
    assert posterior.effective_parameters == pytest.approx(len(hessian) - 0.3 * np.trace(inverse), rel=1e-8)
    assert posterior.log_determinant == pytest.approx(np.linalg.slogdet(hessian / 0.3)[1], rel=1e-9)
    blocks = new.reshape(7, m, -1)
    expected = scale * blocks @ inverse @ blocks.transpose(0, 2, 1)
    np.testing.assert_allclose(posterior.predict(NEW)[1], expected, rtol=1e-7, atol=1e-9)
    with pytest.raises(ValueError, match="Gaussian noise"):
        posterior.interval(NEW)


@pytest.mark.parametrize("loss", ["huber", "logistic", "poisson"])
def test_the_evidence_is_the_integral_over_the_weights(loss):
    """Of two weights by the trapezoidal rule; with 400 samples Laplace's approximation is good to a hundredth."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 1))
    z = 0.7 * x + 0.2
    y = {"huber": z + 0.3 * rng.standard_t(3, (400, 1)), "poisson": rng.poisson(np.exp(z)).astype(float),
         "logistic": (rng.uniform(size=(400, 1)) < special.expit(z)).astype(float)}[loss]  # fmt: skip
    problem = ocp_nn.TrainingProblem(ocp_nn.Network.mlp([1, 1]), x, y, 0.5, loss=loss)
    result = ocp_nn.solve(problem, options=ocp_nn.Options(tolerance=1e-10))
    posterior = Posterior.of(problem, result.trajectory.controls)
    s = 0.2 if loss == "huber" else 1.0
    (mode,), reach = result.trajectory.controls, 8 * np.sqrt(np.diag(posterior.covariance_product(np.eye(2))))
    axes = [np.linspace(centre - r, centre + r, 121) for centre, r in zip(mode, reach, strict=True)]
    value = np.array([[problem.objective(problem.rollout((np.array([a, b]),))) for b in axes[1]] for a in axes[0]])
    prior = np.log(0.5 / (2 * np.pi * s))
    cell = np.prod([axis[1] - axis[0] for axis in axes])
    integral = special.logsumexp(-value / s) + np.log(cell) + prior
    if loss == "huber":
        density, _ = integrate.quad(lambda e: np.exp(-special.huber(1.345, e) / s), -60, 60, points=[-1.345, 1.345])
        integral -= 400 * np.log(density)
    if loss == "poisson":
        likelihood = stats.poisson.logpmf(y, np.exp(problem.network.predict((mode,), x))).sum()
        integral += likelihood + problem.data.value(problem.network.predict((mode,), x))
    evidence = posterior.log_evidence(s) if loss == "huber" else posterior.log_evidence()
    assert evidence == pytest.approx(integral, abs=0.02)


def test_hubers_scale_is_the_likeliest_one():
    rng = np.random.default_rng(0)
    inside = likelihood.likeliest_scale(Huber(50.0), 0.5 * np.sum(rng.standard_normal(1000) ** 2), 1000)
    assert inside == pytest.approx(np.mean(np.random.default_rng(0).standard_normal(1000) ** 2), rel=1e-6)
    for total in (1e-3, 1.0, 1e4):
        s = likelihood.likeliest_scale(Huber(), total, 100)
        costs = [100 * likelihood.log_normaliser(Huber(), t) + total / t for t in (0.99 * s, s, 1.01 * s)]
        assert np.argmin(costs) == 1


def test_a_loss_of_ones_own_has_a_posterior_and_no_evidence():
    z, y = ca.MX.sym("z"), ca.MX.sym("y")
    own = Custom(ca.Function("own", [z, y], [ca.log(ca.cosh(z - y))]))
    problem = ocp_nn.TrainingProblem(ocp_nn.Network.mlp([2, 3, 1]), X, Y[:, :1], 0.1, loss=own)
    posterior = Posterior.of(problem, ocp_nn.solve(problem).trajectory.controls)
    assert posterior.noise_variance == 1 and 0 < posterior.effective_parameters < 13
    with pytest.raises(ValueError, match="no likelihood that is known"):
        posterior.log_evidence()
    with pytest.raises(ValueError, match="leave it out"):
        posterior.log_evidence(1.0)


def test_where_there_is_none_it_says_so(fitted):
    problem, controls = fitted
    with pytest.raises(ValueError, match="needs a minimum"):
        Posterior.of(problem, tuple(0.0 * u for u in controls))
    unchecked = Posterior.of(problem, tuple(0.0 * u for u in controls), check=False)
    assert unchecked.effective_parameters > 0
    with pytest.raises(ValueError, match="check must be"):
        Posterior.of(problem, controls, check="no")
    bare = ocp_nn.TrainingProblem(problem.network, X, Y, 0.0)
    with pytest.raises(ValueError, match="needs a prior"):
        Posterior.of(bare, controls)
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
