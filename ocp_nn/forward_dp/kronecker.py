"""The normal matrix of dense stages with several outputs, by its Kronecker structure.

A sample's rows in the control of a dense stage are E_k (x) [x_k; 1]', with E_k = L^-1 Psi_k diag(D_k) whitened and of
shape (M, n_k).  The block of two stages in J' Sigma^-1 J is therefore (our derivation)

    H_kl = sum_i (z_k z_l')^i (x) (E_k' E_l)^i,          z_k = [x_k; 1],

a product of two matrices with one row a sample, the entries of z_k z_l' and those of E_k' E_l: N P_k P_l operations,
whatever M, where the rows themselves take N M P_k P_l.  With ten classes that is ten times less.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..network.linear_stages import DenseStage, LinearStage
from ..network.scaled_stage import ScaledStage, unscaled
from .subproblem import Subproblem
from .sweeps import Batch

__all__ = ["is_kronecker", "normal_matrix"]

Array = NDArray[np.float64]

# Rows from which it pays: forming the products of entries costs as much as one row more (measured: 500 samples, layers
# 10-20-20, a third less with two rows, two thirds with four; 1000 samples of 64-20 with ten rows, seven eighths).
LEAST_ROWS = 3

# Products of entries held at a time, in bytes.
_CHUNK_BYTES = 16 * 2**20


def is_kronecker(subproblem: Subproblem) -> bool:
    """Whether the structure is there, every stage being dense with a control of its own, and pays."""
    own = len(subproblem.controls) == len(subproblem.dynamics) + 1 and len(subproblem.terms) == 1
    if not own or subproblem.num_rows < LEAST_ROWS:
        return False
    return all(isinstance(stage, DenseStage) for stage in unscaled(subproblem.stages))


def normal_matrix(batch: Batch) -> Array:
    """J' Sigma^-1 J, (P, P), in Fortran's order."""
    sums: dict[tuple[int, int], Array] = {}
    for some in _chunks(batch):
        factors = [_factors(places[0].stage, places[0].psi) for _, places in some.uses(whitened=True)]
        for k, (e, z) in enumerate(factors):
            for j in range(k + 1):
                added = _entries(factors[j][1], z, symmetric=j == k).T @ _grams(factors[j][0], e)
                sums[j, k] = sums[j, k] + added if (j, k) in sums else added
    return _assembled(sums, [(z.shape[1], e.shape[2]) for e, z in factors])


def _chunks(batch: Batch) -> Iterator[Batch]:
    widest = max(stage.num_inputs + 1 for stage in (*batch.dynamics, *batch.outputs))
    size = max(1, _CHUNK_BYTES // (8 * widest * widest))
    for start in range(0, batch.num_samples, size):
        yield batch.rows(slice(start, start + size)) if batch.num_samples > size else batch


def _factors(stage: LinearStage, psi: Array) -> tuple[Array, Array]:
    """E, (N, M, n'), and z, (N, n + 1)."""
    assert isinstance(stage, DenseStage | ScaledStage)
    return stage.kronecker_factors(psi)


def _grams(first: Array, second: Array) -> Array:
    """E' F sample by sample, (N, n' m')."""
    return (first.transpose(0, 2, 1) @ second).reshape(len(first), -1)


def _entries(first: Array, second: Array, *, symmetric: bool) -> Array:
    """z y' sample by sample, (N, n m); of z z' its upper triangle alone."""
    if symmetric:
        rows, columns = np.triu_indices(first.shape[1])
        return first[:, rows] * second[:, columns]
    return (first[:, :, None] * second[:, None, :]).reshape(len(first), -1)


def _assembled(sums: dict[tuple[int, int], Array], shapes: list[tuple[int, int]]) -> Array:
    """The blocks where they belong; a control is the table (n + 1, n') row by row."""
    ends = np.cumsum([0, *(inputs * units for inputs, units in shapes)])
    matrix = np.empty((ends[-1], ends[-1]), order="F")
    for (j, k), total in sums.items():
        (p, a), (q, b) = shapes[j], shapes[k]
        if j == k:
            rows, columns = np.triu_indices(p)
            table = np.empty((p, p, a, a))
            table[columns, rows] = total.reshape(-1, a, a).transpose(0, 2, 1)
            table[rows, columns] = total.reshape(-1, a, a)
        else:
            table = total.reshape(p, q, a, b)
        block = table.transpose(0, 2, 1, 3).reshape(p * a, q * b)
        matrix[ends[j] : ends[j + 1], ends[k] : ends[k + 1]] = block
        matrix[ends[k] : ends[k + 1], ends[j] : ends[j + 1]] = block.T
    return matrix
