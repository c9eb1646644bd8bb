"""The weight decay by evidence: how probable the training targets are under each, without holding any out.

At a solution the matrix of the last Gauss-Newton step tells the log evidence of its weight decay (MacKay 1992;
:mod:`.likelihood`).  Two stages:

* *Path.*  From strong to weak, one loose solve for each candidate, each from the same random weights, until the
  evidence has clearly fallen.  Not one from the other: solutions of strong decays are poor starts, whose units have
  nearly gone out.  And not downhill from a weak decay, whose evidence may have a maximum of its own where the network
  reproduces the targets.
* *Climb.*  Loose solves end above their minimum, the more so the weaker the decay.  The best candidate and the next
  weaker one are solved further, and where the weaker one is then ahead, the next, and so on.

"Clearly" is by more than (n/2)^(1/2), the standard deviation of the log density of n Gaussian targets; as long as the
network is no more than the mean of the targets the evidence falls a little, too.  All solves are bounded by steps and
never by time, so that the choice is the same on every machine.  The solution of the chosen
one comes along: to train on from there is a matter of a few steps.
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
CLIMB_TOLERANCE, CLIMB_OUTER = 1e-3, 60

# Rows of the smaller Gram matrix up to which there is an evidence: a factorisation takes a second.
LARGEST = 3000

# "auto" is evidence for squares without constraints, where it can be had, and otherwise samples held out.
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
    ladder.go_down()
    chosen = ladder.climb()
    return Selection(
        weight_decay=ladder.decays[chosen],
        candidates=tuple(ladder.decays[: len(ladder.evidence)]),
        log_evidence=tuple(ladder.evidence),
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

    Raises
    ------
    ValueError
        For an unknown rule, as :func:`choose_by_evidence` and :func:`.choose_weight_decay`, and for the evidence of a
        network with constraints.
    """
    checks.check("rule", rule, checks.text(*RULES))
    if rule == "evidence" and constrained is not None:
        raise ValueError("the evidence is that of a network without constraints: choose by 'held-out' samples")
    if rule == "auto":
        problem = TrainingProblem(network, x, y, loss=loss, sample_weight=sample_weight)
        fits = isinstance(problem.loss, Squared) and constrained is None and has_evidence(problem)
        rule = "evidence" if fits else "held-out"
    if rule == "evidence":
        return choose_by_evidence(network, x, y, seed=seed, loss=loss, sample_weight=sample_weight)
    return choose_weight_decay(
        network, x, y, seed=seed, loss=loss, sample_weight=sample_weight, constrained=constrained
    )


class _Ladder:
    """Candidates from strong to weak, with the solutions and evidence of those that were tried."""

    def __init__(self, problem: TrainingProblem, decays: Sequence[float], options: Options) -> None:
        self._problem, self.decays, self._rows = problem, list(decays), np.arange(problem.num_samples)
        self._loose = replace(options, tolerance=PATH_TOLERANCE, max_outer=PATH_OUTER)
        self._close = replace(options, tolerance=CLIMB_TOLERANCE, max_outer=CLIMB_OUTER)
        self.evidence: list[float] = []
        self.controls: list[Controls] = []

    def go_down(self) -> None:
        for rung in range(len(self.decays)):
            self._solve(rung, self._loose)
            if self._has_fallen():
                break

    def climb(self) -> int:
        """From the best rung down as long as that gains; the last one that did."""
        best = int(np.argmax(self.evidence))
        self._solve(best, self._close)
        while best + 1 < len(self.decays):
            self._solve(best + 1, self._close)
            if not self.evidence[best + 1] > self.evidence[best]:
                break
            best += 1
        return best

    def _solve(self, rung: int, options: Options) -> None:
        """Once more from where its own solution is, or anew."""
        problem = self._problem.part(self._rows, self.decays[rung])
        known = rung < len(self.controls)
        controls = solve(problem, self.controls[rung] if known else None, options=options).trajectory.controls
        evidence = log_evidence(problem, controls)
        if not known:
            self.controls.append(controls)
            self.evidence.append(evidence)
        else:
            self.controls[rung], self.evidence[rung] = controls, evidence

    def _has_fallen(self) -> bool:
        """By more than what the scatter of the targets explains."""
        return max(self.evidence) - self.evidence[-1] > np.sqrt(self._problem.y.size / 2)
