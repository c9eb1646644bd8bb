"""The problems of the benchmark, one record each; adding one is adding a record.

``data`` is a name of :func:`ocp_nn.load_dataset`, ``uci/NAME`` for a folder of that shape, or ``waves/N`` for N samples
of a smooth function of five inputs.  Real and wave data are standardised on 90 % of the samples, which are trained on;
the deep networks train on all 100 samples of sin(2x) as they are.  Seeds vary the initial weights alone, so every
problem has one best known objective.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from ocp_nn import Network, TrainingProblem, load_dataset
from ocp_nn.learning.data import Dataset
from ocp_nn.learning.experiment import Experiment

__all__ = ["DATA", "PROBLEMS", "QUICK", "Problem", "select"]

# Where the UCI folders are looked for unless told otherwise.
DATA = Path(__file__).resolve().parents[3] / "shared/data/uci"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Data, a network and a weight decay; ``deep`` ones count as solved below a mean squared error."""

    name: str
    data: str
    hidden: tuple[int, ...]
    weight_decay: float
    activation: str = "tanh"
    deep: bool = False

    def is_available(self, folder: Path = DATA) -> bool:
        """Whether its data are there."""
        return not self.data.startswith("uci/") or (folder / self.data[4:] / "data.txt").is_file()

    def experiment(self, folder: Path = DATA) -> Experiment | None:
        """Split and scalers; None where all samples are trained on as they are."""
        if self.data == "sin2x":
            return None
        return Experiment.prepare(_dataset(self.data, folder), self.hidden, activation=self.activation)

    def training(self, folder: Path = DATA) -> TrainingProblem:
        """The training problem."""
        experiment = self.experiment(folder)
        if experiment is not None:
            return experiment.problem(self.weight_decay)
        data = load_dataset(self.data)
        network = Network.mlp([data.num_features, *self.hidden, data.num_targets], self.activation)
        return TrainingProblem(network, data.x, data.y, self.weight_decay)


@cache
def _dataset(data: str, folder: Path) -> Dataset:
    kind, _, rest = data.partition("/")
    if kind == "waves":
        return waves(int(rest))
    return load_dataset(folder / rest if kind == "uci" else data)


def waves(num_samples: int) -> Dataset:
    """y = sin(2 x_1) + x_2 cos(x_3) + x_4 x_5 / 2 + 0.1 e, standard normal inputs."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((num_samples, 5))
    truth = np.sin(2 * x[:, :1]) + x[:, 1:2] * np.cos(x[:, 2:3]) + 0.5 * x[:, 3:4] * x[:, 4:]
    names = tuple(f"x{j + 1}" for j in range(5))
    return Dataset(
        name="waves",
        x=x,
        y=truth + 0.1 * rng.standard_normal(truth.shape),
        feature_names=names,
        target_names=("y",),
        source="synthetic",
    )


def _deep(activation: str, depth: int, width: int) -> Problem:
    return Problem(
        name=f"{activation} {depth}x{width}",
        data="sin2x",
        hidden=(width,) * depth,
        weight_decay=1e-3,
        activation=activation,
        deep=True,
    )


# The first twelve are those the project is judged by.
PROBLEMS = (
    Problem(name="diabetes", data="diabetes", hidden=(20, 20), weight_decay=1.0),
    Problem(name="yacht", data="uci/yacht", hidden=(20, 20), weight_decay=0.1),
    Problem(name="energy", data="uci/energy", hidden=(20, 20), weight_decay=0.1),
    Problem(name="bostonHousing", data="uci/bostonHousing", hidden=(20, 20), weight_decay=1.0),
    Problem(name="power-plant", data="uci/power-plant", hidden=(20, 20), weight_decay=1.0),
    Problem(name="sin2x 4x10", data="sin2x", hidden=(10,) * 4, weight_decay=1e-3),
    _deep("sigmoid", 10, 5),
    _deep("sigmoid", 20, 5),
    _deep("sigmoid", 40, 5),
    _deep("relu", 20, 8),
    _deep("relu", 30, 8),
    _deep("tanh", 30, 5),
    _deep("tanh", 50, 8),
    Problem(name="wide 1x100", data="friedman", hidden=(100,), weight_decay=1.0),
    Problem(name="large N 1x20", data="waves/20000", hidden=(20,), weight_decay=1.0),
)
QUICK = ("sin2x 4x10", "sigmoid 10x5")


def select(names: list[str] | None, folder: Path = DATA) -> tuple[list[Problem], list[str]]:
    """The problems of these names (None: all), and a note for each whose data are absent.

    Raises
    ------
    ValueError
        For a name that is not in :data:`PROBLEMS`.
    """
    known = {problem.name: problem for problem in PROBLEMS}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ValueError(f"unknown problems {unknown}: expected some of {', '.join(known)}")
    wanted = [known[name] for name in names or known]
    notes = [f"{p.name}: skipped, {folder / p.data[4:]} is absent" for p in wanted if not p.is_available(folder)]
    return [p for p in wanted if p.is_available(folder)], notes
