"""Second-order steps in the reduced space: conjugate gradients preconditioned by forward DP.

Gauss-Newton leaves the curvature of the stages out and closes the last digits slowly where residuals are large.  Where
every state is eliminated its step is refined here towards the minimiser of the exact model

    g's + 1/2 s'(H + mu I)s,          H the Hessian of the reduced objective J(u),

by conjugate gradients.  At a feasible point H is the Hessian of the Lagrangian on the tangent space of the dynamics, so
this serves every formulation.  Products come from one tangent and one adjoint sweep
(:func:`ocp_nn.problem.curvature.hessian_product`); the preconditioner is M = H_GN + mu I, whose factor forward DP has
anyway.

The first direction of the iteration is M^-1 (-g), the Levenberg-Marquardt step itself.  So there is no second
mechanism to keep steps short: the same mu, raised and lowered by the same gain ratio, bounds both.  Where the model has
negative curvature the iteration stops with what it has, in the first round with the Levenberg-Marquardt step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["RefinedStep", "refine_step"]

Array = NDArray[np.float64]
Operator = Callable[[Array], Array]


@dataclass(frozen=True, eq=False)
class RefinedStep:
    """A step.

    Attributes
    ----------
    step : array (P,)
    predicted : float
        The decrease of g's + 1/2 s'Hs along it; half of -g's where the model is not finite.
    products : int
        Hessian-vector products it took.
    met_negative : bool
        Whether negative curvature ended it.
    """

    step: Array
    predicted: float
    products: int
    met_negative: bool = False


# Loose at first, superlinear in the end, in the manner of Eisenstat and Walker (constants are our choice).
_LOOSEST, _FORCING = 0.5, 0.5


def refine_step(
    hessian: Operator,
    precondition: Operator,
    gradient: Array,
    first: Array,
    *,
    damping: float,
    accuracy: float | None = None,
    max_products: int = 50,
) -> RefinedStep:
    """Conjugate gradients on g's + 1/2 s'(H + mu I)s, stopped at negative curvature.

    Parameters
    ----------
    hessian, precondition : callable
        v -> H v and v -> M^-1 v, both (P,) -> (P,).
    gradient : array (P,)
    first : array (P,)
        M^-1 (-g), already known.
    damping : float
        mu.
    accuracy : float, optional
        Relative residual, in the norm of M^-1, at which to stop; the smaller of a half and sqrt(||g||) by default.
    max_products : int
        Conjugate-gradient iterations at most.
    """
    if accuracy is None:
        accuracy = min(_LOOSEST, float(np.linalg.norm(gradient)) ** _FORCING)
    # H s follows from the products that are made anyway
    step, curved_step, residual = np.zeros_like(gradient), np.zeros_like(gradient), gradient
    direction = first
    rz = start = -float(residual @ first)
    products, met_negative = 0, False
    while products < max_products and rz > accuracy**2 * start:
        products += 1
        curved = hessian(direction)
        curvature = float(direction @ curved) + damping * float(direction @ direction)
        if not curvature > 0:
            met_negative = True
            if products == 1:
                step, curved_step = direction, curved
            break
        length = rz / curvature
        step, curved_step = step + length * direction, curved_step + length * curved
        residual = residual + length * (curved + damping * direction)
        z = precondition(residual)
        previous, rz = rz, float(residual @ z)
        direction = (rz / previous) * direction - z
    predicted = -float(gradient @ step) - 0.5 * float(step @ curved_step)
    predicted = predicted if predicted > 0 else -0.5 * float(gradient @ step)
    return RefinedStep(step, predicted, products, met_negative)
