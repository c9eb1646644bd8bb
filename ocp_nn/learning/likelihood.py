"""Losses as negative log likelihoods: what the posterior and the evidence need beside the curvature.

Classes and counts have theirs (:class:`.Logistic`, :class:`.Softmax`, :class:`.Poisson`): p(y | z) is exp(-phi(z, y)),
but for a factor of y alone, and nothing is unknown.  Squares and Huber's loss are meant up to a scale s,

    p(y | z) = exp(-phi(z - y)/s) / Z(s),       Z = (2 pi s)^(1/2)                                        squares
                                                Z = (2 pi s)^(1/2) erf(d / (2 s)^(1/2)) + 2 s/d exp(-d^2/(2 s))   Huber

for each output, with Huber's delta d (our integral).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ..problem.losses import Custom, Huber, Loss, Poisson, Squared

__all__ = ["constant", "has_scale", "likeliest_scale", "log_normaliser"]

Array = NDArray[np.float64]

# log(s) is looked for this far around that of the mean square.
_REACH = 12.0


def has_scale(loss: Loss) -> bool:
    """Whether a scale s is to be found."""
    return isinstance(loss, Squared | Huber)


def log_normaliser(loss: Loss, scale: float) -> float:
    """log Z(s) of one target; 0 for a loss without scale."""
    if not has_scale(loss):
        return 0.0
    normal = 0.5 * float(np.log(2 * np.pi * scale))
    if not isinstance(loss, Huber):
        return normal
    ends = loss.delta / np.sqrt(2 * scale)
    # the tails over the core, in units of (2 pi s)^(1/2)
    tails = np.exp(-(ends**2)) / (np.sqrt(np.pi) * ends)
    return normal + float(np.log(special.erf(ends) + tails))


def likeliest_scale(loss: Loss, total: float, count: float) -> float:
    """The s that maximises -count log Z(s) - total/s, ``total`` being a sum of losses; 1 for a loss without scale."""
    if not has_scale(loss):
        return 1.0
    squares = 2 * total / count
    if not isinstance(loss, Huber):
        return squares
    from scipy import optimize  # slow to import, and seldom needed

    def cost(logarithm: float) -> float:
        s = float(np.exp(logarithm))
        return count * log_normaliser(loss, s) + total / s

    middle = float(np.log(squares))
    found = optimize.minimize_scalar(cost, bounds=(middle - _REACH, middle + _REACH), method="bounded",
                                     options={"xatol": 1e-10})  # fmt: skip
    return float(np.exp(found.x))


def constant(loss: Loss, y: Array) -> Array:
    """log of the factor of y alone, (N,): zero but for counts, whose loss is half a deviance.

    Raises
    ------
    ValueError
        For a loss of one's own, whose likelihood is not known.
    """
    if isinstance(loss, Custom):
        raise ValueError(f"the loss {loss.name!r} is no likelihood that is known: it has no evidence")
    if not isinstance(loss, Poisson):
        return np.zeros(len(y))
    return np.asarray((special.xlogy(y, y) - y - special.gammaln(y + 1)).sum(axis=1))
