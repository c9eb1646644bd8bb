"""Transcription: the optimal control problem as a nonlinear program, by single, partial or multiple shooting.

The transcriptions differ in one thing only.  Where layer k + 1 is a *node*, its state is a variable and the dynamics
are a constraint, elsewhere f_k(x_k, u_k) is substituted:

    node:      variable x_{k+1},   constraint  g_{k+1} = f_k(x_k, u_k) - x_{k+1} = 0
    otherwise  x_{k+1} := f_k(x_k, u_k)

No nodes is single shooting (sequential), all of 1..K-1 is multiple shooting (simultaneous); :func:`transcribe` does
every case.  Variables and constraints are ordered stage by stage,

    u_0, [x_1], u_1, [x_2], u_2, ..., u_{K-1},

controls in the order of the network and states sample by sample, so that blocks are reshaped, never gathered.

**Multipliers.**  CasADi's Lagrangian is f + lam_g' g + lam_x' x and ours J + sum <lambda_{k+1}, d_k> with the same
d_k = f_k - x_{k+1}: at a solution ``lam_g`` *is* lambda at the nodes, in the same order.  A constraint written the
other way round, x_{k+1} - f_k, would flip the sign.  Costates of eliminated states follow by the adjoint recursion.

**Cost.**  Dense layers enter as matrix algebra on whole batches, other stages as one Function mapped over the samples.
(768 samples, 8-20-20-1: 0.7 ms an objective and 1.9 ms a gradient, against 4.7 ms and 20 ms from mapped stages.)
CasADi finds gradients and Jacobians of that in under a second.  Its Hessians take 20 s to build where
:mod:`.hessian`, NumPy behind a CasADi callback, takes none, so solvers are given that one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import casadi as ca
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...base import checks, display
from ...base.interrupts import PostponedInterrupts
from ...network.layers import Dense, Layer
from ...network.linear_stages import LinearStage
from ...problem.optimal_control import PROBLEM
from ...problem.shooting import Shooting, check_nodes
from ...problem.training import TrainingProblem
from ...problem.trajectory import Trajectory
from .bounds import Bounds, bounds_of
from .layout import Block, hessian_layout, positions
from .sparsity import draw_kkt, kkt_table

__all__ = ["NLP", "Block", "multiple_shooting", "project", "single_shooting", "transcribe"]

Array = NDArray[np.float64]

# Interior-point methods stop this near a bound that is active, on either side of it (IPOPT relaxes bounds by 1e-8).
_AT_BOUND = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class NLP:
    """A training problem as an ordinary CasADi nonlinear program.

    ``ca.nlpsol("s", "ipopt", nlp.problem)(**nlp.bounds, **nlp.pack(trajectory))`` works with any CasADi solver.

    Attributes
    ----------
    training : TrainingProblem
    nodes : tuple of int
        The k whose state x_k is a variable.
    problem : dict
        CasADi's ``x``, ``f`` and ``g`` (MX expressions).
    bounds : dict
        ``lbx``, ``ubx``, ``lbg``, ``ubg`` as arrays.
    variables, constraints : tuple of Block
        The layout of ``x`` and of ``g``.
    """

    training: TrainingProblem
    nodes: tuple[int, ...]
    problem: dict[str, ca.MX]
    bounds: dict[str, Array]
    variables: tuple[Block, ...]
    constraints: tuple[Block, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_expressions", dict(self.problem))

    def changes(self) -> str:
        """What was changed by hand since the transcription, in words; empty where nothing was."""
        made: dict[str, ca.MX] = vars(self)["_expressions"]
        names = [name for name in {**made, **self.problem} if self.problem.get(name) is not made.get(name)]
        if names:
            return f"nlp.problem[{names[0]!r}] was changed by hand"
        sizes = {"lbx": self.num_variables, "lbg": self.num_constraints}
        sizes |= {"ubx": sizes["lbx"], "ubg": sizes["lbg"]}
        for name, size in sizes.items():
            given = np.size(self.bounds[name]) if name in self.bounds else 0
            if given != size:
                return f"nlp.bounds[{name!r}] has {given} numbers where {size} are needed"
        return ""

    def __repr__(self) -> str:
        return (
            f"NLP({self.transcription}, {self.num_variables} variables, {self.num_constraints} constraints, "
            f"{self.training!r})"
        )

    def _repr_html_(self) -> str:
        header = ("block", "kind", "stage", "from", "to", "numbers")
        blocks = [
            (b.name, b.kind, b.stage, b.start, b.stop, b.stop - b.start) for b in (*self.variables, *self.constraints)
        ]
        title = f"{self.transcription}: {self.num_variables} variables, {self.num_constraints} constraints"
        return display.html_table(title, blocks, header)

    @property
    def num_variables(self) -> int:
        return self.variables[-1].stop

    @property
    def num_constraints(self) -> int:
        return self.constraints[-1].stop if self.constraints else 0

    @property
    def is_bounded(self) -> bool:
        """Whether any variable has a finite bound."""
        return bool(np.isfinite(self.bounds["lbx"]).any() or np.isfinite(self.bounds["ubx"]).any())

    @property
    def transcription(self) -> str:
        """In words."""
        if not self.nodes:
            return "single shooting"
        partial = len(self.nodes) < self.training.num_stages - 1
        return f"multiple shooting at {', '.join(map(str, self.nodes))}" if partial else "multiple shooting"

    def pack(self, trajectory: Trajectory) -> dict[str, Array]:
        """A trajectory as a starting point.

        Returns
        -------
        dict
            ``x0`` and, where the trajectory has multipliers, ``lam_g0``: arguments of a CasADi solver.  States
            that are eliminated here are left out: whatever defects they had are lost.

        Raises
        ------
        ValueError
            If the trajectory does not have the problem's shapes.
        """
        self.training.check(trajectory)
        parts = {"control": trajectory.controls, "state": trajectory.states}
        point = {"x0": _join(parts[block.kind][block.stage] for block in self.variables)}
        if trajectory.multipliers is not None:
            point["lam_g0"] = _join(trajectory.multipliers[block.stage] for block in self.constraints)
        return point

    def unpack(self, solution: Mapping[str, Any] | ArrayLike) -> Trajectory:
        """A solver's solution as a trajectory.

        Parameters
        ----------
        solution : mapping or array_like
            What ``nlpsol`` returned (``x``, and ``lam_g`` for the multipliers), or the vector of variables alone.

        Returns
        -------
        Trajectory
            Eliminated states are rolled out, their costates are adjoints.  Without ``lam_g`` the multipliers are None,
            except in single shooting, where all of them are adjoints.

        Raises
        ------
        ValueError
            If a vector does not have the program's length.
        """
        given = solution if isinstance(solution, Mapping) else {"x": solution}
        x = _vector("x", given["x"], self.num_variables)
        trajectory = self.roll(x)
        if self.nodes and "lam_g" not in given:
            return trajectory
        lam_g = _vector("lam_g", given.get("lam_g", ()), self.num_constraints)
        stages, in_output = self.linearize(trajectory)
        multipliers = self.training.multipliers(self.shooting, stages, [in_output], self.node_multipliers(lam_g))
        return replace(trajectory, multipliers=multipliers)

    @cached_property
    def shooting(self) -> Shooting:
        return Shooting(frozenset(self.nodes))

    def roll(self, x: Array) -> Trajectory:
        """Controls and states of a vector of variables; between nodes the states follow the dynamics."""
        training, parts = self.training, {(block.kind, block.stage): x[block.where] for block in self.variables}
        controls = tuple(parts["control", k] for k in range(training.num_stages))
        at_nodes = [
            parts["state", k].reshape(-1, width) if k in self.shooting.nodes else np.zeros(0)
            for k, width in enumerate(training.network.sizes[:-1])
        ]
        states, _ = training.roll(self.shooting, controls, states=at_nodes)
        return Trajectory(controls, states)

    def linearize(self, trajectory: Trajectory) -> tuple[tuple[LinearStage, ...], Array]:
        """The stages, and the objective's gradient in the output, at a trajectory."""
        outputs = self.training.evaluate(trajectory.controls, trajectory.states)
        return self.training.linearize(trajectory, outputs), self.training.output_gradients(outputs[-1:])[0]

    def node_multipliers(self, lam_g: Array) -> list[Array]:
        """lambda_1..lambda_{K-1} from the multipliers of the constraints; empty where the state is eliminated."""
        given = {block.stage: lam_g[block.where] for block in self.constraints}
        widths = enumerate(self.training.network.sizes[1:-1], start=1)
        return [given[k].reshape(-1, width) if k in given else np.zeros(0) for k, width in widths]

    def stationarity(self, trajectory: Trajectory) -> float:
        """Largest entry of the Lagrangian's gradient in the variables; at a bound, only what points inwards counts.

        Raises
        ------
        ValueError
            If the trajectory has no multipliers although the program has constraints.
        """
        if trajectory.multipliers is None and self.nodes:
            raise ValueError("stationarity needs multipliers, received a trajectory without: see TrainingProblem.lift")
        x = self.pack(trajectory)["x0"]
        gradient = self._lagrangian_gradient(trajectory)
        lower, upper = self.bounds["lbx"], self.bounds["ubx"]
        gradient[(x - lower <= _AT_BOUND) & (gradient > 0)] = 0.0
        gradient[(upper - x <= _AT_BOUND) & (gradient < 0)] = 0.0
        return float(np.abs(gradient).max())

    def _lagrangian_gradient(self, trajectory: Trajectory) -> Array:
        stages, in_output = self.linearize(trajectory)
        costates = self.training.costates(self.shooting, stages, [in_output], (trajectory.multipliers or ())[1:])
        in_controls = self.training.control_gradient(stages, trajectory.controls, costates)
        in_states = self.training.state_gradient(self.shooting, stages, trajectory.states, costates)
        parts = {"control": in_controls, "state": (np.zeros(0), *in_states)}
        return _join(parts[block.kind][block.stage] for block in self.variables)

    def guess(self, seed: int = 0) -> Trajectory:
        """Standard weights and their rollout.  Any other trajectory will do as well: a guess need not be feasible."""
        return self.training.rollout(self.training.network.init_controls(seed))

    @cached_property
    def variable_names(self) -> tuple[str, ...]:
        """For instance ``W0[2,3]``, ``b0[2]`` (layer, unit, input), ``u1[5]``, ``x1[sample 7, unit 3]``."""
        names: list[str] = []
        for block in self.variables:
            layer = self.training.network.layers[block.stage]
            names += _control_names(layer, block.stage) if block.kind == "control" else self._state_names(block)
        return tuple(names)

    @cached_property
    def constraint_names(self) -> tuple[str, ...]:
        """``d0[sample 7, unit 3]`` is the entry of d_0 = f_0(x_0, u_0) - x_1."""
        return tuple(name for block in self.constraints for name in self._state_names(block))

    def _state_names(self, block: Block) -> list[str]:
        samples, width = self.training.num_samples, self.training.network.sizes[block.stage]
        return [f"{block.name}[sample {i}, unit {a}]" for i in range(samples) for a in range(width)]

    @cached_property
    def jacobian_sparsity(self) -> ca.Sparsity:
        """Of the constraints, as CasADi finds it."""
        return ca.jacobian_sparsity(self.problem["g"], self.problem["x"])

    @cached_property
    def hessian_sparsity(self) -> ca.Sparsity:
        """Upper triangle of the Hessian of the Lagrangian, as :mod:`.hessian` fills it."""
        return hessian_layout(self.training, self.nodes, self.variables, gauss_newton=False).sparsity

    def spy(self, ax: Any = None) -> str:
        """The sparsity of the KKT matrix [[H, J'], [J, 0]] in words, and drawn into matplotlib axes when given."""
        blocks = self.variables, self.constraints
        sparsity = self.hessian_sparsity, self.jacobian_sparsity
        if ax is not None:
            draw_kkt(ax, *blocks, *sparsity)
        return f"{self.transcription}: {kkt_table(*blocks, *sparsity)}"


def single_shooting(problem: TrainingProblem, *, control_bounds: Bounds | None = None) -> NLP:
    """The program in the controls alone: states are substituted, there are no constraints."""
    return transcribe(problem, (), control_bounds=control_bounds)


def multiple_shooting(
    problem: TrainingProblem,
    nodes: Iterable[int] | None = None,
    *,
    control_bounds: Bounds | None = None,
    state_bounds: Bounds | None = None,
) -> NLP:
    """The program in controls and states; ``nodes`` are the k in 1..K-1 whose x_k is a variable, None is all."""
    return transcribe(problem, nodes, control_bounds=control_bounds, state_bounds=state_bounds)


def transcribe(
    problem: TrainingProblem,
    nodes: Iterable[int] | None = None,
    *,
    control_bounds: Bounds | None = None,
    state_bounds: Bounds | None = None,
) -> NLP:
    """The training problem as a nonlinear program.

    Parameters
    ----------
    problem : TrainingProblem
    nodes : iterable of int, optional
        The k in 1..K-1 whose state is a variable: none is single shooting, all (the default) multiple shooting.
    control_bounds, state_bounds : (lower, upper) or {k: (lower, upper)}, optional
        For every control / state that is a variable, or for those of some stages.  Scalars or arrays that
        broadcast to (num_controls of stage k,) and (N, n_k); infinite where there is none.

    Raises
    ------
    ValueError
        For nodes outside 1..K-1, bounds that cross or are NaN, or bounds on states that are not variables.
    """
    checks.check("problem", problem, PROBLEM)
    nodes = tuple(sorted(check_nodes(nodes, problem.num_stages)))
    with PostponedInterrupts():
        return _program(problem, nodes, control_bounds, state_bounds)


def _program(
    problem: TrainingProblem, nodes: tuple[int, ...], control_bounds: Bounds | None, state_bounds: Bounds | None
) -> NLP:
    state: ca.MX = ca.MX(ca.DM(problem.x.T))
    symbols: list[ca.MX] = []
    defects: list[ca.MX] = []
    blocks: list[tuple[Literal["control", "state"], int]] = []
    decay: ca.MX = ca.MX(0)
    for k, layer in enumerate(problem.network.layers):
        control = ca.MX.sym(f"u{k}", layer.num_controls)
        symbols.append(control)
        blocks.append(("control", k))
        decay += ca.sumsqr(control)
        value = _batch(layer, state, control)
        if k + 1 in nodes:
            variable = ca.MX.sym(f"x{k + 1}", layer.num_outputs * problem.num_samples)
            symbols.append(variable)
            blocks.append(("state", k + 1))
            state = ca.reshape(variable, value.shape)
            defects.append(ca.vec(value - state))
        else:
            state = value
    objective = problem.data.symbolic(state) + problem.weight_decay / 2 * decay
    variables = positions((kind, k, symbol.numel()) for (kind, k), symbol in zip(blocks, symbols, strict=True))
    constraints = positions(("defect", k, defect.numel()) for k, defect in zip(nodes, defects, strict=True))
    g = ca.vertcat(*defects) if defects else ca.MX(0, 1)
    return NLP(
        training=problem,
        nodes=nodes,
        problem={"x": ca.vertcat(*symbols), "f": objective, "g": g},
        bounds=bounds_of(problem, nodes, variables, g.numel(), control_bounds, state_bounds),
        variables=variables,
        constraints=constraints,
    )


def project(problem: TrainingProblem, trajectory: Trajectory) -> Trajectory:
    """Any point -> the rollout of its controls, with the adjoints there as multipliers: defects are closed."""
    checks.check("problem", problem, PROBLEM)
    problem.check(trajectory)
    return problem.lift(trajectory.controls)


def _batch(layer: Layer, state: ca.MX, control: ca.MX) -> ca.MX:
    """The stage for a matrix with one column a sample."""
    samples = state.shape[1]
    if not isinstance(layer, Dense):
        return layer.function.map(layer.function.name(), "serial", samples, [1], [])(state, control)
    weights = ca.reshape(control, layer.num_outputs, layer.num_inputs + 1)
    y = layer.phi.symbolic(weights[:, :-1] @ state + ca.repmat(weights[:, -1], 1, samples))
    return state + y if layer.residual else y


def _control_names(layer: Layer, k: int) -> list[str]:
    if not isinstance(layer, Dense):
        return [f"u{k}[{j}]" for j in range(layer.num_controls)]
    weights = [f"W{k}[{a},{j}]" for j in range(layer.num_inputs) for a in range(layer.num_outputs)]
    return weights + [f"b{k}[{a}]" for a in range(layer.num_outputs)]


def _join(parts: Iterable[Array]) -> Array:
    vectors = [np.ravel(part) for part in parts]
    return np.concatenate(vectors) if vectors else np.zeros(0)


def _vector(name: str, values: Any, length: int) -> Array:
    vector = checks.real_array(name, values).ravel()
    if vector.size != length:
        raise ValueError(f"expected {name} of {length} numbers, received {vector.size}")
    return vector
