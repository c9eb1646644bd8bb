"""The second-order correction minimises the subproblem with second derivatives for gaps; scales are of its matrix.

The oracle writes that subproblem out as one matrix, with second derivatives from CasADi, and solves it by QR.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from oracles import dense_solution, reduced_inverse, second_derivative
from subproblems import DENSE, GENERIC, INF, changed, subproblem

from ocp_nn import Dense, Network, forward_dp
from ocp_nn.forward_dp import cost, mean_curvature, prepare

NETWORKS = {
    name: (DENSE | GENERIC)[name]
    for name in (
        "tanh, several outputs", "sigmoid with skip connections", "relu", "one stage",
        "two dense layers in one stage", "normalisation",
    )
} | {"one stage that bends": Network([Dense(3, 2, "tanh")])}  # fmt: skip
PENALTIES = {"finite": (3.0, 40.0, 0.5), "mixed": (INF, 3.0, INF), "infinite": (INF, INF, INF)}


def subproblem_of(name, penalty, samples=5, **settings):
    nodes = len(NETWORKS[name].layers) - 1
    settings = {"weight_decay": 0.1, "damping": 2.0} | settings
    return subproblem(NETWORKS[name], samples, (penalty * 2)[:nodes], **settings)


def bending(sub, step):
    """The subproblem that the correction solves: f_k'' for gaps and residual, controls pulled to zero."""
    *gaps, residual = (
        second_derivative(stage.layer, stage.x, stage.u, dx, du)
        for stage, dx, du in zip(sub.stages, step.states, step.controls, strict=True)
    )
    return changed(sub, gaps=tuple(gaps), residual=residual, controls=tuple(map(np.zeros_like, sub.controls)))


def norm(arrays):
    return float(np.sqrt(sum(float(np.vdot(a, a)) for a in arrays)))


def close(found, expected, tolerance=1e-9):
    scale = max(np.abs(e).max() for e in expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


def halfway(first, second):
    return tuple(a + 0.5 * b for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("form", forward_dp.FORMS)
@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
@pytest.mark.parametrize("name", NETWORKS)
def test_half_of_the_dense_solution_is_added(name, penalty, form):
    sub = subproblem_of(name, penalty)
    damped = prepare(sub, form).damped()
    step = damped.step()
    a_u, a_x, a_eta = dense_solution(bending(sub, step))
    assert norm(a_u) > 1e-3 * norm(step.controls) or name == "one stage"  # which is affine
    corrected = damped.corrected(step, largest=1e9)
    close(corrected.controls, halfway(step.controls, a_u))
    if np.isfinite(sub.penalty).any():
        close(corrected.states, halfway(step.states, a_x))
        close(corrected.multipliers, halfway(step.multipliers, a_eta))


@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
@pytest.mark.parametrize("name", ["tanh, several outputs", "normalisation"])
def test_it_is_added_where_it_is_no_longer_than_asked(name, penalty):
    sub = subproblem_of(name, penalty)
    damped = prepare(sub).damped()
    step = damped.step()
    ratio = norm(dense_solution(bending(sub, step))[0]) / norm(step.controls)
    assert damped.corrected(step, 0.999 * ratio) is step
    corrected = damped.corrected(step, 1.001 * ratio)
    added = [after - before for after, before in zip(corrected.controls, step.controls, strict=True)]
    assert norm(added) == pytest.approx(0.5 * ratio * norm(step.controls), rel=1e-9)


@pytest.mark.parametrize("form", forward_dp.FORMS)
@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
def test_the_correction_has_the_damping_of_the_step(penalty, form):
    sub = subproblem_of("tanh, several outputs", penalty)
    prepared = prepare(sub, form)
    for damping in (30.0, 0.5):
        damped = prepared.damped(damping)
        step = damped.step()
        expected = dense_solution(bending(sub.damped(damping), step))[0]
        close(damped.corrected(step, 1e9).controls, halfway(step.controls, expected))


@pytest.mark.parametrize("form", forward_dp.FORMS)
@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
def test_no_step_needs_no_correction(penalty, form):
    sub = subproblem_of("tanh, several outputs", penalty)
    damped = prepare(sub, form).damped()
    step = damped.step()
    nothing = replace(
        step, **{kind: tuple(map(np.zeros_like, getattr(step, kind))) for kind in ("controls", "states", "multipliers")}
    )
    corrected = damped.corrected(nothing, 0.375)
    for kind in ("controls", "states", "multipliers"):
        assert not any(array.any() for array in getattr(corrected, kind))


@pytest.mark.parametrize("form", ["primal", "primal_qr"])
@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
def test_chunks_of_samples_give_the_same_correction(monkeypatch, penalty, form):
    sub = subproblem_of("tanh, several outputs", penalty, samples=23)
    step = prepare(sub, form).step()
    expected = prepare(sub, form).damped().corrected(step, 1e9)
    monkeypatch.setattr(cost, "CHUNK_BYTES", 8 * 5 * sub.num_controls * sub.num_rows)
    assert cost.chunk_size(sub) == 5
    chunked = prepare(sub, form).damped()
    for kind in ("controls", "states", "multipliers"):
        close(getattr(chunked.corrected(step, 1e9), kind)[-1:], getattr(expected, kind)[-1:])


@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
def test_the_corrected_curve_keeps_its_slacks_to_third_order(penalty):
    """Along u + t du + t^2/2 a the slacks that are promised are missed by O(t^3), without a by O(t^2)."""
    sub = subproblem_of("tanh, several outputs", penalty)
    prepared = prepare(sub)
    step = prepared.step()
    a_u, a_x, a_eta = dense_solution(bending(sub, step))

    def miss(t, bent):
        """Largest departure of the outputs, over the stages, from their expansion along the curve."""
        controls, states = (
            [t * d + bent * 0.5 * t**2 * a for d, a in zip(*pair, strict=True)]
            for pair in ((step.controls, a_u), (step.states, a_x))
        )
        missed = 0.0
        for k, stage in enumerate(sub.stages):
            value = stage.layer.forward(stage.x + states[k], stage.u + controls[k])
            here = stage.layer.forward(stage.x, stage.u)
            gap = (*sub.gaps, sub.residual)[k]
            weight = (*sub.penalty, 1.0)[k]
            first = step.multipliers[k] / weight - gap
            promised = t * first + bent * 0.5 * t**2 * a_eta[k] / weight
            change = value - here - (states[k + 1] if k + 1 < len(states) else 0.0)
            missed = max(missed, float(np.abs(change - promised).max()))
        return missed

    assert miss(2e-3, True) / miss(1e-3, True) == pytest.approx(8.0, rel=0.05)
    assert miss(2e-3, False) / miss(1e-3, False) == pytest.approx(4.0, rel=0.05)


# ---- the scale of the damping


@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
@pytest.mark.parametrize("name", NETWORKS)
def test_mean_curvature_is_the_mean_diagonal_entry_of_the_dense_matrix(name, penalty):
    sub = subproblem_of(name, penalty)
    normal = np.linalg.inv(reduced_inverse(sub)) - sub.ridge * np.eye(sub.num_controls)
    assert mean_curvature(sub) == pytest.approx(np.mean(np.diag(normal)), rel=1e-9)


@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
def test_mean_curvature_adds_up_over_chunks_and_knows_no_damping(monkeypatch, penalty):
    sub = subproblem_of("tanh, several outputs", penalty, samples=23)
    whole = mean_curvature(sub)
    assert mean_curvature(sub.damped(77.0)) == whole
    monkeypatch.setattr(cost, "CHUNK_BYTES", 8 * 5 * sub.num_controls * sub.num_rows)
    assert cost.chunk_size(sub) == 5
    assert mean_curvature(sub) == pytest.approx(whole, rel=1e-12)
