"""Another start over time, where one has led nowhere.

What a start knows of a record is linear, or a few samples long.  Where outputs depend on inputs of long ago neither
says anything, and a solve ends at the mean; and on chaotic records some starts end with defects that no step closes.
Such an end is kept as an *attempt*, the next start is tried, and the better end is the result:

* states that forget slowly (:mod:`ocp_nn.problem.starts.slow`), where there are inputs;
* the first kind of start with other random weights, where defects stay open.  (Closed defects and a large J are what
  noisy records give, whatever the start.)

(Chosen by measurement: scripts/long_horizon_suite.py.)
"""

from __future__ import annotations

from ....problem.identification import IdentificationProblem
from ....problem.record import Status
from ..options import Options
from .state import HorizonState

__all__ = ["is_stationary", "later_starts", "stopped", "wants_restart"]

# A start has led nowhere where J is above this part of the mean predictor's, or defects stay open.
_EXPLAINS = 0.1

# Subproblems in a row without a decrease, each with a damping begun anew, after which a solve has stalled; and after
# which one that explains nothing is given up for another start.
_STUCK, _STUCK_SINGLE, _GIVEN_UP = 24, 2, 6

# A feasible trajectory has settled after so many steps in which neither its objective nor the gradient fell.
_SETTLED = 100


def later_starts(problem: IdentificationProblem, initial: object, options: Options) -> tuple[str, ...]:
    """The kinds of start that are left, where the choice was the solver's."""
    if initial is not None or options.initialisation != "auto":
        return ()
    starts = ("slow", "auto") if problem.model.num_inputs else ("auto", "auto")
    return starts[: options.max_restarts]


def is_stationary(state: HorizonState, options: Options) -> bool:
    """Whether defects and gradient are within the tolerance; a certificate is still to say so."""
    return state.point.max_defect <= options.tolerance and state.is_stationary(options.tolerance)


def stopped(state: HorizonState, options: Options) -> Status | None:
    """Why a start leads no further, or None."""
    feasible, hardening, nodes = state.point.max_defect <= options.tolerance, state.hardening, state.nodes.any()
    if state.stalled and hardening.stuck >= (_STUCK if nodes else _STUCK_SINGLE):
        return Status.STALLED
    if feasible and state.steps - state.watch.steps >= _SETTLED:
        return Status.SETTLED
    capped = nodes and hardening.penalty >= options.max_penalty
    return Status.PENALTY_LIMIT if capped and not feasible and state.stalled else None


def wants_restart(problem: IdentificationProblem, state: HorizonState, options: Options) -> bool:
    """Whether to begin again from the next start."""
    if not state.later_starts:
        return False
    explains = state.point.objective <= _EXPLAINS * problem.null_objective
    closed = state.point.max_defect <= options.tolerance
    if closed and (explains or state.later_starts[0] != "slow"):
        return False
    given_up = not explains and state.hardening.stuck >= _GIVEN_UP
    return given_up or is_stationary(state, options) or stopped(state, options) is not None
