"""The two functions of a state-space model, written with a linear part and networks.

    x+ = A x + B v + b + W_L phi(... phi(W_1 [x; v] + b_1))        linear part and network (residual form)
    x+ = W_L phi(... phi(W_1 [x; v] + b_1)) + b_L                  network alone
    y  = C x + D v + d + the like of a second network              D and v only with feedthrough

All matrices lie in one vector theta, in the order of :attr:`Architecture.shapes`, each by columns as vec does it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ..base import checks
from .activations import ACTIVATIONS, activation
from .scaling import Scaler

__all__ = ["Architecture"]

Array = NDArray[np.float64]
Shape = tuple[int, int]

_KINDS = {
    "num_states": checks.WIDTH,
    "num_inputs": checks.integer(0),
    "num_outputs": checks.WIDTH,
    "hidden_layer_sizes": checks.WIDTHS,
    "activation": checks.one_of(ACTIVATIONS),
    "linear": checks.BOOLEAN,
    "feedthrough": checks.BOOLEAN,
    "output_layer_sizes": checks.WIDTHS,
}


@dataclass(frozen=True)
class Architecture:
    """Widths and form of a state-space model made of matrices; the attributes are those of ``StateSpaceModel``.

    Raises
    ------
    ValueError
        For widths that are no positive integers (``num_inputs`` may be zero), an unknown activation, or flags that are
        no booleans.
    """

    num_states: int
    num_inputs: int
    num_outputs: int
    hidden_layer_sizes: tuple[int, ...] = (8,)
    activation: str = "tanh"
    linear: bool = True
    feedthrough: bool = False
    output_layer_sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        checks.check_all(_KINDS, vars(self))
        for name in ("num_states", "num_inputs", "num_outputs"):
            object.__setattr__(self, name, int(getattr(self, name)))
        for name in ("linear", "feedthrough"):
            object.__setattr__(self, name, bool(getattr(self, name)))
        for name in ("hidden_layer_sizes", "output_layer_sizes"):
            object.__setattr__(self, name, tuple(map(int, getattr(self, name))))
        checks.check_weights(self._dynamics_sizes)
        checks.check_weights(self._output_sizes)

    def describe(self) -> dict[str, Any]:
        """In plain words and numbers, for files."""
        lists = {name: list(getattr(self, name)) for name in ("hidden_layer_sizes", "output_layer_sizes")}
        return {"kind": "networks", **asdict(self), **lists}

    @property
    def _dynamics_sizes(self) -> tuple[int, ...]:
        return (self.num_states + self.num_inputs, *self.hidden_layer_sizes, self.num_states)

    @property
    def _width_seen(self) -> int:
        """Numbers of x, and of v where the outputs see it."""
        return self.num_states + self.feedthrough * self.num_inputs

    @property
    def _output_sizes(self) -> tuple[int, ...]:
        return (self._width_seen, *self.output_layer_sizes, self.num_outputs)

    @property
    def has_linear_dynamics(self) -> bool:
        """Whether A, B and b are parts: the model can be set to any linear one."""
        return self.linear or not self.hidden_layer_sizes

    @property
    def has_linear_output(self) -> bool:
        """Whether C, D and d are parts."""
        return self.linear or not self.output_layer_sizes

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Rows and columns of every part of theta, in their order there."""
        n, q, m = self.num_states, self.num_inputs, self.num_outputs
        shapes: dict[str, Shape] = {}
        if self.has_linear_dynamics:
            shapes |= {"A": (n, n), "B": (n, q), "b": (n, 1)}
        if self.hidden_layer_sizes:
            shapes |= _weights("", self._dynamics_sizes, last_bias=not self.linear)
        if self.has_linear_output:
            shapes |= {"C": (m, n), "D": (m, self.feedthrough * q), "d": (m, 1)}
        if self.output_layer_sizes:
            shapes |= _weights("output_", self._output_sizes, last_bias=not self.linear)
        return {name: shape for name, shape in shapes.items() if 0 not in shape}

    @cached_property
    def parts(self) -> dict[str, slice]:
        """Where each part lies in theta."""
        ends = np.cumsum([0, *(rows * columns for rows, columns in self.shapes.values())]).tolist()
        return {name: slice(*ends) for name, ends in zip(self.shapes, pairwise(ends), strict=True)}

    @property
    def num_parameters(self) -> int:
        return sum(rows * columns for rows, columns in self.shapes.values())

    def split(self, theta: Any) -> dict[str, Any]:
        """The parts of theta as matrices, views: of a NumPy vector or a CasADi column."""
        if isinstance(theta, np.ndarray):
            return {name: theta[cut].reshape(self.shapes[name], order="F") for name, cut in self.parts.items()}
        return {name: ca.reshape(theta[cut], *self.shapes[name]) for name, cut in self.parts.items()}

    def initial_parameters(self, rng: np.random.Generator) -> Array:
        """W ~ N(0, 1) / sqrt(columns) for every matrix, and biases of zero."""
        theta = np.zeros(self.num_parameters)
        for name, cut in self.parts.items():
            rows, columns = self.shapes[name]
            if not name.rpartition("_")[2].startswith(("b", "d")):
                theta[cut] = rng.standard_normal(rows * columns) / np.sqrt(columns)
        return theta

    def in_units(self, theta: Array, inputs: Scaler, outputs: Scaler) -> Array:
        """The parameters for v and y as they are, from those for standardised ones; the states are the same."""
        scaled = theta.copy()
        parts = self.split(scaled)  # views
        layers = len(self.output_layer_sizes) + 1
        for name in ("C", "D", "d", f"output_W{layers}", f"output_b{layers}"):
            if name in parts:
                parts[name] *= outputs.scale[:, None]
        parts["d" if self.has_linear_output else f"output_b{layers}"] += outputs.mean[:, None]
        for matrix, offset in (("B", "b"), ("W1", "b1"), ("D", "d"), ("output_W1", "output_b1")):
            sees_inputs = matrix != "output_W1" or self.feedthrough
            if matrix in parts and self.num_inputs and sees_inputs:
                of_inputs = parts[matrix][:, -self.num_inputs :]
                of_inputs /= inputs.scale
                parts[offset] -= of_inputs @ inputs.mean[:, None]
        return scaled

    def functions(self) -> tuple[ca.Function, ca.Function]:
        """f(x, v, theta) and g(x, v, theta) in scalar operations."""
        x, v = ca.SX.sym("x", self.num_states), ca.SX.sym("v", self.num_inputs)
        theta = ca.SX.sym("theta", self.num_parameters)
        parts, phi = self.split(theta), activation(self.activation).symbolic
        x_next = _linear(parts, "ABb", x, v) + _network(parts, "", ca.vertcat(x, v), phi)
        seen = ca.vertcat(x, v) if self.feedthrough else x
        y = _linear(parts, "CDd", x, v) + _network(parts, "output_", seen, phi)
        names = ["x", "v", "theta"]
        return (
            ca.Function("dynamics", [x, v, theta], [ca.densify(x_next)], names, ["x_next"]),
            ca.Function("output", [x, v, theta], [ca.densify(y)], names, ["y"]),
        )


def _weights(prefix: str, sizes: Sequence[int], *, last_bias: bool) -> dict[str, Shape]:
    def shapes() -> Iterator[tuple[str, Shape]]:
        for i, (n_in, n_out) in enumerate(pairwise(sizes), start=1):
            yield f"{prefix}W{i}", (n_out, n_in)
            if last_bias or i < len(sizes) - 1:
                yield f"{prefix}b{i}", (n_out, 1)

    return dict(shapes())


def _linear(parts: Mapping[str, ca.SX], names: str, x: ca.SX, v: ca.SX) -> Any:
    """The affine part with its three matrices; those that are none count as zero."""
    matrix, of_inputs, offset = tuple(names)
    value = parts[matrix] @ x + parts[offset] if matrix in parts else 0
    return value + parts[of_inputs] @ v if of_inputs in parts else value


def _network(parts: Mapping[str, ca.SX], prefix: str, z: ca.SX, phi: Any) -> Any:
    layers = sum(name.startswith(f"{prefix}W") for name in parts)
    for i in range(1, layers + 1):
        z = parts[f"{prefix}W{i}"] @ z + parts.get(f"{prefix}b{i}", 0)
        z = phi(z) if i < layers else z
    return z if layers else 0
