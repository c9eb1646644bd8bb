"""An independent verdict on a trajectory: everything recomputed from the definition of the problem.

Nothing here is shared with the solvers: layers, rollout and adjoints are written out once more
(:mod:`.certificate_stages`), and losses too (:mod:`.certificate_losses`).  What is checked, with g_j the gradients of
the terms in their outputs, for squares the residuals:

    defects            d_k = f_k(x_k, u_c(k)) - x_{k+1}
    gap                |J - J(rollout)| / max(1, |J|)
    stationarity in u  sum B_k' lambda_{k+1} + sum D_j' g_j + rho_b u_b, block by block    / max(1, |J|) when scaled
    stationarity in x  A_k' lambda_{k+1} + sum C_j' g_j - lambda_k, k >= 1                 / max(1, |J|) when scaled
                       and lambda_0 + alpha (x_0 - xbar) where x_0 is a variable
    multipliers        against the back-propagated adjoints of the rollout, scaled likewise
    curvature          smallest eigenvalue of the reduced Hessian, on request; in the certificate of a result also the
                       solver's own figure, relative to Gauss-Newton
    constraints        feasibility, and prices m_j that are due (:mod:`.constraints.constraint_check`); with <m_j, c_j>
                       beside J in everything that is stationary

Largest entries throughout.  NaN and infinity fail every test they reach.  Where the dynamics enlarge a small change of
x_0 a thousandfold, as unstable and chaotic ones do over a long horizon, the rollout is not determined by the point to
the tolerance: gap and multipliers are then shown and not judged.  (Not so for feed-forward networks.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..base import checks
from ..base.display import html_table
from .certificate_stages import WrittenProblem
from .constraints.constrained_problem import ConstrainedProblem
from .constraints.constraint_check import ConstraintCheck, constraint_checks
from .optimal_control import PROBLEM, OptimalControlProblem
from .training import TrainingProblem
from .trajectory import Trajectory

__all__ = ["Certificate", "LayerDefect", "certify", "least_curvature"]

Array = NDArray[np.float64]

# Layers whose defects are shown at most.
_SHOWN = 40

# Unless a tolerance is given: that of the solver's defaults.
_TOLERANCE = 1e-6

# The gap is a sum over all defects weighted by multipliers: it may be this much larger than the tolerance.
_GAP_FACTOR = 100.0

# A rollout is compared with where it enlarges a change of x_0, of this relative size, by at most this factor.
_CHANGE, _EXPANSION = 1e-10, 1e3


@dataclass(frozen=True, kw_only=True)
class LayerDefect:
    """The defect d_k of one layer: its largest entry, where that is, and its root mean square."""

    layer: int
    max: float
    rms: float
    unit: int
    sample: int

    def __str__(self) -> str:
        return f"layer {self.layer}, unit {self.unit}, sample {self.sample}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Certificate:
    """What :func:`certify` found.

    Attributes
    ----------
    objective, rollout_objective, gap : float
        J at the trajectory and at the rollout of its controls, and their relative distance.
    defects : tuple of LayerDefect
        One a layer, except the last.
    max_defect : float
    worst : LayerDefect or None
        Where the largest defect is.
    stationarity_controls, stationarity_states : float
        Absolute.
    scale : float
        max(1, |J|), by which the scaled figures are divided.
    multiplier_error : float or None
        Against the rollout's adjoints, absolute; None where the trajectory has no multipliers, and stationarity
        was measured with adjoints instead.
    smallest_curvature, largest_curvature : float or None
        Extreme eigenvalues of the reduced Hessian; central differences of the gradient, good to about 1e-6 of
        the largest.
    relative_curvature : float or None
        The solver's: ``result.curvature``.
    input_error : float
        Distance of states[0] from the inputs.
    finite : bool
        Whether every number of the trajectory is finite.
    rollout_is_determined : bool
        Whether gap and multiplier error are judged: not where the dynamics enlarge every error too much.
    tolerance : float
        At which it is judged where nothing else is asked for.
    constraints : tuple of ConstraintCheck
        Of a constrained problem: violation and price of each.
    """

    objective: float
    rollout_objective: float
    gap: float
    defects: tuple[LayerDefect, ...]
    max_defect: float
    worst: LayerDefect | None
    stationarity_controls: float
    stationarity_states: float
    scale: float
    multiplier_error: float | None
    input_error: float
    finite: bool
    rollout_is_determined: bool = True
    smallest_curvature: float | None = None
    largest_curvature: float | None = None
    relative_curvature: float | None = None
    tolerance: float = _TOLERANCE
    constraints: tuple[ConstraintCheck, ...] = ()

    @property
    def stationarity(self) -> float:
        """Largest entry of the Lagrangian's gradient, absolute."""
        return float(np.max([self.stationarity_controls, self.stationarity_states]))

    def failures(self, tolerance: float | None = None) -> tuple[str, ...]:
        """What does not hold, in words; empty where the trajectory is a KKT point to the tolerance.

        ``tolerance`` is the certificate's own by default.
        """
        tolerance = self.tolerance if tolerance is None else tolerance
        checks = [
            ("states[0] is not the input", self.input_error, 0.0),
            (f"defects are open, worst in {self.worst}", self.max_defect, tolerance),
            ("not stationary in the controls (scaled)", self.stationarity_controls / self.scale, tolerance),
            ("not stationary in the states (scaled)", self.stationarity_states / self.scale, tolerance),
        ]
        if self.rollout_is_determined:
            checks.insert(2, ("objective differs from the rollout's (relative)", self.gap, _GAP_FACTOR * tolerance))
        if self.rollout_is_determined and self.multiplier_error is not None:
            checks.append(("multipliers are not the adjoints (scaled)", self.multiplier_error / self.scale, tolerance))
        for constraint in self.constraints:
            name = constraint.name
            checks.append((f"{name} is violated, worst in {constraint.worst}", constraint.violation, tolerance))
            if constraint.complementarity is not None:
                undue = f"{name} has a price that is not due, worst in {constraint.priced} (scaled)"
                checks.append((undue, constraint.complementarity / self.scale, tolerance))
        found = [] if self.finite else ["the trajectory has numbers that are not finite"]
        # written so that NaN fails
        found += [f"{what}: {value:.2e} > {limit:.0e}" for what, value, limit in checks if not value <= limit]
        if self.smallest_curvature is not None and self.largest_curvature is not None:
            noise = 1e-5 * max(1.0, abs(self.largest_curvature))
            if not self.smallest_curvature >= -noise:
                found.append(f"negative curvature: {self.smallest_curvature:.2e} is no minimum")
        if self.relative_curvature is not None and not self.relative_curvature >= least_curvature(tolerance):
            found.append(f"negative curvature: {self.relative_curvature:.2e} of Gauss-Newton's is no minimum")
        return tuple(found)

    def passed(self, tolerance: float | None = None) -> bool:
        """Whether this is a trained network: finite, defects closed, stationary, and J that of the rollout.

        ``tolerance`` is the certificate's own by default.
        """
        return not self.failures(tolerance)

    def __repr__(self) -> str:
        failures = self.failures()
        verdict = "; ".join(failures) if failures else f"passed at {self._at}"
        return f"Certificate({verdict}; objective {self.objective:.6g}, gap {self.gap:.1e})"

    def __str__(self) -> str:
        rows = self._rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)

    def _repr_html_(self) -> str:
        return html_table("Certificate", self._rows())

    def _rows(self) -> list[tuple[str, str]]:
        rows = [
            ("objective", f"{self.objective:.10g}"),
            ("objective of the rollout", f"{self.rollout_objective:.10g}"),
            ("gap, relative", f"{self.gap:.2e}"),
            *((f"defect of layer {d.layer}", _defect_cell(d)) for d in self._shown_defects()),
            ("stationarity in controls", self._both(self.stationarity_controls)),
            ("stationarity in states", self._both(self.stationarity_states)),
            (
                "multiplier error",
                "no multipliers" if self.multiplier_error is None else self._both(self.multiplier_error),
            ),
        ]
        for constraint in self.constraints:
            price = "no multipliers" if constraint.complementarity is None else self._both(constraint.complementarity)
            where = f"violated by {constraint.violation:.2e} ({constraint.worst})"
            rows.append((f"constraint {constraint.name}", f"{where}; price not due {price}"))
        if self.relative_curvature is not None:
            rows.append(("smallest curvature, by the solver", f"{self.relative_curvature:.2e} of Gauss-Newton's"))
        if self.smallest_curvature is not None:
            rows.append(
                ("reduced Hessian", f"eigenvalues {self.smallest_curvature:.2e} .. {self.largest_curvature:.2e}")
            )
        failures = self.failures()
        rows.append((f"verdict at {self._at}", "passed" if not failures else "; ".join(failures)))
        return rows

    def _shown_defects(self) -> list[LayerDefect]:
        """All of them, or of many the largest, in order."""
        largest = sorted(self.defects, key=lambda d: d.max)[-_SHOWN:]
        return sorted(largest, key=lambda d: d.layer)

    @property
    def _at(self) -> str:
        return f"{self.tolerance:g}".replace("e-0", "e-")

    def _both(self, value: float) -> str:
        return f"{value:.2e}  (scaled {value / self.scale:.2e})"


def _defect_cell(defect: LayerDefect) -> str:
    return f"max {defect.max:.2e} (unit {defect.unit}, sample {defect.sample}), rms {defect.rms:.2e}"


def least_curvature(tolerance: float) -> float:
    """The smallest curvature, relative to Gauss-Newton's, at which a point counts as a minimum: -tolerance^(1/2).

    That is as much as a gradient within the tolerance leaves open (Nesterov and Polyak 2006).
    """
    return -float(np.sqrt(tolerance))


def certify(
    problem: OptimalControlProblem, trajectory: Trajectory, *, curvature: bool = False, tolerance: float = _TOLERANCE
) -> Certificate:
    """Check a trajectory against the definition of the problem.

    Parameters
    ----------
    problem : OptimalControlProblem
    trajectory : Trajectory
        Anybody's: of :func:`ocp_nn.solve`, :func:`ocp_nn.solve_ipopt` or ``nlp.unpack`` of any CasADi solver.
    curvature : bool
        Also find the extreme eigenvalues of the reduced Hessian: 2 P gradients and a P x P eigenproblem.
    tolerance : float
        At which the certificate judges: of defects, and of everything else relative to max(1, |J|).

    Raises
    ------
    ValueError
        If the trajectory does not have the problem's shapes, or for the curvature of a constrained problem, which that
        of the reduced Hessian is not.
    """
    checks.check("problem", problem, PROBLEM)
    checks.check("curvature", curvature, checks.BOOLEAN)
    if curvature and isinstance(problem, ConstrainedProblem):
        raise ValueError("curvature is that of problems without constraints: these may hold a direction of descent")
    checks.check("tolerance", tolerance, checks.POSITIVE)
    problem.check(trajectory)
    with np.errstate(all="ignore"):  # NaN and infinity are for the verdict
        return _certify(problem, trajectory, curvature, tolerance)


def _certify(problem: OptimalControlProblem, trajectory: Trajectory, curvature: bool, tolerance: float) -> Certificate:
    written, prices = _written(problem, trajectory)
    u, x, given = trajectory.controls, trajectory.states, trajectory.multipliers
    rolled = written.rollout(u, x[0] if problem.has_free_start else problem.x)
    rolled_outputs = written.values(u, rolled)[1]
    moved, outputs = written.values(u, x)
    # what controls cost beside the weight decay: sparsity
    more = problem.decay_cost(u) - OptimalControlProblem.decay_cost(problem, u)
    objective = written.objective(u, x[0], outputs) + more
    rollout_objective = written.objective(u, rolled[0], rolled_outputs) + more
    gradients = written.gradients(outputs)
    costates = list(given) if given is not None else written.adjoints(u, x, gradients)
    pulled, in_controls = written.pull(u, x, [*costates[1:], *gradients])
    in_controls = [gradient + price for gradient, price in zip(in_controls, prices, strict=True)]
    in_states = [pull - costate for pull, costate in zip(pulled[1:], costates[1:], strict=True)]
    if problem.has_free_start:
        in_states.append(pulled[0] + written.initial_pull(x[0]))
    defects = tuple(_layer_defect(k, f - xk) for k, (f, xk) in enumerate(zip(moved, x[1:], strict=True)))
    scale = max(1.0, abs(objective))
    is_determined = isinstance(problem, TrainingProblem) or _expansion(written, u, rolled) <= _EXPANSION
    smallest, largest = _extreme_curvatures(written, u, x[0]) if curvature else (None, None)
    return Certificate(
        objective=objective,
        rollout_objective=rollout_objective,
        gap=abs(objective - rollout_objective) / scale,
        defects=defects,
        max_defect=_largest([np.array([d.max for d in defects])]),
        worst=defects[int(np.argmax([d.max for d in defects]))] if defects else None,
        stationarity_controls=_largest(in_controls),
        stationarity_states=_largest(in_states),
        scale=scale,
        multiplier_error=None if given is None else _multiplier_error(written, u, rolled, rolled_outputs, given),
        input_error=0.0 if problem.has_free_start else _largest([x[0] - problem.x]),
        finite=all(bool(np.isfinite(a).all()) for a in (*u, *x, *(given or ()))),
        rollout_is_determined=is_determined,
        smallest_curvature=smallest,
        largest_curvature=largest,
        tolerance=tolerance,
        constraints=_constraints(problem, trajectory),
    )


def _written(problem: OptimalControlProblem, trajectory: Trajectory) -> tuple[WrittenProblem, Sequence[Array]]:
    """The problem written out, constraints as their prices, and the prices of controls, block by block."""
    multipliers = trajectory.constraint_multipliers
    if not isinstance(problem, ConstrainedProblem):
        return WrittenProblem(problem), [np.zeros(1)] * len(trajectory.controls)
    given = problem.zero_multipliers() if multipliers is None else problem.check_multipliers(multipliers)
    return WrittenProblem(problem.priced(given)), problem.split(problem.control_prices(given))


def _constraints(problem: OptimalControlProblem, trajectory: Trajectory) -> tuple[ConstraintCheck, ...]:
    if not isinstance(problem, ConstrainedProblem):
        return ()
    return constraint_checks(problem, problem.constraint_values(trajectory), trajectory.constraint_multipliers)


def _multiplier_error(
    written: WrittenProblem,
    controls: Sequence[Array],
    rolled: Sequence[Array],
    outputs: Sequence[Array],
    given: Sequence[Array],
) -> float:
    """Of lambda_1..lambda_{K-1}, against the adjoints of the rollout."""
    adjoints = written.adjoints(controls, rolled, written.gradients(outputs))
    return _largest([a - b for a, b in zip(given[1:], adjoints[1:], strict=True)])


def _expansion(written: WrittenProblem, controls: Sequence[Array], rolled: Sequence[Array]) -> float:
    """By how much the rollout enlarges a small change of x_0, at most."""
    change = _CHANGE * np.maximum(1.0, np.abs(rolled[0]))
    states = written.rollout(controls, rolled[0] + change)
    return _largest([a - b for a, b in zip(states, rolled, strict=True)]) / float(change.max())


def _largest(arrays: Sequence[Array]) -> float:
    """Largest absolute entry; NaN if there is one (``max`` of Python would lose it)."""
    return float(np.max([np.abs(a).max() for a in arrays if a.size], initial=0.0))


def _layer_defect(k: int, defect: Array) -> LayerDefect:
    sample, unit = np.unravel_index(int(np.argmax(np.abs(defect))), defect.shape)  # argmax finds NaN first
    rms = float(np.sqrt(np.mean(defect**2)))
    return LayerDefect(layer=k, max=abs(float(defect[sample, unit])), rms=rms, unit=int(unit), sample=int(sample))


def _gradient(written: WrittenProblem, controls: Sequence[Array], initial: Array) -> Array:
    states = written.rollout(controls, initial)
    gradients = written.gradients(written.values(controls, states)[1])
    costates = written.adjoints(controls, states, gradients)
    return np.concatenate(written.pull(controls, states, [*costates[1:], *gradients])[1])


def _extreme_curvatures(written: WrittenProblem, controls: Sequence[Array], initial: Array) -> tuple[float, float]:
    """Extreme eigenvalues of the reduced Hessian in the controls, by central differences of the gradient."""
    flat = np.concatenate(controls)
    ends = np.cumsum([len(u) for u in controls])[:-1]
    hessian = np.empty((len(flat), len(flat)))
    for j in range(len(flat)):
        step = np.cbrt(np.finfo(float).eps) * max(1.0, abs(flat[j]))
        sides = []
        for sign in (1, -1):
            moved = flat.copy()
            moved[j] += sign * step
            sides.append(_gradient(written, np.split(moved, ends), initial))
        hessian[:, j] = (sides[0] - sides[1]) / (2 * step)
    if not np.isfinite(hessian).all():
        return float("nan"), float("nan")
    eigenvalues = np.linalg.eigvalsh((hessian + hessian.T) / 2)
    return float(eigenvalues[0]), float(eigenvalues[-1])
