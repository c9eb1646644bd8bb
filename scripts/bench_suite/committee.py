"""A committee: a weighted mean of networks of several shapes and weight decays, all of it chosen by training samples.

Every shape is trained on the same bootstrap samples (Breiman 1996a), and on each sample from the largest weight decay
down, every network beginning where the last one ended.  A *candidate* is the mean of the networks of one shape and
decay.  Candidates are not picked: they are mixed, with weights that are nonnegative, sum to one, and minimise the error
on samples that members have not seen (stacked regressions; Breiman 1996b).

Every sample is left out by about a third of the members, and the mean of those is judged on it.  They are fewer than
the committee, and the mean of fewer scatters more; the excess is known, since the variance of a mean falls with the
number of its members:

    E ||mean of M||^2  =  E ||mean of b||^2  -  s^2/b + s^2/M,      s^2 the variance between members (our derivation).

The mixture is itself a committee, of the mixed members; so the same holds for it with s^2 = w' S w, S the covariance of
the candidates between members, and its expected square error is the quadratic form of :func:`expected_errors`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from ocp_nn import Options, TrainingProblem, solve
from ocp_nn.learning.experiment import Experiment
from ocp_nn.learning.selection import LOOSE_TOLERANCE

__all__ = ["Candidate", "Committee", "expected_errors", "mixture", "train"]

Array = NDArray[np.float64]

# From the largest weight decay down, a shape ends once its error is worse than its best one by this factor.
CLEARLY_WORSE = 1.05

# Outer iterations of a member's solve: each begins near its end.
MAX_OUTER = 5

# How heavily a sum of weights other than one counts, over the errors' own size.
_SUM = 1e3


@dataclass(frozen=True, eq=False)
class Candidate:
    """Networks of one shape and weight decay, one for each bootstrap sample."""

    experiment: Experiment
    weight_decay: float
    members: tuple[tuple[Array, ...], ...]

    @property
    def name(self) -> str:
        """As in "20x20 tanh, 0.1"."""
        network = self.experiment.network
        return f"{'x'.join(map(str, network.sizes[1:-1]))} {network.layers[0].activation}, {self.weight_decay:g}"

    def predictions(self, inputs: Array) -> Array:
        """What every member says, (M, N, m), in standard units."""
        return np.array([self.experiment.network.predict(controls, inputs) for controls in self.members])

    def predicted(self, part: str) -> Array:
        """The mean of the members for a part of the data, in the targets' own units."""
        return np.mean([self.experiment.predicted(controls, part) for controls in self.members], axis=0)


@dataclass(frozen=True, eq=False)
class Committee:
    """Candidates, their weights, and the root mean square error expected of the mixture, in standard units."""

    candidates: tuple[Candidate, ...]
    weights: Array
    expected_error: float

    def predicted(self, part: str) -> Array:
        """The mixture for a part of the data, in the targets' own units."""
        return sum(w * c.predicted(part) for w, c in zip(self.weights, self.candidates, strict=True) if w > 0)


def train(experiments: Sequence[Experiment], weight_decays: Sequence[float], members: int, seed: int) -> Committee:
    """Train every candidate and mix them.

    Parameters
    ----------
    experiments : sequence of Experiment
        One a shape, all of the same split.
    weight_decays : sequence of float
    members : int
        Bootstrap samples M.
    seed : int
    """
    num_samples = len(experiments[0].train_inputs)
    samples = [np.random.default_rng([seed, m]).integers(0, num_samples, num_samples) for m in range(members)]
    seen = np.array([np.isin(np.arange(num_samples), rows) for rows in samples])
    candidates: list[Candidate] = []
    for experiment in experiments:
        candidates += _path(experiment, weight_decays, samples, seen)
    x, y = experiments[0].train_inputs, experiments[0].train_targets
    errors = expected_errors(np.array([candidate.predictions(x) for candidate in candidates]), y, seen)
    weights = mixture(errors)
    return Committee(tuple(candidates), weights, float(np.sqrt(max(0.0, weights @ errors @ weights))))


def _path(
    experiment: Experiment, weight_decays: Sequence[float], samples: Sequence[NDArray[np.int64]], seen: Array
) -> list[Candidate]:
    """The candidates of a shape, from the largest weight decay to where the error has clearly risen again."""
    x, y = experiment.train_inputs, experiment.train_targets
    path: list[Candidate] = []
    errors: list[float] = []
    for rho in sorted(weight_decays, reverse=True):
        starts = path[-1].members if path else [None] * len(samples)
        members = tuple(
            _trained(experiment, rows, rho, start, m)
            for m, (rows, start) in enumerate(zip(samples, starts, strict=True))
        )
        path.append(Candidate(experiment, rho, members))
        errors.append(float(expected_errors(path[-1].predictions(x)[None], y, seen)[0, 0]))
        if errors[-1] > CLEARLY_WORSE**2 * min(errors):
            break
    return path


def _trained(
    experiment: Experiment, rows: NDArray[np.int64], rho: float, start: tuple[Array, ...] | None, seed: int
) -> tuple[Array, ...]:
    part = TrainingProblem(experiment.network, experiment.train_inputs[rows], experiment.train_targets[rows], rho)
    options = Options(seed=seed, tolerance=LOOSE_TOLERANCE, max_outer=MAX_OUTER, max_restarts=0)
    return solve(part, start, options=options).trajectory.controls


def expected_errors(predicted: Array, targets: Array, seen: NDArray[np.bool_]) -> Array:
    """Q, (C, C): w' Q w is the mean square error to be expected, on unseen samples, of candidates mixed with weights w.

    Parameters
    ----------
    predicted : array (C, M, N, m)
        What every member of every candidate says about every sample.
    targets : array (N, m)
    seen : bool array (M, N)
        Whether a member was trained on a sample; those that fewer than two members have not seen do not count.
    """
    unseen = ~seen
    numbers = unseen.sum(axis=0)
    judged = numbers > 1
    numbers = numbers[judged]
    shares = unseen[:, judged] / numbers
    values = predicted[:, :, judged]
    mean = np.einsum("an,canj->cnj", shares, values)
    scatter = np.sqrt(shares)[None, :, :, None] * (values - mean[:, None])
    excess = numbers / (numbers - 1) * (1.0 / numbers - 1.0 / predicted.shape[1])
    error = mean - targets[judged]
    square = np.einsum("cnj,dnj->cd", error, error) - np.einsum("canj,danj,n->cd", scatter, scatter, excess)
    return square / targets[judged].size


def mixture(errors: Array) -> Array:
    """Weights w >= 0 with sum one that minimise w' Q w, for the symmetric Q of :func:`expected_errors`.

    Differences of estimates need not be positive semidefinite: negative eigenvalues are taken for zero.
    """
    values, vectors = np.linalg.eigh(errors)
    root = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    heavy = _SUM * (float(np.abs(root).max()) or 1.0)
    weights, _ = nnls(np.vstack([root, np.full(len(errors), heavy)]), np.append(np.zeros(len(errors)), heavy))
    return weights / weights.sum()
