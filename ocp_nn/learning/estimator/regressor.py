"""Regression: squares, Huber's loss, and counts with Poisson's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import MultiOutputMixin, RegressorMixin
from sklearn.metrics import r2_score

from ...base import checks
from ...network.scaling import Scaler
from ...problem.losses import Huber, Loss, Poisson, loss_named
from ..requirements import METHODS, RANGE, Requirements, signs_of
from .base import OCPEstimator, Samples
from .inputs import refuse_what_becomes_numbers, robust_scaler
from .uncertainty import UncertainTargets

__all__ = ["OCPRegressor"]

Array = NDArray[np.float64]

_SIGNS = checks.Kind(
    "signs -1, 0 or 1, one a feature, or a mapping from features to signs",
    lambda value: isinstance(value, Mapping | Sequence | np.ndarray) and not isinstance(value, str | bytes),
)

_KINDS = {
    "loss": checks.one_of(("squared", "huber", "poisson")),
    "huber_delta": checks.POSITIVE,
    "monotonic_cst": checks.optional(_SIGNS),
    "monotonic_method": checks.one_of(METHODS),
    "bounds": checks.optional(RANGE),
    "output_range": checks.optional(RANGE),
    "constraint_points": checks.integer(0),
}


class OCPRegressor(UncertainTargets, MultiOutputMixin, RegressorMixin, OCPEstimator):  # type: ignore[misc, unused-ignore]
    """Feed-forward network trained by the augmented-Lagrangian solver.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int
        Widths of the hidden layers; empty is a linear model.
    loss : "squared", "huber" or "poisson"
        Half the squared error of standardised targets; Huber's loss of targets in robust units, which grows only
        linearly beyond ``huber_delta`` (outliers); or, for counts y >= 0, half the Poisson deviance of the rate exp(z)
        that the network's output z is the logarithm of.  Counts are not scaled, and what is predicted is the rate.
    huber_delta : float
        Where Huber's loss ends to be a square, in robust units of each target: its median distance from its median over
        0.6745, which for a normal target is its standard deviation.  It is a length of *residuals*, so where the
        network explains most of the target, and outliers are smaller than its spread, take less.
    activation : str
        ``"tanh"``, ``"sigmoid"``, ``"relu"``, ``"softplus"`` or ``"identity"``.
    residual : bool
        Skip connections where a hidden layer keeps its width.
    weight_decay : "auto", "evidence", "held-out" or float
        Tikhonov weight of all weights and biases in standard units.  ``"evidence"`` takes the one under which the
        targets are most probable, from strong to weak by some ten short solves (:func:`.evidence.choose_by_evidence`);
        ``"held-out"`` the largest whose error on held-out parts of what ``fit`` is given is within 2 % of the smallest
        (:func:`.selection.choose_weight_decay`); ``"auto"`` is the first for squares without constraints, where targets
        or weights are at most 3,000, with held-out samples among candidates that it does not tell apart, and otherwise
        the second.  A warm start keeps what was chosen before.
    monotonic_cst : sequence of int, mapping or None
        As of scikit-learn's boosting: 1 where predictions must not fall in a feature, -1 where they must not rise, 0
        where they may do either; one a feature, or by name or number.
    monotonic_method : "weights" or "points"
        By signs of weights, which holds everywhere and costs some freedom, or by derivatives at the samples and at
        ``constraint_points`` random points, between which nothing is promised.
    bounds : (low, high) or None
        Of all weights and biases, in standard units.
    output_range : (low, high) or None
        Of predictions, in the targets' units, at the samples and at ``constraint_points`` random points.
    constraint_points : int
        Of random points in the box of the features.
    shooting : "multiple", "single" or sequence of int
        Which states are variables.
    tol : float
        Largest defect, and 2-norm of the gradient relative to max(1, objective), of a converged solution.
    max_iter : int
        Outer iterations of a call to ``fit``; with ``warm_start`` these add up.
    time_limit : float
        Seconds of a call to ``fit``.
    n_restarts : int
        Trainings from different random weights; the lowest objective is kept.  With constraints (``monotonic_cst``,
        ``bounds``, ``output_range``) the weight decay is chosen without them, a warm start begins at the earlier
        weights, and early stopping is refused.
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
    selection_ : Selection or None
        How it was chosen, or None where it was given.
    notes_ : tuple of str
        Sentences to read beside the status: that the network merely reproduces its targets.  Empty for an ordinary fit.
    validation_errors_ : tuple of float
        With ``early_stopping``: the error after each outer iteration, root mean square in standard units for squares
        and the mean loss otherwise.
    posterior_, effective_num_parameters_, noise_std_, log_marginal_likelihood_ :
        The Laplace posterior at the solution and what follows from it (:class:`.uncertainty.UncertainTargets`), made
        when they are first asked for.
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
        loss: str = "squared",
        huber_delta: float = 1.345,
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
        monotonic_cst: Any = None,
        monotonic_method: str = "weights",
        bounds: tuple[float, float] | None = None,
        output_range: tuple[float, float] | None = None,
        constraint_points: int = 200,
    ) -> None:
        super().__init__(
            hidden_layer_sizes,
            activation=activation,
            residual=residual,
            weight_decay=weight_decay,
            shooting=shooting,
            tol=tol,
            max_iter=max_iter,
            time_limit=time_limit,
            n_restarts=n_restarts,
            warm_start=warm_start,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            random_state=random_state,
        )
        self.loss = loss
        self.huber_delta = huber_delta
        self.monotonic_cst = monotonic_cst
        self.monotonic_method = monotonic_method
        self.bounds = bounds
        self.output_range = output_range
        self.constraint_points = constraint_points

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = self.loss == "poisson"
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> OCPRegressor:
        """Train on X, (N, inputs), and y, (N,) or (N, outputs), with weights >= 0, (N,).

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
        self._begin(_KINDS)
        refuse_what_becomes_numbers("y", y)
        table, y, weights = self._checked(X, y, sample_weight, multi_output=True, y_numeric=True)
        self._flat = np.ndim(y) == 1
        targets = np.asarray(y, dtype=float).reshape(len(table), -1)
        loss = self._loss()
        scaler = self._scaler(loss, targets, weights)
        if scaler is not None:
            targets = scaler.transform(targets)
        self._fit(Samples(table=table, targets=targets, weights=weights, loss=loss, y_scaler=scaler))
        return self

    def predict(self, X: ArrayLike, return_std: bool = False, return_cov: bool = False) -> Any:
        """Predictions in the targets' own units, of the shape of the y that was fitted; of counts, their rates.

        Parameters
        ----------
        X : array_like, shape (M, inputs)
        return_std : bool
            Return their standard deviations, too, of the same shape, by the Laplace posterior of the weights
            (:class:`ocp_nn.Posterior`).  The noise of the targets is not in them; :meth:`prediction_interval` has it.
        return_cov : bool
            Instead: their covariances with each other, (M, M), or (M, M, outputs) where y had two axes.

        Raises
        ------
        ValueError
            For both at once, and where there is no posterior: with constraints, after a fit that did not converge.
        """
        checks.check_all({"return_std": checks.BOOLEAN, "return_cov": checks.BOOLEAN},
                         {"return_std": return_std, "return_cov": return_cov})  # fmt: skip
        if return_std and return_cov:
            raise ValueError("return_std and return_cov: at most one of them")
        predicted = self._outputs(X)
        if self._trained.link == "log":
            with np.errstate(over="ignore"):
                predicted = np.exp(predicted)
        predicted = predicted.ravel() if self._flat else predicted
        if return_std or return_cov:
            return predicted, (self._std if return_std else self._cov)(X)
        return predicted

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """The coefficient of determination R^2, as of every regressor, for targets of any size."""
        predicted, y = self.predict(X), np.asarray(y, dtype=float)
        exponent = np.frexp(np.abs(y).max(axis=0))[1]  # a power of two changes nothing but the range of the squares
        scaled = np.ldexp(y, -exponent), np.ldexp(predicted, -exponent)
        return float(r2_score(*scaled, sample_weight=sample_weight))

    def _requirements(self, inputs: int, seed: int) -> Requirements:
        names = [str(name) for name in getattr(self, "feature_names_in_", ())]
        wanted = Requirements(
            signs=signs_of(self.monotonic_cst, inputs, names),
            method=self.monotonic_method,
            weight_bounds=_pair(self.bounds),
            output_range=_pair(self.output_range),
            num_points=int(self.constraint_points),
            seed=seed,
        )
        if wanted and self.early_stopping:
            raise ValueError("early_stopping is not for constrained networks, whose iterates are not feasible")
        return wanted

    def _loss(self) -> Loss:
        return Huber(float(self.huber_delta)) if self.loss == "huber" else loss_named(self.loss)

    @staticmethod
    def _scaler(loss: Loss, targets: Array, weights: Array | None) -> Scaler | None:
        """Into the units in which the loss is meant."""
        if isinstance(loss, Poisson):
            return None
        return (robust_scaler if isinstance(loss, Huber) else Scaler.fit)(targets, weights)


def _pair(values: Any) -> tuple[float, float] | None:
    if values is None:
        return None
    low, high = values
    return float(low), float(high)
