"""Other solvers on the problems of bench_forward_dp.py: IPOPT on the same multiple-shooting NLP, and CasADi's QP and
linear solvers on the same least-squares subproblem."""

from __future__ import annotations

import time
from dataclasses import dataclass

import casadi as ca
import numpy as np
import scipy.sparse as sp

from ocp_nn.forward_dp import Subproblem
from ocp_nn.problem.training import TrainingProblem
from ocp_nn.problem.trajectory import Trajectory
from ocp_nn.solvers.nlp.hessian import LagrangianHessian
from ocp_nn.solvers.nlp.transcription import multiple_shooting

# What IPOPT may factorise with: MUMPS with its default ordering, with METIS, and SPRAL.
IPOPT_VARIANTS = {
    "mumps default": {"linear_solver": "mumps"},
    "mumps METIS": {"linear_solver": "mumps", "mumps_pivot_order": 5},
    "spral": {"linear_solver": "spral"},
}


class _Clock(ca.Callback):
    """An iteration callback that notes the time."""

    def __init__(self, variables: int, constraints: int) -> None:
        ca.Callback.__init__(self)
        self.sizes = {"x": variables, "f": 1, "g": constraints, "lam_x": variables, "lam_g": constraints}
        self.times: list[float] = []
        self.construct("clock", {})

    def get_n_in(self) -> int:
        return int(ca.nlpsol_n_out())

    def get_sparsity_in(self, i: int) -> ca.Sparsity:
        return ca.Sparsity.dense(self.sizes.get(ca.nlpsol_out(i), 0), 1)

    def eval(self, _: object) -> list[int]:
        self.times.append(time.process_time())
        return [0]


def ipopt_iterations(problem: TrainingProblem, trajectory: Trajectory, variants: list[str]) -> dict[str, float | None]:
    """Milliseconds of one IPOPT iteration per variant on the multiple-shooting NLP; None where it does not run.

    The shortest of a few iterations from the trajectory on, without the first, which holds the symbolic analysis.
    Hessians are exact and NumPy's (:mod:`ocp_nn.solvers.nlp.hessian`): CasADi's take half a minute to build and save
    nothing, since the factorisation is what takes the time.
    """
    nlp = multiple_shooting(problem)
    hessian = LagrangianHessian(nlp)
    result: dict[str, float | None] = {}
    for variant in variants:
        clock = _Clock(nlp.num_variables, nlp.num_constraints)
        options = {f"ipopt.{key}": value for key, value in IPOPT_VARIANTS[variant].items()}
        options |= {"ipopt.max_iter": 6, "ipopt.print_level": 0, "print_time": False, "ipopt.sb": "yes"}
        solver = ca.nlpsol("solver", "ipopt", nlp.problem, options | {"hess_lag": hessian, "iteration_callback": clock})
        solver(**nlp.pack(trajectory), **nlp.bounds)
        ran = solver.stats()["return_status"] in ("Maximum_Iterations_Exceeded", "Solve_Succeeded")
        result[variant] = 1e3 * float(np.diff(clock.times[1:]).min()) if ran and len(clock.times) > 2 else None
    return result


@dataclass(frozen=True, eq=False)
class QuadraticProgram:
    """min 1/2 z'Hz subject to A z = b, z = (u_0, e_0, x_1, u_1, e_1, x_2, ..., u_{K-1}, x_K); e_k are the slacks.

    The weight decay enters through the deviation w = du - ubar, so that there is no linear term.
    """

    hessian: sp.csc_matrix
    dynamics: sp.csc_matrix
    right: np.ndarray
    state_sizes: tuple[int, ...]
    input_sizes: tuple[int, ...]
    step: np.ndarray  # positions of the controls in z

    @property
    def size(self) -> int:
        return self.hessian.shape[0]


def quadratic_program(sub: Subproblem) -> QuadraticProgram:
    """The subproblem, all penalties finite, as a sparse QP in the order of an optimal control solver."""
    weights, columns, rhs, positions, offset = [], [], [], [], 0
    states, inputs, previous = [], [], None
    data = zip(sub.stages, sub.mean_controls, (*sub.gaps, sub.residual), (*sub.penalty, None), strict=True)
    for stage, ubar, gap, beta in data:
        size, controls = stage.num_samples * stage.num_outputs, stage.num_controls
        b = stage.B.reshape(size, controls)
        slack = 0 if beta is None else size
        row = {offset: sp.csc_matrix(b), offset + controls + slack: -sp.identity(size)}
        if slack:
            row[offset + controls] = sp.identity(size)
        if previous is not None:
            row[previous] = sp.block_diag(stage.A)
        columns.append(row)
        rhs.append(-(gap.ravel() + b @ ubar))
        positions.append(np.arange(offset, offset + controls))
        weights += [np.full(controls, sub.ridge), np.full(slack, beta or 0.0), np.full(size, float(beta is None))]
        states.append(size)
        inputs.append(controls + slack)
        previous, offset = offset + controls + slack, offset + controls + slack + size
    rows = [_place(row, offset) for row in columns]
    return QuadraticProgram(
        sp.diags(np.concatenate(weights)).tocsc(),
        sp.vstack(rows).tocsc(),
        np.concatenate(rhs),
        (0, *states),
        (*inputs, 0),
        np.concatenate(positions),
    )


def _place(blocks: dict[int, sp.spmatrix], width: int) -> sp.csc_matrix:
    """Blocks at their first columns in a row of blocks of the given width."""
    height = next(iter(blocks.values())).shape[0]
    total = sp.csc_matrix((height, width))
    for start, block in blocks.items():
        left, right = sp.csc_matrix((height, start)), sp.csc_matrix((height, width - start - block.shape[1]))
        total = total + sp.hstack([left, block, right])
    return total.tocsc()


def _to_casadi(matrix: sp.csc_matrix) -> ca.DM:
    matrix = matrix.tocsc()
    matrix.sort_indices()
    pattern = ca.Sparsity(*matrix.shape, matrix.indptr.tolist(), matrix.indices.tolist())
    return ca.DM(pattern, matrix.data)


def sparse_qr(program: QuadraticProgram) -> tuple[float, np.ndarray]:
    """Milliseconds of a numerical factorisation and solve of the sparse KKT system by CasADi's QR, and w."""
    kkt = _to_casadi(sp.bmat([[program.hessian, program.dynamics.T], [program.dynamics, None]]).tocsc())
    right = np.concatenate([np.zeros(program.size), program.right])
    solver = ca.Linsol("kkt", "qr", kkt.sparsity())
    solver.sfact(kkt)
    start = time.process_time()
    solver.nfact(kkt)
    z = solver.solve(kkt, right)
    return 1e3 * (time.process_time() - start), np.asarray(z).ravel()[program.step]


def osqp(program: QuadraticProgram) -> tuple[float, np.ndarray]:
    """Milliseconds of a call of OSQP to its tolerance 1e-9, and w."""
    settings = {"verbose": False, "eps_abs": 1e-9, "eps_rel": 1e-9, "max_iter": 20_000}
    h, a = _to_casadi(program.hessian), _to_casadi(program.dynamics)
    options = {"print_time": False, "error_on_fail": True, "osqp": settings}
    solver = ca.conic("peer", "osqp", {"h": h.sparsity(), "a": a.sparsity()}, options)
    start = time.process_time()
    result = solver(h=h, a=a, g=np.zeros(program.size), lba=program.right, uba=program.right)
    return 1e3 * (time.process_time() - start), np.asarray(result["x"]).ravel()[program.step]


def fatrop(program: QuadraticProgram) -> tuple[float, np.ndarray]:
    """Milliseconds of a call of fatrop with the stages told to it, and w."""
    z = ca.MX.sym("z", program.size)
    h, a = _to_casadi(program.hessian), _to_casadi(program.dynamics)
    nlp = {"x": z, "f": 0.5 * ca.bilin(h, z, z), "g": program.right - ca.mtimes(a, z)}  # x_next - F
    stages = len(program.state_sizes)
    options = {
        "print_time": False,
        "error_on_fail": True,
        "structure_detection": "manual",
        "N": stages - 1,
        "nx": list(program.state_sizes),
        "nu": list(program.input_sizes),
        "ng": [0] * stages,
        "equality": [True] * len(program.right),
        "fatrop": {"print_level": 0},
    }
    solver = ca.nlpsol("peer", "fatrop", nlp, options)
    start = time.process_time()
    result = solver(x0=0, lbg=0, ubg=0)
    return 1e3 * (time.process_time() - start), np.asarray(result["x"]).ravel()[program.step]


PEERS = {"sparse QR": sparse_qr, "osqp": osqp, "fatrop": fatrop}
