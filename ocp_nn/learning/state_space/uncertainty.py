"""What a fitted :class:`.StateSpaceRegressor` is uncertain by, in the outputs' own units (:mod:`.posterior`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ...base import checks
from ...network.records import checked_inputs, checked_outputs
from ...problem.identification import IdentificationProblem
from ..given_records import as_records, is_list
from ..kept_posterior import KeptPosterior
from .model import IdentifiedModel
from .posterior import StateSpacePosterior

__all__ = ["UncertainRuns"]

Array = NDArray[np.float64]


class UncertainRuns(KeptPosterior[StateSpacePosterior]):
    """Of a model whose training converged; every attribute and method says so otherwise.

    The noise is taken to be white: where the residuals are not (:func:`.sequence_metrics.residual_tests`), deviations
    are too small.

    Attributes
    ----------
    noise_std_ : array, shape (m,), or float
        Of the outputs, or the one where y had one axis.
    log_marginal_likelihood_ : float
        Log evidence of the measured outputs at ``weight_decay_``, with the noise at which it is largest.
    states_std_ : list of array, shape (T_i, n)
        Standard deviations of ``states_``: those of a smoother.
    """

    if TYPE_CHECKING:
        model_: IdentifiedModel
        _flat: bool

        def predict(self, v: Any, y_init: Any = None) -> Any: ...

    def _make_posterior(self) -> StateSpacePosterior:
        problem = self.result_.problem
        assert isinstance(problem, IdentificationProblem)
        return StateSpacePosterior.of(problem, self.result_.trajectory)

    @property
    def noise_std_(self) -> Any:
        std = np.sqrt(self.posterior_.noise_variances) * self.model_.output_scaler.scale
        return float(std[0]) if self._flat else std

    @property
    def log_marginal_likelihood_(self) -> float:
        posterior = self.posterior_
        measured = np.count_nonzero(posterior.problem.weights, axis=(0, 1))
        return posterior.log_evidence() - float(measured @ np.log(self.model_.output_scaler.scale))

    @property
    def states_std_(self) -> list[Array]:
        return self.posterior_.state_deviations()

    def _deviations(self, v: Any, y_init: Any) -> Any:
        """Standard deviations of :meth:`predict`, of its shape, without noise."""
        several = as_records("v", v)
        first = as_records("y_init", y_init, len(several))
        found = [self._deviation(inputs, outputs) for inputs, outputs in zip(several, first, strict=True)]
        found = [of.ravel() if self._flat else of for of in found]
        return found if is_list(v) else found[0]

    def _deviation(self, v: Any, y_init: Any) -> Array:
        model = self.model_
        inputs = model.input_scaler.transform(checked_inputs("v", v, model.system.num_inputs))
        if y_init is None:
            _, deviations = self.posterior_.band(inputs, model.mean_initial_state, model.known)
        else:
            first = model.output_scaler.transform(checked_outputs("y_init", y_init, model.system.num_outputs))
            x0 = model.estimate_initial_state(v, y_init)
            _, deviations = self.posterior_.band(inputs, x0, model.known, first)
        return np.asarray(deviations * model.output_scaler.scale)

    def prediction_interval(self, v: Any, y_init: Any = None, coverage: float = 0.9) -> tuple[Any, Any]:
        """Ends of central intervals for new outputs along a free run, noise included: two of the shape of predictions.

        Parameters
        ----------
        v, y_init :
            As of ``predict``.
        coverage : float
            Share of new outputs that they are to hold, in (0, 1): what the Gaussian posterior says.

        Raises
        ------
        ValueError
            As ``predict``, for a coverage out of range, and where there is no posterior.
        """
        checks.check("coverage", coverage, checks.SHARE)
        runs, deviations = self.predict(v, y_init), self._deviations(v, y_init)
        reach = float(special.ndtri(0.5 + coverage / 2))
        if not is_list(v):
            width = reach * np.hypot(deviations, self.noise_std_)
            return runs - width, runs + width
        widths = [reach * np.hypot(of, self.noise_std_) for of in deviations]
        pairs = list(zip(runs, widths, strict=True))
        return [run - width for run, width in pairs], [run + width for run, width in pairs]
