"""Second derivatives of training: Hessian-vector products and the dense Hessian of the reduced objective.

Single shooting minimises J(u) along rollouts.  With the tangents dx_{k+1} = A_k dx_k + B_k du_k and the costates
lambda_k of back-propagation, the product of its Hessian with a direction du follows by differentiating the adjoint
recursion once more (Pearlmutter, 1994, "Fast exact multiplication by the Hessian"):

    dlambda_K = dx_K,     (p_k, q_k) = Hessian of sum_i <lambda_{k+1}^i, f_k(x^i, u)> times (dx_k, du_k)
    dlambda_k = A_k' dlambda_{k+1} + p_k,     (H du)_k = B_k' dlambda_{k+1} + q_k + rho du_k

The dense Hessian carries the sensitivities S_k^i = dx_k^i/du forward instead, (N, n, controls so far), and adds up

    H = rho I + sum_i S_K^i' S_K^i + sum_k sum_i [S_k^i; E_k]' (Hessian of <lambda_{k+1}^i, f_k>) [S_k^i; E_k]

where E_k picks u_k.  The first two terms are the Gauss-Newton matrix.  For a dense layer, with a = W x + b,
c = lambda phi''(a) and g = lambda phi'(a), the Hessian of <lambda, f> is that of c/2 (da)^2 summed over units plus
g' dW dx, and only controls of equal units couple: no array with N n' rows and as many columns as controls is
multiplied by itself except for the layers *before* the current one.

No CasADi here: two derivations of the same matrix, CasADi's and this one, are held together by the tests.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .linearize import DenseStage, LinearStage
from .problem import TrainingProblem

__all__ = ["hessian_product", "reduced_hessian"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]

# Numbers in the largest sensitivity of one chunk of samples: 16 MB (measured: flat between 4 and 64 MB).
_CHUNK = 2_000_000


def hessian_product(
    problem: TrainingProblem, stages: Sequence[LinearStage], costates: Sequence[Array], direction: Sequence[Array]
) -> Arrays:
    """The Hessian of the reduced objective J(u) times a direction.

    Parameters
    ----------
    problem : TrainingProblem
    stages : sequence of K LinearStage
        The linearisation at a rollout (``problem.linearize``).
    costates : sequence of K + 1 arrays
        lambda_0..lambda_K there (``problem.adjoints``).
    direction : sequence of K arrays
        du_k, one vector a stage.

    Returns
    -------
    tuple of K arrays
        (H du)_k, of the shapes of ``direction``.
    """
    tangents: list[Array | None] = [None]
    for stage, du in zip(stages, direction, strict=True):
        tangents.append(stage.apply(tangents[-1], du))
    eta = tangents.pop()
    assert eta is not None
    product: list[Array] = []
    for k in reversed(range(len(stages))):
        p, q = stages[k].curvature_product(costates[k + 1], tangents[k], direction[k])
        product.append(stages[k].transpose_control(eta) + q + problem.weight_decay * direction[k])
        if k:
            eta = stages[k].transpose_state(eta) + p
    return tuple(reversed(product))


def reduced_hessian(problem: TrainingProblem, controls: Sequence[Array], *, gauss_newton: bool = False) -> Array:
    """The Hessian of the reduced objective J(u), dense.

    Parameters
    ----------
    problem : TrainingProblem
    controls : sequence of K arrays
    gauss_newton : bool
        Leave the curvature of the stages out: J_r' J_r + rho I with the Jacobian J_r of the residual.

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
    costates = problem.backpropagate(stages, trajectory.controls, outputs[-1] - problem.y).costates
    hessian = problem.weight_decay * np.eye(problem.network.num_controls)
    chunk = max(1, _CHUNK // (max(problem.network.sizes) * len(hessian)))
    for start in range(0, problem.num_samples, chunk):
        rows = slice(start, start + chunk)
        multipliers = None if gauss_newton else [costate[rows] for costate in costates[1:]]
        _add_samples(hessian, [stage.rows(rows) for stage in stages], multipliers)
    return hessian


def _add_samples(hessian: Array, stages: Sequence[LinearStage], multipliers: Sequence[Array] | None) -> None:
    """Add the terms of some samples, carrying their sensitivities forward."""
    sensitivity = np.empty((stages[0].num_samples, stages[0].num_inputs, 0))
    for k, stage in enumerate(stages):
        if multipliers is not None:
            if isinstance(stage, DenseStage):
                _add_dense_curvature(hessian, stage, multipliers[k], sensitivity)
            else:
                _add_generic_curvature(hessian, stage, multipliers[k], sensitivity)
        sensitivity = _carry(stage, sensitivity)
    jacobian = sensitivity.reshape(-1, len(hessian))
    hessian += jacobian.T @ jacobian


def _carry(stage: LinearStage, sensitivity: Array) -> Array:
    """S_{k+1} = [A S_k, B]."""
    carried = np.empty((stage.num_samples, stage.num_outputs, sensitivity.shape[2] + stage.num_controls))
    np.matmul(stage.A, sensitivity, out=carried[:, :, : sensitivity.shape[2]])
    carried[:, :, sensitivity.shape[2] :] = stage.B
    return carried


def _add_blocks(hessian: Array, before: Array, cross: Array, own: Array) -> None:
    """Add [[before, cross], [cross', own]] to the leading block: the controls before stage k, then its own."""
    p, q = cross.shape
    hessian[:p, :p] += before
    hessian[:p, p : p + q] += cross
    hessian[p : p + q, :p] += cross.T
    hessian[p : p + q, p : p + q] += own


def _add_dense_curvature(hessian: Array, stage: DenseStage, multiplier: Array, sensitivity: Array) -> None:
    samples, width, before = sensitivity.shape
    units = stage.num_outputs
    c = multiplier * stage.layer.phi.curvature(stage.value)
    inputs = np.hstack([stage.x, np.ones((samples, 1))])
    own = np.zeros((width + 1, units, width + 1, units))
    for a in range(units):
        own[:, a, :, a] = (inputs * c[:, a, None]).T @ inputs
    change = np.matmul(stage.weight, sensitivity)  # da in the directions of the earlier controls
    scaled = c[:, :, None] * change
    cross = np.matmul(inputs.T, scaled.transpose(1, 0, 2))  # (units, width + 1, before)
    g = multiplier * stage.slope
    cross[:, :-1] += (g.T @ sensitivity.reshape(samples, width * before)).reshape(units, width, before)
    _add_blocks(
        hessian,
        change.reshape(samples * units, before).T @ scaled.reshape(samples * units, before),
        cross.transpose(2, 1, 0).reshape(before, stage.num_controls),
        own.reshape(stage.num_controls, stage.num_controls),
    )


def _add_generic_curvature(hessian: Array, stage: LinearStage, multiplier: Array, sensitivity: Array) -> None:
    samples, width, before = sensitivity.shape
    no_change = np.zeros(stage.num_controls)
    # columns of the stage's own Hessian: d/dx of every sample, then d/du
    xx = np.empty((samples, width, width))
    for j in range(width):
        xx[:, :, j], _ = stage.curvature_product(
            multiplier, np.broadcast_to(np.eye(width)[j], (samples, width)), no_change
        )
    xu = np.empty((samples, width, stage.num_controls))
    own = np.empty((stage.num_controls, stage.num_controls))
    for j in range(stage.num_controls):
        xu[:, :, j], own[:, j] = stage.curvature_product(multiplier, None, np.eye(stage.num_controls)[j])
    flat = sensitivity.reshape(samples * width, before)
    _add_blocks(
        hessian,
        flat.T @ np.matmul(xx, sensitivity).reshape(samples * width, before),
        flat.T @ xu.reshape(samples * width, stage.num_controls),
        own,
    )
