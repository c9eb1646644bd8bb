"""Hidden states from the outputs themselves: each output and its smoothed derivatives, in turn, until there are n.

Derivatives at t are those of a polynomial fitted to the measurements around t (A. Savitzky, M. J. E. Golay, Analytical
Chemistry 36, 1964): a linear map of delayed outputs, as in F. Takens' theorem (Detecting strange attractors in
turbulence, 1981), with the noise averaged out.  Windows end where a record does, and missing outputs are left out.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.polynomial import legendre
from numpy.typing import NDArray

from ...network.records import Records

__all__ = ["delay_states", "window_sides"]

Array = NDArray[np.float64]

# Samples on either side of t that are tried.  Which are best depends on noise and sampling; leave-one-out errors of the
# fits choose too narrow ones: what counts is how well a model predicts from the states (Lorenz: 4, tanks: 8 and more).
_SIDES = (2, 4, 8)

# Keeps a fit with too few measurements solvable, as a share of one measurement.
_RIDGE = 1e-9


def _orders_and_degree(records: Records, num_states: int) -> tuple[int, int]:
    """Outputs and derivatives that are needed, and the degree of the polynomials that have them."""
    orders = -(-num_states // records.num_outputs)
    return orders, max(2, orders)


def window_sides(records: Records, num_states: int) -> list[int]:
    """Samples on either side of a window: those that fit into the records, one at least."""
    _, degree = _orders_and_degree(records, num_states)
    least = (degree + 1) // 2
    return [side for side in _SIDES if side > least and 2 * side + 1 <= min(records.lengths)] or [least]


def delay_states(records: Records, num_states: int, side: int) -> list[Array]:
    """States (T_i, n) of mean zero and variance one over all records, from windows of 2 side + 1 samples.

    With fewer states than outputs they are the leading principal components of the smoothed outputs.
    """
    orders, degree = _orders_and_degree(records, num_states)
    scaled = records.scaled(*records.scalers())
    states = [_derivatives(y, side, degree, orders) for y in scaled.outputs]
    together = _of_unit_variance(np.concatenate(states))
    together = together[:, :num_states] if orders > 1 else _principal_components(together, num_states)
    return np.split(together, np.cumsum(records.lengths)[:-1])


def _principal_components(table: Array, number: int) -> Array:
    """The leading ones, of unit variance; zero where the table has no more directions."""
    _, _, directions = np.linalg.svd(table, full_matrices=False)
    components = _of_unit_variance(table @ directions[:number].T)
    return np.pad(components, ((0, 0), (0, number - components.shape[1])))


def _of_unit_variance(states: Array) -> Array:
    spread = states.std(axis=0)
    return np.asarray((states - states.mean(axis=0)) / np.where(spread > 0, spread, 1.0))


def _derivatives(y: Array, side: int, degree: int, orders: int) -> Array:
    """All outputs, then all their first derivatives, and so on: (T, orders m), in units of the window."""
    columns = [_local_fits(of, side, degree, orders) for of in y.T]
    return np.stack(columns, axis=2).reshape(len(y), -1)


def _local_fits(y: Array, side: int, degree: int, orders: int) -> Array:
    """Derivatives (T, orders) of the local polynomials at their centres."""
    windows = sliding_window_view(np.pad(y, side, constant_values=np.nan), 2 * side + 1)
    measured = np.isfinite(windows)
    basis = legendre.legvander(np.arange(-side, side + 1) / side, degree)
    normal = np.einsum("ts,si,sj->tij", measured.astype(float), basis, basis, optimize=True)
    right = np.where(measured, windows, 0.0) @ basis
    coefficients = np.linalg.solve(normal + _RIDGE * np.eye(degree + 1), right[:, :, None])[:, :, 0]
    return np.asarray(coefficients @ _derivatives_at_zero(degree, orders).T)


def _derivatives_at_zero(degree: int, orders: int) -> Array:
    """The derivatives of each Legendre polynomial at zero, (orders, degree + 1)."""
    each = [[legendre.legval(0.0, legendre.legder(e, order)) for e in np.eye(degree + 1)] for order in range(orders)]
    return np.array(each, dtype=float)
