"""Which inputs a network needs: the path of the adaptive group lasso, and a choice along it.

**Path.**  From a fit without it, the lasso's weight is raised step by step, each fit from the one before.  (From the
other end, a network of few inputs, an input whose effect is even, like (x - 1/2)^2, never comes in: its weights have no
slope at zero.  Lemhadri, Ruan and Tibshirani 2021 go the same way.)  Groups have factors ||u_G||^-2 of the first fit
(adaptive lasso; Zou 2006): plain group lasso shrinks what a curved effect needs before it leaves noise out.

**Choice.**  Every set of inputs on the path is fitted anew without the lasso (relaxed lasso; Meinshausen 2007), by
cross-validation, and the smallest set counts whose mean error is within one standard error of the least one (Breiman
et al. 1984).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..base import checks
from ..base.display import brief
from ..network.network import Network
from ..problem.constraints.constrained_problem import ConstrainedProblem
from ..problem.constraints.control_sets import GroupLasso, Lasso
from ..problem.constraints.ready_made import sparse_inputs
from ..problem.optimal_control import OptimalControlProblem
from ..problem.result import Result
from ..problem.training import TRAINING_PROBLEM, TrainingProblem
from ..solvers.augmented_lagrangian.options import OPTIONS, Options
from ..solvers.augmented_lagrangian.solve import solve
from .held_out import mean_error, sample_errors

__all__ = ["InputSelection", "choose_inputs", "sparse_path"]

Array = NDArray[np.float64]

# Weights of the path, relative to a hundredth of the number of samples, from weak to strong.
_WEIGHTS = tuple(np.geomspace(0.05, 50.0, 16).tolist())

_FOLDS = 5

_PENALTY = checks.instance((GroupLasso, Lasso), "an ocp_nn.GroupLasso or ocp_nn.Lasso")
_WEIGHT_LIST = checks.sequence(checks.POSITIVE, "a sequence of positive numbers", least=1)


@dataclass(frozen=True, eq=False)
class InputSelection:
    """What :func:`choose_inputs` found.

    Attributes
    ----------
    chosen : tuple of int
        The inputs.
    sets : tuple of tuples of int
        All sets on the path, from many to few.
    errors, deviations : tuple of float
        Of every set, the mean error of what is held out, and the standard error of that mean.
    weights : tuple of float
        Of the lasso, where each set first occurs.
    path : tuple of Result
    """

    chosen: tuple[int, ...]
    sets: tuple[tuple[int, ...], ...]
    errors: tuple[float, ...]
    deviations: tuple[float, ...]
    weights: tuple[float, ...]
    path: tuple[Result, ...] = field(repr=False, default=())

    __repr__ = brief


def sparse_path(
    problem: OptimalControlProblem,
    penalty: GroupLasso | Lasso,
    weights: Sequence[float],
    *,
    initial: Sequence[Array] | None = None,
    options: Options | None = None,
) -> tuple[Result, ...]:
    """Solutions with a sparsity of rising weight, each from the one before.

    Parameters
    ----------
    problem : OptimalControlProblem
        With constraints of its own or without.
    penalty : GroupLasso or Lasso
        Its own weight is not looked at.
    weights : sequence of float
        Sorted here, from weak to strong.
    initial : sequence of arrays, optional
        Controls to start from; by default those of a fit without the penalty.
    options : Options, optional

    Raises
    ------
    ValueError
        For weights that are not positive.
    """
    checks.check("penalty", penalty, _PENALTY)
    checks.check("weights", weights, _WEIGHT_LIST)
    checks.check("options", options, OPTIONS)
    options = options or Options()
    controls = solve(problem, options=options).trajectory.controls if initial is None else initial
    found: list[Result] = []
    for weight in sorted(float(w) for w in weights):
        result = solve(ConstrainedProblem(problem, [penalty.with_weight(weight)]), controls, options=options)
        found.append(result)
        controls = result.trajectory.controls
    return tuple(found)


def choose_inputs(
    problem: TrainingProblem,
    *,
    weights: Sequence[float] | None = None,
    seed: int = 0,
    options: Options | None = None,
) -> InputSelection:
    """The inputs that a network needs.

    Parameters
    ----------
    problem : TrainingProblem
        With all inputs, in standard units; its weight decay is kept throughout.
    weights : sequence of float, optional
        Of the lasso; 16 by default, in proportion to the number of samples.
    seed : int
        Of the folds and the initial weights.
    options : Options, optional

    Raises
    ------
    ValueError
        For a first layer that is not dense, or fewer samples than folds.
    """
    checks.check("problem", problem, TRAINING_PROBLEM)
    checks.check("seed", seed, checks.SEED)
    if problem.num_samples < 2 * _FOLDS:
        raise ValueError(f"choose_inputs needs {2 * _FOLDS} samples at least, received {problem.num_samples}")
    options = options or Options(seed=seed)
    penalty = sparse_inputs(problem.network, 1.0)
    first = solve(problem, options=options).trajectory.controls
    adaptive = penalty.adapted(np.concatenate(first))
    scale = 0.01 * problem.num_samples
    path = sparse_path(
        problem, adaptive, [w * scale for w in _WEIGHTS] if weights is None else weights, initial=first, options=options
    )
    sets: dict[tuple[int, ...], float] = {}
    for result in path:
        assert isinstance(result.problem, ConstrainedProblem)
        used = ~adaptive.is_zero(adaptive.of(np.concatenate(result.trajectory.controls)))
        lasso = result.problem.constraints[-1]
        assert isinstance(lasso, GroupLasso)
        sets.setdefault(tuple(np.flatnonzero(used).tolist()), lasso.weight)
    kept = [used for used in sets if used]
    errors = np.array([_fold_errors(problem, used, seed, options) for used in kept])
    means, deviations = errors.mean(axis=1), errors.std(axis=1, ddof=1) / np.sqrt(_FOLDS)
    least = int(np.argmin(means))
    good = [used for used, mean in zip(kept, means, strict=True) if mean <= means[least] + deviations[least]]
    return InputSelection(
        chosen=min(good, key=len),
        sets=tuple(kept),
        errors=tuple(means.tolist()),
        deviations=tuple(deviations.tolist()),
        weights=tuple(sets[used] for used in kept),
        path=path,
    )


def _fold_errors(problem: TrainingProblem, used: tuple[int, ...], seed: int, options: Options) -> list[float]:
    """Errors of every fold, of a network that has these inputs alone."""
    part = _with_inputs(problem, used)
    order = np.random.default_rng(seed).permutation(problem.num_samples)
    errors = []
    for k in range(_FOLDS):
        held_out = np.zeros(problem.num_samples, dtype=bool)
        held_out[order[k::_FOLDS]] = True
        train = part.part(np.flatnonzero(~held_out), problem.weight_decay)
        controls = solve(train, options=options).trajectory.controls
        rest = part.part(np.flatnonzero(held_out), problem.weight_decay)
        errors.append(mean_error(problem.loss, [sample_errors(rest, controls)]))
    return errors


def _with_inputs(problem: TrainingProblem, used: tuple[int, ...]) -> TrainingProblem:
    described = [dict(layer) for layer in problem.network.describe()]
    described[0]["num_inputs"] = len(used)
    network = Network.from_description(described)
    return TrainingProblem(
        network, problem.x[:, list(used)], problem.y, problem.weight_decay, loss=problem.loss,
        sample_weight=problem.sample_weight,
    )  # fmt: skip
