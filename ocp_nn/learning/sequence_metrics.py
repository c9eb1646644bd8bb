"""What a simulation over time is judged by: fit, errors in the outputs' units, and what its residuals still hold.

With residuals e_t = y_t - yhat_t of N samples and their covariances R_e(k) = 1/N sum_t e_t e_{t+k}
(L. Ljung, System Identification: Theory for the User, 2nd ed., 1999, section 16.6):

* *fit in per cent*  100 (1 - ||y - yhat|| / ||y - mean(y)||), the normalised root mean square error turned round
  (section 16.4, and what the System Identification Toolbox shows);
* *whiteness*  for white residuals N / R_e(0)^2 sum_{k=1}^{M} R_e(k)^2 is chi^2 with M degrees of freedom (16.64), and
  each R_e(k) / R_e(0) is within N_alpha / sqrt(N) with probability alpha;
* *independence of the inputs*  sqrt(N) R_ev(k), R_ev(k) = 1/N sum_t e_{t+k} v_t, is normal with the variance
  sum_k R_e(k) R_v(k) (16.67) where the residuals do not depend on the inputs; lags k < 0 show feedback.

Simulation errors of a perfect model are as white as the measurement noise is, so where *that* is coloured the first
test may fail without any harm, and the second one must not.  A warm-up of w samples, in which the initial state was
estimated, is part of every figure: they are left out.  NaN outputs were not measured, and count nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from ..base import checks, display
from ..network.records import checked_inputs, checked_outputs
from .given_records import as_records

__all__ = ["ResidualTests", "fit_percent", "residual_tests", "sequence_r2", "sequence_rmse"]

Array = NDArray[np.float64]

# Lags that are tried on either side, as in Ljung's examples, but no more than a quarter of the samples.
LAGS = 25

# Fewer samples than this say nothing.
_LEAST = 8


def fit_percent(y: ArrayLike, simulated: ArrayLike, *, warm_up: int = 0) -> Array:
    """100 (1 - ||y - yhat|| / ||y - mean(y)||) of every output, (m,): 100 is perfect, 0 is the mean.

    Parameters
    ----------
    y : array, shape (T, m) or (T,)
        Measured; NaN where it was not.
    simulated : array, of the same shape
    warm_up : int
        First samples that are left out, fewer than T.

    Raises
    ------
    ValueError
        For shapes that differ, a warm-up that leaves nothing, or an output that is not measured after it.
    """
    y, simulated = _after(y, simulated, warm_up)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        share = np.sqrt(np.nansum((y - simulated) ** 2, axis=0)) / np.sqrt(np.nansum(_centred(y) ** 2, axis=0))
        return np.asarray(100.0 * (1.0 - np.where(np.isnan(share), 0.0, share)))


def sequence_rmse(y: ArrayLike, simulated: ArrayLike, *, warm_up: int = 0) -> Array:
    """Root mean square error of every output, (m,), in its own unit; arguments as of :func:`fit_percent`."""
    y, simulated = _after(y, simulated, warm_up)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(np.sqrt(np.nanmean((y - simulated) ** 2, axis=0)))


def sequence_r2(y: ArrayLike, simulated: ArrayLike, *, warm_up: int = 0) -> float:
    """R^2 = 1 - ||y - yhat||^2 / ||y - mean(y)||^2, the mean over the outputs; arguments as of :func:`fit_percent`."""
    share = 1.0 - fit_percent(y, simulated, warm_up=warm_up) / 100.0
    with np.errstate(over="ignore"):
        return float(np.mean(1.0 - share**2))


@dataclass(frozen=True, kw_only=True, eq=False)
class ResidualTests:
    """Correlations of residuals with themselves and with the inputs, their bands, and the whiteness statistic.

    Attributes
    ----------
    lags : array of int, shape (M + 1,)
        0..M.
    autocorrelation : array, shape (M + 1, m)
        R_e(k) / R_e(0) of every output.
    autocorrelation_band : array, shape (m,)
        What white residuals exceed, at any one lag, with probability 1 - level.
    statistic : array, shape (m,)
        N sum_{k=1}^{M} (R_e(k) / R_e(0))^2.
    threshold : float
        The quantile of chi^2 with M degrees of freedom.
    cross_lags : array of int, shape (2 M + 1,)
        -M..M.
    cross_correlation : array, shape (2 M + 1, q, m)
        R_ev(k) / sqrt(R_e(0) R_v(0)).
    cross_band : array, shape (q, m)
        Of any one lag.
    level : float
    """

    lags: NDArray[np.int64]
    autocorrelation: Array
    autocorrelation_band: Array
    statistic: Array
    threshold: float
    cross_lags: NDArray[np.int64]
    cross_correlation: Array
    cross_band: Array
    level: float

    __repr__ = display.brief

    @property
    def is_white(self) -> NDArray[np.bool_]:
        """Whether the whiteness test passes, (m,)."""
        return np.asarray(self.statistic <= self.threshold)

    @property
    def share_outside(self) -> Array:
        """Share of the lags 0..M at which an input's cross-correlation is outside its band, (q, m); 1 - level expected.

        Negative lags are left out: they show feedback, and no fault of the model.
        """
        causal = np.abs(self.cross_correlation[self.cross_lags >= 0])
        return np.asarray(np.mean(causal > self.cross_band, axis=0))


def residual_tests(
    residuals: ArrayLike | Sequence[ArrayLike],
    v: ArrayLike | Sequence[ArrayLike],
    *,
    warm_up: int = 0,
    lags: int = LAGS,
    level: float = 0.99,
) -> ResidualTests:
    """The tests of one record, or of several together.

    Parameters
    ----------
    residuals : array, shape (T, m) or (T,), or a list of them, one a record
        y - yhat, NaN where nothing was measured.  Sums of several run over all pairs of samples of one record.
    v : array, shape (T, q) or (T,), or a list of them
    warm_up : int
        First samples of a record that are left out.
    lags : int
        M, at most a quarter of the samples of the longest record: it is cut there.
    level : float
        Probability of the bands, in (0, 1).

    Raises
    ------
    ValueError
        For other shapes, no record of eight samples or more after the warm-up (shorter ones are left out), or numbers
        out of range.
    """
    checks.check("level", level, checks.SHARE)
    checks.check("lags", lags, checks.integer(1))
    checks.check("warm_up", warm_up, checks.integer(0))
    pairs = _records(residuals, v)
    usable = [(e[warm_up:], inputs[warm_up:]) for e, inputs in pairs if len(e) - warm_up >= _LEAST]
    if not usable:
        longest = max(len(e) for e, _ in pairs) - warm_up
        raise ValueError(f"residual tests need eight samples or more after the warm-up, received {max(longest, 0)}")
    most = min(lags, max(len(e) for e, _ in usable) // 4)
    ends = np.cumsum([len(e) for e, _ in usable])[:-1]
    e, inputs = (np.concatenate(some) for some in zip(*usable, strict=True))
    return _tested(np.split(_centred(e), ends), np.split(inputs - inputs.mean(axis=0), ends), most, level)


def _records(residuals: Any, v: Any) -> list[tuple[Array, Array]]:
    """Residuals and inputs of every record."""
    several = as_records("residuals", residuals)
    both = zip(several, as_records("v", v, len(several)), strict=True)
    pairs = [(checked_outputs("residuals", e), checked_inputs("v", inputs)) for e, inputs in both]
    for e, inputs in pairs:
        if len(e) != len(inputs):
            received = f"{len(e)} and {len(inputs)} samples"
            raise ValueError(f"residuals and v must be as long as each other, received {received}")
    widths = {(e.shape[1], inputs.shape[1]) for e, inputs in pairs}
    if len(widths) > 1:
        raise ValueError(f"records must have as many outputs and inputs as each other, received {sorted(widths)}")
    return pairs


def _tested(e: list[Array], v: list[Array], most: int, level: float) -> ResidualTests:
    number = np.maximum(sum(np.isfinite(some).sum(axis=0) for some in e), 1)
    e = [np.where(np.isfinite(some), some, 0.0) for some in e]
    own = np.stack([sum(np.sum(x[k:] * x[: len(x) - k], axis=0) for x in e) / number for k in range(most + 1)])
    correlation = own / _positive(own[0])
    samples = sum(map(len, v))
    inputs = np.stack([sum(np.sum(x[k:] * x[: len(x) - k], axis=0) for x in v) / samples for k in range(most + 1)])
    of_inputs = inputs / _positive(inputs[0])
    variance = 1.0 + 2.0 * np.einsum("kq,km->qm", of_inputs[1:], correlation[1:])
    quantile = float(special.ndtri(0.5 + level / 2))
    scale = np.sqrt(_positive(own[0])) * np.sqrt(_positive(inputs[0]))[:, None]
    both = list(zip(e, v, strict=True))
    cross = [sum(_cross(x, inputs, k) for x, inputs in both) / number for k in range(-most, most + 1)]
    return ResidualTests(
        lags=np.arange(most + 1),
        autocorrelation=correlation,
        autocorrelation_band=quantile / np.sqrt(number),
        statistic=number * np.sum(correlation[1:] ** 2, axis=0),
        threshold=float(special.chdtri(most, 1 - level)),
        cross_lags=np.arange(-most, most + 1),
        cross_correlation=np.stack(cross) / scale,
        cross_band=quantile * np.sqrt(np.maximum(variance, 0.0) / number),
        level=level,
    )


def _cross(e: Array, v: Array, k: int) -> Array:
    """sum_t v_t e_{t+k} of a record, (q, m)."""
    if abs(k) >= len(e):
        return np.zeros((v.shape[1], e.shape[1]))
    return np.asarray(v[: len(v) - k].T @ e[k:] if k >= 0 else v[-k:].T @ e[:k])


def _positive(variance: Array) -> Array:
    return np.where(variance > 0, variance, 1.0)


def _centred(y: Array) -> Array:
    measured = np.isfinite(y)
    mean = np.where(measured, y, 0.0).sum(axis=0) / np.maximum(measured.sum(axis=0), 1)
    return np.asarray(y - mean)


def _after(y: ArrayLike, simulated: ArrayLike, warm_up: int) -> tuple[Array, Array]:
    """Both tables (T - warm_up, m)."""
    measured, run = checked_outputs("y", y), np.asarray(simulated, dtype=float)
    run = run[:, None] if run.ndim == 1 else run
    if measured.shape != run.shape:
        raise ValueError(f"y and simulated must have one shape, received {measured.shape} and {run.shape}")
    checks.check("warm_up", warm_up, checks.integer(0, len(measured) - 1))
    measured, run = measured[warm_up:], run[warm_up:]
    if not np.isfinite(measured).any(axis=0).all():
        raise ValueError(f"every output must be measured after a warm-up of {warm_up} samples, received NaN everywhere")
    return measured, run
