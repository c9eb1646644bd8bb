"""Second derivatives of training: Hessian-vector products and dense Hessians of shooting segments.

Single shooting minimises J(u) along rollouts.  With the tangents dx_{k+1} = A_k dx_k + B_k du_k and the costates
lambda_k of back-propagation, the product of its Hessian with a direction du follows by differentiating the adjoint
recursion once more (Pearlmutter, 1994, "Fast exact multiplication by the Hessian"):

    dlambda_K = w phi''(z) dx_K,     (p_k, q_k) = Hessian of sum_i <lambda_{k+1}^i, f_k(x^i, u)> times (dx_k, du_k)
    dlambda_k = A_k' dlambda_{k+1} + p_k,     (H du)_k = B_k' dlambda_{k+1} + q_k + rho du_k

Multiple shooting cuts the chain of stages at its nodes.  A *segment* (:mod:`.segment`) is what lies between two cuts,
and its Hessian couples nothing but the state it starts at and the control blocks used in it.  Single shooting is the
one segment without a free start.

No CasADi here: two derivations of the same matrix, CasADi's and this one, are held together by the tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..network.linear_stages import LinearStage
from .optimal_control import OptimalControlProblem
from .segment import Segment, SegmentHessian, SegmentStage, SegmentTerm, segment_between, times

__all__ = [
    "Swept",
    "condensed_hessian",
    "hessian_of_segment",
    "hessian_product",
    "reduced_hessian",
    "second_order_sweep",
    "segment_hessian",
]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]

# Numbers in the largest sensitivity of one chunk of samples: 16 MB (measured: flat between 4 and 64 MB).
_CHUNK = 2_000_000


def hessian_product(
    problem: OptimalControlProblem,
    stages: Sequence[LinearStage],
    costates: Sequence[Array],
    direction: Sequence[Array],
    bends: Sequence[Array | None] | None = None,
    controls: Sequence[Array] | None = None,
) -> Arrays:
    """The Hessian of the reduced objective J(u) times a direction; x_0 is held.

    Parameters
    ----------
    problem : OptimalControlProblem
    stages : sequence of LinearStage
        The linearisation of all rows at a rollout (``problem.linearize``).
    costates : sequence of arrays
        lambda_0 and then the costates of all rows there (``problem.adjoints``).
    direction : sequence of arrays
        du_b, one vector a block.
    bends : sequence of arrays or None, optional
        The second derivative of every term in its output (``term.data.curvature``): its diagonal, (N, m), or
        (N, m, m); None is the identity, that of squares.
    controls : sequence of arrays, optional
        u_b, where what controls cost by themselves is no square.

    Returns
    -------
    tuple of arrays
        (H du)_b, of the shapes of ``direction``.
    """
    product = second_order_sweep(problem, stages, costates, direction, bends).pulled
    decayed = problem.decay_product(direction if controls is None else controls, direction)
    return tuple([product[b] + part for b, part in enumerate(decayed)])


class Swept(NamedTuple):
    """What :func:`second_order_sweep` finds: dx_0..dx_{K-1} (None for zero), eta_1..eta_{K-1}, and a pull a block."""

    tangents: tuple[Array | None, ...]
    etas: Arrays
    pulled: Arrays


def second_order_sweep(
    problem: OptimalControlProblem,
    stages: Sequence[LinearStage],
    costates: Sequence[Array],
    direction: Sequence[Array],
    bends: Sequence[Array | None] | None = None,
    gaps: Sequence[Array] | None = None,
    gradients: Sequence[Array] | None = None,
) -> Swept:
    """The tangents of a direction, and what comes back through the stages bent along them; weight decay left out.

    Forward dx_{k+1} = A_k dx_k + B_k du_k + c_k, backward

        eta_K = g + w phi''(z) dx_K,      eta_k = A_k' eta_{k+1} + p_k,      pull_k = B_k' eta_{k+1} + q_k

    with (p_k, q_k) as in the module's head.  Without gaps c and gradients g the pull is the Hessian's product with du;
    with both it is the gradient, after du, of the quadratic program that a lifted Newton step solves, and eta its
    multipliers.
    """
    inner, blocks = len(problem.dynamics), problem.row_blocks
    tangents: list[Array | None] = [None]
    for k in range(inner):
        moved = stages[k].apply(tangents[k], direction[blocks[k]])
        tangents.append(moved if gaps is None else moved + gaps[k])
    pulled: dict[int, Array] = {}

    def pull(row: int, k: int, eta: Array) -> Array | None:
        """What a row at stage k adds to eta_k, and before that to its block's pull."""
        p, q = stages[row].curvature_product(costates[row + 1], tangents[k], direction[blocks[row]])
        part = stages[row].transpose_control(eta) + q
        pulled[blocks[row]] = pulled[blocks[row]] + part if blocks[row] in pulled else part
        return stages[row].transpose_state(eta) + p if k else None

    etas: list[Array] = []
    eta: Array | None = None
    for k in range(inner, -1, -1):
        parts = [] if eta is None else [pull(k, k, eta)]
        for j in problem.terms_at[k]:
            row = inner + j
            moved = stages[row].apply(tangents[k], direction[blocks[row]])
            moved = times(None if bends is None else bends[j], moved[:, :, None])[:, :, 0]
            parts.append(pull(row, k, moved if gradients is None else moved + gradients[j]))
        eta = _total(parts)
        if eta is not None:
            etas.append(eta)
    return Swept(tuple(tangents), tuple(reversed(etas)), tuple([pulled[b] for b in range(len(pulled))]))


def _total(parts: Sequence[Array | None]) -> Array | None:
    """The sum of what there is."""
    total = None
    for part in parts:
        total = part if total is None else total + part if part is not None else total
    return total


def reduced_hessian(problem: OptimalControlProblem, controls: Sequence[Array], *, gauss_newton: bool = False) -> Array:
    """The Hessian of the reduced objective J(u), dense; x_0 is held at xbar.

    Parameters
    ----------
    problem : OptimalControlProblem
    controls : sequence of arrays
        One a block.
    gauss_newton : bool
        Leave the curvature of the stages out: sum_j J_j' (w phi'') J_j + rho I with the Jacobians J_j of all terms'
        outputs.

    Returns
    -------
    ndarray, shape (P, P)
        In the order of the concatenated controls; symmetric to rounding.

    Raises
    ------
    ValueError
        If the controls do not have the problem's shapes.
    """
    trajectory = problem.rollout(controls)
    outputs = problem.outputs(trajectory)
    stages, ends = problem.linearize(trajectory, outputs), outputs[len(problem.dynamics) :]
    costates = problem.backpropagate(stages, trajectory.controls, problem.output_gradients(ends)).costates[1:]
    bends = problem.output_curvatures(ends, gauss_newton=gauss_newton)
    return condensed_hessian(problem, stages, None if gauss_newton else costates, bends)


def condensed_hessian(
    problem: OptimalControlProblem,
    stages: Sequence[LinearStage],
    costates: Sequence[Array] | None,
    bends: Sequence[Array | None],
) -> Array:
    """The Hessian of the Lagrangian on the tangents of the dynamics, dense (P, P), wherever that is linearised.

    Parameters
    ----------
    problem : OptimalControlProblem
    stages : sequence of LinearStage
        Of all rows.
    costates : sequence of arrays, or None
        lambda_1.. of all rows; None leaves the curvature of the stages out.
    bends : sequence of arrays or None
        w phi'' of every term.
    """
    segment = segment_between(problem, (0, problem.num_stages), stages, costates, bends)
    whole = hessian_of_segment(segment).controls
    order = np.concatenate([np.arange(cut.start, cut.stop) for _, cut in sorted(segment.columns.items())])
    hessian = whole if (order == np.arange(len(order))).all() else whole[np.ix_(order, order)]
    hessian[np.diag_indices_from(hessian)] += np.repeat(problem.decays, problem.block_lengths)
    return hessian


def segment_hessian(
    stages: Sequence[LinearStage],
    multipliers: Sequence[Array] | None,
    *,
    free_start: bool,
    loss: float = 0.0,
    output_curvature: Array | None = None,
) -> SegmentHessian:
    """:func:`hessian_of_segment` for a chain of stages, each with controls of its own.

    Parameters
    ----------
    stages : sequence of LinearStage
        The segment's stages, linearised along its rollout.
    multipliers : sequence of arrays, or None
        The costate of every stage's output, (N, n'); None leaves the curvature of the stages out.
    free_start : bool
        Whether the state the segment starts at is a variable.
    loss : float
        sigma, weight of the objective: 0 for a segment that ends in a constraint.
    output_curvature : array, optional
        As for :func:`hessian_product`, of what the segment's end costs.
    """
    given = [None] * len(stages) if multipliers is None else multipliers
    rows = [SegmentStage(stage, k, costate) for k, (stage, costate) in enumerate(zip(stages, given, strict=True))]
    if not loss:
        return hessian_of_segment(Segment(tuple(rows), (), free_start))
    *inner, (last, block, costate) = rows
    term = SegmentTerm(len(inner), last, block, costate, loss, output_curvature)
    return hessian_of_segment(Segment(tuple(inner), (term,), free_start))


def hessian_of_segment(segment: Segment) -> SegmentHessian:
    """The second derivatives of a segment's part of the Lagrangian, in chunks of samples."""
    hessian = SegmentHessian.zeros(segment)
    columns = segment.width + segment.num_controls
    chunk = max(1, _CHUNK // (max(row.stage.num_outputs for row in segment.all_rows) * columns))
    for start in range(0, segment.num_samples, chunk):
        rows = slice(start, start + chunk)
        segment.rows(rows).add_to(hessian.rows(rows))
    return hessian
