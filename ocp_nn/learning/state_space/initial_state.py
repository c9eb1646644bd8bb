"""The initial state of a new record from its first outputs, and from what the states of the training records were.

    min over x_0 of  1/2 sum_{t < w} ||(g(x_t, v_t) - y_t) / r||^2  +  1/2 (x_0 - mean)' S^{-1} (x_0 - mean)

along the simulation from x_0: the maximum a posteriori, with the mean and covariance S of the training states for a
prior and the deviations r of the training residuals for noise.  A few noisy outputs do not tell every direction of the
state, and least squares alone then takes any.  The sum has local minima (an output may not tell a speed from its
negative): so it is looked at from many of the training states, and Levenberg-Marquardt goes down from the best of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...base.floating import overflow_is_a_value
from ...network.levenberg_marquardt import minimise_squares
from ...network.state_space import StateSpaceModel

__all__ = ["InitialStates"]

Array = NDArray[np.float64]

# States that are tried, and minima that are looked for.
_TRIED, _MINIMA = 400, 4

# Smallest noise, as a share of an output's deviation: data without any would make the prior count for nothing.
_LEAST_NOISE = 1e-4

# Added to the covariance of the states, as a share of its mean variance: they may lie in a subspace.
_RIDGE = 1e-6


@dataclass(frozen=True, eq=False)
class InitialStates:
    """What is known about the states of a model, in standard units.

    Attributes
    ----------
    states : array, shape (K, n)
        Some of the training states.
    mean, root : arrays, shapes (n,) and (n, n)
        Of all of them: root' root is the inverse of the covariance.
    noise : array, shape (m,)
        Deviations of the residuals.
    """

    states: Array
    mean: Array
    root: Array
    noise: Array

    @classmethod
    def of(cls, states: Array, residuals: Array) -> InitialStates:
        """From states (T, n) and residuals (T, m) of the training records, those not measured NaN."""
        mean, n = states.mean(axis=0), states.shape[1]
        covariance = np.atleast_2d(np.cov(states.T, bias=True))
        level = float(np.trace(covariance)) / n
        covariance = covariance + (_RIDGE * level if level > 0 else 1.0) * np.eye(n)
        root = np.linalg.inv(np.linalg.cholesky(covariance))
        measured = np.isfinite(residuals)
        squares = np.sum(np.where(measured, residuals, 0.0) ** 2, axis=0) / np.maximum(measured.sum(axis=0), 1)
        chosen = np.linspace(0, len(states) - 1, min(_TRIED, len(states))).round().astype(int)
        return cls(states[chosen], mean, root, np.maximum(np.sqrt(squares), _LEAST_NOISE))

    @overflow_is_a_value
    def estimate(self, model: StateSpaceModel, theta: Array, v: Array, y: Array) -> Array:
        """x_0, (n,), from all rows of v (w, q) and y (w, m); the mean where no simulation is finite."""
        tried = np.concatenate([self.mean[None], self.states])
        values = self._values(model, theta, v, y, tried)
        order = np.argsort(values, kind="stable")[:_MINIMA]
        found = [self._minimum(model, theta, v, y, tried[i]) for i in order if np.isfinite(values[i])]
        return min(found, key=lambda entry: entry[1])[0] if found else self.mean

    def _values(self, model: StateSpaceModel, theta: Array, v: Array, y: Array, x: Array) -> Array:
        """The sum from every row of x, (K,)."""
        total = np.sum(((x - self.mean) @ self.root.T) ** 2, axis=1) / 2
        for inputs, outputs in zip(v, y, strict=True):
            x, simulated = model.values(theta, x, np.broadcast_to(inputs, (len(x), len(inputs))))
            measured = np.isfinite(outputs)
            total = total + np.sum((((simulated - outputs) / self.noise)[:, measured]) ** 2, axis=1) / 2
        return np.where(np.isfinite(total), total, np.inf)

    def _minimum(self, model: StateSpaceModel, theta: Array, v: Array, y: Array, guess: Array) -> tuple[Array, float]:
        measured, n = np.isfinite(y), model.num_states

        def residuals(x0: Array) -> tuple[Array, Array]:
            simulated, x = model.simulate(theta, v, x0)
            return np.where(measured, simulated - np.where(measured, y, 0.0), 0.0) / self.noise, x

        def value(x0: Array) -> float:
            r, _ = residuals(x0)
            return float(np.sum(r * r) + np.sum((self.root @ (x0 - self.mean)) ** 2)) / 2

        def normal_equations(x0: Array) -> tuple[Array, Array]:
            r, x = residuals(x0)
            a, _, c, _ = model.jacobians(theta, x[:-1], v)
            psi, rows = np.eye(n), np.empty_like(c)
            for t in range(len(v)):
                rows[t] = c[t] @ psi
                psi = a[t] @ psi
            rows = (np.where(measured, 1 / self.noise, 0.0)[:, :, None] * rows).reshape(-1, n)
            prior = self.root.T @ self.root
            return rows.T @ rows + prior, rows.T @ r.ravel() + prior @ (x0 - self.mean)

        return minimise_squares(value, normal_equations, guess, max_steps=30, tolerance=1e-9)
