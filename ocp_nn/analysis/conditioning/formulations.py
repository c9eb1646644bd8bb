"""The matrices of single and of multiple shooting at a point, and how their spectra are found.

Three facts spare work and rounding.  With the singular values s of J, the Gauss-Newton matrix rho I + J'J has the
eigenvalues rho + s^2, and rho where P exceeds their number.  Weight decay shifts the exact Hessian's eigenvalues by
rho.  And the R factor of ``primal_qr`` has the square roots of the primal form's eigenvalues.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from . import dense
from .iterative import (
    Ritz,
    extremes,
    from_ends,
    largest_eigenvalue,
    largest_of_inverse,
    smallest_by_lobpcg,
    smallest_by_minres,
)
from .operators import Operators
from .point import LinearisedPoint
from .spectrum import Spectrum, from_eigenvalues, from_singular_values

__all__ = ["MultipleShooting", "SingleShooting"]

Array = NDArray[np.float64]

# Order up to which "auto" writes symmetric matrices out: their eigenvalues then take under half a second.
DENSE_ORDER = 700

# Shorter side, and numbers, up to which a rectangular Jacobian is written out.
DENSE_SIDE, DENSE_NUMBERS = 2500, 5e7

# Controls up to which the exact Hessian of single shooting is formed and factorised (18 MB).
DENSE_HESSIAN = 1500

# Numbers up to which every whitened Jacobian gets a singular value decomposition of its own.
SMALL_NUMBERS = 1_000_000

# Shift of J J' relative to its largest eigenvalue: singular values below the root of ten times that are not resolved.
_SHIFT = 1e-12


class Condensed:
    """What single and multiple shooting share: J, and the matrices that forward DP factorises."""

    FIXED: tuple[str, ...] = ()
    PENALISED: tuple[str, ...] = ()

    def __init__(self, point: LinearisedPoint, route: str) -> None:
        self.point, self.route = point, route
        self.num_residuals = point.num_samples * point.num_outputs

    def fixed(self, matrix: str) -> Spectrum:
        """The spectrum of a matrix without a penalty."""
        return cast(Spectrum, getattr(self, f"_{matrix}")())

    def penalised(self, matrix: str, beta: float) -> Spectrum | None:
        """The spectrum of a matrix for a penalty; None where the size forbids it."""
        return cast("Spectrum | None", getattr(self, f"_{matrix}")(beta))

    def is_dense(self, order: int, limit: int | None = None) -> bool:
        limit = DENSE_ORDER if limit is None else limit
        return self.route == "dense" or (self.route == "auto" and order <= limit)

    def is_dense_jacobian(self) -> bool:
        rows, columns = self.num_residuals, self.point.num_controls
        small = min(rows, columns) <= DENSE_SIDE and rows * columns <= DENSE_NUMBERS
        return self.route == "dense" or (self.route == "auto" and small)

    @cached_property
    def operators(self) -> Operators:
        return Operators(self.point)

    @cached_property
    def eliminated(self) -> Operators:
        """The same point seen by single shooting: J and J'."""
        return Operators(replace(self.point, nodes=()))

    @cached_property
    def kernel(self) -> Array:
        """J J', (N m, N m)."""
        jacobian = dense.output_jacobian(self.point)
        return jacobian @ jacobian.T

    def _dual(self, beta: float = np.inf) -> Spectrum:
        point, size = self.point, self.num_residuals
        noise = point.batch(beta).noise
        if self.is_dense(size, DENSE_SIDE) and self.is_dense_jacobian():
            return from_eigenvalues(np.linalg.eigvalsh(self.kernel + point.ridge * linalg.block_diag(*noise)))
        jacobian = self.eliminated

        def product(v: Array) -> Array:
            noisy = (noise @ v.reshape(*noise.shape[:2], 1)).ravel()
            return jacobian.output_jacobian(jacobian.output_jacobian_transpose(v)) + point.ridge * noisy

        return extremes(product, partial(self.operators.output_inverse, beta), size)

    def _primal(self, beta: float = np.inf) -> Spectrum:
        point, size = self.point, self.point.num_controls
        if self.is_dense_jacobian():
            return from_eigenvalues(_padded(self._whitened_squares(beta), size) + point.ridge)
        batch, jacobian = point.batch(beta), self.eliminated

        def product(v: Array) -> Array:
            image = jacobian.output_jacobian(v).reshape(point.num_samples, -1)
            return point.ridge * v + jacobian.output_jacobian_transpose(batch.noise_solve(image))

        return extremes(product, partial(self.operators.control_inverse, beta), size)

    def _whitened_squares(self, beta: float) -> Array:
        """Squares of the singular values of Sigma^-1/2 J."""
        if (
            self.num_residuals * self.point.num_controls <= SMALL_NUMBERS
            or self.num_residuals > self.point.num_controls
        ):
            rows = self.point.batch(beta).whitened_jacobian()
            return np.asarray(np.linalg.svd(rows, compute_uv=False) ** 2)
        root = np.linalg.inv(np.linalg.cholesky(self.point.batch(beta).noise))
        half = _scale_rows(root, self.kernel)
        # the kernel knows them to eps * largest, which the ridge covers
        return np.maximum(np.linalg.eigvalsh(_scale_rows(root, half.T)), 0.0)

    def _primal_qr(self, beta: float = np.inf) -> Spectrum:
        return _rooted(self._primal(beta))


class SingleShooting(Condensed):
    """Matrices of single shooting; without states as variables there is no penalty."""

    FIXED = (
        "jacobian",
        "gauss_newton",
        "gauss_newton_no_decay",
        "hessian",
        "hessian_no_decay",
        "dual",
        "primal",
        "primal_qr",
    )

    @cached_property
    def jacobian(self) -> Spectrum:
        rows, columns = self.num_residuals, self.point.num_controls
        if self.is_dense_jacobian():
            values = np.linalg.svd(dense.output_jacobian(self.point), compute_uv=False)
            return from_singular_values(values, rows, columns)
        return self._iterative_jacobian()

    def _jacobian(self) -> Spectrum:
        return self.jacobian

    def _iterative_jacobian(self) -> Spectrum:
        """From the smaller of J J' and J'J, shifted by a little so that forward DP can invert it."""
        rows, columns = self.num_residuals, self.point.num_controls
        forward, back = self.eliminated.output_jacobian, self.eliminated.output_jacobian_transpose
        by_rows = rows <= columns
        size = min(rows, columns)
        top = largest_eigenvalue(lambda v: forward(back(v)) if by_rows else back(forward(v)), size)
        shift = _SHIFT * top.value
        shifted = Operators(replace(self.point, nodes=(), weight_decay=shift, damping=0.0))
        bottom = largest_of_inverse(shifted.output_inverse if by_rows else shifted.control_inverse, size)
        square = 1.0 / bottom.value - shift
        is_bound = not square > 10.0 * shift
        square = 11.0 * shift if is_bound else square
        return Spectrum(
            rows=rows,
            columns=columns,
            largest=float(np.sqrt(top.value)),
            smallest=float(np.sqrt(square)),
            accuracy=0.5 * (top.residual + bottom.residual * (square + shift) / square),
            route="iterative",
            is_bound=is_bound,
        )

    def _gauss_newton(self) -> Spectrum:
        return self._gram(self.point.weight_decay)

    def _gauss_newton_no_decay(self) -> Spectrum:
        return self._gram(0.0)

    def _gram(self, weight_decay: float) -> Spectrum:
        """rho I + J'J."""
        columns, known = self.point.num_controls, self.jacobian
        if known.values is not None:
            return from_eigenvalues(_padded(known.values**2, columns) + weight_decay)
        least = known.smallest**2 if known.rows >= columns else 0.0
        return replace(
            known,
            rows=columns,
            largest=known.largest**2 + weight_decay,
            smallest=least + weight_decay,
            accuracy=2.0 * known.accuracy,
            is_bound=known.is_bound and known.rows >= columns,
            negative=0,
        )

    @cached_property
    def _eigenvalues(self) -> Array:
        """Of the exact Hessian, without weight decay."""
        hessian = self.operators.reduced_hessian()
        hessian[np.diag_indices_from(hessian)] -= self.point.weight_decay
        return np.asarray(np.linalg.eigvalsh(hessian))

    def _hessian(self) -> Spectrum:
        return self._exact(self.point.weight_decay)

    def _hessian_no_decay(self) -> Spectrum:
        return self._exact(0.0)

    def _exact(self, weight_decay: float) -> Spectrum:
        if self.is_dense(self.point.num_controls, DENSE_HESSIAN):
            return from_eigenvalues(self._eigenvalues + weight_decay)
        exact = Operators(replace(self.point, weight_decay=weight_decay)).lagrangian_hessian
        size = self.point.num_controls
        top = largest_eigenvalue(exact, size)
        if self.route == "iterative" and size <= DENSE_HESSIAN:
            bottom = largest_of_inverse(partial(self.operators.reduced_inverse, weight_decay), size)
            return from_ends(size, top, bottom, definite=False)
        return _bound(size, top, smallest_by_minres(exact, size))


class MultipleShooting(Condensed):
    """Matrices with states at the nodes as variables."""

    FIXED = ("constraint_jacobian", "kkt", "kkt_gauss_newton")
    PENALISED = ("al_gauss_newton", "dual", "primal", "primal_qr", "covariance", "information")

    @property
    def order(self) -> int:
        """Of the KKT matrix."""
        return self.point.num_controls + 2 * self.point.num_constraints

    def _constraint_jacobian(self) -> Spectrum:
        rows = self.point.num_constraints
        columns = rows + self.point.num_controls
        if self.is_dense(self.order):
            values = np.linalg.svd(dense.constraint_jacobian(self.point), compute_uv=False)
            return from_singular_values(values, rows, columns)
        operators = self.operators

        def gram(v: Array) -> Array:
            return operators.constraint(operators.constraint_transpose(v))

        if self.point.num_controls <= DENSE_HESSIAN:
            squared = extremes(gram, operators.constraint_gram_inverse, rows)
        else:
            least = smallest_by_lobpcg(gram, operators.precondition_constraints, rows)
            squared = _bound(rows, largest_eigenvalue(gram, rows), least)
        return replace(_rooted(squared), columns=columns, negative=None)

    def _kkt_gauss_newton(self) -> Spectrum:
        if self.is_dense(self.order):
            return from_eigenvalues(np.linalg.eigvalsh(dense.kkt_matrix(self.point, gauss_newton=True)))
        top = largest_eigenvalue(partial(self.operators.kkt, gauss_newton=True), self.order)
        return from_ends(self.order, top, self._bottom, definite=False)

    @cached_property
    def _bottom(self) -> Ritz:
        return largest_of_inverse(partial(self.operators.kkt_inverse, gauss_newton=True), self.order)

    def _kkt(self) -> Spectrum:
        if self.is_dense(self.order):
            return from_eigenvalues(np.linalg.eigvalsh(dense.kkt_matrix(self.point)))
        top = largest_eigenvalue(self.operators.kkt, self.order)
        if self.point.num_controls <= DENSE_HESSIAN:
            bottom = largest_of_inverse(self.operators.kkt_inverse, self.order)
            return from_ends(self.order, top, bottom, definite=False)
        # no inverse of this size: ||K v|| bounds the smallest singular value for any v, here that of Gauss-Newton
        return _bound(self.order, top, float(np.linalg.norm(self.operators.kkt(self._bottom.vector))))

    def _al_gauss_newton(self, beta: float) -> Spectrum:
        size = self.point.num_controls + self.point.num_constraints
        if self.is_dense(size):
            return from_eigenvalues(np.linalg.eigvalsh(dense.al_matrix(self.point, beta)))
        return extremes(partial(self.operators.al_matrix, beta=beta), partial(self.operators.al_inverse, beta), size)

    def _covariance(self, beta: float) -> Spectrum | None:
        if not self.is_dense(self._widest):
            return None
        carried = dense.carried_covariances(self.point, beta)[:-1]
        return _worst([from_eigenvalues(np.linalg.eigvalsh(matrix)) for matrix in carried])

    def _information(self, beta: float) -> Spectrum | None:
        if not self.is_dense(2 * self._widest + self.point.num_controls):
            return None
        factors = dense.information_factors(self.point, beta)
        return _worst([from_singular_values(np.linalg.svd(f, compute_uv=False), *f.shape) for f in factors])

    @property
    def _widest(self) -> int:
        return self.point.num_samples * max(stage.num_inputs for stage in self.point.stages[1:])


def _padded(values: Array, size: int) -> Array:
    """With zeros up to ``size``."""
    padded = np.zeros(size)
    padded[: len(values)] = values
    return padded


def _scale_rows(blocks: Array, matrix: Array) -> Array:
    """blockdiag(blocks) @ matrix."""
    samples, m, _ = blocks.shape
    return np.asarray((blocks @ matrix.reshape(samples, m, -1)).reshape(matrix.shape))


def _rooted(spectrum: Spectrum) -> Spectrum:
    """The spectrum of R from that of R'R."""
    values = None if spectrum.values is None else np.sqrt(np.maximum(spectrum.values, 0.0))
    return replace(
        spectrum,
        largest=float(np.sqrt(spectrum.largest)),
        smallest=float(np.sqrt(spectrum.smallest)),
        accuracy=0.5 * spectrum.accuracy,
        negative=None,
        values=values,
    )


def _bound(size: int, top: Ritz, smallest: float) -> Spectrum:
    """A lower bound of the condition number, from an upper bound of the smallest singular value."""
    return Spectrum(
        rows=size,
        columns=size,
        largest=abs(top.value),
        smallest=smallest,
        accuracy=top.residual,
        route="iterative",
        is_bound=True,
    )


def _worst(spectra: Sequence[Spectrum]) -> Spectrum:
    return max(spectra, key=lambda spectrum: spectrum.condition)
