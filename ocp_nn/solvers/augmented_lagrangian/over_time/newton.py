"""Newton steps on the simulation error: single shooting with its exact Hessian.

With z = (theta, x_0), sensitivities W_t = dx_t/dz and rows R_t = sqrt(w) (C_t W_t + D_t dtheta/dz),

    H = sum_t R_t' R_t  +  sum_t [W_t; dtheta/dz]' M_t [W_t; dtheta/dz]  +  weight decay and prior,

where M_t is the Hessian of <lambda_{t+1}, f> + <w (g - y), g> in (x_t, theta) and lambda are the costates (our
derivation; the first sum is the Gauss-Newton matrix).  Gauss-Newton converges linearly, and over a long horizon the
residuals bend the flat directions of the valley so much that it hardly moves there; these steps end that.  They cost
P times more, and are taken where Gauss-Newton gains little.

The step uses absolute values of eigenvalues, so that it descends everywhere and leaves saddle points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..options import Options
from .lagrangian import Jacobians, Lagrangian, Point
from .steps import Linearised

__all__ = ["Polish", "exact_hessian", "is_due", "is_fruitful", "newton_step"]

Array = NDArray[np.float64]

# A subproblem is slow where it gains less than this part of the objective.
_SLOW = 1e-4

# The part of the objective that a Newton step must gain to be worth its price.
_WORTHWHILE = 1e-3

# Points whose Hessians M_t are held at a time.
_BLOCK = 256

# Lengths of a step that are tried, and the part of the slope that it must gain.
_LENGTHS, _ARMIJO = (1.0, 0.3, 0.1, 0.03), 1e-4

# A decrease below this part of the objective may be hidden by rounding: the gradient then decides.
_HIDDEN = 1e-11


@dataclass(frozen=True)
class Polish:
    """When Newton steps are due.

    Attributes
    ----------
    wait : int
        Subproblems until the next one.
    fruitless : int
        Those in a row that gave no decrease; each doubles the wait.
    """

    wait: int = 0
    fruitless: int = 0

    def after(self, gained: bool | None) -> Polish:
        """After a subproblem with a Newton step that gained or did not, or with none."""
        if gained is None:
            return Polish(max(0, self.wait - 1), self.fruitless)
        return Polish() if gained else Polish(2**self.fruitless, self.fruitless + 1)


def is_due(polish: Polish, before: Point, local: Linearised, options: Options) -> bool:
    """Whether a subproblem that began at ``before`` is to be followed by a Newton step."""
    point = local.point
    if not (options.second_order and local.lagrangian.is_reduced):
        return False
    stuck = point is before or point.value == before.value
    if polish.wait and not stuck:
        return False
    steps, _, n = point.states.shape
    fits = 24 * steps * n * (len(point.theta) + n) <= options.max_memory
    slow = before.value - point.value <= _SLOW * point.value
    return fits and slow and local.stationarity > options.tolerance * max(1.0, point.objective)


def is_fruitful(before: Linearised, after: Linearised) -> bool:
    """Whether a step was worth its price: a clearly lower objective, or half of the gradient."""
    gain = before.point.value - after.point.value
    return gain >= _WORTHWHILE * before.point.value or after.stationarity <= 0.5 * before.stationarity


def newton_step(local: Linearised) -> Linearised | None:
    """A damped Newton step in theta and x_0, or None where none decreases J."""
    lagrangian, before = local.lagrangian, local.point
    in_theta, _, in_start = lagrangian.gradient(before, local.jacobians)
    gradient = np.concatenate([in_theta, in_start.ravel()])
    hessian = exact_hessian(lagrangian, before, local.jacobians)
    if not np.isfinite(hessian).all():
        return None
    step, slope = _direction(hessian, gradient)
    for length in _LENGTHS:
        moved = length * step
        theta = before.theta + moved[: len(in_theta)]
        states = before.states.copy()
        states[0] += moved[len(in_theta) :].reshape(states[0].shape)
        trial = lagrangian.at(theta, states)
        if trial.is_finite and before.value - trial.value >= _ARMIJO * length * slope:
            return Linearised.at(lagrangian, trial)
        if trial.is_finite and slope <= _HIDDEN * before.value:
            there = Linearised.at(lagrangian, trial)
            return there if there.stationarity < local.stationarity else None
    return None


def _direction(hessian: Array, gradient: Array) -> tuple[Array, float]:
    """-|H|^-1 g in units of the diagonal, which keeps small eigenvalues apart from rounding, and its slope."""
    units = 1.0 / np.sqrt(np.maximum(np.abs(np.diagonal(hessian)), np.finfo(float).tiny))
    values, vectors = np.linalg.eigh(hessian * np.outer(units, units))
    sizes = np.maximum(np.abs(values), np.finfo(float).eps * np.abs(values).max())
    along = vectors.T @ (units * gradient)
    return -units * (vectors @ (along / sizes)), float(np.sum(along**2 / sizes))


def exact_hessian(lagrangian: Lagrangian, point: Point, jacobians: Jacobians) -> Array:
    """H in theta and x_0 of all records, (P + N n, P + N n); rows of a known x_0 are those of the identity."""
    problem, (_, records, n), parameters = lagrangian.problem, point.states.shape, len(point.theta)
    total = np.zeros((parameters + records * n,) * 2)
    diagonal = np.full(parameters, problem.weight_decay)
    costates = lagrangian.costates(point, jacobians)
    for i in range(records):
        own = np.concatenate([np.arange(parameters), parameters + n * i + np.arange(n)])
        total[np.ix_(own, own)] += _of_record(lagrangian, point, jacobians, costates, i)
    total[np.arange(parameters), np.arange(parameters)] += diagonal
    start = np.arange(parameters, len(total))
    if problem.has_free_start:
        total[start, start] += problem.initial_weight
    else:
        total[start, :], total[:, start], total[start, start] = 0.0, 0.0, 1.0
    return total


def _of_record(lagrangian: Lagrangian, point: Point, jacobians: Jacobians, costates: Array, i: int) -> Array:
    """What a record adds, (P + n, P + n)."""
    problem, steps = lagrangian.problem, len(point.states)
    a, b, c, d = (part[:, i] for part in (jacobians.A, jacobians.B, jacobians.C, jacobians.D))
    sensitivities = _sensitivities(a, b)
    roots = np.sqrt(problem.weights[:, i])
    rows = c @ sensitivities
    rows[..., : d.shape[2]] += d
    rows = (roots[..., None] * rows).reshape(-1, sensitivities.shape[2])
    total = rows.T @ rows
    after = np.concatenate([costates[1:, i], np.zeros((1, costates.shape[2]))])
    slopes = roots * point.residual[:, i]
    for first in range(0, steps, _BLOCK):
        some = slice(first, first + _BLOCK)
        m = problem.model.curvatures(point.theta, point.states[some, i], problem.v[some, i], after[some], slopes[some])
        _add_curvature(total, m, sensitivities[some])
    return total


def _sensitivities(a: Array, b: Array) -> Array:
    """W_t = dx_t/d(theta, x_0), (T, n, P + n), from W_{t+1} = A_t W_t + [B_t 0]."""
    steps, n, parameters = b.shape
    w = np.zeros((steps, n, parameters + n))
    w[0, :, parameters:] = np.eye(n)
    for t in range(steps - 1):
        np.matmul(a[t], w[t], out=w[t + 1])
        w[t + 1, :, :parameters] += b[t]
    return w


def _add_curvature(total: Array, m: Array, w: Array) -> None:
    """Add sum_t [W; E]' M [W; E] with E = dtheta/dz."""
    n, width = w.shape[1:]
    parameters = width - n
    mixed = w.transpose(0, 2, 1).reshape(-1, width, n)
    states = m[:, :n, :n] @ w
    total += np.tensordot(mixed, states, axes=((0, 2), (0, 1)))
    cross = np.tensordot(mixed, m[:, :n, n:], axes=((0, 2), (0, 1)))
    total[:, :parameters] += cross
    total[:parameters] += cross.T
    total[:parameters, :parameters] += m[:, n:, n:].sum(axis=0)
