"""Linear state-space models from records by a predictor-based subspace method.

After A. Chiuso, The role of vector autoregressive modeling in predictor-based subspace identification, Automatica 43
(2007), whose estimates stay consistent where the inputs come from feedback, so that unstable systems are no exception:

1. A long autoregression y_t = Xi_1 z_{t-1} + .. + Xi_p z_{t-p} (+ D v_t) + d + e_t with z = (v, y), by least squares.
   In innovation form Xi_j = C (A - K C)^{j-1} (B - K D, K), up to a term that vanishes with p.
2. The Hankel matrix of the Xi maps the past of p samples to the predicted outputs of the next p; the leading n
   principal components of these predictions are the states x_t, a linear map of the past.
3. C, D, d and then A, B, b, K by least squares along these states.

Rows are windows of the records: several records add theirs, and windows with a missing output are left out.  Where too
few are whole, missing outputs are interpolated first.  Without inputs z = y.  The length p of the past, and a ridge in
the first step, are chosen among a few by the sum of squared innovations: predictions further ahead would choose a
stable model for an unstable system, since there they amplify the errors of the states.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ...base.floating import overflow_is_a_value
from ...network.records import Records
from .linear_model import LinearModel

__all__ = ["fit_linear_model"]

Array = NDArray[np.float64]

# Lengths of the past that are tried, beside the shortest one that can carry the states.
_PASTS = (5, 10, 20, 40)

# Windows for each number that is estimated from them; with fewer that are whole, missing outputs are interpolated.
_WINDOWS = 3

# Windows at most: evenly chosen, more of them change a start but little.
_MOST = 20_000

# Ridges of the autoregression that are tried, as shares of the variance: none for data without noise; where inputs are
# smooth and the past is long, its coefficients are noise without one.
_RIDGES = (0.0, 1e-4, 1e-2)

# Singular values below this share of the largest are rounding (of data without noise).
_ROUNDING = 1e-10


@overflow_is_a_value
def fit_linear_model(
    records: Records, num_states: int, *, feedthrough: bool = False
) -> tuple[LinearModel, list[Array]]:
    """A linear model of the records, its states of mean zero and variance one in them, and these states (T_i, n).

    Whether it is stable is for the records to say.
    """
    inputs, outputs = records.scalers()
    scaled = records.scaled(inputs, outputs)
    models = [
        _fitted(scaled, num_states, past, ridge, feedthrough).observing()
        for past in _pasts(scaled, num_states)
        for ridge in _RIDGES
    ]
    errors = [_innovations(model, scaled) for model in models]
    return models[int(np.argmin(errors))].in_units(inputs, outputs).balanced_to(records)


def _pasts(records: Records, num_states: int) -> list[int]:
    """Lengths p that the records are long enough for; the shortest in any case."""
    shortest = -(-num_states // records.num_outputs) + 1
    width = records.num_inputs + records.num_outputs

    def is_possible(past: int) -> bool:
        windows = sum(max(0, length - past - 1) for length in records.lengths)
        return windows >= _WINDOWS * (past * width + 1)

    longer = [past for past in _PASTS if past > shortest and is_possible(past)]
    return [min(shortest, max(records.lengths) - 1), *longer]


def _fitted(records: Records, num_states: int, past: int, ridge: float, feedthrough: bool) -> LinearModel:
    windows = _windows(records, past)
    z, v, y = windows[:, :past], windows[:, past:, : records.num_inputs], windows[:, past:, records.num_inputs :]
    # the latest sample first, as the coefficients are numbered
    before, after = _rows(z[:, ::-1]), _rows(np.concatenate([z[:, 1:], windows[:, past : past + 1]], axis=1)[:, ::-1])
    now = v[:, 0] if feedthrough else v[:, 0, :0]
    coefficients = _least_squares([before, now], y[:, 0], ridge)
    to_states = _principal_map(coefficients[: before.shape[1]].T, before, num_states, past)
    x, x_next = before @ to_states, after @ to_states
    c, d = np.split(_least_squares([x, now], y[:, 0]).T, [num_states + now.shape[1]], axis=1)
    e = y[:, 0] - x @ c[:, :num_states].T - now @ c[:, num_states:].T - d[:, 0]
    q = records.num_inputs
    a = _least_squares([x, v[:, 0], e], x_next).T
    big_d = c[:, num_states:] if feedthrough else np.zeros((len(c), q))
    return LinearModel(
        A=a[:, :num_states],
        B=a[:, num_states : num_states + q],
        b=a[:, -1],
        C=c[:, :num_states],
        D=big_d,
        d=d[:, 0],
        K=a[:, num_states + q : -1],
    )


def _rows(windows: Array) -> Array:
    return windows.reshape(len(windows), -1)


def _windows(records: Records, past: int) -> Array:
    """Windows (rows, past + 1, q + m) of z = (v, y), those without missing outputs where there are enough."""
    found, whole = [], []
    for v, y in zip(records.inputs, records.outputs, strict=True):
        if len(y) > past:
            z = np.hstack([v, interpolated(y)])
            found.append(sliding_window_view(z, past + 1, axis=0).transpose(0, 2, 1))
            missing = np.isnan(y).any(axis=1)
            whole.append(~sliding_window_view(missing, past + 1).any(axis=1))
    windows, is_whole = np.concatenate(found), np.concatenate(whole)
    if is_whole.sum() >= _WINDOWS * past * windows.shape[2]:
        windows = windows[is_whole]
    return windows[:: -(-len(windows) // _MOST)]


def interpolated(y: Array) -> Array:
    """Missing outputs on straight lines between the measured ones; an output never measured is zero."""
    filled, times = y.copy(), np.arange(len(y))
    for j in range(y.shape[1]):
        known = np.isfinite(y[:, j])
        filled[:, j] = np.interp(times, times[known], y[known, j]) if known.any() else 0.0
    return filled


def _least_squares(columns: list[Array], target: Array, ridge: float = 0.0) -> Array:
    """Coefficients of the columns, the constant last, of least norm; the ridge is a share of the number of rows."""
    table = np.hstack([*columns, np.ones((len(target), 1))])
    left, singular, right = np.linalg.svd(table, full_matrices=False)
    kept = singular > _ROUNDING * singular[0]
    factors = np.where(kept, singular, 0.0) / (np.where(kept, singular, 1.0) ** 2 + ridge * len(target))
    return np.asarray(right.T @ (factors[:, None] * (left.T @ target)))


def _principal_map(coefficients: Array, before: Array, num_states: int, past: int) -> Array:
    """The map from the past to n states, the principal components of the predicted outputs."""
    m, width = len(coefficients), coefficients.shape[1] // past
    hankel = np.zeros((past * m, past * width))
    for i in range(past):
        hankel[i * m : (i + 1) * m, : (past - i) * width] = coefficients[:, i * width :]
    _, singular, directions = np.linalg.svd(before @ hankel.T, full_matrices=False)
    kept = min(num_states, len(singular))
    floor = _ROUNDING * singular[0] if singular[0] > 0 else 1.0
    scale = np.sqrt(len(before)) / np.maximum(singular[:kept], floor)
    found = hankel.T @ directions[:kept].T * scale
    return np.pad(found, ((0, 0), (0, num_states - kept)))


def _innovations(model: LinearModel, records: Records) -> float:
    """Sum of the squared errors of the observer's predictions, one step ahead; infinite where it overflows."""
    total = 0.0
    for v, y, x in zip(records.inputs, records.outputs, model.states(records), strict=True):
        errors = y - x @ model.C.T - v @ model.D.T - model.d
        total += float(np.sum(errors[np.isfinite(y)] ** 2))
    return total if np.isfinite(total) else np.inf
