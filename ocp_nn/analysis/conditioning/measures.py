"""Condition numbers of the shooting formulations at a point: one call, dense or iterative as the size asks.

For every set of nodes: the KKT matrix (exact and Gauss-Newton), the constraint Jacobian, and for every penalty the
Gauss-Newton matrix of the augmented Lagrangian in (u, x) and the condensed matrices that forward DP factorises.
Without nodes (single shooting) the KKT matrix *is* the Hessian, and there is no penalty.  See :mod:`.dense` for the
formulas.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...base import checks
from ...base.display import brief
from ...problem.optimal_control import PROBLEM, OptimalControlProblem
from ...problem.shooting import check_nodes
from ...problem.training import TrainingProblem
from ...problem.trajectory import Trajectory
from .formulations import MultipleShooting, SingleShooting
from .general import FIXED, PENALISED, WrittenOut
from .point import LinearisedPoint, linearise_at, shooting_name
from .spectrum import Spectrum

__all__ = ["MATRICES", "Measurement", "measure", "measure_point"]

Array = NDArray[np.float64]

# What each name stands for.
MATRICES = {
    "jacobian": "Jacobian J of the residual in the controls, single shooting",
    "gauss_newton": "Gauss-Newton matrix rho I + J'J, single shooting",
    "gauss_newton_no_decay": "the same with rho = 0",
    "hessian": "exact Hessian of the objective in the controls, single shooting",
    "hessian_no_decay": "the same with rho = 0",
    "constraint_jacobian": "Jacobian of the defects in controls and node states",
    "kkt": "KKT matrix with the exact Hessian of the Lagrangian",
    "kkt_gauss_newton": "KKT matrix with the Gauss-Newton Hessian",
    "al_gauss_newton": "Gauss-Newton matrix of the augmented Lagrangian in controls and node states",
    "dual": "matrix (rho + mu) Sigma + J J' that the dual form of forward DP factorises",
    "primal": "matrix (rho + mu) I + J' Sigma^-1 J that the primal form factorises",
    "primal_qr": "triangular factor R of that matrix, from orthogonal transformations",
    "covariance": "worst of the covariances that the covariance form carries",
    "information": "worst of the triangular factors that the information form solves with",
}

_WANTED = checks.optional(
    checks.sequence(checks.one_of(MATRICES), f"a sequence of {', '.join(MATRICES)}", ordered=False)
)

_NODE_SETS = checks.optional(checks.sequence(checks.NODES, "a sequence of sets of node indices (integers >= 1)"))

ROUTES = ("auto", "dense", "iterative")


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurement:
    """The spectrum of one matrix.

    Attributes
    ----------
    matrix : str
        A key of :data:`MATRICES`.
    shooting : str
        ``single``, ``multiple`` or ``partial n`` for n nodes.
    penalty : float or None
        beta, where the matrix depends on it.
    spectrum : Spectrum
    """

    matrix: str
    shooting: str
    penalty: float | None
    spectrum: Spectrum

    __repr__ = brief


def measure(
    problem: OptimalControlProblem,
    trajectory: Trajectory,
    *,
    nodes: Sequence[Iterable[int]] | None = None,
    penalties: Sequence[float] = (1.0, 1e2, 1e4, 1e6),
    damping: float = 0.0,
    route: str = "auto",
    matrices: Iterable[str] | None = None,
) -> list[Measurement]:
    """Condition numbers of every formulation at a point.

    Parameters
    ----------
    problem : OptimalControlProblem
        A :class:`ocp_nn.TrainingProblem` of squares and weights that are not shared, of any size; any other one up to
        :data:`.general.LARGEST` variables and constraints, without the matrices ``"covariance"`` and
        ``"information"`` (:mod:`.general`).
    trajectory : Trajectory
        Any point; ``problem.lift(controls)`` gives that of given weights, with back-propagated multipliers.
    nodes : sequence of node sets, optional
        Default: single shooting, every other state, multiple shooting.
    penalties : sequence of float
        Common beta of all nodes.
    damping : float
        Levenberg-Marquardt mu in the Gauss-Newton systems.
    route : {"auto", "dense", "iterative"}
        ``"auto"`` writes small matrices out and iterates on large ones.
    matrices : iterable of str, optional
        Only these (keys of :data:`MATRICES`).

    Raises
    ------
    ValueError
        For an unknown route or matrix, nodes that do not exist, a penalty or weight decay that is not positive, and
        what a general problem does not have.
    """
    checks.check("problem", problem, PROBLEM)
    checks.check("nodes", nodes, _NODE_SETS)
    checks.check("damping", damping, checks.NON_NEGATIVE)
    wanted = _check(route, matrices, penalties, min(problem.decays))
    sets = default_nodes(problem.num_stages) if nodes is None else nodes
    if not (isinstance(problem, TrainingProblem) and problem.data.is_squares and not problem.network.is_tied):
        _check_general(route, () if matrices is None else wanted)
        return [
            found for chosen in sets for found in _of_general(problem, trajectory, chosen, wanted, penalties, damping)
        ]
    found: list[Measurement] = []
    for chosen in sets:
        point = linearise_at(problem, trajectory, chosen, damping=damping)
        found += measure_point(point, penalties=penalties, route=route, matrices=wanted)
    return found


def _check_general(route: str, asked: Sequence[str]) -> None:
    if route == "iterative":
        raise ValueError(
            "route='iterative' is for feed-forward networks of squares; other problems are written out: use 'auto'"
        )
    known = {name for names in (*FIXED.values(), *PENALISED.values()) for name in names}
    if missing := [name for name in asked if name not in known]:
        raise ValueError(
            f"the matrix {missing[0]!r} is measured for feed-forward networks of squares only; for other problems "
            f"there are {', '.join(name for name in MATRICES if name in known)}"
        )


def _of_general(
    problem: OptimalControlProblem,
    trajectory: Trajectory,
    nodes: Iterable[int],
    matrices: Sequence[str],
    penalties: Sequence[float],
    damping: float,
) -> Iterator[Measurement]:
    chosen = tuple(sorted(check_nodes(nodes, problem.num_stages)))
    name = shooting_name(chosen, problem.num_stages)
    for matrix, beta, spectrum in WrittenOut.at(problem, trajectory, chosen, damping).measures(matrices, penalties):
        yield Measurement(matrix=matrix, shooting=name, penalty=beta, spectrum=spectrum)


def default_nodes(num_stages: int) -> list[tuple[int, ...]]:
    """Single shooting, a node at every other state, multiple shooting; without doubles for shallow networks."""
    sets = [(), tuple(range(2, num_stages, 2)), tuple(range(1, num_stages))]
    return list(dict.fromkeys(sets))


def _check(
    route: str, matrices: Iterable[str] | None, penalties: Sequence[float], weight_decay: float
) -> tuple[str, ...]:
    checks.check("route", route, checks.one_of(ROUTES))
    checks.check("matrices", matrices, _WANTED)
    checks.check("penalties", penalties, checks.PENALTIES)
    wanted = tuple(MATRICES) if matrices is None else tuple(matrices)
    if not weight_decay > 0:
        raise ValueError(
            f"weight_decay must be positive, received {weight_decay}: without it most systems are singular"
        )
    return wanted


def measure_point(
    point: LinearisedPoint, *, penalties: Sequence[float], route: str, matrices: Sequence[str]
) -> Iterator[Measurement]:
    """:func:`measure` at a linearised point, for its nodes."""
    name = shooting_name(point.nodes, point.num_stages)
    measures = MultipleShooting(point, route) if point.nodes else SingleShooting(point, route)
    for matrix in matrices:
        if matrix in measures.FIXED:
            yield Measurement(matrix=matrix, shooting=name, penalty=None, spectrum=measures.fixed(matrix))
        elif matrix in measures.PENALISED:
            for beta in penalties:
                spectrum = measures.penalised(matrix, beta)
                if spectrum is not None:
                    yield Measurement(matrix=matrix, shooting=name, penalty=beta, spectrum=spectrum)
