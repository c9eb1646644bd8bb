"""What a model is judged by: the measure that fits its loss, from linear predictors and targets.

| loss              | measures                                                                    |
|-------------------|-----------------------------------------------------------------------------|
| squared           | root mean square error                                                      |
| huber             | mean absolute error; root mean square error                                 |
| logistic, softmax | log loss, -log of the probability of the true class; accuracy of the labels |
| poisson           | mean deviance, 2 (y log(y / rate) - y + rate)                               |

The first of each is what fits are compared by; it is better where it is smaller.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..problem.losses import Loss, loss_named

__all__ = ["MEASURES", "WORDS", "judge", "loss_of_link", "rmse"]

Array = NDArray[np.float64]

MEASURES: Mapping[str, tuple[str, ...]] = {
    "squared": ("rmse",),
    "huber": ("mean_absolute_error", "rmse"),
    "logistic": ("log_loss", "accuracy"),
    "softmax": ("log_loss", "accuracy"),
    "poisson": ("mean_deviance",),
}

WORDS: Mapping[str, str] = {
    "rmse": "RMSE",
    "mean_absolute_error": "mean absolute error",
    "log_loss": "log loss",
    "accuracy": "accuracy",
    "mean_deviance": "mean deviance",
}


def judge(loss: Loss, outputs: Array, y: Array) -> dict[str, float]:
    """The measures of a loss, by name.

    Parameters
    ----------
    loss : Loss
        Of a name in :data:`MEASURES`.
    outputs : array (N, m)
        Linear predictors (log odds, logarithms of rates); for squares and Huber's loss predictions in y's units.
    y : array (N, m)
        Targets, as the loss takes them.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return {name: _MEASURES[name](loss, outputs, y) for name in MEASURES[loss.name]}


def loss_of_link(link: str) -> Loss:
    """The loss that models of a link are judged by, where theirs is not known."""
    return loss_named({"identity": "squared", "log": "poisson"}.get(link, link))


def _mean_absolute_error(loss: Loss, outputs: Array, y: Array) -> float:
    return float(np.abs(outputs - y).mean())


def _log_loss(loss: Loss, outputs: Array, y: Array) -> float:
    return float(loss.values(outputs, y).mean())


def _accuracy(loss: Loss, outputs: Array, y: Array) -> float:
    if y.shape[1] > 1 and loss.name == "softmax":
        return float((outputs.argmax(axis=1) == y.argmax(axis=1)).mean())
    return float(((outputs > 0) == (y > 0)).mean())


def _mean_deviance(loss: Loss, outputs: Array, y: Array) -> float:
    return float(2.0 * loss.values(outputs, y).mean() / y.shape[1])


def rmse(predicted: Array, measured: Array) -> float:
    """Root mean square difference over all samples and outputs; infinite or NaN only where a difference is."""
    with np.errstate(over="ignore", invalid="ignore"):
        difference = predicted - measured
    largest = np.abs(difference).max()
    if not np.isfinite(largest):
        return float(largest)
    exponent = np.frexp(largest)[1]  # a power of two is exact: the squares of any differences can be summed
    return float(np.ldexp(np.sqrt(np.mean(np.ldexp(difference, -exponent) ** 2)), exponent))


_MEASURES = {
    "rmse": lambda _, outputs, y: rmse(outputs, y),
    "mean_absolute_error": _mean_absolute_error,
    "log_loss": _log_loss,
    "accuracy": _accuracy,
    "mean_deviance": _mean_deviance,
}
