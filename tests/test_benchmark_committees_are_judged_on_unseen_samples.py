"""The committee of the UCI benchmark: its error is expected from samples that members have not seen, by the formula."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from ocp_nn.data import Dataset
from ocp_nn.experiment import Experiment

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
    predicted, targets = rng.standard_normal((6, 9, 2)), rng.standard_normal((9, 2))
    seen = rng.random((6, 9)) < 0.6
    seen[:, 0] = [True, True, True, True, True, False]  # one judge is not enough
    terms = []
    for i in range(9):
        votes = predicted[~seen[:, i], i]
        if len(votes) > 1:
            excess = votes.var(axis=0, ddof=1) * (1 / len(votes) - 1 / 6)
            terms.append((votes.mean(axis=0) - targets[i]) ** 2 - excess)
    assert len(terms) < 9
    assert committee.expected_error(predicted, targets, seen) == pytest.approx(np.sqrt(np.mean(terms)), rel=1e-12)


def test_the_expected_error_is_that_of_the_whole_committee(committee):
    """Members scatter by s about a bias b: b^2 + s^2/M whatever number of them has not seen a sample."""
    rng = np.random.default_rng(2)
    bias, scatter, members, samples = 0.5, 2.0, 20, 200_000
    predicted = bias + scatter * rng.standard_normal((members, samples, 1))
    seen = rng.random((members, samples)) < 0.63
    found = committee.expected_error(predicted, np.zeros((samples, 1)), seen)
    assert found == pytest.approx(np.sqrt(bias**2 + scatter**2 / members), rel=0.01)


def test_the_smallest_expected_error_is_chosen_from_the_training_part(committee):
    prepared = experiment()
    chosen = committee.choose_committee(prepared, (0.01, 30.0, 0.1, 3.0), members=4, seed=0)
    assert list(chosen.errors)[:2] == [30.0, 3.0]  # from the largest
    assert chosen.errors[chosen.weight_decay] == min(chosen.errors.values()) < 0.5 * chosen.errors[30.0]
    assert len(chosen.controls) == 4
    again = committee.choose_committee(prepared, (0.01, 30.0, 0.1, 3.0), members=4, seed=0)
    assert again.errors == chosen.errors
    for a, b in zip(again.controls, chosen.controls, strict=True):
        np.testing.assert_array_equal(np.concatenate(a), np.concatenate(b))


def test_the_search_ends_where_it_is_clearly_worse(committee, monkeypatch):
    errors = iter([3.0, 2.0, 2.04, 2.1, 1.0])
    monkeypatch.setattr(committee, "expected_error", lambda *_: next(errors))
    monkeypatch.setattr(committee, "_trained", lambda prepared, *_: prepared.network.init_controls(0))
    chosen = committee.choose_committee(experiment(), (16.0, 8.0, 4.0, 2.0, 1.0), members=2, seed=0)
    assert chosen.errors == {16.0: 3.0, 8.0: 2.0, 4.0: 2.04, 2.0: 2.1} and chosen.weight_decay == 8.0
