"""The Jacobian of a network's outputs in all its weights, by the linearised stages that training uses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..forward_dp.sweeps import Batch
from ..network.scaled_stage import ScaledStage
from ..problem.training import TrainingProblem

__all__ = ["linearised_batch", "output_jacobian"]

Array = NDArray[np.float64]


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
