"""The Jacobian of a network's outputs in all its weights, by the linearised stages that training uses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas

from ..forward_dp.sweeps import Batch
from ..network.scaled_stage import ScaledStage
from ..problem.training import TrainingProblem

__all__ = ["linearised_batch", "output_jacobian", "smaller_gram"]

Array = NDArray[np.float64]

# Samples whose rows of the Jacobian are held at a time.
_CHUNK = 512


def linearised_batch(problem: TrainingProblem, controls: Sequence[Array]) -> Batch:
    """The network at its training samples, each row scaled by the root of its weight."""
    trajectory = problem.rollout(controls)
    outputs = problem.outputs(trajectory)
    *stages, last = problem.linearize(trajectory, outputs)
    root = problem.data.root(outputs[-1])
    last = last if root is None else ScaledStage(last, root)
    return Batch.of_network((*stages, last), (0.0,) * (problem.num_stages - 1))


def output_jacobian(problem: TrainingProblem, controls: Sequence[Array], x: Array | None = None) -> Array:
    """J, (N m, P), sample by sample: at the training samples with their weights, or at other inputs (N, n) without."""
    if x is not None:
        problem = TrainingProblem(problem.network, x, np.zeros((len(x), problem.y.shape[1])), problem.weight_decay)
    rows = linearised_batch(problem, controls).whitened_jacobian()
    return np.asarray(rows).reshape(problem.y.size, -1)


def smaller_gram(problem: TrainingProblem, controls: Sequence[Array]) -> Array:
    """J J' or, where there are fewer weights than targets, J'J: its lower triangle, with zeros or anything above."""
    batch = linearised_batch(problem, controls)
    return _output_gram(batch) if problem.y.size <= problem.network.num_controls else _control_gram(batch)


def _output_gram(batch: Batch) -> Array:
    size = batch.num_samples * batch.num_rows
    gram = np.zeros((size, size))
    for _, (use,) in batch.uses():
        use.stage.add_output_gram(use.psi, gram)
    return gram


def _control_gram(batch: Batch) -> Array:
    """Summed over samples."""
    gram = np.zeros((0, 0))
    for start in range(0, batch.num_samples, _CHUNK):
        rows = batch.rows(slice(start, start + _CHUNK)).whitened_jacobian()
        gram = gram if gram.size else np.zeros((rows.shape[1],) * 2, order="F")
        gram = blas.dsyrk(1.0, rows.T, beta=1.0, c=gram, overwrite_c=1, lower=1)
    return gram
