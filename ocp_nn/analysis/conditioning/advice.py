"""Which formulation for this network, and why: condition numbers at its start, and a short trial of each.

Condition numbers alone do not decide it (see :func:`.findings.verdict`), so both formulations are tried from the same
weights for a limited number of steps, from standard weights and from fitted state trajectories.  Single shooting is
taken unless multiple shooting explains clearly more: it is the simpler one, and its steps cost no more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...base import checks
from ...base.display import brief
from ...problem.training import TRAINING_PROBLEM, TrainingProblem
from ...solvers.augmented_lagrangian.initialise import can_fit_states, initialise
from .layers import LayerMeasures, measure_layers
from .measures import Measurement, measure
from .spectrum import Spectrum
from .trials import Trial, run_trial

__all__ = ["Advice", "advise"]

# Both ends of what the penalty goes through in a solve.
_PENALTIES = (1.0, 1e6)

_MATRICES = (
    "jacobian",
    "gauss_newton",
    "hessian",
    "constraint_jacobian",
    "kkt_gauss_newton",
    "al_gauss_newton",
    "dual",
)

# A formulation is clearly better if it leaves less than this share of the error the other leaves ...
_CLEARLY = 0.8

# ... and a training has got anywhere only if it leaves less than this share of what a constant leaves.
_LEARNT = 0.9

# In this order of preference where errors are alike.
_CANDIDATES = (("lm", "standard"), ("lm", "states"), ("al", "standard"), ("al", "states"))

_FORMULATION = {"lm": "single shooting", "al": "multiple shooting"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Advice:
    """A recommendation with its evidence.

    Attributes
    ----------
    shooting : str
        ``single`` or ``multiple``, as for :class:`ocp_nn.Options`.
    initialisation : str
        As for :class:`ocp_nn.Options`.
    reasons : tuple of str
        Sentences with numbers.
    measurements : tuple of Measurement
        At standard weights.
    layers : LayerMeasures
        At standard weights.
    trials : dict
        (method, initialisation) -> Trial.
    """

    shooting: str
    initialisation: str
    reasons: tuple[str, ...]
    measurements: tuple[Measurement, ...]
    layers: LayerMeasures
    trials: dict[tuple[str, str], Trial]

    __repr__ = brief


_KINDS = {"seed": checks.SEED, "steps": checks.integer(1), "seconds": checks.POSITIVE_OR_INFINITE}


def advise(problem: TrainingProblem, *, seed: int = 0, steps: int = 100, seconds: float = 5.0) -> Advice:
    """Analyse a network and try both formulations.

    Parameters
    ----------
    problem : TrainingProblem
        With a positive weight decay.
    seed : int
        Of the weights.
    steps : int
        Gauss-Newton steps of each trial, at most.
    seconds : float
        Of each trial, at most.

    Raises
    ------
    ValueError
        Without weight decay, or for a network without hidden layers (there is nothing to choose).
    """
    checks.check("problem", problem, TRAINING_PROBLEM)
    checks.check_all(_KINDS, {"seed": seed, "steps": steps, "seconds": seconds})
    if problem.num_stages < 2:
        raise ValueError("a network without hidden layers has no states: there is no formulation to choose")
    start = problem.lift(initialise(problem, "standard", seed))
    nodes = [(), tuple(range(1, problem.num_stages))]
    found = tuple(measure(problem, start, nodes=nodes, penalties=_PENALTIES, matrices=_MATRICES))
    layers = measure_layers(problem, start)
    fits = can_fit_states(problem)
    trials = {
        (method, name): run_trial(method, problem, initialise(problem, name, seed), steps=steps, seconds=seconds)
        for method, name in _CANDIDATES
        if fits or name != "states"
    }
    method, name = _choose(trials)
    return Advice(
        shooting="single" if method == "lm" else "multiple",
        initialisation=name,
        reasons=(*_reasons_from_numbers(found, layers), *_reasons_from_trials(trials, method, name)),
        measurements=found,
        layers=layers,
        trials=trials,
    )


def _choose(trials: dict[tuple[str, str], Trial]) -> tuple[str, str]:
    """The first candidate that no later one beats clearly."""
    chosen, *others = trials
    for other in others:
        if trials[other].best_error < _CLEARLY * trials[chosen].best_error:
            chosen = other
    return chosen


def _reasons_from_numbers(found: tuple[Measurement, ...], layers: LayerMeasures) -> list[str]:
    numbers = {(m.matrix, m.shooting, m.penalty): m.spectrum for m in found}
    low, high = _PENALTIES
    jacobian = numbers["jacobian", "single", None]
    rank = "" if jacobian.rank is None else (
        f"the Jacobian has rank {jacobian.rank} of {min(jacobian.rows, jacobian.columns)}, "
    )  # fmt: skip
    return [
        f"At standard weights {rank}{layers.signal_ratio:.1e} of the input's spread reaches the last hidden layer, and "
        f"the smallest gradient of a layer is {layers.gradient_ratio:.1e} of the largest.",
        f"Condition numbers: single shooting {_condition(numbers['gauss_newton', 'single', None])} (Gauss-Newton) and "
        f"{_condition(numbers['hessian', 'single', None])} (exact Hessian); multiple shooting "
        f"{_condition(numbers['kkt_gauss_newton', 'multiple', None])} (KKT), and from penalty {low:g} to {high:g} "
        f"{_condition(numbers['al_gauss_newton', 'multiple', low])} to "
        f"{_condition(numbers['al_gauss_newton', 'multiple', high])} in (u, x), but "
        f"{_condition(numbers['dual', 'multiple', low])} to {_condition(numbers['dual', 'multiple', high])} in what "
        "forward DP factorises.",
    ]


def _condition(spectrum: Spectrum) -> str:
    if not np.isfinite(spectrum.condition) or spectrum.is_singular:
        return "singular"
    return f"{'at least ' if spectrum.is_bound else ''}{spectrum.condition:.1e}"


def _reasons_from_trials(trials: dict[tuple[str, str], Trial], method: str, name: str) -> list[str]:
    told = ", ".join(
        f"{_FORMULATION[m]} from {n!r} weights {trial.best_error:.3f} ({trial.steps} steps, {trial.seconds:.1f} s)"
        for (m, n), trial in trials.items()
    )
    sentences = [f"Trials, error relative to the mean of the targets: {told}."]
    best = trials[method, name].best_error
    if best > _LEARNT:
        sentences.append(
            "No trial got away from a constant prediction: take the choice with doubt, and try more seeds or steps."
        )
    elif method == "lm":
        sentences.append("Multiple shooting gains nothing clear over single shooting here, which is the simpler one.")
    else:
        sentences.append("Multiple shooting gets clearly further than single shooting from any of the starts tried.")
    return sentences
