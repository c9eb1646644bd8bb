"""Choosing order, weight decay and start by what simulates held-out time segments of the training records.

**Paths.**  From every start a model is trained on all training records with one weight decay after the other, from
strong to weak, each from the solution before it; hidden units that have gone out begin anew (:mod:`.revival`).  Half of
the starts begin with a decay of 30 and half with 3.  On the cascaded tanks (two states, eight hidden units) paths from
30 have errors of new data of 0.27 V at a decay of 3 in three of five cases, and those from 3 in one of five; on
the coupled drives (four states) one of four paths from 30 found the basin whose errors are a third of the others', and
three of four from 3.

**Race.**  Random weights lead into different basins, and the objective tells them apart: at one weight decay it is, up
to a constant, the negative log posterior of one model.  So all starts go down to a decay of 0.3, and the one of least
objective goes on, of each order and beginning.

**Judgement.**  Each solution of these is trained on for some iterations with the outputs of a segment left out, and
judged on that segment (:mod:`.segments`), one segment after the other.  Trained from nothing without the segment the
errors are mostly those of other local minima, on the tanks 0.8 V and more where new data have 0.3 V, and choose
nothing.  What is judged so is the neighbourhood of a solution; what its start may still know of the segment makes very
weak decays look a little better than they are.  Errors of segments are put together by their geometric mean: one
segment in which something happens that no other one shows would decide alone otherwise.

**Rule.**  Among all candidates whose errors are not clearly higher than the lowest ones: the fewest states, then the
strongest decay.  Clearly higher is what exceeds two standard errors of the mean over the segments of the logarithm's
difference, the paired form of the one-standard-error rule (L. Breiman et al., Classification and Regression Trees,
1984, section 3.4.3).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ...network.records import Records
from ...network.state_space import StateSpaceModel
from ...problem.identification import IdentificationProblem
from ...problem.record import Status
from ...problem.trajectory import Trajectory
from ...solvers.augmented_lagrangian.options import Options
from ...solvers.augmented_lagrangian.solve import solve
from .initial_state import InitialStates
from .revival import revived
from .segments import Fold, folds, held_out_errors

__all__ = [
    "WEIGHT_DECAYS",
    "Candidate",
    "ChoiceSettings",
    "Start",
    "best_of",
    "descend",
    "finalists",
    "judged",
    "known_states",
]

Array = NDArray[np.float64]

# For records in standard units, from strong to weak.
WEIGHT_DECAYS = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3)

# Weight decays at which paths begin, in turn.
FIRST = (30.0, 3.0)

# Weight decay down to which all starts race, and how many of each order and beginning go on.
RACE, KEPT = 0.3, 1

# A stronger one is where paths begin, and no candidate: hardly more than the mean.
STRONGEST = 10.0
CANDIDATES = tuple(rho for rho in WEIGHT_DECAYS if rho <= STRONGEST)

# Outer iterations: of a path's solves, of those that are judged, and of those without a segment.
LOOSE_TOLERANCE, LOOSE_OUTER, JUDGED_OUTER, FOLD_OUTER = 1e-3, 30, 60, 10

# Segments.
FOLDS = 5

# "Clearly higher": by this many standard errors, and by more than this share.
STANDARD_ERRORS, AS_GOOD = 2.0, 0.02

# Judging ends after this many weight decays in a row whose error exceeds the best one's by this factor.
PATIENCE, CLEARLY_WORSE = 3, 1.2

# Errors below this share of an output's deviation are not told apart: data without noise.
_FLOOR = 1e-6


@dataclass(frozen=True)
class Start:
    """Where a path begins: the model, the seed of its random weights, and the strongest weight decay."""

    model: StateSpaceModel
    seed: int
    first: float = FIRST[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """One solution of a path.

    Attributes
    ----------
    start : Start
    weight_decay : float
    objective : float
    trajectory : Trajectory
        On the records of the choice, in standard units.
    error : float
        Geometric mean of the segments' root mean square errors, in standard deviations of the outputs; infinite where
        a simulation is, NaN where it was not judged.
    errors : tuple of float
        Of every segment.
    """

    start: Start
    weight_decay: float
    objective: float
    trajectory: Trajectory = field(repr=False)
    error: float = np.nan
    errors: tuple[float, ...] = ()

    @property
    def num_states(self) -> int:
        return self.start.model.num_states


@dataclass(frozen=True)
class ChoiceSettings:
    """What all paths of a choice have in common.

    Attributes
    ----------
    warm_up : int
    options : Options
        Without what differs from solve to solve.
    judged : tuple of float
        Weight decays of the candidates.
    deadline : float
        Of ``time.perf_counter``: from then on nothing new is begun, but for the first solve of a path.
    """

    warm_up: int
    options: Options
    judged: tuple[float, ...] = CANDIDATES
    deadline: float = np.inf

    def ends(self) -> bool:
        return time.perf_counter() > self.deadline

    def of(self, start: Start, max_outer: int) -> Options:
        left = max(self.deadline - time.perf_counter(), 1e-9)
        # under a strong decay no start explains much, and another one would be tried for nothing
        restarts = self.options.max_restarts if start.first <= FIRST[-1] else 0
        # plain Gauss-Newton steps take two thirds of the time, and nobody needs the last digits of a path
        plain = replace(self.options, acceleration=False, second_order=False, max_restarts=restarts)
        return replace(plain, seed=start.seed, max_outer=max_outer, time_limit=left)


def descend(
    start: Start,
    records: Records,
    weight_decays: Sequence[float],
    settings: ChoiceSettings,
    begin: Sequence[Candidate] = (),
) -> list[Candidate]:
    """The path of a start, from strong to weak weight decay; ``begin`` is the part that is there.

    A decay stronger than the start's first is left out, unless all are.
    """
    found, decays = list(begin), [rho for rho in weight_decays if rho <= max(start.first, weight_decays[-1])]
    for weight_decay in decays[len(begin) :]:
        if found and settings.ends():
            break
        trajectory = _revived(start, found[-1].trajectory, len(found)) if found else None
        found.append(_solved(start, records, weight_decay, trajectory, settings.of(start, LOOSE_OUTER)))
    return found


def _revived(start: Start, trajectory: Trajectory, step: int) -> Trajectory:
    (theta,) = trajectory.controls
    return Trajectory((revived(start.model, theta, start.seed + step),), trajectory.states)


def finalists(paths: Sequence[list[Candidate]], kept: int | None = None) -> list[list[Candidate]]:
    """The paths of each order and beginning that came furthest, and of these the ones of least objective."""
    kinds: dict[tuple[int, float], list[list[Candidate]]] = {}
    for of in paths:
        kinds.setdefault((of[-1].num_states, of[-1].start.first), []).append(of)
    ranked = (sorted(of, key=lambda path: (path[-1].weight_decay, path[-1].objective)) for of in kinds.values())
    return [path for of in ranked for path in of[: kept or KEPT]]


def judged(
    begin: Sequence[Candidate], records: Records, weight_decays: Sequence[float], settings: ChoiceSettings
) -> list[Candidate]:
    """The path to its end, its solutions trained further and judged on the segments of the records."""
    start, parts = begin[0].start, folds(records, FOLDS)
    known, errors = list[Candidate](), list[float]()
    for candidate in descend(start, records, weight_decays, settings, begin):
        if settings.ends() or _is_rising(errors):
            break
        if candidate.weight_decay in settings.judged:
            known.append(_judged(candidate, records, parts, settings))
            errors.append(known[-1].error)
    return known or [begin[-1]]


def best_of(candidates: Sequence[Candidate]) -> Candidate:
    """The candidate that the rule chooses; where none has a finite error, the last one of the first start."""
    finite = [c for c in candidates if np.isfinite(c.error)]
    if not finite:
        first = candidates[0]
        return [c for c in candidates if (c.num_states, c.start.seed) == (first.num_states, first.start.seed)][-1]
    best = min(finite, key=lambda c: c.error)
    good = [c for c in finite if not _is_clearly_worse(c, best)]
    return min(good, key=lambda c: (c.num_states, -c.weight_decay, c.error))


def _is_clearly_worse(candidate: Candidate, best: Candidate) -> bool:
    logarithms = np.log(np.maximum([candidate.errors, best.errors], _FLOOR))
    difference = (logarithms[0] - logarithms[1])[np.isfinite(logarithms).all(axis=0)]
    if len(difference) < 2:
        return candidate.error > (1 + AS_GOOD) * best.error
    standard_error = float(np.std(difference, ddof=1)) / np.sqrt(len(difference))
    return bool(np.mean(difference) > max(STANDARD_ERRORS * standard_error, AS_GOOD))


def _solved(
    start: Start, records: Records, weight_decay: float, trajectory: Trajectory | None, options: Options
) -> Candidate:
    problem = IdentificationProblem(start.model, records.pairs, weight_decay)
    result = solve(problem, trajectory, options=options)
    if result.status is Status.INTERRUPTED:
        raise KeyboardInterrupt
    return Candidate(start=start, weight_decay=weight_decay, objective=result.objective, trajectory=result.trajectory)


def _judged(candidate: Candidate, records: Records, parts: Sequence[Fold], settings: ChoiceSettings) -> Candidate:
    start = candidate.start
    options = settings.of(start, JUDGED_OUTER)
    better = _solved(start, records, candidate.weight_decay, candidate.trajectory, options)
    errors = tuple(_error(better, part, settings) for part in parts)
    return replace(better, error=_together(errors), errors=errors)


def _error(candidate: Candidate, fold: Fold, settings: ChoiceSettings) -> float:
    """Root mean square error on a segment that the solution has been trained on without."""
    start, solution = candidate.start, candidate.trajectory
    begin = Trajectory(solution.controls, tuple(fold.states(np.stack(solution.states))))
    without = _solved(start, fold.train, candidate.weight_decay, begin, settings.of(start, FOLD_OUTER))
    theta, known = without.trajectory.controls[0], known_states(start.model, without.trajectory, fold.train)
    errors = held_out_errors(start.model, theta, known, fold.held_out, settings.warm_up)
    if not errors.size:
        return np.nan
    with np.errstate(over="ignore"):
        return float(np.sqrt(np.mean(errors**2)))


def known_states(model: StateSpaceModel, trajectory: Trajectory, records: Records) -> InitialStates:
    """What a solution knows of states: its own along the records, and its residuals there."""
    states, residuals = list[Array](), list[Array]()
    for x, v, y in zip(np.stack(trajectory.states, axis=1), records.inputs, records.outputs, strict=True):
        states.append(x[: len(y)])
        residuals.append(model.values(trajectory.controls[0], x[: len(y)], v)[1] - y)
    return InitialStates.of(np.concatenate(states), np.concatenate(residuals))


def _together(errors: Sequence[float]) -> float:
    """The geometric mean."""
    known = [error for error in errors if not np.isnan(error)]
    return float(np.exp(np.mean(np.log(np.maximum(known, _FLOOR))))) if known else np.nan


def _is_rising(errors: list[float]) -> bool:
    return len(errors) > PATIENCE and min(errors[-PATIENCE:]) > CLEARLY_WORSE * min(errors)
