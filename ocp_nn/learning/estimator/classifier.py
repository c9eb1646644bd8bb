"""Classification: two classes by the logistic loss of one output, several by softmax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets

from ...base import checks
from ...problem.losses import Logistic, Softmax
from .base import OCPEstimator, Samples
from .uncertainty import Uncertain

__all__ = ["OCPClassifier"]

Array = NDArray[np.float64]

_KINDS = {"class_weight": checks.optional(checks.either(checks.text("balanced"), checks.MAPPING))}


class OCPClassifier(Uncertain, ClassifierMixin, OCPEstimator):  # type: ignore[misc, unused-ignore]
    """Feed-forward network for labels, trained by the augmented-Lagrangian solver on their log likelihood.

    Two classes have one output, the log-odds of the second; several have one output each, probabilities being softmax
    of them.

    Parameters
    ----------
    class_weight : None, "balanced" or dict
        Factors of the weights of each class's samples: the classes' numbers > 0 (one for those not named), or such that
        every class weighs the same, the total being kept.
    hidden_layer_sizes, activation, residual, weight_decay, shooting, tol, max_iter, time_limit, n_restarts, \
warm_start, early_stopping, validation_fraction, n_iter_no_change, random_state :
        As of :class:`.OCPRegressor`; ``weight_decay="auto"`` is held-out.  What is held out
        is drawn class by class and judged by its mean log loss.

    Attributes
    ----------
    classes_ : array (classes,)
        The labels, sorted; a class whose samples all have weight zero is none.
    posterior_, effective_num_parameters_, log_marginal_likelihood_ :
        The Laplace posterior at the solution and what follows from it (:class:`.uncertainty.Uncertain`).
    result_, status_, trajectory_, multipliers_, certificate_, history_, n_iter_, weight_decay_, selection_, notes_, \
validation_errors_, n_features_in_, feature_names_in_ :
        As of :class:`.OCPRegressor`.  The outputs of ``result_.model`` are those of ``decision_function``.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.linspace(-2, 2, 60)[:, None]
    >>> labels = np.where(np.abs(X.ravel()) < 1, "near", "far")
    >>> model = OCPClassifier(hidden_layer_sizes=(8,), weight_decay=0.01, random_state=0).fit(X, labels)
    >>> model.predict([[0.1], [1.7]]).tolist(), model.predict_proba([[0.1]]).shape
    (['near', 'far'], (1, 2))
    """

    def __init__(
        self,
        hidden_layer_sizes: Sequence[int] = (20,),
        *,
        class_weight: Mapping[Any, float] | str | None = None,
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
        self.class_weight = class_weight

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> OCPClassifier:
        """Train on X, (N, inputs), and labels y, (N,), with weights >= 0, (N,).

        Raises
        ------
        ValueError
            For parameters out of range, or data that cannot be used: labels of one class, continuous ones, a class
            weight of a class that is not there.

        Warns
        -----
        ConvergenceWarning
            If the solve ended without converging; ``status_`` says why.
        OverfittingWarning
            If a weight decay that was given lets the network reproduce its labels, mistakes among them included.
        """
        self._begin(_KINDS)
        if np.ma.is_masked(y):
            raise ValueError("y must have no masked entries: fill or drop them")
        table, y, weights = self._checked(X, y, sample_weight)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"OCPClassifier needs samples of two classes or more, received one class: {self.classes_[0]!r}"
            )
        loss: Logistic | Softmax = Logistic() if len(self.classes_) == 2 else Softmax()
        targets = np.eye(len(self.classes_))[labels] if isinstance(loss, Softmax) else labels[:, None].astype(float)
        weights = self._class_weighted(labels, weights)
        self._fit(Samples(table=table, targets=targets, weights=weights, loss=loss, classes=_names(self.classes_)))
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most probable class of every sample, (N,)."""
        z = self.decision_function(X)
        chosen: NDArray[Any] = self.classes_[(z > 0).astype(int) if z.ndim == 1 else z.argmax(axis=1)]
        return chosen

    def decision_function(self, X: ArrayLike) -> Array:
        """Log-odds of the second class, (N,), or one output for each of several, (N, classes)."""
        z = self._outputs(X)
        return z.ravel() if z.shape[1] == 1 else z

    def predict_proba(self, X: ArrayLike, marginal: bool = False) -> Array:
        """The probability of every class, (N, classes), in the order of ``classes_``.

        Parameters
        ----------
        X : array_like, shape (N, inputs)
        marginal : bool
            Averaged over the posterior of the weights, which makes them less sure where weights are: with v the
            variance of an output z, z / sqrt(1 + pi v / 8) instead of z (MacKay 1992; of several classes Gibbs 1997).

        Raises
        ------
        ValueError
            For averages where there is no posterior: after a fit that did not converge.
        """
        checks.check("marginal", marginal, checks.BOOLEAN)
        z = self._outputs(X)
        if marginal:
            _, covariances = self.posterior_.predict(self._inputs(X))
            variances = np.maximum(np.diagonal(covariances, axis1=1, axis2=2), 0.0)
            z = z / np.sqrt(1.0 + np.pi / 8.0 * variances)
        return np.column_stack([special.expit(-z), special.expit(z)]) if z.shape[1] == 1 else special.softmax(z, axis=1)

    def predict_log_proba(self, X: ArrayLike) -> Array:
        """The logarithms of :meth:`predict_proba`, exact where those round to zero or one."""
        z = self.decision_function(X)
        return -np.logaddexp(0.0, np.column_stack([z, -z])) if z.ndim == 1 else special.log_softmax(z, axis=1)

    def _class_weighted(self, labels: NDArray[np.intp], weights: Array | None) -> Array | None:
        """The samples' weights times those of their classes."""
        if self.class_weight is None:
            return weights
        factors = self._class_factors(np.bincount(labels, weights).astype(float))
        return factors[labels] if weights is None else factors[labels] * weights

    def _class_factors(self, totals: Array) -> Array:
        if isinstance(self.class_weight, str):
            return np.asarray(totals.sum() / (len(totals) * totals))
        given, classes = dict(self.class_weight or {}), self.classes_.tolist()
        for label, weight in given.items():
            if label not in classes:
                raise ValueError(f"class_weight has the class {label!r}, which y has not: its classes are {classes}")
            checks.check(f"class_weight[{label!r}]", weight, checks.POSITIVE)
        return np.array([float(given.get(label, 1.0)) for label in classes])


def _names(classes: NDArray[Any]) -> list[str | int | float]:
    """Labels as a model keeps them; booleans and whatever else numpy has as words."""
    plain = classes.tolist()
    return plain if all(type(label) in (str, int, float) for label in plain) else [str(label) for label in plain]
