"""The records, and how large the models of each may be.

States and hidden units are those of every state-space model here, ours and jax-sysid's.  Two states are what the tanks,
the circuit and the silverbox have by their physics; of the drives nothing of the kind is assumed, and the order is
chosen on the training records.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ocp_nn import load_records
from ocp_nn.learning.data import SequenceDataset

__all__ = ["QUICK", "SETS", "Setting", "load", "shares"]

Array = NDArray[np.float64]
Pair = tuple[Array, Array]

# Of every training record its end, on which the other packages choose what they have to choose.
HELD_OUT = 0.2


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a set of records is given, and what this project set out to reach on it.

    Attributes
    ----------
    states : tuple of int
        Order, or orders to choose from.
    hidden : tuple of int
    starts : int
    factor : float
        Of the units in which errors are printed.
    unit : str
    aims : dict
        Of every test part, the largest error; of the circuit, the smallest fit in per cent.
    """

    states: tuple[int, ...]
    hidden: tuple[int, ...] = (8,)
    starts: int = 8
    factor: float = 1.0
    unit: str = ""
    aims: dict[str, float]

    @property
    def num_states(self) -> int:
        """Of methods that do not choose: the largest."""
        return max(self.states)


SETS = {
    "cascaded_tanks": Setting(states=(2,), unit="V", aims={"test": 0.30}),
    "ced": Setting(states=(2, 3, 4), aims={"test 1": 0.10, "test 2": 0.09}),
    "rlc": Setting(states=(2,), starts=4, unit="V", aims={"test": 97.0}),
    "silverbox": Setting(
        states=(2,),
        starts=2,
        factor=1e3,
        unit="mV",
        aims={"multisine": 2.0, "arrow": 4.0, "arrow_without_extrapolation": 2.0},
    ),
}

# A synthetic system, for tests.
QUICK = {"wiener": Setting(states=(2,), hidden=(3,), starts=1, aims={})}


def load(name: str, data: Path | None) -> SequenceDataset:
    """A set by its name, below a folder."""
    return load_records(name, samples=200) if name in QUICK else load_records(Path(data or ".") / name)


def shares(pairs: list[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Of every record its beginning, and its end that is held out."""
    cuts = [len(y) - round(HELD_OUT * len(y)) for _, y in pairs]
    first = [(v[:cut], y[:cut]) for (v, y), cut in zip(pairs, cuts, strict=True)]
    return first, [(v[cut:], y[cut:]) for (v, y), cut in zip(pairs, cuts, strict=True)]
