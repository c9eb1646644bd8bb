"""Choosing order, weight decay and start by what simulates held-out time segments of the training records.

**Path.**  For every order and every start a model is trained on all training records with each weight decay in turn,
from strong to weak, each from the solution before it.  A strong decay has few minima, and what a path carries down from
there generalises better than what weak decays find on their own: on the cascaded tanks the errors of new data are 0.27
to 0.36 V all along such paths, and 0.3 to 0.8 V from the linear start at each decay, although those fit the training
record better (two states, eight hidden units; one start of each).

**Judgement.**  Each solution of a path is trained on for some iterations with the outputs of a segment left out, and
judged on that segment (:mod:`.segments`), one segment after the other.  Trained from nothing without the segment the
errors are mostly those of other local minima, on the same data 0.8 V and more where new data have 0.3 V, and choose
nothing.  What is judged so is a neighbourhood of the solution; what the start may still know of the segment makes very
weak decays look a little better than they are.  Errors of segments are put together by their geometric mean: one
segment in which something happens that no other one shows would decide alone otherwise.

**Rule.**  Among all candidates whose error is within 5 % of the lowest: the fewest states, then the strongest decay.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...network.records import Records
from ...network.state_space import StateSpaceModel
from ...problem.identification import IdentificationProblem
from ...problem.record import Status
from ...problem.trajectory import Trajectory
from ...solvers.augmented_lagrangian.options import Options
from ...solvers.augmented_lagrangian.solve import solve
from .segments import Fold, folds, held_out_errors

__all__ = ["WEIGHT_DECAYS", "Candidate", "Start", "best_of", "path"]

Array = NDArray[np.float64]

# For records in standard units, from strong to weak.
WEIGHT_DECAYS = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3)

# The loose solves: outer iterations of a path's solves, and of those without a segment.
LOOSE_TOLERANCE, LOOSE_OUTER, FOLD_OUTER = 1e-3, 30, 10

# Segments.
FOLDS = 5

# "As good as the best": within this factor of its error.
AS_GOOD = 1.05

# A path ends after this many weight decays in a row whose error exceeds the best one's by this factor.
PATIENCE, CLEARLY_WORSE = 3, 1.2

# Errors below this share of an output's deviation are not told apart: data without noise.
_FLOOR = 1e-6


@dataclass(frozen=True)
class Start:
    """Where a path begins: the model, an initialisation of the solver's, and the seed of its random weights."""

    model: StateSpaceModel
    seed: int
    initialisation: str = "auto"


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """One solution of a path.

    Attributes
    ----------
    start : Start
    weight_decay : float
    error : float
        Geometric mean of the segments' root mean square errors, in standard deviations of the outputs; infinite where
        a simulation is, NaN where nothing could be held out.
    errors : tuple of float
        Of every segment.
    trajectory : Trajectory
        On all the records of the choice, in standard units.
    """

    start: Start
    weight_decay: float
    error: float
    errors: tuple[float, ...] = ()
    trajectory: Trajectory = field(repr=False)

    @property
    def num_states(self) -> int:
        return self.start.model.num_states


@dataclass(frozen=True)
class PathSettings:
    """What all paths of a choice have in common.

    Attributes
    ----------
    weight_decays : tuple of float
        From strong to weak.
    warm_up : int
    options : Options
        Seed and initialisation are those of a start.
    deadline : float
        Of ``time.perf_counter``; a path that meets it ends early, after its first solve.
    is_judged : bool
        Whether there is anything to choose.
    """

    weight_decays: tuple[float, ...]
    warm_up: int
    options: Options
    deadline: float = np.inf
    is_judged: bool = True


def path(start: Start, records: Records, settings: PathSettings) -> list[Candidate]:
    """The candidates of one start, from strong to weak weight decay."""
    parts = folds(records, FOLDS) if settings.is_judged else []
    options = replace(settings.options, seed=start.seed, initialisation=start.initialisation)
    found, trajectory = list[Candidate](), None
    for weight_decay in settings.weight_decays:
        left = settings.deadline - time.perf_counter()
        if found and (left <= 0 or _is_rising([c.error for c in found])):
            break
        options = replace(options, time_limit=max(left, 1e-9))
        trajectory = _solved(start.model, records, weight_decay, trajectory, options)
        errors = tuple(_error(start, part, weight_decay, trajectory, options, settings.warm_up) for part in parts)
        error = _together(errors)
        found.append(
            Candidate(start=start, weight_decay=weight_decay, error=error, errors=errors, trajectory=trajectory)
        )
    return found


def best_of(candidates: Sequence[Candidate]) -> Candidate:
    """The candidate that the rule chooses; where none has a finite error, the one of weakest decay of the first start."""
    finite = [c for c in candidates if np.isfinite(c.error)]
    if not finite:
        first = candidates[0].start
        return [c for c in candidates if (c.num_states, c.start.seed) == (first.model.num_states, first.seed)][-1]
    least = min(c.error for c in finite)
    good = [c for c in finite if c.error <= AS_GOOD * max(least, _FLOOR)]
    return min(good, key=lambda c: (c.num_states, -c.weight_decay, c.error))


def _solved(
    model: StateSpaceModel, records: Records, weight_decay: float, trajectory: Trajectory | None, options: Options
) -> Trajectory:
    problem = IdentificationProblem(model, _experiments(records), weight_decay)
    result = solve(problem, trajectory, options=options)
    if result.status is Status.INTERRUPTED:
        raise KeyboardInterrupt
    return result.trajectory


def _experiments(records: Records) -> list[tuple[Any, Any]]:
    return list(zip(records.inputs, records.outputs, strict=True))


def _error(
    start: Start, fold: Fold, weight_decay: float, trajectory: Trajectory, options: Options, warm_up: int
) -> float:
    """Root mean square error on a segment that the solution has been trained on without."""
    states = fold.states(np.stack(trajectory.states))
    begin = Trajectory(trajectory.controls, tuple(states))
    solved = _solved(start.model, fold.train, weight_decay, begin, replace(options, max_outer=FOLD_OUTER))
    errors = held_out_errors(start.model, solved.controls[0], fold.held_out, warm_up)
    if not errors.size:
        return np.nan
    with np.errstate(over="ignore"):
        return float(np.sqrt(np.mean(errors**2)))


def _together(errors: Sequence[float]) -> float:
    """The geometric mean."""
    known = [error for error in errors if not np.isnan(error)]
    return float(np.exp(np.mean(np.log(np.maximum(known, _FLOOR))))) if known else np.nan


def _is_rising(errors: list[float]) -> bool:
    return len(errors) > PATIENCE and min(errors[-PATIENCE:]) > CLEARLY_WORSE * min(errors)
