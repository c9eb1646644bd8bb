"""Levenberg-Marquardt damping, and how it follows what steps gain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...forward_dp import mean_curvature
from .lagrangian import AugmentedLagrangian, Point

__all__ = ["Damping", "first_damping"]


@dataclass(frozen=True)
class Damping:
    """Levenberg-Marquardt damping mu, steered by the gain ratio (Nielsen 1999).

    Attributes
    ----------
    value : float
        mu.
    growth : float
        Factor of the next increase; doubles with every rejection in a row.
    """

    value: float
    growth: float = 2.0

    SMALLEST = 1e-12
    LARGEST = 1e20
    # below it the gain says no more than that the model is useless, and its cube may overflow
    LEAST_GAIN = -1e6

    def accepted(self, gain: float) -> Damping:
        """After a step with this ratio of actual to predicted decrease."""
        bounded = min(max(gain, self.LEAST_GAIN), 1.0)
        shrink = max(1.0 / 3.0, 1.0 - (2.0 * bounded - 1.0) ** 3)
        return Damping(max(self.SMALLEST, self.value * shrink))

    def rejected(self) -> Damping:
        return Damping(self.value * self.growth, 2.0 * self.growth)

    @property
    def exhausted(self) -> bool:
        return self.value > self.LARGEST


def first_damping(lagrangian: AugmentedLagrangian, point: Point, relative: float) -> Damping:
    """mu, relative to the mean diagonal entry of the Gauss-Newton matrix in the controls if that is a number."""
    try:
        value = relative * mean_curvature(lagrangian.subproblem(point, damping=1.0))
    except np.linalg.LinAlgError:
        return Damping(relative)
    return Damping(value if 0 < value < np.inf else relative)
