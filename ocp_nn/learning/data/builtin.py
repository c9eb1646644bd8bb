"""Data sets that need no file: scikit-learn's diabetes, and synthetic ones whose truth is known.

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

import numpy as np
from numpy.typing import NDArray

from .dataset import DataError, Dataset

__all__ = ["BUILTIN", "describe_builtin", "load_builtin"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Builtin:
    """A named set: what it is, in a line, and the function that makes it."""

    description: str
    load: Callable[[], Dataset]


def _diabetes() -> Dataset:
    try:
        from sklearn.datasets import load_diabetes  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise DataError(
            "the diabetes set comes with scikit-learn, which is not installed: pip install 'ocp-nn[ml]'"
        ) from None
    data = load_diabetes(scaled=False)
    return Dataset(
        name="diabetes",
        x=np.asarray(data.data, dtype=float),
        y=np.asarray(data.target, dtype=float)[:, None],
        feature_names=tuple(data.feature_names),
        target_names=("progression",),
        units="score",
        source="Efron, Hastie, Johnstone and Tibshirani 2004, as shipped with scikit-learn",
    )


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
}


def describe_builtin() -> tuple[tuple[str, str], ...]:
    """Name and description of every set that needs no file."""
    return tuple((name, entry.description) for name, entry in BUILTIN.items())


def load_builtin(name: str) -> Dataset:
    """The built-in set of that name (a ``KeyError`` if there is none)."""
    return BUILTIN[name].load()
