"""The scikit-learn estimator: scale, train as an optimal control problem, predict in the data's own units.

    from ocp_nn import OCPRegressor
    OCPRegressor(hidden_layer_sizes=(20,)).fit(X, y).predict(X)

Inputs and targets are standardised by what ``fit`` is given, so ``weight_decay`` is in standard units: the objective is
1/2 the *sum* of squared errors of the standardised targets plus rho/2 the sum of squared weights, and rho is the ratio
of noise to weight variance, whatever the number of samples.

scikit-learn is the extra ``ml``; this module is imported when ``ocp_nn.OCPRegressor`` is first used.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

try:
    from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import r2_score
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(f"OCPRegressor needs scikit-learn >= 1.6: pip install 'ocp-nn[ml]' ({error})") from error

from ..base import checks
from ..network.activations import ACTIVATIONS
from ..network.model import Model, column_range
from ..network.network import Network
from ..problem.certificate import Certificate
from ..problem.record import Record, Status
from ..problem.result import Result
from ..problem.training import TrainingProblem
from ..problem.trajectory import Trajectory
from ..solvers.augmented_lagrangian.options import Options
from ..solvers.augmented_lagrangian.solve import solve
from .data import Scaler, random_split
from .experiment import rmse
from .overfitting import OverfittingWarning, interpolation_note
from .selection import choose_weight_decay

__all__ = ["OCPRegressor"]

Array = NDArray[np.float64]

# A validation error must fall by this fraction to count as better.
_EARLY_GAIN = 1e-4

_KINDS = {
    "hidden_layer_sizes": checks.either(checks.WIDTH, checks.WIDTHS),
    "activation": checks.one_of(ACTIVATIONS),
    "residual": checks.BOOLEAN,
    "random_state": checks.RANDOM_STATE,
    "weight_decay": checks.either(checks.NON_NEGATIVE, checks.text("auto")),
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


class OCPRegressor(MultiOutputMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc, unused-ignore]
    """Feed-forward network trained by the augmented-Lagrangian solver.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int
        Widths of the hidden layers; empty is a linear model.
    activation : str
        ``"tanh"``, ``"sigmoid"``, ``"relu"``, ``"softplus"`` or ``"identity"``.
    residual : bool
        Skip connections where a hidden layer keeps its width.
    weight_decay : "auto" or float
        Tikhonov weight of all weights and biases in standard units; ``"auto"`` chooses it on held-out parts of what
        ``fit`` is given, by some twenty short solves: the largest whose error is within 2 % of the smallest
        (:func:`.selection.choose_weight_decay`).  A warm start keeps what was chosen before.
    shooting : "multiple", "single" or sequence of int
        Which states are variables.
    tol : float
        Largest defect, and 2-norm of the gradient relative to max(1, objective), of a converged solution.
    max_iter : int
        Outer iterations of a call to ``fit``; with ``warm_start`` these add up.
    time_limit : float
        Seconds of a call to ``fit``.
    n_restarts : int
        Trainings from different random weights; the lowest objective is kept.
    warm_start : bool
        Go on from the solution that is there.  On the same data the solver continues as if it had never stopped (k + m
        iterations are those of one call, bit for bit); on other data it starts from the weights.
    early_stopping : bool
        Hold a part out and stop when its error has not fallen for ``n_iter_no_change`` outer iterations; the weights
        with the smallest such error are kept.  Where those are not the last ones, ``status_`` is ``stopped early``,
        and stationarity and certificate are theirs.
    validation_fraction : float
    n_iter_no_change : int
    random_state : int, RandomState or None
        Of the initial weights, of restarts and of the validation part.

    Attributes
    ----------
    result_ : Result
        Everything; ``result_.save(path)`` writes it, ``result_.model`` is what the exports take.
    status_ : Status
    trajectory_ : Trajectory
        Controls, states and multipliers, in standard units.
    multipliers_ : tuple of K arrays
        Of the trajectory: the back-propagated signal of every layer.
    certificate_ : Certificate
        The independent check of the trajectory.
    history_ : tuple of Record
    n_iter_ : int
        Outer iterations.
    weight_decay_ : float
        The one that was used.
    notes_ : tuple of str
        Sentences to read beside the status: that the network merely reproduces its targets.  Empty for an ordinary fit.
    validation_errors_ : tuple of float
        With ``early_stopping``: root mean square error in standard units after each outer iteration.
    n_features_in_, feature_names_in_ :
        As everywhere in scikit-learn.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.linspace(-2, 2, 50)[:, None]
    >>> model = OCPRegressor(hidden_layer_sizes=(8,), weight_decay=0.01, random_state=0).fit(X, np.sin(X).ravel())
    >>> model.score(X, np.sin(X).ravel()) > 0.99
    True
    """

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

    def fit(self, X: ArrayLike, y: ArrayLike) -> OCPRegressor:
        """Train on X, (N, inputs), and y, (N,) or (N, outputs).

        Raises
        ------
        ValueError
            For parameters out of range, or data that cannot be used.

        Warns
        -----
        ConvergenceWarning
            If the solve ended without converging; ``status_`` says why.
        OverfittingWarning
            If a weight decay that was given lets the network reproduce its targets, noise included.
        """
        checks.check_all(_KINDS, self.get_params(deep=False))
        self._deadline = time.perf_counter() + self.time_limit
        _refuse_what_becomes_numbers("X", X)
        _refuse_what_becomes_numbers("y", y)
        with np.errstate(over="ignore", invalid="ignore"):  # scikit-learn adds the values up to see if they are finite
            table, y = validate_data(
                self, X, y, dtype=np.float64, multi_output=True, y_numeric=True, ensure_min_samples=2
            )
        earlier = self.result_ if self.warm_start and hasattr(self, "result_") else None
        seed = self._seed(earlier)
        targets = np.asarray(y, dtype=float).reshape(len(table), -1)
        self._flat = np.ndim(y) == 1
        scalers = Scaler.fit(table), Scaler.fit(targets)
        inputs, outputs = scalers[0].transform(table), scalers[1].transform(targets)
        network = Network.mlp(
            [table.shape[1], *self._widths(), targets.shape[1]], activation=self.activation, residual=self.residual
        )
        if earlier is None or self.weight_decay != "auto":
            self.weight_decay_ = self._weight_decay(network, inputs, outputs, seed)
        train, held_out = self._parts(len(table), seed)
        problem = TrainingProblem(network, inputs[train], outputs[train], self.weight_decay_)
        if held_out is None:
            result = self._train(problem, earlier, seed)
        else:
            result = self._train_stopping_early(problem, inputs[held_out], outputs[held_out], earlier, seed)
        self._keep(result, *scalers, column_range(table))
        return self

    def predict(self, X: ArrayLike) -> Array:
        """Predictions in the targets' own units, of the shape of the y that was fitted."""
        check_is_fitted(self)
        _refuse_what_becomes_numbers("X", X)
        with np.errstate(over="ignore", invalid="ignore"):
            X = validate_data(self, X, dtype=np.float64, reset=False)
        predicted = self.result_.predict(X)
        return predicted.ravel() if self._flat else predicted

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """The coefficient of determination R^2, as of every regressor, for targets of any size."""
        predicted, y = self.predict(X), np.asarray(y, dtype=float)
        exponent = np.frexp(np.abs(y).max(axis=0))[1]  # a power of two changes nothing but the range of the squares
        scaled = np.ldexp(y, -exponent), np.ldexp(predicted, -exponent)
        return float(r2_score(*scaled, sample_weight=sample_weight))

    # --- parameters

    def _widths(self) -> tuple[int, ...]:
        sizes: Any = self.hidden_layer_sizes
        return tuple(int(width) for width in (sizes if np.ndim(sizes) else [sizes]))

    def _seed(self, earlier: Result | None) -> int:
        """Going on needs the seed of before: restarts are drawn from it."""
        if earlier is not None and isinstance(earlier.options, Options):
            return earlier.options.seed
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _weight_decay(self, network: Network, inputs: Array, outputs: Array, seed: int) -> float:
        if isinstance(self.weight_decay, str):
            return choose_weight_decay(network, inputs, outputs, seed=seed).weight_decay
        return float(self.weight_decay)

    def _parts(self, num_samples: int, seed: int) -> tuple[Any, Any]:
        if not self.early_stopping:
            return slice(None), None
        split = random_split(num_samples, self.validation_fraction, seed)
        return split.train, split.test

    def _options(self, seed: int, max_outer: int) -> Options:
        left = max(self._deadline - time.perf_counter(), 1e-9)  # with none left a solve ends after its first step
        return Options(seed=seed, shooting=self.shooting, tolerance=self.tol, max_outer=max_outer, time_limit=left)

    # --- training

    def _train(self, problem: TrainingProblem, earlier: Result | None, seed: int) -> Result:
        start, done = _start(problem, earlier)
        if start is not None:
            return solve(problem, start, options=self._options(seed, done + self.max_iter))
        best = last = solve(problem, options=self._options(seed, self.max_iter))
        for s in range(seed + 1, seed + self.n_restarts):
            if last.status in (Status.INTERRUPTED, Status.TIME_LIMIT):
                break
            last = solve(problem, options=self._options(s, self.max_iter))
            best = min(best, last, key=lambda result: result.rollout_objective)
        return best

    def _train_stopping_early(
        self, problem: TrainingProblem, inputs: Array, outputs: Array, earlier: Result | None, seed: int
    ) -> Result:
        """Outer iteration by outer iteration, which is the same as in one go, with a look at the held-out part."""

        def error_of(result: Result) -> float:
            return rmse(problem.network.predict(result.trajectory.controls, inputs), outputs)

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

    def _keep(self, result: Result, x_scaler: Scaler, y_scaler: Scaler, x_range: Array) -> None:
        assert isinstance(result.problem, TrainingProblem)
        names = [str(name) for name in getattr(self, "feature_names_in_", ())]
        model = Model(
            result.problem.network,
            result.trajectory.controls,
            x_scaler=x_scaler,
            y_scaler=y_scaler,
            x_range=x_range,
            features=names,
        )
        self.result_ = replace(result, model=model)
        self.status_: Status = result.status
        self.trajectory_: Trajectory = result.trajectory
        self.multipliers_ = result.trajectory.multipliers
        self.history_: tuple[Record, ...] = result.history
        self.n_iter_ = int(result.counts["outer"])
        self.certificate_: Certificate = self.result_.certificate
        overfitted = self._overfitted(result)
        self.notes_ = (*result.notes, *overfitted)
        for note in overfitted:
            warnings.warn(f"{note} Raise weight_decay, or use 'auto'.", OverfittingWarning, stacklevel=3)
        if not (result.success or result.status in (Status.STOPPED_EARLY, Status.INTERRUPTED)):
            message = result.message.replace("max_outer", "max_iter").replace("tolerance", "tol")
            warnings.warn(f"{result.status.value}: {message}", ConvergenceWarning, stacklevel=3)

    def _overfitted(self, result: Result) -> tuple[str, ...]:
        judged = self.early_stopping or self.weight_decay == "auto"  # on held-out samples
        if judged or not result.success or not isinstance(result.problem, TrainingProblem):
            return ()
        note = interpolation_note(result.problem, result.trajectory.controls)
        return (note,) if note else ()


# What scikit-learn makes numbers of without a word; the rest it refuses in words that its own tests ask for.
_CONVERTED = (str, bytes, int, float, np.generic, timedelta)


def _refuse_what_becomes_numbers(name: str, values: Any) -> None:
    """Masked entries, booleans, strings of numbers, durations and integers beyond any float are no data."""
    if not (isinstance(values, np.ndarray | list | tuple) or hasattr(values, "columns")):
        return
    try:
        checks.real_array(name, values)
    except ValueError:
        kinds = set(map(type, np.asarray(values, dtype=object).flat))
        if all(issubclass(kind, _CONVERTED) and not issubclass(kind, complex) for kind in kinds):
            raise


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
