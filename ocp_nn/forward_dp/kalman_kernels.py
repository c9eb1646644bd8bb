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

__all__ = ["adjoint_sweep", "back_propagate", "filter_stages", "predict_means", "smooth_states"]

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
            for c in range(right.shape[1]):
                out[a, c] += factor * right[b, c]


@compiled("void(f8[:,::1], f8[:,::1], f8[:,::1])")
def _subtract_product(left: Array, right: Array, out: Array) -> None:
    """out -= left right, rows of ``right`` being long."""
    for a in range(len(left)):
        for b in range(len(right)):
            factor = left[a, b]
            if factor != 0.0:
                for c in range(right.shape[1]):
                    out[a, c] -= factor * right[b, c]


@compiled("void(f8[:,::1], i8, i8, f8[::1], f8[:,::1])")
def _place(values: Array, begin: int, end: int, constant: Array, out: Array) -> None:
    """out = [0, values, 0, constant], the values from column ``begin`` up to ``end``."""
    last = out.shape[1] - 1
    for a in range(len(out)):
        for c in range(begin):
            out[a, c] = 0.0
        for c in range(begin, end):
            out[a, c] = values[a, c - begin]
        for c in range(end, last):
            out[a, c] = 0.0
        out[a, last] = constant[a]


@compiled("void(f8[:,::1], f8[:,::1])")
def _copy(values: Array, out: Array) -> None:
    for a in range(len(out)):
        for b in range(out.shape[1]):
            out[a, b] = values[a, b]


@compiled("void(f8[:,::1], f8[:,::1], f8[:,::1])")
def _close(gain: Array, c: Array, out: Array) -> None:
    """out = I - G C."""
    for a in range(len(out)):
        for b in range(len(out)):
            total = 1.0 if a == b else 0.0
            for r in range(len(c)):
                total -= gain[a, r] * c[r, b]
            out[a, b] = total


@compiled("f8(f8[:,::1], f8[:,::1], f8[:,::1], f8[:,::1], f8[:,::1], f8[:,::1])")
def _update(c: Array, row: Array, state: Array, cov: Array, gain: Array, root: Array) -> float:
    """A term: [D r] in ``row`` becomes the whitened [E e], state and covariance those after it; log det F."""
    n, m = gain.shape
    _add_product(c, state, row)
    log_det = _weigh(c, cov, np.empty((m, m)), root, gain)
    _subtract_product(gain, row, state)
    _solve_rows(root, row)
    closed = np.empty((n, n))
    _close(gain, c, closed)
    _sandwich(closed, cov, gain, np.empty((n, n)), cov)
    return log_det


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
    following, work, nothing = np.empty((n, size)), np.empty((n, n)), np.empty((n, 0))
    log_det = 0.0
    for i in range(num_samples):
        state, cov = sensitivity[i].copy(), covariance[i]
        for k in range(len(first_term) - 1):
            _copy(cov, covariances[k, i])
            for j in range(first_term[k], first_term[k + 1]):
                _place(D[j, i], term_columns[j, 0], term_columns[j, 1], residual[j, i], rows[j, i])
                log_det += _update(C[j, i], rows[j, i], state, cov, gains[j, i], roots[j, i])
            if k < len(A):
                _place(B[k, i], columns[k, 0], columns[k, 1], gaps[k, i], following)
                _add_product(A[k, i], state, following)
                state, following = following, state
                _sandwich(A[k, i], cov, nothing, work, cov)
                for a in range(n):
                    cov[a, a] += variance[k]
        _copy(state, sensitivity[i])
    return log_det


@compiled("void(f8[:,::1], f8[::1])")
def _solve(root: Array, right: Array) -> None:
    """F^-1 right with F = L L', in place."""
    m = len(right)
    for r in range(m):
        for s in range(r):
            right[r] -= root[r, s] * right[s]
        right[r] /= root[r, r]
    for r in range(m - 1, -1, -1):
        for s in range(r + 1, m):
            right[r] -= root[s, r] * right[s]
        right[r] /= root[r, r]


# Below, indices instead of views of one stage: a view costs as much as the product of a small matrix with it.


@compiled("void(f8[:,:,:,::1], f8[:,:,:,::1], f8[:,:,:,::1], i8[::1], f8[:,:,::1], f8[:,:,::1])")
def predict_means(A: Array, C: Array, gains: Array, first_term: Indices, means: Array, rows: Array) -> None:
    """The filter's means for known controls, in place.

    ``means`` (K', N, n) holds g_0 and then c_k + B du, and becomes the means before the terms of every node; ``rows``
    (J, N, m) holds r + D du and becomes the innovations.
    """
    nodes, num_samples, n = means.shape
    mean = np.empty(n)
    for i in range(num_samples):
        for k in range(nodes):
            if k > 0:
                for a in range(n):
                    for b in range(n):
                        means[k, i, a] += A[k - 1, i, a, b] * mean[b]
            for a in range(n):
                mean[a] = means[k, i, a]
            for j in range(first_term[k], first_term[k + 1]):
                for r in range(rows.shape[2]):
                    for a in range(n):
                        rows[j, i, r] += C[j, i, r, a] * mean[a]
                for a in range(n):
                    for r in range(rows.shape[2]):
                        mean[a] -= gains[j, i, a, r] * rows[j, i, r]


@compiled("void(f8[:,:,:,::1], f8[:,:,:,::1], f8[:,:,:,::1], f8[:,:,:,::1], i8[::1], f8[:,:,::1], f8[:,:,::1])")
def back_propagate(
    A: Array, C: Array, gains: Array, roots: Array, first_term: Indices, rows: Array, costates: Array
) -> None:
    """The costates (K', N, n); the innovations in ``rows`` become what is left of them."""
    nodes, num_samples, n = costates.shape
    costate = np.empty(n)
    for i in range(num_samples):
        for k in range(nodes - 1, -1, -1):
            for b in range(n):
                costate[b] = 0.0
            if k < len(A):
                for a in range(n):
                    for b in range(n):
                        costate[b] += A[k, i, a, b] * costates[k + 1, i, a]
            for j in range(first_term[k + 1] - 1, first_term[k] - 1, -1):
                _solve(roots[j, i], rows[j, i])
                for a in range(n):
                    for r in range(rows.shape[2]):
                        rows[j, i, r] -= gains[j, i, a, r] * costate[a]
                for r in range(rows.shape[2]):
                    for a in range(n):
                        costate[a] += C[j, i, r, a] * rows[j, i, r]
            for a in range(n):
                costates[k, i, a] = costate[a]


@compiled("void(f8[:,:,:,::1], f8[:,:,:,::1], f8[::1], f8[:,:,::1], f8[:,:,::1], f8[:,:,::1])")
def smooth_states(A: Array, covariances: Array, variance: Array, drift: Array, costates: Array, states: Array) -> None:
    """The filter's means in ``states`` become the states; ``drift`` is c + B du."""
    nodes, num_samples, n = states.shape
    for i in range(num_samples):
        for k in range(nodes):
            if k > 0 and variance[k - 1] == 0.0:
                for a in range(n):
                    total = drift[k - 1, i, a]
                    for b in range(n):
                        total += A[k - 1, i, a, b] * states[k - 1, i, b]
                    states[k, i, a] = total
            else:
                for a in range(n):
                    for b in range(n):
                        states[k, i, a] -= covariances[k, i, a, b] * costates[k, i, b]


@compiled("void(f8[:,:,:,::1], b1[::1], f8[:,:,::1])")
def adjoint_sweep(A: Array, nodes: NDArray[np.bool_], costates: Array) -> None:
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
