"""Stages linearised along a trajectory: the data of the least-squares subproblems.

At a point, stage k maps small changes as

    dx_{k+1}^i = A_k^i dx_k^i + B_k^i du_k,       A_k^i = df_k/dx,   B_k^i = df_k/du   at sample i.

A :class:`LinearStage` offers products with A, A', B, B' for all samples at once, and the Gram matrices that the
forms of forward dynamic programming need.  Two implementations:

* :class:`DenseStage`: for f = phi(W x + b) (+ x), with D = phi'(a), A^i = diag(D_i) W (+ I) and
  B^i = [x_i', 1] (x) diag(D_i) in the column-stacked order of u = vec([W b]).  Nothing of size N n' P is ever formed;
  the Kronecker structure turns B B' into entrywise products of small Gram matrices.
* :class:`GenericStage`: arrays A (N, n', n) and B (N, n', P), from CasADi, for any stage.

Downstream of this module there is no CasADi.  Shapes: N samples, n = width of x_k, n' = width of x_{k+1}, P = length
of u_k, m = number of outputs of the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..base.display import brief
from .layers import Dense, Driven, Layer, Symbolic

__all__ = ["STRIP", "DenseStage", "GenericStage", "LinearStage", "add_gram", "linearize_layer"]

Array = NDArray[np.float64]


class LinearStage(Protocol):
    """What least-squares routines may ask of a linearised stage."""

    @property
    def num_samples(self) -> int: ...
    @property
    def num_inputs(self) -> int: ...
    @property
    def num_outputs(self) -> int: ...
    @property
    def num_controls(self) -> int: ...

    @property
    def A(self) -> Array:
        """df/dx, (N, n', n)."""

    @property
    def B(self) -> Array:
        """df/du, (N, n', P)."""

    def apply(self, dx: Array | None, du: Array) -> Array:
        """A dx + B du, (N, n'); ``dx=None`` stands for zero."""

    def apply_state(self, dx: Array) -> Array:
        """A dx, (N, n')."""

    def transpose_state(self, eta: Array) -> Array:
        """A' eta: (N, n') -> (N, n)."""

    def transpose_control(self, eta: Array) -> Array:
        """B' eta, summed over samples: (N, n') -> (P,)."""

    def carry_output(self, psi: Array) -> Array:
        """Psi A, the output sensitivity one stage earlier: (N, m, n') -> (N, m, n)."""

    def write_control_rows(self, psi: Array, out: Array) -> None:
        """Write Psi B, rows of the Jacobian in this stage's control, (N, m, n') -> (N, m, P), into ``out``."""

    def add_output_gram(self, psi: Array, gram: Array) -> None:
        """Add (Psi B)(Psi B)' over all pairs of samples to the lower triangle of ``gram``, (N m, N m)."""

    def add_control_gram(self, covariance: Array) -> None:
        """Add B B' over all pairs of samples to ``covariance``, (N, n', N, n')."""

    def rows(self, samples: slice) -> LinearStage:
        """The same stage for some of the samples."""

    def curvature_product(self, multiplier: Array, dx: Array | None, du: Array) -> tuple[Array, Array]:
        """Hessian of sum_i <multiplier_i, f(x_i, u)> times (dx, du): (N, n) and (P,)."""

    def second_derivative(self, dx: Array | None, du: Array) -> Array:
        """d^2/dt^2 f(x + t dx, u + t du) at t = 0, (N, n'): how the stage bends along a step."""

    def squared_size(self, psi: Array) -> float:
        """The sum of the squared entries of Psi B over all samples."""


def linearize_layer(layer: Layer, x: Array, u: Array, output: Array) -> LinearStage:
    """The stage's derivatives at a batch of points; ``output`` is its value f(x, u) there."""
    if isinstance(layer, Dense):
        value = output - x if layer.residual else output
        return DenseStage(layer, x, u, value)
    return GenericStage(layer, x, u, *layer.jacobians(x, u))


# Rows of the output Gram matrix worked on at a time: the products of such a strip are as fast as those of whole
# matrices, their entrywise passes stay in cache, and little is wasted above the diagonal (measured).
STRIP = 128


def add_gram(gram: Array, rows: Array, inputs: Array | None = None) -> None:
    """Add R R' o (X X') to the lower triangle of ``gram``, R = ``rows`` (N, m, p), X = ``inputs`` (N, q) or ones."""
    samples, m, _ = rows.shape
    flat = np.ascontiguousarray(rows).reshape(samples * m, -1)
    for start in range(0, samples, STRIP):
        stop = min(start + STRIP, samples)
        strip = flat[start * m : stop * m] @ flat[: stop * m].T
        if inputs is not None and m == 1:
            strip *= inputs[start:stop] @ inputs[:stop].T
        elif inputs is not None:
            blocks = strip.reshape(stop - start, m, stop, m)
            blocks *= (inputs[start:stop] @ inputs[:stop].T)[:, None, :, None]
        gram[start * m : stop * m, : stop * m] += strip


@dataclass(frozen=True, eq=False)
class DenseStage:
    """A dense layer at a batch of points; ``value`` is phi(a), (N, n')."""

    layer: Dense
    x: Array
    u: Array
    value: Array

    __repr__ = brief

    @property
    def num_samples(self) -> int:
        return len(self.x)

    @property
    def num_inputs(self) -> int:
        return self.layer.num_inputs

    @property
    def num_outputs(self) -> int:
        return self.layer.num_outputs

    @property
    def num_controls(self) -> int:
        return self.layer.num_controls

    @cached_property
    def weight(self) -> Array:
        return self.layer.weights(self.u)[0]

    @cached_property
    def slope(self) -> Array:
        """D = phi'(a), (N, n')."""
        return self.layer.phi.slope(self.value)

    @property
    def A(self) -> Array:
        a: Array = self.slope[:, :, None] * self.weight
        return a + np.eye(self.num_inputs) if self.layer.residual else a

    @property
    def B(self) -> Array:
        identity = np.broadcast_to(np.eye(self.num_outputs), (self.num_samples, *[self.num_outputs] * 2))
        rows = np.empty((self.num_samples, self.num_outputs, self.num_controls))
        self.write_control_rows(identity, rows)
        return rows

    def _preactivation(self, dx: Array | None, du: Array) -> Array:
        """da = W dx + dW x + db."""
        table = du.reshape(self.num_inputs + 1, self.num_outputs)
        da = self.x @ table[:-1]
        da += table[-1]
        if dx is not None:
            da += dx @ self.weight.T
        return da

    def apply(self, dx: Array | None, du: Array) -> Array:
        da = self._preactivation(dx, du)
        da *= self.slope
        if dx is not None and self.layer.residual:
            da += dx
        return da

    def apply_state(self, dx: Array) -> Array:
        change: Array = self.slope * (dx @ self.weight.T)
        return change + dx if self.layer.residual else change

    def transpose_state(self, eta: Array) -> Array:
        back = (eta * self.slope) @ self.weight
        return back + eta if self.layer.residual else back

    def transpose_control(self, eta: Array) -> Array:
        return self._outer(self.x, eta * self.slope)

    @staticmethod
    def _outer(x: Array, g: Array) -> Array:
        """sum_i [x_i; 1] g_i', in the order of the control."""
        table = np.empty((x.shape[1] + 1, g.shape[1]))
        np.dot(x.T, g, out=table[:-1])
        np.add.reduce(g, axis=0, out=table[-1])
        return table.ravel()

    def carry_output(self, psi: Array) -> Array:
        samples, m, width = psi.shape
        back = self._scaled(psi).reshape(samples * m, width) @ self.weight  # one product, not one a sample
        return back.reshape(samples, m, -1) + psi if self.layer.residual else back.reshape(samples, m, -1)

    def _scaled(self, psi: Array) -> Array:
        """E = Psi diag(D)."""
        return psi if self.layer.activation == "identity" else psi * self.slope[:, None, :]

    def kronecker_factors(self, psi: Array) -> tuple[Array, Array]:
        """E = Psi diag(D), (N, m, n'), and z = [x, 1], (N, n + 1): a sample's rows Psi B are z' (x) E."""
        return self._scaled(psi), np.column_stack([self.x, np.ones(self.num_samples)])

    def write_control_rows(self, psi: Array, out: Array) -> None:
        e = self._scaled(psi)
        table = out.reshape(*e.shape[:2], self.num_inputs + 1, -1)  # splits the last axis: a view
        np.multiply(self.x[:, None, :, None], e[:, :, None, :], out=table[:, :, :-1])
        table[:, :, -1] = e

    def add_output_gram(self, psi: Array, gram: Array) -> None:
        # B B' is a Kronecker product, so (Psi B)(Psi B)' = (x x' + 1) o (E E'), entry by entry
        inputs = np.empty((self.num_samples, self.num_inputs + 1))
        inputs[:, :-1] = self.x
        inputs[:, -1] = 1.0
        add_gram(gram, self._scaled(psi), inputs)

    def add_control_gram(self, covariance: Array) -> None:
        # B_i B_j' = (x_i'x_j + 1) diag(D_i D_j): only equal units are coupled
        inputs = self.x @ self.x.T + 1.0
        for unit in range(self.num_outputs):
            d = self.slope[:, unit]
            covariance[:, unit, :, unit] += inputs * np.outer(d, d)

    def rows(self, samples: slice) -> DenseStage:
        some = DenseStage(self.layer, self.x[samples], self.u, self.value[samples])
        known = self.__dict__
        if "slope" in known:
            some.__dict__["slope"] = known["slope"][samples]
        if "weight" in known:
            some.__dict__["weight"] = known["weight"]
        return some

    def curvature_product(self, multiplier: Array, dx: Array | None, du: Array) -> tuple[Array, Array]:
        table = du.reshape(self.num_inputs + 1, self.num_outputs)
        backward = multiplier * self.slope
        change = multiplier * self.layer.phi.curvature(self.value) * self._preactivation(dx, du)
        hx = change @ self.weight + backward @ table[:-1].T
        hu = self._outer(self.x, change)
        if dx is not None:
            hu.reshape(table.shape)[:-1] += dx.T @ backward
        return hx, hu

    def second_derivative(self, dx: Array | None, du: Array) -> Array:
        # f'' = phi''(a) da^2 + phi'(a) d^2a with d^2a = 2 dW dx
        change = self._preactivation(dx, du)
        bent: Array = self.layer.phi.curvature(self.value) * change * change
        if dx is not None:
            table = du.reshape(self.num_inputs + 1, self.num_outputs)
            bent += 2.0 * self.slope * (dx @ table[:-1])
        return bent

    def squared_size(self, psi: Array) -> float:
        # row by row B B' is diag(D)^2 (|x|^2 + 1)
        rows = np.einsum("imj,imj->i", e := self._scaled(psi), e)
        return float(rows @ (1.0 + np.einsum("ij,ij->i", self.x, self.x)))


@dataclass(frozen=True, eq=False)
class GenericStage:
    """Any stage at a batch of points, by its Jacobians A (N, n', n) and B (N, n', P)."""

    layer: Symbolic | Driven
    x: Array
    u: Array
    A: Array
    B: Array

    __repr__ = brief

    @property
    def num_samples(self) -> int:
        return len(self.A)

    @property
    def num_inputs(self) -> int:
        return self.A.shape[2]

    @property
    def num_outputs(self) -> int:
        return self.A.shape[1]

    @property
    def num_controls(self) -> int:
        return self.B.shape[2]

    def apply(self, dx: Array | None, du: Array) -> Array:
        out: Array = self.B @ du
        return out if dx is None else out + self.apply_state(dx)

    def apply_state(self, dx: Array) -> Array:
        return np.asarray(np.einsum("iab,ib->ia", self.A, dx))

    def transpose_state(self, eta: Array) -> Array:
        back: Array = np.einsum("iab,ia->ib", self.A, eta)
        return back

    def transpose_control(self, eta: Array) -> Array:
        gradient: Array = np.einsum("iap,ia->p", self.B, eta)
        return gradient

    def carry_output(self, psi: Array) -> Array:
        return psi @ self.A

    def write_control_rows(self, psi: Array, out: Array) -> None:
        np.matmul(psi, self.B, out=out)

    def add_output_gram(self, psi: Array, gram: Array) -> None:
        add_gram(gram, psi @ self.B)

    def add_control_gram(self, covariance: Array) -> None:
        rows = self.B.reshape(-1, self.num_controls)
        covariance += (rows @ rows.T).reshape(covariance.shape)

    def rows(self, samples: slice) -> GenericStage:
        return GenericStage(self.layer.rows(samples), self.x[samples], self.u, self.A[samples], self.B[samples])

    def curvature_product(self, multiplier: Array, dx: Array | None, du: Array) -> tuple[Array, Array]:
        dx = np.zeros_like(self.x) if dx is None else dx
        return self.layer.curvature_product(self.x, self.u, multiplier, dx, du)

    def hessian(self, multiplier: Array) -> tuple[Array, Array, Array]:
        """Second derivatives of <multiplier_i, f(x_i, u)>: (N, n, n), (N, n, P), and summed over samples (P, P)."""
        return self.layer.hessian(self.x, self.u, multiplier)

    def second_derivative(self, dx: Array | None, du: Array) -> Array:
        dx = np.zeros_like(self.x) if dx is None else dx
        return self.layer.second_derivative(self.x, self.u, dx, du)

    def squared_size(self, psi: Array) -> float:
        rows = psi @ self.B
        return float(np.vdot(rows, rows))
