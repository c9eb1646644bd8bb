"""From a data set to a training problem in standard units, and back to errors in the target's own.

    split -> standardise by the training part -> TrainingProblem -> controls -> predictions -> errors

The test part is used for one thing: the errors that are reported (:mod:`.metrics`).  Classes and counts are not scaled,
and classes are split so that either part has its share of each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..base import checks
from ..base.display import brief
from ..network.model import Model, column_range
from ..network.network import Network
from ..problem.losses import Huber, Loss, loss_named
from ..problem.training import TrainingProblem
from ..solvers.augmented_lagrangian.options import Options
from ..solvers.augmented_lagrangian.solve import solve
from .data import Dataset, Scaler, Split, random_split, stratified_split
from .metrics import MEASURES, judge, rmse

__all__ = ["Baseline", "Experiment", "constant_baseline", "constant_error", "linear_baseline", "rmse"]

Array = NDArray[np.float64]

# Median distance of a normal variable from its median, in standard deviations.
_NORMAL = 0.6745

# Where the best constant is infinite (a class or a count that the training part has not), this is as good.
_FAR = 800.0


@dataclass(frozen=True, eq=False)
class Experiment:
    """A data set, how it is split and scaled, and the network to fit.

    Attributes
    ----------
    dataset : Dataset
    split : Split
    network : Network
    x_scaler, y_scaler : Scaler
        Fitted on the training part: mean and standard deviation; for Huber's loss median and median distance from it,
        which outliers do not move; nothing for classes and counts.
    huber_delta : float
        Where Huber's loss, if the data set asks for it, becomes linear, in standard units of the targets.
    """

    dataset: Dataset
    split: Split
    network: Network
    x_scaler: Scaler
    y_scaler: Scaler
    huber_delta: float = Huber.delta

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
        huber_delta: float = Huber.delta,
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
        checks.check("huber_delta", huber_delta, checks.POSITIVE)
        network = Network.mlp([dataset.num_features, *hidden, dataset.num_targets], activation=activation)
        split = _random_split(dataset, test_size, seed) if split is None else split
        scalers = Scaler.fit(dataset.x[split.train]), _target_scaler(dataset.loss, dataset.y[split.train])
        scalers[0].transform(dataset.x[split.test])  # a value it cannot express is refused before anything is trained
        return cls(dataset, split, network, *scalers, float(huber_delta))

    @property
    def loss(self) -> Loss:
        """That of the data set, for targets in standard units."""
        name = self.dataset.loss
        return Huber(self.huber_delta) if name == "huber" else loss_named(name)

    @property
    def measure(self) -> str:
        """What fits are compared by, a key of :data:`.metrics.WORDS`; smaller is better."""
        return MEASURES[self.loss.name][0]

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
        return TrainingProblem(self.network, self.train_inputs, self.train_targets, weight_decay, loss=self.loss)

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
            link=self.loss.link,
            classes=self.dataset.classes,
        )

    def measured(self, part: str) -> Array:
        """Targets of the ``"train"`` or ``"test"`` part, in their own units."""
        return self.dataset.y[self._rows(part)]

    def predicted(self, controls: Sequence[Array], part: str) -> Array:
        """The network's predictions for a part, in the targets' own units; where it overflows they are not finite.

        Probabilities of classes, and rates of counts.
        """
        return self.model(controls).outputs(self.dataset.x[self._rows(part)])

    def errors(self, controls: Sequence[Array]) -> dict[str, float]:
        """The measures of the loss on both parts: ``train_rmse``, ``test_rmse``, or what fits the loss."""
        model = self.model(controls)
        return self.judged(lambda part: model.raw_outputs(self.dataset.x[self._rows(part)]))

    def judged(self, outputs: Callable[[str], Array]) -> dict[str, float]:
        """:meth:`errors` of linear predictors (predictions, where the link is the identity) of either part."""
        return {
            f"{part}_{name}": value
            for part in ("train", "test")
            for name, value in judge(self.loss, outputs(part), self.measured(part)).items()
        }

    def rmse(self, controls: Sequence[Array], part: str) -> float:
        """Root mean square error on a part, in the targets' own units."""
        return rmse(self.predicted(controls, part), self.measured(part))

    def _rows(self, part: str) -> NDArray[np.intp]:
        checks.check("part", part, checks.text("train", "test"))
        return self.split.train if part == "train" else self.split.test


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What a simpler model reaches.

    Attributes
    ----------
    name : str
    errors : dict
        The measures of the loss on both parts, as :meth:`Experiment.errors` names them.
    seconds : float
    """

    name: str
    errors: dict[str, float]
    seconds: float

    @property
    def train_rmse(self) -> float:
        return self.errors["train_rmse"]

    @property
    def test_rmse(self) -> float:
        return self.errors["test_rmse"]


_LINEAR = {
    "squared": "linear regression",
    "huber": "linear Huber regression",
    "logistic": "logistic regression",
    "softmax": "multinomial regression",
    "poisson": "Poisson regression",
}

# Weight decay of the linear models that are solved for: labels that a plane separates have no minimum without, and 1 is
# what logistic regression usually gets (C = 1); the others only need to be well-posed.
_LINEAR_DECAY = {"logistic": 1.0, "softmax": 1.0}
_LEAST_DECAY, _LINEAR_SECONDS = 1e-3, 30.0


def linear_baseline(experiment: Experiment) -> Baseline:
    """The linear model of the same kind on the same split: the floor that a network has to beat.

    Least squares with an intercept; for another loss a network without hidden layers, whose problem is convex.
    """
    start = time.perf_counter()
    name = experiment.loss.name
    errors = _least_squares(experiment) if name == "squared" else _linear_model(experiment)
    return Baseline(name=_LINEAR[name], errors=errors, seconds=time.perf_counter() - start)


def _least_squares(experiment: Experiment) -> dict[str, float]:
    inputs = _with_intercept(experiment.train_inputs)
    coefficients = np.linalg.lstsq(inputs, experiment.train_targets, rcond=None)[0]
    test_inputs = _with_intercept(experiment.x_scaler.transform(experiment.dataset.x[experiment.split.test]))
    with np.errstate(over="ignore", invalid="ignore"):  # test inputs may be anywhere; the error says where that led
        predicted = {"train": inputs @ coefficients, "test": test_inputs @ coefficients}
    return experiment.judged(lambda part: experiment.y_scaler.inverse(predicted[part]))


def _linear_model(experiment: Experiment) -> dict[str, float]:
    network = Network.mlp([experiment.network.num_inputs, experiment.network.num_outputs])
    linear = replace(experiment, network=network)
    problem = linear.problem(_LINEAR_DECAY.get(experiment.loss.name, _LEAST_DECAY))
    return linear.errors(solve(problem, options=Options(time_limit=_LINEAR_SECONDS)).trajectory.controls)


def constant_baseline(experiment: Experiment) -> Baseline:
    """The one output that is best for the training part: the mean, the frequencies of the classes."""
    start = time.perf_counter()
    targets = experiment.train_targets
    with np.errstate(divide="ignore"):
        best = experiment.loss.best_constant(targets, np.ones(len(targets)))
    outputs = experiment.y_scaler.inverse(np.nan_to_num(best[None], posinf=_FAR, neginf=-_FAR))
    if experiment.loss.name == "squared":
        outputs = experiment.y_scaler.mean[None]  # without rounding
    errors = experiment.judged(lambda part: np.tile(outputs, (len(experiment.measured(part)), 1)))
    return Baseline(name="best constant", errors=errors, seconds=time.perf_counter() - start)


def constant_error(experiment: Experiment, part: str) -> float:
    """Root mean square error of the mean of the training targets on a part."""
    return rmse(experiment.y_scaler.mean, experiment.measured(part))


def _random_split(dataset: Dataset, test_size: float, seed: int) -> Split:
    if dataset.classes:
        return stratified_split(dataset.labels, test_size, seed)
    return random_split(dataset.num_samples, test_size, seed)


def _target_scaler(loss: str, y: Array) -> Scaler:
    if loss_named(loss).link != "identity":
        return Scaler(np.zeros(y.shape[1]), np.ones(y.shape[1]))
    scaler = Scaler.fit(y)
    return _robust(y, scaler) if loss == "huber" else scaler


def _robust(y: Array, otherwise: Scaler) -> Scaler:
    """Median, and median distance from it over a normal variable's; the other scale where most targets are equal."""
    median = np.median(y, axis=0)
    distance = np.median(np.abs(y - median), axis=0) / _NORMAL
    return Scaler(median, np.where(distance > 0, distance, otherwise.scale))


def _with_intercept(inputs: Array) -> Array:
    return np.column_stack([inputs, np.ones(len(inputs))])
