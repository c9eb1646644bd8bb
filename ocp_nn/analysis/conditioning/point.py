"""A training problem linearised at a point, for one set of shooting nodes.

The variables are the controls and the states at the *nodes*; every other state is rolled out.  No nodes is single
shooting, all of 1..K-1 multiple shooting.  Multipliers at the nodes are those of the trajectory if it has any and the
back-propagated adjoints otherwise; at an eliminated state the costate is always the adjoint of what follows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...base import checks
from ...base.display import brief
from ...forward_dp import Subproblem
from ...forward_dp.sweeps import Batch
from ...network.linear_stages import LinearStage
from ...problem.shooting import Shooting, check_nodes
from ...problem.training import TRAINING_PROBLEM, TrainingProblem
from ...problem.trajectory import Trajectory

__all__ = ["LinearisedPoint", "linearise_at", "shooting_name"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]


@dataclass(frozen=True, eq=False)
class LinearisedPoint:
    """Everything a measurement of conditioning needs.

    Attributes
    ----------
    stages : tuple of K LinearStage
    costates : tuple of K arrays
        lambda_1..lambda_K, the costate of every stage's output; the last one is the residual.
    nodes : tuple of int
        The k in 1..K-1 whose state is a variable.
    weight_decay, damping : float
        rho, and the Levenberg-Marquardt mu >= 0 of the Gauss-Newton systems.
    """

    stages: tuple[LinearStage, ...]
    costates: Arrays
    nodes: tuple[int, ...]
    weight_decay: float
    damping: float = 0.0

    __repr__ = brief

    @property
    def num_samples(self) -> int:
        return self.stages[0].num_samples

    @property
    def num_outputs(self) -> int:
        return self.stages[-1].num_outputs

    @property
    def num_stages(self) -> int:
        return len(self.stages)

    @property
    def ridge(self) -> float:
        return self.weight_decay + self.damping

    @cached_property
    def num_controls(self) -> int:
        return sum(stage.num_controls for stage in self.stages)

    @cached_property
    def num_constraints(self) -> int:
        """States at the nodes: as many variables as defects."""
        return self.num_samples * sum(self.stages[k].num_inputs for k in self.nodes)

    def penalties(self, beta: float) -> tuple[float, ...]:
        """beta at the nodes, infinite where the state is eliminated."""
        return tuple(beta if k in self.nodes else np.inf for k in range(1, self.num_stages))

    def batch(self, beta: float = np.inf) -> Batch:
        """The sweeps of forward DP here, without data terms; needs no ridge."""
        return Batch.of_network(self.stages, tuple(1.0 / b for b in self.penalties(beta)))

    def subproblem(self, beta: float = np.inf) -> Subproblem:
        """The least-squares subproblem here with a common penalty; its data terms are zero, only its matrix matters.

        Raises
        ------
        ValueError
            If rho + mu or the penalty is not positive.
        """
        return Subproblem.of_network(
            stages=self.stages,
            controls=tuple(np.zeros(stage.num_controls) for stage in self.stages),
            gaps=tuple(np.zeros((self.num_samples, stage.num_outputs)) for stage in self.stages[:-1]),
            residual=np.zeros((self.num_samples, self.num_outputs)),
            penalty=self.penalties(beta),
            weight_decay=self.weight_decay,
            damping=self.damping,
        )


def linearise_at(
    problem: TrainingProblem, trajectory: Trajectory, nodes: Iterable[int] = (), *, damping: float = 0.0
) -> LinearisedPoint:
    """Linearise a problem for a set of nodes.

    Parameters
    ----------
    problem : TrainingProblem
    trajectory : Trajectory
        Need not satisfy the dynamics; states that are no nodes are rolled out from the node before.
    nodes : iterable of int
        The k in 1..K-1 whose state is a variable.
    damping : float
        mu >= 0.

    Raises
    ------
    ValueError
        If the trajectory does not have the problem's shapes, a node does not exist, the damping is negative, or the
        loss is another one than squares without weights, or the problem none of a feed-forward network without shared
        weights.
    """
    checks.check("problem", problem, TRAINING_PROBLEM)
    if not problem.data.is_squares:
        raise ValueError(f"a linearised point is of squares without sample weights, received {problem!r}: see measure")
    if problem.network.is_tied:
        raise ValueError(
            f"a linearised point is of layers with weights of their own, received {problem!r}: see measure"
        )
    problem.check(trajectory)
    checks.check("damping", damping, checks.NON_NEGATIVE)
    shooting = Shooting(check_nodes(nodes, problem.num_stages))
    controls = trajectory.controls
    states, moved = problem.roll(shooting, controls, states=trajectory.states)
    outputs = (*moved, *problem.term_outputs(controls, states))
    stages = problem.linearize(Trajectory(controls, states), outputs)
    multipliers = () if trajectory.multipliers is None else trajectory.multipliers[1:]
    costates = problem.costates(shooting, stages, problem.output_gradients(outputs[-1:]), multipliers)
    return LinearisedPoint(stages, costates, tuple(sorted(shooting.nodes)), problem.weight_decay, damping)


def shooting_name(nodes: Iterable[int], num_stages: int) -> str:
    """``single``, ``multiple``, or ``partial 3`` for three nodes."""
    count = len(set(nodes))
    return "single" if count == 0 else "multiple" if count == num_stages - 1 else f"partial {count}"
