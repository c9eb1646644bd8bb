"""A trained network with the units of its data: what predicts, is saved and is exported.

    y = y_mean + y_scale * network((x - x_mean) / x_scale)

entry by entry, x and y being in the data's own units.  A classifier's or a count model's outputs are linear predictors,
and what it predicts are probabilities or rates: y = inverse link(network(...)) (:mod:`.links`).

A network says nothing about inputs unlike those it was trained on, and says it with the same confidence.  The model
therefore knows the range of every feature in the training data, and :meth:`Model.predict` warns, once, about rows that
lie *far outside*: beyond the range of a feature by more than the width of that range.  (Where a feature was constant
every other value is far outside.)
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import checks, display
from .links import Label, check_classes, link_named
from .network import Network
from .scaling import Scaler

__all__ = ["ExtrapolationWarning", "Model", "column_range"]

Array = NDArray[np.float64]

# Far outside is further from the training range than this many of its widths.
FAR = 1.0

# Of the largest value: a constant feature may differ by its rounding.
_ROUNDING = 10 * np.finfo(float).eps


class ExtrapolationWarning(UserWarning):
    """Some inputs lie far outside the training data."""


@dataclass(frozen=True, eq=False, init=False)
class Model:
    """Network, controls, and the affine maps between the network's units and those of the data.

    Parameters
    ----------
    network : Network
    controls : sequence of K arrays
    x_scaler, y_scaler : Scaler, optional
        Without one, the network is trained in the data's own units.
    x_range : array_like, shape (2, inputs), optional
        The lowest and the highest value of every input in the training data, in the data's own units.
    features, targets : sequence of str, optional
        Names of the inputs and of the outputs; without targets, outputs with classes have the names of these.
    link : str
        What the outputs mean: "identity"; "logistic", log odds of 1 in every output; "softmax", log probabilities of
        the classes up to a constant; "log", logarithms of rates.
    classes : sequence of str, int or float, optional
        The classes in order: two for one logistic output (the second is that of 1), one for every softmax output.

    Raises
    ------
    ValueError
        If controls, scalers, ranges, names or classes do not fit the network, the link is unknown, or targets are
        scaled although the link is another than the identity.
    """

    network: Network
    controls: tuple[Array, ...]
    x_scaler: Scaler
    y_scaler: Scaler
    x_range: Array | None
    features: tuple[str, ...]
    targets: tuple[str, ...]
    link: str
    classes: tuple[Label, ...]

    def __init__(
        self,
        network: Network,
        controls: Sequence[Array],
        *,
        x_scaler: Scaler | None = None,
        y_scaler: Scaler | None = None,
        x_range: ArrayLike | None = None,
        features: Sequence[str] = (),
        targets: Sequence[str] = (),
        link: str = "identity",
        classes: Sequence[Label] = (),
    ) -> None:
        checks.check("network", network, checks.instance(Network, "an ocp_nn.Network"))
        put = object.__setattr__
        put(self, "network", network)
        put(self, "controls", network.check_controls(controls))
        put(self, "x_scaler", _checked_scaler("x_scaler", x_scaler, network.num_inputs))
        put(self, "y_scaler", _checked_scaler("y_scaler", y_scaler, network.num_outputs))
        put(self, "x_range", _checked_range(x_range, network.num_inputs))
        put(self, "features", _checked_names("features", features, network.num_inputs, "x"))
        put(self, "link", link_named(link).name)
        put(self, "classes", check_classes(classes, link, network.num_outputs))
        _check_unscaled(self.y_scaler, link)
        if isinstance(targets, Sequence) and not targets:
            targets = _names_of_outputs(self.classes, network.num_outputs)
        put(self, "targets", _checked_names("targets", targets, network.num_outputs, "y"))

    def __repr__(self) -> str:
        inputs, outputs = (display.names(names) for names in (self.features, self.targets))
        link = "" if self.link == "identity" else f", {self.link}"
        return f"Model({self.network!r}, {inputs} -> {outputs}{link})"

    @property
    def layer_controls(self) -> tuple[Array, ...]:
        """The control of every layer, those of a shared block repeated."""
        return self.network.of_layers(self.controls)

    def predict(self, x: ArrayLike) -> Array:
        """Outputs for a batch in the data's own units: (N, inputs) -> (N, outputs).

        Under a link these are probabilities or rates.  One logistic output is the probability of the second class.

        Warns
        -----
        ExtrapolationWarning
            The first time that rows lie far outside the training data (:meth:`extrapolation` says so every time).

        Raises
        ------
        ValueError
            If x is not of shape (N, inputs), or not of finite real numbers, or the prediction is no finite number.
        """
        predicted = self._respond(self.predict_raw(x))
        _check_finite(predicted)
        return predicted

    def classify(self, x: ArrayLike) -> NDArray[Any]:
        """The most probable class of every sample: (N, inputs) -> labels (N,); the first of those that tie.

        Warns
        -----
        ExtrapolationWarning
            As :meth:`predict`.

        Raises
        ------
        ValueError
            As :meth:`predict`, and for a model without classes.
        """
        if not self.classes:
            raise ValueError(f"classify needs a model with classes, received one without, of the link {self.link!r}")
        raw = self.predict_raw(x)
        return np.array(self.classes)[raw.argmax(axis=1) if raw.shape[1] > 1 else (raw[:, 0] > 0).astype(int)]

    def outputs(self, x: ArrayLike) -> Array:
        """:meth:`predict` without warning and check: where arithmetic overflows, what comes out is not finite."""
        return self._respond(self.raw_outputs(x))

    def raw_outputs(self, x: ArrayLike) -> Array:
        """The linear predictor (log odds, log rates; without a link the outputs), (N, outputs); as :meth:`outputs`."""
        with np.errstate(over="ignore", invalid="ignore"):
            return self.y_scaler.inverse(self.network.predict(self.controls, self.x_scaler.transform(x)))

    def predict_raw(self, x: ArrayLike) -> Array:
        """:meth:`raw_outputs`, with the warnings and errors of :meth:`predict`, said to the caller of the caller."""
        x = checks.table("x", x, self.network.num_inputs)
        raw = self.raw_outputs(x)
        if not hasattr(self, "_has_warned") and (sentence := self.extrapolation(x)):
            warnings.warn(sentence, ExtrapolationWarning, stacklevel=3)
            object.__setattr__(self, "_has_warned", True)
        _check_finite(raw)
        return raw

    def _respond(self, raw: Array) -> Array:
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            return link_named(self.link).value(raw)

    def extrapolation(self, x: ArrayLike) -> str:
        """A sentence on the rows of x, (N, inputs), far outside the training data; empty where there are none."""
        if self.x_range is None:
            return ""
        x, (low, high) = checks.table("x", x, self.network.num_inputs), self.x_range
        with np.errstate(over="ignore", invalid="ignore"):
            margin = FAR * (high - low) + _ROUNDING * np.maximum(np.abs(low), np.abs(high))
            beyond = np.maximum(low - x, x - high) / np.maximum(margin, np.finfo(float).tiny)
        far = beyond > 1.0
        if not far.any():
            return ""
        sample, feature = np.unravel_index(np.argmax(np.where(far, beyond, 0.0)), far.shape)
        return (
            f"{far.any(axis=1).sum()} of {len(x)} samples lie far outside the training data, where nothing was "
            f"learned: {self.features[feature]!r} is {x[sample, feature]:g} in sample {sample + 1}, and was "
            f"{low[feature]:g} to {high[feature]:g} in training"
        )


def _check_finite(predicted: Array) -> None:
    lost = ~np.isfinite(predicted).all(axis=1)
    if lost.any():
        raise ValueError(
            f"the prediction for sample {int(lost.argmax()) + 1} is no finite number: its inputs lie too far outside "
            "the training data, or the weights are not finite"
        )


def _check_unscaled(y_scaler: Scaler, link: str) -> None:
    if link != "identity" and not ((y_scaler.mean == 0).all() and (y_scaler.scale == 1).all()):
        raise ValueError(
            f"y_scaler must be the identity where the link is {link!r}, received mean {checks.shown(y_scaler.mean)} "
            f"and scale {checks.shown(y_scaler.scale)}: probabilities and counts are not standardised"
        )


def _names_of_outputs(classes: Sequence[Label], outputs: int) -> tuple[str, ...]:
    """A softmax output is that of its class, a logistic one that of the second."""
    return tuple(map(str, classes[-outputs:]))


def column_range(table: Array) -> Array:
    """The lowest and the highest value of every column, (2, columns)."""
    return np.stack([table.min(axis=0), table.max(axis=0)])


def _checked_scaler(name: str, scaler: Scaler | None, columns: int) -> Scaler:
    if scaler is None:
        return Scaler(np.zeros(columns), np.ones(columns))
    checks.check(name, scaler, checks.instance(Scaler, "an ocp_nn.learning.data.Scaler or None"))
    if np.shape(scaler.mean) != (columns,) or np.shape(scaler.scale) != (columns,):
        raise ValueError(f"{name} must scale {columns} column(s), received {np.shape(scaler.mean)}")
    return scaler


def _checked_range(x_range: ArrayLike | None, columns: int) -> Array | None:
    if x_range is None:
        return None
    checked = checks.real_array("x_range", x_range)
    if checked.shape != (2, columns) or not (np.isfinite(checked).all() and (checked[0] <= checked[1]).all()):
        raise ValueError(
            f"x_range must be the lowest and the highest value of each of {columns} input(s), received "
            f"{checks.shown(x_range)}"
        )
    return checked


def _checked_names(what: str, names: Sequence[str], columns: int, stem: str) -> tuple[str, ...]:
    checks.check(what, names, checks.sequence(checks.instance(str, "a name"), "a sequence of names"))
    names = tuple(str(name) for name in names) or tuple(f"{stem}{j}" for j in range(columns))
    if len(names) != columns:
        raise ValueError(f"{what}: expected {columns} name(s), received {len(names)}")
    return names
