"""Information form: the textbook recursion, in square-root form.

The cost-to-arrive is carried as V_k(dx) = 1/2 ||R_k dx - s_k||^2, dx stacking all samples.  One stage minimises

    V_{k+1}(dx_{k+1}) = min over (dx_k, du_k)   1/2 ||R_k dx_k - s_k||^2
                                              + 1/2 ||sqrt(rho + mu) (du_k - ubar_k)||^2
                                              + 1/2 ||sqrt(beta_k) (A_k dx_k + B_k du_k - dx_{k+1} + c_k)||^2

by a QR factorisation of the stacked rows with columns ordered [dx_k, du_k | dx_{k+1}]: the rows of R that start in
the first block give (dx_k, du_k) as an affine function of dx_{k+1}, the rest *is* [R_{k+1}, s_{k+1}].  A backward
sweep reads the minimiser off.  Only orthogonal transformations: no covariance, no normal equations.

An infinite beta_k cannot be a row weight.  There the state is substituted first: stages k and k+1 merge into one with
A = A_{k+1} A_k, B = [A_{k+1} B_k, B_{k+1}], c = A_{k+1} c_k + c_{k+1} (:func:`condense`).

Cost: K (N n)^3.  The oracle of the other forms and for tiny problems.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from .reduced import Reduced
from .subproblem import Subproblem

__all__ = ["CondensedStage", "condense", "solve_information"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CondensedStage:
    """One or more stages between two nodes: A (N, n', n), B (N, n', P), gap c (N, n'), mean control, weight beta."""

    A: Array
    B: Array
    gap: Array
    mean_control: Array
    penalty: float


def condense(subproblem: Subproblem) -> list[CondensedStage]:
    """Merge stages across eliminated states; the last stage, compared with the data, has weight one."""
    sub = subproblem
    condensed: list[CondensedStage] = []
    merged: CondensedStage | None = None
    for stage, ubar, gap, beta in zip(
        sub.stages, sub.mean_controls, (*sub.gaps, sub.residual), (*sub.penalty, 1.0), strict=True
    ):
        if merged is None:
            merged = CondensedStage(stage.A, stage.B, gap, ubar, beta)
        else:
            merged = CondensedStage(
                stage.A @ merged.A,
                np.concatenate([stage.A @ merged.B, stage.B], axis=2),
                np.einsum("iab,ib->ia", stage.A, merged.gap) + gap,
                np.concatenate([merged.mean_control, ubar]),
                beta,
            )
        if np.isfinite(beta):
            condensed.append(merged)
            merged = None
    return condensed


@dataclass(frozen=True, eq=False)
class _Elimination:
    """[R, S] rows with R (dx_k, du_k) + S dx_{k+1} = t."""

    triangle: Array
    coupling: Array
    right: Array


def solve_information(reduced: Reduced) -> tuple[Array, Array]:
    """(eta_K, w) of the subproblem, by a forward sweep of QR factorisations and a backward substitution."""
    sub = reduced.subproblem
    stages = condense(sub)
    arrival = np.zeros((0, 1))  # [R_0, s_0]: dx_0 = 0 is no unknown
    eliminations = []
    for stage in stages[:-1]:
        elimination, arrival = _advance(arrival, stage, sub.ridge)
        eliminations.append(elimination)
    following = np.zeros(0)
    last, _ = _advance(arrival, stages[-1], sub.ridge, final=True)
    steps: list[Array] = []
    for elimination in reversed([*eliminations, last]):
        both = linalg.solve_triangular(elimination.triangle, elimination.right - elimination.coupling @ following)
        stage = stages[len(stages) - 1 - len(steps)]
        steps.append(both[len(both) - stage.B.shape[2] :])
        following = both[: len(both) - stage.B.shape[2]]
    w = np.concatenate(list(reversed(steps))) - np.concatenate(sub.mean_controls)
    return reduced.noise_solve(reduced.predicted_residual + reduced.tangent(w)), w


def _advance(arrival: Array, stage: CondensedStage, ridge: float, *, final: bool = False) -> tuple[_Elimination, Array]:
    """One stage of the recursion: [R_k, s_k] -> (elimination of dx_k and du_k, [R_{k+1}, s_{k+1}])."""
    samples, width = stage.gap.shape
    size, controls = samples * width, stage.B.shape[2]
    known = arrival.shape[1] - 1
    a = linalg.block_diag(*stage.A) if known else np.zeros((size, 0))
    following = np.zeros((size, 0)) if final else -np.eye(size)
    dynamics = np.sqrt(stage.penalty) * np.hstack(
        [a, stage.B.reshape(size, controls), following, -stage.gap.reshape(size, 1)]
    )
    columns = dynamics.shape[1]
    effort = np.zeros((controls, columns))
    effort[:, known : known + controls] = np.sqrt(ridge) * np.eye(controls)
    effort[:, -1] = np.sqrt(ridge) * stage.mean_control
    memory = np.zeros((len(arrival), columns))
    memory[:, :known], memory[:, -1] = arrival[:, :known], arrival[:, -1]
    # heavy rows first: Householder QR is then accurate row by row (Cox and Higham 1998)
    blocks = sorted([dynamics, effort, memory], key=lambda rows: -np.abs(rows).max(initial=0.0))
    (triangle,) = linalg.qr(np.vstack(blocks), mode="r", check_finite=False, overwrite_a=True)
    cut = known + controls
    elimination = _Elimination(triangle[:cut, :cut], triangle[:cut, cut:-1], triangle[:cut, -1])
    return elimination, triangle[cut : columns - 1, cut:]
