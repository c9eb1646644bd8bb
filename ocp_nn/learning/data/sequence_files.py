"""Records from files: delimited text with a header (also packed, ``.csv.gz``) and NumPy's ``.npz``.

A file of delimited text is one record.  Where a column ``split`` holds the words ``train`` and ``test``, its rows are
parts of one run: those of each are a record.  Of an ``.npz`` file arrays are taken by their names; a vector is one
column, and a table (T, k) is k of them.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...base import checks
from ...network.records import Records
from .dataset import DataError
from .files import header_and_rows, picked, position_of
from .header import find, listed
from .numbers import check_length, numbers

__all__ = ["Named", "checked_records", "read_record", "rows_of"]

Array = NDArray[np.float64]
Pair = tuple[Array, Array]

# What stands for "not measured" in a cell of an output.
_MISSING = ("", "nan", "na", "null", "none")

# Column whose words say which part a row belongs to.
SPLIT = "split"


@dataclass(frozen=True, eq=False)
class Named:
    """A record with the names and units of its columns, and the part of every row ("" where there is one part)."""

    v: Array
    y: Array
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    input_units: tuple[str, ...] = ()
    output_units: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()


def read_record(path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> Named:
    """The record of a file.

    Raises
    ------
    DataError
        For a file that cannot be read, missing columns or arrays, inputs that are no finite numbers, or columns that
        differ in length.
    """
    if not outputs:
        raise DataError(f"{path}: which columns are outputs? Name them with outputs=")
    if both := set(inputs) & set(outputs):
        raise DataError(f"{path}: {min(both)!r} is both an input and an output")
    return (_read_npz if path.suffix == ".npz" else _read_text)(path, inputs, outputs)


def rows_of(named: Named, part: str) -> Pair | None:
    """The rows of a part, which must be next to each other; None where there are none."""
    rows = np.flatnonzero(np.array(named.parts) == part)
    if not rows.size:
        return None
    if rows[-1] - rows[0] + 1 != rows.size:
        raise DataError(f"the rows of the part {part!r} must follow each other, received a gap after row {rows[0] + 1}")
    return named.v[rows[0] : rows[-1] + 1], named.y[rows[0] : rows[-1] + 1]


def checked_records(name: str, pairs: Sequence[Pair]) -> Records:
    """The records, or what is wrong with them as a ``DataError`` that names the data.

    Raises
    ------
    DataError
        As :meth:`.Records.checked`.
    """
    try:
        return Records.checked(list(pairs))
    except ValueError as error:
        raise DataError(f"{name}: {error}") from None


def _read_text(path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> Named:
    header, rows = header_and_rows(path)
    if not rows:
        raise DataError(f"{path}: no rows of numbers under the header")
    of_inputs = [position_of(path, header, name, "as input") for name in inputs]
    of_outputs = [position_of(path, header, name, "as output") for name in outputs]
    v = picked(path, header, rows, of_inputs).reshape(len(rows), -1) if inputs else np.empty((len(rows), 0))
    for number, row in rows:
        check_length(path, number, row, header)
    cells = [(number, [row[j] for j in of_outputs]) for number, row in rows]
    missing = np.array([[cell.lower() in _MISSING for cell in row] for _, row in cells])
    filled = [(n, ["0" if lost else cell for cell, lost in zip(row, of, strict=True)])
              for (n, row), of in zip(cells, missing, strict=True)]  # fmt: skip
    y = numbers(path, filled, [header[j].text for j in of_outputs])
    split = find(path, header, SPLIT)
    is_part = split is not None and split not in (*of_inputs, *of_outputs)
    return Named(
        v,
        np.where(missing, np.nan, y),
        tuple(header[j].name for j in of_inputs),
        tuple(header[j].name for j in of_outputs),
        tuple(header[j].unit for j in of_inputs),
        tuple(header[j].unit for j in of_outputs),
        tuple(row[split].lower() for _, row in rows) if is_part and split is not None else (),
    )


def _read_npz(path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> Named:
    arrays = read_arrays(path, (*inputs, *outputs))
    (v, input_names), (y, output_names) = (
        _columns(path, [(name, arrays[name]) for name in names]) for names in (inputs, outputs)
    )
    v = np.empty((len(y), 0)) if not inputs else v
    if len(v) != len(y):
        raise DataError(f"{path}: inputs and outputs differ in length, received {len(v)} and {len(y)} samples")
    return Named(v, y, input_names, output_names)


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, Array]:
    """Arrays of an ``.npz`` file by their names.

    Raises
    ------
    DataError
        For a file that is none, names that it has not, and arrays that are not of real numbers.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if missing := [name for name in names if name not in file.files]:
                raise DataError(f"{path}: no array {missing[0]!r}; the arrays are: {listed(file.files)}")
            return {name: checks.real_array(name, file[name]) for name in names}
    except DataError:
        raise
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read as an .npz file of numbers ({error})") from None


def _columns(path: Path, arrays: Sequence[tuple[str, Array]]) -> tuple[Array, tuple[str, ...]]:
    """Arrays side by side, and a name for each column."""
    columns, names = list[Array](), list[str]()
    for name, array in arrays:
        if array.ndim not in (1, 2):
            raise DataError(f"{path}: array {name!r} must be (T,) or (T, columns), received shape {array.shape}")
        table = array.reshape(len(array), -1)
        columns.append(table)
        names += [name] if table.shape[1] == 1 else [f"{name}{j}" for j in range(table.shape[1])]
    lengths = sorted({len(table) for table in columns})
    if len(lengths) > 1:
        raise DataError(f"{path}: arrays differ in length, received {listed(map(str, lengths))} samples")
    return (np.hstack(columns) if columns else np.empty((0, 0))), tuple(names)
