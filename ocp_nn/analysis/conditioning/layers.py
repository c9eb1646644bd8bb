"""Stage by stage: where the signal and the gradient vanish or explode.

Per stage k: the spread of the state x_{k+1} over samples, the singular values of A_k = df_k/dx, the gradient in u_k.
Per pair j <= k: those of the product A_k ... A_j, which carries changes of x_j forward to x_{k+1}, and costates back.
Singular values differ from sample to sample: medians over samples are given, and over at most :data:`MAX_SAMPLES`
samples, evenly spaced, since a decomposition for each of a thousand samples would tell no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...base.display import brief
from ...network.linear_stages import LinearStage
from ...problem.training import TrainingProblem
from ...problem.trajectory import Trajectory

__all__ = ["MAX_SAMPLES", "LayerMeasures", "measure_layers"]

Array = NDArray[np.float64]

MAX_SAMPLES = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerMeasures:
    """Per-stage numbers, K entries each, and K x K tables over (first stage j, last stage k), NaN below the diagonal.

    Attributes
    ----------
    state_variance : array (K + 1,)
        Variance over samples of x_0..x_K (x_K is the output), averaged over units.
    gradient_norm : array (K,)
        2-norm of B_k' lambda_{k+1}: the gradient of the data term in u_k, without weight decay.
    product_largest, product_smallest : array (K, K)
        Largest and smallest singular value of A_k ... A_j, medians over samples; the diagonal is A_k itself.
    """

    state_variance: Array
    gradient_norm: Array
    product_largest: Array
    product_smallest: Array

    __repr__ = brief

    @property
    def signal_ratio(self) -> float:
        """Standard deviation of the last hidden state relative to that of the input."""
        first = self.state_variance[0]
        return float(np.sqrt(self.state_variance[-2] / first)) if first > 0 else 1.0

    @property
    def gradient_ratio(self) -> float:
        """Smallest over largest gradient norm of the layers; 0 where every gradient vanishes."""
        largest = float(self.gradient_norm.max())
        return float(self.gradient_norm.min()) / largest if largest > 0 else 0.0


def measure_layers(problem: TrainingProblem, trajectory: Trajectory) -> LayerMeasures:
    """Per-stage measures at a trajectory.

    Raises
    ------
    ValueError
        If the trajectory does not have the problem's shapes.
    """
    outputs = problem.outputs(trajectory)
    stages = problem.linearize(trajectory, outputs)
    costates = problem.backpropagate(stages, trajectory.controls, problem.output_gradients(outputs[-1:])).costates
    gradient = [stage.transpose_control(costate) for stage, costate in zip(stages, costates[1:], strict=True)]
    largest, smallest = _products([stage.A for stage in _thinned(stages, problem.num_samples)])
    return LayerMeasures(
        state_variance=np.array([float(x.var(axis=0).mean()) for x in (*trajectory.states, outputs[-1])]),
        gradient_norm=np.array([float(np.linalg.norm(g)) for g in gradient]),
        product_largest=largest,
        product_smallest=smallest,
    )


def _thinned(stages: Sequence[LinearStage], samples: int) -> list[LinearStage]:
    step = -(-samples // MAX_SAMPLES)
    return [stage.rows(slice(None, None, step)) for stage in stages]


def _products(jacobians: list[Array]) -> tuple[Array, Array]:
    count = len(jacobians)
    largest, smallest = np.full((count, count), np.nan), np.full((count, count), np.nan)
    for first in range(count):
        product = np.eye(jacobians[first].shape[2])
        for last in range(first, count):
            product = jacobians[last] @ product
            values = np.linalg.svd(product, compute_uv=False)
            largest[first, last], smallest[first, last] = np.median(values[:, [0, -1]], axis=0)
    return largest, smallest
