"""What a user asks of a fitted network beside a good fit, in the words and units of the data, made constraints of.

Monotone and bounded in what it says: by bounds on weights, which hold everywhere, or at points, the training samples
and random ones from the box of the training inputs; between these nothing is promised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..base import checks
from ..network.scaling import Scaler
from ..problem.constraints import ready_made
from ..problem.constraints.constrained_problem import ConstrainedProblem, Constraint
from ..problem.constraints.control_sets import ControlBounds
from ..problem.constraints.output_constraint import OutputConstraint
from ..problem.constraints.tangents import TangentProblem, monotone_at_points
from ..problem.losses import Poisson
from ..problem.optimal_control import OptimalControlProblem
from ..problem.training import TrainingProblem

__all__ = ["METHODS", "RANGE", "Requirements", "signs_of"]

Array = NDArray[np.float64]

# How a network is made monotone.
METHODS = ("weights", "points")


def _is_range(value: object) -> bool:
    try:
        low, high = (float(bound) for bound in value)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        return False
    return low < high


RANGE = checks.Kind("a pair of numbers (low, high), low < high", _is_range)


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """What is asked for.

    Attributes
    ----------
    signs : tuple of int
        1 (rises), -1 (falls) or 0 for every input; empty for nothing.
    method : str
        Of :data:`METHODS`.
    weight_bounds : (low, high) or None
        Of all weights and biases, in standard units.
    output_range : (low, high) or None
        Of all outputs, in the targets' own units; of counts, of their rate.
    num_points : int
        Random points at which derivatives and outputs are constrained beside the samples.
    seed : int
        Of the points.
    """

    signs: tuple[int, ...] = ()
    method: str = "weights"
    weight_bounds: tuple[float, float] | None = None
    output_range: tuple[float, float] | None = None
    num_points: int = 200
    seed: int = 0

    def __bool__(self) -> bool:
        return any(self.signs) or self.weight_bounds is not None or self.output_range is not None

    @property
    def uses_points(self) -> bool:
        return self.output_range is not None or (any(self.signs) and self.method == "points")

    def constrained(self, problem: TrainingProblem, y_scaler: Scaler | None) -> OptimalControlProblem:
        """The problem with its constraints; itself where nothing is asked for."""
        if not self:
            return problem
        network = problem.network
        training = self._with_points(problem) if self.uses_points else problem
        constraints: list[Constraint] = []
        base: OptimalControlProblem = training
        if any(self.signs) and self.method == "points":
            monotone = monotone_at_points(training, self.signs)
            base, constraints = monotone.base, [*monotone.constraints]
        elif any(self.signs):
            constraints.append(ready_made.monotone(network, self.signs))
        if self.weight_bounds is not None:
            constraints.append(ControlBounds(*self.weight_bounds, name="weight bounds"))
        if self.output_range is not None:
            constraints.append(self._range(training, base, y_scaler))
        return ConstrainedProblem(base, constraints)

    def _with_points(self, problem: TrainingProblem) -> TrainingProblem:
        if not self.num_points:
            return problem
        low, high = problem.x.min(axis=0), problem.x.max(axis=0)
        points = np.random.default_rng(self.seed).uniform(low, high, (self.num_points, len(low)))
        return ready_made.at_points(problem, points)

    def _range(
        self, training: TrainingProblem, base: OptimalControlProblem, y_scaler: Scaler | None
    ) -> OutputConstraint:
        """In the network's units, of a network whose states may carry tangents."""
        assert self.output_range is not None
        bounds = [np.full((1, training.network.num_outputs), float(bound)) for bound in self.output_range]
        if isinstance(training.loss, Poisson):
            with np.errstate(divide="ignore", invalid="ignore"):
                bounds = [np.log(np.maximum(bound, 0.0)) for bound in bounds]
        elif y_scaler is not None:
            bounds = [(bound - y_scaler.mean) / y_scaler.scale for bound in bounds]
        low, high = (bound.ravel() for bound in bounds)
        if not isinstance(base, TangentProblem):
            return ready_made.output_range(training, low, high)
        term = base.terms[0]
        return OutputConstraint(term.layer, low, high, stages=term.stage, block=term.block, name="output range")


def signs_of(
    monotonic_cst: Sequence[int] | Mapping[object, int] | None, inputs: int, names: Sequence[str] = ()
) -> tuple[int, ...]:
    """One sign an input, of what scikit-learn calls ``monotonic_cst``: a sequence, or a mapping by name or number.

    Raises
    ------
    ValueError
        For signs that are none, another length, or inputs that do not exist.
    """
    if monotonic_cst is None:
        return ()
    if not isinstance(monotonic_cst, Mapping):
        return tuple(ready_made.checked_signs(monotonic_cst, inputs).tolist())
    known = {name: j for j, name in enumerate(names)}
    numbered: dict[int, int] = {}
    for name, sign in monotonic_cst.items():
        if name not in known and not isinstance(name, int | np.integer):
            raise ValueError(f"monotonic_cst: unknown input {name!r}, expected one of {', '.join(names) or 'numbers'}")
        numbered[known[name] if name in known else int(name)] = sign  # type: ignore[index, call-overload]
    return tuple(ready_made.checked_signs(numbered, inputs).tolist())
