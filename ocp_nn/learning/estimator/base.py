"""What the estimators share: options, scaling, the weight decay, training, early stopping, and what a fit leaves."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from ...base import checks
from ...network.activations import ACTIVATIONS
from ...network.model import Model, column_range
from ...network.network import Network
from ...network.scaling import Scaler
from ...problem.certificate import Certificate
from ...problem.losses import Loss
from ...problem.optimal_control import OptimalControlProblem
from ...problem.record import Record, Status
from ...problem.result import Result
from ...problem.training import TrainingProblem
from ...problem.trajectory import Trajectory
from ...solvers.augmented_lagrangian.options import Options
from ...solvers.augmented_lagrangian.solve import solve
from ..evidence import RULES, choose_by_rule
from ..experiment import rmse
from ..held_out import mean_error, sample_errors, split_samples
from ..overfitting import OverfittingWarning, interpolation_note
from ..requirements import Requirements
from ..selection import Selection
from .inputs import checked_weights, refuse_what_becomes_numbers

__all__ = ["OCPEstimator", "Samples"]

Array = NDArray[np.float64]

# A validation error must fall by this fraction to count as better.
_EARLY_GAIN = 1e-4

_KINDS = {
    "hidden_layer_sizes": checks.either(checks.WIDTH, checks.WIDTHS),
    "activation": checks.one_of(ACTIVATIONS),
    "residual": checks.BOOLEAN,
    "random_state": checks.RANDOM_STATE,
    "weight_decay": checks.either(checks.NON_NEGATIVE, checks.text(*RULES)),
    "shooting": checks.either(checks.text("multiple", "single"), checks.NODES),
    "tol": checks.POSITIVE,
    "max_iter": checks.integer(1),
    "time_limit": checks.POSITIVE_OR_INFINITE,
    "n_restarts": checks.integer(1),
    "warm_start": checks.BOOLEAN,
    "early_stopping": checks.BOOLEAN,
    "validation_fraction": checks.SHARE,
    "n_iter_no_change": checks.integer(1),
}


@dataclass(frozen=True, eq=False, kw_only=True)
class Samples:
    """What a network is fitted to.

    Attributes
    ----------
    table : array (N, inputs)
        In the inputs' own units.
    targets : array (N, outputs)
        In the network's units.
    weights : array (N,) or None
        Positive.
    loss : Loss
    y_scaler : Scaler or None
        From the targets' units to the network's.
    classes : sequence
        The labels, in order.
    """

    table: Array
    targets: Array
    weights: Array | None
    loss: Loss
    y_scaler: Scaler | None = None
    classes: Sequence[str | int | float] = ()


class OCPEstimator(BaseEstimator):  # type: ignore[misc, unused-ignore]
    """The options that all estimators have, and what is done with them."""

    def __init__(
        self,
        hidden_layer_sizes: Sequence[int] = (20,),
        *,
        activation: str = "tanh",
        residual: bool = False,
        weight_decay: float | str = "auto",
        shooting: str | Sequence[int] = "multiple",
        tol: float = 1e-6,
        max_iter: int = 500,
        time_limit: float = np.inf,
        n_restarts: int = 1,
        warm_start: bool = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        random_state: Any = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.residual = residual
        self.weight_decay = weight_decay
        self.shooting = shooting
        self.tol = tol
        self.max_iter = max_iter
        self.time_limit = time_limit
        self.n_restarts = n_restarts
        self.warm_start = warm_start
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.random_state = random_state

    # --- from data to a problem

    def _begin(self, kinds: Mapping[str, checks.Kind]) -> None:
        checks.check_all({**_KINDS, **kinds}, self.get_params(deep=False))
        self._deadline = time.perf_counter() + self.time_limit

    def _checked(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None, **wanted: Any) -> Any:
        """X, y and positive weights, the samples that count for nothing left out; ``wanted`` is scikit-learn's."""
        refuse_what_becomes_numbers("X", X)
        with np.errstate(over="ignore", invalid="ignore"):  # scikit-learn adds the values up to see if they are finite
            table, targets = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2, **wanted)
        weights = checked_weights(sample_weight, len(table))
        if weights is None or weights.all():
            return table, targets, weights
        counting = weights > 0
        return table[counting], targets[counting], weights[counting]

    def _fit(self, samples: Samples) -> None:
        earlier = self.result_ if self.warm_start and hasattr(self, "result_") else None
        seed = self._seed(earlier)
        x_scaler = Scaler.fit(samples.table, samples.weights)
        inputs = x_scaler.transform(samples.table)
        network = Network.mlp(
            [inputs.shape[1], *self._widths(), samples.targets.shape[1]],
            activation=self.activation,
            residual=self.residual,
        )
        wanted = self._requirements(inputs.shape[1], seed)
        begin = None
        if earlier is None or not isinstance(self.weight_decay, str):
            self.selection_ = self._selection(network, inputs, samples, wanted, seed)
            self.weight_decay_ = float(self.weight_decay if self.selection_ is None else self.selection_.weight_decay)
            begin = None if self.selection_ is None else self.selection_.controls
        problem = TrainingProblem(
            network, inputs, samples.targets, self.weight_decay_, loss=samples.loss, sample_weight=samples.weights
        )
        if wanted:
            result = self._train_constrained(wanted.constrained(problem, samples.y_scaler), earlier, seed)
        elif self.early_stopping:
            split = split_samples(problem, self.validation_fraction, seed)
            train, held_out = (problem.part(rows, self.weight_decay_) for rows in (split.train, split.test))
            result = self._train_stopping_early(train, held_out, earlier, seed)
        else:
            result = self._train(problem, earlier, seed, begin)
        self._keep(result, x_scaler, samples)

    def _outputs(self, X: ArrayLike) -> Array:
        """The network's outputs, (N, outputs), through the inverse of the scaler of the targets."""
        check_is_fitted(self)
        refuse_what_becomes_numbers("X", X)
        with np.errstate(over="ignore", invalid="ignore"):
            X = validate_data(self, X, dtype=np.float64, reset=False)
        return self._trained.predict_raw(X)

    @property
    def _trained(self) -> Model:
        model: Model | None = self.result_.model
        assert model is not None
        return model

    # --- parameters

    def _widths(self) -> tuple[int, ...]:
        sizes: Any = self.hidden_layer_sizes
        return tuple(int(width) for width in (sizes if np.ndim(sizes) else [sizes]))

    def _seed(self, earlier: Result | None) -> int:
        """Going on needs the seed of before: restarts are drawn from it."""
        if earlier is not None and isinstance(earlier.options, Options):
            return earlier.options.seed
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _selection(
        self, network: Network, inputs: Array, samples: Samples, wanted: Requirements, seed: int
    ) -> Selection | None:
        """How the weight decay is chosen, or None where it is given."""
        if not isinstance(self.weight_decay, str):
            return None
        return choose_by_rule(
            self.weight_decay,
            network,
            inputs,
            samples.targets,
            seed=seed,
            loss=samples.loss,
            sample_weight=samples.weights,
            constrained=partial(wanted.constrained, y_scaler=samples.y_scaler) if wanted else None,
        )

    def _options(self, seed: int, max_outer: int) -> Options:
        left = max(self._deadline - time.perf_counter(), 1e-9)  # with none left a solve ends after its first step
        return Options(seed=seed, shooting=self.shooting, tolerance=self.tol, max_outer=max_outer, time_limit=left)

    def _requirements(self, inputs: int, seed: int) -> Requirements:
        """What is asked for beside a good fit: here nothing."""
        return Requirements()

    # --- training

    def _train_constrained(self, problem: OptimalControlProblem, earlier: Result | None, seed: int) -> Result:
        fits = earlier is not None and earlier.problem is not None and (
            earlier.problem.block_lengths == problem.block_lengths)  # fmt: skip
        start = earlier.trajectory.controls if fits and earlier is not None else None
        best = last = solve(problem, start, options=self._options(seed, self.max_iter))
        for s in range(seed + 1, seed + self.n_restarts):
            if last.status in (Status.INTERRUPTED, Status.TIME_LIMIT):
                break
            last = solve(problem, options=self._options(s, self.max_iter))
            best = min(best, last, key=lambda result: (not result.success, result.objective))
        return best

    def _train(
        self, problem: TrainingProblem, earlier: Result | None, seed: int, begin: Sequence[Array] | None = None
    ) -> Result:
        """From the earlier result, or else once from ``begin`` and then from random weights."""
        start, done = _start(problem, earlier)
        if start is not None:
            return solve(problem, start, options=self._options(seed, done + self.max_iter))
        best = last = solve(problem, begin, options=self._options(seed, self.max_iter))
        for s in range(seed + 1, seed + self.n_restarts):
            if last.status in (Status.INTERRUPTED, Status.TIME_LIMIT):
                break
            last = solve(problem, options=self._options(s, self.max_iter))
            best = min(best, last, key=lambda result: result.rollout_objective)
        return best

    def _train_stopping_early(
        self, problem: TrainingProblem, held_out: TrainingProblem, earlier: Result | None, seed: int
    ) -> Result:
        """Outer iteration by outer iteration, which is the same as in one go, with a look at the held-out part."""

        def error_of(result: Result) -> float:
            return _error(held_out, result.trajectory.controls)

        best = earlier if _goes_on(problem, earlier) else None
        least, errors, stopped = np.inf if best is None else error_of(best), list[float](), False
        for result in self._iterations(problem, earlier, seed):
            errors.append(error_of(result))
            if best is None or errors[-1] < least:
                best, least = result, errors[-1]
            since = len(errors) - 1 - _last_gain(errors)
            if stopped := since >= self.n_iter_no_change:
                break
        assert best is not None
        self.validation_errors_ = tuple(errors)
        return _kept(best, result, stopped)

    def _iterations(self, problem: TrainingProblem, earlier: Result | None, seed: int) -> Iterator[Result]:
        start, done = _start(problem, earlier)
        for outer in count(done + 1):
            start = solve(problem, start, options=self._options(seed, outer))
            if start.status is Status.OUTER_LIMIT and time.perf_counter() > self._deadline:
                start = replace(start, status=Status.TIME_LIMIT, message=Status.TIME_LIMIT.message)
            yield start
            if start.status is not Status.OUTER_LIMIT or outer == done + self.max_iter:
                return

    def _keep(self, result: Result, x_scaler: Scaler, samples: Samples) -> None:
        self.result_ = replace(result, model=self._model(result, x_scaler, samples))
        self.status_: Status = result.status
        self.trajectory_: Trajectory = result.trajectory
        self.multipliers_ = result.trajectory.multipliers
        self.history_: tuple[Record, ...] = result.history
        self.n_iter_ = int(result.counts["outer"])
        self.certificate_: Certificate = self.result_.certificate
        overfitted = self._overfitted(result)
        self.notes_ = (*result.notes, *overfitted)
        for note in overfitted:
            warnings.warn(f"{note} Raise weight_decay, or use 'auto'.", OverfittingWarning, stacklevel=4)
        if not (result.success or result.status in (Status.STOPPED_EARLY, Status.INTERRUPTED)):
            message = result.message.replace("max_outer", "max_iter").replace("tolerance", "tol")
            warnings.warn(f"{result.status.value}: {message}", ConvergenceWarning, stacklevel=4)

    def _model(self, result: Result, x_scaler: Scaler, samples: Samples) -> Model:
        """The network in the data's units, which predicts values, probabilities or rates."""
        assert result.model is not None
        return Model(
            result.model.network,
            result.trajectory.controls,
            x_scaler=x_scaler,
            y_scaler=samples.y_scaler,
            x_range=column_range(samples.table),
            features=[str(name) for name in getattr(self, "feature_names_in_", ())],
            link=samples.loss.link,
            classes=samples.classes,
        )

    def _overfitted(self, result: Result) -> tuple[str, ...]:
        judged = self.early_stopping or self.selection_ is not None
        if judged or not result.success or not isinstance(result.problem, TrainingProblem):
            return ()
        note = interpolation_note(result.problem, result.trajectory.controls)
        return (note,) if note else ()


def _start(problem: TrainingProblem, earlier: Result | None) -> tuple[Any, int]:
    """Where to start and the outer iterations done there: the earlier result, or else its weights if they fit."""
    if earlier is None or not isinstance(earlier.problem, TrainingProblem):
        return None, 0
    if _goes_on(problem, earlier):
        return earlier, int(earlier.counts["outer"])
    same = earlier.problem.network.describe() == problem.network.describe()
    return (earlier.trajectory.controls, 0) if same else (None, 0)


def _goes_on(problem: TrainingProblem, earlier: Result | None) -> bool:
    """Whether the solver can continue where it stopped: the problem is the same."""
    return earlier is not None and earlier.problem is not None and earlier.problem.is_same_as(problem)


# Ends of a run that say nothing about its iterates, so that they are true of an earlier one too.
_CUT_SHORT = (Status.OUTER_LIMIT, Status.INNER_LIMIT, Status.TIME_LIMIT, Status.INTERRUPTED)


def _kept(best: Result, last: Result, stopped: bool) -> Result:
    """The best iterate under a status that is its own, with history, state and work of the whole run."""
    if best is last and not stopped:
        return last
    status = last.status if last.status in _CUT_SHORT and not stopped else Status.STOPPED_EARLY
    return replace(
        best,
        status=status,
        message=status.message,
        history=last.history,
        state=last.state,
        counts=last.counts,
        seconds=last.seconds,
    )


def _last_gain(errors: list[float]) -> int:
    """Where the smallest error so far was last undercut by more than rounding."""
    best, where = np.inf, 0
    for k, error in enumerate(errors):
        if error < (1.0 - _EARLY_GAIN) * best:
            best, where = error, k
    return where


def _error(held_out: TrainingProblem, controls: Sequence[Array]) -> float:
    """What is held out is judged by its own loss; plain squares over the whole range of double precision."""
    if held_out.data.is_squares:
        return rmse(held_out.network.predict(controls, held_out.x), held_out.y)
    return mean_error(held_out.loss, [sample_errors(held_out, controls)])
