"""Splitting samples into a part to learn from and a part to be judged on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...base import checks, display
from .dataset import DataError

__all__ = ["Split", "random_split", "standard_splits", "stratified_split"]

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


def stratified_split(labels: ArrayLike, test_size: float = 0.1, seed: int = 0) -> Split:
    """:func:`random_split` class by class: every class has its share in either part, to one sample.

    A class of few samples may be missing in the test part, but none is missing in the other.

    Parameters
    ----------
    labels : array_like, shape (N,)
    test_size, seed :
        As for :func:`random_split`.

    Raises
    ------
    DataError
        As :func:`random_split`.
    """
    kinds, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)[1:]
    num_test = min(len(random_split(len(kinds), test_size, seed).test), max(len(kinds) - len(counts), 1))
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(kinds))
    order = order[np.argsort(kinds[order], kind="stable")]
    # the samples of a class, evenly spread over (0, 1): those first in that order are held out, one of each class never
    rank = np.concatenate([np.arange(count) for count in counts])
    position = (rank + rng.uniform(0.25, 0.75, len(counts))[kinds[order]]) / counts[kinds[order]]
    position[rank == counts[kinds[order]] - 1] = np.inf
    held_out = np.sort(order[np.argsort(position, kind="stable")[:num_test]])
    return Split(np.setdiff1d(np.arange(len(kinds)), held_out), held_out)


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
