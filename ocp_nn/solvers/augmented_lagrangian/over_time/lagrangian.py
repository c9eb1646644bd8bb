"""The augmented Lagrangian of an identification problem, all time steps at once.

    L_beta(theta, x) = J + sum_t <lambda_{t+1}, d_t> + beta/2 ||d_t||^2 + kappa/2 sum_t ||x_t - z_t||^2

It is that of :mod:`..lagrangian` for T equal stages, held as arrays with the time first, (T, records, n), so that where
the states are variables everything is evaluated in one call.  The last part is the *anchor* (our derivation): as long
as beta is small the defects are cheap, and a model can make them cheaper still by shrinking its states and enlarging
its output matrix, until the states say nothing.  Pseudo-measurements of the states that the solve started from hold
their unit; kappa vanishes before the multipliers are switched on (:mod:`.hardening`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....base.display import brief
from ....forward_dp import StackedMultipliers, StackedTerms, Step, Subproblem
from ....forward_dp.kalman_arrays import adjoint_sweep
from ....network.stacked_stages import StackedStages
from ....problem.identification import IdentificationProblem

__all__ = ["Jacobians", "Lagrangian", "Point"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Point:
    """Parameters and states with everything evaluated there.

    Attributes
    ----------
    theta : array (P,)
    states : array (T, N, n)
    defects : array (T - 1, N, n)
        d_t; zero where the state is eliminated.
    residual : array (T, N, m)
        sqrt(w) (g - y).
    objective, value : float
        J and L_beta.
    """

    theta: Array
    states: Array
    defects: Array
    residual: Array
    objective: float
    value: float

    __repr__ = brief

    @property
    def max_defect(self) -> float:
        return float(np.abs(self.defects).max(initial=0.0))

    @property
    def is_finite(self) -> bool:
        return bool(np.isfinite(self.value))


@dataclass(frozen=True, eq=False)
class Jacobians:
    """df/dx (T, N, n, n), df/dtheta (T, N, n, P), dg/dx (T, N, m, n) and dg/dtheta (T, N, m, P)."""

    A: Array
    B: Array
    C: Array
    D: Array


@dataclass(frozen=True, eq=False)
class Lagrangian:
    """L_beta for fixed multipliers, penalty and anchor.

    Attributes
    ----------
    problem : IdentificationProblem
    multipliers : array (T - 1, N, n)
    penalty : float
        beta of all nodes.
    nodes : array of bool (T - 1,)
        Whether x_{t+1} is a variable.
    anchor_weight : float
        kappa.
    anchor : array (T, N, n) or None
        z.
    """

    problem: IdentificationProblem
    multipliers: Array
    penalty: float
    nodes: NDArray[np.bool_]
    anchor_weight: float = 0.0
    anchor: Array | None = None

    @property
    def is_reduced(self) -> bool:
        """Whether every state but x_0 is eliminated: single shooting."""
        return not self.nodes.any()

    @cached_property
    def betas(self) -> Array:
        """beta_t, (T - 1,): infinite where the state is eliminated."""
        return np.where(self.nodes, self.penalty, np.inf)

    @cached_property
    def _roots(self) -> Array:
        return np.sqrt(self.problem.weights)

    def at(self, theta: Array, states: Array) -> Point:
        """Evaluate at parameters and states; eliminated states are rolled out."""
        with np.errstate(over="ignore", invalid="ignore"):
            states = states if self.nodes.all() else self._rolled(theta, states)
            f, g = self.problem.values(theta, states)
            defects = f[:-1] - states[1:]
            defects[~self.nodes] = 0.0
            return self._point(theta, states, defects, self._roots * (g - self.problem.y))

    def again(self, point: Point) -> Point:
        """The same point under these multipliers, penalty and anchor."""
        with np.errstate(over="ignore", invalid="ignore"):
            return self._point(point.theta, point.states, point.defects, point.residual)

    def slack_rollout(self, theta: Array, initial: Array, slacks: Array) -> Point:
        """Evaluate along x_{t+1} = f(x_t, v_t; theta) - e_t from x_0; slacks are those of all steps, (T - 1, N, n)."""
        problem = self.problem
        with np.errstate(over="ignore", invalid="ignore"):
            runs = [problem.model.roll(theta, problem.v[:-1, i], initial[i], slacks[:, i]) for i in range(len(initial))]
            return self.at(theta, np.stack(runs, axis=1))

    def _rolled(self, theta: Array, states: Array) -> Array:
        """The states at the nodes, and between them what the dynamics make of these: all stretches side by side."""
        if self.is_reduced:
            return self.problem.simulated(theta, states[0])
        rolled = states.copy()
        ends = ~self.nodes  # steps whose end is eliminated
        step = np.flatnonzero(np.concatenate([[True], self.nodes]))  # every node, and x_0
        while len(step := step[step < len(ends)][ends[step[step < len(ends)]]]):
            flat = rolled[step].reshape(-1, states.shape[2])
            v = self.problem.v[step].reshape(len(flat), self.problem.v.shape[2])
            rolled[step + 1] = self.problem.model.values(theta, flat, v)[0].reshape(len(step), *states.shape[1:])
            step = step + 1
        return rolled

    def _point(self, theta: Array, states: Array, defects: Array, residual: Array) -> Point:
        problem = self.problem
        objective = 0.5 * float(np.vdot(residual, residual)) + problem.decay_cost([theta])
        objective += problem.initial_cost(states[0])
        value = objective
        if not self.is_reduced:
            value += float(np.vdot(self.multipliers, defects)) + 0.5 * self.penalty * float(np.vdot(defects, defects))
        if self.anchor is not None and self.anchor_weight:
            moved = states - self.anchor
            value += 0.5 * self.anchor_weight * float(np.vdot(moved, moved))
        return Point(theta, states, defects, residual, objective, value if np.isfinite(value) else np.inf)

    def estimate(self, point: Point) -> Array:
        """First-order multiplier estimate lambda + beta d at the nodes."""
        estimate = self.multipliers.copy()
        estimate[self.nodes] += self.penalty * point.defects[self.nodes]
        return estimate

    def jacobians(self, point: Point, *, states_only: bool = False) -> Jacobians:
        """Of f and g at all states; ``states_only`` leaves out those in theta, of which no column is there then."""
        problem, (steps, records, n) = self.problem, point.states.shape
        flat = point.theta, point.states.reshape(-1, n), problem.v.reshape(steps * records, -1)
        if states_only:
            a, c = problem.model.state_jacobians(*flat)
            each = a, np.zeros((*a.shape[:2], 0)), c, np.zeros((*c.shape[:2], 0))
        else:
            each = problem.model.jacobians(*flat)
        return Jacobians(*(np.ascontiguousarray(j).reshape(steps, records, *j.shape[1:]) for j in each))

    def subproblem(
        self, point: Point, jacobians: Jacobians, damping: float, *, states_only: bool = False
    ) -> Subproblem:
        """The Gauss-Newton least-squares problem at a point; with ``states_only`` for parameters that are held."""
        problem, columns = self.problem, 0 if states_only else len(point.theta)
        weights = self._roots[..., None]
        rows = [weights * jacobians.C], [weights * jacobians.D[..., :columns]], [point.residual]
        if self.anchor is not None and self.anchor_weight:
            root, (steps, records, n) = np.sqrt(self.anchor_weight), point.states.shape
            rows[0].append(np.broadcast_to(root * np.eye(n), (steps, records, n, n)))
            rows[1].append(np.zeros((steps, records, n, columns)))
            rows[2].append(root * (point.states - self.anchor))
        c, d, r = (np.concatenate(parts, axis=2) for parts in rows)
        bends = self._bends(point, r.shape[2]) if columns else ({}, {})
        gaps = point.defects if self.is_reduced else point.defects + self.multipliers / self.betas[:, None, None]
        return Subproblem(
            dynamics=StackedStages(jacobians.A[:-1], jacobians.B[:-1, ..., :columns], **bends[0]),
            terms=StackedTerms(StackedStages(c, d, **bends[1]), r, stages=np.arange(len(r))),
            controls=(point.theta[:columns],),
            blocks=(0,) * len(gaps),
            gaps=gaps,
            penalty=self.betas,
            weight_decay=problem.weight_decay,
            damping=damping,
            initial_gap=problem.x - point.states[0] if problem.has_free_start else None,
            initial_weight=problem.initial_weight,
            trusted=True,
        )

    def _bends(self, point: Point, rows: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Where f and the rows of the residual are linearised, and how they bend there."""
        problem, roots, f = self.problem, self._roots.reshape(-1, self._roots.shape[2]), self.nodes.size
        before, all_v = point.states[:-1], problem.v.reshape(point.states.shape[0] * point.states.shape[1], -1)
        flat = all_v[: before.shape[0] * before.shape[1]]
        dynamics = _Bending(lambda x, theta: problem.model.values(theta, x, flat)[0])
        outputs = _Bending(lambda x, theta: roots * problem.model.values(theta, x, all_v)[1], rows)
        return (
            {"layers": (dynamics,) * f, "x": before, "u": point.theta},
            {"layers": (outputs,) * len(point.states), "x": point.states, "u": point.theta},
        )

    def predicted_value(self, point: Point, step: Step) -> float:
        """The Gauss-Newton model of L_beta after a step, damping left out: see :mod:`..lagrangian`."""
        theta, rows = point.theta + step.controls[0], step.multipliers[-1]
        value = 0.5 * float(np.vdot(rows, rows)) + self.problem.decay_cost([theta])
        if self.problem.has_free_start:
            value += self.problem.initial_cost(point.states[0] + step.states[0])
        if not self.is_reduced:
            etas = _etas(step)[self.nodes]
            before = self.multipliers[self.nodes]
            value += 0.5 / self.penalty * float(np.vdot(etas - before, etas + before))
        return value

    def slacks(self, step: Step) -> Array:
        """e_t = (eta_{t+1} - lambda_{t+1})/beta that the step leaves; zero where the state is eliminated."""
        return (_etas(step) - self.multipliers) / self.betas[:, None, None]

    def stationarity(self, point: Point, jacobians: Jacobians) -> float:
        """2-norm of the gradient of L_beta, less its anchor, in theta, the nodes and a free x_0."""
        return float(np.sqrt(sum(float(np.vdot(part, part)) for part in self.gradient(point, jacobians))))

    def gradient(self, point: Point, jacobians: Jacobians) -> tuple[Array, Array, Array]:
        """The gradient of L_beta, less its anchor: (P,), (nodes, N, n) and (N, n), zero where x_0 is known."""
        residual = self._roots * point.residual
        costates = self.costates(point, jacobians)
        in_theta = jacobians.B[:-1].reshape(-1, len(point.theta)).T @ costates[1:].ravel()
        in_theta += (
            jacobians.D.reshape(-1, len(point.theta)).T @ residual.ravel() + self.problem.weight_decay * point.theta
        )
        pulled = np.einsum("tnmi,tnm->tni", jacobians.C, residual)
        pulled[:-1] += np.einsum("tnji,tnj->tni", jacobians.A[:-1], costates[1:])
        in_states = (pulled[1:] - costates[1:])[self.nodes]
        in_start = np.zeros_like(point.states[0])
        if self.problem.has_free_start:
            in_start = self.problem.initial_gradient(point.states[0], pulled[0])
        return in_theta, in_states, in_start

    def costates(self, point: Point, jacobians: Jacobians, given: Array | None = None) -> Array:
        """lambda_0..lambda_{T-1}, (T, N, n): estimates, or given ones, at the nodes, back-propagated between them."""
        costates = np.einsum("tnmi,tnm->tni", jacobians.C, self._roots * point.residual)
        costates[1:][self.nodes] = (self.estimate(point) if given is None else given)[self.nodes]
        adjoint_sweep(jacobians.A, self.nodes, costates)
        return costates


# Of central differences for second derivatives: the part of a step that is gone to either side.
_PART = 1e-2


@dataclass(frozen=True)
class _Bending:
    """How a function (x, theta) of all points at once bends, by differences; outputs up to ``width`` are linear."""

    function: Callable[[Array, Array], Array]
    width: int = 0

    def rows(self, samples: slice) -> _Bending:
        """For checks of single stages, which ask for no second derivative."""
        return self

    def second_derivative(self, x: Array, u: Array, dx: Array, du: Array) -> Array:
        """The second derivative along (dx, du)."""
        ahead, here, behind = (self.function(x + part * dx, u + part * du) for part in (_PART, 0.0, -_PART))
        bent = (ahead - 2.0 * here + behind) / _PART**2
        return np.pad(bent, ((0, 0), (0, max(0, self.width - bent.shape[1]))))


def _etas(step: Step) -> Array:
    """The new multiplier estimates of a step, (T - 1, N, n)."""
    multipliers = step.multipliers
    return multipliers.costates if isinstance(multipliers, StackedMultipliers) else np.stack(multipliers[:-1])
