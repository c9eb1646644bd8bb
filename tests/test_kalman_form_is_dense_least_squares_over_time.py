"""Forward DP in Kalman form: the minimiser, in linear time, for stacked stages with shared controls.

Oracles: dense least squares in extended precision, the other forms, plain forward sensitivities, and the passes in
NumPy for those that are compiled.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from long_horizons import INF, full_space_solution, horizon, one_by_one
from oracles import dense_solution, reduced_inverse

from ocp_nn import forward_dp
from ocp_nn.forward_dp import kalman_arrays, kalman_sweeps
from ocp_nn.forward_dp.condensed import RightHandSide
from ocp_nn.forward_dp.kalman import KalmanSystem

KALMAN = ("kalman", "kalman_qr")


def relative_errors(step, expected):
    for found, reference in zip((step.controls, step.states, step.multipliers), expected, strict=True):
        scale = max(np.abs(part).max() for part in reference)
        yield max(np.abs(a - b).max() for a, b in zip(found, reference, strict=True)) / scale


def assert_is(step, expected, tolerance=1e-9):
    assert max(relative_errors(step, expected)) <= tolerance


def as_solution(step):
    return step.controls, step.states, step.multipliers


HORIZONS = {
    "mixed penalties": {},
    "known start": {"initial": INF},
    "single shooting, free start": {"penalty": INF},
    "single shooting": {"penalty": INF, "initial": INF},
    "huge penalty": {"penalty": 1e12},
    "tiny penalty": {"penalty": 1e-8, "initial": 1e-8},
    "two outputs": {"outputs": 2, "width": 3},
    "unstable, all nodes": {"growth": 1.6, "penalty": 10.0},
    "one sample": {"samples": 1},
    "one stage": {"stages": 1},
    "scalar states": {"width": 1, "controls": 2},
    "all measured": {"missing": 0.0},
    "next to nothing measured": {"missing": 0.95},
}


@pytest.mark.parametrize("refinements", [0, 1])
@pytest.mark.parametrize("form", KALMAN)
@pytest.mark.parametrize("name", HORIZONS)
def test_it_is_dense_least_squares(name, form, refinements):
    sub = horizon(**HORIZONS[name])
    assert_is(forward_dp.solve(sub, form, refinements=refinements), dense_solution(one_by_one(sub)))


@pytest.mark.parametrize("form", [form for form in forward_dp.FORMS if form not in KALMAN])
def test_the_other_forms_agree_on_stacked_stages(form):
    sub = horizon(12)
    assert_is(forward_dp.solve(sub, form), as_solution(forward_dp.solve(sub, "kalman")))


@pytest.mark.parametrize("name", HORIZONS)
def test_compiled_passes_are_those_of_numpy_to_rounding(name, monkeypatch):
    sub = horizon(**HORIZONS[name])
    systems = [KalmanSystem(sub), KalmanSystem(sub, sweeps=kalman_sweeps.NumpySweeps(sub))]
    assert isinstance(systems[0]._sweeps, kalman_arrays.ArraySweeps)
    ours, theirs = (np.triu(system.triangle) for system in systems)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())
    assert systems[0].log_det_noise == pytest.approx(systems[1].log_det_noise, rel=1e-12)
    compiled = forward_dp.solve(sub, "kalman", refinements=0)
    monkeypatch.setattr(kalman_arrays, "kernels", lambda: None)
    assert_is(forward_dp.solve(sub, "kalman", refinements=0), as_solution(compiled), 1e-11)


def test_all_infinite_is_plain_forward_sensitivities():
    """Single shooting: the rows are the derivatives of the rollout, S <- A S + B."""
    sub = horizon(penalty=INF, initial=INF)
    mean, s, rows = sub.initial_gap, np.zeros((3, 2, 7)), []
    for k, term in enumerate(sub.terms):
        c, d = term.output.A, term.output.B
        rows.append(np.concatenate([c @ s + d, (c @ mean[:, :, None]) + term.residual[:, :, None]], axis=2))
        if k < len(sub.dynamics):
            a, b = sub.dynamics[k].A, sub.dynamics[k].B
            s, mean = a @ s + b, (a @ mean[:, :, None])[:, :, 0] + sub.gaps[k]
    table = np.concatenate([part.reshape(-1, 8) for part in rows])
    system = KalmanSystem(sub)
    np.testing.assert_allclose(np.triu(system.triangle), np.triu(table.T @ table), rtol=0, atol=1e-12)
    assert system.log_det_noise == 0
    jacobian, rest = table[:, :7], table[:, 7]
    right = -(jacobian.T @ rest + sub.weight_decay * sub.controls[0])
    expected = np.linalg.solve(jacobian.T @ jacobian + sub.ridge * np.eye(7), right)
    np.testing.assert_allclose(forward_dp.solve(sub, "kalman").controls[0], expected, rtol=0, atol=1e-12)


def test_the_multipliers_are_the_weighted_slacks_of_multiple_shooting():
    sub = horizon(penalty=5.0, initial=2.0)
    step = forward_dp.solve(sub, "kalman")
    slack = sub.dynamics.apply(step.states[:-1], step.controls[0]) + sub.gaps - step.states[1:]
    np.testing.assert_allclose(step.multipliers.costates, 5.0 * slack, rtol=0, atol=1e-11)


@pytest.mark.parametrize("form", KALMAN)
def test_another_damping_runs_no_filter(form, monkeypatch):
    sub = horizon()
    prepared = forward_dp.prepare(sub, form)

    def refuse(*_):
        raise AssertionError("the filter ran again")

    monkeypatch.setattr(kalman_arrays.ArraySweeps, "filter", refuse)
    for damping in (0.0, 1e-4, 3.0):
        step = prepared.step(damping, refinements=0)
        assert_is(step, dense_solution(one_by_one(sub.damped(damping))))


@pytest.mark.parametrize("form", KALMAN)
def test_precondition_is_the_inverse_of_the_normal_matrix(form):
    sub, vector = horizon(), np.random.default_rng(1).standard_normal(7)
    found = forward_dp.prepare(sub, form).damped().precondition(vector)
    np.testing.assert_allclose(found, reduced_inverse(one_by_one(sub)) @ vector, rtol=1e-10)


@pytest.mark.parametrize("form", KALMAN)
def test_a_factor_solves_the_augmented_system(form):
    """Sigma theta - J w = first, ridge w + J' theta = second: those of the condensed problem."""
    sub, rng = horizon(8, growth=0.7), np.random.default_rng(2)
    first, second = rng.standard_normal((3, 9)), rng.standard_normal(7)
    expected = forward_dp.prepare(sub, "primal").damped().factor.solve(first, second)
    found = forward_dp.prepare(sub, form).damped().factor.solve(first, second)
    np.testing.assert_allclose(found.w, expected.w, rtol=0, atol=1e-11)
    np.testing.assert_allclose(found.theta, expected.theta, rtol=0, atol=1e-11)


@pytest.mark.parametrize("form", KALMAN)
def test_the_value_at_any_controls_needs_no_pass_over_the_horizon(form):
    """It is that of the objective at the states which minimise it for these controls."""
    sub = horizon(penalty=3.0)
    system = forward_dp.prepare(sub, form).condensed
    step = forward_dp.solve(sub, form)
    assert system.reduced_value(step.controls[0]) == pytest.approx(sub.value(step.controls, step.states), rel=1e-12)
    du = np.random.default_rng(4).standard_normal(7)
    states = system._sweeps.smooth((du,), RightHandSide.of(sub)).dx
    assert system.reduced_value(du) == pytest.approx(sub.value((du,), states), rel=1e-12)


@pytest.mark.parametrize("form", KALMAN)
@pytest.mark.parametrize("compiled", [True, False])
def test_single_shooting_of_unstable_dynamics_overflows_in_one_clear_error(form, compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(kalman_arrays, "kernels", lambda: None)
    sub = horizon(1600, samples=1, growth=1.6, penalty=INF, missing=0.0)
    with pytest.raises(np.linalg.LinAlgError, match=r"overflows|positive definite"):
        forward_dp.solve(sub, form)


@pytest.mark.parametrize("form", KALMAN)
def test_no_controls_are_plain_smoothing(form):
    sub = horizon(penalty=10.0, controls=0)
    step = forward_dp.solve(sub, form)
    _, dx = full_space_solution(sub)
    np.testing.assert_allclose(step.states, dx, rtol=0, atol=1e-12 * np.abs(dx).max())
    assert step.controls[0].shape == (0,)


@pytest.mark.parametrize("form", KALMAN)
def test_several_blocks_with_weight_decays_of_their_own(form):
    """Three blocks of different lengths, which take turns over time."""
    sub = horizon(21, controls=7)
    blocks = np.arange(21) % 2
    terms = forward_dp.StackedTerms(sub.terms.outputs, sub.terms.residual, stages=range(22), block=2)
    rng = np.random.default_rng(3)
    controls = tuple(rng.standard_normal(7) for _ in range(3))
    sub = replace(sub, blocks=blocks, terms=terms, controls=controls, weight_decay=(1e-2, 3.0, 0.5))
    assert_is(forward_dp.solve(sub, form), dense_solution(one_by_one(sub)))


def test_the_determinants_are_those_of_the_condensed_matrices():
    sub = horizon(10)
    prepared = forward_dp.prepare(sub, "kalman")
    noise = forward_dp.prepare(sub, "primal").condensed.noise
    assert prepared.condensed.log_det_noise == pytest.approx(np.linalg.slogdet(noise)[1].sum(), rel=1e-12)
    expected = -np.linalg.slogdet(reduced_inverse(one_by_one(sub)))[1]
    assert prepared.damped().factor.log_det == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("form", KALMAN)
def test_unstable_dynamics_are_solved_where_condensed_sensitivities_overflow(form):
    """Products of 300 stages reach 1e209; no such product is formed, neither here nor in the oracle."""
    sub = horizon(300, samples=1, growth=5.0, penalty=10.0, missing=0.0)
    du, dx = full_space_solution(sub)
    for refinements, tolerance in ((0, 1e-9), (1, 1e-12)):
        step = forward_dp.solve(sub, form, refinements=refinements)
        np.testing.assert_allclose(step.controls[0], du, rtol=0, atol=tolerance * np.abs(du).max())
        np.testing.assert_allclose(step.states, dx, rtol=0, atol=tolerance * np.abs(dx).max())
    with pytest.raises(np.linalg.LinAlgError, match=r"overflows|positive definite"):
        forward_dp.solve(sub, "primal")


def test_orthogonal_rows_keep_digits_that_the_normal_matrix_squares_away():
    """Columns of B and D that are nearly parallel, and hardly any weight decay; without refinement."""
    sub = horizon(penalty=1e4, weight_decay=1e-13, damping=0.0, missing=0.0)
    mix = np.eye(7) + (1e6 - 1.0) * np.outer(np.ones(7), np.ones(7)) / 7
    stacks = [type(s)(s.A, s.B @ mix) for s in (sub.dynamics, sub.terms.outputs)]
    terms = forward_dp.StackedTerms(stacks[1], sub.terms.residual, stages=sub.terms.stages)
    sub = replace(sub, dynamics=stacks[0], terms=terms)
    expected = dense_solution(one_by_one(sub))[0][0]
    errors = {
        form: np.linalg.norm(forward_dp.solve(sub, form, refinements=0).controls[0] - expected) for form in KALMAN
    }
    assert errors["kalman_qr"] <= 1e-9 * np.linalg.norm(expected)
    assert errors["kalman_qr"] < 1e-2 * errors["kalman"]
