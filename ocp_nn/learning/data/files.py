"""Reading tables from files: delimited text with a header, and folders of the common regression benchmark.

Every problem is one :class:`DataError` that names the file, the line or column, and what was expected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .dataset import MIN_SAMPLES, DataError, Dataset
from .header import Column, cells, columns, delimiter, find, listed, shown
from .labels import LABEL_LOSSES, are_labels, check_one_target, labelled, read_labels, with_loss
from .numbers import check_length, is_number, numbers
from .text import lines

__all__ = [
    "chosen",
    "header_and_rows",
    "picked",
    "position_of",
    "read_columns",
    "read_delimited",
    "read_folder",
    "read_label_column",
]

Array = NDArray[np.float64]
Row = tuple[int, list[str]]

_FOLDER_SOURCE = "folder with data.txt, index_features.txt and index_target.txt"


def read_delimited(
    path: Path,
    target: Sequence[str],
    *,
    features: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    loss: str = "auto",
) -> Dataset:
    """A data set from delimited text with a header; ``target`` names the columns of y.

    The others are inputs, all of them or those that ``features`` names, without those in ``drop``.  The rest is not
    looked at and may hold anything.  A name may have its unit in brackets behind it.

    With a loss of labels the target may hold words, or whole numbers.  With "auto" a target that holds words alone is
    one of classes, and anything else a quantity.
    """
    header, rows = header_and_rows(path)
    if not target:
        raise DataError(f"{path}: which column is the target? Name one of: {listed(c.text for c in header)}")
    targets = sorted({position_of(path, header, name, "as target") for name in target})
    others = [j for j in range(len(header)) if j not in targets]
    if not others:
        raise DataError(f"{path}: every column is a target, so no inputs are left ({listed(c.text for c in header)})")
    inputs = [others[j] for j in chosen(path, [header[j] for j in others], features, drop)]
    if len(rows) < MIN_SAMPLES:
        raise DataError(f"{path}: {len(rows)} row(s) of numbers, at least {MIN_SAMPLES} are needed")
    is_label = loss in LABEL_LOSSES or (loss == "auto" and any(_are_labels(header, rows, j) for j in targets))
    table = picked(path, header, rows, inputs if is_label else [*inputs, *targets])
    units = tuple(header[j].unit for j in targets)
    dataset = Dataset(
        name=Path(path.name.removesuffix(".gz")).stem,
        x=np.ascontiguousarray(table[:, : len(inputs)]),
        # of labels: any numbers, until the classes take their place
        y=np.arange(len(rows) * len(targets), dtype=float).reshape(len(rows), -1)
        if is_label
        else np.ascontiguousarray(table[:, len(inputs) :]),
        feature_names=tuple(header[j].name for j in inputs),
        target_names=tuple(header[j].name for j in targets),
        units=units[0] if len(set(units)) == 1 else "",
        feature_units=tuple(header[j].unit for j in inputs),
        target_units=units,
        source=str(path),
    )
    if not is_label:
        return with_loss(dataset, loss)
    column = check_one_target(path, dataset.target_names)
    cells = [(number, row[targets[0]]) for number, row in rows]
    return labelled(dataset, column, read_labels(path, cells, header[targets[0]].text), loss)


def _are_labels(header: Sequence[Column], rows: Sequence[Row], position: int) -> bool:
    """Whether a column holds words; rows that are too short are for others to complain about."""
    return are_labels([row[position] for _, row in rows if len(row) == len(header)])


def chosen(
    path: Path | str, inputs: Sequence[Column], features: Sequence[str] | None, drop: Sequence[str]
) -> list[int]:
    """Positions of the inputs that are wanted, in their own order.

    Raises
    ------
    DataError
        If a name is none of an input, both ways of choosing are used, or none is left.
    """
    if features is not None and drop:
        raise DataError(f"{path}: name the features to keep or those to drop, not both")
    names = drop if features is None else features
    positions = {position_of(path, inputs, name, "among the inputs") for name in names}
    keep = [j for j in range(len(inputs)) if (j in positions) is (features is not None)]
    if not keep:
        raise DataError(f"{path}: no input is left of {listed(column.text for column in inputs)}")
    return keep


def read_columns(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> tuple[Array, Array | None]:
    """Columns of a delimited text file by their names, in the order of ``names``; others are not looked at.

    Where a name has a unit in brackets, the column's must be the same, or unsaid.

    Returns
    -------
    array (N, len(names)), and array (N, len(optional)) or None where not all optional columns are there
    """
    header, rows = header_and_rows(path)
    positions = [find(path, header, name) for name in names]
    if None in positions:
        missing = names[positions.index(None)]
        found = listed(column.text for column in header)
        raise DataError(f"{path}: no column {shown(missing)}; needed are {listed(names)}, found {found}")
    if not rows:
        raise DataError(f"{path}: no rows of numbers under the header")
    extra = [find(path, header, name) for name in optional]
    extra = [] if None in extra else extra
    table = picked(path, header, rows, [j for j in (*positions, *extra) if j is not None])
    return table[:, : len(names)], table[:, len(names) :] if extra else None


def read_label_column(path: Path, name: str) -> list[str | int | float] | None:
    """The labels in a column of a delimited text file, or None where there is no such column."""
    header, rows = header_and_rows(path)
    position = find(path, header, name)
    if position is None:
        return None
    for number, row in rows:
        check_length(path, number, row, header)
    return read_labels(path, [(number, row[position]) for number, row in rows], name)


def header_and_rows(path: Path) -> tuple[list[Column], list[Row]]:
    """Columns, and line number and cells of every row."""
    found = lines(path)
    if not found:
        raise DataError(f"{path}: the file is empty; a header and at least {MIN_SAMPLES} rows of numbers are needed")
    separator = delimiter(path, found)
    (_, header), *rows = [(number, cells(path, number, text, separator)) for number, text in found]
    if all(is_number(cell) for cell in header):
        raise DataError(f"{path}: the first line holds only numbers; a header with the column names is needed")
    return columns(path, header), rows


def position_of(path: Path | str, among: Sequence[Column], name: str, role: str) -> int:
    position = find(path, among, name)
    if position is None:
        found = listed(column.text for column in among)
        raise DataError(f"{path}: no column {shown(name)} to take {role}; the columns are: {found}")
    return position


def picked(path: Path, header: Sequence[Column], rows: Sequence[Row], positions: Sequence[int]) -> Array:
    """The numbers of some columns."""
    for number, row in rows:
        check_length(path, number, row, header)
    picked = [(number, [row[j] for j in positions]) for number, row in rows]
    return numbers(path, picked, [header[j].text for j in positions])


def read_folder(path: Path) -> Dataset:
    """A data set from ``data.txt``: numbers, no header; ``index_*.txt`` hold 0-based columns of inputs and targets."""
    missing = [n for n in ("data.txt", "index_features.txt", "index_target.txt") if not (path / n).is_file()]
    if missing:
        raise DataError(f"{path}: not a {_FOLDER_SOURCE}: {', '.join(missing)} missing")
    table = _plain_table(path / "data.txt")
    features = _indices(path / "index_features.txt", table.shape[1])
    targets = _indices(path / "index_target.txt", table.shape[1])
    if both := set(features) & set(targets):
        raise DataError(f"{path}: column {min(both)} is both an input and a target in the index files")
    return Dataset(
        name=path.resolve().name,
        x=np.ascontiguousarray(table[:, features]),
        y=np.ascontiguousarray(table[:, targets]),
        feature_names=tuple(f"x{j}" for j in features),
        target_names=("y",) if len(targets) == 1 else tuple(f"y{j}" for j in targets),
        source=str(path),
    )


def _plain_table(file: Path) -> Array:
    """Numbers without a header, separated by blanks."""
    rows = [(number, text.split()) for number, text in lines(file)]
    if len(rows) < MIN_SAMPLES:
        raise DataError(f"{file}: {len(rows)} row(s) of numbers, at least {MIN_SAMPLES} are needed")
    names = [f"column {j}" for j in range(len(rows[0][1]))]
    for number, row in rows:
        check_length(file, number, row, names)
    return numbers(file, rows, names)


def _indices(path: Path, columns: int) -> list[int]:
    words = [word for _, text in lines(path) for word in text.split()]
    bad = [word for word in words if not (is_number(word) and float(word) in range(columns))]
    if bad or not words:
        received = shown(bad[0]) if bad else "an empty file"
        raise DataError(f"{path}: 0-based column numbers in 0..{columns - 1} are expected, received {received}")
    indices = [int(float(word)) for word in words]
    twice = [j for j, count in Counter(indices).items() if count > 1]
    if twice:
        raise DataError(f"{path}: column {twice[0]} appears more than once")
    return indices
