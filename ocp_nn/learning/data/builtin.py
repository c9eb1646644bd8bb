"""Data sets that need no file: some of scikit-learn's, and synthetic ones whose truth is known.

The synthetic sets are drawn with a fixed seed, so that a name stands for the same numbers everywhere:

* ``sin2x``: y = sin(2x) + 0.05 e, 100 samples of x uniform on [-3, 3]; the deep-network suite trains on it.
* ``linear``: y = 1 + <w, x> + 0.1 e with three standard normal inputs; nothing beats least squares here
  by more than luck.
* ``friedman``: y = 10 sin(pi x1 x2) + 20 (x3 - 1/2)^2 + 10 x4 + 5 x5 + e with ten uniform inputs, five of them
  irrelevant (Friedman, Multivariate adaptive regression splines, Annals of Statistics 19, 1991, equation 61).
* ``arm``: forward kinematics of a planar arm with two links: two angles to the two coordinates of its
  tip; no noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dataset import DataError, Dataset
from .labels import labelled

__all__ = ["BUILTIN", "describe_builtin", "load_builtin"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Builtin:
    """A named set: what it is, in a line, and the function that makes it."""

    description: str
    load: Callable[[], Dataset]
    loss: str = "squared"


def _sklearn(name: str, **options: Any) -> Any:
    try:
        datasets = import_module("sklearn.datasets")
    except ImportError:
        raise DataError(
            f"the {name} set comes with scikit-learn, which is not installed: pip install 'ocp-nn[ml]'"
        ) from None
    return getattr(datasets, f"load_{name}")(**options)


def _diabetes() -> Dataset:
    data = _sklearn("diabetes", scaled=False)
    return Dataset(
        name="diabetes",
        x=np.asarray(data.data, dtype=float),
        y=np.asarray(data.target, dtype=float)[:, None],
        feature_names=tuple(data.feature_names),
        target_names=("progression",),
        units="score",
        source="Efron, Hastie, Johnstone and Tibshirani 2004, as shipped with scikit-learn",
    )


def _classes(name: str, column: str, source: str) -> Dataset:
    """One of scikit-learn's sets of classes, without the inputs that are constant."""
    data = _sklearn(name)
    x = np.asarray(data.data, dtype=float)
    varies = x.min(axis=0) < x.max(axis=0)
    dataset = Dataset(
        name=name,
        x=np.ascontiguousarray(x[:, varies]),
        y=np.asarray(data.target, dtype=float)[:, None],
        feature_names=tuple(str(feature) for feature, kept in zip(data.feature_names, varies, strict=True) if kept),
        target_names=(column,),
        source=f"{source}, as shipped with scikit-learn",
    )
    names = data.target_names.tolist()
    return labelled(dataset, column, [names[number] for number in data.target])


def _synthetic(name: str, x: Array, truth: Array, noise: Array, source: str) -> Dataset:
    targets = ("y",) if truth.shape[1] == 1 else tuple(f"y{j + 1}" for j in range(truth.shape[1]))
    features = ("x",) if x.shape[1] == 1 else tuple(f"x{j + 1}" for j in range(x.shape[1]))
    return Dataset(
        name=name, x=x, y=truth + noise, feature_names=features, target_names=targets, source=source, truth=truth
    )


def _sin2x() -> Dataset:
    rng = np.random.default_rng(0)
    x = rng.uniform(-3.0, 3.0, (100, 1))
    return _synthetic("sin2x", x, np.sin(2 * x), 0.05 * rng.standard_normal(x.shape), "synthetic: sin(2x) + 0.05 e")


def _linear() -> Dataset:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 3))
    truth = 1.0 + x @ np.array([[1.0], [-2.0], [0.5]])
    return _synthetic("linear", x, truth, 0.1 * rng.standard_normal(truth.shape), "synthetic: affine + 0.1 e")


def _friedman() -> Dataset:
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(500, 10))
    truth = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    return _synthetic(
        "friedman", x, truth[:, None], rng.standard_normal((500, 1)), "synthetic: Friedman 1991, equation 61"
    )


def _arm() -> Dataset:
    rng = np.random.default_rng(0)
    angles = rng.uniform([-np.pi / 2, 0.0], [np.pi / 2, np.pi], (300, 2))
    first, both = angles[:, :1], angles.sum(axis=1, keepdims=True)
    tip = np.hstack([np.cos(first) + 0.7 * np.cos(both), np.sin(first) + 0.7 * np.sin(both)])
    return _synthetic("arm", angles, tip, np.zeros_like(tip), "synthetic: two-link planar arm, links 1 and 0.7")


BUILTIN: dict[str, Builtin] = {
    "diabetes": Builtin(
        "442 patients, 10 measurements; disease progression a year later (needs scikit-learn)", _diabetes
    ),
    "sin2x": Builtin("100 samples of sin(2x) + noise of deviation 0.05 on [-3, 3]", _sin2x),
    "linear": Builtin("200 samples of an affine function of 3 inputs + noise of deviation 0.1", _linear),
    "friedman": Builtin(
        "500 samples of Friedman's function of 10 inputs, 5 irrelevant, + noise of deviation 1", _friedman
    ),
    "arm": Builtin("300 noise-free tips of a two-link arm: 2 angles to 2 coordinates", _arm),
    "iris": Builtin(
        "150 irises, 4 measurements, 3 species (needs scikit-learn)",
        lambda: _classes("iris", "species", "Fisher 1936"),
        "softmax",
    ),
    "wine": Builtin(
        "178 wines, 13 measurements, 3 cultivars (needs scikit-learn)",
        lambda: _classes("wine", "cultivar", "Forina et al. 1991"),
        "softmax",
    ),
    "breast_cancer": Builtin(
        "569 tumours, 30 measurements, benign or malignant (needs scikit-learn)",
        lambda: _classes("breast_cancer", "diagnosis", "Wolberg, Street and Mangasarian 1995"),
        "logistic",
    ),
    "digits": Builtin(
        "1797 handwritten digits of 8 x 8 pixels, 61 of which vary (needs scikit-learn)",
        lambda: _classes("digits", "digit", "Alpaydin and Kaynak 1998"),
        "softmax",
    ),
}


def describe_builtin() -> tuple[tuple[str, str], ...]:
    """Name and description of every set that needs no file."""
    return tuple((name, entry.description) for name, entry in BUILTIN.items())


def load_builtin(name: str) -> Dataset:
    """The built-in set of that name (a ``KeyError`` if there is none)."""
    return BUILTIN[name].load()
