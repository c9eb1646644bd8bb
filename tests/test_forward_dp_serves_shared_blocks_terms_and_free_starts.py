"""Forward DP with control blocks that several stages share, terms at every stage and an unknown initial state.

Every form against dense least squares, and a network's own subproblem is the special case it was.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from oracles import dense_solution, reduced_inverse
from subproblems import DENSE, INF, residual_block, subproblem

from ocp_nn import Dense, Symbolic, forward_dp
from ocp_nn.forward_dp import LinearTerm, Subproblem, cost
from ocp_nn.network.linear_stages import linearize_layer

SAMPLES, WIDTH = 5, 3
LAYER, OUTPUT, BLOCK = Dense(WIDTH, WIDTH, "tanh"), Dense(WIDTH, 2, "tanh"), Symbolic(residual_block(WIDTH))
# blocks: 0 and 1 are shared by stages of the dynamics, 2 by terms, 3 acts once, 4 is shared by a stage and a term
STAGES = [(LAYER, 0), (BLOCK, 1), (LAYER, 0), (BLOCK, 3), (LAYER, 4), (BLOCK, 1)]
TERMS = [(0, OUTPUT, 2), (2, LAYER, 4), (3, OUTPUT, 2), (3, OUTPUT, 5), (6, OUTPUT, 2)]
PENALTIES = {
    "one": (1.0,) * 6,
    "mixed": (0.3, INF, 1e4, INF, INF, 2.0),
    "all infinite": (INF,) * 6,
    "huge": (1e8, 1.0, 1e8, 1e8, INF, 1e8),
}


def general(penalty, *, initial=3.0, decays=None, seed=0, stages=STAGES, terms=TERMS):
    rng = np.random.default_rng(seed)
    sizes: dict[int, int] = {}
    for layer, block in [*stages, *((layer, block) for _, layer, block in terms)]:
        sizes[block] = layer.num_controls
    controls = tuple(0.5 * rng.standard_normal(sizes[b]) for b in range(len(sizes)))

    def linear(layer, block):
        x = rng.standard_normal((SAMPLES, layer.num_inputs))
        return linearize_layer(layer, x, controls[block], layer.forward(x, controls[block]))

    dynamics = tuple(linear(layer, block) for layer, block in stages)
    return Subproblem(
        dynamics=dynamics,
        terms=tuple(
            LinearTerm(k, linear(layer, block), rng.standard_normal((SAMPLES, layer.num_outputs)), block)
            for k, layer, block in terms
        ),
        controls=controls,
        blocks=tuple(block for _, block in stages),
        gaps=tuple(rng.standard_normal((SAMPLES, stage.num_outputs)) for stage in dynamics),
        penalty=penalty,
        weight_decay=1e-2 if decays is None else decays,
        damping=0.1,
        initial_gap=rng.standard_normal((SAMPLES, WIDTH)),
        initial_weight=initial,
    )


def assert_is_the_minimiser(sub, step, tolerance=1e-9):
    du, dx, multipliers = dense_solution(sub)
    for found, expected in ((step.controls, du), (step.states, dx), (step.multipliers, multipliers)):
        scale = max(np.abs(part).max() for part in expected)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("form", forward_dp.FORMS)
@pytest.mark.parametrize("initial", [3.0, INF])
@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
def test_every_form_is_dense_least_squares(form, initial, penalty):
    sub = general(penalty, initial=initial)
    assert_is_the_minimiser(sub, forward_dp.solve(sub, form))


@pytest.mark.parametrize("form", forward_dp.FORMS)
@pytest.mark.parametrize("damping", [0.0, 0.1])
def test_weight_decay_block_by_block(form, damping):
    decays = (1e-2, 3.0, 0.5, 1e-2, 0.5, 40.0)
    sub = replace(general(PENALTIES["mixed"], decays=decays), damping=damping)
    assert_is_the_minimiser(sub, forward_dp.solve(sub, form))
    prepared = forward_dp.prepare(sub, form)
    for another in (2.0, 1e-3):
        assert_is_the_minimiser(sub.damped(another), prepared.step(another))


@pytest.mark.parametrize("form", forward_dp.FORMS)
def test_precondition_is_the_inverse_of_the_normal_matrix(form):
    sub = general(PENALTIES["mixed"], decays=(1e-2, 3.0, 0.5, 1e-2, 0.5, 40.0))
    vector = np.random.default_rng(1).standard_normal(sub.num_controls)
    expected = reduced_inverse(sub) @ vector
    found = forward_dp.prepare(sub, form).damped().precondition(vector)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("form", forward_dp.FORMS)
def test_one_block_for_a_whole_horizon_and_a_term_at_every_state(form):
    stages = [(LAYER, 0)] * 5
    terms = [(k, OUTPUT, 1) for k in range(6)]
    for initial in (0.5, INF):
        sub = general((2.0, 1e3, INF, 1.0, 1.0), initial=initial, stages=stages, terms=terms)
        assert_is_the_minimiser(sub, forward_dp.solve(sub, form))


@pytest.mark.parametrize("form", ["primal", "primal_qr"])
def test_chunks_of_samples_give_the_same_step(monkeypatch, form):
    sub = general(PENALTIES["mixed"])
    whole = forward_dp.solve(sub, form)
    monkeypatch.setattr(cost, "CHUNK_BYTES", 8 * 2 * sub.num_controls * sub.num_rows)
    assert cost.chunk_size(sub) == 2
    chunked = forward_dp.solve(sub, form)
    for kind in ("controls", "states", "multipliers"):
        for a, b in zip(getattr(whole, kind), getattr(chunked, kind), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * max(1.0, np.abs(b).max()))


@pytest.mark.parametrize("form", forward_dp.FORMS)
def test_the_correction_answers_the_second_derivatives(form):
    """Half of the minimiser with f'' and h'' for gaps and residuals, and no pull of the weight decay."""
    sub = general(PENALTIES["mixed"])
    damped = forward_dp.prepare(sub, form).damped()
    step = damped.step()

    def bend(stage, k, block):
        return stage.second_derivative(step.states[k], step.controls[block])

    bent = replace(
        sub,
        gaps=tuple(bend(stage, k, sub.blocks[k]) for k, stage in enumerate(sub.dynamics)),
        terms=tuple(replace(t, residual=bend(t.output, t.stage, t.block)) for t in sub.terms),
        controls=tuple(map(np.zeros_like, sub.controls)),
        initial_gap=None,
    )
    corrected, (a_u, a_x, _) = damped.corrected(step, 1e9), dense_solution(bent)
    for after, before, a in zip(
        (*corrected.controls, *corrected.states), (*step.controls, *step.states), (*a_u, *a_x), strict=True
    ):
        np.testing.assert_allclose(after, before + 0.5 * a, rtol=0, atol=1e-9 * max(1.0, np.abs(after).max()))


@pytest.mark.parametrize("form", forward_dp.FORMS)
def test_the_step_is_a_minimum_of_the_objective(form):
    sub = general((1.0, 5.0, 2.0, 1.0, 3.0, 2.0))
    step = forward_dp.solve(sub, form)
    best, rng = sub.value(step.controls, step.states), np.random.default_rng(0)
    for _ in range(5):
        du = tuple(d + 0.1 * rng.standard_normal(d.shape) for d in step.controls)
        dx = tuple(d + 0.1 * rng.standard_normal(d.shape) for d in step.states)
        assert sub.value(du, dx) > best


def test_a_network_is_the_case_of_one_term_and_a_block_a_stage():
    sub = subproblem(DENSE["tanh, several outputs"], 6, 3.0)
    assert (sub.blocks, [t.block for t in sub.terms], [t.stage for t in sub.terms]) == ((0, 1), [2], [2])
    assert sub.num_rows == 2 and sub.residual.shape == (6, 2)


def test_terms_out_of_order_unused_blocks_and_unequal_samples_are_refused():
    sub = general(PENALTIES["one"])
    with pytest.raises(ValueError, match="in the order of their stages"):
        replace(sub, terms=sub.terms[::-1])
    with pytest.raises(ValueError, match=r"the last at stage 6, received stages \[\]"):
        replace(sub, terms=())
    with pytest.raises(ValueError, match=r"the last at stage 6, received stages \[0, 2, 3, 3\]"):
        replace(sub, terms=sub.terms[:-1])
    with pytest.raises(ValueError, match=r"control blocks \[6\] act nowhere"):
        replace(sub, controls=(*sub.controls, np.zeros(2)))
    short = sub.terms[-1]
    output = short.output.rows(slice(0, 2))
    with pytest.raises(ValueError, match=r"as many samples as each other, received \[2, 5\]"):
        replace(sub, terms=(*sub.terms[:-1], replace(short, output=output, residual=short.residual[:2])))
