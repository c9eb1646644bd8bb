"""The estimator: from records of inputs and outputs to a validated nonlinear state-space model."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    from joblib import Memory, Parallel, delayed
    from sklearn.base import BaseEstimator, RegressorMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted, check_memory
except ImportError as error:
    raise ImportError(f"StateSpaceRegressor needs scikit-learn >= 1.6: pip install 'ocp-nn[ml]' ({error})") from error

from ...base import checks
from ...network.activations import ACTIVATIONS
from ...network.records import Records
from ...network.state_space import StateSpaceModel
from ...problem.identification import IdentificationProblem
from ...problem.record import Status
from ...problem.result import Result
from ...problem.trajectory import Trajectory
from ...solvers.augmented_lagrangian.options import Options
from ...solvers.augmented_lagrangian.solve import solve
from ..given_records import as_records, is_list, records_of
from ..sequence_metrics import fit_percent, sequence_r2
from .choice import (
    CANDIDATES,
    FIRST,
    FOLDS,
    LOOSE_OUTER,
    LOOSE_TOLERANCE,
    RACE,
    WEIGHT_DECAYS,
    Candidate,
    ChoiceSettings,
    Start,
    best_of,
    finalists,
    known_states,
)
from .memory import remembered_judgement, remembered_path, trained
from .model import IdentifiedModel
from .segments import shortened
from .uncertainty import UncertainRuns

__all__ = ["StateSpaceRegressor"]

Array = NDArray[np.float64]

# Orders that "auto" tries.
ORDERS = (1, 2, 3, 4)

# Weight decay of the linear model: it has few parameters.
_LINEAR_DECAY = 1e-3

_JOBS = checks.Kind(
    "an integer >= 1, -1 for all processors, or None",
    lambda value: value is None or value == -1 or checks.WIDTH.accepts(value),
)

_KINDS = {
    "num_states": checks.either(checks.WIDTH, checks.WIDTHS, checks.text("auto")),
    "hidden_layer_sizes": checks.WIDTHS,
    "output_layer_sizes": checks.WIDTHS,
    "activation": checks.one_of(ACTIVATIONS),
    "feedthrough": checks.BOOLEAN,
    "weight_decay": checks.either(checks.NON_NEGATIVE, checks.text("auto")),
    "warm_up": checks.integer(1),
    "num_starts": checks.integer(1),
    "shooting": checks.either(checks.text("multiple", "single"), checks.NODES, checks.integer(1)),
    "tol": checks.POSITIVE,
    "max_iter": checks.integer(1),
    "time_limit": checks.POSITIVE_OR_INFINITE,
    "n_jobs": _JOBS,
    "random_state": checks.RANDOM_STATE,
}


def _memory(memory: Any) -> Memory:
    """What scikit-learn takes for one, silent."""
    if memory is None or isinstance(memory, str | os.PathLike):
        return Memory(None if memory is None else os.fspath(memory), verbose=0)
    return check_memory(memory)


class StateSpaceRegressor(UncertainRuns, RegressorMixin, BaseEstimator):  # type: ignore[misc, unused-ignore]
    """State-space model x_{t+1} = f(x_t, v_t), y_t = g(x_t, v_t) identified from records by the simulation error.

    Inputs and outputs are standardised by what ``fit`` is given; order, weight decay and start are chosen on held-out
    time segments of it (:mod:`.choice`), and the chosen model is trained on all of it.

    Parameters
    ----------
    num_states : int, sequence of int, or "auto"
        Order n, or orders to choose from; "auto" is 1 to 4.
    hidden_layer_sizes : sequence of int
        Widths of the hidden layers of f, which has a linear part beside them; empty is a linear f.
    output_layer_sizes : sequence of int
        The same for g.
    activation : str
        ``"tanh"``, ``"sigmoid"``, ``"relu"``, ``"softplus"`` or ``"identity"``.
    feedthrough : bool
        Whether v_t acts on y_t at once.
    weight_decay : "auto" or float
        Tikhonov weight of all parameters in standard units, beside the sum of squared errors.  A number is used as it
        is, and then nothing is held out unless there are several orders or starts.
    warm_up : int
        First rows of a segment or a record that tell its initial state, and are left out of its errors: in the choice
        (at most a third of a segment) and in ``score`` and ``fit_percent_``.
    num_starts : int
        Paths from different random weights for each order.
    shooting : "multiple", "single", sequence of int, or int
        As of :class:`ocp_nn.Options`.
    tol, max_iter : float, int
        Of the last training, on all records: tolerance, and outer iterations.
    time_limit : float
        Seconds of a call to ``fit``, about: with none left the choice ends with the candidates that are there.
    n_jobs : int or None
        Processes that share the starts, as in scikit-learn; None is one.
    random_state : int, RandomState or None
        Of the random weights.
    memory : None, str, path or joblib.Memory
        Where what a fit has done is kept, as in scikit-learn's pipelines: a fit that was ended goes on when it is
        called again with the same data and parameters (of ``time_limit`` and ``max_iter`` with others too).  Its files
        are pickles: use folders that you trust.

    Attributes
    ----------
    model_ : IdentifiedModel
        The model in the data's units: ``model_.simulate(v, x0)``, ``model_.system`` (a ``StateSpaceModel``) and
        ``model_.theta``, its parameters.
    linear_model_ : IdentifiedModel
        A linear model of the same order, identified the same way: what nonlinearity gains is the difference.
    result_ : Result
        Of the last training, in standard units; ``result_.certificate`` is its independent check.
    status_ : Status
    num_states_, weight_decay_ : int, float
        What was chosen, or given.
    candidates_ : tuple of Candidate
        What the choice was made from, with their held-out errors; empty where nothing was to choose.
    states_ : list of array, shape (T_i, n)
        States of the training records.
    initial_states_ : array, shape (records, n)
    posterior_, effective_num_parameters_, noise_std_, log_marginal_likelihood_, states_std_ :
        The Laplace posterior at the solution and what follows from it (:class:`.uncertainty.UncertainRuns`), made when
        they are first asked for.
    fit_percent_ : array, shape (m,)
        Of the simulation of the training records from ``initial_states_``, after the warm-up.

    Examples
    --------
    >>> import numpy as np
    >>> v = np.random.default_rng(0).standard_normal(300)
    >>> y = np.zeros(300)
    >>> for t in range(299):
    ...     y[t + 1] = np.tanh(0.8 * y[t] + 0.5 * v[t])
    >>> model = StateSpaceRegressor(1, (4,), weight_decay=1e-3, num_starts=1, random_state=0).fit(v[:200], y[:200])
    >>> model.score(v[200:], y[200:]) > 0.99
    True
    """

    def __init__(
        self,
        num_states: int | Sequence[int] | str = 2,
        hidden_layer_sizes: Sequence[int] = (8,),
        *,
        output_layer_sizes: Sequence[int] = (),
        activation: str = "tanh",
        feedthrough: bool = False,
        weight_decay: float | str = "auto",
        warm_up: int = 50,
        num_starts: int = 8,
        shooting: str | int | Sequence[int] = "multiple",
        tol: float = 1e-6,
        max_iter: int = 200,
        time_limit: float = np.inf,
        n_jobs: int | None = None,
        random_state: Any = None,
        memory: Any = None,
    ) -> None:
        self.num_states = num_states
        self.hidden_layer_sizes = hidden_layer_sizes
        self.output_layer_sizes = output_layer_sizes
        self.activation = activation
        self.feedthrough = feedthrough
        self.weight_decay = weight_decay
        self.warm_up = warm_up
        self.num_starts = num_starts
        self.shooting = shooting
        self.tol = tol
        self.max_iter = max_iter
        self.time_limit = time_limit
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.memory = memory

    def fit(self, v: Any, y: Any) -> StateSpaceRegressor:
        """Identify the model of one record or several.

        Parameters
        ----------
        v : array, shape (T, q) or (T,), or a list of them, one a record
            Inputs; None without any.
        y : array, shape (T, m) or (T,), or a list of them
            Outputs, NaN where nothing was measured.

        Raises
        ------
        ValueError
            For parameters out of range, and records that do not fit each other or cannot be used.

        Warns
        -----
        ConvergenceWarning
            If the last training ended before it was at rest; ``status_`` says why.
        """
        checks.check_all(_KINDS, self.get_params(deep=False))
        self._deadline = time.perf_counter() + self.time_limit
        self._memory = _memory(self.memory)
        records = records_of(v, y)
        self.candidates_: tuple[Candidate, ...] = ()
        self._flat = np.ndim(as_records("y", y)[0]) == 1
        self.n_features_in_ = records.num_inputs
        self._scalers = records.scalers()
        scaled = records.scaled(*self._scalers)
        seed = int(check_random_state(self.random_state).randint(2**31 - self.num_starts))
        chosen = self._chosen(scaled, seed)
        self.num_states_, self.weight_decay_ = chosen.num_states, chosen.weight_decay
        self.result_ = self._trained(scaled, chosen)
        self.status_: Status = self.result_.status
        self.model_ = self._identified(self.result_)
        self.linear_model_ = self._linear(scaled, seed)
        self._keep(records)
        return self

    def predict(self, v: Any, y_init: Any = None, return_std: bool = False) -> Any:
        """A free run for as long as v, shape (T, m), or (T,) where y had one axis; a list for a list.

        Parameters
        ----------
        v : array, shape (T, q) or (T,), or a list of them
        y_init : array, shape (w, m) or (w,), or a list of them, optional
            The first rows of measured outputs, w <= T, which tell the initial state; nothing else is used of them.
            Without, the run starts from the mean of the initial states of the training records.
        return_std : bool
            Return the standard deviations of the run, too, of the same shape, by the Laplace posterior of parameters
            and initial state.  The noise of the outputs is not in them; :meth:`prediction_interval` has it.

        Raises
        ------
        ValueError
            For other shapes, and of deviations where there is no posterior: after a fit that did not converge.
        """
        checks.check("return_std", return_std, checks.BOOLEAN)
        check_is_fitted(self)
        several = as_records("v", v)
        first = as_records("y_init", y_init, len(several))
        runs = [self.model_.run(v, y)[0] for v, y in zip(several, first, strict=True)]
        runs = [run.ravel() if self._flat else run for run in runs]
        predicted = runs if is_list(v) else runs[0]
        return (predicted, self._deviations(v, y_init)) if return_std else predicted

    def score(self, v: Any, y: Any, sample_weight: None = None) -> float:
        """R^2 of free runs after the warm-up, whose rows of y tell the initial states; the mean over outputs.

        Several records count as one long one.

        Raises
        ------
        ValueError
            For records that do not fit, none that is longer than the warm-up, or with weights of samples.
        """
        check_is_fitted(self)
        if sample_weight is not None:
            raise ValueError(
                "samples of a record have no weights: leave sample_weight out, and make outputs that must not count NaN"
            )
        records = records_of(v, y, num_inputs=self.n_features_in_, num_outputs=self.model_.system.num_outputs)
        measured, simulated = [], []
        for inputs, outputs in records.pairs:
            if len(outputs) > self.warm_up:
                simulated.append(self.model_.run(inputs, outputs[: self.warm_up])[0][self.warm_up :])
                measured.append(outputs[self.warm_up :])
        if not measured:
            raise ValueError(f"a record must be longer than the warm-up of {self.warm_up}, received {records.lengths}")
        return sequence_r2(np.concatenate(measured), np.concatenate(simulated))

    # --- the choice

    def _system(self, num_states: int, hidden: Sequence[int], outputs: Sequence[int]) -> StateSpaceModel:
        inputs, outs = (len(scaler.mean) for scaler in self._scalers)
        return StateSpaceModel(
            num_states=num_states,
            num_inputs=inputs,
            num_outputs=outs,
            hidden_layer_sizes=tuple(map(int, hidden)),
            output_layer_sizes=tuple(map(int, outputs)),
            activation=self.activation,
            feedthrough=bool(self.feedthrough),
        )

    def _orders(self) -> tuple[int, ...]:
        if isinstance(self.num_states, str):
            return ORDERS
        return tuple(int(n) for n in np.atleast_1d(np.asarray(self.num_states)))

    def _chosen(self, scaled: Records, seed: int) -> Candidate:
        """The solution to begin the last training with."""
        decays = self._decays()
        systems = [self._system(n, self.hidden_layer_sizes, self.output_layer_sizes) for n in self._orders()]
        starts = [Start(system, seed + i, FIRST[i % len(FIRST)]) for i in range(self.num_starts) for system in systems]
        to_judge = CANDIDATES if isinstance(self.weight_decay, str) else (float(self.weight_decay),)
        options = replace(self._options(LOOSE_TOLERANCE, LOOSE_OUTER), time_limit=np.inf)
        settings = ChoiceSettings(self.warm_up, options, to_judge, self._deadline)
        records = shortened(scaled, FOLDS)
        is_judged = len(systems) > 1 or len(to_judge) > 1
        race = [rho for rho in decays if rho >= RACE or not is_judged]
        parallel = Parallel(n_jobs=self.n_jobs)
        memory = self._memory
        paths = parallel(delayed(remembered_path)(memory, start, records, race, settings) for start in starts)
        if is_judged:
            best = finalists(paths)
            judgements = parallel(delayed(remembered_judgement)(memory, of, records, decays, settings) for of in best)
            self.candidates_ = tuple(candidate for of in judgements for candidate in of)
            chosen = best_of(self.candidates_)
        else:
            chosen = min((of[-1] for of in paths), key=lambda c: (c.weight_decay, c.objective))
        return chosen if records is scaled else replace(chosen, trajectory=self._extended(chosen, records, scaled))

    def _decays(self) -> tuple[float, ...]:
        """From strong to weak; one that is given is where a path ends."""
        if isinstance(self.weight_decay, str):
            return WEIGHT_DECAYS
        given = float(self.weight_decay)
        return (*(rho for rho in WEIGHT_DECAYS if rho > given), given)

    def _extended(self, chosen: Candidate, looked_at: Records, records: Records) -> Trajectory:
        """The solution on whole records, whose initial states their first rows tell."""
        model, theta = chosen.start.model, chosen.trajectory.controls[0]
        known = known_states(model, chosen.trajectory, looked_at)
        runs = []
        for v, y in records.pairs:
            window = min(len(y), self.warm_up)
            x0 = known.estimate(model, theta, v[:window], y[:window])
            runs.append(model.simulate(theta, v, x0)[1][:-1])
        length = max(records.lengths)
        states = np.stack([np.pad(x, ((0, length - len(x)), (0, 0)), mode="edge") for x in runs], axis=1)
        return Trajectory((theta,), tuple(np.where(np.isfinite(states), states, known.mean)))

    def _options(self, tolerance: float, max_outer: int) -> Options:
        left = max(self._deadline - time.perf_counter(), 1e-9)
        return Options(shooting=self.shooting, tolerance=tolerance, max_outer=max_outer, time_limit=left)

    # --- training on all records

    def _trained(self, scaled: Records, chosen: Candidate) -> Result:
        problem = IdentificationProblem(chosen.start.model, scaled.pairs, chosen.weight_decay)
        result = trained(self._memory, problem, chosen, self._options(self.tol, self.max_iter))
        return replace(result, state=None)

    def _linear(self, scaled: Records, seed: int) -> IdentifiedModel:
        problem = IdentificationProblem(self._system(self.num_states_, (), ()), scaled.pairs, _LINEAR_DECAY)
        options = replace(self._options(LOOSE_TOLERANCE, LOOSE_OUTER), seed=seed, initialisation="linear")
        return self._identified(solve(problem, options=options))

    def _identified(self, result: Result) -> IdentifiedModel:
        assert isinstance(result.problem, IdentificationProblem)
        trajectory = result.trajectory
        initial = np.asarray(trajectory.states[0]).copy()
        known = known_states(result.problem.model, trajectory, result.problem.records)
        return IdentifiedModel(result.problem.model, trajectory.controls[0], *self._scalers, initial, known)

    def _keep(self, records: Records) -> None:
        states = np.stack(self.result_.trajectory.states, axis=1)
        self.states_ = [x[:length] for x, length in zip(states, records.lengths, strict=True)]
        self.initial_states_ = self.model_.initial_states
        self.fit_percent_ = self._training_fit(records)
        at_rest = (Status.CONVERGED, Status.SETTLED, Status.STALLED, Status.INTERRUPTED)
        if self.status_ not in at_rest:
            message = self.result_.message.replace("max_outer", "max_iter").replace("tolerance", "tol")
            warnings.warn(f"{self.status_.value}: {message}", ConvergenceWarning, stacklevel=3)

    def _training_fit(self, records: Records) -> Array:
        measured, simulated = [], []
        for v, y, x0 in zip(records.inputs, records.outputs, self.initial_states_, strict=True):
            rows = slice(self.warm_up if len(y) > 2 * self.warm_up else 0, None)
            measured.append(y[rows])
            simulated.append(self.model_.simulate(v, x0)[0][rows])
        return fit_percent(np.concatenate(measured), np.concatenate(simulated))
