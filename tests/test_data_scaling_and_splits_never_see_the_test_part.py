"""Splits are disjoint, complete and seeded; a scaler knows only the rows it was fitted on and inverts itself."""

from __future__ import annotations

import numpy as np
import pytest

from ocp_nn.learning.data import DataError, Scaler, random_split, standard_splits


@pytest.mark.parametrize("num_samples", [2, 3, 10, 442])
@pytest.mark.parametrize("test_size", [0.01, 0.1, 0.5, 0.99])
def test_every_sample_is_in_one_part(num_samples, test_size):
    split = random_split(num_samples, test_size, seed=3)
    assert len(split.train) >= 1 <= len(split.test)
    np.testing.assert_array_equal(np.sort(np.concatenate([split.train, split.test])), np.arange(num_samples))


def test_share_and_seed():
    first, again, other = (random_split(442, 0.1, seed=s).test for s in (0, 0, 1))
    assert len(first) == 44
    np.testing.assert_array_equal(first, again)
    assert set(first) != set(other)


@pytest.mark.parametrize(("num_samples", "test_size"), [(10, 0.0), (10, 1.0), (10, -0.1), (10, float("nan")), (1, 0.5)])
def test_splits_that_cannot_be(num_samples, test_size):
    with pytest.raises(DataError):
        random_split(num_samples, test_size)


def test_standard_splits_are_the_published_ones():
    splits = list(standard_splits(308))
    assert len(splits) == 20
    legacy = np.random.RandomState(1)
    for split in splits:
        order = legacy.choice(range(308), 308, replace=False)
        np.testing.assert_array_equal(split.train, order[:277])
        np.testing.assert_array_equal(split.test, order[277:])


def test_scaler_standardises_its_own_rows_and_inverts():
    table = np.random.default_rng(0).normal([3.0, -1e6, 1e-8], [2.0, 10.0, 1e-9], (50, 3))
    scaler = Scaler.fit(table[:40])
    np.testing.assert_allclose(scaler.transform(table[:40]).mean(axis=0), 0, atol=1e-10)
    np.testing.assert_allclose(scaler.transform(table[:40]).std(axis=0), 1)
    np.testing.assert_allclose(scaler.inverse(scaler.transform(table)), table, rtol=1e-12)
    moved = table.copy()
    moved[40:] += 100.0
    assert np.array_equal(Scaler.fit(moved[:40]).mean, scaler.mean)


@pytest.mark.parametrize("value", [0.0, 7.0, -0.1, 1e9])
def test_a_column_that_is_constant_in_the_training_part_is_measured_by_its_level(value):
    scaler = Scaler.fit(np.full((30, 1), value))
    level = abs(value) or 1.0
    np.testing.assert_allclose(scaler.transform([[value], [value + level]]), [[0], [1]], atol=1e-15)


def test_scaler_shapes():
    scaler = Scaler.fit(np.eye(3))
    with pytest.raises(ValueError, match=r"table must have shape \(N, 3\) with one row a sample, received \(2, 2\)"):
        scaler.transform(np.eye(2))
    with pytest.raises(ValueError, match="at least one row"):
        Scaler.fit(np.zeros((0, 2)))
