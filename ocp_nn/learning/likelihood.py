"""Losses as negative log likelihoods: what the posterior and the evidence need beside the curvature.

Classes and counts have theirs (:class:`.Logistic`, :class:`.Softmax`, :class:`.Poisson`): p(y | z) is exp(-phi(z, y)),
but for a factor of y alone, and nothing is unknown.  Squares and Huber's loss are meant up to a scale s,

    p(y | z) = exp(-phi(z - y)/s) / Z(s),       Z = (2 pi s)^(1/2)                                        squares
                                                Z = (2 pi s)^(1/2) erf(d / (2 s)^(1/2)) + 2 s/d exp(-d^2/(2 s))   Huber

for each output, with Huber's delta d (our integral).  The evidence of n targets by Laplace's approximation at a
minimum, with the objective J* and the matrix H of generalised Gauss-Newton, under the prior N(0, s/rho I):

    log p(y) = -n log Z(s) - J*/s - 1/2 log det(H/rho) + what depends on y alone
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ..problem.losses import Custom, Huber, Loss, Poisson, Squared
from ..problem.training import TrainingProblem

__all__ = ["has_scale", "is_known", "laplace_evidence", "likeliest_scale", "log_normaliser"]

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


def is_known(loss: Loss) -> bool:
    """Whether the likelihood is known: not of a loss of one's own."""
    return not isinstance(loss, Custom)


def laplace_evidence(
    problem: TrainingProblem, objective: float, log_determinant: float, scale: float | None = None
) -> float:
    """log p(y), at the scale at which it is largest unless one is given; log_determinant is log det(H/rho).

    Raises
    ------
    ValueError
        For a loss of one's own, whose likelihood is not known.
    """
    loss, count = problem.loss, problem.y.size
    if not is_known(loss):
        raise ValueError(f"the loss {loss.name!r} is no likelihood that is known: it has no evidence")
    s = likeliest_scale(loss, objective, count) if scale is None else scale
    return -count * log_normaliser(loss, s) - objective / s - 0.5 * log_determinant + _of_targets(problem)


def _of_targets(problem: TrainingProblem) -> float:
    """The part of y alone: of counts, whose loss is half a deviance."""
    if not isinstance(problem.loss, Poisson):
        return 0.0
    y = problem.y
    values = (special.xlogy(y, y) - y - special.gammaln(y + 1)).sum(axis=1)
    return float(values.sum() if problem.sample_weight is None else problem.sample_weight @ values)
