"""How a solve ended, and a row of its history."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum

__all__ = ["Record", "Status"]


class Status(Enum):
    """How a solve ended; ``value`` is the word, :attr:`sentence` and :attr:`remedy` are for people."""

    CONVERGED = "converged"
    OUTER_LIMIT = "outer limit"
    INNER_LIMIT = "inner limit"
    TIME_LIMIT = "time limit"
    PENALTY_LIMIT = "penalty limit"
    STALLED = "stalled"
    AT_KINK = "at a kink"
    SETTLED = "settled"
    NON_FINITE = "non-finite"
    INFEASIBLE = "infeasible stationary point"
    STOPPED_EARLY = "stopped early"
    INTERRUPTED = "interrupted"
    FAILED = "failed"

    @property
    def sentence(self) -> str:
        return _SENTENCES[self][0]

    @property
    def remedy(self) -> str:
        return _SENTENCES[self][1]

    @property
    def message(self) -> str:
        """Sentence and remedy."""
        return f"{self.sentence} {self.remedy}".strip()

    @property
    def is_limit(self) -> bool:
        """Whether a budget ended the solve, rather than success or failure."""
        return self in (Status.OUTER_LIMIT, Status.INNER_LIMIT, Status.TIME_LIMIT, Status.PENALTY_LIMIT)


_SENTENCES: dict[Status, tuple[str, str]] = {
    Status.CONVERGED: ("Stationarity and defects are within the tolerance.", ""),
    Status.OUTER_LIMIT: ("The limit on outer iterations was reached.", "Raise max_outer or loosen tolerance."),
    Status.INNER_LIMIT: ("The limit on Gauss-Newton steps was reached.", "Raise max_steps or loosen tolerance."),
    Status.TIME_LIMIT: ("The time limit was reached.", "Raise time_limit or loosen tolerance."),
    Status.PENALTY_LIMIT: (
        "The penalty reached its largest value with defects still open.",
        "Raise max_penalty, or start from state trajectories.",
    ),
    Status.STALLED: (
        "No step reduces the objective any further in floating point.",
        "Loosen tolerance, raise weight_decay, or scale the data.",
    ),
    Status.AT_KINK: (
        "The solve ended at a kink of the activation: the gradient jumps there, and no step reduces the objective any "
        "further.",
        "Take it as it is, try other seeds, or use a smooth activation such as softplus.",
    ),
    Status.SETTLED: (
        "The defects are closed and the objective has stopped falling, but its gradient is not within the tolerance: "
        "over a long horizon it is that of a very narrow valley.",
        "Loosen tolerance, or use more weight decay or shorter records.",
    ),
    Status.NON_FINITE: (
        "The starting point gives values that are not finite.",
        "Scale the inputs and targets, or start from smaller weights.",
    ),
    Status.INFEASIBLE: (
        "The iterates settled where the defects are stationary but not zero.",
        "Use another seed or initialisation, or shooting='single'.",
    ),
    Status.STOPPED_EARLY: (
        "The weights with the smallest error on the part held out are kept, not the last ones.",
        "Raise n_iter_no_change to wait longer for a smaller one.",
    ),
    Status.INTERRUPTED: ("The solve was interrupted.", "The best trajectory so far is kept; start again from it."),
    Status.FAILED: ("The solver stopped without success.", "See the message of the solver itself."),
}


@dataclass(frozen=True, kw_only=True)
class Record:
    """One row of the history; the columns that mean the same are the same for every solver.

    Attributes
    ----------
    iteration : int
        Outer iteration (IPOPT: its iteration).
    phase : str
        What the solver did in it.
    objective : float
        J at the iterate.
    rollout_objective : float or None
        J at the rollout of the iterate's controls.
    max_defect : float
        Largest |d_k| over all stages, units and samples.
    stationarity : float
        2-norm of the Lagrangian's gradient in controls and state variables (IPOPT: its ``inf_du``, a scaled
        largest entry).
    penalty : float
        Largest finite beta_k; infinite where every state is eliminated.
    steps : int
        Linear least-squares problems (IPOPT: KKT systems) solved so far.
    seconds : float
        Since the start of the solve.
    """

    iteration: int
    phase: str
    objective: float
    rollout_objective: float | None
    max_defect: float
    stationarity: float
    penalty: float
    steps: int
    seconds: float

    @classmethod
    def columns(cls) -> tuple[str, ...]:
        return tuple(f.name for f in fields(cls))
