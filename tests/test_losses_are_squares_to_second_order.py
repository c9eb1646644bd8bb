"""Every loss is 1/2 ||L' dz + r||^2 to second order: its root and residual are CasADi's derivatives of its formula."""

from __future__ import annotations

import casadi as ca
import numpy as np
import pytest

from ocp_nn.problem.losses import Custom, Huber, Logistic, Poisson, Softmax, Squared, loss_named

RNG = np.random.default_rng(0)


def one_hot(rows, classes):
    return np.eye(classes)[RNG.integers(classes, size=rows)]


def log_cosh(m):
    z, y = ca.SX.sym("z", m), ca.SX.sym("y", m)
    return ca.Function("log_cosh", [z, y], [ca.sum1(ca.log(ca.cosh(z - y)))])


Z = 2.0 * RNG.standard_normal((40, 3))
CASES = {
    "squared": (Squared(), RNG.standard_normal(Z.shape)),
    "huber": (Huber(0.7), RNG.standard_normal(Z.shape)),
    "logistic": (Logistic(), (RNG.uniform(size=Z.shape) < 0.4).astype(float)),
    "softmax": (Softmax(), one_hot(len(Z), 3)),
    "poisson": (Poisson(), RNG.poisson(2.0, Z.shape).astype(float)),
    "custom": (Custom(log_cosh(3)), RNG.standard_normal(Z.shape)),
}


def casadi_derivatives(loss, z, y):
    m = z.shape[1]
    sz, sy = ca.MX.sym("z", m), ca.MX.sym("y", m)
    value = loss.symbolic(sz, sy)
    hessian, gradient = ca.hessian(value, sz)
    f = ca.Function("f", [sz, sy], [value, gradient, hessian])
    found = [[np.array(part.full()) for part in f(a, b)] for a, b in zip(z, y, strict=True)]
    return (
        np.array([float(v[0, 0]) for v, _, _ in found]),
        np.array([g[:, 0] for _, g, _ in found]),
        np.array([h for _, _, h in found]),
    )


def full(matrix, shape):
    if matrix is None:
        return np.broadcast_to(np.eye(shape[1]), (*shape, shape[1]))
    return matrix[:, :, None] * np.eye(shape[1]) if matrix.ndim == 2 else matrix


@pytest.mark.parametrize("name", CASES)
def test_value_gradient_and_curvature_are_casadis(name):
    loss, y = CASES[name]
    values, gradients, hessians = casadi_derivatives(loss, Z, y)
    np.testing.assert_allclose(loss.values(Z, y), values, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(loss.gradient(Z, y), gradients, rtol=0, atol=1e-12)
    np.testing.assert_allclose(full(loss.curvature(Z, y), Z.shape), hessians, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_root_and_residual_give_gradient_and_generalised_gauss_newton(name):
    loss, y = CASES[name]
    root = full(loss.root(Z, y), Z.shape)
    np.testing.assert_allclose((root @ loss.residual(Z, y)[:, :, None])[:, :, 0], loss.gradient(Z, y), atol=1e-12)
    ggn, exact = root @ root.transpose(0, 2, 1), full(loss.curvature(Z, y), Z.shape)
    if name == "huber":  # reweighted squares bound the curvature from above
        assert np.linalg.eigvalsh(ggn - exact).min() >= -1e-15
    else:
        np.testing.assert_allclose(ggn, exact, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", CASES)
def test_no_constant_is_better_than_the_best(name):
    loss, y = CASES[name]
    weights = RNG.uniform(0.2, 2.0, len(y))
    best = loss.best_constant(y, weights)

    def total(z):
        return float(weights @ loss.values(np.broadcast_to(z, y.shape), y))

    gradient = weights @ loss.gradient(np.broadcast_to(best, y.shape), y)
    assert np.abs(gradient).max() <= (1e-4 if name == "custom" else 1e-12)
    for _ in range(20):
        assert total(best) <= total(best + 0.1 * RNG.standard_normal(y.shape[1]))


@pytest.mark.parametrize("name", ["logistic", "softmax", "poisson"])
@pytest.mark.parametrize("size", [30.0, 700.0, -700.0])
def test_saturated_outputs_keep_exact_gradients_and_finite_residuals(name, size):
    loss, y = CASES[name]
    if name == "poisson":
        size = min(size, 300.0)
    z = size * np.where(RNG.uniform(size=Z.shape) < 0.5, 1.0, -1.0)
    with np.errstate(all="raise", under="ignore"):
        root, residual = full(loss.root(z, y), z.shape), loss.residual(z, y)
        gradient, values = loss.gradient(z, y), loss.values(z, y)
    assert (np.isfinite(values).all() and (values >= 0).all()) or name == "poisson"
    assert np.isfinite(residual).all()
    product = (root @ residual[:, :, None])[:, :, 0]
    np.testing.assert_allclose(product, gradient, rtol=1e-9, atol=1e-15)
    if name != "poisson":
        assert np.abs(residual).max() <= 1e6


def test_a_probability_near_one_keeps_the_digits_of_its_gradient():
    assert Logistic().gradient(np.array([[40.0]]), np.array([[1.0]]))[0, 0] == pytest.approx(-np.exp(-40.0), rel=1e-12)
    gradient = Softmax().gradient(np.array([[40.0, 0.0]]), np.array([[1.0, 0.0]]))[0]
    np.testing.assert_allclose(gradient, [-np.exp(-40.0), np.exp(-40.0)], rtol=1e-12)


@pytest.mark.parametrize(
    ("loss", "y", "message"),
    [
        (Logistic(), [[0.0], [2.0]], "needs targets 0 and 1, received 2 in row 1, column 0"),
        (Softmax(), [[0.0, 1.0], [1.0, 1.0]], "one 1 and else 0 in every row"),
        (Softmax(), [[1.0]], "at least two outputs"),
        (Poisson(), [[1.0], [-3.0]], "targets >= 0, received -3 in row 1"),
        (Poisson(), [[0.0], [0.0]], "a positive target"),
        (Custom(log_cosh(2)), [[1.0]], "takes 2 targets, received 1"),
    ],
)
def test_targets_without_meaning_are_refused(loss, y, message):
    with pytest.raises(ValueError, match=message):
        loss.check_targets(np.array(y))


def test_losses_by_name_and_bad_ones():
    assert loss_named("poisson") == Poisson() and loss_named(Huber(2.0)) == Huber(2.0)
    with pytest.raises(ValueError, match="unknown loss 'hinge': expected one of squared, huber"):
        loss_named("hinge")
    with pytest.raises(ValueError, match="delta must be a positive finite number, received 0"):
        Huber(0)
    with pytest.raises(ValueError, match=r"must map columns \(z, y\)"):
        Custom(ca.Function("f", [z := ca.SX.sym("z", 2)], [z]))
