"""A committee: the mean of networks that are each trained on another bootstrap sample (Breiman 1996).

Its weight decay is chosen by the training samples alone.  Every sample is left out by about a third of the members,
and the mean of those is judged on it.  They are fewer than the committee, and the mean of fewer scatters more, which
favours large weight decays; the excess is known, since the variance of a mean falls with the number of its members:

    E ||mean of M||^2  =  E ||mean of b||^2  -  s^2/b + s^2/M,      s^2 the variance between members (our derivation).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ocp_nn import Options, TrainingProblem, solve
from ocp_nn.experiment import Experiment
from ocp_nn.selection import LOOSE_OUTER, LOOSE_TOLERANCE

__all__ = ["Committee", "choose_committee", "expected_error"]

Array = NDArray[np.float64]

# From the largest weight decay down, candidates end once one is worse than the best by this factor.
CLEARLY_WORSE = 1.03


@dataclass(frozen=True, eq=False)
class Committee:
    """The controls of the members, their weight decay, and the root mean square error expected of each candidate."""

    controls: tuple[tuple[Array, ...], ...]
    weight_decay: float
    errors: dict[float, float]


def choose_committee(experiment: Experiment, candidates: Sequence[float], members: int, seed: int) -> Committee:
    """Train a committee for each candidate weight decay and keep the one of which the smallest error is expected.

    Members are solved loosely, as in :func:`ocp_nn.selection.choose_weight_decay`, on the same bootstrap samples for
    every candidate.
    """
    x, y = experiment.train_inputs, experiment.train_targets
    samples = [np.random.default_rng([seed, m]).integers(0, len(x), len(x)) for m in range(members)]
    best: Committee | None = None
    errors: dict[float, float] = {}
    for rho in sorted(candidates, reverse=True):
        controls = tuple(_trained(experiment, rows, rho, m) for m, rows in enumerate(samples))
        predicted = np.array([experiment.network.predict(u, x) for u in controls])
        seen = np.array([np.isin(np.arange(len(x)), rows) for rows in samples])
        errors[rho] = expected_error(predicted, y, seen)
        if best is None or errors[rho] < errors[best.weight_decay]:
            best = Committee(controls, rho, errors)
        elif errors[rho] > CLEARLY_WORSE * errors[best.weight_decay]:
            break
    assert best is not None
    return best


def _trained(experiment: Experiment, rows: NDArray[np.int64], rho: float, seed: int) -> tuple[Array, ...]:
    part = TrainingProblem(experiment.network, experiment.train_inputs[rows], experiment.train_targets[rows], rho)
    options = Options(seed=seed, tolerance=LOOSE_TOLERANCE, max_outer=LOOSE_OUTER, max_restarts=0)
    return solve(part, options=options).trajectory.controls


def expected_error(predicted: Array, targets: Array, seen: NDArray[np.bool_]) -> float:
    """Root mean square error to be expected of the whole committee on samples that it has not seen.

    Parameters
    ----------
    predicted : array (M, N, m)
        What every member says about every sample.
    targets : array (N, m)
    seen : bool array (M, N)
        Whether a member was trained on a sample; those that fewer than two members have not seen do not count.
    """
    unseen = ~seen
    numbers = unseen.sum(axis=0)
    judged = numbers > 1
    weights = unseen[:, judged, None] / numbers[judged, None]
    values = predicted[:, judged]
    mean = np.sum(weights * values, axis=0)
    variance = np.sum(weights * (values - mean) ** 2, axis=0) * (numbers / np.maximum(numbers - 1, 1))[judged, None]
    excess = variance / numbers[judged, None] - variance / len(predicted)
    return float(np.sqrt(max(0.0, np.mean((mean - targets[judged]) ** 2 - excess))))
