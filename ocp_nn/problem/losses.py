"""Losses: convex functions of an output, each given by a root and a residual.

A loss phi(z, y) of one sample is, near any z, the square

    phi(z + dz) ~ phi(z) + 1/2 ||L' dz + r||^2 - 1/2 ||r||^2,      phi'(z) = L r  exactly,   phi''(z) = L L'  exactly,

so that generalised Gauss-Newton is Gauss-Newton on rows L' (A dx + B du) + r, and whatever serves sums of squares
serves every loss here (our derivation; for softmax the singular root below).  With p the probabilities:

| loss       | phi(z, y)                      | L                           | r             | best constant z   |
|------------|--------------------------------|-----------------------------|---------------|-------------------|
| `squared`  | 1/2 (z - y)^2                  | 1                           | z - y         | mean of y         |
| `huber`    | 1/2 e^2, or d |e| - d^2/2      | sqrt(min(1, d/|e|))         | L e           | a scalar equation |
| `logistic` | log(1 + exp(-s z)), s = 2y - 1 | sqrt(p (1 - p))             | (p - y)/L     | log odds          |
| `softmax`  | log sum exp(z) - z_y           | diag(s) - p s', s = sqrt(p) | (p - y)/s     | log frequencies   |
| `poisson`  | exp z - y - y (z - log y)      | exp(z/2)                    | (exp z - y)/L | log of the mean   |

For Huber the root is that of iteratively reweighted squares: L L' bounds phi'' from above, and the exact second
derivative, 1 or 0, is what Newton steps and IPOPT get.

**Saturation.**  Where a probability is within 1e-12 of zero (of zero or one) the root is kept above 1e-6: the gradient
L r stays exact, the curvature is off by 1e-12, and no residual exceeds 1e6, so that differences of their squares keep
their digits.  exp(z) overflows for z > 709: such a point has an infinite loss and is rejected like any other overflow.

Shapes: z and y are (N, m), values (N,), roots (N, m, q) or, where diagonal, (N, m).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import casadi as ca
import numpy as np
from numpy.typing import NDArray
from scipy import special

__all__ = ["LOSSES", "Custom", "Huber", "Logistic", "Loss", "Poisson", "Softmax", "Squared", "loss_named"]

Array = NDArray[np.float64]

# p and 1 - p as the roots see them, at least.
_LEAST_PROBABILITY = 1e-12

# Halves of an interval: what is left is rounding.
_BISECTIONS = 60


class Loss(Protocol):
    """A convex function of an output z, given the target y."""

    @property
    def name(self) -> str: ...
    @property
    def link(self) -> str: ...

    def check_targets(self, y: Array) -> None:
        """Raise ``ValueError`` for targets, (N, m), that this loss has no meaning for."""

    def values(self, z: Array, y: Array) -> Array:
        """phi of every sample, (N,)."""

    def gradient(self, z: Array, y: Array) -> Array:
        """phi'(z), (N, m)."""

    def root(self, z: Array, y: Array) -> Array | None:
        """L: (N, m) where it is diagonal, (N, m, m) otherwise, None for the identity."""

    def residual(self, z: Array, y: Array) -> Array:
        """r with L r = phi'(z), (N, m)."""

    def curvature(self, z: Array, y: Array) -> Array | None:
        """phi''(z), exact; shapes as those of the root."""

    def symbolic(self, z: Any, y: Any) -> Any:
        """phi of one sample as a CasADi expression in columns z and y."""

    def best_constant(self, y: Array, weights: Array) -> Array:
        """The z, (m,), that minimises the sum of phi over samples with these weights, (N,)."""


@dataclass(frozen=True)
class Squared:
    """phi = 1/2 ||z - y||^2."""

    name, link = "squared", "identity"

    def check_targets(self, y: Array) -> None:
        """Every real target will do."""

    def values(self, z: Array, y: Array) -> Array:
        return 0.5 * np.einsum("ij,ij->i", e := z - y, e)

    def gradient(self, z: Array, y: Array) -> Array:
        return z - y

    def root(self, z: Array, y: Array) -> None:
        return None

    def residual(self, z: Array, y: Array) -> Array:
        return z - y

    def curvature(self, z: Array, y: Array) -> None:
        return None

    def symbolic(self, z: Any, y: Any) -> Any:
        return ca.sumsqr(z - y) / 2

    def best_constant(self, y: Array, weights: Array) -> Array:
        return np.average(y, axis=0, weights=weights)


@dataclass(frozen=True)
class Huber:
    """phi = e^2/2 where |e| <= delta, delta |e| - delta^2/2 beyond, e = z - y (Huber 1964).

    Attributes
    ----------
    delta : float
        Where squares end, in the units of y; 1.345 is 95 % efficient for normal errors of variance one.

    Raises
    ------
    ValueError
        For a delta that is not a positive finite number.
    """

    delta: float = 1.345
    name, link = "huber", "identity"

    def __post_init__(self) -> None:
        if not 0 < self.delta < np.inf:
            raise ValueError(f"delta must be a positive finite number, received {self.delta!r}")

    def check_targets(self, y: Array) -> None:
        """Every real target will do."""

    def values(self, z: Array, y: Array) -> Array:
        return special.huber(self.delta, z - y).sum(axis=1)

    def gradient(self, z: Array, y: Array) -> Array:
        return np.clip(z - y, -self.delta, self.delta)

    def root(self, z: Array, y: Array) -> Array:
        return np.sqrt(self.delta / np.maximum(np.abs(z - y), self.delta))

    def residual(self, z: Array, y: Array) -> Array:
        return self.root(z, y) * (z - y)

    def curvature(self, z: Array, y: Array) -> Array:
        return np.where(np.abs(z - y) <= self.delta, 1.0, 0.0)

    def symbolic(self, z: Any, y: Any) -> Any:
        size = ca.fabs(z - y)
        return ca.sum1(ca.if_else(size <= self.delta, size**2 / 2, self.delta * size - self.delta**2 / 2))

    def best_constant(self, y: Array, weights: Array) -> Array:
        return _best_entries(self, y, weights)


@dataclass(frozen=True)
class Logistic:
    """phi = log(1 + exp(-(2y - 1) z)) for y in {0, 1}, every output by itself: -log of the probability of y."""

    name, link = "logistic", "logistic"

    def check_targets(self, y: Array) -> None:
        if not np.isin(y, (0.0, 1.0)).all():
            raise ValueError(f"logistic loss needs targets 0 and 1, received {_odd(y, np.isin(y, (0.0, 1.0)))}")

    def values(self, z: Array, y: Array) -> Array:
        return np.logaddexp(0.0, (1.0 - 2.0 * y) * z).sum(axis=1)

    def gradient(self, z: Array, y: Array) -> Array:
        sign = 1.0 - 2.0 * y
        return sign * special.expit(sign * z)  # p - y without cancellation

    def root(self, z: Array, y: Array) -> Array:
        return np.sqrt(np.maximum(special.expit(z) * special.expit(-z), _LEAST_PROBABILITY))

    def residual(self, z: Array, y: Array) -> Array:
        return self.gradient(z, y) / self.root(z, y)

    def curvature(self, z: Array, y: Array) -> Array:
        return special.expit(z) * special.expit(-z)

    def symbolic(self, z: Any, y: Any) -> Any:
        argument = (1 - 2 * y) * z
        # log(1 + e^a) = max(a, 0) + log(1 + e^-|a|)
        return ca.sum1(ca.fmax(argument, 0) + ca.log1p(ca.exp(-ca.fabs(argument))))

    def best_constant(self, y: Array, weights: Array) -> Array:
        return special.logit(np.average(y, axis=0, weights=weights))


@dataclass(frozen=True)
class Softmax:
    """phi = log sum_a exp(z_a) - <y, z> for y with one entry one and the others zero: cross-entropy with softmax."""

    name, link = "softmax", "softmax"

    def check_targets(self, y: Array) -> None:
        if y.shape[1] < 2:
            raise ValueError(f"softmax loss needs at least two outputs, received {y.shape[1]}: use logistic for one")
        fine = np.isin(y, (0.0, 1.0)) & (y.sum(axis=1, keepdims=True) == 1.0)
        if not fine.all():
            raise ValueError(
                f"softmax loss needs one 1 and else 0 in every row of its targets, received {_odd(y, fine)}"
            )

    def values(self, z: Array, y: Array) -> Array:
        # the largest z first: its own distance to itself is an exact zero
        return special.logsumexp(z, axis=1) - np.einsum("ij,ij->i", z, y)

    def gradient(self, z: Array, y: Array) -> Array:
        p = special.softmax(z, axis=1)
        others = (p * (1.0 - y)).sum(axis=1, keepdims=True)
        return np.where(y > 0, -others, p)  # p - y without cancellation

    def _roots(self, z: Array) -> Array:
        return np.sqrt(np.maximum(special.softmax(z, axis=1), _LEAST_PROBABILITY))

    def root(self, z: Array, y: Array) -> Array:
        s = self._roots(z)
        root = -(s * s)[:, :, None] * s[:, None, :]
        root[:, np.arange(z.shape[1]), np.arange(z.shape[1])] += s
        return root

    def residual(self, z: Array, y: Array) -> Array:
        return self.gradient(z, y) / self._roots(z)

    def curvature(self, z: Array, y: Array) -> Array:
        p = special.softmax(z, axis=1)
        curvature = -p[:, :, None] * p[:, None, :]
        curvature[:, np.arange(z.shape[1]), np.arange(z.shape[1])] = p * (1.0 - p)
        return curvature

    def symbolic(self, z: Any, y: Any) -> Any:
        return ca.logsumexp(z) - ca.dot(y, z)

    def best_constant(self, y: Array, weights: Array) -> Array:
        with np.errstate(divide="ignore"):
            logarithms = np.log(np.average(y, axis=0, weights=weights))
        finite = logarithms[np.isfinite(logarithms)]
        return logarithms - finite.mean()


@dataclass(frozen=True)
class Poisson:
    """phi = exp(z) - y - y (z - log y), counts y >= 0, every output by itself: half the deviance of the rate exp(z)."""

    name, link = "poisson", "log"

    def check_targets(self, y: Array) -> None:
        if not (y >= 0).all():
            raise ValueError(f"poisson loss needs targets >= 0, received {_odd(y, y >= 0)}")
        if not (y > 0).any(axis=0).all():
            raise ValueError(
                "poisson loss needs a positive target in every output: zeros alone have their best z at minus infinity"
            )

    def values(self, z: Array, y: Array) -> Array:
        return (np.exp(z) - y * z + (special.xlogy(y, y) - y)).sum(axis=1)

    def gradient(self, z: Array, y: Array) -> Array:
        return np.exp(z) - y

    def root(self, z: Array, y: Array) -> Array:
        return np.sqrt(np.maximum(np.exp(z), _LEAST_PROBABILITY))

    def residual(self, z: Array, y: Array) -> Array:
        return self.gradient(z, y) / self.root(z, y)

    def curvature(self, z: Array, y: Array) -> Array:
        return np.exp(z)

    def symbolic(self, z: Any, y: Any) -> Any:
        return ca.sum1(ca.exp(z) - y * z + (y * ca.log(ca.fmax(y, 1e-300)) - y))

    def best_constant(self, y: Array, weights: Array) -> Array:
        return np.log(np.average(y, axis=0, weights=weights))


@dataclass(frozen=True, eq=False)
class Custom:
    """A loss of one's own: a CasADi function phi(z, y) of one sample's columns, convex in z.

    Its root is that of the second derivative's eigenvalues, kept above 1e-12.

    Attributes
    ----------
    function : casadi.Function
        (m,), (m,) -> scalar.

    Raises
    ------
    ValueError
        If the function does not map two columns of one length to a scalar.
    """

    function: ca.Function
    link = "identity"

    def __post_init__(self) -> None:
        f = self.function
        if not isinstance(f, ca.Function):
            raise ValueError(f"a loss must be a casadi.Function phi(z, y), received {type(f).__name__}")
        shapes = [f.size_in(i) for i in range(f.n_in())], [f.size_out(i) for i in range(f.n_out())]
        if len(shapes[0]) != 2 or shapes[0][0] != shapes[0][1] or shapes[0][0][1] != 1 or shapes[1] != [(1, 1)]:
            raise ValueError(f"loss {f.name()!r} must map columns (z, y) of one length to a scalar, received {shapes}")

    def __reduce__(self) -> tuple[type[Custom], tuple[ca.Function]]:
        return Custom, (self.function,)

    @property
    def name(self) -> str:
        return str(self.function.name())

    @cached_property
    def _derivatives(self) -> ca.Function:
        z, y = (ca.MX.sym(name, self.function.numel_in(0)) for name in ("z", "y"))
        hessian, gradient = ca.hessian(self.function(z, y), z)
        return ca.Function("derivatives", [z, y], [self.function(z, y), ca.densify(gradient), ca.densify(hessian)])

    def _evaluated(self, z: Array, y: Array) -> list[Array]:
        """Values (N,), gradients (N, m) and second derivatives (N, m, m)."""
        samples, m = z.shape
        parts = self._derivatives.map(samples).call([ca.DM(z.T), ca.DM(y.T)])
        return [
            np.reshape(part.full(), shape, order="F").swapaxes(0, len(shape) - 1)
            for part, shape in zip(parts, ((samples,), (m, samples), (m, m, samples)), strict=True)
        ]

    def check_targets(self, y: Array) -> None:
        if y.shape[1] != self.function.numel_in(1):
            raise ValueError(f"loss {self.name!r} takes {self.function.numel_in(1)} targets, received {y.shape[1]}")

    def values(self, z: Array, y: Array) -> Array:
        return self._evaluated(z, y)[0]

    def gradient(self, z: Array, y: Array) -> Array:
        return self._evaluated(z, y)[1]

    def root(self, z: Array, y: Array) -> Array:
        eigenvalues, vectors = np.linalg.eigh(self.curvature(z, y))
        return vectors * np.sqrt(np.maximum(eigenvalues, _LEAST_PROBABILITY))[:, None, :]

    def residual(self, z: Array, y: Array) -> Array:
        return np.asarray(np.linalg.solve(self.root(z, y), self.gradient(z, y)[:, :, None])[:, :, 0], dtype=float)

    def curvature(self, z: Array, y: Array) -> Array:
        return self._evaluated(z, y)[2]

    def symbolic(self, z: Any, y: Any) -> Any:
        return self.function(z, y)

    def best_constant(self, y: Array, weights: Array) -> Array:
        from scipy import optimize  # slow to import, and seldom needed

        def total(z: Array) -> tuple[float, Array]:
            values, gradients, _ = self._evaluated(np.broadcast_to(z, y.shape), y)
            return float(weights @ values), weights @ gradients

        return np.asarray(optimize.minimize(total, np.zeros(y.shape[1]), jac=True, method="BFGS").x)


def _best_entries(loss: Loss, y: Array, weights: Array) -> Array:
    """The best constant, entry by entry: between the smallest and the largest target, by bisection of phi'."""
    low, high = y.min(axis=0), y.max(axis=0)
    for _ in range(_BISECTIONS):
        middle = low + (high - low) / 2
        rises = weights @ loss.gradient(np.broadcast_to(middle, y.shape), y) > 0
        low, high = np.where(rises, low, middle), np.where(rises, middle, high)
    return low + (high - low) / 2


def _odd(y: Array, fine: NDArray[np.bool_]) -> str:
    """The first target that is not fine, in words."""
    row, column = np.argwhere(~np.broadcast_to(fine, y.shape))[0]
    return f"{y[row, column]:g} in row {row}, column {column}"


LOSSES: dict[str, Callable[[], Loss]] = {loss.name: loss for loss in (Squared, Huber, Logistic, Softmax, Poisson)}


def loss_named(loss: str | Loss) -> Loss:
    """The loss of a name, or the loss itself.

    Raises
    ------
    ValueError
        For an unknown name.
    """
    if not isinstance(loss, str):
        return loss
    if loss not in LOSSES:
        raise ValueError(f"unknown loss {loss!r}: expected one of {', '.join(LOSSES)}")
    return LOSSES[loss]()
