"""Records (v, y) of a system over time: checked, as one padded batch, and in units of their standard deviations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base import checks
from .scaling import Scaler

__all__ = ["Records", "checked_inputs", "checked_outputs"]

Array = NDArray[np.float64]


def checked_inputs(name: str, v: Any, columns: int | None = None) -> Array:
    """Inputs over time as a table (T, q), finite; a vector is one column where one may be.

    Raises
    ------
    ValueError
        As :func:`ocp_nn.base.checks.table`, and without samples.
    """
    array = checks.real_array(name, v)
    columns = 1 if columns is None and array.ndim == 1 else columns
    table = checks.table(name, array, columns)
    _check_length(name, table)
    return table


def checked_outputs(name: str, y: Any, columns: int | None = None) -> Array:
    """Outputs over time as a table (T, m); NaN is what was not measured.

    Raises
    ------
    ValueError
        For another shape, infinite values, or without samples.
    """
    array = checks.real_array(name, y)
    missing = np.isnan(array)
    table = checked_inputs(name, np.where(missing, 0.0, array), columns)
    return np.where(missing.reshape(table.shape), np.nan, table)


def _check_length(name: str, table: Array) -> None:
    if not len(table):
        raise ValueError(f"{name} must have one row a sample and at least one, received shape {table.shape}")


@dataclass(frozen=True, eq=False)
class Records:
    """One or several records of the same inputs and outputs, each of its own length T_i.

    Attributes
    ----------
    inputs : tuple of array, shape (T_i, q)
        Exogenous inputs v; q = 0 for autonomous systems.
    outputs : tuple of array, shape (T_i, m)
        Measured outputs y, NaN where there was no measurement.
    """

    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]

    @classmethod
    def checked(
        cls, experiments: Sequence[tuple[Any, Any]], *, num_inputs: int | None = None, num_outputs: int | None = None
    ) -> Records:
        """The records of a list of pairs (v, y); ``None`` for v is a system without inputs.

        Parameters
        ----------
        experiments : sequence of pairs (v, y)
            v of shape (T, q), or (T,) for one input; y of shape (T, m), or (T,) for one output.
        num_inputs, num_outputs : int or None
            What the widths have to be; by default those of the first record.

        Raises
        ------
        ValueError
            For an empty list, records that are no pairs, of another width than expected, of v and y that differ in
            length, of one sample alone, with inputs that are not finite, infinite outputs, or without any measurement.
        """
        pairs = list(_pairs(experiments))
        inputs, outputs = [], []
        for i, (v, y) in enumerate(pairs):
            outputs.append(checked_outputs(f"y of record {i}", y, num_outputs))
            v = np.empty((len(outputs[-1]), 0)) if v is None else v
            inputs.append(checked_inputs(f"v of record {i}", v, num_inputs))
            num_inputs, num_outputs = inputs[-1].shape[1], outputs[-1].shape[1]
            _check_record(i, inputs[-1], outputs[-1])
        return cls(tuple(inputs), tuple(outputs))

    def __len__(self) -> int:
        return len(self.inputs)

    def __repr__(self) -> str:
        return (
            f"Records({len(self)} of {', '.join(map(str, self.lengths))} samples, {self.num_inputs} inputs, "
            f"{self.num_outputs} outputs)"
        )

    @property
    def pairs(self) -> list[tuple[Array, Array]]:
        """(v, y) of every record."""
        return list(zip(self.inputs, self.outputs, strict=True))

    @property
    def num_inputs(self) -> int:
        return self.inputs[0].shape[1]

    @property
    def num_outputs(self) -> int:
        return self.outputs[0].shape[1]

    @property
    def lengths(self) -> tuple[int, ...]:
        """T_i of every record."""
        return tuple(map(len, self.inputs))

    @property
    def num_measured(self) -> int:
        """Numbers measured, in all outputs and records."""
        return sum(int(np.isfinite(y).sum()) for y in self.outputs)

    def batch(self) -> tuple[Array, Array, NDArray[np.bool_]]:
        """All records side by side, as long as the longest one.

        Returns
        -------
        v : array, shape (T, N, q)
            Beyond the end of a record its last input is held.
        y : array, shape (T, N, m)
            Zero where nothing was measured.
        measured : array of bool, shape (T, N, m)
        """
        length = max(self.lengths)
        v = np.stack([np.pad(v, ((0, length - len(v)), (0, 0)), mode="edge") for v in self.inputs], axis=1)
        late = [np.pad(y, ((0, length - len(y)), (0, 0)), constant_values=np.nan) for y in self.outputs]
        y = np.stack(late, axis=1)
        measured = np.isfinite(y)
        return v, np.where(measured, y, 0.0), measured

    def scalers(self) -> tuple[Scaler, Scaler]:
        """Means and standard deviations of the inputs and of the measured outputs, over all records.

        Raises
        ------
        ValueError
            For an output that is measured in no record.
        """
        y = np.concatenate(self.outputs)
        columns = []
        for j in range(self.num_outputs):
            measured = y[np.isfinite(y[:, j]), j : j + 1]
            if not len(measured):
                raise ValueError(f"output {j} must be measured at least once, received NaN everywhere: leave it out")
            columns.append(Scaler.fit(measured))
        of_outputs = Scaler(np.concatenate([s.mean for s in columns]), np.concatenate([s.scale for s in columns]))
        return Scaler.fit(np.concatenate(self.inputs)), of_outputs

    def scaled(self, inputs: Scaler, outputs: Scaler) -> Records:
        """The records in these units."""

        def of(y: Array) -> Array:
            missing = np.isnan(y)
            return np.where(missing, np.nan, outputs.transform(np.where(missing, outputs.mean, y)))

        return Records(tuple(map(inputs.transform, self.inputs)), tuple(map(of, self.outputs)))


def _pairs(experiments: Any) -> Sequence[tuple[Any, Any]]:
    if isinstance(experiments, Records):
        return experiments.pairs
    expected = "experiments must be a list of pairs (v, y), one a record"
    if not isinstance(experiments, list | tuple) or not experiments:
        raise ValueError(f"{expected}, received {checks.shown(experiments)}")
    for i, pair in enumerate(experiments):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ValueError(f"{expected}, received {checks.shown(pair)} as record {i}")
    return experiments


def _check_record(i: int, v: Array, y: Array) -> None:
    if len(v) != len(y):
        raise ValueError(f"v and y of record {i} must be as long as each other, received {len(v)} and {len(y)} samples")
    if len(y) < 2:
        raise ValueError(f"record {i} must have two samples or more, for one says nothing of the dynamics, received 1")
    if not np.isfinite(y).any():
        raise ValueError(f"y of record {i} must hold a measurement, received NaN everywhere: leave the record out")
