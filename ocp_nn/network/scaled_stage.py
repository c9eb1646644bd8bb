"""A linearised stage followed by a linear map of its output, sample by sample: L' A and L' B.

Where the objective is not a plain square, the last stage enters least squares through the root L of its loss
(:mod:`ocp_nn.problem.losses`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .linear_stages import DenseStage, LinearStage

__all__ = ["ScaledStage", "unscaled"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ScaledStage:
    """L' (A dx + B du).

    Attributes
    ----------
    stage : LinearStage
        A and B, n' outputs.
    root : array
        L of every sample: its diagonal, (N, n'), or the matrix, (N, n', n').
    """

    stage: LinearStage
    root: Array

    @property
    def num_samples(self) -> int:
        return self.stage.num_samples

    @property
    def num_inputs(self) -> int:
        return self.stage.num_inputs

    @property
    def num_outputs(self) -> int:
        return self.stage.num_outputs

    @property
    def num_controls(self) -> int:
        return self.stage.num_controls

    @property
    def A(self) -> Array:
        return self._times_jacobian(self.stage.A)

    @property
    def B(self) -> Array:
        return self._times_jacobian(self.stage.B)

    @property
    def _is_diagonal(self) -> bool:
        return self.root.ndim == 2

    def _times_jacobian(self, jacobian: Array) -> Array:
        """L' J, (N, n', columns)."""
        if self._is_diagonal:
            return np.asarray(self.root[:, :, None] * jacobian)
        return np.asarray(self.root.transpose(0, 2, 1) @ jacobian)

    def _forward(self, change: Array) -> Array:
        """L' dz, (N, n')."""
        return self._times_jacobian(change[:, :, None])[:, :, 0]

    def _back(self, eta: Array) -> Array:
        """L eta, (N, n')."""
        return self.root * eta if self._is_diagonal else np.asarray((self.root @ eta[:, :, None])[:, :, 0])

    def _rows(self, psi: Array) -> Array:
        """Psi L', (N, m, n')."""
        return psi * self.root[:, None, :] if self._is_diagonal else psi @ self.root.transpose(0, 2, 1)

    def apply(self, dx: Array | None, du: Array) -> Array:
        return self._forward(self.stage.apply(dx, du))

    def apply_state(self, dx: Array) -> Array:
        return self._forward(self.stage.apply_state(dx))

    def transpose_state(self, eta: Array) -> Array:
        return self.stage.transpose_state(self._back(eta))

    def transpose_control(self, eta: Array) -> Array:
        return self.stage.transpose_control(self._back(eta))

    def carry_output(self, psi: Array) -> Array:
        return self.stage.carry_output(self._rows(psi))

    def kronecker_factors(self, psi: Array) -> tuple[Array, Array]:
        """Those of a dense stage, :meth:`.DenseStage.kronecker_factors`."""
        assert isinstance(self.stage, DenseStage)
        return self.stage.kronecker_factors(self._rows(psi))

    def write_control_rows(self, psi: Array, out: Array) -> None:
        self.stage.write_control_rows(self._rows(psi), out)

    def add_output_gram(self, psi: Array, gram: Array) -> None:
        self.stage.add_output_gram(self._rows(psi), gram)

    def add_control_gram(self, covariance: Array) -> None:
        rows = self.B.reshape(-1, self.num_controls)
        covariance += (rows @ rows.T).reshape(covariance.shape)

    def rows(self, samples: slice) -> ScaledStage:
        return ScaledStage(self.stage.rows(samples), self.root[samples])

    def curvature_product(self, multiplier: Array, dx: Array | None, du: Array) -> tuple[Array, Array]:
        return self.stage.curvature_product(self._back(multiplier), dx, du)

    def second_derivative(self, dx: Array | None, du: Array) -> Array:
        return self._forward(self.stage.second_derivative(dx, du))

    def squared_size(self, psi: Array) -> float:
        return self.stage.squared_size(self._rows(psi))


def unscaled(stages: Sequence[LinearStage]) -> tuple[LinearStage, ...]:
    """The stages themselves, without the maps that follow them."""
    return tuple(stage.stage if isinstance(stage, ScaledStage) else stage for stage in stages)
