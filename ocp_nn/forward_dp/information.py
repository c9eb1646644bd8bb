"""Information form: the textbook recursion, in square-root form.

Let z_k = dx_k - m_k and w_k = du_k - ubar_k be deviations from the mean rollout of :mod:`.sweeps`: gaps and mean
controls enter through the predicted residual only.  The cost-to-arrive is carried as V_k(z) = 1/2 ||R_k z - s_k||^2, z
stacking all samples; V_0 = 0 on the single point z_0 = 0.  One stage minimises

    V_{k+1}(z_{k+1}) = min over (z_k, w_k)   1/2 ||R_k z_k - s_k||^2  +  1/2 ||sqrt(rho + mu) w_k||^2
                                           + 1/2 ||sqrt(beta_k) (A_k z_k + B_k w_k - z_{k+1})||^2

by a QR factorisation of the stacked rows with columns ordered [z_k, w_k | z_{k+1}]: the rows of R that start in the
first block give (z_k, w_k) as an affine function of z_{k+1}, the rest *is* R_{k+1}, and Q' of the stacked right-hand
sides holds s_{k+1}.  A backward sweep reads the minimiser off.  Only orthogonal transformations: no covariance, no
normal equations.

An infinite beta_k cannot be a row weight.  There the state is substituted first: stages k and k+1 merge into one with
A = A_{k+1} A_k and B = [A_{k+1} B_k, B_{k+1}] (:func:`merge`).

Cost: K (N n)^3.  The textbook form, for teaching and tiny problems.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.linalg import lapack

from .condensed import Condensed, Solution
from .subproblem import Subproblem

__all__ = ["InformationFactor", "InformationForm", "MergedStage", "merge"]

Array = NDArray[np.float64]


# Columns that LAPACK's Householder QR works on at a time.
_QR_BLOCK = 64


@dataclass(frozen=True, eq=False)
class MergedStage:
    """One or more stages between two nodes: A (N, n', n), B (N, n', P) and the weight beta of its end."""

    A: Array
    B: Array
    penalty: float


def merge(subproblem: Subproblem) -> list[MergedStage]:
    """Merge stages across eliminated states; the last stage, compared with the data, has weight one."""
    between_nodes: list[MergedStage] = []
    merged: MergedStage | None = None
    for stage, beta in zip(subproblem.stages, (*subproblem.penalty, 1.0), strict=True):
        a, b = stage.A, stage.B
        if merged is not None:
            a, b = a @ merged.A, np.concatenate([a @ merged.B, b], axis=2)
        merged = MergedStage(a, b, beta)
        if np.isfinite(beta):
            between_nodes.append(merged)
            merged = None
    return between_nodes


@dataclass(frozen=True, eq=False)
class _Elimination:
    """QR factors of one stage: its first ``known`` columns are z_k, ``controls`` more are w_k, the rest z_{k+1}."""

    reflectors: Array
    scales: Array
    row_order: NDArray[np.intp]
    known: int
    controls: int

    def rotate(self, right: Array) -> Array:
        """Q' applied to the right-hand sides of the rows."""
        column = np.asfortranarray(right[self.row_order, None])
        rotated, _, info = lapack.dormqr("L", "T", self.reflectors, self.scales, column, lwork=_QR_BLOCK)
        if info != 0:
            raise ValueError(f"dormqr refused argument {-info}")
        return np.asarray(rotated[:, 0], dtype=float)

    def back_substitute(self, right: Array, following: Array) -> tuple[Array, Array]:
        """(z_k, w_k) from z_{k+1}."""
        cut = self.known + self.controls
        coupled = right[:cut] - self.reflectors[:cut, cut:] @ following
        both = linalg.solve_triangular(self.reflectors[:cut, :cut], coupled, check_finite=False)
        return both[: self.known], both[self.known :]


def _eliminate(root: Array, stage: MergedStage, ridge: float, *, final: bool) -> tuple[_Elimination, Array]:
    """One stage of the recursion: R_k -> (elimination of z_k and w_k, R_{k+1})."""
    known = len(root)
    samples, width, controls = stage.B.shape
    size = samples * width
    a = linalg.block_diag(*stage.A) if known else np.zeros((size, 0))
    following = np.zeros((size, 0)) if final else -np.eye(size)
    rows = np.zeros((known + controls + size, known + controls + following.shape[1]))
    rows[:known, :known] = root
    rows[known : known + controls, known : known + controls] = np.sqrt(ridge) * np.eye(controls)
    rows[known + controls :] = np.sqrt(stage.penalty) * np.hstack([a, stage.B.reshape(size, controls), following])
    # heavy rows first: Householder QR is then accurate row by row (Cox and Higham 1998)
    order: NDArray[np.intp] = np.argsort(-np.abs(rows).max(axis=1), kind="stable")
    work = _QR_BLOCK * rows.shape[1]
    reflectors, scales, _, info = lapack.dgeqrf(np.asfortranarray(rows[order]), lwork=work, overwrite_a=1)
    if info != 0:
        raise ValueError(f"dgeqrf refused argument {-info}")
    cut = known + controls
    return _Elimination(reflectors, scales, order, known, controls), np.triu(reflectors[cut : rows.shape[1], cut:])


class InformationForm:
    """The stages between nodes; the recursion is run anew for every ridge."""

    def __init__(self, condensed: Condensed) -> None:
        self._condensed = condensed
        self._stages = merge(condensed.subproblem)

    def factor(self, ridge: float) -> InformationFactor:
        """Run the recursion R_0, R_1, ... for rho + mu = ``ridge``."""
        eliminations: list[_Elimination] = []
        root = np.zeros((0, 0))
        for stage in self._stages:
            elimination, root = _eliminate(root, stage, ridge, final=stage is self._stages[-1])
            eliminations.append(elimination)
        return InformationFactor(self._condensed, tuple(eliminations), ridge)


@dataclass(frozen=True, eq=False)
class InformationFactor:
    """The QR factors of every stage."""

    condensed: Condensed
    eliminations: tuple[_Elimination, ...]
    ridge: float

    def solve(self, first: Array, second: Array) -> Solution:
        w = self._minimise(first, second)
        return Solution(self.condensed.noise_solve(first + self.condensed.tangent(w)), w)

    def precondition(self, second: Array) -> Array:
        return self._minimise(np.zeros_like(self.condensed.subproblem.residual), second)

    def _minimise(self, first: Array, second: Array) -> Array:
        """w of the system (*) of :mod:`.condensed`: s_{k+1} forward, (z_k, w_k) backward."""
        efforts = np.split(second / np.sqrt(self.ridge), np.cumsum([e.controls for e in self.eliminations])[:-1])
        rotated, arrival = [], np.zeros(0)
        for elimination, effort in zip(self.eliminations, efforts, strict=True):
            rows = len(elimination.row_order) - len(arrival) - len(effort)
            dynamics = -first.ravel() if elimination is self.eliminations[-1] else np.zeros(rows)
            rotated.append(elimination.rotate(np.concatenate([arrival, effort, dynamics])))
            cut = elimination.known + elimination.controls
            arrival = rotated[-1][cut : elimination.reflectors.shape[1]]
        z, steps = np.zeros(0), []
        for elimination, right in zip(reversed(self.eliminations), reversed(rotated), strict=True):
            z, w = elimination.back_substitute(right, z)
            steps.append(w)
        return np.concatenate(steps[::-1])
