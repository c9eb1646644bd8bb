"""From a data set to a training problem in standard units, and back to errors in the target's own.

    split -> standardise by the training part -> TrainingProblem -> controls -> predictions -> RMSE

The test part is used for one thing: the RMSE that is reported.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..base import checks
from ..base.display import brief
from ..network.model import Model, column_range
from ..network.network import Network
from ..problem.training import TrainingProblem
from .data import Dataset, Scaler, Split, random_split

__all__ = ["Baseline", "Experiment", "constant_error", "linear_baseline", "rmse"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Experiment:
    """A data set, how it is split and scaled, and the network to fit.

    Attributes
    ----------
    dataset : Dataset
    split : Split
    network : Network
    x_scaler, y_scaler : Scaler
        Fitted on the training part.
    """

    dataset: Dataset
    split: Split
    network: Network
    x_scaler: Scaler
    y_scaler: Scaler

    __repr__ = brief

    @classmethod
    def prepare(
        cls,
        dataset: Dataset,
        hidden: Sequence[int] = (20, 20),
        *,
        activation: str = "tanh",
        split: Split | None = None,
        test_size: float = 0.1,
        seed: int = 0,
    ) -> Experiment:
        """Split (unless a split is given), scale and build the network.

        Raises
        ------
        DataError
            For a test size that leaves a part empty.
        ValueError
            For an unknown activation, non-positive widths, or test inputs that standard units cannot express.
        """
        checks.check("dataset", dataset, checks.instance(Dataset, "an ocp_nn.Dataset"))
        checks.check("hidden", hidden, checks.WIDTHS)
        network = Network.mlp([dataset.num_features, *hidden, dataset.num_targets], activation=activation)
        split = random_split(dataset.num_samples, test_size, seed) if split is None else split
        scalers = Scaler.fit(dataset.x[split.train]), Scaler.fit(dataset.y[split.train])
        scalers[0].transform(dataset.x[split.test])  # a value it cannot express is refused before anything is trained
        return cls(dataset, split, network, *scalers)

    @property
    def train_inputs(self) -> Array:
        """Inputs of the training part, standardised."""
        return self.x_scaler.transform(self.dataset.x[self.split.train])

    @property
    def train_targets(self) -> Array:
        """Targets of the training part, standardised."""
        return self.y_scaler.transform(self.dataset.y[self.split.train])

    def problem(self, weight_decay: float) -> TrainingProblem:
        """The training problem, in standard units."""
        return TrainingProblem(self.network, self.train_inputs, self.train_targets, weight_decay)

    def model(self, controls: Sequence[Array]) -> Model:
        """The network with these controls, in the data's own units and with its names and units."""
        return Model(
            self.network,
            controls,
            x_scaler=self.x_scaler,
            y_scaler=self.y_scaler,
            x_range=column_range(self.dataset.x[self.split.train]),
            features=self.dataset.feature_labels,
            targets=self.dataset.target_labels,
        )

    def measured(self, part: str) -> Array:
        """Targets of the ``"train"`` or ``"test"`` part, in their own units."""
        return self.dataset.y[self._rows(part)]

    def predicted(self, controls: Sequence[Array], part: str) -> Array:
        """The network's predictions for a part, in the targets' own units; where it overflows they are not finite."""
        return self.model(controls).outputs(self.dataset.x[self._rows(part)])

    def rmse(self, controls: Sequence[Array], part: str) -> float:
        """Root mean square error on a part, in the targets' own units."""
        return rmse(self.predicted(controls, part), self.measured(part))

    def _rows(self, part: str) -> NDArray[np.intp]:
        checks.check("part", part, checks.text("train", "test"))
        return self.split.train if part == "train" else self.split.test


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What least squares with an intercept reaches."""

    train_rmse: float
    test_rmse: float
    seconds: float


def linear_baseline(experiment: Experiment) -> Baseline:
    """Linear regression on the same split: the floor that a network has to beat."""
    start = time.perf_counter()
    inputs = _with_intercept(experiment.train_inputs)
    coefficients = np.linalg.lstsq(inputs, experiment.train_targets, rcond=None)[0]
    seconds = time.perf_counter() - start
    test_inputs = _with_intercept(experiment.x_scaler.transform(experiment.dataset.x[experiment.split.test]))
    with np.errstate(over="ignore", invalid="ignore"):  # test inputs may be anywhere; the error says where that led
        predicted = {"train": inputs @ coefficients, "test": test_inputs @ coefficients}
    errors = {part: rmse(experiment.y_scaler.inverse(y), experiment.measured(part)) for part, y in predicted.items()}
    return Baseline(train_rmse=errors["train"], test_rmse=errors["test"], seconds=seconds)


def constant_error(experiment: Experiment, part: str) -> float:
    """Root mean square error of the mean of the training targets on a part."""
    return rmse(experiment.y_scaler.mean, experiment.measured(part))


def _with_intercept(inputs: Array) -> Array:
    return np.column_stack([inputs, np.ones(len(inputs))])


def rmse(predicted: Array, measured: Array) -> float:
    """Root mean square difference over all samples and outputs; infinite or NaN only where a difference is."""
    with np.errstate(over="ignore", invalid="ignore"):
        difference = predicted - measured
    largest = np.abs(difference).max()
    if not np.isfinite(largest):
        return float(largest)
    exponent = np.frexp(largest)[1]  # a power of two is exact: the squares of any differences can be summed
    return float(np.ldexp(np.sqrt(np.mean(np.ldexp(difference, -exponent) ** 2)), exponent))
