"""Second derivatives of training: Hessian-vector products and dense Hessians of shooting segments.

Single shooting minimises J(u) along rollouts.  With the tangents dx_{k+1} = A_k dx_k + B_k du_k and the costates
lambda_k of back-propagation, the product of its Hessian with a direction du follows by differentiating the adjoint
recursion once more (Pearlmutter, 1994, "Fast exact multiplication by the Hessian"):

    dlambda_K = w phi''(z) dx_K,     (p_k, q_k) = Hessian of sum_i <lambda_{k+1}^i, f_k(x^i, u)> times (dx_k, du_k)
    dlambda_k = A_k' dlambda_{k+1} + p_k,     (H du)_k = B_k' dlambda_{k+1} + q_k + rho du_k

Multiple shooting cuts the chain of stages at its nodes.  A *segment* is what lies between two cuts: it starts at a
state x that is a variable (or at the inputs, which are not), and no second derivative couples two segments.  Its
Hessian carries the sensitivities S_k^i = d x_k^i / d (x^i, controls so far) forward, (N, n_k, columns), and adds up

    sum_i sigma S_K^i' (w phi'')^i S_K^i  +  sum_k sum_i [S_k^i; E_k]' (Hessian of <lambda_{k+1}^i, f_k>) [S_k^i; E_k]

where E_k picks u_k; the first term is there where the segment ends in the loss, and is Gauss-Newton's.  Single
shooting is the one segment without a free start.  For a dense layer, with a = W x + b, c = lambda phi''(a) and
g = lambda phi'(a), the Hessian of <lambda, f> is that of c/2 (da)^2 summed over units, plus g' dW dx; controls of
different units do not couple, so the wide products run over the controls of *earlier* layers only.

No CasADi here: two derivations of the same matrix, CasADi's and this one, are held together by the tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..network.linear_stages import DenseStage, LinearStage
from .optimal_control import OptimalControlProblem

__all__ = ["SegmentHessian", "hessian_product", "reduced_hessian", "segment_hessian"]

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

    Returns
    -------
    tuple of arrays
        (H du)_b, of the shapes of ``direction``.
    """
    inner, blocks = len(problem.dynamics), problem.row_blocks
    tangents: list[Array | None] = [None]
    for k in range(inner):
        tangents.append(stages[k].apply(tangents[k], direction[blocks[k]]))
    product: dict[int, Array] = {}

    def pull(row: int, k: int, eta: Array) -> Array | None:
        """What a row at stage k adds to the derivative of lambda_k, and before that to its block's product."""
        p, q = stages[row].curvature_product(costates[row + 1], tangents[k], direction[blocks[row]])
        part = stages[row].transpose_control(eta) + q
        product[blocks[row]] = product[blocks[row]] + part if blocks[row] in product else part
        return stages[row].transpose_state(eta) + p if k else None

    eta: Array | None = None
    for k in range(inner, -1, -1):
        parts = [] if eta is None else [pull(k, k, eta)]
        for j in problem.terms_at[k]:
            row = inner + j
            moved = stages[row].apply(tangents[k], direction[blocks[row]])
            bend = None if bends is None else bends[j]
            parts.append(pull(row, k, _times(bend, moved[:, :, None])[:, :, 0]))
        eta = _total(parts)
    return tuple(product[b] + rho * du for b, (rho, du) in enumerate(zip(problem.decays, direction, strict=True)))


def _total(parts: Sequence[Array | None]) -> Array | None:
    """The sum of what there is."""
    total = None
    for part in parts:
        total = part if total is None else total + part if part is not None else total
    return total


def reduced_hessian(problem: OptimalControlProblem, controls: Sequence[Array], *, gauss_newton: bool = False) -> Array:
    """The Hessian of the reduced objective J(u), dense.

    Parameters
    ----------
    problem : OptimalControlProblem
    controls : sequence of K arrays
    gauss_newton : bool
        Leave the curvature of the stages out: J' (w phi'') J + rho I with the Jacobian J of the outputs.

    Returns
    -------
    ndarray, shape (P, P)
        In the order of the concatenated controls; symmetric to rounding.

    Raises
    ------
    ValueError
        If the controls do not have the network's shapes.
    """
    trajectory = problem.rollout(controls)
    outputs = problem.outputs(trajectory)
    stages = problem.linearize(trajectory, outputs)
    costates = problem.backpropagate(stages, trajectory.controls, problem.output_gradients(outputs[-1:])).costates
    multipliers = None if gauss_newton else costates[1:]
    bend = problem.terms[-1].data.curvature(outputs[-1], gauss_newton=gauss_newton)
    hessian = segment_hessian(stages, multipliers, free_start=False, loss=1.0, output_curvature=bend).controls
    hessian[np.diag_indices_from(hessian)] += problem.weight_decay
    return hessian


@dataclass(frozen=True, eq=False)
class SegmentHessian:
    """Second derivatives of one segment; n = width of the state it starts at (0 if that is fixed), P = its controls.

    Attributes
    ----------
    states : ndarray, shape (N, n, n)
        In the starting state, sample by sample: samples couple only through the controls.
    mixed : ndarray, shape (N, n, P)
        In the starting state (rows) and the controls.
    controls : ndarray, shape (P, P)
        In the concatenated controls, summed over samples.
    """

    states: Array
    mixed: Array
    controls: Array

    def rows(self, samples: slice) -> SegmentHessian:
        """The part of some samples; views, so that additions to it arrive here."""
        return SegmentHessian(self.states[samples], self.mixed[samples], self.controls)

    def add(self, left: Array, right: Array) -> None:
        """Add sum_i left_i' right_i, both (N, n', columns) with the starting state first, then leading controls."""
        n = self.states.shape[1]
        used = left.shape[2] - n
        rows = left.shape[0] * left.shape[1]
        self.controls[:used, :used] += left[:, :, n:].reshape(rows, used).T @ right[:, :, n:].reshape(rows, used)
        if n:
            start = left[:, :, :n].transpose(0, 2, 1)
            self.states[...] += start @ right[:, :, :n]
            self.mixed[:, :, :used] += start @ right[:, :, n:]

    def add_cross(self, first: int, start: Array, earlier: Array, own: Array) -> None:
        """Add the terms of a stage's own controls, which begin at ``first``, with everything before them."""
        last = first + len(own)
        self.mixed[:, :, first:last] += start
        self.controls[:first, first:last] += earlier
        self.controls[first:last, :first] += earlier.T
        self.controls[first:last, first:last] += own


def segment_hessian(
    stages: Sequence[LinearStage],
    multipliers: Sequence[Array] | None,
    *,
    free_start: bool,
    loss: float = 0.0,
    output_curvature: Array | None = None,
) -> SegmentHessian:
    """The second derivatives of <multiplier, end of the segment> and of ``loss`` times what its end costs.

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
        As for :func:`hessian_product`.
    """
    samples, width = stages[0].num_samples, stages[0].num_inputs if free_start else 0
    total = sum(stage.num_controls for stage in stages)
    hessian = SegmentHessian(
        np.zeros((samples, width, width)), np.zeros((samples, width, total)), np.zeros((total, total))
    )
    chunk = max(1, _CHUNK // (max(stage.num_outputs for stage in stages) * (width + total)))
    for start in range(0, samples, chunk):
        rows = slice(start, start + chunk)
        some = None if multipliers is None else [multiplier[rows] for multiplier in multipliers]
        bend = None if output_curvature is None else output_curvature[rows]
        _add_samples(hessian.rows(rows), [stage.rows(rows) for stage in stages], some, loss, bend)
    return hessian


def _add_samples(
    hessian: SegmentHessian,
    stages: Sequence[LinearStage],
    multipliers: Sequence[Array] | None,
    loss: float,
    output_curvature: Array | None,
) -> None:
    """Add the terms of some samples, carrying their sensitivities forward."""
    samples, width = hessian.states.shape[:2]
    sensitivity = np.broadcast_to(np.eye(stages[0].num_inputs, width), (samples, stages[0].num_inputs, width))
    for k, stage in enumerate(stages):
        if multipliers is not None:
            if isinstance(stage, DenseStage):
                _add_dense(hessian, stage, multipliers[k], sensitivity)
            else:
                _add_generic(hessian, stage, multipliers[k], sensitivity)
        if loss or k + 1 < len(stages):
            sensitivity = _carry(stage, sensitivity)
    if loss:
        hessian.add(loss * _times(output_curvature, sensitivity), sensitivity)


def _times(curvature: Array | None, columns: Array) -> Array:
    """The output's curvature times columns, (N, m, columns)."""
    if curvature is None:
        return columns
    return np.asarray(curvature[:, :, None] * columns if curvature.ndim == 2 else curvature @ columns)


def _carry(stage: LinearStage, sensitivity: Array) -> Array:
    """S_{k+1} = [A S_k, B]."""
    before = sensitivity.shape[2]
    carried = np.empty((stage.num_samples, stage.num_outputs, before + stage.num_controls))
    np.matmul(stage.A, sensitivity, out=carried[:, :, :before])
    carried[:, :, before:] = stage.B
    return carried


def _add_dense(hessian: SegmentHessian, stage: DenseStage, multiplier: Array, sensitivity: Array) -> None:
    samples, width, before = sensitivity.shape
    units, n = stage.num_outputs, hessian.states.shape[1]
    c, g = multiplier * stage.layer.phi.curvature(stage.value), multiplier * stage.slope
    inputs = np.hstack([stage.x, np.ones((samples, 1))])
    own = np.zeros((width + 1, units, width + 1, units))
    for a in range(units):
        own[:, a, :, a] = (inputs * c[:, a, None]).T @ inputs
    change = np.matmul(stage.weight, sensitivity)  # da in the directions of everything before
    scaled = c[:, :, None] * change
    hessian.add(change, scaled)
    # cross terms with this layer's [W b]: c da x' + g dx', one column a weight, ordered like the control
    start = np.einsum("iaj,it->ijta", scaled[:, :, :n], inputs)
    start[:, :, :-1] += np.einsum("itj,ia->ijta", sensitivity[:, :, :n], g)
    earlier = np.matmul(inputs.T, scaled[:, :, n:].transpose(1, 0, 2))  # (units, width + 1, earlier controls)
    moved = sensitivity[:, :, n:].reshape(samples, width * (before - n))
    earlier[:, :-1] += (g.T @ moved).reshape(units, width, before - n)
    hessian.add_cross(
        before - n,
        start.reshape(samples, n, stage.num_controls),
        earlier.transpose(2, 1, 0).reshape(before - n, stage.num_controls),
        own.reshape(stage.num_controls, stage.num_controls),
    )


def _add_generic(hessian: SegmentHessian, stage: LinearStage, multiplier: Array, sensitivity: Array) -> None:
    samples, width, before = sensitivity.shape
    controls, n = stage.num_controls, hessian.states.shape[1]
    # columns of the stage's own Hessian: d/dx of every sample, then d/du
    xx, xu = np.empty((samples, width, width)), np.empty((samples, width, controls))
    own = np.empty((controls, controls))
    for j, unit in enumerate(np.eye(width)):
        xx[:, :, j], _ = stage.curvature_product(multiplier, np.tile(unit, (samples, 1)), np.zeros(controls))
    for j, unit in enumerate(np.eye(controls)):
        xu[:, :, j], own[:, j] = stage.curvature_product(multiplier, None, unit)
    hessian.add(sensitivity, np.matmul(xx, sensitivity))
    rows = samples * width
    hessian.add_cross(
        before - n,
        np.matmul(sensitivity[:, :, :n].transpose(0, 2, 1), xu),
        sensitivity[:, :, n:].reshape(rows, before - n).T @ xu.reshape(rows, controls),
        own,
    )
