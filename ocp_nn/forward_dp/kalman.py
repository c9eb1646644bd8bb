"""Kalman form: a filter that carries sensitivities, and its smoother.  Linear in the horizon.

The subproblem (:mod:`.subproblem`) for known controls is a smoothing problem, and the matching of terms is exact:

    ==============================  =========================================================================
    multiple shooting               Kalman smoothing
    ==============================  =========================================================================
    dynamics A dx + B du + c        the model of motion
    1/beta_k                        the variance of its process noise
    beta_k = inf, state eliminated  no process noise; all of them: single shooting
    rows C dx + D du + r            measurements with noise of variance one; not measured: rows of zeros
    1/alpha                         the covariance of the initial state; none for a known one
    multipliers lambda_k            the adjoints of the Bryson-Frazier smoother
    ==============================  =========================================================================

The controls are shared by all stages and all samples.  Everything is affine in them, so the filter need not know them:
beside the mean m it carries S, the sensitivity of the mean to all P controls.  Its covariance V is the same for all du.

**Forward**, sample by sample, from m = g_0, S = 0, V = I/alpha.  At every stage, first its terms:

    E = D + C S                 sensitivity of the innovation             (m x P)
    e = C m + r                 innovation, for du = 0
    F = I + C V C'              its covariance
    G = V C' F^-1               Kalman gain
    H += E' F^-1 E,  g += E' F^-1 e                                       (P x P) and P
    S -= G E,  m -= G e,  V <- (I - G C) V (I - G C)' + G G'

then the dynamics, whose B stands in the columns of the block that acts there:

    S <- A S + B,  m <- A m + c,  V <- A V A' + I/beta.

Minimising over all states has left the quadratic 1/2 du' H du + g' du of the controls, so that

    (H + diag(rho_b + mu)) du = -(g + rho_b u)

is the step.  **Another damping is another Cholesky factorisation, and not another filter.**

**Backward**, once du is known, the innovations e + E du come from a second run of the means alone (S is never stored),
and lambda from zero behind the last stage: for every stage, first its dynamics, then its terms in reverse order,

    lambda <- A' lambda;        theta = F^-1 (e + E du) - G' lambda,   lambda <- lambda + C' theta.

**The states** follow without an inverse of V, so that beta = inf and alpha = inf are allowed:

    dx_k = m_k - V_k lambda_k              where beta_{k-1} is finite, and for dx_0; m_k, V_k before the terms of k
    dx_k = A dx_{k-1} + B du + c           where it is infinite

The first is stable also where the dynamics are not: no product of many A is ever formed, as it is in the condensed
forms (:mod:`.condensed`), whose sensitivities overflow on unstable systems over long horizons.  With every beta
infinite and x_0 known, V = 0 and S is plain forward sensitivities.

Iterative refinement solves once more for what is left of the optimality conditions, stage by stage.
``orthogonal=True`` (form ``kalman_qr``) carries the R factor of the whitened rows L^-1 [E e], F = L L', in place of
their products H and g: slower, and accurate where H squares a large condition number.

The determinant of Sigma, of which the evidence is made, comes along: log det Sigma = sum of log det F.

Cost: N K (n^2 P + m n P + m P^2 + n^3) + P^3 / 3, with m rows a stage.  The sequential part is compiled where all
states have one width (:mod:`.kalman_arrays`).

Source: our derivation.  The backward form is that of Bryson and Frazier, Smoothing for linear and nonlinear dynamic
systems (1963); the update of V is Joseph's; sensitivities of a filter's mean to unknown inputs: Friedland (1969).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, lapack, solve_triangular

from .condensed import Factor, RightHandSide, Solution
from .kalman_arrays import sweeps_for
from .kalman_sweeps import Smoothed, Sweeps
from .primal import stack_on_triangle
from .subproblem import Arrays, Subproblem
from .terms import Stack, StackedMultipliers, StackedTerms

__all__ = ["KalmanFactor", "KalmanForm", "KalmanSystem"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class KalmanSolution(Solution):
    """A solution with its states."""

    smoothed: Smoothed | None = None


class KalmanSystem:
    """A subproblem after its filter: what a right-hand side needs, in place of :class:`~.condensed.Condensed`.

    Attributes
    ----------
    subproblem : Subproblem
    triangle : array (P + 1, P + 1)
        Upper triangle of [H g; g' e'F^-1 e], or the R factor of the whitened rows [E e] if ``orthogonal``.
    log_det_noise : float
        log det Sigma = sum log det F.
    """

    def __init__(self, subproblem: Subproblem, *, orthogonal: bool = False, sweeps: Sweeps | None = None) -> None:
        self.subproblem = subproblem
        self.orthogonal = orthogonal
        self._sweeps = sweeps_for(subproblem) if sweeps is None else sweeps
        size = subproblem.num_controls + 1
        self.triangle = np.zeros((size, size), order="F")
        self.log_det_noise = self._sweeps.filter(RightHandSide.of(subproblem), self._take)

    def _take(self, rows: Array) -> None:
        if self.orthogonal:
            self.triangle = stack_on_triangle(self.triangle, rows)
        else:
            self.triangle = blas.dsyrk(1.0, rows.T, beta=1.0, c=self.triangle, overwrite_c=1)

    def damped(self, damping: float) -> KalmanSystem:
        """This system with another damping: the filter is kept."""
        other = copy(self)
        other.subproblem = self.subproblem.damped(damping)
        return other

    def squared_size(self) -> float:
        """The trace of H."""
        matrix = self.triangle[:-1, :-1]
        return float(np.vdot(matrix, matrix) if self.orthogonal else np.trace(matrix))

    @property
    def gradient(self) -> Array:
        """g, (P,)."""
        column: Array = self.triangle[:-1, -1]
        return self.triangle[:-1, :-1].T @ column if self.orthogonal else column

    def reduced_value(self, du: Array) -> float:
        """The objective of the subproblem at a step in the controls, (P,), minimised over the states; O(P^2)."""
        sub, column = self.subproblem, np.append(du, 1.0)
        rows = blas.dtrmv(self.triangle, column)
        square = float(rows @ rows) if self.orthogonal else 2.0 * float(column @ rows)
        if not self.orthogonal:
            square -= float(np.square(column) @ np.diagonal(self.triangle))
        u, decay = np.concatenate(sub.controls), sub.ridge_vector - sub.damping
        return 0.5 * (square + float(np.sum(decay * np.square(u + du))) + sub.damping * float(du @ du))

    def split(self, flat: Array) -> Arrays:
        """A vector (P,) of all controls, one view a block."""
        return tuple([flat[cut] for cut in self.subproblem.cuts])

    def minimiser(self, factor: Factor, data: RightHandSide, refinements: int) -> KalmanSolution:
        """The solution for the subproblem's own data; w is what is beyond the mean controls."""
        sub = self.subproblem
        mean = np.concatenate(sub.mean_controls)
        pull = sub.ridge_vector * mean  # -rho u
        direct = factor.direct if isinstance(factor, KalmanFactor) else None
        du = factor.precondition(pull - self.gradient) if direct is None else direct
        smoothed = self._sweeps.smooth(self.split(du), data)
        for _ in range(refinements):
            left = pull - sub.ridge_vector * du - self._sweeps.pull(smoothed)
            more, correction = self._solve(factor, self._sweeps.residual(smoothed, data), left)
            du, smoothed = du + more, smoothed.plus(correction)
        return self._solution(du - mean, smoothed)

    def response(self, factor: Factor, data: RightHandSide) -> KalmanSolution:
        """The solution for other data, where nothing pulls at the controls."""
        return self._solution(*self._solve(factor, data, None))

    def _solve(self, factor: Factor, data: RightHandSide, second: Array | None) -> tuple[Array, Smoothed]:
        """du and all that follows, with ``second`` on the right of the condition in the controls."""
        gradient = self._sweeps.pull(self._sweeps.smooth(None, data))
        du = factor.precondition(-gradient if second is None else second - gradient)
        return du, self._sweeps.smooth(self.split(du), data)

    def _solution(self, w: Array, smoothed: Smoothed) -> KalmanSolution:
        return KalmanSolution(self._sweeps.rows(smoothed.theta), w, smoothed=smoothed)

    def augmented(self, factor: Factor, first: Array, second: Array) -> KalmanSolution:
        """theta and w with Sigma theta - J w = first and (rho + mu) w + J' theta = second."""
        sub = self.subproblem
        gaps = tuple(np.zeros((sub.num_samples, stage.num_outputs)) for stage in sub.dynamics)
        ends = np.cumsum([term.output.num_outputs for term in sub.terms])[:-1]
        data = RightHandSide(gaps, tuple(np.split(first, ends, axis=1)))
        return self._solution(*self._solve(factor, data, second))

    def recover(self, solution: Solution, du: Arrays, data: RightHandSide) -> tuple[Stack, Sequence[Array]]:
        """(dx, multipliers) of a solution; du and data are those it was made for."""
        assert isinstance(solution, KalmanSolution) and solution.smoothed is not None
        dx, costates = solution.smoothed.dx, solution.smoothed.costates
        if isinstance(dx, np.ndarray) and isinstance(self.subproblem.terms, StackedTerms):
            return dx, StackedMultipliers(np.asarray(costates)[1:], solution.theta)
        return tuple(dx), (*costates[1:], solution.theta)


class KalmanForm:
    """The normal matrix H, or its R factor, which does not depend on the damping."""

    def __init__(self, system: KalmanSystem) -> None:
        self._system = system

    def factor(self, subproblem: Subproblem) -> KalmanFactor:
        """The Cholesky factor of H + diag(rho_b + mu).

        Raises
        ------
        numpy.linalg.LinAlgError
            If that is not positive definite in floating point (ridge too small).
        """
        system = self._system
        if system.orthogonal:
            return _orthogonal_factor(system, subproblem)
        matrix = system.triangle[:-1, :-1].copy(order="F")
        matrix[np.diag_indices_from(matrix)] += subproblem.ridge_vector
        triangle, info = lapack.dpotrf(matrix, lower=0, overwrite_a=1, clean=0)
        if info != 0:
            raise np.linalg.LinAlgError(
                f"the normal matrix is not positive definite with rho + mu = {subproblem.ridge:.1e}"
            )
        return KalmanFactor(system, triangle)


def _orthogonal_factor(system: KalmanSystem, subproblem: Subproblem) -> KalmanFactor:
    """The R factor of [E e] stacked on the rows of the regularisation, (rho + mu)^1/2 (du - ubar)."""
    roots = np.sqrt(subproblem.ridge_vector) * np.ones(subproblem.num_controls)
    rows = np.zeros((len(roots), len(roots) + 1))
    np.fill_diagonal(rows, roots)
    rows[:, -1] = -roots * np.concatenate(subproblem.mean_controls)
    table = stack_on_triangle(system.triangle, rows, triangular=True)
    triangle = np.asfortranarray(table[:-1, :-1])
    direct = -solve_triangular(triangle, table[:-1, -1], check_finite=False)
    return KalmanFactor(system, triangle, direct)


@dataclass(frozen=True, eq=False)
class KalmanFactor:
    """The upper Cholesky factor of H + diag(rho_b + mu); ``direct`` is du where rows were carried."""

    system: KalmanSystem
    triangle: Array
    direct: Array | None = None

    @property
    def log_det(self) -> float:
        """log det(H + diag(rho_b + mu))."""
        return 2.0 * float(np.log(np.abs(np.diagonal(self.triangle))).sum())

    def solve(self, first: Array, second: Array) -> Solution:
        return self.system.augmented(self, first, second)

    def precondition(self, second: Array) -> Array:
        if not len(second):  # no controls: plain smoothing
            return second
        w: Array = lapack.dpotrs(self.triangle, second, lower=0)[0]
        return w
