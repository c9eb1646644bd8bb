"""The weight decay by evidence: how probable the training targets are under each, without holding any out.

At a solution the matrix of the last Gauss-Newton step tells the log evidence of its weight decay (MacKay 1992;
:mod:`.likelihood`).  Two stages:

* *Path.*  From strong to weak, one loose solve for every other candidate, each from the same random weights, until the
  evidence has clearly fallen; then for the two beside the best one.  Not one from the other: solutions of strong decays
  are poor starts, whose units have nearly gone out.  And not downhill from a weak decay, whose evidence may have a
  maximum of its own where the network reproduces the targets.  Of large tables a sample shows the way.
* *Climb.*  Loose solves end above their minimum, the more so the weaker the decay, and a sample wants more of it than
  all do.  The best candidate and the next weaker one are solved further, on all samples, and where the weaker one is
  then ahead, the next, and so on.

"Clearly" is by more than (n/2)^(1/2), the standard deviation of the log density of n Gaussian targets; as long as the
network is no more than the mean of the targets the evidence falls a little, too.  All solves are bounded by steps and
never by time, so that the choice is the same on every machine.  The solution of the chosen one comes along: to train on
from there is a matter of a few steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import checks
from ..network.network import Network
from ..problem.blas import limited_blas
from ..problem.losses import Loss, Squared
from ..problem.record import Status
from ..problem.training import TrainingProblem
from ..solvers.augmented_lagrangian.options import OPTIONS, Options
from ..solvers.augmented_lagrangian.solve import solve
from .jacobian import smaller_gram
from .likelihood import is_known, laplace_evidence
from .selection import WEIGHT_DECAYS, Constrained, Selection, choose_weight_decay, without_idle_samples

__all__ = ["RULES", "choose_by_evidence", "choose_by_rule", "has_evidence", "log_evidence"]

Array = NDArray[np.float64]
Controls = tuple[Array, ...]

# Solves of the path, and those that the last candidates are compared by.
PATH_TOLERANCE, PATH_OUTER = 3e-2, 15
CLIMB_TOLERANCE, CLIMB_OUTER = 1e-2, 30

# Samples that the path looks at, at most.
PATH_SAMPLES = 2000

# Rows of the smaller Gram matrix up to which there is an evidence: a factorisation takes a second.
LARGEST = 3000

# "auto" is evidence for squares without constraints, where it can be had, with samples held out for candidates that it
# does not tell apart; and otherwise samples held out.
RULES = ("auto", "evidence", "held-out")

_CANDIDATES = checks.sequence(checks.POSITIVE, "a sequence of at least one finite number > 0", least=1)


def has_evidence(problem: TrainingProblem) -> bool:
    """Whether there is one: the loss is a likelihood, and the matrix is not too large."""
    return is_known(problem.loss) and min(problem.y.size, problem.network.num_controls) <= LARGEST


def log_evidence(problem: TrainingProblem, controls: Sequence[Array]) -> float:
    """log p(y) at these weights, as if of a minimum; minus infinity where the objective is not finite."""
    objective, rho = problem.objective(problem.rollout(controls)), problem.weight_decay
    if not np.isfinite(objective):
        return -np.inf
    with limited_blas(problem):
        gram = smaller_gram(problem, controls)
        gram[np.diag_indices_from(gram)] += rho
        if not np.isfinite(np.diag(gram)).all():
            return -np.inf
        factor = np.linalg.cholesky(gram)
    return laplace_evidence(problem, objective, 2 * float(np.sum(np.log(np.diag(factor) / np.sqrt(rho)))))


def choose_by_evidence(
    network: Network,
    x: ArrayLike,
    y: ArrayLike,
    candidates: Sequence[float] = WEIGHT_DECAYS,
    *,
    seed: int = 0,
    options: Options | None = None,
    loss: str | Loss = "squared",
    sample_weight: ArrayLike | None = None,
) -> Selection:
    """The weight decay under which the training targets are most probable.

    Parameters
    ----------
    network : Network
    x, y : array_like, shapes (N, inputs) and (N, outputs)
        Training samples, in standard units where ``candidates`` are the default ones.
    candidates : sequence of float
        Positive.
    seed : int
        Of the initial weights.
    options : Options, optional
        Of all solves; their tolerance and number of iterations are the path's and the climb's own.
    loss, sample_weight :
        As :class:`.TrainingProblem` takes them.

    Returns
    -------
    Selection
        With ``controls``, the solution of the climb.

    Raises
    ------
    ValueError
        Without candidates, for data that do not fit the network or the loss, a loss that is no known likelihood, and
        where targets and weights are both too many.
    """
    checks.check("candidates", candidates, _CANDIDATES)
    checks.check("seed", seed, checks.SEED)
    checks.check("options", options, OPTIONS)
    problem = without_idle_samples(TrainingProblem(network, x, y, loss=loss, sample_weight=sample_weight))
    if not has_evidence(problem):
        raise ValueError(
            f"the evidence needs a known likelihood and at most {LARGEST} targets or weights, received the loss "
            f"{problem.loss.name!r}, {problem.y.size} targets and {network.num_controls} weights: hold samples out"
        )
    ladder = _Ladder(problem, sorted(candidates, reverse=True), options or Options(seed=seed, max_restarts=0))
    chosen = ladder.climb(ladder.go_down())
    tried = sorted(ladder.evidence)
    return Selection(
        weight_decay=ladder.decays[chosen],
        candidates=tuple(ladder.decays[rung] for rung in tried),
        log_evidence=tuple(ladder.evidence[rung] for rung in tried),
        num_train=problem.num_samples,
        num_used=problem.num_samples,
        controls=ladder.controls[chosen],
    )


def choose_by_rule(
    rule: str,
    network: Network,
    x: ArrayLike,
    y: ArrayLike,
    *,
    seed: int = 0,
    loss: str | Loss = "squared",
    sample_weight: ArrayLike | None = None,
    constrained: Constrained | None = None,
) -> Selection:
    """The weight decay by one of :data:`RULES`, with the default candidates.

    "auto" looks at the evidence first.  Candidates within (n/2)^(1/2) of the largest are as probable for all that the
    targets' scatter allows to say, and among those held-out samples decide as in :func:`.choose_weight_decay`: with two
    hidden layers the evidence alone tends to choose too weak ones.  Of large tables the evidence tells more.

    Raises
    ------
    ValueError
        For an unknown rule, as :func:`choose_by_evidence` and :func:`.choose_weight_decay`, and for the evidence of a
        network with constraints.
    """
    checks.check("rule", rule, checks.text(*RULES))
    if rule == "evidence" and constrained is not None:
        raise ValueError("the evidence is that of a network without constraints: choose by 'held-out' samples")
    problem = TrainingProblem(network, x, y, loss=loss, sample_weight=sample_weight)
    has = isinstance(problem.loss, Squared) and constrained is None and has_evidence(problem)
    if rule == "held-out" or (rule == "auto" and not has):
        return choose_weight_decay(
            network, x, y, seed=seed, loss=loss, sample_weight=sample_weight, constrained=constrained
        )
    found = choose_by_evidence(network, x, y, seed=seed, loss=loss, sample_weight=sample_weight)
    alike = _not_told_apart(found, problem.y.shape[1])
    if rule == "evidence" or len(alike) == 1 or problem.num_samples > PATH_SAMPLES:
        return found
    options = Options(seed=seed, tolerance=PATH_TOLERANCE, max_outer=PATH_OUTER, max_restarts=0)
    held_out = choose_weight_decay(
        network, x, y, alike, seed=seed, options=options, loss=loss, sample_weight=sample_weight
    )
    return replace(
        found,
        weight_decay=held_out.weight_decay,
        num_validation=held_out.num_validation,
        repeats=held_out.repeats,
        controls=found.controls if held_out.weight_decay == found.weight_decay else None,
    )


def _not_told_apart(found: Selection, outputs: int) -> list[float]:
    """The candidates whose evidence is the largest but for the scatter of the targets."""
    least = max(found.log_evidence) - np.sqrt(found.num_train * outputs / 2)
    return [rho for rho, value in zip(found.candidates, found.log_evidence, strict=True) if value >= least]


class _Ladder:
    """Candidates from strong to weak, with the solutions and evidence of those that were tried."""

    def __init__(self, problem: TrainingProblem, decays: Sequence[float], options: Options) -> None:
        self._problem, self.decays, self._rows = problem, list(decays), np.arange(problem.num_samples)
        self._loose = replace(options, tolerance=PATH_TOLERANCE, max_outer=PATH_OUTER)
        self._close = replace(options, tolerance=CLIMB_TOLERANCE, max_outer=CLIMB_OUTER)
        self._sample = self._rows
        if problem.num_samples > PATH_SAMPLES:
            self._sample = np.random.default_rng(options.seed).choice(self._rows, PATH_SAMPLES, replace=False)
        self.evidence: dict[int, float] = {}
        self.controls: dict[int, Controls] = {}

    def go_down(self) -> int:
        """Two rungs at a time until the evidence has fallen by more than the targets scatter; the best one in reach."""
        clearly = np.sqrt(len(self._sample) * self._problem.y.shape[1] / 2)
        for rung in range(0, len(self.decays), 2):
            self._solve(rung, self._sample, self._loose)
            if max(self.evidence.values()) - self.evidence[rung] > clearly:
                break
        best = self._best()
        for rung in (best - 1, best + 1):
            if 0 <= rung < len(self.decays):
                self._solve(rung, self._sample, self._loose)
        best = self._best()
        if len(self._sample) < len(self._rows):
            self.evidence.clear()  # of other targets
        return best

    def climb(self, rung: int) -> int:
        """From a rung down as long as that gains; the last one that did."""
        self._solve(rung, self._rows, self._close)
        while rung + 1 < len(self.decays):
            self._solve(rung + 1, self._rows, self._close)
            if not self.evidence[rung + 1] > self.evidence[rung]:
                break
            rung += 1
        return rung

    def _best(self) -> int:
        return max(self.evidence, key=lambda rung: (self.evidence[rung], -rung))

    def _solve(self, rung: int, rows: NDArray[np.intp], options: Options) -> None:
        """Once more from where its own solution is, or anew."""
        problem = self._problem.part(rows, self.decays[rung])
        result = solve(problem, self.controls.get(rung), options=options)
        if result.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        controls = result.trajectory.controls
        self.controls[rung], self.evidence[rung] = controls, log_evidence(problem, controls)
