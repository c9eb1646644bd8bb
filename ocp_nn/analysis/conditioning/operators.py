"""Products with the matrices of :mod:`.dense`, and with their inverses, by sweeps over the stages.

No matrix in (u, x) is ever formed.  A product is a tangent sweep forward and an adjoint sweep backward; at a node both
are cut, which is the whole difference between the formulations.

**Inverses** (our derivation) reuse forward dynamic programming.  For the augmented Lagrangian's Gauss-Newton matrix M,
M z = b is the least-squares subproblem with suitable data: accumulate the right-hand side backward,

    e_k = b_{x,k} + A_k' e_{k+1},    e_K = 0      (no b_{x,k} where the state is no node),

then the gaps are c_k = e_{k+1}/beta_k and the controls are pulled by b_{u,k} + B_k' e_{k+1}.  For the KKT matrix the
same accumulation leaves a system in the controls alone, with the Hessian of the *reduced* problem Z'WZ (null-space
method): for Gauss-Newton that is forward DP with every penalty infinite, for the exact Hessian it is P x P and dense.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from ...forward_dp import choose_form
from ...forward_dp.condensed import Condensed, Factor, Form
from ...forward_dp.dual import DualForm
from ...forward_dp.primal import PrimalForm
from ...problem.curvature import segment_hessian
from .point import LinearisedPoint

__all__ = ["Operators", "Product"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]
Product = Callable[[Array], Array]

# Numbers in one chunk of state sensitivities: 16 MB.
_CHUNK = 2_000_000


class Operators:
    """Matrix-free access to the matrices of a linearised point.

    Vectors z hold u_0, [x_1], u_1, ... as in :mod:`.dense`; KKT vectors append the multipliers of the defects.
    """

    def __init__(self, point: LinearisedPoint) -> None:
        self.point = point
        self._nodes = set(point.nodes)
        self.num_variables = point.num_controls + point.num_constraints
        lengths = []
        for k, stage in enumerate(point.stages):
            lengths += [point.num_samples * stage.num_inputs] if k in self._nodes else []
            lengths.append(stage.num_controls)
        self._cuts = np.cumsum(lengths)[:-1]
        self._rows = np.cumsum([point.num_samples * point.stages[k].num_inputs for k in point.nodes])[:-1]

    # vectors

    def split(self, z: Array) -> tuple[list[Array], dict[int, Array]]:
        """(u_k for all k, {k: x_k} for the nodes)."""
        parts = iter(np.split(z, self._cuts))
        controls, states = [], {}
        for k, stage in enumerate(self.point.stages):
            if k in self._nodes:
                states[k] = next(parts).reshape(self.point.num_samples, stage.num_inputs)
            controls.append(next(parts))
        return controls, states

    def join(self, controls: Sequence[Array], states: dict[int, Array]) -> Array:
        parts = []
        for k, u in enumerate(controls):
            parts += [states[k].ravel(), u] if k in self._nodes else [u]
        return np.concatenate(parts)

    def split_rows(self, rows: Array) -> dict[int, Array]:
        """One array a node, from a vector of constraints."""
        samples = self.point.num_samples
        blocks = np.split(rows, self._rows) if self.point.nodes else []
        return {k: block.reshape(samples, -1) for k, block in zip(self.point.nodes, blocks, strict=True)}

    def _join_rows(self, rows: dict[int, Array]) -> Array:
        return np.concatenate([rows[k].ravel() for k in self.point.nodes]) if rows else np.zeros(0)

    # sweeps

    def _tangent(
        self, controls: Sequence[Array], states: dict[int, Array]
    ) -> tuple[list[Array | None], dict[int, Array], Array]:
        """State tangents dx_0.., defects A dx + B du - dx_node at the nodes, and the tangent of the output."""
        tangents: list[Array | None] = [None]
        defects = {}
        for k, (stage, u) in enumerate(zip(self.point.stages, controls, strict=True)):
            following = stage.apply(tangents[-1], u)
            if k + 1 in self._nodes:
                defects[k + 1] = following - states[k + 1]
                following = states[k + 1]
            tangents.append(following)
        output = tangents.pop()
        assert output is not None
        return tangents, defects, output

    def _adjoint(
        self,
        at_nodes: dict[int, Array],
        output: Array,
        curvature: tuple[Sequence[Array | None], Sequence[Array]] | None = None,
    ) -> tuple[list[Array], dict[int, Array]]:
        """[C', J_r'] times (at_nodes, output); with tangents (dx, du) the curvature of the Lagrangian is added."""
        costate, controls, states = output, [], {}
        for k in range(self.point.num_stages - 1, -1, -1):
            stage = self.point.stages[k]
            in_control, back = stage.transpose_control(costate), stage.transpose_state(costate) if k else None
            if curvature is not None:
                p, q = stage.curvature_product(self.point.costates[k], curvature[0][k], curvature[1][k])
                in_control = in_control + q
                back = None if back is None else back + p
            controls.append(in_control)
            if back is None:
                break
            if k in self._nodes:
                multiplier = at_nodes.get(k)
                states[k] = back if multiplier is None else back - multiplier
                costate = np.zeros_like(back) if multiplier is None else multiplier
            else:
                costate = back
        return controls[::-1], states

    def _accumulate(self, controls: Sequence[Array], states: dict[int, Array]) -> tuple[list[Array], dict[int, Array]]:
        """e_k at the nodes, and b_u,k + B_k' e_{k+1}: the right-hand side moved into the controls."""
        costate: Array | None = None
        pulled, at_nodes = [], {}
        for k in range(self.point.num_stages - 1, -1, -1):
            stage = self.point.stages[k]
            pulled.append(controls[k] if costate is None else controls[k] + stage.transpose_control(costate))
            if k == 0:
                break
            costate = None if costate is None else stage.transpose_state(costate)
            if k in self._nodes:
                costate = states[k] if costate is None else costate + states[k]
                at_nodes[k] = costate
        return pulled[::-1], at_nodes

    def _roll(self, controls: Sequence[Array], gaps: dict[int, Array]) -> dict[int, Array]:
        """Node states of the linearised rollout dx_{k+1} = A dx_k + B du_k + gap."""
        state, nodes = None, {}
        for k, (stage, u) in enumerate(zip(self.point.stages[:-1], controls[:-1], strict=True)):
            state = stage.apply(state, u)
            if k + 1 in gaps:
                state = state + gaps[k + 1]
            if k + 1 in self._nodes:
                nodes[k + 1] = state
        return nodes

    # products

    def output_jacobian(self, u: Array) -> Array:
        """J u, for a point without nodes."""
        return self._tangent(self.split(u)[0], {})[2].ravel()

    def output_jacobian_transpose(self, eta: Array) -> Array:
        """J' eta, for a point without nodes."""
        return np.concatenate(self._adjoint({}, eta.reshape(self.point.num_samples, -1))[0])

    def constraint(self, z: Array) -> Array:
        """C z."""
        return self._join_rows(self._tangent(*self.split(z))[1])

    def constraint_transpose(self, rows: Array) -> Array:
        """C' rows."""
        output = np.zeros((self.point.num_samples, self.point.num_outputs))
        return self.join(*self._adjoint(self.split_rows(rows), output))

    def lagrangian_hessian(self, z: Array, *, gauss_newton: bool = False) -> Array:
        """W z, with weight decay."""
        controls, states = self.split(z)
        tangents, _, output = self._tangent(controls, states)
        gradient, in_states = self._adjoint({}, output, None if gauss_newton else (tangents, controls))
        decayed = [g + self.point.weight_decay * u for g, u in zip(gradient, controls, strict=True)]
        return self.join(decayed, in_states)

    def al_matrix(self, z: Array, beta: float) -> Array:
        """M z for the penalty beta."""
        controls, states = self.split(z)
        _, defects, output = self._tangent(controls, states)
        gradient, in_states = self._adjoint({k: beta * d for k, d in defects.items()}, output)
        damped = [g + self.point.ridge * u for g, u in zip(gradient, controls, strict=True)]
        return self.join(damped, in_states)

    def precondition_constraints(self, rows: Array) -> Array:
        """(L L')^-1 rows with C = [B-part, L]: a rollout of the gaps, then an adjoint sweep."""
        zero = [np.zeros(stage.num_controls) for stage in self.point.stages]
        states = self._roll(zero, {k: -row for k, row in self.split_rows(rows).items()})
        _, multipliers = self._accumulate(zero, states)
        return -self._join_rows(multipliers)

    def kkt(self, vector: Array, *, gauss_newton: bool = False) -> Array:
        """[[W, C'], [C, 0]] times (z, multipliers)."""
        z, rows = vector[: self.num_variables], vector[self.num_variables :]
        top = self.lagrangian_hessian(z, gauss_newton=gauss_newton) + self.constraint_transpose(rows)
        return np.concatenate([top, self.constraint(z)])

    # inverses

    def al_inverse(self, beta: float) -> Product:
        """b -> M^-1 b, by forward DP (one factorisation now, two sweeps a product)."""
        factor = _factorised(self.point, beta)
        batch = self.point.batch(beta)

        def solve(b: Array) -> Array:
            pulled, at_nodes = self._accumulate(*self.split(b))
            gaps = {k: e / beta for k, e in at_nodes.items()}
            predicted = self._mean_output(gaps)
            solution = factor.solve(predicted, np.concatenate(pulled))
            controls, etas = self._split_controls(solution.w), batch.back_propagate(solution.theta)
            noisy = {k: gap - etas[k - 1] / beta for k, gap in gaps.items()}
            return self.join(controls, self._roll(controls, noisy))

        return solve if self.point.nodes else factor.precondition

    def output_inverse(self, beta: float = np.inf) -> Product:
        """v -> T^-1 v, with T the matrix of the dual form, whichever form factorises."""
        factor, none = _factorised(self.point, beta), np.zeros(self.point.num_controls)

        def solve(v: Array) -> Array:
            # Sigma eta - J w = v and ridge w + J' eta = 0 give T eta = ridge v
            eta = factor.solve(v.reshape(self.point.num_samples, -1), none).theta
            return np.asarray(eta.ravel() / self.point.ridge)

        return solve

    def control_inverse(self, beta: float = np.inf) -> Product:
        """w -> H^-1 w, with H the matrix of the primal form."""
        return _factorised(self.point, beta).precondition

    def _mean_output(self, gaps: dict[int, Array]) -> Array:
        """The output tangent of the rollout of the gaps alone."""
        state: Array | None = None
        for k, stage in enumerate(self.point.stages):
            if state is not None:
                state = stage.apply(state, np.zeros(stage.num_controls))
            if k + 1 in gaps:
                state = gaps[k + 1] if state is None else state + gaps[k + 1]
        return np.zeros((self.point.num_samples, self.point.num_outputs)) if state is None else state

    def kkt_inverse(self, *, gauss_newton: bool = False) -> Product:
        """b -> K^-1 b, by the null-space method on the reduced Hessian."""
        reduced_solve = self._gauss_newton_solve if gauss_newton else self._exact_solve
        return lambda b: self._null_space(partial(self.lagrangian_hessian, gauss_newton=gauss_newton), reduced_solve, b)

    def constraint_gram_inverse(self) -> Product:
        """r -> (C C')^-1 r: the multipliers of min ||z||^2 subject to C z = r, up to their sign."""
        solve = _dense_solve(np.eye(self.point.num_controls) + self._state_gram())
        top = np.zeros(self.num_variables)

        def product(rows: Array) -> Array:
            return -self._null_space(lambda z: z, solve, np.concatenate([top, rows]))[self.num_variables :]

        return product

    def _null_space(self, hessian: Product, reduced_solve: Product, b: Array) -> Array:
        """[[W, C'], [C, 0]]^-1 b, given products with W and solves with Z'WZ."""
        top, rows = b[: self.num_variables], self.split_rows(b[self.num_variables :])
        zero = [np.zeros(stage.num_controls) for stage in self.point.stages]
        # the particular solution of C z = rows with no control: x_{k+1} = A x_k - rows
        particular = self.join(zero, self._roll(zero, {k: -row for k, row in rows.items()}))
        pulled, _ = self._accumulate(*self.split(top - hessian(particular)))
        w = self._split_controls(reduced_solve(np.concatenate(pulled)))
        z = particular + self.join(w, self._roll(w, {}))
        _, multipliers = self._accumulate(*self.split(hessian(z) - top))
        return np.concatenate([z, self._join_rows(multipliers)])

    def _state_gram(self) -> Array:
        """sum over nodes and samples of S_k' S_k, S_k the sensitivity of x_k in all controls: (P, P)."""
        total = self.point.num_controls
        gram = np.zeros((total, total))
        chunk = max(1, _CHUNK // (total * max(stage.num_outputs for stage in self.point.stages)))
        for start in range(0, self.point.num_samples, chunk):
            stages = [stage.rows(slice(start, start + chunk)) for stage in self.point.stages]
            sensitivity = np.zeros((stages[0].num_samples, stages[0].num_inputs, 0))
            for k, stage in enumerate(stages[:-1]):
                sensitivity = np.concatenate([stage.A @ sensitivity, stage.B], axis=2)
                if k + 1 in self._nodes:
                    used = sensitivity.shape[2]
                    rows = sensitivity.reshape(-1, used)
                    gram[:used, :used] += rows.T @ rows
        return gram

    def _split_controls(self, flat: Array) -> list[Array]:
        ends = np.cumsum([stage.num_controls for stage in self.point.stages])
        return np.split(flat, ends[:-1])

    @cached_property
    def _gauss_newton_solve(self) -> Product:
        # without damping: the KKT matrix has none
        factor = _factorised(replace(self.point, damping=0.0), np.inf)
        return factor.precondition

    @cached_property
    def _exact_solve(self) -> Product:
        """With the dense Z'WZ, factorised once; Z spans the tangent space of the dynamics whatever the nodes."""
        return _dense_solve(self.reduced_hessian())

    def reduced_inverse(self, weight_decay: float) -> Product:
        """The inverse of Z'WZ with another weight decay, dense."""
        hessian = self.reduced_hessian()
        hessian[np.diag_indices_from(hessian)] += weight_decay - self.point.weight_decay
        return _dense_solve(hessian)

    def reduced_hessian(self) -> Array:
        """Z'WZ, (P, P): without nodes (or where the point is feasible) the Hessian of single shooting."""
        reduced = segment_hessian(self.point.stages, self.point.costates, free_start=False, loss=1.0).controls
        reduced[np.diag_indices_from(reduced)] += self.point.weight_decay
        return reduced


def _dense_solve(matrix: Array) -> Product:
    """b -> matrix^-1 b by LU factors; ``numpy.linalg.LinAlgError`` if a pivot is exactly zero."""
    lu, pivots, info = lapack.dgetrf(matrix)
    if info != 0:
        raise np.linalg.LinAlgError(f"pivot {info} is zero: the matrix is singular")
    return lambda b: np.asarray(lapack.dgetrs(lu, pivots, b)[0], dtype=float)


def _factorised(point: LinearisedPoint, beta: float) -> Factor:
    """The factor of forward DP that is cheaper here."""
    subproblem = point.subproblem(beta)
    condensed = Condensed(subproblem)
    form: Form = DualForm(condensed) if choose_form(subproblem)[0] == "dual" else PrimalForm(condensed)
    return form.factor(subproblem)
