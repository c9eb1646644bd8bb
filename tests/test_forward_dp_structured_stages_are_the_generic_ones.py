"""A dense layer gives the same products and steps through its Kronecker structure and through CasADi's Jacobians."""

from __future__ import annotations

import numpy as np
import pytest
from subproblems import DENSE, INF, as_symbolic, changed, subproblem

from ocp_nn import forward_dp
from ocp_nn.network.linear_stages import DenseStage, GenericStage


@pytest.fixture(params=[*DENSE])
def pair(request):
    network = DENSE[request.param]
    return subproblem(network, 6), subproblem(as_symbolic(network), 6)


def twins(pair):
    """The stages of both subproblems at the same points."""
    structured, symbolic = pair
    for dense, other in zip(structured.stages, symbolic.stages, strict=True):
        assert isinstance(dense, DenseStage) and isinstance(other, GenericStage)
        yield dense, GenericStage(other.layer, dense.x, dense.u, *other.layer.jacobians(dense.x, dense.u))


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * max(1.0, np.abs(b).max(initial=0.0)))


def test_jacobians_and_products(pair):
    rng = np.random.default_rng(1)
    for dense, generic in twins(pair):
        n, n_next, samples = dense.num_inputs, dense.num_outputs, dense.num_samples
        dx, du = rng.standard_normal((samples, n)), rng.standard_normal(dense.num_controls)
        eta = rng.standard_normal((samples, n_next))
        close(dense.A, generic.A)
        close(dense.B, generic.B)
        close(dense.apply(dx, du), generic.apply(dx, du))
        close(dense.apply(None, du), generic.apply(None, du))
        close(dense.transpose_state(eta), generic.transpose_state(eta))
        close(dense.transpose_control(eta), generic.transpose_control(eta))


def test_gram_matrices_and_rows(pair):
    rng = np.random.default_rng(2)
    for dense, generic in twins(pair):
        samples, n_next = dense.num_samples, dense.num_outputs
        psi = rng.standard_normal((samples, 3, n_next))
        close(dense.carry_output(psi), generic.carry_output(psi))
        written = [np.empty((samples, 3, dense.num_controls)) for _ in range(2)]
        covariances = [np.ones((samples, n_next, samples, n_next)) for _ in range(2)]
        grams = [np.ones((3 * samples, 3 * samples)) for _ in range(2)]
        for stage, rows, covariance, gram in zip((dense, generic), written, covariances, grams, strict=True):
            stage.write_control_rows(psi, rows)
            stage.add_control_gram(covariance)
            stage.add_output_gram(psi, gram)
        close(*written)
        close(*covariances)
        close(*map(np.tril, grams))
        close(
            np.tril(grams[0]),
            np.tril(1.0 + written[1].reshape(3 * samples, -1) @ written[1].reshape(3 * samples, -1).T),
        )


@pytest.mark.parametrize("samples", [127, 128, 300])
def test_gram_matrices_across_strips(samples):
    stage = subproblem(DENSE["tanh, several outputs"], samples).stages[1]
    psi = np.random.default_rng(0).standard_normal((samples, 2, stage.num_outputs))
    gram, rows = np.zeros((2 * samples, 2 * samples)), np.empty((samples, 2, stage.num_controls))
    stage.add_output_gram(psi, gram)
    stage.write_control_rows(psi, rows)
    flat = rows.reshape(2 * samples, -1)
    close(np.tril(gram), np.tril(flat @ flat.T))


def test_rows_of_a_stage_are_the_stage_of_those_rows(pair):
    for stage in (*pair[0].stages, *pair[1].stages):
        some = stage.rows(slice(2, 5))
        close(some.A, stage.A[2:5])
        close(some.B, stage.B[2:5])


@pytest.mark.parametrize("form", forward_dp.FORMS)
@pytest.mark.parametrize("penalty", [1.0, INF])
@pytest.mark.parametrize("name", [*DENSE])
def test_steps(form, penalty, name):
    # the same random numbers build both subproblems
    structured = forward_dp.solve(subproblem(DENSE[name], 6, penalty), form)
    generic_sub = subproblem(DENSE[name], 6, penalty)
    stages = tuple(other for _, other in twins((generic_sub, subproblem(as_symbolic(DENSE[name]), 6))))
    generic = forward_dp.solve(changed(generic_sub, stages=stages), form)
    for kind in ("controls", "states", "multipliers"):
        for a, b in zip(getattr(structured, kind), getattr(generic, kind), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * max(1.0, np.abs(b).max(initial=0.0)))
