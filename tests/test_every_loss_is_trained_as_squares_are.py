"""Every loss, with and without sample weights, goes through the chain: derivatives, solvers, certificate, files."""

from __future__ import annotations

import json
from dataclasses import replace

import casadi as ca
import numpy as np
import pytest
from losses import CASES, LOSSES, log_cosh, problem

import ocp_nn
from ocp_nn import (
    Network,
    Options,
    TrainingProblem,
    certify,
    multiple_shooting,
    single_shooting,
    solve,
    solve_ipopt,
    transcribe,
)
from ocp_nn.network.scaled_stage import ScaledStage
from ocp_nn.problem.curvature import hessian_product, reduced_hessian
from ocp_nn.problem.losses import Custom, Huber
from ocp_nn.solvers.augmented_lagrangian.initialise import fit_states, initialise
from ocp_nn.solvers.augmented_lagrangian.lagrangian import AugmentedLagrangian
from ocp_nn.solvers.nlp.hessian import LagrangianHessian

every_loss = pytest.mark.parametrize(("name", "weighted"), CASES)


def at(training, seed=1):
    """A rollout of random controls, its linearisation in least squares, and the controls as one vector."""
    controls = training.network.init_controls(seed)
    penalty = (np.inf,) * (training.num_stages - 1)
    lagrangian = AugmentedLagrangian(training, tuple(training.rollout(controls).states[1:]), penalty)
    point = lagrangian.at(controls, training.rollout(controls).states)
    return lagrangian, point, np.concatenate(controls)


def relative(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


@every_loss
def test_gradient_and_hessian_are_casadis_of_the_transcription(name, weighted):
    training = problem(name, weighted=weighted, samples=12)
    _, point, flat = at(training)
    program = single_shooting(training)
    hessian, gradient = ca.hessian(program.problem["f"], program.problem["x"])
    value, gradient, hessian = ca.Function("f", [program.problem["x"]], [program.problem["f"], gradient, hessian])(flat)
    assert point.objective == pytest.approx(float(value), rel=1e-12)
    adjoints = training.adjoints(training.rollout(point.controls))
    assert relative(np.concatenate(adjoints.gradient), gradient.full()[:, 0]) < 1e-10
    assert relative(reduced_hessian(training, point.controls), hessian.full()) < 1e-10
    direction = np.random.default_rng(2).standard_normal(len(flat))
    stages = training.linearize(training.rollout(point.controls))
    bend = training.data.curvature(point.outputs[-1])
    product = hessian_product(training, stages, adjoints.costates, training.network.split(direction), [bend])
    assert relative(np.concatenate(product), hessian.full() @ direction) < 1e-10


@every_loss
@pytest.mark.parametrize("nodes", [(), (2,), (1, 2)])
def test_ipopts_hessian_is_casadis(name, weighted, nodes):
    training = problem(name, weighted=weighted, samples=6, hidden=(3, 2))
    program, rng = transcribe(training, nodes), np.random.default_rng(3)
    x, lam_g = 0.5 * rng.standard_normal(program.num_variables), rng.standard_normal(program.num_constraints)
    symbols, f, g = (program.problem[key] for key in ("x", "f", "g"))
    expected = ca.Function("h", [symbols], [ca.hessian(0.7 * f + ca.dot(ca.DM(lam_g), g), symbols)[0]])(x).full()
    found = LagrangianHessian(program, symmetric=True)(x, [], 0.7, lam_g).full()
    assert relative(found, expected) < 1e-10


@every_loss
def test_the_model_foretells_the_gain_of_a_small_step(name, weighted):
    lagrangian, point, _ = at(problem(name, weighted=weighted))
    for damping, tolerance in ((1e4, 0.05), (1e6, 1e-3)):
        step = ocp_nn.forward_dp.solve(lagrangian.subproblem(point, damping))
        predicted = point.value - lagrangian.predicted_value(point, step)
        controls = tuple(u + du for u, du in zip(point.controls, step.controls, strict=True))
        assert predicted > 0
        assert point.value - lagrangian.at(controls, point.states).value == pytest.approx(predicted, rel=tolerance)


@pytest.mark.parametrize("name", ["logistic", "softmax", "poisson"])
def test_training_comes_back_from_outputs_that_are_saturated_and_wrong(name):
    training, bias = problem(name), {"logistic": [60.0], "softmax": [60.0, 0.0, -60.0], "poisson": [-40.0]}[name]
    *first, last = training.network.init_controls(0)
    start = (*first, np.concatenate([last[: -len(bias)], bias]))
    assert training.objective(training.rollout(start)) > 10 * training.null_objective
    result = solve(training, start, options=Options(max_outer=300))
    assert result.status.value == "converged" and result.rollout_objective < training.null_objective


@every_loss
def test_least_squares_rows_are_the_generalised_gauss_newton_matrix(name, weighted):
    training = problem(name, weighted=weighted, samples=12)
    lagrangian, point, flat = at(training)
    sub = lagrangian.subproblem(point, 0.0)
    assert isinstance(sub.stages[-1], ScaledStage) == (name != "squared" or weighted)
    # J of the outputs and phi' by CasADi, from the definition
    u = ca.SX.sym("u", len(flat))
    z, jacobian, gradient, curvature = outputs_and_loss(training, u)
    z, jacobian, gradient, curvature = (np.array(part.full()) for part in ca.Function(
        "f", [u], [z, jacobian, gradient, curvature])(flat))  # fmt: skip
    if name == "huber":
        size = np.maximum(1.0, np.abs(z[:, 0] - training.y[:, 0]) / training.loss.delta)
        curvature = np.diag(1.0 / size if not weighted else training.sample_weight / size)
    stages = sub.stages
    rows = np.eye(sub.num_samples * sub.num_rows).reshape(-1, sub.num_samples, sub.num_rows)

    def pulled(eta):
        costates = [eta]
        for stage in stages[:0:-1]:
            costates.append(stage.transpose_state(costates[-1]))
        return np.concatenate([s.transpose_control(c) for s, c in zip(stages, reversed(costates), strict=True)])

    ours = np.array([pulled(eta) for eta in rows])
    assert relative(ours.T @ ours, jacobian.T @ curvature @ jacobian) < 1e-10
    assert relative(pulled(sub.residual), jacobian.T @ gradient[:, 0]) < 1e-10
    in_controls, _ = lagrangian.gradient(point, sub)
    assert relative(np.concatenate(in_controls), jacobian.T @ gradient[:, 0] + training.weight_decay * flat) < 1e-10


def outputs_and_loss(training, u):
    cuts = np.cumsum([0, *(layer.num_controls for layer in training.network.layers)])
    outputs = []
    for x in training.x:
        state = ca.DM(x)
        for k, stage in enumerate(training.network.stages):
            state = stage(state, u[int(cuts[k]) : int(cuts[k + 1])])
        outputs.append(state)
    z = ca.vertcat(*outputs)
    free = ca.SX.sym("z", z.numel())
    weights = np.ones(len(training.x)) if training.sample_weight is None else training.sample_weight
    parts = ca.vertsplit(free, training.y.shape[1])
    total = sum(
        w * training.loss.symbolic(part, ca.DM(y)) for w, part, y in zip(weights, parts, training.y, strict=True)
    )
    hessian, gradient = ca.hessian(total, free)
    derivatives = ca.Function("phi", [free], [gradient, hessian])
    return z, ca.jacobian(z, u), *derivatives(z)


@pytest.mark.parametrize("name", ["logistic", "softmax"])
@pytest.mark.parametrize("form", ocp_nn.forward_dp.FORMS)
def test_every_form_takes_the_same_step(name, form):
    training = problem(name, weighted=True, samples=12)
    lagrangian, point, _ = at(training)
    lagrangian = replace(lagrangian, penalty=(2.0, np.inf))
    sub = lagrangian.subproblem(lagrangian.again(point), 0.1)
    step = ocp_nn.forward_dp.solve(sub, form)
    dense = replace(sub, terms=(replace(sub.terms[0], output=as_arrays(sub.terms[0].output)),))
    expected = ocp_nn.forward_dp.solve(dense, "primal_qr")
    for a, b in zip((*step.controls, *step.multipliers), (*expected.controls, *expected.multipliers), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * max(1.0, np.abs(b).max()))


def as_arrays(scaled):
    from ocp_nn.network.linear_stages import GenericStage

    stage = scaled.stage
    root = scaled.root if scaled.root.ndim == 3 else scaled.root[:, :, None] * np.eye(stage.num_outputs)
    a, b = (np.einsum("iab,iac->ibc", root, jacobian) for jacobian in (stage.A, stage.B))
    return GenericStage(stage.layer, stage.x, stage.u, a, b)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shooting", ["single", "multiple"])
def test_training_converges_to_what_certificate_and_ipopt_confirm(name, shooting):
    training = problem(name, weighted=shooting == "multiple")
    result = solve(training, options=Options(shooting=shooting, max_outer=300, tolerance=1e-7))
    assert result.status.value == "converged", result.message
    assert result.rollout_objective < 0.8 * training.null_objective
    certificate = certify(training, result.trajectory, tolerance=1e-7, curvature=True)
    assert certificate.passed(), certificate.failures()
    program = (single_shooting if shooting == "single" else multiple_shooting)(training)
    other = solve_ipopt(program, result.trajectory)
    assert other.objective == pytest.approx(result.objective, rel=1e-6)
    assert abs(certificate.objective - training.objective(result.trajectory)) <= 1e-12 * certificate.scale


@pytest.mark.parametrize("name", LOSSES)
def test_the_certificate_catches_planted_faults(name):
    training = problem(name, weighted=True)
    trajectory = training.lift(solve(training, options=Options(tolerance=1e-7)).trajectory.controls)
    assert certify(training, trajectory).passed()
    controls = list(trajectory.controls)
    controls[-1] = controls[-1] + 1e-4 * np.eye(len(controls[-1]))[0]
    assert not certify(training, training.lift(controls)).passed()
    wrong = (*trajectory.multipliers[:-1], -trajectory.multipliers[-1])
    assert not certify(training, replace(trajectory, multipliers=wrong)).passed()
    states = (*trajectory.states[:-1], trajectory.states[-1] + 1e-3)
    assert not certify(training, replace(trajectory, states=states)).passed()


@pytest.mark.parametrize("name", LOSSES)
def test_the_certificate_has_formulas_of_its_own(name, monkeypatch):
    """A wrong gradient in training does not pass."""
    training = problem(name)
    wrong = type(training.data).gradient
    monkeypatch.setattr(type(training.data), "gradient", lambda self, output: 1.01 * wrong(self, output) + 0.01)
    result = solve(training, options=Options(max_outer=30, max_restarts=0))
    assert result.status.value != "converged"
    assert not certify(training, training.lift(result.trajectory.controls)).passed()


@pytest.mark.parametrize("name", LOSSES)
def test_zero_weights_leave_samples_out_and_a_weight_of_two_repeats_one(name):
    training = problem(name, samples=30)
    x, y, network, loss = training.x, training.y, training.network, training.loss
    weights = np.ones(30)
    weights[[2, 11]], weights[[5, 20]] = 0.0, 2.0
    rows = np.repeat(np.arange(30), weights.astype(int))
    weighted = TrainingProblem(network, x, y, 0.02, loss=loss, sample_weight=weights)
    repeated = TrainingProblem(network, x[rows], y[rows], 0.02, loss=loss)
    assert weighted.null_objective == pytest.approx(repeated.null_objective, rel=1e-9)
    options, start = Options(tolerance=1e-8), initialise(repeated)
    first, second = solve(weighted, start, options=options), solve(repeated, start, options=options)
    assert first.status.value == second.status.value == "converged"
    for problem_, controls in ((weighted, second.trajectory.controls), (repeated, first.trajectory.controls)):
        assert certify(problem_, problem_.lift(controls), tolerance=1e-7).passed()
    a, b = (p.objective(p.rollout(first.trajectory.controls)) for p in (weighted, repeated))
    assert a == pytest.approx(b, rel=1e-12)


def test_weights_of_one_are_no_weights():
    training = problem("logistic")
    same = TrainingProblem(training.network, training.x, training.y, 0.02, loss="logistic", sample_weight=np.ones(60))
    assert same.sample_weight is None and same.is_same_as(training)
    other = TrainingProblem(training.network, training.x, training.y, 0.02)
    assert not other.is_same_as(training) and not problem("logistic", weighted=True).is_same_as(training)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_fitted_states_beat_a_constant(name, activation):
    training = problem(name)
    loss, outputs, _ = LOSSES[name]
    training = TrainingProblem(Network.mlp([1, 8, 8, outputs], activation), training.x, training.y, 1e-3, loss=loss)
    controls = fit_states(training, 0)
    assert training.data.value(training.network.predict(controls, training.x)) < training.null_objective


@pytest.mark.parametrize("name", LOSSES)
def test_results_go_on_from_their_files(name, tmp_path):
    training = problem(name, weighted=name != "squared")
    stopped = solve(training, options=Options(max_outer=3, tolerance=1e-7))
    stopped.save(tmp_path / "stopped.npz")
    loaded = ocp_nn.load(tmp_path / "stopped.npz")
    assert loaded.problem.is_same_as(training)
    options = Options(max_outer=8, tolerance=1e-7)
    straight, resumed = solve(training, options=options), solve(loaded.problem, loaded, options=options)
    for a, b in zip(straight.trajectory.controls, resumed.trajectory.controls, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ({"name": "hinge"}, "the loss has 'hinge' for 'name', expected one of squared, huber"),
        ({"name": "huber"}, "the loss has no entry 'delta'"),
        ({"name": "huber", "delta": -1.0}, "the loss has -1.0 for 'delta', expected a finite number > 0"),
        ({"name": "custom", "function": "not casadi"}, "a symbolic layer or loss is not what CasADi's"),
        ({"name": "custom", "function": "a" * 300}, "CasADi cannot read a symbolic layer or loss"),
        ({"name": "softmax"}, "softmax loss needs at least two outputs"),
        ("squared", "the problem has 'squared' for 'loss', expected an object"),
    ],
)
def test_a_loss_that_a_file_cannot_mean_is_one_clear_error(loss, message, tmp_path):
    solve(problem("huber"), options=Options(max_outer=1)).save(tmp_path / "result.npz")
    with np.load(tmp_path / "result.npz") as file:
        content = dict(file)
    meta = json.loads(str(content.pop("meta")))
    meta["problem"]["loss"] = loss
    del content["meta_sha256"], meta["digests"]
    np.savez(tmp_path / "other.npz", meta=np.array(json.dumps(meta)), **content)
    with pytest.raises(ocp_nn.LoadError, match=message):
        ocp_nn.load(tmp_path / "other.npz")


X, NETWORK = np.linspace(-1, 1, 4)[:, None], Network.mlp([1, 3, 1])


@pytest.mark.parametrize(
    ("y", "options", "message"),
    [
        ([0, 1, 2, 0], {"loss": "logistic"}, "logistic loss needs targets 0 and 1, received 2 in row 2, column 0"),
        ([0, 1, 1, 0], {"loss": "softmax"}, "softmax loss needs at least two outputs"),
        ([0, -1, 1, 0], {"loss": "poisson"}, "poisson loss needs targets >= 0, received -1 in row 1"),
        ([0, 1, 0, 0], {"loss": "poisson", "sample_weight": [1, 0, 1, 1]}, "needs a positive target"),
        ([0, 1, 1, 0], {"loss": "hinge"}, "unknown loss 'hinge'"),
        ([0, 1, 1, 0], {"loss": abs}, "loss must be the name of a loss or a loss of"),
        ([0, 1, 1, 0], {"loss": Custom(log_cosh(2))}, "takes 2 targets, received 1"),
        (
            [0, 1, 1, 0],
            {"sample_weight": [1, np.nan, 1, 1]},
            "sample_weight must be finite, received nan at pos",
        ),
        ([0, 1, 1, 0], {"sample_weight": [1, -2, 1, 1]}, "sample_weight must be >= 0, received -2 at position 1"),
        ([0, 1, 1, 0], {"sample_weight": [0, 0, 0, 0]}, "sample_weight must have a positive number, received zeros"),
        ([0, 1, 1, 0], {"sample_weight": [1, 1, 1]}, r"sample_weight must have shape \(4,\)"),
        ([0, 1, 1, 0], {"sample_weight": "many"}, "sample_weight must hold real numbers"),
    ],
)
def test_bad_input_is_one_clear_error(y, options, message):
    with pytest.raises(ValueError, match=message):
        TrainingProblem(NETWORK, X, y, **options)


def test_one_class_alone_is_trained():
    """Its best constant is infinite; weight decay keeps the network from it."""
    for loss, y, outputs in (("softmax", np.eye(3)[[0, 0, 1, 0]], 3), ("logistic", np.ones((4, 1)), 1)):
        training = TrainingProblem(Network.mlp([1, 3, outputs]), X, y, 0.1, loss=loss)
        assert np.isfinite(training.null_objective)
        result = solve(training)
        assert result.status.value == "converged" and certify(training, result.trajectory).passed()


@pytest.mark.parametrize("shift", [0.0, -1000.0])
def test_a_loss_of_ones_own_may_be_negative(shift):
    """Poisson's likelihood without its constants; thresholds relative to J know no sign."""
    z, y = ca.SX.sym("z"), ca.SX.sym("y")
    training, own = problem("poisson"), Custom(ca.Function("own", [z, y], [ca.exp(z) - y * z + shift]))
    negative = TrainingProblem(training.network, training.x, training.y, training.weight_decay, loss=own)
    result = solve(negative, options=Options(max_outer=300))
    assert result.status.value == "converged" and result.objective < negative.null_objective < 0
    assert certify(negative, result.trajectory).passed()


def test_conditioning_of_other_losses_is_written_out():
    training = problem("logistic")
    point = training.lift(training.network.init_controls(0))
    assert {m.matrix for m in ocp_nn.conditioning.measure(training, point)} >= {"kkt", "primal", "dual", "hessian"}
    with pytest.raises(ValueError, match=r"squares without sample weights, received TrainingProblem\(.*loss=logistic"):
        ocp_nn.conditioning.linearise_at(training, point)


def test_a_sample_of_the_data_keeps_loss_and_weights():
    training = problem("poisson", weighted=True)
    part = training.part(np.array([0, 3, 7]), 0.5)
    np.testing.assert_array_equal(part.sample_weight, training.sample_weight[[0, 3, 7]])
    assert part.loss == training.loss and part.weight_decay == 0.5 and Huber(0.1) == problem("huber").loss
