"""The linear least-squares subproblem of one Gauss-Newton step, and its solution.

    min over (du, dx)  sum_k  rho/2 ||u_k + du_k||^2 + mu/2 ||du_k||^2
                     + sum_{k<K-1} beta_k/2 || A_k dx_k + B_k du_k - dx_{k+1} + c_k ||^2
                     + 1/2 || A_{K-1} dx_{K-1} + B_{K-1} du_{K-1} + r ||^2,        dx_0 = 0,

where dx_k stacks all samples: the controls couple them.  An infinite beta_k turns its term into the constraint
dx_{k+1} = A_k dx_k + B_k du_k + c_k: the state is eliminated.  All finite is multiple shooting, all infinite
single shooting, a mixture partial shooting; one code path serves them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..display import brief
from ..linearize import LinearStage

__all__ = ["NonFiniteError", "Step", "Subproblem"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]


class NonFiniteError(np.linalg.LinAlgError, ValueError):
    """Data that are not finite; for an outer iteration, one more reason why a step is not possible."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Subproblem:
    """Data of the least-squares subproblem.

    Attributes
    ----------
    stages : tuple of K LinearStage
        A_k and B_k.
    controls : tuple of K arrays
        u_k, where the weight decay pulls from.
    gaps : tuple of K - 1 arrays
        c_k, (N, n_{k+1}); d_k + lambda_{k+1}/beta_k in the augmented Lagrangian.
    residual : array
        r, (N, m).
    penalty : tuple of K - 1 floats
        beta_k in (0, inf].
    weight_decay, damping : float
        rho and mu; their sum must be positive.

    Raises
    ------
    ValueError
        For shapes that do not fit, penalties outside (0, inf], rho + mu <= 0, or non-finite data (the stage is named).
    """

    stages: tuple[LinearStage, ...]
    controls: Arrays
    gaps: Arrays
    residual: Array
    penalty: tuple[float, ...]
    weight_decay: float
    damping: float

    __repr__ = brief

    def __post_init__(self) -> None:
        inner = len(self.stages) - 1
        if not (len(self.controls) == inner + 1 and len(self.gaps) == len(self.penalty) == inner):
            raise ValueError(
                f"{inner + 1} stages need {inner + 1} controls, {inner} gaps and {inner} penalties, received "
                f"{len(self.controls)}, {len(self.gaps)} and {len(self.penalty)}"
            )
        if not all(checks.POSITIVE_OR_INFINITE.accepts(beta) for beta in self.penalty):
            raise ValueError(f"penalties must lie in (0, inf], received {self.penalty}")
        checks.check("weight_decay", self.weight_decay, checks.NON_NEGATIVE)
        checks.check("damping", self.damping, checks.NON_NEGATIVE)
        if not 0 < self.ridge < np.inf:
            raise ValueError(
                f"weight_decay and damping must have a positive sum, received {self.weight_decay} and {self.damping}"
            )
        for name in ("controls", "gaps"):
            real = tuple([checks.real_array(f"{name}[{k}]", array) for k, array in enumerate(getattr(self, name))])
            object.__setattr__(self, name, real)
        object.__setattr__(self, "residual", checks.real_array("residual", self.residual))
        for k, (stage, gap) in enumerate(zip(self.stages, (*self.gaps, self.residual), strict=True)):
            expected = (stage.num_samples, stage.num_outputs)
            if self.controls[k].shape != (stage.num_controls,):
                raise ValueError(
                    f"stage {k}: expected a control of shape {(stage.num_controls,)}, received {self.controls[k].shape}"
                )
            if gap.shape != expected:
                raise ValueError(f"stage {k}: expected a gap of shape {expected}, received {gap.shape}")

    @property
    def num_samples(self) -> int:
        return len(self.residual)

    @property
    def num_outputs(self) -> int:
        return int(self.residual.shape[1])

    @cached_property
    def num_controls(self) -> int:
        return sum(stage.num_controls for stage in self.stages)

    @property
    def ridge(self) -> float:
        """rho + mu, the weight of a control step."""
        return self.weight_decay + self.damping

    @cached_property
    def mean_controls(self) -> Arrays:
        """ubar_k = -rho u_k / (rho + mu): the control step that the regularisation alone would take."""
        return tuple(-(self.weight_decay / self.ridge) * u for u in self.controls)

    @property
    def slack_variance(self) -> tuple[float, ...]:
        """1/beta_k: the process noise of the Kalman view, zero for an eliminated state."""
        return tuple(1.0 / beta for beta in self.penalty)

    def check_finite(self) -> None:
        """Raise :class:`NonFiniteError`, naming the first stage whose data are not finite."""
        for k, (stage, gap) in enumerate(zip(self.stages, (*self.gaps, self.residual), strict=True)):
            data = {
                "df/dx": _probe(stage, lambda some, ones: some.transpose_state(ones)),
                "df/du": _probe(stage, lambda some, ones: some.transpose_control(ones)),
                "gap": gap,
                "control": self.controls[k],
            }
            for name, values in data.items():
                if not np.isfinite(values).all():
                    raise NonFiniteError(f"stage {k}: non-finite values in its {name}")

    def damped(self, damping: float) -> Subproblem:
        """The same subproblem with another Levenberg-Marquardt damping."""
        return replace(self, damping=damping)

    def value(self, du: Arrays, dx: Arrays) -> float:
        """The objective at a step, from its definition; terms with an infinite penalty are left out.

        ``dx`` holds dx_0..dx_{K-1}, as :class:`Step` does.
        """
        total = 0.0
        for u, d in zip(self.controls, du, strict=True):
            total += 0.5 * self.weight_decay * float((u + d) @ (u + d)) + 0.5 * self.damping * float(d @ d)
        for k, (stage, beta) in enumerate(zip(self.stages[:-1], self.penalty, strict=True)):
            if np.isfinite(beta):
                slack = stage.apply(dx[k], du[k]) - dx[k + 1] + self.gaps[k]
                total += 0.5 * beta * float(np.vdot(slack, slack))
        output = self.stages[-1].apply(dx[-1], du[-1]) + self.residual
        return total + 0.5 * float(np.vdot(output, output))


# Samples probed at a time, so that a check of large data needs little memory.
_PROBE_ROWS = 4096


def _probe(stage: LinearStage, product: Callable[[LinearStage, Array], Array]) -> Array:
    """The sum of a transposed product with ones over samples: not finite if an entry of the Jacobian is not."""
    total = np.zeros(1)
    with np.errstate(invalid="ignore", over="ignore"):
        for start in range(0, stage.num_samples, _PROBE_ROWS):
            some = stage.rows(slice(start, start + _PROBE_ROWS))
            total = total + product(some, np.ones((some.num_samples, some.num_outputs))).sum(axis=0)
    return total


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """The minimiser of a subproblem.

    Attributes
    ----------
    controls : tuple of K arrays
        du_k.
    states : tuple of K arrays
        dx_0..dx_{K-1}; dx_0 is zero.
    multipliers : tuple of K arrays
        eta_1..eta_K, (N, n_k): eta_{k+1} = beta_k (A_k dx_k + B_k du_k - dx_{k+1} + c_k) is the new estimate of
        lambda_{k+1}, and eta_K the predicted residual.
    form : str
        The form that computed it.
    reason : str
        Why that form, in a sentence.
    """

    controls: Arrays
    states: Arrays
    multipliers: Arrays
    form: str
    reason: str

    __repr__ = brief
