"""An independent verdict on a trajectory: everything recomputed from the definition of the problem.

Nothing here is shared with the solvers: the layers are written out once more from W, b and the formulas of the
activations (their slopes as functions of the pre-activation, where training uses the value); stages that are CasADi
functions are called as such, and losses are written out again too (:mod:`.certificate_losses`).  What is checked, with
lambda_K the gradient of the loss in the output, for squares the residual:

    defects            d_k = f_k(x_k, u_k) - x_{k+1}
    gap                |J - J(rollout)| / max(1, |J|)
    stationarity in u  B_k' lambda_{k+1} + rho u_k             / max(1, |J|) when scaled
    stationarity in x  A_k' lambda_{k+1} - lambda_k, k >= 1    / max(1, |J|) when scaled
    multipliers        against the back-propagated adjoints of the rollout, scaled likewise
    curvature          smallest eigenvalue of the reduced Hessian, on request

Largest entries throughout.  NaN and infinity fail every test they reach.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ..base import checks
from ..base.display import html_table
from ..network.layers import Dense
from .certificate_losses import WrittenLoss
from .optimal_control import PROBLEM, TrainingProblem
from .trajectory import Trajectory

__all__ = ["Certificate", "LayerDefect", "certify"]

Array = NDArray[np.float64]

# Unless a tolerance is given: that of the solver's defaults.
_TOLERANCE = 1e-6

# The gap is a sum over all defects weighted by multipliers: it may be this much larger than the tolerance.
_GAP_FACTOR = 100.0


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
    input_error : float
        Distance of states[0] from the inputs.
    finite : bool
        Whether every number of the trajectory is finite.
    tolerance : float
        At which it is judged where nothing else is asked for.
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
    smallest_curvature: float | None = None
    largest_curvature: float | None = None
    tolerance: float = _TOLERANCE

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
            ("objective differs from the rollout's (relative)", self.gap, _GAP_FACTOR * tolerance),
            ("not stationary in the controls (scaled)", self.stationarity_controls / self.scale, tolerance),
            ("not stationary in the states (scaled)", self.stationarity_states / self.scale, tolerance),
        ]
        if self.multiplier_error is not None:
            checks.append(("multipliers are not the adjoints (scaled)", self.multiplier_error / self.scale, tolerance))
        found = [] if self.finite else ["the trajectory has numbers that are not finite"]
        # written so that NaN fails
        found += [f"{what}: {value:.2e} > {limit:.0e}" for what, value, limit in checks if not value <= limit]
        if self.smallest_curvature is not None and self.largest_curvature is not None:
            noise = 1e-5 * max(1.0, abs(self.largest_curvature))
            if not self.smallest_curvature >= -noise:
                found.append(f"negative curvature: {self.smallest_curvature:.2e} is no minimum")
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
            *((f"defect of layer {d.layer}", _defect_cell(d)) for d in self.defects),
            ("stationarity in controls", self._both(self.stationarity_controls)),
            ("stationarity in states", self._both(self.stationarity_states)),
            (
                "multiplier error",
                "no multipliers" if self.multiplier_error is None else self._both(self.multiplier_error),
            ),
        ]
        if self.smallest_curvature is not None:
            rows.append(
                ("reduced Hessian", f"eigenvalues {self.smallest_curvature:.2e} .. {self.largest_curvature:.2e}")
            )
        failures = self.failures()
        rows.append((f"verdict at {self._at}", "passed" if not failures else "; ".join(failures)))
        return rows

    @property
    def _at(self) -> str:
        return f"{self.tolerance:g}".replace("e-0", "e-")

    def _both(self, value: float) -> str:
        return f"{value:.2e}  (scaled {value / self.scale:.2e})"


def _defect_cell(defect: LayerDefect) -> str:
    return f"max {defect.max:.2e} (unit {defect.unit}, sample {defect.sample}), rms {defect.rms:.2e}"


def certify(
    problem: TrainingProblem, trajectory: Trajectory, *, curvature: bool = False, tolerance: float = _TOLERANCE
) -> Certificate:
    """Check a trajectory against the definition of the problem.

    Parameters
    ----------
    problem : TrainingProblem
    trajectory : Trajectory
        Anybody's: of :func:`ocp_nn.solve`, :func:`ocp_nn.solve_ipopt` or ``nlp.unpack`` of any CasADi solver.
    curvature : bool
        Also find the extreme eigenvalues of the reduced Hessian: 2 P gradients and a P x P eigenproblem.
    tolerance : float
        At which the certificate judges: of defects, and of everything else relative to max(1, |J|).

    Raises
    ------
    ValueError
        If the trajectory does not have the problem's shapes.
    """
    checks.check("problem", problem, PROBLEM)
    checks.check("curvature", curvature, checks.BOOLEAN)
    checks.check("tolerance", tolerance, checks.POSITIVE)
    problem.check(trajectory)
    with np.errstate(all="ignore"):  # NaN and infinity are for the verdict
        return _certify(problem, trajectory, curvature, tolerance)


def _certify(problem: TrainingProblem, trajectory: Trajectory, curvature: bool, tolerance: float) -> Certificate:
    layers = [_Stage(layer) for layer in problem.network.layers]
    u, x = trajectory.controls, trajectory.states
    rolled, rolled_output = _roll(layers, problem.x, u)
    loss = WrittenLoss(problem)
    adjoints = _adjoints(layers, rolled, u, loss.gradient(rolled_output))
    values = [layer.value(xk, uk) for layer, xk, uk in zip(layers, x, u, strict=True)]
    in_output = loss.gradient(values[-1])
    objective, rollout_objective = _objective(problem, u, values[-1]), _objective(problem, u, rolled_output)
    given = trajectory.multipliers
    costates = [*(given if given is not None else _adjoints(layers, x, u, in_output)[:-1]), in_output]
    pulled = [layer.pull(*point) for layer, *point in zip(layers, x, u, costates[1:], strict=True)]
    in_controls = [pull[1] + problem.weight_decay * uk for pull, uk in zip(pulled, u, strict=True)]
    in_states = [pull[0] - lk for pull, lk in zip(pulled[1:], costates[1:-1], strict=True)]
    defects = tuple(_layer_defect(k, f - xk) for k, (f, xk) in enumerate(zip(values[:-1], x[1:], strict=True)))
    scale = max(1.0, abs(objective))
    smallest, largest = _extreme_curvatures(problem, layers, u) if curvature else (None, None)
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
        multiplier_error=None
        if given is None
        else _largest([a - b for a, b in zip(given[1:], adjoints[1:-1], strict=True)]),
        input_error=_largest([x[0] - problem.x]),
        finite=all(bool(np.isfinite(a).all()) for a in (*u, *x, *(given or ()))),
        smallest_curvature=smallest,
        largest_curvature=largest,
        tolerance=tolerance,
    )


def _largest(arrays: Sequence[Array]) -> float:
    """Largest absolute entry; NaN if there is one (``max`` of Python would lose it)."""
    return float(np.max([np.abs(a).max() for a in arrays if a.size], initial=0.0))


def _layer_defect(k: int, defect: Array) -> LayerDefect:
    sample, unit = np.unravel_index(int(np.argmax(np.abs(defect))), defect.shape)  # argmax finds NaN first
    rms = float(np.sqrt(np.mean(defect**2)))
    return LayerDefect(layer=k, max=abs(float(defect[sample, unit])), rms=rms, unit=int(unit), sample=int(sample))


def _objective(problem: TrainingProblem, controls: Sequence[Array], output: Array) -> float:
    decay = sum(float(np.sum(u**2)) for u in controls)
    return WrittenLoss(problem).value(output) + 0.5 * problem.weight_decay * decay


def _sigmoid(a: Array) -> Array:
    small = np.exp(-np.abs(a))
    return np.where(a >= 0, 1.0, small) / (1.0 + small)


# phi and phi' of the pre-activation, from the textbook.
_FORMULAS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "tanh": (np.tanh, lambda a: 1.0 / np.cosh(np.clip(a, -300, 300)) ** 2),
    "sigmoid": (_sigmoid, lambda a: _sigmoid(a) * _sigmoid(-a)),
    "relu": (lambda a: np.where(a > 0, a, np.where(a <= 0, 0.0, a)), lambda a: np.where(a > 0, 1.0, 0.0)),
    "softplus": (lambda a: np.maximum(a, 0) + np.log1p(np.exp(-np.abs(a))), _sigmoid),
    "identity": (lambda a: a, np.ones_like),
}


class _Stage:
    """One layer, written out again: its value, and A' eta and B' eta."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer

    def value(self, x: Array, u: Array) -> Array:
        if not isinstance(self._layer, Dense):
            return np.array(self._mapped(self._layer.function, x, u)[0].full()).T
        y = _FORMULAS[self._layer.activation][0](self._preactivation(x, u))
        return y + x if self._layer.residual else y

    @staticmethod
    def _mapped(function: ca.Function, x: Array, u: Array, *others: Array) -> list[ca.DM]:
        """A CasADi function of one sample for all of them, columns being samples; ``u`` is the same for all."""
        mapped = function.map("mapped", "serial", len(x), [1], [])
        return list(mapped.call([x.T, u, *(other.T for other in others)]))

    def _preactivation(self, x: Array, u: Array) -> Array:
        n, m = x.shape[1], len(u) // (x.shape[1] + 1)
        weight, bias = u[: n * m].reshape(n, m), u[n * m :]  # vec(W), then b
        return x @ weight + bias

    def pull(self, x: Array, u: Array, eta: Array) -> tuple[Array, Array]:
        """A' eta for every sample, (N, n), and B' eta summed over samples, (P,)."""
        if not isinstance(self._layer, Dense):
            return self._pull_symbolic(x, u, eta)
        g = eta * _FORMULAS[self._layer.activation][1](self._preactivation(x, u))
        n, m = x.shape[1], eta.shape[1]
        back = g @ u[: n * m].reshape(n, m).T
        return (back + eta if self._layer.residual else back), np.concatenate([(x.T @ g).ravel(), g.sum(axis=0)])

    def _pull_symbolic(self, x: Array, u: Array, eta: Array) -> tuple[Array, Array]:
        back, gradients = self._mapped(self._pull, x, u, eta)
        return np.array(back.full()).T, np.array(ca.sum2(gradients).full())[:, 0]

    @cached_property
    def _pull(self) -> ca.Function:
        f = self._layer.function
        x, u, eta = ca.MX.sym("x", f.numel_in(0)), ca.MX.sym("u", f.numel_in(1)), ca.MX.sym("eta", f.numel_out(0))
        return ca.Function("pull", [x, u, eta], [ca.jtimes(f(x, u), v, eta, True) for v in (x, u)])


def _roll(layers: Sequence[_Stage], x: Array, controls: Sequence[Array]) -> tuple[list[Array], Array]:
    states = [x]
    for layer, u in zip(layers, controls, strict=True):
        states.append(layer.value(states[-1], u))
    return states[:-1], states[-1]


def _adjoints(
    layers: Sequence[_Stage], states: Sequence[Array], controls: Sequence[Array], in_output: Array
) -> list[Array]:
    """lambda_0..lambda_K."""
    costates = [in_output]
    for layer, x, u in zip(reversed(layers), reversed(states), reversed(controls), strict=True):
        costates.append(layer.pull(x, u, costates[-1])[0])
    return costates[::-1]


def _gradient(problem: TrainingProblem, layers: Sequence[_Stage], controls: Sequence[Array]) -> Array:
    states, output = _roll(layers, problem.x, controls)
    costates = _adjoints(layers, states, controls, WrittenLoss(problem).gradient(output))
    points = zip(layers, states, controls, costates[1:], strict=True)
    return np.concatenate([layer.pull(x, u, eta)[1] + problem.weight_decay * u for layer, x, u, eta in points])


def _extreme_curvatures(
    problem: TrainingProblem, layers: Sequence[_Stage], controls: Sequence[Array]
) -> tuple[float, float]:
    """Extreme eigenvalues of the reduced Hessian, by central differences of the gradient."""
    flat = np.concatenate(controls)
    ends = np.cumsum([len(u) for u in controls])[:-1]
    hessian = np.empty((len(flat), len(flat)))
    for j in range(len(flat)):
        step = np.cbrt(np.finfo(float).eps) * max(1.0, abs(flat[j]))
        sides = []
        for sign in (1, -1):
            moved = flat.copy()
            moved[j] += sign * step
            sides.append(_gradient(problem, layers, np.split(moved, ends)))
        hessian[:, j] = (sides[0] - sides[1]) / (2 * step)
    if not np.isfinite(hessian).all():
        return float("nan"), float("nan")
    eigenvalues = np.linalg.eigvalsh((hessian + hessian.T) / 2)
    return float(eigenvalues[0]), float(eigenvalues[-1])
