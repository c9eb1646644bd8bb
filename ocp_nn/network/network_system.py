"""The two functions of a state-space model made of matrices and networks, for many points at once in NumPy.

CasADi's functions are the definition; these are their twins, products of matrices over all points, several times
faster where there are many.  Jacobians are written out: with a_l = W_l h_{l-1} + b_l, h_l = phi(a_l), and value a_L,

    G_L = I,    G_{l-1} = G_l W_l diag(phi'(a_{l-1})),    d value / d W_l = G_l (x) h_{l-1},    d value / d b_l = G_l.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .activations import activation
from .state_space_networks import Architecture
from .system import System

__all__ = ["NetworkSystem"]

Array = NDArray[np.float64]

# With fewer points a call of CasADi's machine is the shorter one (measured).
_FEW = 64


class NetworkSystem(System):
    """f and g of an architecture."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__(*architecture.functions())
        seen = self.num_states + architecture.feedthrough * self.num_inputs
        self._forms = (
            _Form(architecture, ("A", "B", "b"), "", self.num_states + self.num_inputs),
            _Form(architecture, ("C", "D", "d"), "output_", seen),
        )

    def values(self, x: Array, v: Array, theta: Array) -> tuple[Array, Array]:
        if len(x) < _FEW:
            return super().values(x, v, theta)
        z = np.hstack([x, v])
        x_next, y = (form.value(z, theta) for form in self._forms)
        return x_next, y

    def jacobians(self, x: Array, v: Array, theta: Array) -> tuple[Array, Array, Array, Array]:
        if len(x) < _FEW:
            return super().jacobians(x, v, theta)
        z = np.hstack([x, v])
        (a, b), (c, d) = (form.jacobians(z, theta) for form in self._forms)
        assert b is not None and d is not None
        return a, b, c, d

    def state_jacobians(self, x: Array, v: Array, theta: Array) -> tuple[Array, Array]:
        if len(x) < _FEW:
            return super().state_jacobians(x, v, theta)
        z = np.hstack([x, v])
        a, c = (form.jacobians(z, theta, states_only=True)[0] for form in self._forms)
        return a, c


@dataclass(frozen=True)
class _Form:
    """A linear part, with the names of its matrix of x, its matrix of v and its offset, and a network beside it.

    ``seen`` counts the columns of z = [x; v] that the network's first layer takes.
    """

    architecture: Architecture
    linear: tuple[str, str, str]
    prefix: str
    seen: int

    @property
    def _rows(self) -> int:
        form = self.architecture
        return form.num_outputs if self.prefix else form.num_states

    @property
    def _layers(self) -> int:
        return sum(name.startswith(f"{self.prefix}W") for name in self.architecture.shapes)

    def value(self, z: Array, theta: Array) -> Array:
        """(N, rows) at the rows of z (N, n + q)."""
        parts, n = self.architecture.split(theta), self.architecture.num_states
        matrix, of_inputs, offset = self.linear
        total = np.zeros((len(z), self._rows))
        if matrix in parts:
            total += z[:, :n] @ parts[matrix].T + parts[offset].T
        if of_inputs in parts:
            total += z[:, n:] @ parts[of_inputs].T
        if self._layers:
            hidden, last = self._hidden(z, parts), f"{self.prefix}W{self._layers}"
            total += hidden[-1] @ parts[last].T
            if (bias := f"{self.prefix}b{self._layers}") in parts:
                total += parts[bias].T
        return total

    def jacobians(self, z: Array, theta: Array, *, states_only: bool = False) -> tuple[Array, Array | None]:
        """d value / dx (N, rows, n) and d value / d theta (N, rows, P), or None for the latter."""
        form, parts = self.architecture, self.architecture.split(theta)
        n, rows = form.num_states, self._rows
        in_states = np.zeros((len(z), rows, n))
        in_theta = None if states_only else np.zeros((len(z), rows, form.num_parameters))
        matrix, of_inputs, offset = self.linear
        if matrix in parts:
            in_states += parts[matrix]
            self._write(in_theta, matrix, z[:, :n])
            self._write(in_theta, offset, None)
        if of_inputs in parts:
            self._write(in_theta, of_inputs, z[:, n:])
        if self._layers:
            in_states += self._back_propagated(z, parts, in_theta)[..., :n]
        return in_states, in_theta

    def _hidden(self, z: Array, parts: dict[str, Array]) -> list[Array]:
        """h_0 = z as far as it is seen, and the values of the hidden layers."""
        phi, hidden = activation(self.architecture.activation).value, [z[:, : self.seen]]
        for layer in range(1, self._layers):
            weights, bias = parts[f"{self.prefix}W{layer}"], parts[f"{self.prefix}b{layer}"]
            hidden.append(phi(hidden[-1] @ weights.T + bias.T))
        return hidden

    def _back_propagated(self, z: Array, parts: dict[str, Array], in_theta: Array | None) -> Array:
        """d network / dz (N, rows, seen); what concerns the weights is written into ``in_theta``."""
        slope, hidden, last = activation(self.architecture.activation).slope, self._hidden(z, parts), self._layers
        self._write(in_theta, f"{self.prefix}W{last}", hidden[-1])
        if (bias := f"{self.prefix}b{last}") in parts:
            self._write(in_theta, bias, None)
        gradient = np.broadcast_to(parts[f"{self.prefix}W{last}"], (len(z), self._rows, hidden[-1].shape[1]))
        for layer in range(last - 1, 0, -1):
            gradient = gradient * slope(hidden[layer])[:, None, :]
            name, before = f"{self.prefix}W{layer}", hidden[layer - 1]
            if in_theta is not None:
                into = in_theta[:, :, self.architecture.parts[name]].reshape(*gradient.shape[:2], before.shape[1], -1)
                np.multiply(gradient[:, :, None, :], before[:, None, :, None], out=into)
                in_theta[:, :, self.architecture.parts[f"{self.prefix}b{layer}"]] = gradient
            gradient = gradient @ parts[name]
        return gradient

    def _write(self, in_theta: Array | None, name: str, factors: Array | None) -> None:
        """d (M z) / dM for the matrix of a name: entry M_ij, stored by columns, moves row i by z_j; None is z = 1."""
        if in_theta is None:
            return
        cut, rows = self.architecture.parts[name], self._rows
        for i in range(rows):
            in_theta[:, i, cut.start + i : cut.stop : rows] = 1.0 if factors is None else factors
