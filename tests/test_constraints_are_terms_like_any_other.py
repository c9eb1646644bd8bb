"""Envelopes and control sets: values, gradients, curvature and rows belong together, with one weight a control."""

from __future__ import annotations

import numpy as np
import pytest

import ocp_nn
from ocp_nn import forward_dp
from ocp_nn.problem.constraints.envelope import Envelope
from ocp_nn.problem.curvature import hessian_product

RNG = np.random.default_rng(0)

SETS = {
    "bounds": ocp_nn.ControlBounds(-0.4, [0.1, 0.3, np.inf, 0.2, 0.0, 0.5]),
    "lasso": ocp_nn.Lasso(0.7),
    "groups": ocp_nn.GroupLasso(0.5, [[0, 1], [2, 3, 4], [5]], factors=[1.0, 0.5, 2.0]),
}


def differences(value, at, step=1e-6):
    return np.array([(value(at + step * e) - value(at - step * e)) / (2 * step) for e in np.eye(len(at))])


# --- outputs


def test_an_inequality_has_the_multiplier_of_the_textbook():
    loss = Envelope(np.array([-np.inf]), np.array([0.0]), 3.0)
    c, m = RNG.standard_normal((50, 1)), np.abs(RNG.standard_normal((50, 1)))
    np.testing.assert_allclose(loss.gradient(c, m), np.maximum(0.0, m + 3.0 * c))


def test_an_equality_has_the_multiplier_of_the_textbook():
    loss = Envelope(np.array([0.5]), np.array([0.5]), 3.0)
    c, m = RNG.standard_normal((50, 1)), RNG.standard_normal((50, 1))
    np.testing.assert_allclose(loss.gradient(c, m), m + 3.0 * (c - 0.5))


def test_an_envelope_is_squares_with_root_and_residual():
    loss = Envelope(np.array([-0.5, -np.inf]), np.array([0.2, 0.0]), 4.0)
    z, m = RNG.standard_normal((200, 2)), RNG.standard_normal((200, 2))
    gradient = loss.gradient(z, m)
    np.testing.assert_allclose(loss.root(z, m) * loss.residual(z, m), gradient, atol=1e-14)
    np.testing.assert_allclose(loss.root(z, m) ** 2, loss.curvature(z, m))
    for i in range(200):
        slope = differences(lambda row, i=i: loss.values(row[None], m[i : i + 1])[0], z[i])
        np.testing.assert_allclose(slope, gradient[i], atol=1e-7)


# --- controls


@pytest.mark.parametrize("name", SETS)
def test_a_proximal_point_is_the_best_one(name):
    control_set, v = SETS[name], RNG.standard_normal(6)
    p = control_set.prox(v, 2.0)

    def value(q):
        return control_set.cost(q) + float((v - q) @ (v - q)) if not control_set.violation(q).any() else np.inf

    assert not control_set.violation(p).any()
    others = [control_set.prox(p + 0.1 * RNG.standard_normal(6), 1e12) for _ in range(300)]
    assert all(value(p) <= value(q) + 1e-12 for q in others)


@pytest.mark.parametrize("name", SETS)
def test_an_envelope_of_controls_has_its_own_derivatives(name):
    control_set = SETS[name]
    for _ in range(20):
        u, m, d = (RNG.standard_normal(6) for _ in range(3))
        gradient = 3.0 * control_set.outside(u, m, 3.0)
        np.testing.assert_allclose(
            differences(lambda at, m=m: control_set.envelope(at, m, 3.0), u), gradient, atol=1e-7
        )
        ahead, behind = (3.0 * control_set.outside(u + s * 1e-7 * d, m, 3.0) for s in (1, -1))
        np.testing.assert_allclose(control_set.product(u + m / 3.0, 3.0, d), (ahead - behind) / 2e-7, atol=1e-5)


@pytest.mark.parametrize("name", SETS)
def test_the_rows_of_controls_have_the_gradient_and_bound_the_envelope(name):
    control_set = SETS[name]
    for _ in range(50):
        u, m, d = (RNG.standard_normal(6) for _ in range(3))
        w, t = control_set.squares(u + m / 3.0, 3.0)
        np.testing.assert_allclose(w * t, 3.0 * control_set.outside(u, m, 3.0), atol=1e-12)
        if name != "bounds":
            model = 0.5 * float((w * (t + d)) @ (t + d) - (w * t) @ t)
            assert control_set.envelope(u + d, m, 3.0) - control_set.envelope(u, m, 3.0) <= model + 1e-12


@pytest.mark.parametrize("name", SETS)
def test_prices_at_a_proximal_point_are_subgradients(name):
    control_set, v = SETS[name], 2.0 * RNG.standard_normal(6)
    p = control_set.prox(v, 1.5)
    assert control_set.dual_violation(p, 1.5 * (v - p)).max() < 1e-12
    wrong = control_set.dual_violation(p, 1.5 * (v - p) + np.where(np.arange(6) == 2, 50.0, 0.0))
    assert wrong.max() > 1e-2


# --- the problem they make


def augmented(*constraints):
    x, y = RNG.standard_normal((12, 2)), RNG.standard_normal((12, 1))
    problem = ocp_nn.TrainingProblem(ocp_nn.Network.mlp([2, 3, 3, 1]), x, y, 0.1)
    wanted = ocp_nn.ConstrainedProblem(problem, constraints or _mixed(problem))
    multipliers = [0.3 * RNG.standard_normal(m.shape) for m in wanted.zero_multipliers()]
    return wanted.augmented(multipliers, [5.0, 2.0, 3.0][: len(multipliers)])


def _mixed(problem):
    layer = problem.network.layers[1]
    return [
        ocp_nn.OutputConstraint(layer, -0.1, 0.2, stages=1, block=1, samples=[0, 3, 4]),
        ocp_nn.ControlBounds(-0.5, 0.5, entries=[0, 4, 7, 20]),
        ocp_nn.GroupLasso(0.4, [[1, 2, 3], [10, 11]]),
    ]


def test_the_augmented_problem_has_its_own_derivatives():
    problem = augmented()
    controls = tuple(0.8 * u for u in problem.init_controls(1))
    flat = np.concatenate(controls)

    def value(at):
        trajectory = problem.rollout(problem.split(at))
        return problem.objective(trajectory)

    def gradient(at):
        return np.concatenate(problem.adjoints(problem.rollout(problem.split(at))).gradient)

    np.testing.assert_allclose(gradient(flat), differences(value, flat), rtol=1e-6, atol=1e-7)
    trajectory = problem.rollout(controls)
    outputs = problem.outputs(trajectory)
    ends = outputs[len(problem.dynamics) :]
    stages = problem.linearize(trajectory, outputs)
    costates = problem.backpropagate(stages, controls, problem.output_gradients(ends)).costates
    direction = RNG.standard_normal(len(flat))
    bends = [term.data.curvature(z) for term, z in zip(problem.terms, ends, strict=True)]
    product = hessian_product(problem, stages, costates, problem.split(direction), bends, controls)
    expected = (gradient(flat + 1e-6 * direction) - gradient(flat - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose(np.concatenate(product), expected, rtol=1e-5, atol=1e-6)


def test_the_priced_problem_has_the_gradient_of_the_lagrangian():
    x, y = RNG.standard_normal((12, 2)), RNG.standard_normal((12, 1))
    problem = ocp_nn.TrainingProblem(ocp_nn.Network.mlp([2, 3, 3, 1]), x, y, 0.1)
    wanted = ocp_nn.ConstrainedProblem(problem, _mixed(problem))
    multipliers = [RNG.standard_normal(m.shape) for m in wanted.zero_multipliers()]
    multipliers[0][:, [1, 2, *range(5, 12)]] = 0.0  # samples that are not asked for have no price
    priced, flat = wanted.priced(multipliers), np.concatenate(problem.init_controls(1))

    def lagrangian(at):
        trajectory = problem.rollout(problem.split(at))
        values = wanted.constraint_values(trajectory)
        return problem.objective(trajectory) + sum(
            float(np.vdot(m, z)) for m, z in zip(multipliers, values, strict=True)
        )

    gradient = np.concatenate(priced.adjoints(priced.rollout(problem.split(flat))).gradient)
    gradient = gradient + wanted.control_prices(multipliers)
    np.testing.assert_allclose(gradient, differences(lagrangian, flat), rtol=1e-6, atol=1e-7)


# --- least squares with one weight a control


def _subproblem(weights, penalty=3.0):
    problem = ocp_nn.TrainingProblem(
        ocp_nn.Network.mlp([2, 3, 1]), RNG.standard_normal((7, 2)), RNG.standard_normal((7, 1)), 0.1
    )
    trajectory = problem.rollout(problem.init_controls(0))
    stages = problem.linearize(trajectory)
    return forward_dp.Subproblem(
        dynamics=stages[:1],
        terms=(forward_dp.LinearTerm(1, stages[1], RNG.standard_normal((7, 1)), 1),),
        controls=tuple(RNG.standard_normal(u.shape) for u in trajectory.controls),
        blocks=(0,),
        gaps=(RNG.standard_normal((7, 3)),),
        penalty=(penalty,),
        weight_decay=weights,
        damping=0.01,
    )


def _dense(sub):
    """The controls' step by dense least squares on rows written out from products."""
    sizes = [len(u) for u in sub.controls]
    cuts = np.cumsum([0, *sizes])

    def objective_rows(z):
        du = [z[cuts[b] : cuts[b + 1]] for b in range(2)]
        dx = z[cuts[-1] :].reshape(7, 3)
        rows = [np.sqrt(rho) * (u + d) for rho, u, d in zip(sub.decays, sub.controls, du, strict=True)]
        rows += [np.sqrt(sub.damping) * d for d in du]
        rows.append(np.sqrt(sub.penalty[0]) * (sub.dynamics[0].apply(None, du[0]) - dx + sub.gaps[0]).ravel())
        rows.append((sub.terms[0].output.apply(dx, du[1]) + sub.terms[0].residual).ravel())
        return np.concatenate(rows)

    size = cuts[-1] + 21
    constant = objective_rows(np.zeros(size))
    matrix = np.stack([objective_rows(e) - constant for e in np.eye(size)], axis=1)
    return np.linalg.lstsq(matrix, -constant, rcond=None)[0][: cuts[-1]]


@pytest.mark.parametrize("form", ["auto", "primal", "primal_qr", "information", "kalman", "kalman_qr"])
def test_every_form_that_may_takes_one_weight_a_control(form):
    sub = _subproblem((RNG.uniform(0.0, 5.0, 9), RNG.uniform(0.0, 5.0, 4)))
    step = forward_dp.solve(sub, form)
    np.testing.assert_allclose(np.concatenate(step.controls), _dense(sub), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("form", ["primal", "information", "kalman"])
def test_blocks_of_one_weight_and_of_several_mix(form):
    sub = _subproblem((2.0, RNG.uniform(0.0, 5.0, 4)))
    np.testing.assert_allclose(np.concatenate(forward_dp.solve(sub, form).controls), _dense(sub), rtol=1e-8, atol=1e-10)


def test_equal_weights_are_one_number():
    one = _subproblem(0.7)
    many = forward_dp.Subproblem(**{**_fields(one), "weight_decay": (np.full(9, 0.7), np.full(4, 0.7))})
    first, second = (np.concatenate(forward_dp.solve(sub, "primal").controls) for sub in (one, many))
    np.testing.assert_allclose(first, second, rtol=1e-13)


def _fields(sub):
    names = ("dynamics", "terms", "controls", "blocks", "gaps", "penalty", "weight_decay", "damping")
    return {name: getattr(sub, name) for name in names}


@pytest.mark.parametrize("form", ["dual", "covariance"])
def test_forms_of_covariances_refuse_one_weight_a_control(form):
    with pytest.raises(ValueError, match="needs one weight decay a block"):
        forward_dp.solve(_subproblem((np.ones(9), np.ones(4))), form)


def test_negative_weights_of_controls_are_refused():
    with pytest.raises(ValueError, match="weight_decay must be"):
        _subproblem((-np.ones(9), np.ones(4)))
