"""Splitting samples into a part to learn from and a part to be judged on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...base import checks, display
from .dataset import DataError

__all__ = ["Split", "random_split", "standard_splits"]

Indices = NDArray[np.intp]

# Seed, number and training share of the splits that the literature on small regression sets uses
# (Hernandez-Lobato and Adams 2015, and those who followed).
STANDARD_SEED, STANDARD_COUNT, STANDARD_SHARE = 1, 20, 0.9


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers of the two parts; together they are all samples, each once."""

    train: Indices
    test: Indices

    __repr__ = display.brief


def random_split(num_samples: int, test_size: float = 0.1, seed: int = 0) -> Split:
    """A seeded shuffle, cut once.

    Parameters
    ----------
    num_samples : int
    test_size : float
        Share of the samples that are held out, strictly between 0 and 1; rounded, but never leaving a part empty.
    seed : int

    Raises
    ------
    DataError
        For a share outside (0, 1) or fewer than two samples.
    """
    checks.check("num_samples", num_samples, checks.integer(2), DataError)
    checks.check("test_size", test_size, checks.SHARE, DataError)
    checks.check("seed", seed, checks.SEED, DataError)
    num_test = min(max(round(test_size * num_samples), 1), num_samples - 1)
    order = np.random.default_rng(seed).permutation(num_samples)
    return Split(np.sort(order[num_test:]), np.sort(order[:num_test]))


def standard_splits(num_samples: int, count: int = STANDARD_COUNT) -> Iterator[Split]:
    """The splits of the common small-regression benchmark, in order: 90 % to train on, 10 % to test.

    They are draws of one legacy generator, so the k-th needs the ones before it; results on them can be set beside
    published ones.
    """
    checks.check("num_samples", num_samples, checks.integer(2), DataError)
    checks.check("count", count, checks.integer(0), DataError)
    generator = np.random.RandomState(STANDARD_SEED)  # legacy: the published splits are its draws
    cut = round(STANDARD_SHARE * num_samples)
    for _ in range(count):
        order = generator.choice(range(num_samples), num_samples, replace=False)
        yield Split(order[:cut], order[cut:])
