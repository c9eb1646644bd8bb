"""Classification: held-out log loss beside scikit-learn's, times on one objective, and a deep classifier.

The data are scikit-learn's own; nothing is downloaded.  Within a training part inputs are standardised by it, and the
weight decay of every method is chosen by the same search: the same candidates from the largest down, the same held-out
parts, drawn class by class, and the same rule (:func:`ocp_nn.learning.selection.choose_weight_decay`).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from deep_suite import adam
from threadpoolctl import threadpool_limits

from ocp_nn import ExtrapolationWarning, Network, OverfittingWarning, Scaler, TrainingProblem
from ocp_nn.learning import selection

from . import measures
from .peers import OURS, Peer, _stepped, missing, preload, select

__all__ = ["DEEP", "SETS", "TIMED", "ClassProblem", "Part", "deep_runs", "measure_fold", "timed_runs"]

SETS = ("iris", "wine", "breast_cancer", "digits")
HIDDEN = (20,)
# How often samples are held out for the choice: digits takes most of the time, and one part of 250 says enough.
REPEATS = {"digits": 1}
SOLVERS = ("lbfgs", "adam")
# More than either takes: their own criteria end them.
EPOCHS = {"lbfgs": 5000, "adam": 2000}


def load(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs in their own units and labels 0, 1, ..."""
    from sklearn import datasets

    if name == "moons":
        return tuple(datasets.make_moons(200, noise=0.15, random_state=0))
    return tuple(getattr(datasets, f"load_{name}")(return_X_y=True))


def targets_of(labels: np.ndarray) -> tuple[np.ndarray, str]:
    """Targets of the network and the loss that takes them."""
    classes = int(labels.max()) + 1
    return (labels[:, None].astype(float), "logistic") if classes == 2 else (np.eye(classes)[labels], "softmax")


# ---- held-out log loss


@dataclass(frozen=True, eq=False)
class Part:
    """One fold: standardised training and test inputs, and their labels."""

    x: np.ndarray
    labels: np.ndarray
    test_x: np.ndarray
    test_labels: np.ndarray

    @classmethod
    def of(cls, name: str, fold: int, folds: int) -> Part:
        from sklearn.model_selection import StratifiedKFold

        x, labels = load(name)
        splits = StratifiedKFold(folds, shuffle=True, random_state=0).split(x, labels)
        train, test = list(splits)[fold]
        scaler = Scaler.fit(x[train])
        return cls(scaler.transform(x[train]), labels[train], scaler.transform(x[test]), labels[test])


def measure_fold(name: str, fold: int, folds: int, *, quick: bool = False) -> list[dict[str, Any]]:
    """Every method on one fold; processor seconds on one BLAS thread."""
    part = Part.of(name, fold, folds)
    candidates = (3.0, 0.3) if quick else selection.WEIGHT_DECAYS[:9]  # down to 0.01
    repeats = 1 if quick else REPEATS.get(name, selection.REPEATS)
    rows = []
    with threadpool_limits(1):
        for method, fit in METHODS.items():
            began = time.process_time()
            decay, chosen, model = fit(part, candidates, repeats, fold)
            ended = time.process_time()
            rows.append(
                {"dataset": name, "fold": fold, "method": method, "weight_decay": decay, **_judged(model, part),
                 "seconds": ended - began, "fit_seconds": ended - chosen}
            )  # fmt: skip
    return rows


def _judged(model: Any, part: Part) -> dict[str, float]:
    from sklearn.metrics import log_loss

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExtrapolationWarning)  # a pixel that is never dark but in the test part
        probabilities = model.predict_proba(part.test_x)
    return {
        "log_loss": float(log_loss(part.test_labels, probabilities, labels=model.classes_)),
        "accuracy": float(np.mean(model.classes_[probabilities.argmax(axis=1)] == part.test_labels)),
    }


def _fit_ours(part: Part, candidates: tuple[float, ...], repeats: int, seed: int) -> tuple[float, float, Any]:
    from ocp_nn import OCPClassifier

    y, loss = targets_of(part.labels)
    network = Network.mlp([part.x.shape[1], *HIDDEN, y.shape[1]])
    choice = selection.choose_weight_decay(network, part.x, y, candidates, seed=seed, repeats=repeats, loss=loss)
    chosen = time.process_time()
    model = OCPClassifier(HIDDEN, weight_decay=choice.weight_decay, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OverfittingWarning)  # held-out samples have judged
        return choice.weight_decay, chosen, model.fit(part.x, part.labels)


def _fit_sklearn(
    solver: str, part: Part, candidates: tuple[float, ...], repeats: int, seed: int
) -> tuple[float, float, Any]:
    """Its alpha beside the sum of the losses is our weight decay, biases left out of it."""
    from sklearn.neural_network import MLPClassifier

    def fitted(rows: Any, alpha: float) -> Any:
        model = MLPClassifier(
            HIDDEN, activation="tanh", solver=solver, alpha=alpha, max_iter=EPOCHS[solver], random_state=seed
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return model.fit(part.x[rows], part.labels[rows])

    y, loss = targets_of(part.labels)
    problem = TrainingProblem(Network.mlp([part.x.shape[1], *HIDDEN, y.shape[1]]), part.x, y, 1.0, loss=loss)
    splits = [selection._held_out_split(problem, seed + repeat) for repeat in range(repeats)]
    tried: dict[float, float] = {}
    for alpha in sorted(candidates, reverse=True):
        losses = [_log_losses(fitted(split.train, alpha), part, split.test) for split in splits]
        tried[alpha] = float(np.mean(np.concatenate(losses)))
        if selection._is_rising(list(tried.values())):
            break
    alpha = selection._largest_as_good(tried)
    chosen = time.process_time()
    return alpha, chosen, fitted(slice(None), alpha)


def _log_losses(model: Any, part: Part, rows: Any) -> np.ndarray:
    probabilities = model.predict_proba(part.x[rows])
    true = probabilities[np.arange(len(probabilities)), np.searchsorted(model.classes_, part.labels[rows])]
    return np.asarray(-np.log(np.maximum(true, np.finfo(float).eps)))


Fit = Callable[[Part, tuple[float, ...], int, int], tuple[float, float, Any]]
METHODS: dict[str, Fit] = {OURS: _fit_ours} | {f"MLPClassifier {s}": partial(_fit_sklearn, s) for s in SOLVERS}


# ---- one objective, from the same weights


@dataclass(frozen=True, kw_only=True)
class ClassProblem:
    """All samples of a set, standardised; what :func:`.measures.run` takes."""

    name: str
    data: str
    hidden: tuple[int, ...] = HIDDEN
    activation: str = "tanh"
    weight_decay: float = 1.0

    def training(self, folder: Any = None) -> TrainingProblem:
        x, labels = load(self.data)
        y, loss = targets_of(labels)
        network = Network.mlp([x.shape[1], *self.hidden, y.shape[1]], activation=self.activation)
        return TrainingProblem(network, Scaler.fit(x).transform(x), y, self.weight_decay, loss=loss)

    def experiment(self, folder: Any = None) -> None:
        """None: there is no test part."""


TIMED = tuple(ClassProblem(name=name, data=name, weight_decay=0.3 if name == "iris" else 1.0) for name in SETS)
TIMED_PEERS = (OURS, "single-shooting LM", "SciPy L-BFGS", "scikit-learn L-BFGS", "PyTorch L-BFGS", "PyTorch Adam")

DEEP = tuple(
    ClassProblem(
        name=f"{name}, sigmoid 10x5", data=name, hidden=(5,) * 10, activation="sigmoid", weight_decay=1e-3
    )
    for name in ("moons", "iris")
)  # fmt: skip
DEEP_PEERS = (
    *select([OURS, "single-shooting LM", "SciPy L-BFGS"]),
    *(Peer(name=f"Adam {rate:g}", run=partial(_stepped, adam(rate), "standard")) for rate in (1e-2, 3e-3, 1e-3)),
)


def timed_runs(problem: ClassProblem, seed: int, limit: float) -> tuple[list[dict[str, Any]], list[str]]:
    """Every peer from one seed's weights, and notes on those that are not installed."""
    some = select(list(TIMED_PEERS))
    notes = [f"{peer.name}: skipped, {', '.join(missing(peer))} not installed" for peer in some if missing(peer)]
    some = [peer for peer in some if not missing(peer)]
    preload(some)
    return [_run(problem, peer, seed, limit) for peer in some], notes


def deep_runs(problem: ClassProblem, seed: int, limit: float) -> list[dict[str, Any]]:
    """Our solver and three single-shooting methods; ``null`` is the loss of the classes' frequencies."""
    null = problem.training().null_objective
    return [_run(problem, peer, seed, limit) | {"null": null} for peer in DEEP_PEERS]


def _run(problem: Any, peer: Peer, seed: int, limit: float) -> dict[str, Any]:
    outcome = measures.run(problem, peer, seed, limit, None)
    kept = ("problem", "peer", "family", "seed", "status", "objective", "seconds", "stationarity", "certified", "trace")
    return {name: getattr(outcome, name) for name in kept}
