"""One preparation serves all dampings, refinement improves the step, and its inverse is the reduced normal matrix's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from oracles import dense_step, reduced_inverse
from subproblems import DENSE, GENERIC, INF, subproblem

from ocp_nn import Network, forward_dp
from ocp_nn.forward_dp import cost

PROBLEMS = {
    "dense": DENSE["tanh, several outputs"],
    "skip": DENSE["sigmoid with skip connections"],
    "generic": GENERIC["normalisation"],
}


@pytest.mark.parametrize("form", forward_dp.FORMS)
@pytest.mark.parametrize("name", PROBLEMS)
def test_steps_with_another_damping(form, name):
    sub = subproblem(PROBLEMS[name], 6, 3.0)
    prepared = forward_dp.prepare(sub, form)
    for damping in (0.0, 1e-2, 1e3, 1e-2):
        step, fresh = prepared.step(damping), forward_dp.solve(replace(sub, damping=damping), form)
        for a, b in zip(step.controls + step.states, fresh.controls + fresh.states, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * max(1.0, np.abs(b).max(initial=0.0)))


@pytest.mark.parametrize("form", forward_dp.FORMS)
@pytest.mark.parametrize("penalty", [0.5, 1e3, INF])
@pytest.mark.parametrize("name", PROBLEMS)
def test_precondition_is_the_inverse_of_the_reduced_normal_matrix(form, penalty, name):
    sub = subproblem(PROBLEMS[name], 6, penalty, weight_decay=1e-2, damping=0.1)
    prepared = forward_dp.prepare(sub, form)
    vectors = np.random.default_rng(0).standard_normal((3, sub.num_controls))
    for damping, damped in [(damping, prepared.damped(damping)) for damping in (0.1, 2.0)]:
        inverse = reduced_inverse(replace(sub, damping=damping))
        for vector in vectors:
            expected = inverse @ vector
            np.testing.assert_allclose(
                damped.precondition(vector), expected, rtol=0, atol=1e-9 * np.abs(expected).max()
            )


@pytest.mark.parametrize("form", forward_dp.FORMS)
def test_refinement_gains_digits(form):
    sub = subproblem(Network.mlp([1, 5, 5, 1]), 20, 1e8, weight_decay=1e-8)
    reference = dense_step(sub)
    prepared = forward_dp.prepare(sub, form)

    def error(refinements):
        step = np.concatenate(prepared.step(refinements=refinements).controls)
        return float(np.linalg.norm((step - reference).astype(float)) / np.linalg.norm(reference.astype(float)))

    assert error(1) <= 1e-9
    assert error(1) < 0.1 * error(0) or error(0) <= 1e-9
    solved = np.concatenate(forward_dp.solve(sub, form, refinements=2).controls)
    np.testing.assert_array_equal(solved, np.concatenate(prepared.step(refinements=2).controls))


@pytest.mark.parametrize("form", ["primal", "primal_qr"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_chunks_of_samples_give_the_same_step(monkeypatch, form, name):
    sub = subproblem(PROBLEMS[name], 23, (1.0, *[INF] * (len(PROBLEMS[name].layers) - 2)))
    whole = forward_dp.solve(sub, form)
    monkeypatch.setattr(cost, "CHUNK_BYTES", 8 * 5 * sub.num_controls * sub.num_rows)
    assert cost.chunk_size(sub) == 5
    chunked = forward_dp.solve(sub, form)
    for kind in ("controls", "states", "multipliers"):
        for a, b in zip(getattr(whole, kind), getattr(chunked, kind), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * max(1.0, np.abs(b).max(initial=0.0)))
