"""A posterior without its training data, small enough to go along with a saved model.

With the singular value decomposition J = U S V' the inverse Hessian is the prior's less what the data have told,

    H^-1 = (I - V diag(s^2/(s^2 + rho)) V') / rho,

and directions of which they have told next to nothing are left out: what is kept is V, (P, k), with k a few times the
effective number of parameters sum s^2/(s^2 + rho).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from ..base import checks, display
from ..network.network import Network
from ..problem.training import TrainingProblem
from .jacobian import output_jacobian
from .posterior import Posterior

__all__ = ["CompactPosterior"]

Array = NDArray[np.float64]

# Directions whose share is less are left out: variances are right to this part of the prior's.
_LEAST_SHARE = 1e-9

# New samples whose Jacobians are there at once.
_CHUNK = 256

_PREFIX = "posterior_"


@dataclass(frozen=True, kw_only=True, eq=False)
class CompactPosterior:
    """Of a network trained by squares; in standard units, for new targets alone.

    Attributes
    ----------
    directions : array (P, k)
        V.
    shares : array (k,)
        s^2/(s^2 + rho).
    weight_decay : float
        rho.
    noise_variance : float
    noise_variances : array (m,)
    """

    directions: Array = field(repr=False)
    shares: Array = field(repr=False)
    weight_decay: float
    noise_variance: float
    noise_variances: Array

    __repr__ = display.brief

    @classmethod
    def of(cls, posterior: Posterior) -> CompactPosterior:
        """What of a posterior predictions need."""
        rho = posterior.problem.weight_decay
        squares, directions = posterior.told_directions()
        shares = squares / (squares + rho)
        kept = shares > _LEAST_SHARE
        return cls(
            directions=directions[:, kept],
            shares=shares[kept],
            weight_decay=rho,
            noise_variance=posterior.noise_variance,
            noise_variances=posterior.noise_variances,
        )

    def arrays(self) -> dict[str, Array]:
        """By names that go beside others in a file."""
        return {_PREFIX + name: np.asarray(value) for name, value in vars(self).items()}

    @classmethod
    def from_arrays(cls, content: Mapping[str, Any], network: Network) -> CompactPosterior | None:
        """What :meth:`arrays` wrote, or None where there is nothing.

        Raises
        ------
        ValueError
            For arrays that do not belong to the network.
        """
        names = list(cls.__dataclass_fields__)
        if not any(_PREFIX + name in content for name in names):
            return None
        values = {name: np.asarray(content[_PREFIX + name]) for name in names if _PREFIX + name in content}
        count = len(values.get("shares", ()))
        shapes = {
            "directions": (network.num_controls, count), "shares": (count,), "weight_decay": (), "noise_variance": (),
            "noise_variances": (network.num_outputs,),
        }  # fmt: skip
        found = {name: value.shape for name, value in values.items()}
        if found != shapes or not all(np.isfinite(value).all() for value in values.values()):
            raise ValueError(f"damaged posterior: expected finite arrays of shapes {shapes}, received {found}")
        return cls(
            directions=values["directions"],
            shares=values["shares"],
            weight_decay=float(values["weight_decay"]),
            noise_variance=float(values["noise_variance"]),
            noise_variances=values["noise_variances"],
        )

    def interval(
        self, network: Network, controls: Sequence[Array], x: ArrayLike, coverage: float = 0.9
    ) -> tuple[Array, Array]:
        """As :meth:`.Posterior.interval`, of the network with these controls."""
        checks.check("coverage", coverage, checks.SHARE)
        inputs = checks.table("x", x, network.num_inputs)
        mean = network.predict(controls, inputs)
        variances = np.empty_like(mean)
        for start in range(0, len(inputs), _CHUNK):
            rows = inputs[start : start + _CHUNK]
            problem = TrainingProblem(network, rows, np.zeros((len(rows), mean.shape[1])), self.weight_decay)
            j = output_jacobian(problem, controls)
            told = np.sum(self.shares * (j @ self.directions) ** 2, axis=1)
            of_function = self.noise_variance / self.weight_decay * np.maximum(np.sum(j * j, axis=1) - told, 0.0)
            variances[start : start + _CHUNK] = of_function.reshape(len(rows), -1) + self.noise_variances
        reach = float(special.ndtri(0.5 + coverage / 2)) * np.sqrt(variances)
        return mean - reach, mean + reach
