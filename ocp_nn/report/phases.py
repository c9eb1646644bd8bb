"""Where the steps of a solve went: multiple shooting first, then the finish with the states eliminated.

The augmented Lagrangian is there to get through; once the rollout follows the data (or gains nothing more by it), the
states have done their work and are eliminated, and the same steps go on in the controls alone: single shooting, with
the exact Hessian ("second order") where that gains more.  On easy data this finish is most of the solve.  Where it
crawls, in deep smooth networks, Newton's method has the states as variables again ("lifted Newton").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..problem.record import Record
from ..problem.result import Result
from ..solvers.augmented_lagrangian.options import Options
from ..solvers.augmented_lagrangian.penalty import first_penalty
from ..solvers.augmented_lagrangian.rollouts import rollout_objective
from ..solvers.augmented_lagrangian.state import SolverState

__all__ = ["ELIMINATED", "LIFTED_NEWTON", "WHY_ELIMINATED", "WHY_LIFTED", "Phase", "phase_line", "phases", "with_start"]

# The phases in which every state is eliminated.
ELIMINATED = ("single shooting", "second order")
LIFTED_NEWTON = "lifted Newton"
_ORDER = ("augmented Lagrangian", *ELIMINATED, LIFTED_NEWTON)

WHY_ELIMINATED = (
    "once the rollout follows the data, or gains little more, the states are eliminated: single shooting does the rest"
)
WHY_LIFTED = "; where that crawls, Newton's method goes on with the states as variables"


@dataclass(frozen=True)
class Phase:
    """Outer iterations, and steps (as in :class:`ocp_nn.Record`), of all stretches of one phase."""

    outer_iterations: int
    steps: int


def phases(history: Iterable[Record]) -> dict[str, Phase]:
    """What each phase of a solve took, by its name; the phases in the order in which they come."""
    counts: dict[str, Phase] = {name: Phase(0, 0) for name in _ORDER}
    before = 0
    for record in history:
        if record.iteration > 0:
            so_far = counts.get(record.phase, Phase(0, 0))
            counts[record.phase] = Phase(so_far.outer_iterations + 1, so_far.steps + record.steps - before)
        before = record.steps
    return {name: count for name, count in counts.items() if count.outer_iterations}


def phase_line(history: Iterable[Record]) -> str:
    """Outer iterations and steps of each phase in one line."""
    counts = phases(history)
    total = sum(count.outer_iterations for count in counts.values())
    if not total:
        return "no outer iteration"
    parts = (f"{name} {count.outer_iterations} ({count.steps} steps)" for name, count in counts.items())
    return f"{total} outer iteration{'s' if total > 1 else ''}: {', '.join(parts)}"


def with_start(result: Result) -> tuple[Record, ...]:
    """The history of a result with the point where the solve began in front, as iteration 0.

    IPOPT's history has it.  Our solver records what each outer iteration ends with; its state keeps the controls that
    it began with (after a start on a sample of the data, those found there).  Without that state the history is as it
    was.
    """
    state, problem = result.state, result.problem
    if not isinstance(state, SolverState) or problem is None:
        return result.history
    gradient = problem.adjoints(problem.rollout(state.schedule.start)).gradient
    objective = rollout_objective(problem, state.schedule.start)
    penalty = first_penalty(problem, result.options) if isinstance(result.options, Options) else ()
    start = Record(
        iteration=0,
        phase="start",
        objective=objective,
        rollout_objective=objective,
        max_defect=0.0,
        stationarity=float(np.linalg.norm(np.concatenate(gradient))),
        penalty=max(penalty, default=np.inf),
        steps=0,
        seconds=0.0,
    )
    return (start, *result.history)
