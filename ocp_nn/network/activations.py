"""Activation functions: one symbolic definition each, and the NumPy twin that evaluates whole batches.

The symbolic form is the definition: it is what the CasADi stages, both transcriptions and every solver
behind CasADi see.  Training evaluates thousands of batches, so each activation also carries a vectorised
NumPy form.  Slopes and curvatures are written **in terms of the value** ``y = phi(a)``: a linearisation
then costs no transcendental function at all.  The tests hold the two forms together to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import casadi as ca
import numpy as np
from numpy.typing import NDArray
from scipy import special

from ..base.checks import check, one_of

__all__ = ["ACTIVATIONS", "Activation", "activation"]

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Activation:
    """An elementwise function phi, its slope and its curvature.

    Attributes
    ----------
    name : str
        Key in :data:`ACTIVATIONS`.
    symbolic : callable
        phi on CasADi ``SX``/``MX``; the definition.
    value : callable
        phi on NumPy arrays, any shape.
    slope, curvature : callable
        phi' and phi'' as functions of the value ``y = phi(a)``.
    inverse : callable
        A right inverse of phi on its (clipped) range: used by layer-wise fits, never in training.
    """

    name: str
    symbolic: Callable[[Any], Any]
    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    curvature: Callable[[Array], Array]
    inverse: Callable[[Array], Array]

    def __reduce__(self) -> tuple[Callable[[str], Activation], tuple[str]]:
        # the functions are lambdas: a pickle holds the name
        return activation, (self.name,)


def _softplus_symbolic(a: Any) -> Any:
    # log(1 + e^a) without overflow; |a| by a branch, because the derivative CasADi takes of fabs at zero is zero
    size = ca.if_else(a > 0, a, -a)
    return ca.if_else(a > 0, a, 0) + ca.log1p(ca.exp(-size))


def _inverse_softplus(y: Array) -> Array:
    y = np.maximum(y, 1e-3)
    return y + np.log(-np.expm1(-y))


# How close to saturation an inverse may go: phi'(a) stays above about 2e-2 there, so that a layer
# fitted through the inverse still passes a signal (our choice).
_SATURATION = 1e-2

ACTIVATIONS: dict[str, Activation] = {
    a.name: a
    for a in (
        Activation(
            name="tanh",
            symbolic=ca.tanh,
            value=np.tanh,
            slope=lambda y: 1.0 - y * y,
            curvature=lambda y: -2.0 * y * (1.0 - y * y),
            inverse=lambda y: np.arctanh(np.clip(y, -1 + _SATURATION, 1 - _SATURATION)),
        ),
        Activation(
            name="sigmoid",
            symbolic=lambda a: 0.5 + 0.5 * ca.tanh(0.5 * a),
            value=special.expit,
            slope=lambda y: y * (1.0 - y),
            curvature=lambda y: y * (1.0 - y) * (1.0 - 2.0 * y),
            inverse=lambda y: special.logit(np.clip(y, _SATURATION, 1 - _SATURATION)),
        ),
        Activation(
            name="relu",
            symbolic=lambda a: ca.if_else(a > 0, a, 0),
            value=lambda a: np.maximum(a, 0.0),
            slope=lambda y: (y > 0).astype(float),
            curvature=np.zeros_like,
            inverse=lambda y: y,
        ),
        Activation(
            name="softplus",
            symbolic=_softplus_symbolic,
            value=lambda a: np.logaddexp(0.0, a),
            slope=lambda y: -np.expm1(-y),
            curvature=lambda y: -np.expm1(-y) * np.exp(-y),
            inverse=_inverse_softplus,
        ),
        Activation(
            name="identity",
            symbolic=lambda a: a,
            value=lambda a: a,
            slope=np.ones_like,
            curvature=np.zeros_like,
            inverse=lambda y: y,
        ),
    )
}


def activation(name: str) -> Activation:
    """Look an activation up by name.

    Raises
    ------
    ValueError
        For a name that is not in :data:`ACTIVATIONS`.
    """
    check("activation", name, one_of(ACTIVATIONS))
    return ACTIVATIONS[name]
