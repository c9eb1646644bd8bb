"""The matrices of the shooting formulations for any optimal control problem, written out.

Variables and constraints are those of :func:`ocp_nn.transcribe`: control blocks once, x_0 where it is a variable, the
states at the nodes.  With R the rows L'(C_j x + D_j u) of all terms, L their roots (:mod:`ocp_nn.problem.losses`), C
the Jacobian of the defects, D the weight decays of the blocks and alpha of x_0, and W the Hessian of the Lagrangian:

    KKT matrix                    [[W, C'], [C, 0]]          exact, or with W_GN = D + R'R
    augmented Lagrangian, GN      W_GN + mu I_u + beta C'C                        in (u, x)
    primal form of forward DP     its Schur complement in the controls
    dual form                     r (I + R (D + mu I_u + beta C'C)^-1 R'),   r = rho + mu if that is one number, or 1

Without nodes W is the Hessian of single shooting, and R its Jacobian J, in the controls and a free x_0.  For networks
over time this is conditioning over the horizon: scripts/conditioning_over_time.py.  (Feed-forward networks of squares
have routes of their own in :mod:`.dense` and :mod:`.operators`, which write nothing out where that is too large.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from ...base.display import brief
from ...network.linear_stages import LinearStage
from ...problem.optimal_control import OptimalControlProblem
from ...problem.trajectory import Trajectory
from ...solvers.nlp.hessian import LagrangianHessian
from ...solvers.nlp.nonlinear_program import NLP
from ...solvers.nlp.transcription import transcribe
from .spectrum import Spectrum, from_eigenvalues, from_singular_values

__all__ = ["FIXED", "LARGEST", "PENALISED", "WrittenOut"]

Array = NDArray[np.float64]

# Matrices with and without a penalty, with nodes and without.
FIXED = {
    True: ("constraint_jacobian", "kkt", "kkt_gauss_newton"),
    False: (
        "jacobian", "gauss_newton", "gauss_newton_no_decay", "hessian", "hessian_no_decay", "dual", "primal",
        "primal_qr",
    ),
}  # fmt: skip
PENALISED: dict[bool, tuple[str, ...]] = {True: ("al_gauss_newton", "dual", "primal", "primal_qr"), False: ()}

# Variables and constraints up to which matrices are written out: eigenvalues then take a minute.
LARGEST = 7000


@dataclass(frozen=True, eq=False)
class WrittenOut:
    """A problem linearised at a point.

    Attributes
    ----------
    nlp : NLP
        The transcription for the nodes.
    rows : array (M, variables)
        R.
    constraint : array (constraints, variables)
        C.
    decay : array (variables,)
        D: rho_b for controls, alpha for x_0, zero for other states.
    hessian : array (variables, variables)
        W, exact.
    damping : float
        mu.
    """

    nlp: NLP
    rows: Array
    constraint: Array
    decay: Array
    hessian: Array
    damping: float

    __repr__ = brief

    @classmethod
    def at(
        cls, problem: OptimalControlProblem, trajectory: Trajectory, nodes: tuple[int, ...], damping: float
    ) -> WrittenOut:
        """Linearise at a trajectory, whose states count at the nodes alone.

        Raises
        ------
        ValueError
            If the trajectory does not have the problem's shapes, a node does not exist, or all is too large.
        """
        problem.check(trajectory)
        nlp = transcribe(problem, nodes)
        total = nlp.num_variables + nlp.num_constraints
        if total > LARGEST:
            raise ValueError(
                f"general problems are measured up to {LARGEST} variables and constraints, received {total}: use fewer "
                "samples, time steps or nodes"
            )
        if trajectory.multipliers is None:
            initial = trajectory.states[0] if problem.has_free_start else None
            lifted = problem.lift(trajectory.controls, initial=initial)
            trajectory = Trajectory(trajectory.controls, trajectory.states, lifted.multipliers)
        point = nlp.pack(trajectory)
        rows, constraint = _rows(nlp, nlp.roll(point["x0"]))
        return cls(nlp, rows, constraint, _decay(nlp), _hessian(nlp, point), damping)

    def measures(
        self, matrices: Sequence[str], penalties: Sequence[float]
    ) -> Iterator[tuple[str, float | None, Spectrum]]:
        """(matrix, beta, spectrum) of those that exist for these nodes."""
        has_nodes = bool(self.nlp.nodes)
        for matrix in matrices:
            if matrix in FIXED[has_nodes]:
                yield matrix, None, getattr(self, f"_{matrix}")()
            elif matrix in PENALISED[has_nodes]:
                for beta in penalties:
                    yield matrix, beta, getattr(self, f"_{matrix}")(beta)

    @cached_property
    def controls(self) -> NDArray[np.bool_]:
        """Which variables are controls."""
        mask = np.zeros(self.nlp.num_variables, dtype=bool)
        for block in self.nlp.variables:
            mask[block.where] = block.kind == "control"
        return mask

    @cached_property
    def gram(self) -> Array:
        """R'R."""
        return self.rows.T @ self.rows

    def prior(self, beta: float = 1.0) -> Array:
        """D + mu I_u + beta C'C."""
        return beta * (self.constraint.T @ self.constraint) + np.diag(self.decay + self.damping * self.controls)

    # ---- spectra by the names of :data:`.measures.MATRICES`

    def _jacobian(self) -> Spectrum:
        return from_singular_values(np.linalg.svd(self.rows, compute_uv=False), *self.rows.shape)

    def _gauss_newton(self) -> Spectrum:
        return from_eigenvalues(np.linalg.eigvalsh(self.gram + np.diag(self.decay)))

    def _gauss_newton_no_decay(self) -> Spectrum:
        return from_eigenvalues(np.linalg.eigvalsh(self.gram))

    def _hessian(self) -> Spectrum:
        return from_eigenvalues(np.linalg.eigvalsh(self.hessian))

    def _hessian_no_decay(self) -> Spectrum:
        return from_eigenvalues(np.linalg.eigvalsh(self.hessian - np.diag(self.decay)))

    def _constraint_jacobian(self) -> Spectrum:
        return from_singular_values(np.linalg.svd(self.constraint, compute_uv=False), *self.constraint.shape)

    def _kkt(self) -> Spectrum:
        return self._bordered(self.hessian)

    def _kkt_gauss_newton(self) -> Spectrum:
        return self._bordered(self.gram + np.diag(self.decay))

    def _bordered(self, hessian: Array) -> Spectrum:
        corner = np.zeros((len(self.constraint),) * 2)
        return from_eigenvalues(np.linalg.eigvalsh(np.block([[hessian, self.constraint.T], [self.constraint, corner]])))

    def _al_gauss_newton(self, beta: float) -> Spectrum:
        return from_eigenvalues(np.linalg.eigvalsh(self.prior(beta) + self.gram))

    def _primal(self, beta: float = 1.0) -> Spectrum:
        return from_eigenvalues(self._root_values(beta) ** 2)

    def _primal_qr(self, beta: float = 1.0) -> Spectrum:
        values = self._root_values(beta)
        return from_singular_values(values, len(values), len(values))

    def _root_values(self, beta: float) -> Array:
        """Singular values of the R factor in the controls, states eliminated first: the roots of H's eigenvalues."""
        u, rows = self.controls, np.vstack([self._prior_root(beta), self.rows])
        triangle = linalg.qr(np.hstack([rows[:, ~u], rows[:, u]]), mode="r", overwrite_a=True, check_finite=False)[0]
        eliminated = int(np.sum(~u))
        return np.linalg.svd(triangle[eliminated : len(u), eliminated:], compute_uv=False)

    def _dual(self, beta: float = 1.0) -> Spectrum:
        # with K'K = prior and K'Y = R' of least length, R prior^-1 R' is Y'Y
        root = np.linalg.qr(self._prior_root(beta), mode="r")
        solved = linalg.solve_triangular(root, self.rows.T, trans="T", check_finite=False)
        ridges = np.unique(self.decay[self.controls])
        ridge = float(ridges[0]) + self.damping if len(ridges) == 1 else 1.0
        spread = np.linalg.svd(solved, compute_uv=False) ** 2
        return from_eigenvalues(ridge * (1.0 + np.pad(spread, (0, len(self.rows) - len(spread)))))

    def _prior_root(self, beta: float) -> Array:
        """K with K'K = D + mu I_u + beta C'C."""
        ridge = np.sqrt(self.decay + self.damping * self.controls)
        return np.vstack([np.diag(ridge)[ridge > 0], np.sqrt(beta) * self.constraint])


def _rows(nlp: NLP, trajectory: Trajectory) -> tuple[Array, Array]:
    """R and C by one sweep of tangents, each (N width, variables), over the stages."""
    problem, size = nlp.training, nlp.num_variables
    where = {(block.kind, block.stage): block.where for block in nlp.variables}
    linear, outputs = nlp.linearize(trajectory)
    count = len(problem.dynamics)
    roots = [term.data.root(z) for term, z in zip(problem.terms, outputs, strict=True)]
    rows, constraint = [], []
    tangent = np.zeros((problem.num_samples, problem.widths[0], size))
    if problem.has_free_start:
        tangent = _unit(where["state", 0], tangent.shape)
    for k in range(problem.num_stages):
        for j in problem.terms_at[k]:
            moved = _moved(linear[count + j], tangent, where["control", problem.terms[j].block])
            rows.append(_rooted(roots[j], moved).reshape(-1, size))
        if k == count:
            break
        tangent = _moved(linear[k], tangent, where["control", problem.dynamics[k].block])
        if k + 1 in nlp.nodes:
            unit = _unit(where["state", k + 1], tangent.shape)
            constraint.append((tangent - unit).reshape(-1, size))
            tangent = unit
    return np.concatenate(rows), np.concatenate(constraint) if constraint else np.zeros((0, size))


def _rooted(root: Array | None, moved: Array) -> Array:
    """L' times the tangents of an output; L may be the identity, diagonal or a matrix for every sample."""
    if root is None:
        return moved
    return root[:, :, None] * moved if root.ndim == 2 else root.transpose(0, 2, 1) @ moved


def _moved(stage: LinearStage, tangent: Array, controls: slice) -> Array:
    """A dx + B du for tangents (N, n, variables)."""
    after: Array = stage.A @ tangent
    after[:, :, controls] += stage.B
    return after


def _unit(where: slice, shape: tuple[int, ...]) -> Array:
    """The tangents of a state that is a variable itself."""
    unit = np.zeros(shape)
    samples, width, _ = shape
    unit.reshape(samples * width, -1)[:, where] = np.eye(samples * width)
    return unit


def _decay(nlp: NLP) -> Array:
    decay = np.zeros(nlp.num_variables)
    for block in nlp.variables:
        if block.kind == "control":
            decay[block.where] = nlp.training.decays[block.stage]
        elif block.stage == 0:
            decay[block.where] = nlp.training.initial_weight
    return decay


def _hessian(nlp: NLP, point: dict[str, Array]) -> Array:
    """W, both triangles."""
    exact = LagrangianHessian(nlp, symmetric=True)
    sparsity = exact.get_sparsity_out(0)
    row, column = (np.asarray(index) for index in sparsity.get_triplet())
    matrix = np.zeros((nlp.num_variables,) * 2)
    matrix[row, column] = exact.nonzeros(point["x0"], 1.0, point.get("lam_g0", np.zeros(0)))
    return matrix
