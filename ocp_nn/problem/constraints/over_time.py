"""Constraints of state-space models: what is known of a system beside its records.

The linearisation at the origin has A = df/dx, B = df/dv, C = dg/dx and D = dg/dv at x = 0, v = 0.

* *States within bounds* over the horizon.
* *Stable*: ||(A/r)^16||_F^(1/16) <= 1 bounds the spectral radius of A by r, because rho(A)^16 <= ||A^16||.  It is
  smooth, and the more powers, the less it asks beyond that (Gelfand's formula); with the root it grows like A.
* *Steady-state gain*: C (I - A)^-1 B + D is known.
"""

from __future__ import annotations

import casadi as ca
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...base import checks
from ...network.state_space import StateSpaceModel
from ..identification import IDENTIFICATION_PROBLEM, IdentificationProblem
from .output_constraint import OutputConstraint

__all__ = ["stable", "state_bounds", "steady_state_gain"]

Array = NDArray[np.float64]

# Squarings of A: the power is two to this.
_SQUARINGS = 4

# Keeps the root smooth where A vanishes.
_TINY = 1e-16

_RADIUS = checks.Kind("a number in (0, 1]", lambda value: checks.POSITIVE.accepts(value) and value <= 1)


def state_bounds(
    problem: IdentificationProblem, lower: ArrayLike = -np.inf, upper: ArrayLike = np.inf
) -> OutputConstraint:
    """l <= x_t <= u for every state of every step and record.

    Parameters
    ----------
    problem : IdentificationProblem
    lower, upper : array_like
        One or one a state.
    """
    checks.check("problem", problem, IDENTIFICATION_PROBLEM)
    model = problem.model
    x, u = ca.SX.sym("x", model.num_states), ca.SX.sym("u", model.num_parameters)
    return OutputConstraint(
        ca.Function("state", [x, u], [x]), lower, upper, stages=range(problem.num_stages), name="state bounds"
    )


def stable(problem: IdentificationProblem, radius: float = 1.0) -> OutputConstraint:
    """The linearisation at the origin has no eigenvalue beyond a radius <= 1.

    Raises
    ------
    ValueError
        For a radius outside (0, 1].
    """
    checks.check("problem", problem, IDENTIFICATION_PROBLEM)
    checks.check("radius", radius, _RADIUS)
    theta, (a, _, _, _) = _linearisation(problem.model)
    power = a / radius
    for _ in range(_SQUARINGS):
        power = power @ power
    root = (ca.sumsqr(power) + _TINY) ** (0.5 / 2**_SQUARINGS)
    return _of_parameters(problem, theta, root, upper=1.0, name="stable")


def steady_state_gain(problem: IdentificationProblem, gain: ArrayLike, *, tolerance: float = 0.0) -> OutputConstraint:
    """The linearisation at the origin has this gain from inputs to outputs, or one within a tolerance.

    Parameters
    ----------
    problem : IdentificationProblem
    gain : array_like (outputs, inputs)
    tolerance : float

    Raises
    ------
    ValueError
        For a gain of another shape, or a model without inputs.
    """
    checks.check("problem", problem, IDENTIFICATION_PROBLEM)
    checks.check("tolerance", tolerance, checks.NON_NEGATIVE)
    model = problem.model
    known = np.atleast_2d(checks.real_array("gain", gain))
    if not model.num_inputs or known.shape != (model.num_outputs, model.num_inputs):
        shape = model.num_outputs, model.num_inputs
        raise ValueError(f"gain must have shape {shape}, outputs and inputs, received {known.shape}")
    theta, (a, b, c, d) = _linearisation(model)
    found = c @ ca.solve(ca.MX.eye(model.num_states) - a, b) + d
    flat = known.ravel(order="F")
    return _of_parameters(problem, theta, ca.vec(found), flat - tolerance, flat + tolerance, name="steady-state gain")


def _linearisation(model: StateSpaceModel) -> tuple[ca.MX, tuple[ca.MX, ...]]:
    """theta, and A, B, C and D at the origin."""
    theta = ca.MX.sym("theta", model.num_parameters)
    x, v = ca.MX.sym("x", model.num_states), ca.MX.sym("v", model.num_inputs)
    zero = [ca.DM.zeros(model.num_states), theta, ca.DM.zeros(model.num_inputs)]
    matrices = []
    for function in (model.stage_function, model.output_function):
        value = function(x, theta, v)
        for inputs in (x, v):
            derivative = ca.Function("derivative", [x, theta, v], [ca.jacobian(value, inputs)])
            matrices.append(derivative(*zero))
    return theta, tuple(matrices)


def _of_parameters(
    problem: IdentificationProblem,
    theta: ca.MX,
    value: ca.MX,
    lower: ArrayLike = -np.inf,
    upper: ArrayLike = np.inf,
    *,
    name: str,
) -> OutputConstraint:
    """A constraint on parameters alone: asked for once."""
    x = ca.MX.sym("x", problem.model.num_states)
    function = ca.Function("c", [x, theta], [value])
    return OutputConstraint(function, lower, upper, stages=0, samples=[0], name=name)
