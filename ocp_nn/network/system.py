"""The two functions of a state-space model, x_{t+1} = f(x_t, v_t; theta) and y_t = g(x_t, v_t; theta), evaluated.

For many points at once, where the states are known; and one step after the other, where they are not.
"""

from __future__ import annotations

from functools import cached_property

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from .batch import BatchEvaluator
from .scan import Scan

__all__ = ["System"]

Array = NDArray[np.float64]


class System:
    """f(x, v, theta) and g(x, v, theta), columns all, of fitting widths; arrays are not checked here."""

    def __init__(self, dynamics: ca.Function, output: ca.Function) -> None:
        self.dynamics, self.output = dynamics, output
        self.num_states, self.num_inputs, self.num_parameters = (dynamics.numel_in(i) for i in range(3))
        self.num_outputs = output.numel_out(0)

    def symbols(self) -> tuple[ca.SX | ca.MX, ca.SX | ca.MX, ca.SX | ca.MX]:
        """x, v and theta: scalar symbols, where both functions are made of scalar operations."""
        scalar = self.dynamics.is_a("SXFunction") and self.output.is_a("SXFunction")
        symbol = ca.SX.sym if scalar else ca.MX.sym
        widths = {"x": self.num_states, "v": self.num_inputs, "theta": self.num_parameters}
        x, v, theta = (symbol(name, width) for name, width in widths.items())
        return x, v, theta

    @cached_property
    def _values(self) -> BatchEvaluator:
        x, v, theta = self.symbols()
        both = [self.dynamics(x, v, theta), self.output(x, v, theta)]
        return BatchEvaluator(ca.Function("values", [x, v, theta], both), shared=[2])

    @cached_property
    def _jacobians(self) -> BatchEvaluator:
        x, v, theta = self.symbols()
        values = self.dynamics(x, v, theta), self.output(x, v, theta)
        jacobians = [ca.densify(ca.jacobian(value, z)) for value in values for z in (x, theta)]
        return BatchEvaluator(ca.Function("jacobians", [x, v, theta], jacobians), shared=[2])

    @cached_property
    def _curvatures(self) -> BatchEvaluator:
        x, v, theta = self.symbols()
        costate, slope = type(x).sym("costate", self.num_states), type(x).sym("slope", self.num_outputs)
        value = ca.dot(costate, self.dynamics(x, v, theta)) + ca.dot(slope, self.output(x, v, theta))
        hessian = ca.densify(ca.hessian(value, ca.vertcat(x, theta))[0])
        return BatchEvaluator(ca.Function("curvatures", [x, v, theta, costate, slope], [hessian]), shared=[2])

    @cached_property
    def _scan(self) -> Scan:
        x, v, theta = self.symbols()
        both = [self.dynamics(x, v, theta), self.output(x, v, theta)]
        return Scan(ca.Function("step", [x, v, theta], both))

    @cached_property
    def _slack_scan(self) -> Scan:
        x, v, theta = self.symbols()
        e = type(x).sym("e", self.num_states)
        step = ca.Function("step", [x, ca.vertcat(v, e), theta], [self.dynamics(x, v, theta) - e])
        return Scan(step)

    def roll(self, theta: Array, v: Array, x0: Array, slacks: Array) -> Array:
        """x_0..x_T with x_{t+1} = f(x_t, v_t; theta) - e_t, (T + 1, n); what overflows is infinite or NaN."""
        (after,) = self._slack_scan(x0, np.hstack([v, slacks]), theta)
        return np.concatenate([x0[None], after])

    def values(self, x: Array, v: Array, theta: Array) -> tuple[Array, Array]:
        """f (N, n) and g (N, m) at the rows of x (N, n) and v (N, q)."""
        x_next, y = self._values(len(x), x, v, theta)
        return x_next, y

    def jacobians(self, x: Array, v: Array, theta: Array) -> tuple[Array, Array, Array, Array]:
        """df/dx (N, n, n), df/dtheta (N, n, P), dg/dx (N, m, n) and dg/dtheta (N, m, P) at the rows of x and v."""
        rows = (self.num_states, self.num_states, self.num_outputs, self.num_outputs)
        flat = self._jacobians(len(x), x, v, theta)
        # CasADi's columns come first
        a, b, c, d = (j.reshape(len(x), -1, r).transpose(0, 2, 1) for j, r in zip(flat, rows, strict=True))
        return a, b, c, d

    def state_jacobians(self, x: Array, v: Array, theta: Array) -> tuple[Array, Array]:
        """df/dx (N, n, n) and dg/dx (N, m, n) alone."""
        a, _, c, _ = self.jacobians(x, v, theta)
        return a, c

    def curvatures(self, x: Array, v: Array, theta: Array, costates: Array, slopes: Array) -> Array:
        """Hessians of <costate, f> + <slope, g> in (x, theta), (N, n + P, n + P), at the rows of all but theta."""
        width = self.num_states + self.num_parameters
        return self._curvatures(len(x), x, v, theta, costates, slopes)[0].reshape(-1, width, width)

    def simulate(self, theta: Array, v: Array, x0: Array) -> tuple[Array, Array]:
        """y (T, m) and x (T + 1, n) from x0 on; from the step on that overflowed, everything is infinite."""
        after, y = self._scan(x0, v, theta)
        x = np.concatenate([x0[None], after])
        for values in (x, y):
            lost = ~np.isfinite(values).all(axis=1)
            if lost.any():
                values[int(np.argmax(lost)) :] = np.inf
        return y, x
