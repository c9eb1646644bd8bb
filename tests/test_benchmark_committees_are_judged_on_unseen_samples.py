"""The committee of the UCI benchmark: mixed by errors on samples that members have not seen, by the formula."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ocp_nn import Network
from ocp_nn.learning.data import Dataset
from ocp_nn.learning.experiment import Experiment, rmse

SCRIPTS = str(Path(__file__).parents[1] / "scripts")


@pytest.fixture(scope="module")
def committee():
    sys.path.insert(0, SCRIPTS)
    try:
        from bench_suite import committee
    finally:
        sys.path.remove(SCRIPTS)
    return committee


def experiment(samples=60, noise=0.1):
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (samples, 1))
    data = Dataset(
        name="sine",
        x=x,
        y=np.sin(2 * x) + noise * rng.standard_normal(x.shape),
        feature_names=("x",),
        target_names=("y",),
        source="synthetic",
    )
    return Experiment.prepare(data, (4,))


def test_the_expected_error_is_the_sum_written_out(committee):
    rng = np.random.default_rng(1)
    predicted, targets = rng.standard_normal((2, 6, 9, 2)), rng.standard_normal((9, 2))
    seen = rng.random((6, 9)) < 0.6
    seen[:, 0] = [True, True, True, True, True, False]  # one judge is not enough
    errors = committee.expected_errors(predicted, targets, seen)
    for weights in ([1.0, 0.0], [0.0, 1.0], [0.3, 0.7]):
        mixed = np.tensordot(weights, predicted, 1)
        terms = []
        for i in range(9):
            votes = mixed[~seen[:, i], i]
            if len(votes) > 1:
                excess = votes.var(axis=0, ddof=1) * (1 / len(votes) - 1 / 6)
                terms.append((votes.mean(axis=0) - targets[i]) ** 2 - excess)
        assert len(terms) < 9
        assert weights @ errors @ weights == pytest.approx(np.mean(terms), rel=1e-12)


def test_the_expected_error_is_that_of_the_whole_committee(committee):
    """Members scatter by s about a bias b: b^2 + s^2/M whatever number of them has not seen a sample."""
    rng = np.random.default_rng(2)
    bias, scatter, members, samples = 0.5, 2.0, 20, 200_000
    predicted = bias + scatter * rng.standard_normal((1, members, samples, 1))
    seen = rng.random((members, samples)) < 0.63
    found = committee.expected_errors(predicted, np.zeros((samples, 1)), seen)
    assert found[0, 0] == pytest.approx(bias**2 + scatter**2 / members, rel=0.02)


def test_the_mixture_is_the_best_on_the_simplex(committee):
    rng = np.random.default_rng(3)
    for size in (1, 2, 5):
        root = rng.standard_normal((size, size + 2))
        errors = root @ root.T
        weights = committee.mixture(errors)
        assert weights.min() >= 0 and weights.sum() == pytest.approx(1.0, abs=1e-12)
        others = rng.dirichlet(np.ones(size), 2000)
        assert weights @ errors @ weights <= np.einsum("ki,ij,kj->k", others, errors, others).min() * (1 + 1e-6)
    # uncorrelated candidates: weights are inverse to their squares
    np.testing.assert_allclose(committee.mixture(np.diag([1.0, 4.0])), [0.8, 0.2], atol=1e-5)


def test_an_indefinite_estimate_still_gives_weights(committee):
    weights = committee.mixture(np.array([[1.0, 2.0], [2.0, 1.0]]))
    assert weights.min() >= 0 and weights.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(committee.mixture(-np.eye(2)).sum(), 1.0)  # nothing is known to be wrong


def test_a_committee_is_trained_and_mixed_by_its_training_part(committee):
    prepared = [experiment(), replace(experiment(), network=Network.mlp([1, 3, 3, 1]))]
    found = committee.train(prepared, (0.01, 30.0, 3.0), members=4, seed=0)
    names = [candidate.name for candidate in found.candidates]
    assert names == [f"{shape} tanh, {rho}" for shape in ("4", "3x3") for rho in ("30", "3", "0.01")]
    assert all(len(candidate.members) == 4 for candidate in found.candidates)
    assert found.weights.sum() == pytest.approx(1.0)
    assert found.weights[[0, 3]].sum() < 0.1  # almost the mean
    test = prepared[0].measured("test")
    assert rmse(found.predicted("test"), test) < 0.5 * test.std()
    assert 0 < found.expected_error < 0.6
    again = committee.train(prepared, (0.01, 30.0, 3.0), members=4, seed=0)
    np.testing.assert_array_equal(again.weights, found.weights)


def test_every_weight_decay_begins_where_the_larger_one_ended(committee, monkeypatch):
    begun = []

    def trained(prepared, rows, rho, start, seed):
        begun.append((rho, None if start is None else start[0]))
        return (rho,)

    monkeypatch.setattr(committee, "_trained", trained)
    monkeypatch.setattr(committee.Candidate, "predictions", lambda self, x: np.zeros((2, len(x), 1)))
    committee.train([experiment()], (1.0, 4.0, 2.0), members=2, seed=0)
    assert begun == [(rho, start) for rho, start in ((4.0, None), (2.0, 4.0), (1.0, 2.0)) for _ in range(2)]


def test_a_path_ends_where_it_is_clearly_worse(committee, monkeypatch):
    errors = iter([9.0, 4.0, 4.1, 4.5, 1.0])
    monkeypatch.setattr(committee, "expected_errors", lambda *_: np.array([[next(errors)]]))
    monkeypatch.setattr(committee, "_trained", lambda prepared, *_: prepared.network.init_controls(0))
    samples = [np.arange(54), np.arange(54)]
    path = committee._path(experiment(), (16.0, 8.0, 4.0, 2.0, 1.0), samples, np.ones((2, 54), dtype=bool))
    assert [candidate.weight_decay for candidate in path] == [16.0, 8.0, 4.0, 2.0]
