"""Second-order finish: truncated Newton-CG in the reduced space, preconditioned by forward DP.

Gauss-Newton leaves the curvature of the stages out and closes the last digits slowly where residuals are large.
Near a solution we therefore minimise the reduced objective J(u) (states eliminated by the rollout, so every iterate
is feasible) with its exact Hessian.  At a feasible point this is the Hessian of the Lagrangian on the tangent space
of the dynamics, so it serves every formulation.  Products come from one tangent and one adjoint sweep
(:func:`ocp_nn.curvature.hessian_product`); the preconditioner is the Gauss-Newton matrix H_GN = rho I + J'J, whose
factor forward DP has anyway.

The trust region is a ball in the norm of the preconditioner, ||s||^2 = s' H_GN s (Steihaug 1983; Conn, Gould and
Toint 2000, algorithm 7.5.1): CG stops at negative curvature or at the boundary, so an indefinite Hessian is no
obstacle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .curvature import hessian_product
from .forward_dp import Subproblem, prepare
from .linearize import LinearStage
from .problem import Adjoints, TrainingProblem

__all__ = ["NewtonState", "TrustRegionStep", "newton_step", "start_newton", "truncated_newton_step"]

Array = NDArray[np.float64]
Operator = Callable[[Array], Array]


@dataclass(frozen=True, eq=False)
class NewtonState:
    """One iterate.

    Attributes
    ----------
    controls : array (P,)
    objective : float
    gradient : array (P,)
    radius : float
        Of the trust region, in the norm of the preconditioner.
    stages, adjoints :
        Linearisation and back-propagation there.
    precondition : callable or None
        v -> H_GN^-1 v there, once it has been needed.
    products : int
        Hessian-vector products so far.
    stalled : bool
        The region has shrunk to rounding level.
    """

    controls: Array
    objective: float
    gradient: Array
    radius: float
    stages: tuple[LinearStage, ...]
    adjoints: Adjoints
    precondition: Operator | None = None
    products: int = 0
    stalled: bool = False

    def __getstate__(self) -> dict[str, object]:
        # the factor behind the preconditioner is computed again where it is needed
        return {**self.__dict__, "precondition": None}


@dataclass(frozen=True, eq=False)
class TrustRegionStep:
    """A step, the model's decrease along it, whether it ends on the boundary, and the products it took."""

    step: Array
    predicted: float
    on_boundary: bool
    products: int


def truncated_newton_step(
    hessian: Operator, precondition: Operator, gradient: Array, radius: float, *, accuracy: float, max_products: int
) -> TrustRegionStep:
    """Steihaug-Toint conjugate gradients on  g's + 1/2 s'Hs,  ||s|| <= radius in the preconditioner's norm.

    Parameters
    ----------
    hessian, precondition : callable
        v -> H v and v -> M^-1 v, both (P,) -> (P,).
    gradient : array (P,)
    radius : float
    accuracy : float
        Relative residual, in the norm of M^-1, at which to stop.
    max_products : int
        Conjugate-gradient iterations at most.
    """
    step, residual = np.zeros_like(gradient), gradient
    z = precondition(residual)
    direction = -z
    rz = first = float(residual @ z)
    # norms in M of the step and the direction follow from recurrences, M itself is never applied
    step_step, step_direction, direction_direction = 0.0, 0.0, rz
    on_boundary, products = False, 0
    while products < max_products and not on_boundary:
        products += 1
        curved = hessian(direction)
        curvature = float(direction @ curved)
        length = rz / curvature if curvature > 0 else np.inf
        reached = step_step + 2 * length * step_direction + length**2 * direction_direction
        on_boundary = not reached < radius**2
        if on_boundary:
            root = np.sqrt(step_direction**2 + direction_direction * max(0.0, radius**2 - step_step))
            length = (root - step_direction) / direction_direction
        step, residual = step + length * direction, residual + length * curved
        if on_boundary:
            break
        step_step = reached
        z = precondition(residual)
        previous, rz = rz, float(residual @ z)
        if rz <= accuracy**2 * first:
            break
        ratio = rz / previous
        direction = ratio * direction - z
        step_direction = ratio * (step_direction + length * direction_direction)
        direction_direction = rz + ratio**2 * direction_direction
    predicted = -0.5 * float(gradient @ step + residual @ step)
    return TrustRegionStep(step, predicted, on_boundary, products)


def start_newton(problem: TrainingProblem, controls: Array, *, radius: float | None = None) -> NewtonState:
    """The first state at ``controls``, (P,); the first radius is a tenth of sqrt(J) by default."""
    stages, adjoints, objective = _linearize(problem, controls)
    radius = 0.1 * float(np.sqrt(objective)) + 1e-8 if radius is None else radius
    return NewtonState(controls, objective, np.concatenate(adjoints.gradient), radius, stages, adjoints)


def newton_step(
    problem: TrainingProblem,
    state: NewtonState,
    *,
    max_products: int = 300,
    form: str = "auto",
    max_memory: float = 4 * 2**30,
) -> NewtonState:
    """One trust-region iteration on J(u); a rejected step changes the radius alone.

    Parameters
    ----------
    problem : TrainingProblem
    state : NewtonState
    max_products : int
        Hessian-vector products at most.
    form, max_memory :
        Of :func:`ocp_nn.forward_dp.prepare`, for the preconditioner.
    """
    if state.precondition is None:
        state = replace(state, precondition=_preconditioner(problem, state, form, max_memory))
    assert state.precondition is not None
    # forcing in the manner of Eisenstat and Walker: loose at first, superlinear in the end (constants are our choice)
    accuracy = min(0.1, float(np.linalg.norm(state.gradient)) ** 0.5)
    step = truncated_newton_step(
        lambda v: _product(problem, state, v),
        state.precondition,
        state.gradient,
        state.radius,
        accuracy=accuracy,
        max_products=max_products,
    )
    before = state
    moved, state = _judge(before, step, _objective(problem, before.controls + step.step))
    if not moved:
        return state
    stages, adjoints, objective = _linearize(problem, state.controls)
    gradient = np.concatenate(adjoints.gradient)
    if not _beyond_rounding(before, step) and not np.linalg.norm(gradient) < np.linalg.norm(before.gradient):
        return replace(before, products=state.products, stalled=True)
    return replace(state, objective=objective, gradient=gradient, stages=stages, adjoints=adjoints, precondition=None)


def _linearize(problem: TrainingProblem, flat: Array) -> tuple[tuple[LinearStage, ...], Adjoints, float]:
    trajectory = problem.rollout(problem.network.split(flat))
    outputs = (
        *trajectory.states[1:],
        problem.network.layers[-1].forward(trajectory.states[-1], trajectory.controls[-1]),
    )
    stages = problem.linearize(trajectory, outputs)
    adjoints = problem.backpropagate(stages, trajectory.controls, outputs[-1] - problem.y)
    return stages, adjoints, problem.cost(trajectory.controls, outputs[-1])


def _objective(problem: TrainingProblem, flat: Array) -> float:
    controls = problem.network.split(flat)
    with np.errstate(over="ignore", invalid="ignore"):
        return problem.cost(controls, problem.network.predict(controls, problem.x))


# Damping of the preconditioner alone: keeps its factorisation positive definite for rho = 0.
_PRECONDITIONER_DAMPING = 1e-4


def _product(problem: TrainingProblem, state: NewtonState, vector: Array) -> Array:
    direction = problem.network.split(vector)
    return np.concatenate(hessian_product(problem, state.stages, state.adjoints.costates, direction))


def _preconditioner(problem: TrainingProblem, state: NewtonState, form: str, max_memory: float) -> Operator:
    """The inverse of the Gauss-Newton matrix, damped further as long as its factorisation fails in floating point."""
    stages = state.stages
    damping = _PRECONDITIONER_DAMPING
    while True:
        subproblem = Subproblem(
            stages=stages,
            controls=problem.network.split(state.controls),
            gaps=tuple(np.zeros((problem.num_samples, stage.num_outputs)) for stage in stages[:-1]),
            residual=state.adjoints.costates[-1],
            penalty=(np.inf,) * (len(stages) - 1),
            weight_decay=problem.weight_decay,
            damping=damping,
        )
        prepared = prepare(subproblem, form, max_memory=max_memory)
        try:
            prepared.precondition(np.zeros(subproblem.num_controls))
            return prepared.precondition
        except np.linalg.LinAlgError:
            damping *= 100.0


# Relative size of rounding in J; a decrease below ten times that is judged by the gradient alone.
_ROUNDING = 1e-13


def _beyond_rounding(state: NewtonState, step: TrustRegionStep) -> bool:
    """Whether the predicted decrease is large enough to be seen in J."""
    return step.predicted > 10 * _ROUNDING * abs(state.objective)


def _judge(state: NewtonState, step: TrustRegionStep, trial: float) -> tuple[bool, NewtonState]:
    """Accept or reject a trial objective and set the next radius (Conn, Gould and Toint 2000, algorithm 6.1.1)."""
    decrease = state.objective - trial
    if _beyond_rounding(state, step):
        gain = decrease / step.predicted
    else:
        gain = 1.0 if abs(decrease) <= 10 * _ROUNDING * abs(state.objective) else -1.0
    moved = bool(np.isfinite(trial)) and gain > 1e-4
    radius = state.radius
    if not gain >= 0.25:
        radius *= 0.25
    elif gain > 0.75 and step.on_boundary:
        radius *= 2.0
    stalled = radius < 1e-12 or not step.predicted > 0
    products = state.products + step.products
    if moved:
        return True, replace(
            state,
            controls=state.controls + step.step,
            objective=trial,
            radius=radius,
            products=products,
            stalled=stalled,
        )
    return False, replace(state, radius=radius, products=products, stalled=stalled)
