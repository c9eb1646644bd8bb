"""A point of the optimal control problem, and the adjoints there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..base import checks, display

__all__ = ["TRAJECTORY", "Adjoints", "Trajectory"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]

_PARTS = ("controls", "states", "multipliers", "constraint_multipliers")


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A point of the optimal control problem; not necessarily a solution of the dynamics.

    Attributes
    ----------
    controls : tuple of K arrays
        u_k, of shape (num_controls of stage k,).
    states : tuple of K arrays
        x_k, of shape (N, n_k); ``states[0]`` is the input.
    multipliers : tuple of K arrays, or None
        lambda_k, the costate of ``states[k]`` and of its shape; ``multipliers[0]`` is the costate of the input.
    constraint_multipliers : tuple of arrays, or None
        m_j of every constraint of an :class:`ocp_nn.ConstrainedProblem`: (stages, N, m) for outputs, one number a
        control for bounds and sparsity; positive where an upper bound holds something down.

    Raises
    ------
    ValueError
        For anything but arrays of real numbers.  NaN and infinity can be looked at and certified, not started from.
    """

    controls: Arrays
    states: Arrays
    multipliers: Arrays | None = None
    constraint_multipliers: Arrays | None = None

    def __repr__(self) -> str:
        samples = len(self.states[0]) if self.states else 0
        widths = display.widths([*(x.shape[1] if x.ndim == 2 else x.shape for x in self.states)])
        multipliers = "without" if self.multipliers is None else "with"
        return f"Trajectory({len(self.controls)} stages, {samples} samples, states {widths}, {multipliers} multipliers)"

    def __post_init__(self) -> None:
        for name in _PARTS:
            arrays = getattr(self, name)
            if arrays is not None or "multipliers" not in name:
                checks.check(name, arrays, checks.ARRAYS)
                real = tuple([checks.real_array(f"{name}[{k}]", array) for k, array in enumerate(arrays)])
                object.__setattr__(self, name, real)

    def check_finite(self) -> None:
        """Raise ``ValueError``, saying where, for NaN or infinity in states or multipliers."""
        for name in ("states", "multipliers", "constraint_multipliers"):
            for k, array in enumerate(getattr(self, name) or ()):
                checks.check_finite(f"{name}[{k}]", array)


@dataclass(frozen=True, eq=False)
class Adjoints:
    """The adjoint recursion at a trajectory.

    Attributes
    ----------
    costates : tuple of K + 1 arrays
        lambda_0..lambda_K; the last one is the residual f_{K-1} - y.
    gradient : tuple of K arrays
        B_k' lambda_{k+1} + rho u_k: on a rollout, the gradient of the objective in the controls.
    """

    costates: Arrays
    gradient: Arrays

    __repr__ = display.brief


TRAJECTORY = checks.instance(Trajectory, "an ocp_nn.Trajectory")
