"""The nonlinear program of an optimal control problem: CasADi's expressions, and what their variables mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import casadi as ca
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...base import checks, display
from ...network.layers import Dense, Layer
from ...network.linear_stages import LinearStage
from ...problem.optimal_control import OptimalControlProblem
from ...problem.shooting import Shooting
from ...problem.trajectory import Trajectory
from .constraint_rows import priced, prices_of, prices_of_rows, prices_of_variables, row_names
from .equal_rows import equal_rows, linearized
from .layout import Block, hessian_layout
from .sparse_rows import lasso_prices, size_names, sizes_of
from .sparsity import draw_kkt, kkt_table

__all__ = ["NLP"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]

# Interior-point methods stop this near a bound that is active, on either side of it (IPOPT relaxes bounds by 1e-8).
_AT_BOUND = 1e-6

# Nodes up to which the words for a transcription name them.
_MOST_NAMED = 12


@dataclass(frozen=True, kw_only=True, eq=False)
class NLP:
    """An optimal control problem as an ordinary CasADi nonlinear program.

    ``ca.nlpsol("s", "ipopt", nlp.problem)(**nlp.bounds, **nlp.pack(trajectory))`` works with any CasADi solver.

    Attributes
    ----------
    training : OptimalControlProblem
        Most often a :class:`ocp_nn.TrainingProblem`.
    nodes : tuple of int
        The k whose state x_k is a variable.
    problem : dict
        CasADi's ``x``, ``f`` and ``g`` (MX expressions).
    bounds : dict
        ``lbx``, ``ubx``, ``lbg``, ``ubg`` as arrays.
    variables, constraints : tuple of Block
        The layout of ``x`` and of ``g``.
    """

    training: OptimalControlProblem
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
    def has_output_constraints(self) -> bool:
        """Whether there are constraints on outputs beside the defects."""
        return any(block.kind == "constraint" for block in self.constraints)

    @property
    def has_only_defects(self) -> bool:
        """Whether there is nothing else among the constraints."""
        return all(block.kind == "defect" for block in self.constraints)

    @property
    def transcription(self) -> str:
        """In words."""
        if not self.nodes:
            return "single shooting"
        if len(self.nodes) == self.training.num_stages - 1:
            return "multiple shooting"
        if len(self.nodes) > _MOST_NAMED:
            return f"multiple shooting at {len(self.nodes)} of {self.training.num_stages - 1} stages"
        return f"multiple shooting at {', '.join(map(str, self.nodes))}"

    def pack(self, trajectory: Trajectory) -> dict[str, Array]:
        """A trajectory as a starting point.

        Returns
        -------
        dict
            ``x0`` and, where the trajectory has multipliers, ``lam_g0`` (and ``lam_x0``, where it has those of
            constraints): arguments of a CasADi solver.  States
            that are eliminated here are left out: whatever defects they had are lost.

        Raises
        ------
        ValueError
            If the trajectory does not have the problem's shapes.
        """
        self.training.check(trajectory)
        sizes = sizes_of(self.training, trajectory.controls)
        parts: dict[str, Any] = {"control": trajectory.controls, "state": trajectory.states, "size": sizes}
        point = {"x0": _join(parts[block.kind][block.stage] for block in self.variables)}
        if trajectory.multipliers is not None:
            defects = [block for block in self.constraints if block.kind == "defect"]
            nodes = _join(trajectory.multipliers[block.stage] for block in defects)
            prices = prices_of_rows(self.training, trajectory.constraint_multipliers)
            point["lam_g0"] = np.concatenate([nodes, prices])
            if trajectory.constraint_multipliers is not None:
                point["lam_x0"] = prices_of_variables(self.training, trajectory.constraint_multipliers, self.variables)
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
        prices = prices_of(self.training, lam_g, given.get("lam_x"), self.variables, self.constraints)
        stages, outputs = self.linearize(trajectory)
        problem = self.lagrangian_problem if prices is None else priced(self.training, prices)
        gradients = problem.output_gradients(outputs)
        multipliers = problem.multipliers(self.shooting, stages, gradients, self.node_multipliers(lam_g))
        return replace(trajectory, multipliers=multipliers, constraint_multipliers=prices)

    @cached_property
    def shooting(self) -> Shooting:
        return Shooting(frozenset(self.nodes))

    def roll(self, x: Array) -> Trajectory:
        """Controls and states of a vector of variables; between nodes the states follow the dynamics."""
        training, parts = self.training, {(block.kind, block.stage): x[block.where] for block in self.variables}
        controls = tuple(parts["control", b] for b in range(len(training.block_lengths)))
        given = [
            parts["state", k].reshape(-1, width) if ("state", k) in parts else np.zeros(0)
            for k, width in enumerate(training.widths)
        ]
        initial = given[0] if training.has_free_start else None
        states, _ = training.roll(self.shooting, controls, initial, states=given)
        return Trajectory(controls, states)

    def linearize(self, trajectory: Trajectory) -> tuple[tuple[LinearStage, ...], Arrays]:
        """All rows, linearised at a trajectory, and the outputs of the terms."""
        problem = self.lagrangian_problem
        outputs = problem.evaluate(trajectory.controls, trajectory.states)
        stages = linearized(problem, self._equal_rows, trajectory, outputs)
        return stages, outputs[len(problem.dynamics) :]

    @cached_property
    def lagrangian_problem(self) -> OptimalControlProblem:
        """The problem itself, or with constraints the one in which these are terms: their prices."""
        return priced(self.training, None)

    @cached_property
    def _equal_rows(self) -> list[list[int]]:
        return equal_rows(self.lagrangian_problem)

    def node_multipliers(self, lam_g: Array) -> list[Array]:
        """lambda_1..lambda_{K-1} from the multipliers of the constraints; empty where the state is eliminated."""
        given = {block.stage: lam_g[block.where] for block in self.constraints if block.kind == "defect"}
        widths = enumerate(self.training.widths[1:], start=1)
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
        training = priced(self.training, trajectory.constraint_multipliers)
        stages, outputs = self.linearize(trajectory)
        gradients = training.output_gradients(outputs)
        costates = training.costates(self.shooting, stages, gradients, (trajectory.multipliers or ())[1:])
        in_controls = training.control_gradient(stages, trajectory.controls, costates)
        prices = self.training.split(lasso_prices(self.training, trajectory.constraint_multipliers))
        in_controls = tuple([a + b for a, b in zip(in_controls, prices, strict=True)])
        in_states = training.state_gradient(self.shooting, stages, trajectory.states, costates)
        # in sizes it is tau less both multipliers, which is zero by what multipliers of rows are
        sizes = {block.stage: np.zeros(block.stop - block.start) for block in self.variables if block.kind == "size"}
        given = in_states if training.has_free_start else (np.zeros(0), *in_states)
        parts: dict[str, Any] = {"control": in_controls, "state": given, "size": sizes}
        return _join(parts[block.kind][block.stage] for block in self.variables)

    def guess(self, seed: int = 0) -> Trajectory:
        """Standard weights and their rollout from xbar.  Any other trajectory will do: a guess need not be feasible."""
        return self.training.rollout(self.training.init_controls(seed))

    @cached_property
    def variable_names(self) -> tuple[str, ...]:
        """For instance ``W0[2,3]``, ``b0[2]`` (block, unit, input), ``u1[5]``, ``x1[sample 7, unit 3]``."""
        names: list[str] = []
        layers = self.training.block_layers
        for block in self.variables:
            if block.kind == "control":
                names += _control_names(layers[block.stage], block.stage)
            else:
                names += self._names(block)
        return tuple(names)

    @cached_property
    def constraint_names(self) -> tuple[str, ...]:
        """``d0[sample 7, unit 3]`` is the entry of d_0 = f_0(x_0, u_0) - x_1."""
        return tuple(name for block in self.constraints for name in self._names(block))

    def _names(self, block: Block) -> list[str]:
        """Of states, defects, and all of constraints."""
        if block.kind == "constraint":
            return row_names(self.training, block)
        if block.kind in ("size", "size row"):
            return size_names(self.training, block)
        samples, width = self.training.num_samples, self.training.widths[block.stage]
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
