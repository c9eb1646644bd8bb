"""The start of a solve: by gradients (:mod:`.gradient_start`), or on a sample where samples abound."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ...problem.optimal_control import OptimalControlProblem
from ...problem.training import TrainingProblem
from .finish import SETTLED_GAIN
from .gradient_start import descended, is_worthwhile
from .initialise import initialise
from .options import Options
from .outer_loop import init, step, terminate
from .rollouts import rollout_objective
from .state import Best, Initial, SolverState

__all__ = ["begin", "sample_of", "sample_options"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]

# The sample start: samples per control and output, and at least; how many times as many there must be; most steps.
_SAMPLE_PER_CONTROL, _LEAST_SAMPLE, _WORTH_SAMPLING, _SAMPLE_STEPS = 2.0, 1000, 4, 100

# Iterations on a sample, after its states are eliminated, that may gain little on all data before it is left.
_PATIENCE = 2


def begin(
    problem: OptimalControlProblem,
    initial: Initial = None,
    options: Options | None = None,
    *,
    deadline: float = np.inf,
    observe: Callable[[Arrays], object] | None = None,
) -> SolverState:
    """:func:`init`; where no point is given perhaps after L-BFGS, or after training on some of many samples.

    Parameters
    ----------
    problem, initial, options :
        As for :func:`init`.
    deadline : float
        ``time.perf_counter()`` value after which no step on the sample is begun.
    observe : callable, optional
        Receives the controls after every step on the sample.
    """
    options = options or Options()
    if initial is not None or not isinstance(problem, TrainingProblem):
        return init(problem, initial, options)
    controls = initialise(problem, options.initialisation, options.seed)
    if is_worthwhile(problem, controls, options):
        return init(problem, descended(problem, controls, deadline=deadline, observe=observe), options)
    sample = sample_of(problem, options)
    if sample is None:
        return init(problem, initial, options)
    controls, steps = _trained_on_sample(problem, sample, controls, sample_options(options), deadline, observe)
    state = init(problem, controls, options)
    return replace(state, counts=state.added(sample_steps=steps))


def _trained_on_sample(
    problem: TrainingProblem,
    sample: TrainingProblem,
    controls: Arrays,
    options: Options,
    deadline: float,
    observe: Callable[[Arrays], object] | None,
) -> tuple[Arrays, int]:
    """Controls that the outer loop finds on a sample of the data, and its steps; it ends where all data gain little."""
    state = init(sample, controls, options)
    best = Best(controls, rollout_objective(problem, controls))
    patience = _PATIENCE
    while patience and terminate(sample, state, options) is None and time.perf_counter() < deadline:
        state = step(sample, state, options, deadline=deadline, observe=observe)
        reached = Best(state.best.controls, rollout_objective(problem, state.best.controls))
        gains = best.objective - reached.objective > SETTLED_GAIN * abs(best.objective)
        patience = _PATIENCE if gains or state.schedule.finish is None else patience - 1
        best = best.better(reached)
    return best.controls, state.counts["least_squares"]


def sample_of(problem: TrainingProblem, options: Options) -> TrainingProblem | None:
    """The problem on a random sample of the data, its weight decay in proportion; None where all are not many more."""
    wanted = max(_LEAST_SAMPLE, round(_SAMPLE_PER_CONTROL * problem.network.num_controls / problem.network.num_outputs))
    if not options.sample_start or problem.num_samples < _WORTH_SAMPLING * wanted:
        return None
    chosen = np.random.default_rng(options.seed).choice(problem.num_samples, wanted, replace=False)
    rows = np.sort(chosen)
    decay = problem.weight_decay * wanted / problem.num_samples
    return problem.part(rows, decay)


def sample_options(options: Options) -> Options:
    """The options of the loop on a sample."""
    return replace(options, sample_start=False, max_restarts=0, max_steps=min(options.max_steps, _SAMPLE_STEPS))
