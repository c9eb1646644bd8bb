"""What every solver returns: a status with a sentence and a remedy, the best trajectory, and the history as data."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base.display import html_table
from ..network.model import Model
from .blas import limited_blas
from .certificate import Certificate, certify
from .optimal_control import OptimalControlProblem
from .record import Record, Status
from .saving import save
from .trajectory import Trajectory

__all__ = ["Record", "Result", "Status"]

Array = NDArray[np.float64]


class SolverOptions(Protocol):
    """What a result asks of the options it was found with."""

    @property
    def tolerance(self) -> float: ...


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
        What a reader should know beside the status: :mod:`.notes`.
    max_defect, stationarity : float
        As in :class:`Record`, at the trajectory.
    curvature : float or None
        The smallest curvature of J(u) at the trajectory relative to Gauss-Newton's, where our solver has converged and
        looked at it.
    history : tuple of Record
    counts : dict
        Work done: ``outer`` iterations, ``gauss_newton`` steps, ...
    seconds : float
    solver : str
    state : object or None
        Where our solver stopped: ``solve(problem, result.state)`` goes on from it, and ``solve(problem, result)``
        keeps the history too.
    problem : OptimalControlProblem or None
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
    curvature: float | None = None
    history: tuple[Record, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    state: object | None = None
    problem: OptimalControlProblem | None = None
    model: Model | None = None
    options: SolverOptions | None = None
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

    @property
    def has_no_negative_curvature(self) -> bool:
        """Whether our solver has looked, and found none."""
        return self.curvature is not None and self.curvature >= 0

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
            found = certify(self.problem, self.trajectory, tolerance=self.options.tolerance)
            return replace(found, relative_curvature=self.curvature)

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
        """Write the result to a file that :func:`ocp_nn.load` reads: :func:`.saving.save`."""
        save(self, path, state=state)
