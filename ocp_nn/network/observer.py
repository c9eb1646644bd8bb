"""The state of a system from what was measured: an extended Kalman filter, and initial states by least squares.

**Filter.**  x_{t+1} = f(x_t, v_t) + w_t and y_t = g(x_t, v_t) + e_t with independent w and e of given standard
deviations.  Outputs are taken one by one, so that nothing but scalars is divided by and those not measured are left out
(B. D. O. Anderson, J. B. Moore, Optimal Filtering, 1979, sections 6.4 and 8.2):

    s = C_j P C_j' + r_j^2,   K = P C_j' / s,   x <- x + K (y_j - g_j - C_j (x - x_predicted)),   P <- P - K C_j P

**Initial state.**  min over x_0 of 1/2 sum_{t < w} ||y_t - g(x_t, v_t)||^2 along the simulation from x_0, by
Levenberg-Marquardt with the exact sensitivities C_t A_{t-1} .. A_0, on windows that double in length up to w: over a
long window an unstable system has many local minima, and the answer of the shorter one lies in the right one.
"""

from __future__ import annotations

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from .levenberg_marquardt import minimise_squares
from .scan import Scan
from .system import System

__all__ = ["ExtendedKalmanFilter", "carried_on", "fitted_initial_state"]

Array = NDArray[np.float64]


class ExtendedKalmanFilter:
    """The filter of a system; its recursion runs in CasADi."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._scan = Scan(_filter_step(system))

    def filtered(
        self, theta: Array, v: Array, y: Array, prior: tuple[Array, Array], noise: tuple[Array, Array]
    ) -> Array:
        """The state at every t from the measurements up to and including t, shape (T, n).

        ``prior`` holds mean and covariance of x_0, ``noise`` the standard deviations of w (n,) and of e (m,).
        """
        mean, covariance = prior
        start = np.concatenate([mean, covariance.ravel()])
        measured = np.isfinite(y)
        w = np.hstack([v, np.where(measured, y, 0.0), measured])
        variances = [deviation**2 for deviation in noise]
        _, states = self._scan(start, w, np.concatenate([theta, *variances]))
        return states


def _filter_step(system: System) -> ca.Function:
    """((x, P), (v, y, measured), (theta, q^2, r^2)) -> ((x, P) at t + 1, x at t given y_t)."""
    n, q, m, size = system.num_states, system.num_inputs, system.num_outputs, system.num_parameters
    x, v, theta = system.symbols()
    jacobian_f = ca.Function("a", [x, v, theta], [ca.jacobian(system.dynamics(x, v, theta), x)])
    jacobian_g = ca.Function("c", [x, v, theta], [ca.jacobian(system.output(x, v, theta), x)])
    symbol = type(x).sym
    state, w, parameters = symbol("state", n + n * n), symbol("w", q + 2 * m), symbol("p", size + n + m)
    x, v, y, measured = state[:n], w[:q], w[q : q + m], w[q + m :]
    covariance = ca.reshape(state[n:], n, n)
    theta, q2, r2 = parameters[:size], parameters[size : size + n], parameters[size + n :]
    slope, error = jacobian_g(x, v, theta), y - system.output(x, v, theta)
    change = symbol("none", n, 1) * 0
    for j in range(m):
        row = slope[j, :]
        column = covariance @ row.T
        gain = measured[j] * column / (row @ column + r2[j])
        change = change + gain * (error[j] - row @ change)
        covariance = covariance - gain @ column.T
    best = x + change
    a = jacobian_f(best, v, theta)
    predicted = a @ covariance @ a.T + ca.diag(q2)
    after = ca.vertcat(system.dynamics(best, v, theta), ca.reshape((predicted + predicted.T) / 2, n * n, 1))
    return ca.Function("filter", [state, w, parameters], [ca.densify(after), ca.densify(best)])


def carried_on(system: System, theta: Array, v: Array, x0: Array, x: Array, steps: int) -> Array:
    """y_t (T, m) from the states x (T, n) at t - steps, and from x0 in the first rows; infinite where it overflows."""
    first, _ = system.simulate(theta, v[:steps], x0)
    x = x[: max(0, len(v) - steps)]
    if not len(x):
        return first
    for k in range(steps):
        x, _ = system.values(x, v[k : k + len(x)], theta)
    _, y = system.values(x, v[steps:], theta)
    y[~np.isfinite(y).all(axis=1)] = np.inf
    return np.concatenate([first, y])


def fitted_initial_state(system: System, theta: Array, v: Array, y: Array, guess: Array) -> Array:
    """x_0 (n,) by least squares over all rows of v and y; ``guess`` itself, where no simulation from it is finite."""
    length = min(len(y), system.num_states + 1)
    x0 = guess
    while True:
        x0 = _fitted(system, theta, v[:length], y[:length], x0)
        if length == len(y):
            return x0
        length = min(len(y), 2 * length)


def _fitted(system: System, theta: Array, v: Array, y: Array, guess: Array) -> Array:
    measured = np.isfinite(y)

    def residuals(x0: Array) -> tuple[Array, Array]:
        predicted, x = system.simulate(theta, v, x0)
        return np.where(measured, predicted - np.where(measured, y, 0.0), 0.0), x

    def value(x0: Array) -> float:
        r, _ = residuals(x0)
        return float(np.sum(r * r)) / 2

    def normal_equations(x0: Array) -> tuple[Array, Array]:
        r, x = residuals(x0)
        a, _, c, _ = system.jacobians(x[:-1], v, theta)
        psi = np.eye(system.num_states)
        rows = np.empty_like(c)
        for t in range(len(v)):
            rows[t] = c[t] @ psi
            psi = a[t] @ psi
        rows = np.where(measured[:, :, None], rows, 0.0).reshape(-1, system.num_states)
        return rows.T @ rows, rows.T @ r.ravel()

    return minimise_squares(value, normal_equations, guess)[0]
