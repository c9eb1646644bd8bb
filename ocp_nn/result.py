"""What every solver returns: a status with a sentence and a remedy, the best trajectory, and the history as data."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from enum import Enum
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .blas import limited_blas
from .certificate import Certificate, certify
from .display import html_table
from .model import Model
from .options import Options
from .problem import TrainingProblem, Trajectory

__all__ = ["Record", "Result", "Status"]

Array = NDArray[np.float64]


class Status(Enum):
    """How a solve ended; ``value`` is the word, :attr:`sentence` and :attr:`remedy` are for people."""

    CONVERGED = "converged"
    OUTER_LIMIT = "outer limit"
    INNER_LIMIT = "inner limit"
    TIME_LIMIT = "time limit"
    PENALTY_LIMIT = "penalty limit"
    STALLED = "stalled"
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """The outcome of a solve.

    Attributes
    ----------
    status : Status
    message : str
        A plain sentence and a remedy.
    trajectory : Trajectory
        The best point found, with multipliers; ``trajectory.controls`` is what ``network.predict`` takes.
    objective : float
        J at the trajectory.
    rollout_objective : float
        J at the rollout of its controls.
    notes : tuple of str
        What a reader should know beside the status: :mod:`ocp_nn.notes`.
    max_defect, stationarity : float
        As in :class:`Record`, at the trajectory.
    history : tuple of Record
    counts : dict
        Work done: ``outer`` iterations, ``gauss_newton`` steps, ...
    seconds : float
    solver : str
    state : object or None
        Where our solver stopped: ``solve(problem, result.state)`` goes on from it, and ``solve(problem, result)``
        keeps the history too.
    problem : TrainingProblem or None
        What was solved.
    model : Model or None
        The trained network; with the scalers of the data where whoever called the solver added them.
    options : Options or None
        Of our solver.  Where the status is converged, the certificate passes at their tolerance.
    versions : dict
        Of a loaded result: the packages it was saved with.
    """

    status: Status
    message: str
    trajectory: Trajectory
    objective: float
    rollout_objective: float
    max_defect: float
    stationarity: float
    seconds: float
    solver: str
    notes: tuple[str, ...] = ()
    history: tuple[Record, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    state: object | None = None
    problem: TrainingProblem | None = None
    model: Model | None = None
    options: Options | None = None
    versions: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        work = ", ".join(f"{number} {name}" for name, number in self.counts.items() if number)
        return (
            f"Result({self.status.value} by {self.solver}, objective {self.objective:.6g}, max_defect "
            f"{self.max_defect:.1e}, stationarity {self.stationarity:.1e}, {work}, {self.seconds:.2f} s)"
        )

    def _repr_html_(self) -> str:
        rows = [
            ("status", self.status.value),
            ("message", self.message),
            ("problem", self.problem),
            ("objective", f"{self.objective:.10g}"),
            ("objective of the rollout", f"{self.rollout_objective:.10g}"),
            ("largest defect", f"{self.max_defect:.2e}"),
            ("stationarity", f"{self.stationarity:.2e}"),
            ("work", ", ".join(f"{name} {number}" for name, number in self.counts.items())),
            ("seconds", f"{self.seconds:.2f}"),
        ]
        return html_table(f"Result of {self.solver}", rows)

    @property
    def success(self) -> bool:
        return self.status is Status.CONVERGED

    @cached_property
    def certificate(self) -> Certificate:
        """The independent verdict on the trajectory: :func:`ocp_nn.certify`, computed when first asked for.

        It judges at the tolerance of the options the result was found with, where it has them.

        Raises
        ------
        ValueError
            For a result without its problem.
        """
        if self.problem is None:
            raise ValueError("this result has no problem: use ocp_nn.certify(problem, result.trajectory)")
        with limited_blas(self.problem):  # as in the solve: rounding may depend on the number of BLAS threads
            if self.options is None:
                return certify(self.problem, self.trajectory)
            return certify(self.problem, self.trajectory, tolerance=self.options.tolerance)

    def predict(self, x: ArrayLike) -> Array:
        """The trained network's outputs: :meth:`Model.predict`.

        Raises
        ------
        ValueError
            For a result without a model, or inputs that do not fit.
        """
        if self.model is None:
            raise ValueError("this result has no model: use network.predict(result.trajectory.controls, x)")
        return self.model.predict(x)

    def save(self, path: str | os.PathLike[str], *, state: bool = True) -> None:
        """Write the result to a file that :func:`ocp_nn.load` reads: :func:`ocp_nn.persistence.save`."""
        from .persistence import save

        save(self, path, state=state)
