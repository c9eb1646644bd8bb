"""A trained network with the units of its data: what predicts, is saved and is exported.

    y = y_mean + y_scale * network((x - x_mean) / x_scale)

entry by entry, x and y being in the data's own units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import checks, display
from .data.scaling import Scaler
from .network import Network

__all__ = ["Model"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, init=False)
class Model:
    """Network, controls, and the affine maps between the network's units and those of the data.

    Parameters
    ----------
    network : Network
    controls : sequence of K arrays
    x_scaler, y_scaler : Scaler, optional
        Without one, the network is trained in the data's own units.
    features, targets : sequence of str, optional
        Names of the inputs and of the outputs.

    Raises
    ------
    ValueError
        If controls, scalers or names do not fit the network.
    """

    network: Network
    controls: tuple[Array, ...]
    x_scaler: Scaler
    y_scaler: Scaler
    features: tuple[str, ...]
    targets: tuple[str, ...]

    def __init__(
        self,
        network: Network,
        controls: Sequence[Array],
        *,
        x_scaler: Scaler | None = None,
        y_scaler: Scaler | None = None,
        features: Sequence[str] = (),
        targets: Sequence[str] = (),
    ) -> None:
        checks.check("network", network, checks.instance(Network, "an ocp_nn.Network"))
        put = object.__setattr__
        put(self, "network", network)
        put(self, "controls", network.check_controls(controls))
        put(self, "x_scaler", _checked_scaler("x_scaler", x_scaler, network.num_inputs))
        put(self, "y_scaler", _checked_scaler("y_scaler", y_scaler, network.num_outputs))
        put(self, "features", _checked_names("features", features, network.num_inputs, "x"))
        put(self, "targets", _checked_names("targets", targets, network.num_outputs, "y"))

    def __repr__(self) -> str:
        inputs, outputs = (display.names(names) for names in (self.features, self.targets))
        return f"Model({self.network!r}, {inputs} -> {outputs})"

    def predict(self, x: ArrayLike) -> Array:
        """Outputs for a batch in the data's own units: (N, inputs) -> (N, outputs).

        Raises
        ------
        ValueError
            If x is not of shape (N, inputs), or not of finite real numbers.
        """
        x = checks.table("x", x, self.network.num_inputs)
        return self.y_scaler.inverse(self.network.predict(self.controls, self.x_scaler.transform(x)))


def _checked_scaler(name: str, scaler: Scaler | None, columns: int) -> Scaler:
    if scaler is None:
        return Scaler(np.zeros(columns), np.ones(columns))
    checks.check(name, scaler, checks.instance(Scaler, "an ocp_nn.data.Scaler or None"))
    if np.shape(scaler.mean) != (columns,) or np.shape(scaler.scale) != (columns,):
        raise ValueError(f"{name} must scale {columns} column(s), received {np.shape(scaler.mean)}")
    return scaler


def _checked_names(what: str, names: Sequence[str], columns: int, stem: str) -> tuple[str, ...]:
    checks.check(what, names, checks.sequence(checks.instance(str, "a name"), "a sequence of names"))
    names = tuple(str(name) for name in names) or tuple(f"{stem}{j}" for j in range(columns))
    if len(names) != columns:
        raise ValueError(f"{what}: expected {columns} name(s), received {len(names)}")
    return names
