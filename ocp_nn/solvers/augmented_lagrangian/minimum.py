"""Minima, not saddles: where the first-order conditions hold, whether the Hessian has a way down.

A stationary point may be a saddle, and steps by gradients come to rest there.  So once defects and gradient are within
the tolerance, the smallest curvature of J(u) is looked for (:mod:`.lanczos`), relative to that of Gauss-Newton:

    theta = min_v v'Hv / v'Mv,        M = H_GN + mu I with mu a thousandth of its mean diagonal entry

Where theta < -1e-6 a lower point is looked for along +v and -v, and the loop goes on from there.  Where there is none
that is lower by 1e-8 max(1, J), theta >= -tolerance^(1/2) counts as a minimum: a gradient within the tolerance leaves
that much open (Nesterov and Polyak 2006); below it the solve goes on as long as it can.

At a feasible point H is the Hessian of the Lagrangian on the tangent space of the dynamics, so that this serves every
formulation.  Not looked at: problems with a free x_0, and subproblems of the loop for constraints, which has a check of
its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...problem.certificate import least_curvature
from ...problem.optimal_control import OptimalControlProblem
from .damping import Damping, first_damping
from .lagrangian import AugmentedLagrangian
from .lanczos import smallest_curvature
from .linearisation import Linearisation, Method
from .options import Options
from .rollouts import rollout_objective
from .state import Best

__all__ = ["MOST_ESCAPES", "NEGATIVE", "Curvature", "curvature_at", "is_looked_at", "is_minimum", "way_down"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]

# theta below which a way down is looked for.
NEGATIVE = -1e-6

# mu of M, relative to the mean diagonal entry of Gauss-Newton's matrix: directions that the data and the weight decay
# leave open are measured by it.
_DAMPING = 1e-3

# Along a way down: the longest step, in parts of the one by which M raises a quadratic by max(1, |J|), halvings of it,
# what part of the decrease that the curvature promises must come, and how much at least, relative to max(1, J).
_LONGEST, _HALVINGS, _FORETOLD, _LEAST = 1.0, 40, 0.25, 1e-8

# Saddles that a solve leaves at most.
MOST_ESCAPES = 20


@dataclass(frozen=True, eq=False)
class Curvature:
    """The smallest curvature at controls.

    Attributes
    ----------
    value : float
        theta, relative to Gauss-Newton.
    direction : array (P,)
        v, with v'Mv = 1.
    products : int
        Hessian products it took to find it.
    """

    value: float
    direction: Array
    products: int


def is_minimum(curvature: float | None, tolerance: float) -> bool:
    """Whether this smallest curvature counts as a minimum's; one that is not known does."""
    return curvature is None or curvature >= least_curvature(tolerance)


def is_looked_at(problem: OptimalControlProblem, options: Options) -> bool:
    """Whether second order is asked for and defined by the controls alone."""
    return options.second_order and not (problem.has_free_start or problem.is_subproblem)


def curvature_at(problem: OptimalControlProblem, controls: Arrays, options: Options) -> Curvature | None:
    """The smallest curvature of J(u); None where Gauss-Newton's matrix has no factor in floating point."""
    rollout = problem.rollout(controls)
    zeros = tuple(np.zeros_like(x) for x in rollout.states[1:])
    lagrangian = AugmentedLagrangian(problem, zeros, (np.inf,) * len(zeros))
    point = lagrangian.at(rollout.controls, rollout.states)
    damping = first_damping(lagrangian, point, _DAMPING).value
    local = Linearisation.at(
        lagrangian, point, Damping(damping), Method(form=options.form, max_memory=options.max_memory)
    )
    start = np.random.default_rng(options.seed).standard_normal(problem.num_controls)
    try:
        factor = local.prepared.damped(damping)
        found = smallest_curvature(local.hessian, factor.precondition, start, negligible=-0.1 * NEGATIVE)
    except np.linalg.LinAlgError:
        return None
    return Curvature(found.value, found.vector, found.products) if np.isfinite(found.value) else None


def way_down(problem: OptimalControlProblem, controls: Arrays, curvature: Curvature) -> Best | None:
    """A lower rollout along negative curvature, to the side that falls more; None where it gains next to nothing."""
    flat, before = np.concatenate(controls), rollout_objective(problem, controls)
    found = [_lower(problem, flat, sense * curvature.direction, before, curvature.value) for sense in (1.0, -1.0)]
    lower = [rollout for rollout in found if rollout is not None]
    return min(lower, key=lambda rollout: rollout.objective) if lower else None


def _lower(problem: OptimalControlProblem, flat: Array, along: Array, before: float, curvature: float) -> Best | None:
    length = _LONGEST * np.sqrt(2.0 * max(1.0, abs(before)))  # a loss of one's own may be negative
    for _ in range(_HALVINGS):
        promised = -0.5 * curvature * length**2
        if promised <= _LEAST * max(1.0, before):
            return None
        controls = problem.split(flat + length * along)
        objective = rollout_objective(problem, controls)
        if objective <= before - _FORETOLD * promised:
            return Best(controls, objective)
        length *= 0.5
    return None
