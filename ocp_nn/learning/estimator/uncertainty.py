"""What a fitted estimator is uncertain by, in the targets' own units: from its posterior (:mod:`..posterior`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...base import checks
from ...network.model import Model
from ...problem.training import TrainingProblem
from ..kept_posterior import KeptPosterior
from ..likelihood import has_scale
from ..posterior import Posterior

__all__ = ["Uncertain", "UncertainTargets"]

Array = NDArray[np.float64]


class Uncertain(KeptPosterior[Posterior]):
    """Of an estimator that converged without constraints; every attribute and method says so otherwise.

    Attributes
    ----------
    log_marginal_likelihood_ : float
        Log evidence of the targets at ``weight_decay_``, with the noise at which it is largest.
    """

    if TYPE_CHECKING:

        @property
        def _trained(self) -> Model: ...

        def _outputs(self, X: ArrayLike) -> Array: ...

    def _make_posterior(self) -> Posterior:
        problem = self.result_.problem
        if not isinstance(problem, TrainingProblem):
            raise ValueError("there is no posterior of a network with constraints: prices are no part of it")
        is_known = self.result_.has_no_negative_curvature
        return Posterior.of(problem, self.result_.trajectory.controls, check=not is_known)

    @property
    def log_marginal_likelihood_(self) -> float:
        posterior = self.posterior_
        return posterior.log_evidence() - posterior.problem.num_samples * float(np.log(self._target_scale).sum())

    @property
    def _target_scale(self) -> Array:
        """One unit of the network's outputs in the targets' units, (m,)."""
        scaler = self._trained.y_scaler
        outputs = self.posterior_.problem.y.shape[1]
        return np.ones(outputs) if scaler is None else np.broadcast_to(scaler.scale, (outputs,))

    def _inputs(self, X: ArrayLike) -> Array:
        """In standard units; :meth:`_outputs` has checked them."""
        scaler = self._trained.x_scaler
        table = np.asarray(X, dtype=float)
        return table if scaler is None else scaler.transform(table)


class UncertainTargets(Uncertain):
    """Of a regressor.

    Attributes
    ----------
    noise_std_ : array, shape (m,), or float
        Of the targets, per output, or the one where y had one axis; for Huber's loss with errors cut off at its delta.
    """

    if TYPE_CHECKING:
        _flat: bool

    @property
    def noise_std_(self) -> Any:
        if not has_scale(self.posterior_.problem.loss):
            raise ValueError(f"targets of the loss {self.posterior_.problem.loss.name!r} have no noise of their own")
        std = np.sqrt(self.posterior_.noise_variances) * self._target_scale
        return float(std[0]) if self._flat else std

    def _std(self, X: ArrayLike) -> Array:
        """Of predictions without noise, of their shape."""
        _, covariances = self.posterior_.predict(self._inputs(X))
        variances = np.maximum(np.diagonal(covariances, axis1=1, axis2=2), 0.0)
        std = np.sqrt(variances) * self._slope(X)
        return std.ravel() if self._flat else std

    def _cov(self, X: ArrayLike) -> Array:
        """Of predictions with each other without noise, (M, M), or (M, M, m) where y had two axes."""
        slope = self._slope(X)
        covariances = self.posterior_.joint_covariance(self._inputs(X)) * slope[:, None] * slope[None]
        return covariances[:, :, 0] if self._flat else covariances

    def _slope(self, X: ArrayLike) -> Array:
        """Of predictions in the network's outputs, (M, m): the scale of the targets, or of counts their rates."""
        outputs = self._outputs(X)
        if self._trained.link != "log":
            return np.broadcast_to(self._target_scale, outputs.shape)
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(outputs), dtype=float)

    def prediction_interval(
        self, X: ArrayLike, coverage: float = 0.9, *, calibrated: bool = False
    ) -> tuple[Array, Array]:
        """Ends of central intervals for new targets, noise included: two arrays of the shape of predictions.

        Parameters
        ----------
        X : array_like, shape (M, inputs)
        coverage : float
            Share of new targets that they are to hold, in (0, 1).
        calibrated : bool
            As wide as the training residuals say, each as if its sample had been left out, and not as Gaussian noise
            would have it: the jackknife, by linearisation (:meth:`ocp_nn.Posterior.interval`), where noise has long
            tails or short ones.

        Raises
        ------
        ValueError
            For a coverage out of range, another loss than squares, too few samples to calibrate so large a coverage,
            and where there is no posterior.
        """
        checks.check_all({"coverage": checks.SHARE, "calibrated": checks.BOOLEAN},
                         {"coverage": coverage, "calibrated": calibrated})  # fmt: skip
        self._outputs(X)  # checks X
        ends = self.posterior_.interval(self._inputs(X), coverage, calibrated=calibrated)
        scaler = self._trained.y_scaler
        low, high = ends if scaler is None else (scaler.inverse(end) for end in ends)
        return (low.ravel(), high.ravel()) if self._flat else (low, high)
