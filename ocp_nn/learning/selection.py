"""Choosing the weight decay by what generalises, on a validation part of the training samples.

The test part is never seen here: the caller passes training samples only.  Some of them are held out, several times
over; for each candidate rho the network is trained on the others, loosely, and judged on those.  Among the candidates
that are as good as the best one, their error being within 2 % of its, the largest is taken: a larger rho makes the
problem better posed (its Hessian is bounded below in more directions) and faster to solve.

Candidates are tried from the largest down.  Once the error has clearly risen again, smaller ones only fit noise more
closely, and take longest: the search ends there.

What is held out is judged by the loss that is trained: squares by their root mean square error, every other loss by
its mean.  Labels are held out class by class.

In the objective rho stands beside a *sum* of squares.  If the noise has variance s^2 and the weights a Gaussian prior
of variance t^2, then rho = s^2/t^2, whatever the number of samples, and four fifths of them choose for all.  That holds
while the network is right; of many samples more is to be learned than of a few, and small parts choose too strong ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import checks
from ..network.network import Network
from ..problem.losses import Loss
from ..problem.optimal_control import OptimalControlProblem
from ..problem.record import Status
from ..problem.training import TrainingProblem
from ..solvers.augmented_lagrangian.options import OPTIONS, Options
from ..solvers.augmented_lagrangian.solve import solve
from .data import Split
from .held_out import Errors, mean_error, sample_errors, split_samples

__all__ = ["WEIGHT_DECAYS", "Selection", "choose_weight_decay", "without_idle_samples"]

Array = NDArray[np.float64]
Constrained = Callable[[TrainingProblem], OptimalControlProblem]

# For inputs and targets in standard units: from "almost the mean" down to "hardly any".
WEIGHT_DECAYS = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)

# Under constraints: weaker ones take minutes, and loose solves of them say little about where the last one ends.
CONSTRAINED_DECAYS = tuple(rho for rho in WEIGHT_DECAYS if rho >= 0.01)

# The short solves: a validation error settles long before the last digits of the objective do.  They are bounded by
# steps and never by time, so that the choice is the same on every machine.
LOOSE_TOLERANCE, LOOSE_OUTER = 1e-2, 30

# Share of the training samples held out for judging, and how often: enough for errors that differ by a few per cent.
VALIDATION_SIZE, REPEATS = 0.2, 3

# Of larger tables each repeat looks at this many samples, drawn anew.  Few choose too strong a decay for many.
MAX_SAMPLES = 5000

# "As good as the best": within this factor of its error, the scatter between repeats being larger still.
AS_GOOD = 1.02

# The search ends after this many candidates in a row whose error exceeds the best one's by this factor.
PATIENCE, CLEARLY_WORSE = 2, 1.1

_CANDIDATES = checks.sequence(checks.NON_NEGATIVE, "a sequence of at least one finite number >= 0", least=1)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What was chosen, and from what.

    Attributes
    ----------
    weight_decay : float
    candidates : tuple of float
        Those that were tried, from the largest.
    errors : tuple of float
        Validation error of each, over all repeats: root mean square, in the units of y, where the loss is squares, and
        the mean loss otherwise.  Empty where the evidence decided.
    log_evidence : tuple of float
        Of each (:mod:`.evidence`), or empty where held-out samples decided.
    num_train : int
        Samples the choice was made on: in each repeat ``num_validation`` of ``num_used`` of them were held out.
    num_used, num_validation, repeats : int
        The last two are zero where no sample was held out.
    controls : tuple of arrays, optional
        A solution under the chosen weight decay, not quite converged, of all samples: where to train on from.
    """

    weight_decay: float
    candidates: tuple[float, ...]
    num_train: int
    num_used: int
    errors: tuple[float, ...] = ()
    log_evidence: tuple[float, ...] = ()
    num_validation: int = 0
    repeats: int = 0
    controls: tuple[Array, ...] | None = field(default=None, repr=False, compare=False)

    @property
    def rule(self) -> str:
        """What decided: "evidence" or "held-out"."""
        return "evidence" if self.log_evidence else "held-out"

    @property
    def message(self) -> str:
        """The choice and its rule in a sentence."""
        values = self.log_evidence or self.errors
        tried = ", ".join(f"{rho:g}: {_brief(value)}" for rho, value in zip(self.candidates, values, strict=True))
        if self.log_evidence and self.repeats:
            return (
                f"weight decay {self.weight_decay:g}: of those tried, from strong to weak, several make the "
                f"{self.num_train} training samples equally probable but for their scatter (log evidence {tried}); of "
                f"these the largest whose error on {self.num_validation} samples, held out {self.repeats} times, is "
                f"within {100 * (AS_GOOD - 1):g} % of the smallest"
            )
        if self.log_evidence:
            return (
                f"weight decay {self.weight_decay:g}: of those tried, from strong to weak, the one under which the "
                f"{self.num_train} training samples are most probable (log evidence {tried})"
            )
        drawn = "" if self.num_used == self.num_train else f"{self.num_used} drawn from "
        return (
            f"weight decay {self.weight_decay:g}: the largest of those tried whose error on {self.num_validation} of "
            f"{drawn}the {self.num_train} training samples, held out {self.repeats} times, is within "
            f"{100 * (AS_GOOD - 1):g} % of the smallest ({tried})"
        )

    def as_dict(self) -> dict[str, Any]:
        """The fields without the controls, for JSON."""
        return {of.name: getattr(self, of.name) for of in fields(self) if of.name != "controls"}


def _brief(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def choose_weight_decay(
    network: Network,
    x: ArrayLike,
    y: ArrayLike,
    candidates: Sequence[float] | None = None,
    *,
    seed: int = 0,
    repeats: int = REPEATS,
    options: Options | None = None,
    loss: str | Loss = "squared",
    sample_weight: ArrayLike | None = None,
    constrained: Constrained | None = None,
) -> Selection:
    """The weight decay that generalises, chosen on held-out training samples.

    Parameters
    ----------
    network : Network
    x, y : array_like, shapes (N, inputs) and (N, outputs)
        Training samples, in standard units where ``candidates`` are the default ones.
    candidates : sequence of float, optional
        :data:`WEIGHT_DECAYS`, or under constraints those down to 0.01.
    seed : int
        Of the held-out parts and of the initial weights.
    repeats : int
        How many random parts are held out, each once.
    options : Options, optional
        Of the short solves.
    loss, sample_weight :
        As :class:`.TrainingProblem` takes them; they judge what is held out, too.
    constrained : callable, optional
        Makes of a training problem the one that is solved, most often a :class:`ocp_nn.ConstrainedProblem`: what
        generalises under constraints is less weight decay, as they are a prior, too.

    Raises
    ------
    ValueError
        Without candidates or repeats, or for data that do not fit the network or the loss.
    DataError
        For fewer than two samples.
    """
    if candidates is None:
        candidates = WEIGHT_DECAYS if constrained is None else CONSTRAINED_DECAYS
    checks.check("candidates", candidates, _CANDIDATES)
    checks.check_all({"repeats": checks.integer(1), "seed": checks.SEED}, {"repeats": repeats, "seed": seed})
    checks.check("options", options, OPTIONS)
    problem = without_idle_samples(TrainingProblem(network, x, y, loss=loss, sample_weight=sample_weight))
    checks.check("constrained", constrained, checks.optional(checks.CALLABLE))
    splits = [_held_out_split(problem, seed + repeat) for repeat in range(repeats)]
    if options is None:
        options = Options(seed=seed, tolerance=LOOSE_TOLERANCE, max_outer=LOOSE_OUTER, max_restarts=0)
    tried: dict[float, float] = {}
    for rho in sorted(candidates, reverse=True):
        parts = [(problem.part(split.train, rho), problem.part(split.test, rho)) for split in splits]
        tried[rho] = mean_error(problem.loss, [_held_out_errors(*both, constrained, options) for both in parts])
        if _is_rising(list(tried.values())):
            break
    return Selection(
        weight_decay=_largest_as_good(tried),
        candidates=tuple(tried),
        errors=tuple(tried.values()),
        num_train=problem.num_samples,
        num_used=len(splits[0].train) + len(splits[0].test),
        num_validation=len(splits[0].test),
        repeats=repeats,
    )


def without_idle_samples(problem: TrainingProblem) -> TrainingProblem:
    """The problem without the samples that weigh nothing."""
    if problem.sample_weight is None or problem.sample_weight.all():
        return problem
    return problem.part(np.flatnonzero(problem.sample_weight), problem.weight_decay)


def _held_out_split(problem: TrainingProblem, seed: int) -> Split:
    if problem.num_samples <= MAX_SAMPLES:
        return split_samples(problem, VALIDATION_SIZE, seed)
    drawn = np.random.default_rng(seed).choice(problem.num_samples, MAX_SAMPLES, replace=False)
    split = split_samples(problem.part(drawn, problem.weight_decay), VALIDATION_SIZE, seed)
    return Split(drawn[split.train], drawn[split.test])


def _held_out_errors(
    train: TrainingProblem, held_out: TrainingProblem, constrained: Constrained | None, options: Options
) -> Errors:
    problem = train if constrained is None else constrained(train)
    result = solve(problem, options=options)
    if result.status is Status.INTERRUPTED:
        raise KeyboardInterrupt
    return sample_errors(held_out, result.trajectory.controls)


def _is_rising(errors: list[float]) -> bool:
    return len(errors) > PATIENCE and min(errors[-PATIENCE:]) > _within(CLEARLY_WORSE, min(errors))


def _largest_as_good(tried: dict[float, float]) -> float:
    best = min(tried.values())
    return max(rho for rho, error in tried.items() if error <= _within(AS_GOOD, best))


def _within(factor: float, best: float) -> float:
    """The largest error that counts as within a factor of the best; a loss of one's own may be negative."""
    return factor * best if best >= 0 else best / factor
