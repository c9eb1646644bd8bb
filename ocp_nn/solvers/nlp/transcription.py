"""Transcription: the optimal control problem as a nonlinear program, by single, partial or multiple shooting.

The transcriptions differ in one thing only.  Where k + 1 is a *node*, its state is a variable and the dynamics are a
constraint, elsewhere f_k(x_k, u_c(k)) is substituted:

    node:      variable x_{k+1},   constraint  g_{k+1} = f_k(x_k, u_c(k)) - x_{k+1} = 0
    otherwise  x_{k+1} := f_k(x_k, u_c(k))

No nodes is single shooting (sequential), all of 1..K-1 is multiple shooting (simultaneous); :func:`transcribe` does
every case.  Variables and constraints are ordered stage by stage, a control block where it is first used and x_0 in
front where it is a variable,

    [x_0], u_0, [x_1], u_1, [x_2], u_2, ..., u_{K-1}     in a feed-forward network (x_0 known), and
    [x_0], u_0, [x_1], [x_2], ..., [x_{K-1}]             where one control block serves all stages and terms,

and states sample by sample, so that blocks are reshaped, never gathered.

**Multipliers.**  CasADi's Lagrangian is f + lam_g' g + lam_x' x and ours J + sum <lambda_{k+1}, d_k> with the same
d_k = f_k - x_{k+1}: at a solution ``lam_g`` *is* lambda at the nodes, in the same order.  A constraint written the
other way round, x_{k+1} - f_k, would flip the sign.  Costates of eliminated states follow by the adjoint recursion.
Constraints of an :class:`ocp_nn.ConstrainedProblem` are further rows of g, below the defects, or bounds on controls;
the lasso has variables of its own (:mod:`.sparse_rows`), behind all others.

**Cost.**  Dense layers enter as matrix algebra on whole batches, other stages as one Function mapped over the samples.
(768 samples, 8-20-20-1: 0.7 ms an objective and 1.9 ms a gradient, against 4.7 ms and 20 ms from mapped stages.)
CasADi finds gradients and Jacobians of that in under a second.  Its Hessians take 20 s to build where
:mod:`.hessian`, NumPy behind a CasADi callback, takes none, so solvers are given that one.  Stages of one function and
one control block whose states are nodes are one batch, as are terms of one output, control block and loss: the
expressions of a long horizon are no larger than those of a short one, and neighbouring states are one symbol.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ...base import checks
from ...base.interrupts import PostponedInterrupts
from ...network.layers import Dense, Layer
from ...problem.optimal_control import PROBLEM, OptimalControlProblem
from ...problem.shooting import check_nodes
from ...problem.structure import Stage, Term
from ...problem.trajectory import Trajectory
from .bounds import Bounds, bounds_of
from .constraint_rows import output_constraints, with_constraints
from .equal_rows import equal_terms, runs_of_stages, stacked_input, together
from .layout import Block, Kind, positions
from .nonlinear_program import NLP
from .sparse_rows import cost_of_sizes, size_variables, sparse_rows
from .state_columns import StateColumns

__all__ = ["NLP", "Block", "multiple_shooting", "project", "single_shooting", "transcribe"]

Array = NDArray[np.float64]


def single_shooting(problem: OptimalControlProblem, *, control_bounds: Bounds | None = None) -> NLP:
    """The program in the controls (and a free x_0) alone: states are substituted, there are no constraints."""
    return transcribe(problem, (), control_bounds=control_bounds)


def multiple_shooting(
    problem: OptimalControlProblem,
    nodes: Iterable[int] | None = None,
    *,
    control_bounds: Bounds | None = None,
    state_bounds: Bounds | None = None,
) -> NLP:
    """The program in controls and states; ``nodes`` are the k in 1..K-1 whose x_k is a variable, None is all."""
    return transcribe(problem, nodes, control_bounds=control_bounds, state_bounds=state_bounds)


def transcribe(
    problem: OptimalControlProblem,
    nodes: Iterable[int] | None = None,
    *,
    control_bounds: Bounds | None = None,
    state_bounds: Bounds | None = None,
) -> NLP:
    """The optimal control problem as a nonlinear program.

    Parameters
    ----------
    problem : OptimalControlProblem
        Most often a :class:`ocp_nn.TrainingProblem`.
    nodes : iterable of int, optional
        The k in 1..K-1 whose state is a variable: none is single shooting, all (the default) multiple shooting.
    control_bounds, state_bounds : (lower, upper) or {k: (lower, upper)}, optional
        For every control block / state that is a variable, or for those of some blocks / stages.  Scalars or arrays
        that broadcast to (length of block k,) and (N, n_k); infinite where there is none.

    Raises
    ------
    ValueError
        For nodes outside 1..K-1, bounds that cross or are NaN, or bounds on states that are not variables.
    """
    checks.check("problem", problem, PROBLEM)
    nodes = tuple(sorted(check_nodes(nodes, problem.num_stages)))
    with PostponedInterrupts():
        return _program(problem, nodes, control_bounds, state_bounds)


def project(problem: OptimalControlProblem, trajectory: Trajectory) -> Trajectory:
    """Any point -> the rollout of its controls, with the adjoints there as multipliers: defects are closed.

    It starts where the point does, where x_0 is a variable.
    """
    checks.check("problem", problem, PROBLEM)
    problem.check(trajectory)
    return problem.lift(trajectory.controls, initial=trajectory.states[0] if problem.has_free_start else None)


def _program(
    problem: OptimalControlProblem, nodes: tuple[int, ...], control_bounds: Bounds | None, state_bounds: Bounds | None
) -> NLP:
    variables = positions([*_variables(problem, nodes), *size_variables(problem)])
    sizes = {b.stage: ca.MX.sym(b.name, b.stop - b.start) for b in variables if b.kind == "size"}
    controls = {b.stage: ca.MX.sym(b.name, b.stop - b.start) for b in variables if b.kind == "control"}
    states = StateColumns(problem, variables)
    symbols = []
    for block in variables:
        if block.kind == "control":
            symbols.append(controls[block.stage])
        elif block.kind == "size":
            symbols.append(sizes[block.stage])
        elif states.begins_symbol(block.stage):
            symbols.append(states.symbol(block.stage))
    defects = _defects(problem, nodes, states, controls)
    blocks: list[tuple[Kind, int, int]] = [("defect", k, problem.num_samples * problem.widths[k]) for k in nodes]
    for j, rows in output_constraints(problem, states, controls, _batch):
        defects.append(rows)
        blocks.append(("constraint", j, rows.numel()))
    for j, rows in sparse_rows(problem, controls, sizes):
        defects.append(rows)
        blocks.append(("size row", j, rows.numel()))
    constraints = positions(blocks)
    g = ca.vertcat(*defects) if defects else ca.MX(0, 1)
    bounds = bounds_of(problem, nodes, variables, g.numel(), control_bounds, state_bounds)
    objective = _objective(problem, states, controls) + cost_of_sizes(problem, sizes)
    return NLP(
        training=problem,
        nodes=nodes,
        problem={"x": ca.vertcat(*symbols), "f": objective, "g": g},
        bounds=with_constraints(problem, bounds, variables, constraints),
        variables=variables,
        constraints=constraints,
    )


def _variables(problem: OptimalControlProblem, nodes: Sequence[int]) -> list[tuple[Kind, int, int]]:
    """(kind, stage or block, length), in order."""
    order: list[tuple[Kind, int, int]] = []
    seen: set[int] = set()
    at_node = {*nodes, *((0,) if problem.has_free_start else ())}
    for k, width in enumerate(problem.widths):
        if k in at_node:
            order.append(("state", k, problem.num_samples * width))
        rows: list[Stage | Term] = [*problem.dynamics[k : k + 1], *(problem.terms[j] for j in problem.terms_at[k])]
        for row in rows:
            if row.block not in seen:
                seen.add(row.block)
                order.append(("control", row.block, row.layer.num_controls))
    return order


def _defects(
    problem: OptimalControlProblem, nodes: Sequence[int], states: StateColumns, controls: dict[int, ca.MX]
) -> list[ca.MX]:
    """The constraints, run by run of stages; states that are not variables are noted on the way."""
    defects = []
    at_node = frozenset(nodes)
    for run in runs_of_stages(problem, nodes):
        stages = problem.dynamics[run.start : run.stop]
        value = _batch(stages[0].layer, states.columns(run), controls[stages[0].block], *_input(stages))
        inner = run if run.stop in at_node else run[:-1]
        moved = [k + 1 for k in inner]
        if moved:
            defects.append(ca.vec(value[:, : len(moved) * problem.num_samples] - states.columns(moved)))
        if len(inner) < len(run):
            states.note(run.stop, value[:, len(moved) * problem.num_samples :] if moved else value)
    return defects


def _input(rows: Sequence[Stage | Term]) -> list[ca.MX]:
    return [ca.MX(ca.DM(v.T)) for v in stacked_input([row.layer for row in rows])]


def _objective(problem: OptimalControlProblem, states: StateColumns, controls: dict[int, ca.MX]) -> ca.MX:
    """All terms, weight decay, and the prior of a free x_0."""
    objective: ca.MX = ca.MX(0)
    for group in equal_terms(problem):
        terms = [problem.terms[j] for j in group]
        at = states.columns([term.stage for term in terms])
        output = _batch(terms[0].layer, at, controls[terms[0].block], *_input(terms))
        objective += together(problem, group).symbolic(output)
    for rho in dict.fromkeys(problem.decays):
        blocks = [controls[b] for b, decay in enumerate(problem.decays) if decay == rho]
        objective += rho / 2 * sum((ca.sumsqr(block) for block in blocks[1:]), ca.sumsqr(blocks[0]))
    if problem.has_free_start:
        objective += problem.initial_weight / 2 * ca.sumsqr(states.columns([0]) - ca.DM(problem.x.T))
    return objective


def _batch(layer: Layer, state: ca.MX, control: ca.MX, *v: ca.MX) -> ca.MX:
    """The stage for a matrix with one column a sample, and its exogenous input where it has one."""
    samples = state.shape[1]
    if not isinstance(layer, Dense):
        return layer.function.map(layer.function.name(), "serial", samples, [1], [])(state, control, *v)
    weights = ca.reshape(control, layer.num_outputs, layer.num_inputs + 1)
    y = layer.phi.symbolic(weights[:, :-1] @ state + ca.repmat(weights[:, -1], 1, samples))
    return state + y if layer.residual else y
