"""Subproblems over long horizons for tests: stacked stages with random numbers, and the same as single objects."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ocp_nn.forward_dp import StackedTerms, Subproblem
from ocp_nn.network.stacked_stages import StackedStages

INF = float("inf")


def horizon(
    stages=40,
    *,
    samples=3,
    width=2,
    outputs=1,
    controls=7,
    penalty=None,
    initial=3.0,
    seed=0,
    growth=0.9,
    missing=0.3,
    weight_decay=1e-2,
    damping=0.1,
):
    """One shared control, a term at every state with outputs missing at random; beta is mixed by default.

    ``growth`` is the spectral size of the A_k: above one, the dynamics are unstable.
    """
    rng = np.random.default_rng(seed)
    a = growth * np.linalg.qr(rng.standard_normal((stages, samples, width, width)))[0]
    b = rng.standard_normal((stages, samples, width, controls)) / np.sqrt(max(1, controls))
    c = rng.standard_normal((stages + 1, samples, outputs, width))
    d = rng.standard_normal((stages + 1, samples, outputs, controls)) / np.sqrt(max(1, controls))
    r = rng.standard_normal((stages + 1, samples, outputs))
    lost = rng.random((stages + 1, samples, outputs)) < missing
    c[lost], d[lost], r[lost] = 0.0, 0.0, 0.0
    if penalty is None:
        penalty = rng.choice([0.1, 1.0, 30.0, 1e4, INF, INF], size=stages)
    return Subproblem(
        dynamics=StackedStages(a, b),
        terms=StackedTerms(StackedStages(c, d), r, stages=range(stages + 1)),
        controls=(rng.standard_normal(controls),),
        blocks=np.zeros(stages, dtype=int),
        gaps=rng.standard_normal((stages, samples, width)),
        penalty=np.broadcast_to(np.asarray(penalty, dtype=float), stages).copy(),
        weight_decay=weight_decay,
        damping=damping,
        initial_gap=rng.standard_normal((samples, width)),
        initial_weight=initial,
    )


def one_by_one(sub):
    """The same with an object a stage and a term."""
    return replace(
        sub,
        dynamics=tuple(sub.dynamics),
        terms=tuple(sub.terms),
        gaps=tuple(sub.gaps),
        penalty=tuple(sub.penalty.tolist()),
        blocks=tuple(sub.blocks.tolist()),
    )


def full_space_solution(sub):
    """du and dx (K, N, n) from the rows in all variables at once, by QR with refinement: nothing is condensed.

    For one shared control block, finite penalties and a free start.
    """
    count, samples, n = sub.gaps.shape
    size = sub.num_controls
    at = [[size + (k * samples + i) * n + np.arange(n) for i in range(samples)] for k in range(count + 1)]
    table, right = [], []

    def row(constant, weight, controls, *states):
        rows = np.zeros((len(constant), size + (count + 1) * samples * n))
        rows[:, :size] = controls
        for where, matrix in states:
            rows[:, where] = matrix
        table.append(weight * rows)
        right.append(-weight * constant)

    a, b, c, d = sub.dynamics.A, sub.dynamics.B, sub.terms.outputs.A, sub.terms.outputs.B
    for i in range(samples):
        row(-sub.initial_gap[i], np.sqrt(sub.initial_weight), 0.0, (at[0][i], np.eye(n)))
        for k in range(count):
            states = (at[k][i], a[k, i]), (at[k + 1][i], -np.eye(n))
            row(sub.gaps[k, i], np.sqrt(sub.penalty[k]), b[k, i], *states)
        for j, k in enumerate(sub.terms.stages):
            row(sub.terms.residual[j, i], 1.0, d[j, i], (at[k][i], c[j, i]))
    row(-np.concatenate(sub.mean_controls), np.sqrt(sub.ridge), np.eye(size))
    matrix, constant = np.vstack(table), np.concatenate(right)
    q, r = np.linalg.qr(matrix)
    z = np.linalg.solve(r, q.T @ constant)
    z += np.linalg.solve(r, q.T @ (constant - matrix.astype(np.longdouble) @ z).astype(float))
    return z[:size], z[size:].reshape(count + 1, samples, n)
