"""Stages x_{k+1} = f_k(x_k, u_k) for whole batches, rows being samples, all with the same control.

* :class:`Dense` knows that f(x, u) = phi(W x + b) (+ x): batches are one matrix product in NumPy, and the least-squares
  routines use the Kronecker structure of its control Jacobian B = diag(phi') (x) [x, 1].
* :class:`Symbolic` wraps any CasADi function: batches and sensitivities come from CasADi.
* :class:`Driven` is one that also has an exogenous input, together with that input.

**Layout.**  The control of a dense layer is ``u = vec([W b])``, columns stacked as in the vec operator.  In NumPy that
is ``u.reshape(n_in + 1, n_out)``, rows being inputs and the last row the bias, so that a batch of
pre-activations is ``X @ U[:-1] + U[-1]``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ..base import checks
from .activations import ACTIVATIONS, Activation, activation
from .batch import BatchEvaluator
from .stage_hessian import StageHessian

__all__ = ["Dense", "Driven", "Layer", "Symbolic", "described_layer", "init_layer"]

Array = NDArray[np.float64]

_DENSE = {
    "num_inputs": checks.WIDTH,
    "num_outputs": checks.WIDTH,
    "activation": checks.one_of(ACTIVATIONS),
    "residual": checks.BOOLEAN,
}


@dataclass(frozen=True, eq=False)
class Dense:
    """The layer f(x, u) = phi(W x + b), plus x itself when ``residual``.

    Raises
    ------
    ValueError
        For non-positive widths, an unknown activation, or a skip connection between different widths.
    """

    num_inputs: int
    num_outputs: int
    activation: str = "tanh"
    residual: bool = False
    phi: Activation = field(init=False, repr=False)
    function: ca.Function = field(init=False, repr=False)

    def __post_init__(self) -> None:
        checks.check_all(_DENSE, vars(self))
        for name, plain in (("num_inputs", int), ("num_outputs", int), ("residual", bool)):
            object.__setattr__(self, name, plain(getattr(self, name)))
        checks.check_weights([self.num_inputs, self.num_outputs])
        if self.residual and self.num_inputs != self.num_outputs:
            raise ValueError(
                f"a skip connection needs equal widths, got {self.num_inputs} -> {self.num_outputs}; "
                "use residual=False here"
            )
        object.__setattr__(self, "phi", activation(self.activation))
        object.__setattr__(self, "function", self._function())

    def __reduce__(self) -> tuple[type[Dense], tuple[int, int, str, bool]]:
        return Dense, (self.num_inputs, self.num_outputs, self.activation, self.residual)

    def describe(self) -> dict[str, Any]:
        """The layer in plain words and numbers, for files."""
        names = ("num_inputs", "num_outputs", "activation", "residual")
        return {"kind": "dense", **{name: getattr(self, name) for name in names}}

    @property
    def num_controls(self) -> int:
        return (self.num_inputs + 1) * self.num_outputs

    def _function(self) -> ca.Function:
        x = ca.SX.sym("x", self.num_inputs)
        u = ca.SX.sym("u", self.num_controls)
        weights = ca.reshape(u, self.num_outputs, self.num_inputs + 1)
        y = self.phi.symbolic(weights[:, :-1] @ x + weights[:, -1])
        return ca.Function("dense", [x, u], [x + y if self.residual else y], ["x", "u"], ["x_next"])

    def weights(self, u: Array) -> tuple[Array, Array]:
        """W of shape (num_outputs, num_inputs) and b of shape (num_outputs,), as views of the control ``u``."""
        table = u.reshape(self.num_inputs + 1, self.num_outputs)
        return table[:-1].T, table[-1]

    def forward(self, x: Array, u: Array) -> Array:
        """The stage for a batch: (N, num_inputs) -> (N, num_outputs)."""
        weight, bias = self.weights(u)
        a = x @ weight.T
        a += bias
        y = self.phi.value(a)
        return x + y if self.residual else y


@dataclass(frozen=True, eq=False)
class Symbolic:
    """Any CasADi stage ``function(x, u) -> x_next`` of column vectors, or ``function(x, u, v) -> x_next``.

    Sensitivities are CasADi's.  What evaluates batches is made when it is first used, and serves any number of threads.
    The exogenous input v, (N, num_exogenous), is the last argument wherever there is one; :class:`Driven` is such a
    stage with its input.

    Raises
    ------
    ValueError
        If the function does not map two or three column vectors to one.
    """

    function: ca.Function

    def __post_init__(self) -> None:
        f = self.function
        if not isinstance(f, ca.Function):
            raise ValueError(f"a stage must be a casadi.Function f(x, u), got {type(f).__name__}")
        shapes_in = [f.size_in(i) for i in range(f.n_in())]
        shapes_out = [f.size_out(i) for i in range(f.n_out())]
        columns = all(s[1] == 1 and s[0] >= 1 for s in shapes_in + shapes_out)
        if len(shapes_in) not in (2, 3) or len(shapes_out) != 1 or not columns:
            raise ValueError(
                f"stage {f.name()!r} must map column vectors (x, u), or (x, u, v) with an exogenous input v, to one "
                f"column vector, got {shapes_in} -> {shapes_out}"
            )

    def __reduce__(self) -> tuple[type[Symbolic], tuple[ca.Function]]:
        return Symbolic, (self.function,)  # without what evaluates batches

    def describe(self) -> dict[str, Any]:
        """The layer as text, for files: CasADi's own serialisation."""
        return {"kind": "symbolic", "function": self.function.serialize()}

    @property
    def num_inputs(self) -> int:
        return self.function.numel_in(0)

    @property
    def num_outputs(self) -> int:
        return self.function.numel_out(0)

    @property
    def num_controls(self) -> int:
        return self.function.numel_in(1)

    @property
    def num_exogenous(self) -> int:
        return self.function.numel_in(2) if self.function.n_in() == 3 else 0

    def _symbols(self) -> tuple[ca.MX, ca.MX, list[ca.MX], ca.MX]:
        x, u = ca.MX.sym("x", self.num_inputs), ca.MX.sym("u", self.num_controls)
        v = [ca.MX.sym("v", self.num_exogenous)] if self.num_exogenous else []
        return x, u, v, self.function(x, u, *v)

    @cached_property
    def _forward(self) -> BatchEvaluator:
        x, u, v, f = self._symbols()
        return BatchEvaluator(ca.Function("forward", [x, u, *v], [ca.densify(f)]), shared=[1])

    @cached_property
    def _jacobians(self) -> BatchEvaluator:
        x, u, v, f = self._symbols()
        outputs = [ca.densify(ca.jacobian(f, x)), ca.densify(ca.jacobian(f, u))]
        return BatchEvaluator(ca.Function("jacobians", [x, u, *v], outputs), shared=[1])

    @cached_property
    def _curvature(self) -> BatchEvaluator:
        x, u, v, f = self._symbols()
        multiplier, dx, du = ca.MX.sym("l", self.num_outputs), ca.MX.sym("dx", x.numel()), ca.MX.sym("du", u.numel())
        inner = ca.dot(multiplier, f)

        def product(gradient: ca.MX) -> ca.MX:
            return ca.densify(ca.jtimes(gradient, x, dx) + ca.jtimes(gradient, u, du))

        outputs = [product(ca.gradient(inner, x)), product(ca.gradient(inner, u))]
        return BatchEvaluator(ca.Function("curvature", [x, u, multiplier, dx, du, *v], outputs), shared=[1, 4])

    @cached_property
    def _hessian(self) -> StageHessian | None:
        return StageHessian.of(self.function)

    @cached_property
    def _second_derivative(self) -> BatchEvaluator:
        x, u, v, f = self._symbols()
        dx, du = ca.MX.sym("dx", x.numel()), ca.MX.sym("du", u.numel())

        def along(g: ca.MX) -> ca.MX:
            return ca.jtimes(g, x, dx) + ca.jtimes(g, u, du)

        outputs = [ca.densify(along(along(f)))]
        return BatchEvaluator(ca.Function("second_derivative", [x, u, dx, du, *v], outputs), shared=[1, 3])

    def forward(self, x: Array, u: Array, *v: Array) -> Array:
        """The stage for a batch: (N, num_inputs) -> (N, num_outputs)."""
        (f,) = self._forward(len(x), x, u, *v)
        return f

    def jacobians(self, x: Array, u: Array, *v: Array) -> tuple[Array, Array]:
        """A (N, num_outputs, num_inputs) and B (N, num_outputs, num_controls) at a batch of points."""
        a, b = self._jacobians(len(x), x, u, *v)
        columns_first = (len(x), -1, self.num_outputs)
        return a.reshape(columns_first).transpose(0, 2, 1), b.reshape(columns_first).transpose(0, 2, 1)

    def curvature_product(
        self, x: Array, u: Array, multiplier: Array, dx: Array, du: Array, *v: Array
    ) -> tuple[Array, Array]:
        """Products of the Hessian of sum_i <multiplier_i, f(x_i, u)> with (dx, du): shapes of x and of u."""
        hx, hu = self._curvature(len(x), x, u, multiplier, dx, du, *v)
        return hx, hu.sum(axis=0)

    def hessian(self, x: Array, u: Array, multiplier: Array, *v: Array) -> tuple[Array, Array, Array]:
        """Second derivatives of <multiplier_i, f(x_i, u)> in x (N, n, n), in x and u (N, n, P), in u summed (P, P)."""
        if self._hessian is not None:
            return self._hessian(x, u, multiplier, *v)
        (samples, n), controls = x.shape, len(u)
        xx, xu, uu = np.empty((samples, n, n)), np.empty((samples, n, controls)), np.empty((controls, controls))
        still, rest = np.zeros((samples, n)), np.zeros(controls)
        for j, unit in enumerate(np.eye(n)):
            xx[:, :, j], _ = self.curvature_product(x, u, multiplier, np.tile(unit, (samples, 1)), rest, *v)
        for j, unit in enumerate(np.eye(controls)):
            xu[:, :, j], uu[:, j] = self.curvature_product(x, u, multiplier, still, unit, *v)
        return xx, xu, uu

    def second_derivative(self, x: Array, u: Array, dx: Array, du: Array, *v: Array) -> Array:
        """d^2/dt^2 f(x + t dx, u + t du) at t = 0 for a batch: (N, num_outputs)."""
        (f,) = self._second_derivative(len(x), x, u, dx, du, *v)
        return f

    def rows(self, _: slice) -> Symbolic:
        """The stage for some of the samples: the same."""
        return self


@dataclass(frozen=True, eq=False)
class Driven:
    """A stage f(x, u, v) together with its exogenous input: a stage f(x, u) like any other, for these samples.

    Parameters
    ----------
    stage : Symbolic
        With an exogenous input; several inputs may share it, at the price of one.
    v : array_like, shape (N, num_exogenous)

    Raises
    ------
    ValueError
        If v does not have that shape or is not finite.
    """

    stage: Symbolic
    v: Array

    def __post_init__(self) -> None:
        object.__setattr__(self, "v", checks.table("v", self.v, self.stage.num_exogenous))

    def describe(self) -> dict[str, Any]:
        """The stage as text, for files, and its input."""
        return {**self.stage.describe(), "kind": "driven", "v": self.v}

    @property
    def function(self) -> ca.Function:
        return self.stage.function

    @property
    def num_inputs(self) -> int:
        return self.stage.num_inputs

    @property
    def num_outputs(self) -> int:
        return self.stage.num_outputs

    @property
    def num_controls(self) -> int:
        return self.stage.num_controls

    def forward(self, x: Array, u: Array) -> Array:
        """The stage for its samples: (N, num_inputs) -> (N, num_outputs)."""
        return self.stage.forward(x, u, self.v)

    def jacobians(self, x: Array, u: Array) -> tuple[Array, Array]:
        """A (N, num_outputs, num_inputs) and B (N, num_outputs, num_controls) at its samples."""
        return self.stage.jacobians(x, u, self.v)

    def curvature_product(self, x: Array, u: Array, multiplier: Array, dx: Array, du: Array) -> tuple[Array, Array]:
        """As for :class:`Symbolic`."""
        return self.stage.curvature_product(x, u, multiplier, dx, du, self.v)

    def hessian(self, x: Array, u: Array, multiplier: Array) -> tuple[Array, Array, Array]:
        """As for :class:`Symbolic`."""
        return self.stage.hessian(x, u, multiplier, self.v)

    def second_derivative(self, x: Array, u: Array, dx: Array, du: Array) -> Array:
        """As for :class:`Symbolic`."""
        return self.stage.second_derivative(x, u, dx, du, self.v)

    def rows(self, samples: slice) -> Driven:
        """The stage for some of the samples."""
        return Driven(self.stage, self.v[samples])


Layer = Dense | Symbolic | Driven


def described_layer(kind: str, **arguments: Any) -> Layer:
    """The layer that ``describe`` described."""
    if kind == "symbolic":
        return Symbolic(ca.Function.deserialize(arguments["function"]))
    if kind != "dense":
        raise ValueError(f"unknown kind of layer {kind!r}: expected 'dense' or 'symbolic'")
    return Dense(**arguments)


def init_layer(layer: Layer, rng: np.random.Generator) -> Array:
    """Standard weights: W ~ N(0, 1) / sqrt(n_in) and b = 0; 0.1 N(0, 1) for a symbolic stage."""
    if isinstance(layer, Dense):
        weight = rng.standard_normal((layer.num_inputs, layer.num_outputs)) / np.sqrt(layer.num_inputs)
        return np.vstack([weight, np.zeros(layer.num_outputs)]).ravel()
    return 0.1 * rng.standard_normal(layer.num_controls)
