"""The sequential loops of :mod:`.kalman`, compiled.

The same recursions as :mod:`.kalman_numpy`, which is their oracle, for stages of equal width held as arrays.  Every
sample is on its own, and within one the stages follow each other while its sensitivities stay in cache.  Compiled ahead
for one signature each, once a machine: the result is kept beside this file, or in the user's cache folder, or nowhere.
No reassociation of sums (``fastmath``) and no threads: the same numbers on every run.

Importing this module imports numba.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["back_propagate", "filter_stages", "smooth"]

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
Function = TypeVar("Function", bound=Callable[..., Any])

_SETTINGS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


def compiled(signature: str) -> Callable[[Function], Function]:
    """Compile for a signature, and keep the result where there is a folder to keep it in."""

    def decorate(function: Function) -> Function:
        try:
            return cast(Function, numba.njit(signature, cache=True, **_SETTINGS)(function))
        except (RuntimeError, OSError):  # no folder that can be written
            return cast(Function, numba.njit(signature, **_SETTINGS)(function))

    return decorate


@compiled("void(f8[:,::1], f8[:,::1])")
def _factorise(matrix: Array, root: Array) -> None:
    """The lower Cholesky factor of a small matrix."""
    for r in range(len(matrix)):
        for s in range(r + 1):
            total = matrix[r, s]
            for t in range(s):
                total -= root[r, t] * root[s, t]
            root[r, s] = np.sqrt(total) if r == s else total / root[s, s]
        root[r, r + 1 :] = 0.0


@compiled("void(f8[:,::1], f8[:,::1])")
def _solve_rows(root: Array, rows: Array) -> None:
    """L^-1 rows, in place."""
    for r in range(len(root)):
        for s in range(r):
            factor = root[r, s]
            for c in range(rows.shape[1]):
                rows[r, c] -= factor * rows[s, c]
        scale = 1.0 / root[r, r]
        for c in range(rows.shape[1]):
            rows[r, c] *= scale


@compiled("void(f8[:,::1], f8[:,::1])")
def _solve_columns(root: Array, gain: Array) -> None:
    """gain F^-1 with F = L L', in place."""
    width = len(root)
    for a in range(len(gain)):
        for r in range(width):
            for s in range(r):
                gain[a, r] -= root[r, s] * gain[a, s]
            gain[a, r] /= root[r, r]
        for r in range(width - 1, -1, -1):
            for s in range(r + 1, width):
                gain[a, r] -= root[s, r] * gain[a, s]
            gain[a, r] /= root[r, r]


@compiled("void(f8[:,::1], f8[:,::1], f8[:,::1], f8[:,::1], f8[:,::1])")
def _sandwich(left: Array, cov: Array, noise: Array, work: Array, out: Array) -> None:
    """left cov left' + noise noise', symmetric to the last bit."""
    n, m = noise.shape
    for a in range(n):
        for b in range(len(cov)):
            total = 0.0
            for c in range(len(cov)):
                total += left[a, c] * cov[c, b]
            work[a, b] = total
    for a in range(n):
        for b in range(a + 1):
            total = 0.0
            for c in range(len(cov)):
                total += work[a, c] * left[b, c]
            for r in range(m):
                total += noise[a, r] * noise[b, r]
            out[a, b] = total
            out[b, a] = total


@compiled("f8(f8[:,::1], f8[:,::1], f8[:,::1], f8[:,::1], f8[:,::1])")
def _weigh(c: Array, cov: Array, innovation: Array, root: Array, gain: Array) -> float:
    """L of F = I + C cov C' and the gain cov C' F^-1; log det F."""
    m, n = c.shape
    for a in range(n):
        for r in range(m):
            total = 0.0
            for b in range(n):
                total += cov[a, b] * c[r, b]
            gain[a, r] = total
    for r in range(m):
        for s in range(r + 1):
            total = 1.0 if r == s else 0.0
            for a in range(n):
                total += c[r, a] * gain[a, s]
            innovation[r, s] = total
    _factorise(innovation, root)
    _solve_columns(root, gain)
    log_det = 0.0
    for r in range(m):
        log_det += 2.0 * np.log(root[r, r])
    return log_det


@compiled("void(f8[:,::1], f8[:,::1], f8[:,::1])")
def _add_product(left: Array, right: Array, out: Array) -> None:
    """out += left right, rows of ``right`` being long."""
    for a in range(len(left)):
        for b in range(len(right)):
            factor = left[a, b]
            if factor != 0.0:
                for c in range(right.shape[1]):
                    out[a, c] += factor * right[b, c]


@compiled(
    "f8(f8[:,:,:,::1], f8[:,:,:,::1], f8[:,:,:,::1], f8[:,:,:,::1], f8[:,:,::1], f8[:,:,::1], f8[::1], i8[::1],"
    " i8[:,::1], i8[:,::1], f8[:,:,::1], f8[:,:,::1], f8[:,:,:,::1], f8[:,:,:,::1], f8[:,:,:,::1], f8[:,:,:,::1])"
)
def filter_stages(
    A: Array,
    B: Array,
    C: Array,
    D: Array,
    gaps: Array,
    residual: Array,
    variance: Array,
    first_term: Indices,
    columns: Indices,
    term_columns: Indices,
    sensitivity: Array,
    covariance: Array,
    rows: Array,
    gains: Array,
    roots: Array,
    covariances: Array,
) -> float:
    """The filter over some nodes: K' of them, of which the first len(A) have dynamics; J' terms.

    ``first_term`` (K' + 1) says which terms look at a node, ``columns`` and ``term_columns`` (., 2) where the controls
    of a stage or term begin and end among the P.  ``sensitivity`` (N, n, P + 1), the mean being its last column, and
    ``covariance`` (N, n, n) are those of the first node, and become those after the last.  Written are the whitened
    rows (J', N, m, P + 1), gains, roots L of F = L L', and the covariance at every node.  Returns the sum of log det F.
    """
    num_samples, n, size = sensitivity.shape
    m = C.shape[2]
    following, cov, work = np.empty((n, size)), np.empty((n, n)), np.empty((n, n))
    innovation, closed = np.empty((m, m)), np.empty((n, n))
    nothing = np.empty((n, 0))
    log_det = 0.0
    for i in range(num_samples):
        state = sensitivity[i].copy()
        cov[:] = covariance[i]
        for k in range(len(first_term) - 1):
            covariances[k, i] = cov
            for j in range(first_term[k], first_term[k + 1]):
                row, gain = rows[j, i], gains[j, i]
                begin, end = term_columns[j]
                row[:] = 0.0
                row[:, begin:end] = D[j, i, :, : end - begin]
                row[:, size - 1] = residual[j, i]
                _add_product(C[j, i], state, row)
                log_det += _weigh(C[j, i], cov, innovation, roots[j, i], gain)
                for a in range(n):
                    for r in range(m):
                        factor = gain[a, r]
                        if factor != 0.0:
                            for c in range(size):
                                state[a, c] -= factor * row[r, c]
                _solve_rows(roots[j, i], row)
                for a in range(n):
                    for b in range(n):
                        closed[a, b] = 1.0 if a == b else 0.0
                        for r in range(m):
                            closed[a, b] -= gain[a, r] * C[j, i, r, b]
                _sandwich(closed, cov, gain, work, cov)
            if k < len(A):
                begin, end = columns[k]
                following[:] = 0.0
                following[:, begin:end] = B[k, i, :, : end - begin]
                following[:, size - 1] = gaps[k, i]
                _add_product(A[k, i], state, following)
                state, following = following, state
                _sandwich(A[k, i], cov, nothing, work, cov)
                for a in range(n):
                    cov[a, a] += variance[k]
        sensitivity[i] = state
        covariance[i] = cov
    return log_det


@compiled(
    "void(f8[:,:,:,::1], f8[:,:,:,::1], f8[:,:,:,::1], f8[:,:,:,::1], f8[:,:,:,::1], f8[::1], i8[::1], f8[:,:,::1],"
    " f8[:,:,::1], f8[:,::1], f8[:,:,::1], f8[:,:,::1], f8[:,:,::1])"
)
def smooth(
    A: Array,
    C: Array,
    gains: Array,
    roots: Array,
    covariances: Array,
    variance: Array,
    first_term: Indices,
    drift: Array,
    rows: Array,
    initial: Array,
    dx: Array,
    costates: Array,
    theta: Array,
) -> None:
    """Filtered means forward, costates backward, states forward, for known controls: their effect is in drift and rows.

    Written are dx and costates, (K', N, n), and theta, (J, N, m), which holds the innovations in between.
    """
    num_nodes, num_samples, n = dx.shape
    m = C.shape[2]
    mean, following = np.empty(n), np.empty(n)
    for i in range(num_samples):
        mean[:] = initial[i]
        for k in range(num_nodes):
            dx[k, i] = mean
            for j in range(first_term[k], first_term[k + 1]):
                for r in range(m):
                    total = rows[j, i, r]
                    for a in range(n):
                        total += C[j, i, r, a] * mean[a]
                    theta[j, i, r] = total
                for a in range(n):
                    for r in range(m):
                        mean[a] -= gains[j, i, a, r] * theta[j, i, r]
            if k < len(A):
                for a in range(n):
                    total = drift[k, i, a]
                    for b in range(n):
                        total += A[k, i, a, b] * mean[b]
                    following[a] = total
                mean[:] = following
        mean[:] = 0.0  # from here on the costate
        for k in range(num_nodes - 1, -1, -1):
            if k < len(A):
                for b in range(n):
                    total = 0.0
                    for a in range(n):
                        total += A[k, i, a, b] * mean[a]
                    following[b] = total
                mean[:] = following
            for j in range(first_term[k + 1] - 1, first_term[k] - 1, -1):
                root, left = roots[j, i], theta[j, i]
                for r in range(m):
                    for s in range(r):
                        left[r] -= root[r, s] * left[s]
                    left[r] /= root[r, r]
                for r in range(m - 1, -1, -1):
                    for s in range(r + 1, m):
                        left[r] -= root[s, r] * left[s]
                    left[r] /= root[r, r]
                for r in range(m):
                    for a in range(n):
                        left[r] -= gains[j, i, a, r] * mean[a]
                for a in range(n):
                    for r in range(m):
                        mean[a] += C[j, i, r, a] * left[r]
            costates[k, i] = mean
        for k in range(num_nodes):
            if k > 0 and variance[k - 1] == 0.0:
                for a in range(n):
                    total = drift[k - 1, i, a]
                    for b in range(n):
                        total += A[k - 1, i, a, b] * dx[k - 1, i, b]
                    dx[k, i, a] = total
            else:
                for a in range(n):
                    for b in range(n):
                        dx[k, i, a] -= covariances[k, i, a, b] * costates[k, i, b]


@compiled("void(f8[:,:,:,::1], b1[::1], f8[:,:,::1])")
def back_propagate(A: Array, nodes: NDArray[np.bool_], costates: Array) -> None:
    """lambda_k += A_k' lambda_{k+1}, k from the last stage down to 0, at x_0 and wherever x_k is no node.

    ``nodes`` (K' - 1,) says whether x_1.. are nodes, where ``costates`` (K', N, n) are given; elsewhere it holds what
    the terms say, and becomes the costate.
    """
    num_nodes, num_samples, n = costates.shape
    for k in range(num_nodes - 2, -1, -1):
        if k > 0 and nodes[k - 1]:
            continue
        for i in range(num_samples):
            for b in range(n):
                for a in range(n):
                    costates[k, i, b] += A[k, i, a, b] * costates[k + 1, i, a]
