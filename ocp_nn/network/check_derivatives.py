"""A derivative checker for any network, layer or user-defined stage.

For random directions v (in the state x, in the control u) the stage's sensitivities are held to what its values say:

    A v, B v     products df v, against finite differences of f
    A' w, B' w   <w, df v> against <A' w, v>: the adjoint is the transpose of the tangent
    curvature    products of the Hessian of <w, f> against finite differences of its gradient, and the second
                 derivative of f along (v, v) against those of the tangent

Differences are central, of two step sizes, extrapolated (Richardson); the gap between the two tells how far they can
be trusted, so a wrong derivative is told from a rough function.  Errors are relative to the size of the quantity
among all samples; every entry of the point is moved by a part of its own size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ..base import checks
from ..base.display import brief
from .layers import Dense, Layer, Symbolic
from .linear_stages import linearize_layer
from .network import Network

__all__ = ["DerivativeCheck", "DerivativeReport", "check_derivatives"]

Array = NDArray[np.float64]

# Relative step: the fourth-order differences below are then good to about 1e-10 for smooth functions of size one.
_STEP = 2e-3
# Entries smaller than this part of the largest are moved as if they were this large.
_SMALLEST = 1e-3


@dataclass(frozen=True, kw_only=True)
class DerivativeCheck:
    """One derivative of one layer.

    Attributes
    ----------
    layer : int
    name : str
        ``df/dx``, ``df/du``, their ``transpose``, the ``Hessian in x`` / ``in u``, or ``second derivative``.
    error : float
        Largest relative error over directions.
    noise : float
        How well the finite differences know the answer, relative.
    correct : bool
    """

    layer: int
    name: str
    error: float
    noise: float
    correct: bool


@dataclass(frozen=True, eq=False)
class DerivativeReport:
    """All checks; true where every derivative is right, printable as a table."""

    checks: tuple[DerivativeCheck, ...]

    __repr__ = brief

    @property
    def wrong(self) -> tuple[DerivativeCheck, ...]:
        return tuple(check for check in self.checks if not check.correct)

    def __bool__(self) -> bool:
        return not self.wrong

    def __str__(self) -> str:
        header = f"{'layer':>5}  {'derivative':<20}  {'error':>8}  {'noise':>8}"
        lines = [
            f"{c.layer:>5}  {c.name:<20}  {c.error:>8.1e}  {c.noise:>8.1e}  {'' if c.correct else 'WRONG'}".rstrip()
            for c in self.checks
        ]
        return "\n".join([header, *lines])


_NETWORK = checks.instance((Network, Dense, Symbolic, ca.Function), "an ocp_nn.Network, a layer or a casadi.Function")
_KINDS = {"tolerance": checks.POSITIVE, "directions": checks.integer(1), "seed": checks.SEED}


def check_derivatives(
    network: Network | Layer | ca.Function,
    x: Array | None = None,
    controls: Sequence[Array] | None = None,
    *,
    tolerance: float = 1e-6,
    directions: int = 3,
    seed: int = 0,
) -> DerivativeReport:
    """Hold the derivatives of every layer to finite differences.

    Parameters
    ----------
    network : Network, Dense, Symbolic or casadi.Function
        A single stage is a network of one layer.
    x : ndarray, shape (N, inputs), optional
        Where to look; five standard normal samples.
    controls : sequence of K arrays, optional
        Where to look; the network's standard weights, moved by 0.3 N(0, 1) so that no bias is zero.
    tolerance : float
        Largest relative error; ten times the differences' own noise is allowed where that is more.
    directions : int
        Random directions per derivative.
    seed : int

    Raises
    ------
    ValueError
        If ``x`` or ``controls`` do not fit, or a layer's values are not finite there.
    """
    checks.check("network", network, _NETWORK)
    given = {"tolerance": tolerance, "directions": directions, "seed": seed}
    checks.check_all(_KINDS, given)
    network = network if isinstance(network, Network) else Network([network])
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((5, network.num_inputs)) if x is None else checks.table("x", x, network.num_inputs)
    if controls is None:
        controls = [u + 0.3 * rng.standard_normal(u.shape) for u in network.init_controls(seed)]
    controls = network.check_controls(controls)
    found: list[DerivativeCheck] = []
    for k, (layer, u) in enumerate(zip(network.layers, network.of_layers(controls), strict=True)):
        measured: dict[str, list[tuple[float, float]]] = {}
        for _ in range(directions):
            for name, error, noise in _check_layer(k, layer, x, u, rng):
                measured.setdefault(name, []).append((error, noise))
        found += [_judge(k, name, values, tolerance) for name, values in measured.items()]
        x = layer.forward(x, u)
    return DerivativeReport(tuple(found))


def _judge(k: int, name: str, values: Sequence[tuple[float, float]], tolerance: float) -> DerivativeCheck:
    error, noise = (float(np.max(column)) for column in zip(*values, strict=True))
    # written so that NaN is wrong
    correct = all(e <= max(tolerance, min(10 * n, 1e-2)) for e, n in values)
    return DerivativeCheck(layer=k, name=name, error=error, noise=noise, correct=correct)


def _check_layer(k: int, layer: Layer, x: Array, u: Array, rng: np.random.Generator) -> list[tuple[str, float, float]]:
    """(name, error, noise) of every derivative in one direction each."""
    value = layer.forward(x, u)
    if not np.isfinite(value).all():
        raise ValueError(f"layer {k} is not finite at this point: its derivatives cannot be checked")
    stage = linearize_layer(layer, x, u, value)
    dx, du, w = (_direction(x, rng), _direction(u, rng), rng.standard_normal(value.shape))
    no_change = np.zeros_like(u)
    tangent_x, tangent_u = stage.apply(dx, no_change), stage.apply(None, du)

    def gradient(dx: Array | None, du: Array | None) -> Callable[[float], tuple[Array, Array]]:
        def along(t: float) -> tuple[Array, Array]:
            moved_x, moved_u = x if dx is None else x + t * dx, u if du is None else u + t * du
            moved = linearize_layer(layer, moved_x, moved_u, layer.forward(moved_x, moved_u))
            return moved.transpose_state(w), moved.transpose_control(w)

        return along

    def tangent(t: float) -> Array:
        moved = linearize_layer(layer, x + t * dx, u + t * du, layer.forward(x + t * dx, u + t * du))
        return moved.apply(dx, du)

    along_x, along_u = gradient(dx, None), gradient(None, du)
    hessian_x, hessian_u = stage.curvature_product(w, dx, no_change), stage.curvature_product(w, None, du)
    return [
        ("df/dx", *_compare(tangent_x, lambda t: layer.forward(x + t * dx, u))),
        ("df/du", *_compare(tangent_u, lambda t: layer.forward(x, u + t * du))),
        ("df/dx transpose", _relative(np.vdot(stage.transpose_state(w), dx), np.vdot(w, tangent_x)), 0.0),
        ("df/du transpose", _relative(np.vdot(stage.transpose_control(w), du), np.vdot(w, tangent_u)), 0.0),
        ("Hessian in x, x", *_compare(hessian_x[0], lambda t: along_x(t)[0])),
        ("Hessian in u, x", *_compare(hessian_x[1], lambda t: along_x(t)[1])),
        ("Hessian in x, u", *_compare(hessian_u[0], lambda t: along_u(t)[0])),
        ("Hessian in u, u", *_compare(hessian_u[1], lambda t: along_u(t)[1])),
        ("second derivative", *_compare(stage.second_derivative(dx, du), tangent)),
    ]


def _direction(point: Array, rng: np.random.Generator) -> Array:
    """Random, each entry of the size of the point's own: weights of 1e4 beside biases of 0.1 are moved alike."""
    size = np.abs(point)
    floor = _SMALLEST * float(size.max(initial=0.0))
    return rng.standard_normal(point.shape) * np.maximum(size, floor if floor > 0 else 1.0)


def _compare(claimed: Array, function: Callable[[float], Any]) -> tuple[float, float]:
    """Relative error of a directional derivative, and the relative uncertainty of the differences."""
    wide = (function(_STEP) - function(-_STEP)) / (2 * _STEP)
    narrow = (function(_STEP / 2) - function(-_STEP / 2)) / _STEP
    known = narrow + (narrow - wide) / 3
    size = max(float(np.abs(known).max(initial=0.0)), float(np.abs(claimed).max(initial=0.0)), 1e-8)
    return float(np.abs(claimed - known).max(initial=0.0)) / size, float(np.abs(known - narrow).max(initial=0.0)) / size


def _relative(a: Any, b: Any) -> float:
    return abs(float(a) - float(b)) / max(abs(float(a)), abs(float(b)), 1e-8)
