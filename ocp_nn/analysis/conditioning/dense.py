"""The matrices of the shooting formulations, written out: the dense route, and the oracle of the iterative one.

Variables are ordered u_0, [x_1], u_1, [x_2], ..., u_{K-1} (states at nodes only, sample by sample) and constraints node
by node, as in :mod:`ocp_nn.solvers.nlp.transcription`.  With C the Jacobian of the defects, J_r that of the residual
and W the Hessian of the Lagrangian J + <lambda, d>:

    KKT matrix                    [[W, C'], [C, 0]]          exact, or with W_GN = rho I_u + J_r' J_r
    augmented Lagrangian, GN      W_GN + mu I_u + beta C'C                          in (u, x)
    dual form of forward DP       T = (rho + mu) Sigma + J J',   Sigma = I + sum_k Psi_k Psi_k' / beta_k
    primal form                   H = (rho + mu) I + J' Sigma^-1 J,    and its root (the R factor of ``primal_qr``)

where J is the Jacobian of the residual in the controls with every state eliminated.  Without nodes the first two are
the Hessian of single shooting and its Gauss-Newton matrix.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from ...forward_dp.covariance import predict_covariance
from ...forward_dp.information import Segment, merge
from ...problem.curvature import segment_hessian
from .point import LinearisedPoint

__all__ = [
    "al_matrix",
    "carried_covariances",
    "constraint_jacobian",
    "dual_matrix",
    "information_factors",
    "kkt_matrix",
    "lagrangian_hessian",
    "output_jacobian",
    "primal_root",
]

Array = NDArray[np.float64]


def output_jacobian(point: LinearisedPoint) -> Array:
    """J, (N m, P): of the residual in the controls, every state eliminated."""
    return point.batch().whitened_jacobian()


def lagrangian_hessian(point: LinearisedPoint, *, gauss_newton: bool = False) -> Array:
    """W in controls and node states, with weight decay (without damping)."""
    blocks = []
    for first, last in pairwise((0, *point.nodes, point.num_stages)):
        loss = float(last == point.num_stages)
        multipliers = None if gauss_newton else point.costates[first:last]
        part = segment_hessian(point.stages[first:last], multipliers, free_start=first > 0, loss=loss)
        samples, width = part.states.shape[:2]
        states = linalg.block_diag(*part.states) if width else np.zeros((0, 0))
        mixed = part.mixed.reshape(samples * width, len(part.controls))
        part.controls[np.diag_indices_from(part.controls)] += point.weight_decay
        blocks.append(np.block([[states, mixed], [mixed.T, part.controls]]))
    return np.asarray(linalg.block_diag(*blocks), dtype=float)


def constraint_jacobian(point: LinearisedPoint) -> Array:
    """C, one row a defect at a node: [.. A, B, -I ..] of the stages between two nodes merged."""
    segments = merge(point.subproblem(1.0)) if point.ridge else merge(_with_ridge(point).subproblem(1.0))
    jacobian = np.zeros((point.num_constraints, point.num_constraints + point.num_controls))
    row = column = 0
    for segment in segments[:-1]:
        states, b = _stacked(segment)
        size, controls = b.shape
        rows = slice(row, row + size)
        jacobian[rows, column : column + states.shape[1]] = states
        column += states.shape[1]
        jacobian[rows, column : column + controls] = b
        column += controls
        jacobian[rows, column : column + size] = -np.eye(size)
        row += size
    return jacobian


def _stacked(segment: Segment) -> tuple[Array, Array]:
    """A and [B_b ...] of the one map of a segment, all samples stacked; no columns of A where its start is known."""
    (part,) = segment.maps
    b = np.concatenate(list(part.B.values()), axis=2)
    size = b.shape[0] * b.shape[1]
    a = np.zeros((size, 0)) if part.A is None else linalg.block_diag(*part.A)
    return a, b.reshape(size, -1)


def _with_ridge(point: LinearisedPoint) -> LinearisedPoint:
    """Subproblems insist on a ridge; A and B do not depend on it."""
    return LinearisedPoint(point.stages, point.costates, point.nodes, point.weight_decay, damping=1.0)


def kkt_matrix(point: LinearisedPoint, *, gauss_newton: bool = False) -> Array:
    """[[W, C'], [C, 0]]; W itself without nodes."""
    c = constraint_jacobian(point)
    hessian = lagrangian_hessian(point, gauss_newton=gauss_newton)
    return np.block([[hessian, c.T], [c, np.zeros((len(c), len(c)))]])


def control_mask(point: LinearisedPoint) -> NDArray[np.bool_]:
    """Which of the variables are controls."""
    parts = []
    for k, stage in enumerate(point.stages):
        if k in point.nodes:
            parts.append(np.zeros(point.num_samples * stage.num_inputs, dtype=bool))
        parts.append(np.ones(stage.num_controls, dtype=bool))
    return np.concatenate(parts)


def al_matrix(point: LinearisedPoint, beta: float) -> Array:
    """Gauss-Newton matrix of the augmented Lagrangian in (u, x)."""
    c = constraint_jacobian(point)
    matrix = lagrangian_hessian(point, gauss_newton=True) + beta * (c.T @ c)
    matrix[np.diag_indices_from(matrix)] += point.damping * control_mask(point)
    return matrix


def dual_matrix(point: LinearisedPoint, beta: float) -> Array:
    """T, (N m, N m): what the dual form factorises."""
    jacobian = output_jacobian(point)
    return jacobian @ jacobian.T + point.ridge * np.asarray(linalg.block_diag(*point.batch(beta).noise))


def primal_root(point: LinearisedPoint, beta: float) -> Array:
    """Rows M with M'M = H: [Sigma^-1/2 J; sqrt(rho + mu) I].  The primal form factorises H, its QR variant M."""
    rows = point.batch(beta).whitened_jacobian()
    return np.vstack([rows, np.sqrt(point.ridge) * np.eye(point.num_controls)])


def carried_covariances(point: LinearisedPoint, beta: float) -> list[Array]:
    """(rho + mu) P_1, ..., P_{K-1} and S of the covariance form, square matrices; only the last one is factorised."""
    matrices = []
    for covariance in predict_covariance(point.subproblem(beta)):
        size = covariance.shape[0] * covariance.shape[1]
        matrices.append(covariance.reshape(size, size))
    return matrices


def information_factors(point: LinearisedPoint, beta: float) -> list[Array]:
    """Per segment, the columns of (z_k, w_k) whose R factor the information form back-substitutes with."""
    segments = merge(point.subproblem(beta))
    root, factors = np.zeros((0, 0)), []
    for segment in segments:
        a, b = _stacked(segment)
        (size, controls), known = b.shape, len(root)
        following = np.zeros((size, 0)) if segment is segments[-1] else -np.eye(size)
        dynamics = np.sqrt(segment.penalty) * np.hstack([a, b, following])
        top = linalg.block_diag(root, np.sqrt(point.ridge) * np.eye(controls))
        rows = np.vstack([np.hstack([top, np.zeros((known + controls, following.shape[1]))]), dynamics])
        factors.append(rows[:, : known + controls])
        root = np.asarray(np.linalg.qr(rows, mode="r"))[known + controls :, known + controls :]
    return factors
