"""Has a fit that converged learned anything?  Held-out errors, and how many parameters the data decide.

Linearised at its weights, a network with weight decay rho is a ridge regression with the Jacobian J of all outputs in
all weights, (N m, P).  Its outputs depend on the targets through the hat matrix J (J'J + rho I)^-1 J', whose trace

    gamma = sum_j s_j^2 / (s_j^2 + rho),       s_j the singular values of J,

is the *effective number of parameters*: those that the data decide and not the weight decay (Moody 1992; MacKay 1992).
Where gamma comes close to the N m numbers it is fitted to, the network reproduces them, noise included, and its
training error says nothing.  (With weights or Huber's loss, J's rows are scaled by the root of the sample's curvature.)

Labels and counts are another matter: where a network reproduces them, the curvature of their loss vanishes, or gamma
has no number of targets to be held against.  There the training loss itself is asked, beside that of the best constant.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..problem.blas import limited_blas
from ..problem.losses import Logistic, Poisson, Softmax
from ..problem.training import TrainingProblem
from .jacobian import smaller_gram

__all__ = ["WORSE", "OverfittingWarning", "effective_parameters", "held_out_note", "interpolation_note"]

Array = NDArray[np.float64]

# Side of the largest matrix whose eigenvalues are asked for: about a second.
LARGEST = 1500

# A held-out error counts as worse where it exceeds the other by this factor: less is the luck of a split.
WORSE = 1.1

# Of the numbers fitted to: a network with that many effective parameters reproduces them.
INTERPOLATES = 0.9

# Of the best constant's loss: with less, labels have a probability of nearly one each, counts their own rate.
REPRODUCED = 1e-3


class OverfittingWarning(UserWarning):
    """The network reproduces its training targets, so nothing shows what it learned."""


def interpolation_note(problem: TrainingProblem, controls: Sequence[Array]) -> str:
    """A sentence where the effective parameters come close to the numbers fitted to, else an empty string.

    Where gamma is too expensive and there is no weight decay, the weights are counted instead.  For labels and counts:
    where the training loss is less than a thousandth of the best constant's.
    """
    if isinstance(problem.loss, Logistic | Softmax | Poisson):
        return _reproduction_note(problem, controls)
    numbers, weights = problem.y.size, problem.network.num_controls
    if weights < INTERPOLATES * numbers:
        return ""
    gamma = effective_parameters(problem, controls)
    if gamma is None:
        gamma = 0.0 if problem.weight_decay > 0 else min(numbers, weights)
    if gamma < INTERPOLATES * numbers:
        return ""
    return (
        f"The {numbers} training targets decide {gamma:.0f} of {weights} weights: the network reproduces the targets, "
        "noise included, and its training error says nothing."
    )


def _reproduction_note(problem: TrainingProblem, controls: Sequence[Array]) -> str:
    with np.errstate(over="ignore", invalid="ignore"):
        loss = problem.data.value(problem.network.predict(controls, problem.x))
    if not loss < REPRODUCED * problem.null_objective:
        return ""
    what = "counts" if isinstance(problem.loss, Poisson) else "labels"
    return (
        f"The training loss is {loss:.2g}, that of the best constant {problem.null_objective:.4g}: the network "
        f"reproduces the {what}, mistakes among them included, and its training loss says nothing."
    )


def held_out_note(
    network: float,
    linear: float,
    constant: float,
    *,
    measure: str = "RMSE",
    names: tuple[str, str] = ("linear regression", "the mean of the training targets"),
    worse: float = WORSE,
) -> str:
    """A sentence where a network's held-out error is worse than that of a simpler model, else an empty string.

    Parameters
    ----------
    network, linear, constant : float
        Held-out error of the network, of the linear model and of the best constant.
    measure : str
        What kind of error.
    names : tuple of str
        Of the linear model and of the constant.
    worse : float
        The network counts as worse than the linear model where its error is larger by this factor.
    """
    line, mean = names
    if not np.isfinite(network):
        return "The test error is not finite: the network cannot be used outside its training part."
    if network >= constant:
        return (
            f"On the test part the network is no better than {mean} ({measure} {network:.4g} "
            f"against {constant:.4g}; {line} has {linear:.4g})."
        )
    if network > worse * linear:
        return f"On the test part the network is worse than {line} ({measure} {network:.4g} against {linear:.4g})."
    return ""


def effective_parameters(problem: TrainingProblem, controls: Sequence[Array]) -> float | None:
    """gamma at these weights, from the eigenvalues of the smaller of J'J and J J'.

    Returns
    -------
    float or None
        None where both have more than 1500 rows, or values that are not finite.
    """
    size = min(problem.y.size, problem.network.num_controls)
    if size > LARGEST:
        return None
    with np.errstate(over="ignore", invalid="ignore"), limited_blas(problem):
        gram = smaller_gram(problem, controls)
        if not np.isfinite(gram).all():
            return None
        squares = np.linalg.eigvalsh(gram)
    squares[squares <= size * np.finfo(float).eps * squares.max()] = 0.0  # rounding, which no weight decay would hide
    return float(np.sum(squares[squares > 0] / (squares[squares > 0] + problem.weight_decay)))
