"""A linear state-space model in innovation form, and the states that it sees in records.

    x_{t+1} = A x_t + B v_t + b + K e_t,     y_t = C x_t + D v_t + d + e_t

Written with y in place of e it is a recursion that measurements drive, the observer

    x_{t+1} = (A - K C) x_t + ... + K y_t

and, where y was not measured, e = 0.  The initial state is the one of least squared innovations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import casadi as ca
import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from ...network.records import Records
from ...network.scaling import Scaler
from ...network.scan import Scan

__all__ = ["LinearModel"]

Array = NDArray[np.float64]

# An observer forgets: its eigenvalues stay below this, or its gain is computed anew.
_SLOWEST = 0.999


@dataclass(frozen=True, eq=False)
class LinearModel:
    """A (n, n), B (n, q), b (n,), C (m, n), D (m, q), d (m,) and the gain K (n, m)."""

    A: Array
    B: Array
    b: Array
    C: Array
    D: Array
    d: Array
    K: Array

    def observing(self) -> LinearModel:
        """The model with a gain that makes A - K C stable: its own, or that of a Kalman filter.

        Where there is none, because an unstable state is not seen, the gain is left as it is.
        """
        if np.abs(np.linalg.eigvals(self.A - self.K @ self.C)).max() < _SLOWEST:
            return self
        n, m = self.K.shape
        scale = np.mean(self.C**2) * n or 1.0
        try:
            p = scipy.linalg.solve_discrete_are(self.A.T, self.C.T, np.eye(n), scale * np.eye(m))
            gain = self.A @ p @ self.C.T @ np.linalg.inv(self.C @ p @ self.C.T + scale * np.eye(m))
        except (np.linalg.LinAlgError, ValueError):
            return self
        return replace(self, K=gain)

    def states(self, records: Records) -> list[Array]:
        """The observer's states (T_i, n) in every record."""
        return [self._record_states(v, y) for v, y in zip(records.inputs, records.outputs, strict=True)]

    def _record_states(self, v: Array, y: Array) -> Array:
        n, measured = len(self.A), np.isfinite(y)
        w = np.hstack([v, np.where(measured, y, 0.0), measured])
        run, none = Scan(self._observer()), np.empty(0)

        def along(x0: Array) -> tuple[Array, Array]:
            after, innovations = run(x0, w, none)
            return np.concatenate([x0[None], after[:-1]]), innovations.ravel()

        _, without = along(np.zeros(n))
        columns = np.stack([along(e)[1] - without for e in np.eye(n)], axis=1)
        finite = np.isfinite(columns).all() and np.isfinite(without).all()
        x0 = np.linalg.lstsq(columns, -without, rcond=None)[0] if finite else np.zeros(n)
        return along(np.asarray(x0, dtype=float))[0]

    def _observer(self) -> ca.Function:
        """(x, (v, y, measured), nothing) -> (x_next, e)."""
        n, q, m = len(self.A), self.B.shape[1], len(self.C)
        x, w = ca.SX.sym("x", n), ca.SX.sym("w", q + 2 * m)
        v, y, measured = w[:q], w[q : q + m], w[q + m :]
        e = measured * (y - ca.DM(self.C) @ x - ca.DM(self.D) @ v - ca.DM(self.d))
        after = ca.DM(self.A) @ x + ca.DM(self.B) @ v + ca.DM(self.b) + ca.DM(self.K) @ e
        return ca.Function("observer", [x, w, ca.SX(0, 1)], [ca.densify(after), ca.densify(e)])

    def in_units(self, inputs: Scaler, outputs: Scaler) -> LinearModel:
        """The same model of v and y, where this one is of (v - mean) / scale and (y - mean) / scale."""
        s = outputs.scale[:, None]
        b_of_v, d_of_v = self.B / inputs.scale, s * self.D / inputs.scale
        return LinearModel(
            A=self.A,
            B=b_of_v,
            b=self.b - b_of_v @ inputs.mean,
            C=s * self.C,
            D=d_of_v,
            d=outputs.scale * self.d + outputs.mean - d_of_v @ inputs.mean,
            K=self.K / outputs.scale,
        )

    def with_states(self, mean: Array, scale: Array) -> LinearModel:
        """The same model with the states (x - mean) / scale."""
        s = scale[:, None]
        return LinearModel(
            A=self.A * scale / s,
            B=self.B / s,
            b=(self.b + self.A @ mean - mean) / scale,
            C=self.C * scale,
            D=self.D,
            d=self.d + self.C @ mean,
            K=self.K / s,
        )

    def balanced_to(self, records: Records) -> tuple[LinearModel, list[Array]]:
        """The model whose states in the records have mean zero and variance one, and these states."""
        states = self.states(records)
        together = np.concatenate(states)
        scaler = Scaler.fit(together)
        return self.with_states(scaler.mean, scaler.scale), [(x - scaler.mean) / scaler.scale for x in states]
