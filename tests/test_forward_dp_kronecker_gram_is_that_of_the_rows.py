"""The normal matrix by Kronecker products is the Gram matrix of the whitened rows, and the step is every form's."""

from __future__ import annotations

import numpy as np
import pytest

from ocp_nn import Network, TrainingProblem, forward_dp
from ocp_nn.forward_dp import kronecker
from ocp_nn.forward_dp.condensed import Condensed
from ocp_nn.forward_dp.cost import predict_cost
from ocp_nn.forward_dp.kronecker import is_kronecker, normal_matrix
from ocp_nn.forward_dp.primal import PrimalForm
from ocp_nn.solvers.augmented_lagrangian.lagrangian import AugmentedLagrangian

INF = np.inf
CASES = {
    "softmax, eliminated": ([5, 4, 3], (INF,), "softmax", {}),
    "softmax, a variable": ([5, 4, 3], (7.0,), "softmax", {}),
    "squares, mixed": ([3, 6, 5, 4], (INF, 30.0), "squared", {}),
    "no hidden layer": ([6, 4], (), "softmax", {}),
    "skip connections, weights": ([4, 5, 5, 3], (2.0, 1e3), "softmax", {"residual": True}),
}


def subproblem(sizes, penalty, loss, settings, samples=40):
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((samples, sizes[0])), rng.integers(sizes[-1], size=samples)
    weights = rng.uniform(0.1, 2.0, samples) if settings else None
    network = Network.mlp(sizes, **settings)
    training = TrainingProblem(network, x, np.eye(sizes[-1])[labels], 0.1, loss=loss, sample_weight=weights)
    start = training.rollout(network.init_controls(1))
    lagrangian = AugmentedLagrangian(training, tuple(start.states[1:]), penalty)
    states = [s + 0.1 * rng.standard_normal(s.shape) if k and np.isfinite(penalty[k - 1]) else s
              for k, s in enumerate(start.states)]  # fmt: skip
    return lagrangian.subproblem(lagrangian.at(start.controls, states), 0.0)


@pytest.mark.parametrize("chunk_bytes", [16 * 2**20, 4000])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_matrix_is_the_gram_matrix_of_the_rows(case, chunk_bytes, monkeypatch):
    monkeypatch.setattr(kronecker, "_CHUNK_BYTES", chunk_bytes)
    batch = Condensed(subproblem(*case)).batch
    rows = batch.whitened_jacobian()
    found, expected = normal_matrix(batch), rows.T @ rows
    assert np.abs(found - expected).max() < 1e-14 * len(rows) * np.abs(expected).max()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_step_is_that_of_qr_on_the_rows(case):
    sub = subproblem(*case)
    assert is_kronecker(sub)
    found, expected = (forward_dp.solve(sub, form=form) for form in ("primal", "primal_qr"))
    for a, b in zip(found.controls, expected.controls, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


def test_few_rows_keep_to_the_rows(monkeypatch):
    """With two outputs nothing is gained, and steps stay what they were, bit for bit."""
    sub = subproblem([5, 4, 2], (7.0,), "softmax", {})
    assert not is_kronecker(sub)
    monkeypatch.setattr("ocp_nn.forward_dp.primal.normal_matrix", None)
    assert np.isfinite(PrimalForm(Condensed(sub)).gram).all()


def test_it_is_cheaper_by_the_number_of_rows():
    sizes = [30, 12, 10]
    sub = subproblem(sizes, (7.0,), "softmax", {}, samples=600)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kronecker, "LEAST_ROWS", 11)
        by_rows = predict_cost(sub, "primal").flops
    assert predict_cost(sub, "primal").flops < 0.3 * by_rows
