"""The Laplace posterior of an identified model: its parameters, its initial states, and bands over time.

Along a simulation, outputs depend on theta and x_0 through the sensitivities that also the filter of the Kalman form
carries (:mod:`ocp_nn.forward_dp.kalman`), here with the initial state in columns of its own:

    S_{t+1} = A_t S_t + B_t,     E_t = C_t S_t + D_t,       S_0 = 0           of theta
    Psi_{t+1} = A_t Psi_t,                                  Psi_0 = I         of the initial state

The Gauss-Newton Hessian of theta and the initial states of all records is an arrow, and eliminating these leaves for
theta what that filter calls H:

    H = rho I + sum_i (E_i' E_i - E_i' Psi_i M_i^-1 Psi_i' E_i),      M_i = Psi_i' Psi_i + alpha I
    Cov(theta) = sigma^2 H^-1,   d x_0^i / d theta = -M_i^-1 Psi_i' E_i,   Cov(x_0^i | theta) = sigma^2 M_i^-1

(rows scaled by the root of their weight).  States of training records are smoothed ones, and their covariance that of a
smoother.  gamma, sigma^2 and the evidence are those of :mod:`..posterior`, with the prior of x_0 beside that of theta.

A new run's initial state is told by its first rows and by what training states were (:mod:`.initial_state`), and moves
with theta as those do.  Source: our derivation.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from ...base import checks, display
from ...base.floating import overflow_is_a_value
from ...network.state_space import StateSpaceModel
from ...problem.certificate import certify
from ...problem.identification import IDENTIFICATION_PROBLEM, IdentificationProblem
from ...problem.trajectory import Trajectory
from ..posterior import FLAT, NO_NOISE
from .initial_state import InitialStates

__all__ = ["StateSpacePosterior"]

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class StateSpacePosterior:
    """A Gaussian over parameters and initial states; in the units of the problem.

    Made by :meth:`of`.

    Attributes
    ----------
    problem : IdentificationProblem
    theta : array, shape (P,)
    initial_states : array, shape (records, n)
    effective_parameters : float
        gamma, of parameters and initial states together.
    noise_variance : float
        sigma^2, over all outputs, where the weight of an output is one.
    noise_variances : array, shape (m,)
        Of every output.
    """

    problem: IdentificationProblem
    theta: Array
    initial_states: Array
    effective_parameters: float
    noise_variance: float
    noise_variances: Array
    _factor: Array = field(repr=False)  # lower Cholesky factor of H
    _starts: tuple[_Start, ...] = field(repr=False)
    _log_determinant: float = field(repr=False)  # of the whole Hessian over that of the prior
    _objective: float = field(repr=False)

    __repr__ = display.brief

    @classmethod
    def of(cls, problem: IdentificationProblem, trajectory: Trajectory) -> StateSpacePosterior:
        """The posterior at a solution.

        Raises
        ------
        ValueError
            For no weight decay, a point that is no minimum, sensitivities that overflow over the horizon (an unstable
            model), or outputs that are reproduced, so that nothing is left to tell the noise from.
        """
        checks.check("problem", problem, IDENTIFICATION_PROBLEM)
        checks.check("trajectory", trajectory, checks.instance(Trajectory, "an ocp_nn.Trajectory"))
        if not problem.weight_decay > 0:
            raise ValueError("the posterior needs a prior: expected weight_decay > 0, received 0")
        _refuse_what_is_no_minimum(problem, trajectory)
        (theta,), initial = trajectory.controls, np.asarray(trajectory.states[0])
        rho, alpha = problem.weight_decay, problem.initial_weight
        hessian, starts, squares = rho * np.eye(len(theta)), [], np.zeros(problem.model.num_outputs)
        for i, (v, _) in enumerate(problem.records.pairs):
            run = _Sensitivities.along(problem.model, theta, v, initial[i])
            weights = problem.weights[: len(v), i]
            squares += np.sum(weights * (run.outputs - problem.y[: len(v), i]) ** 2, axis=0)
            rows, columns = run.rows(np.sqrt(weights))
            starts.append(_Start.of(rows, columns, alpha))
            hessian += rows.T @ rows - starts[-1].cross.T @ starts[-1].solved
        factor = np.asarray(np.linalg.cholesky(hessian), dtype=float)
        count, sizes = int(np.count_nonzero(problem.weights)), len(theta) + sum(start.size for start in starts)
        free = count - sizes + _shrinkage(factor, starts, rho, alpha)
        _refuse_what_has_no_noise(problem, squares, free, count - free)
        determinant = 2 * float(np.log(np.diag(factor)).sum()) - len(theta) * np.log(rho)
        return cls(
            problem=problem,
            theta=theta,
            initial_states=initial,
            effective_parameters=count - free,
            noise_variance=float(squares.sum() / free),
            noise_variances=squares / problem.output_weight * len(squares) / free,
            _factor=factor,
            _starts=tuple(starts),
            _log_determinant=determinant + sum(start.log_determinant for start in starts),
            _objective=float(squares.sum()) / 2 + problem.decay_cost((theta,)) + problem.initial_cost(initial),
        )

    def log_evidence(self) -> float:
        """Log marginal likelihood of the measured outputs, with the noise at which it is largest."""
        problem = self.problem
        count = int(np.count_nonzero(problem.weights))
        s = 2 * self._objective / count
        weighing = 0.5 * float(np.log(problem.weights[problem.weights > 0]).sum())
        return weighing - 0.5 * count * (float(np.log(2 * np.pi * s)) + 1.0) - 0.5 * self._log_determinant

    def parameter_covariance(self) -> Array:
        """Cov(theta), (P, P)."""
        return np.asarray(self.noise_variance * linalg.cho_solve((self._factor, True), np.eye(len(self.theta))))

    def state_deviations(self) -> list[Array]:
        """Standard deviations of the smoothed states of every training record, (T_i, n)."""
        found = []
        for i, (v, _) in enumerate(self.problem.records.pairs):
            run = _Sensitivities.along(self.problem.model, self.theta, v, self.initial_states[i])
            start = self._starts[i]
            found.append(self._deviations(run.states, run.of_start, start.slope, start.covariance(self.noise_variance)))
        return found

    @overflow_is_a_value
    def band(self, v: Array, x0: Array, known: InitialStates, y_init: Array | None = None) -> tuple[Array, Array]:
        """Outputs (T, m) of a free run from x_0 and their standard deviations, without noise.

        Parameters
        ----------
        v : array, shape (T, q)
        x0 : array, shape (n,)
            As ``known`` estimated it from ``y_init``, or its mean.
        known : InitialStates
        y_init : array, shape (w, m), optional
            NaN where nothing was measured.

        Raises
        ------
        ValueError
            For sensitivities that overflow.
        """
        run = _Sensitivities.along(self.problem.model, self.theta, v, x0)
        prior = known.root.T @ known.root
        if y_init is None:
            slope = np.zeros((len(x0), len(self.theta)))
            covariance = np.asarray(np.linalg.inv(prior), dtype=float)
        else:
            root = np.where(np.isfinite(y_init), 1 / known.noise, 0.0)
            rows, columns = run.rows(root, len(y_init))
            covariance = np.asarray(np.linalg.inv(columns.T @ columns + prior), dtype=float)
            slope = -covariance @ (columns.T @ rows)
        return run.outputs, self._deviations(run.of_theta, run.of_outputs, slope, covariance)

    def _deviations(self, of_theta: Array, of_start: Array, slope: Array, covariance: Array) -> Array:
        """Of values (T, k) with these sensitivities, where the initial state follows theta with ``slope``."""
        total = of_theta + of_start @ slope
        flat = total.reshape(-1, total.shape[2])
        solved = linalg.solve_triangular(self._factor, flat.T, lower=True)
        variances = self.noise_variance * np.sum(solved**2, axis=0).reshape(total.shape[:2])
        return np.asarray(np.sqrt(variances + np.einsum("tkn,nj,tkj->tk", of_start, covariance, of_start)))


@dataclass(frozen=True, eq=False)
class _Sensitivities:
    """Of a simulation: outputs (T, m), and how they and the states depend on theta and on x_0."""

    outputs: Array
    of_theta: Array  # E, (T, m, P)
    of_outputs: Array  # C Psi, (T, m, n): of the outputs in x_0
    states: Array  # S, (T, n, P)
    of_start: Array  # Psi, (T, n, n): of the states in x_0

    @classmethod
    @overflow_is_a_value
    def along(cls, model: StateSpaceModel, theta: Array, v: Array, x0: Array) -> _Sensitivities:
        outputs, x = model.simulate(theta, v, x0)
        a, b, c, d = model.jacobians(theta, x[:-1], v)
        n, size = model.num_states, len(theta)
        # theta's columns and the initial state's side by side
        both = np.zeros((len(v), n, size + n))
        both[0, :, size:] = np.eye(n)
        for t in range(len(v) - 1):
            np.matmul(a[t], both[t], out=both[t + 1])
            both[t + 1, :, :size] += b[t]
        rows = c @ both
        rows[:, :, :size] += d
        if not np.isfinite(rows).all():
            raise ValueError(
                f"the posterior needs sensitivities over the whole record: they overflow within {len(v)} steps, since "
                "the model is unstable; take shorter records"
            )
        return cls(outputs, rows[:, :, :size], rows[:, :, size:], both[:, :, :size], both[:, :, size:])

    def rows(self, root: Array, length: int | None = None) -> tuple[Array, Array]:
        """The Jacobians in theta and x_0 at the first outputs, each scaled by its root (T, m)."""
        parts = self.of_theta[:length], self.of_outputs[:length]
        theta, start = ((root[:, :, None] * part).reshape(-1, part.shape[2]) for part in parts)
        return theta, start


@dataclass(frozen=True, eq=False)
class _Start:
    """The initial state of a record: M's factor, Psi'E, M^-1 Psi'E; without size where it is known."""

    factor: Array
    cross: Array
    solved: Array
    alpha: float

    @classmethod
    def of(cls, rows: Array, columns: Array, alpha: float) -> _Start:
        if np.isinf(alpha):
            n = columns.shape[1]
            return cls(np.zeros((0, 0)), np.zeros((n, rows.shape[1])), np.zeros((n, rows.shape[1])), alpha)
        matrix = columns.T @ columns + alpha * np.eye(columns.shape[1])
        factor = np.asarray(np.linalg.cholesky(matrix), dtype=float)
        cross = columns.T @ rows
        return cls(factor, cross, np.asarray(linalg.cho_solve((factor, True), cross)), alpha)

    @property
    def size(self) -> int:
        return len(self.factor)

    @property
    def slope(self) -> Array:
        """d x_0 / d theta."""
        return -self.solved

    @property
    def log_determinant(self) -> float:
        """log det(M/alpha)."""
        return 2 * float(np.log(np.diag(self.factor)).sum()) - (self.size * np.log(self.alpha) if self.size else 0.0)

    @property
    def inverse(self) -> Array:
        return np.asarray(linalg.cho_solve((self.factor, True), np.eye(self.size)))

    def covariance(self, noise_variance: float) -> Array:
        """Of x_0 for known theta."""
        n = len(self.cross)
        return noise_variance * self.inverse if self.size else np.zeros((n, n))


def _shrinkage(factor: Array, starts: list[_Start], rho: float, alpha: float) -> float:
    """rho tr (H^-1) + alpha tr of the initial states' part of the whole inverse: what the priors decide."""
    inverse = linalg.cho_solve((factor, True), np.eye(len(factor)))
    total = rho * float(np.trace(inverse))
    for start in starts:
        if start.size:
            total += alpha * float(np.trace(start.inverse) + np.sum((start.solved @ inverse) * start.solved))
    return total


def _refuse_what_is_no_minimum(problem: IdentificationProblem, trajectory: Trajectory) -> None:
    certificate = certify(problem, trajectory, curvature=True)
    least, largest = certificate.smallest_curvature, certificate.largest_curvature
    if least is not None and largest is not None and least < -FLAT * max(1.0, abs(largest)):
        raise ValueError(
            f"the posterior needs a minimum: the Hessian has a negative curvature of {least:.2g} here, so this is no "
            "minimum; train to the end, or from other parameters"
        )


def _refuse_what_has_no_noise(problem: IdentificationProblem, squares: Array, free: float, gamma: float) -> None:
    count = int(np.count_nonzero(problem.weights))
    if not free > 1e-6 * count or not squares.sum() > NO_NOISE * np.sum(problem.weights * problem.y**2):
        raise ValueError(
            f"the posterior needs noise to be seen: {count} measurements decide {gamma:.4g} effective parameters and "
            f"leave a sum of squares of {squares.sum():.2g}; raise weight_decay"
        )
