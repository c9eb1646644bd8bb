"""The Laplace posterior of a trained network: what its weights and predictions are uncertain by.

With the prior u ~ N(0, sigma^2/rho I) and noise of variance sigma^2 the objective over sigma^2 is the negative log
posterior, and with the Jacobian J of all outputs in all weights at the solution it is to second order (Gauss-Newton)

    u | data ~ N(u*, sigma^2 H^-1),        H = J'J + rho I        (MacKay 1992; Foresee and Hagan 1997)

H is the matrix that a Gauss-Newton step factorises, and H^-1 the covariance that the Kalman form carries.  From it

    gamma    = P - rho tr H^-1 = n - rho tr (JJ' + rho I)^-1      effective number of parameters, n = N m
    sigma^2  = ||r||^2 / (n - gamma)                              noise variance (of an output: N, gamma/m)
    var f(x) = sigma^2 J(x) H^-1 J(x)'                            of predictions, without noise
    log p(y) = -n/2 log(2 pi s) - J*/s - 1/2 log det(H/rho)       evidence, largest at s = 2 J*/n

For another loss J's rows are scaled by the root of its curvature (generalised Gauss-Newton), and f are logits, log-odds
or log rates.  Of classes and counts sigma^2 and s are 1; of Huber's loss r are its derivatives, errors cut off at delta
(as in proposal 2 of Huber 1964), and the evidence is that of its density (:mod:`.likelihood`).

Where there are fewer targets than weights all of it comes from the n x n matrix JJ' + rho I (the dual form), by the
identity of Woodbury: nothing is P x P then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg, special
from scipy.linalg import blas, lapack

from ..base import checks, display
from ..problem.blas import limited_blas
from ..problem.curvature import reduced_hessian
from ..problem.losses import Squared
from ..problem.training import TRAINING_PROBLEM, TrainingProblem
from .jacobian import output_jacobian
from .likelihood import has_scale, laplace_evidence

__all__ = ["FLAT", "NO_NOISE", "Posterior"]

Array = NDArray[np.float64]

# Numbers in the Jacobian up to which it is kept, and rows of the smaller matrix.
_MOST_NUMBERS, _MOST_ROWS = 1e8, 6000

# New samples whose Jacobians are there at once.
_CHUNK = 256

# Negative curvature that still counts as none, in parts of the largest one: as in certificates.
FLAT = 1e-5

# Part of the targets' mean square below which a residual is no noise.
NO_NOISE = 1e-20


@dataclass(frozen=True, kw_only=True, eq=False)
class Posterior:
    """A Gaussian over the weights, and what follows for outputs; in the units of the problem.

    Made by :meth:`of`.

    Attributes
    ----------
    problem : TrainingProblem
    controls : tuple of arrays
        u*.
    effective_parameters : float
        gamma.
    noise_variance : float
        sigma^2, over all outputs; 1 for classes and counts.
    noise_variances : array, shape (m,)
        Of every output.
    """

    problem: TrainingProblem
    controls: tuple[Array, ...]
    effective_parameters: float
    noise_variance: float
    noise_variances: Array
    _jacobian: Array = field(repr=False)
    _factor: Array = field(repr=False)  # lower Cholesky factor of H, or in the dual form of JJ' + rho I
    _is_dual: bool = field(repr=False)

    __repr__ = display.brief

    @classmethod
    def of(
        cls, problem: TrainingProblem, controls: Sequence[Array], *, form: str = "auto", check: bool = True
    ) -> Posterior:
        """The posterior at a solution.

        Parameters
        ----------
        problem : TrainingProblem
            With a positive weight decay.
        controls : sequence of arrays
            Of a minimum: elsewhere there is no posterior that this approximates.
        form : {"auto", "primal", "dual"}
            Which of the two matrices is factorised: the smaller one.
        check : bool
            See that the exact Hessian has no negative curvature, which takes most of the time.

        Raises
        ------
        ValueError
            For no weight decay, a problem that is too large, a point that is no minimum, or targets that
            are reproduced, so that nothing is left to tell the noise from.
        """
        checks.check("problem", problem, TRAINING_PROBLEM)
        checks.check("form", form, checks.text("auto", "primal", "dual"))
        checks.check("check", check, checks.BOOLEAN)
        u = problem.check_controls(controls)
        rho, count = problem.weight_decay, problem.y.size
        if not rho > 0:
            raise ValueError("the posterior needs a prior: expected weight_decay > 0, received 0")
        weights = problem.network.num_controls
        if min(count, weights) > _MOST_ROWS or count * weights > _MOST_NUMBERS:
            raise ValueError(
                f"the posterior of {count} targets and {weights} weights needs too large a matrix: expected at most "
                f"{_MOST_ROWS} of either and {_MOST_NUMBERS:.0e} numbers in the Jacobian"
            )
        with limited_blas(problem):
            if check:
                _refuse_what_is_no_minimum(problem, u)
            jacobian = output_jacobian(problem, u)
            is_dual = form == "dual" or (form == "auto" and count < weights)
            matrix = blas.dsyrk(1.0, jacobian.T, trans=int(is_dual), lower=1)
            matrix[np.diag_indices_from(matrix)] += rho
            factor = np.asarray(np.linalg.cholesky(matrix), dtype=float)
            inverse, _ = lapack.dtrtri(factor, lower=1)
        gamma = len(matrix) - rho * float(np.vdot(inverse, inverse))
        together, each = _noise(problem, u, gamma)
        return cls(
            problem=problem,
            controls=u,
            effective_parameters=gamma,
            noise_variance=together,
            noise_variances=each,
            _jacobian=jacobian,
            _factor=factor,
            _is_dual=is_dual,
        )

    # --- evidence

    @property
    def log_determinant(self) -> float:
        """log det(H/rho)."""
        return float(2 * np.log(np.diag(self._factor)).sum() - len(self._factor) * np.log(self.problem.weight_decay))

    def log_evidence(self, noise_variance: float | None = None) -> float:
        """Log marginal likelihood of the targets at this weight decay.

        Parameters
        ----------
        noise_variance : float, optional
            s; by default the one at which it is largest.

        Raises
        ------
        ValueError
            For a variance that is not positive or of a loss that has none, and for a loss of one's own.
        """
        checks.check("noise_variance", noise_variance, checks.optional(checks.POSITIVE))
        problem = self.problem
        if noise_variance is not None and not has_scale(problem.loss):
            raise ValueError(f"targets of the loss {problem.loss.name!r} have no noise variance: leave it out")
        objective = problem.objective(problem.rollout(self.controls))
        return laplace_evidence(problem, objective, self.log_determinant, noise_variance)

    # --- of the weights

    def covariance_product(self, vectors: ArrayLike) -> Array:
        """Cov(u) V = sigma^2 H^-1 V for one vector (P,) or several (P, k)."""
        v = checks.real_array("vectors", vectors)
        if v.ndim not in (1, 2) or len(v) != self.problem.network.num_controls:
            raise ValueError(f"vectors must have {self.problem.network.num_controls} rows, received {v.shape}")
        return self.noise_variance * self._solve(v)

    def sample(self, count: int = 1, *, seed: int = 0) -> list[tuple[Array, ...]]:
        """Controls drawn from the posterior.

        In the dual form by Matheron's rule: a draw from the prior, moved by what its outputs and noise lack.  Networks
        with these weights scatter more than :meth:`predict` says, several times where weights are told badly: it is the
        linearised network f(x) + J(x) (u - u*) that this is the posterior of (Immer, Korzepa and Bauer 2021).
        """
        checks.check_all({"count": checks.integer(1), "seed": checks.SEED}, {"count": count, "seed": seed})
        rng, weights = np.random.default_rng(seed), self.problem.network.num_controls
        if self._is_dual:
            prior = rng.standard_normal((weights, count)) / np.sqrt(self.problem.weight_decay)
            lacking = self._jacobian @ prior + rng.standard_normal((len(self._jacobian), count))
            drawn = prior - self._jacobian.T @ linalg.cho_solve((self._factor, True), lacking)
        else:
            normal = rng.standard_normal((weights, count))
            drawn = linalg.solve_triangular(self._factor, normal, lower=True, trans="T")
        flat = np.concatenate(self.controls)
        return [self.problem.split(flat + np.sqrt(self.noise_variance) * column) for column in drawn.T]

    def told_directions(self) -> tuple[Array, Array]:
        """Squared singular values of J, (k,), and its right singular vectors, (P, k), k = min(n, P)."""
        j = self._jacobian
        if not self._is_dual:
            squares, right = np.linalg.eigh(j.T @ j)
            return np.maximum(squares, 0.0), np.asarray(right)
        squares, left = np.linalg.eigh(j @ j.T)
        squares = np.maximum(squares, squares.max() * len(j) * np.finfo(float).eps)
        return squares, np.asarray(j.T @ left / np.sqrt(squares))

    def _solve(self, v: Array) -> Array:
        """H^-1 v."""
        if not self._is_dual:
            return np.asarray(linalg.cho_solve((self._factor, True), v))
        inner = linalg.cho_solve((self._factor, True), self._jacobian @ v)
        return np.asarray((v - self._jacobian.T @ inner) / self.problem.weight_decay)

    # --- of outputs

    def predict(self, x: ArrayLike) -> tuple[Array, Array]:
        """Outputs (M, m) at new inputs (M, n), and their covariances (M, m, m), without noise.

        Raises
        ------
        ValueError
            For inputs of another width.
        """
        network, outputs = self.problem.network, self.problem.y.shape[1]
        inputs = checks.table("x", x, network.num_inputs)
        covariances = np.empty((len(inputs), outputs, outputs))
        for start in range(0, len(inputs), _CHUNK):
            rows = inputs[start : start + _CHUNK]
            j = output_jacobian(self.problem, self.controls, rows)
            solved = self._solve(j.T).T
            blocks = [part.reshape(len(rows), outputs, -1) for part in (j, solved)]
            covariances[start : start + _CHUNK] = self.noise_variance * np.einsum("iap,ibp->iab", *blocks)
        return network.predict(self.controls, inputs), covariances

    def joint_covariance(self, x: ArrayLike) -> Array:
        """Covariances of the outputs at new inputs with each other, output by output, (M, M, m), without noise."""
        outputs = self.problem.y.shape[1]
        inputs = checks.table("x", x, self.problem.network.num_inputs)
        j = output_jacobian(self.problem, self.controls, inputs)
        solved = self._solve(j.T).T.reshape(len(inputs), outputs, -1)
        return np.asarray(
            self.noise_variance * np.einsum("iap,jap->ija", j.reshape(len(inputs), outputs, -1), solved, optimize=True)
        )

    def interval(self, x: ArrayLike, coverage: float = 0.9, *, calibrated: bool = False) -> tuple[Array, Array]:
        """Lower and upper ends, (M, m) each, of central intervals for new targets, noise included.

        Parameters
        ----------
        x : array_like, shape (M, n)
        coverage : float
        calibrated : bool
            Reach as far as :meth:`studentised_residuals` do, not as far as Gaussian noise would.

        Raises
        ------
        ValueError
            For a coverage that is not between 0 and 1, for another loss than squares, and for calibration with too few
            samples to tell of so large a coverage.
        """
        checks.check_all({"coverage": checks.SHARE, "calibrated": checks.BOOLEAN},
                         {"coverage": coverage, "calibrated": calibrated})  # fmt: skip
        if not isinstance(self.problem.loss, Squared):
            raise ValueError(f"intervals are those of Gaussian noise, received the loss {self.problem.loss.name!r}")
        mean, covariance = self.predict(x)
        variance = np.maximum(np.diagonal(covariance, axis1=1, axis2=2), 0.0) + self.noise_variances
        reach = self._jackknife(coverage) if calibrated else float(special.ndtri(0.5 + coverage / 2))
        return mean - reach * np.sqrt(variance), mean + reach * np.sqrt(variance)

    @property
    def leverages(self) -> Array:
        """The diagonal of the hat matrix J H^-1 J', (N, m): by how much each output follows its own target."""
        if self._is_dual:  # J H^-1 J' = I - rho (J J' + rho I)^-1
            inverse = linalg.solve_triangular(self._factor, np.eye(len(self._factor)), lower=True)
            values = 1.0 - self.problem.weight_decay * np.sum(inverse**2, axis=0)
        else:
            values = np.sum(linalg.solve_triangular(self._factor, self._jacobian.T, lower=True) ** 2, axis=0)
        return np.asarray(values.reshape(self.problem.y.shape))

    @property
    def studentised_residuals(self) -> Array:
        """Errors that samples would have if the network were trained without them, over their deviation, (N, m).

        With leverage h, the linearised network without sample i has the residual r/(1 - h) there, and a prediction of
        variance sigma^2 h/(1 - h), which with the noise is r / (sigma (1 - h)^(1/2)): internally studentised residuals
        (Cook and Weisberg 1982, section 2.2.1, for a ridge by our derivation).
        """
        root = 1.0 if self.problem.sample_weight is None else np.sqrt(self.problem.sample_weight)[:, None]
        residuals = root * (self.problem.network.predict(self.controls, self.problem.x) - self.problem.y)
        return np.asarray(residuals / np.sqrt(self.noise_variances * np.maximum(1.0 - self.leverages, 1e-12)))

    def _jackknife(self, coverage: float) -> Array:
        """The quantile of the studentised residuals, (m,): the jackknife, by linearisation instead of N trainings."""
        count = self.problem.num_samples
        rank = int(np.ceil((count + 1) * coverage))
        if rank > count:
            raise ValueError(
                f"calibration to a coverage of {coverage:g} needs at least {int(np.ceil(coverage / (1 - coverage)))} "
                f"samples, received {count}"
            )
        return np.asarray(np.sort(np.abs(self.studentised_residuals), axis=0)[rank - 1])


def _refuse_what_is_no_minimum(problem: TrainingProblem, controls: tuple[Array, ...]) -> None:
    hessian = reduced_hessian(problem, controls)
    shifted = hessian + FLAT * max(1.0, float(np.diag(hessian).max())) * np.eye(len(hessian))
    try:
        np.linalg.cholesky(shifted)
    except np.linalg.LinAlgError:
        eigenvalues = np.linalg.eigvalsh(hessian)
        if eigenvalues[0] < -FLAT * max(1.0, float(eigenvalues[-1])):
            raise ValueError(
                f"the posterior needs a minimum: the Hessian has a negative curvature of {eigenvalues[0]:.2g} here, so "
                "this is no minimum; train to the end, or from other weights"
            ) from None


def _noise(problem: TrainingProblem, controls: Sequence[Array], gamma: float) -> tuple[float, Array]:
    """sigma^2 of all outputs together, and of each."""
    loss, outputs = problem.loss, problem.y.shape[1]
    if not has_scale(loss):
        return 1.0, np.ones(outputs)
    gradients = loss.gradient(problem.network.predict(controls, problem.x), problem.y)
    weights = 1.0 if problem.sample_weight is None else problem.sample_weight[:, None]
    squares = np.sum(weights * gradients**2, axis=0)
    free = problem.y.size - gamma
    if not free > 1e-6 * problem.y.size or not squares.sum() > NO_NOISE * np.sum(problem.y**2):
        raise ValueError(
            f"the posterior needs noise to be seen: {problem.y.size} targets decide {gamma:.4g} effective parameters "
            f"and leave a sum of squares of {squares.sum():.2g}; raise weight_decay"
        )
    return float(squares.sum() / free), squares * outputs / free
