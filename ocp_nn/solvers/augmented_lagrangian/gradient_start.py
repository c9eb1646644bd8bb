"""The start of a solve by gradients, for classifiers.

The quadratic model of a log loss that is nearly separable is poor, and each of its factorisations costs as much as tens
of gradients (scripts/bench_classification.py).  Where the signal reaches the last layer, single shooting with SciPy's
L-BFGS comes close to the objective first; the augmented Lagrangian and second-order steps then do what gradients are
slow at.  Where it does not (deep sigmoids) gradients lead to the frequencies of the classes, and there is no such
start.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...problem.losses import Logistic, Softmax
from ...problem.optimal_control import OptimalControlProblem
from ...problem.shooting import SINGLE_SHOOTING
from ...problem.training import TrainingProblem
from ...problem.trajectory import Trajectory
from .initialise import signal_ratio
from .options import Options
from .rollouts import rollout_objective

__all__ = ["descended", "is_worthwhile"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]

# Part of the input's spread that must reach the last state.
_SIGNAL = 0.05

# Multiplications of a factorisation from which on it costs tens of gradients (some milliseconds).
_DEAR = 5e6

# It ends where so many iterations gain less than this part of the objective, and after so many.
_WINDOW, _GAIN, _MOST = 10, 1e-3, 1000

# Pairs that L-BFGS keeps.
_MEMORY = 20


def is_worthwhile(problem: OptimalControlProblem, controls: Arrays, options: Options) -> bool:
    """Whether to begin by gradients: for log losses, where a factorisation is dear and signals arrive."""
    if not (options.gradient_start and isinstance(problem, TrainingProblem)):
        return False
    if not isinstance(problem.loss, Logistic | Softmax):
        return False
    rows, numbers = problem.num_samples * problem.num_rows, problem.num_controls
    is_dear = rows * numbers * min(rows, numbers) >= _DEAR
    return is_dear and signal_ratio(problem, controls) >= _SIGNAL


def descended(
    problem: OptimalControlProblem,
    controls: Arrays,
    *,
    deadline: float = np.inf,
    observe: Callable[[Arrays], object] | None = None,
) -> Arrays:
    """Controls that L-BFGS finds from these; they come back where it finds nothing lower."""
    from scipy.optimize import minimize  # slow to import

    cuts = np.cumsum([len(u) for u in controls])[:-1]
    objectives: list[float] = []

    def split(flat: Array) -> Arrays:
        return tuple(np.split(flat, cuts))

    def value_and_gradient(flat: Array) -> tuple[float, Array]:
        at = split(flat)
        states, moved = problem.roll(SINGLE_SHOOTING, at)
        outputs = (*moved, *problem.term_outputs(at, states))
        stages = problem.linearize(Trajectory(at, states), outputs)
        last = outputs[len(moved) :]
        gradient = problem.backpropagate(stages, at, problem.output_gradients(last)).gradient
        return problem.cost(at, last), np.concatenate(gradient)

    def look(intermediate_result: object) -> None:
        found = float(getattr(intermediate_result, "fun", np.nan))
        objectives.append(found)
        if observe is not None:
            observe(split(np.array(getattr(intermediate_result, "x", ()))))
        before = objectives[-_WINDOW - 1] if len(objectives) > _WINDOW else np.inf
        if before - found < _GAIN * abs(found) or time.perf_counter() > deadline:
            raise StopIteration

    if observe is not None:
        observe(controls)
    limits = {"maxiter": _MOST, "maxcor": _MEMORY, "ftol": 0.0, "gtol": 0.0}
    found = minimize(
        value_and_gradient, np.concatenate(controls), jac=True, method="L-BFGS-B", callback=look, options=limits
    )
    better = split(found.x)
    return better if rollout_objective(problem, better) < rollout_objective(problem, controls) else controls
