"""Records over time with names: inputs v and outputs y of a system, to train on and to test on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...base import checks, display
from ...network.records import Records
from .dataset import DataError, label

__all__ = ["SequenceDataset"]

Array = NDArray[np.float64]

# First rows that tell an initial state where a data set does not say how many.
WARM_UP = 50


@dataclass(frozen=True, kw_only=True, eq=False)
class SequenceDataset:
    """Records of a system, with names.

    Attributes
    ----------
    name : str
    train : Records
        ``train.inputs`` and ``train.outputs``, each a tuple with one array (T_i, q) or (T_i, m) a record; NaN outputs
        were not measured.
    tests : dict of str to Records
        None, one or several parts to test on, by name.
    input_names, output_names : tuple of str
    input_units, output_units : tuple of str
        "" where unknown.
    sampling_time : float or None
        Seconds between samples, where it is known.
    warm_up : int
        First rows of a test record from which its initial state may be estimated, and which no figure counts.
    truth : dict of str to tuple of arrays
        Outputs without noise of synthetic records, under "train" and the names of the tests.
    source : str
        Where the numbers come from.

    Raises
    ------
    DataError
        For names that do not fit the columns, an input or output that is constant over all training records, or parts
        of other widths.
    """

    name: str
    train: Records
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    tests: Mapping[str, Records] = field(default_factory=dict)
    input_units: tuple[str, ...] = ()
    output_units: tuple[str, ...] = ()
    sampling_time: float | None = None
    warm_up: int = WARM_UP
    truth: Mapping[str, tuple[Array, ...]] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self) -> None:
        checks.check("sampling_time", self.sampling_time, checks.optional(checks.POSITIVE), DataError)
        checks.check("warm_up", self.warm_up, checks.integer(1), DataError)
        widths = self.train.num_inputs, self.train.num_outputs
        _check_names(self.name, "input", widths[0], self.input_names, self.input_units)
        _check_names(self.name, "output", widths[1], self.output_names, self.output_units)
        _check_columns(self.name, "input", self.train.inputs, self.input_names)
        _check_columns(self.name, "output", self.train.outputs, self.output_names)
        for test, records in self.tests.items():
            if (received := (records.num_inputs, records.num_outputs)) != widths:
                raise DataError(
                    f"{self.name}: test {test!r} must have {widths[0]} inputs and {widths[1]} outputs as the training "
                    f"records, received {received[0]} and {received[1]}"
                )

    def __repr__(self) -> str:
        inputs, outputs = display.names(self.input_names or ("no inputs",)), display.names(self.output_names)
        tests = f", tests {', '.join(self.tests)}" if self.tests else ""
        lengths = ", ".join(map(str, self.train.lengths[:6])) + (", ..." if len(self.train) > 6 else "")
        return f"SequenceDataset({self.name}, {len(self.train)} of {lengths} samples, {inputs} -> {outputs}{tests})"

    @property
    def test(self) -> Records:
        """The records of the first test.

        Raises
        ------
        DataError
            Without any.
        """
        if not self.tests:
            raise DataError(
                f"{self.name}: has no test records; name some with test=, or hold out a share of the training"
            )
        return next(iter(self.tests.values()))

    @property
    def input_labels(self) -> tuple[str, ...]:
        """Names of the inputs with their units in brackets."""
        return tuple(map(label, self.input_names, self.input_units or ("",) * len(self.input_names)))

    @property
    def output_labels(self) -> tuple[str, ...]:
        """Names of the outputs with their units in brackets."""
        return tuple(map(label, self.output_names, self.output_units or ("",) * len(self.output_names)))


def _check_names(name: str, kind: str, width: int, names: tuple[str, ...], units: tuple[str, ...]) -> None:
    if len(names) != width:
        raise DataError(f"{name}: {width} {kind} columns but {len(names)} names")
    if units and len(units) != width:
        raise DataError(f"{name}: {width} {kind} columns but {len(units)} units")


def _check_columns(name: str, kind: str, tables: tuple[Array, ...], names: tuple[str, ...]) -> None:
    table = np.concatenate(tables)
    for column, of in zip(table.T, names, strict=True):
        measured = column[np.isfinite(column)]
        if not measured.size:
            raise DataError(f"{name}: {kind} {of!r} is not measured once; leave it out")
        if measured.min() == measured.max():
            raise DataError(f"{name}: {kind} {of!r} is constant ({measured[0]:g} in all samples); leave it out")
