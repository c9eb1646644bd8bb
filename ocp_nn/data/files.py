"""Reading tables from files: delimited text with a header, and folders of the common regression benchmark.

Every problem is one :class:`DataError` that names the file, the line or column, and what was expected.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .dataset import MIN_SAMPLES, DataError, Dataset

__all__ = ["read_columns", "read_delimited", "read_folder"]

Array = NDArray[np.float64]

_DELIMITERS = ",;\t|"
_FOLDER_SOURCE = "folder with data.txt, index_features.txt and index_target.txt"


def read_delimited(path: Path, target: Sequence[str]) -> Dataset:
    """A data set from delimited text with a header; ``target`` names the columns of y, all others are inputs.

    The delimiter is the one of comma, semicolon, tab and bar that the header has most of.
    """
    header, rows = _header_and_rows(path)
    targets = _check_target(path, header, target)
    table = _numbers(path, rows, header)
    inputs = [j for j in range(len(header)) if j not in targets]
    if not inputs:
        raise DataError(f"{path}: every column is a target, so no inputs are left (columns: {', '.join(header)})")
    return Dataset(
        name=path.stem,
        x=np.ascontiguousarray(table[:, inputs]),
        y=np.ascontiguousarray(table[:, targets]),
        feature_names=tuple(header[j] for j in inputs),
        target_names=tuple(header[j] for j in targets),
        source=str(path),
    )


def read_columns(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> tuple[Array, Array | None]:
    """Columns of a delimited text file by their names, in the order of ``names``; others are not looked at.

    Returns
    -------
    array (N, len(names)), and array (N, len(optional)) or None where not all optional columns are there
    """
    header, rows = _header_and_rows(path)
    missing = [name for name in names if name not in header]
    if missing:
        raise DataError(f"{path}: no column {missing[0]!r}; needed are {', '.join(names)}, found {', '.join(header)}")
    if not rows:
        raise DataError(f"{path}: no rows of numbers under the header")
    extra = list(optional) if all(name in header for name in optional) else []
    wanted = [*names, *extra]
    for number, cells in rows:
        _check_length(path, number, cells, header)
    picked = [(number, [cells[header.index(name)] for name in wanted]) for number, cells in rows]
    table = np.array([list(_row(path, number, cells, wanted)) for number, cells in picked])
    return table[:, : len(names)], table[:, len(names) :] if extra else None


def _header_and_rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Column names, and line number and cells of every row; the delimiter is the one the header has most of."""
    lines = _lines(path)
    if not lines:
        raise DataError(f"{path}: the file is empty; a header and at least {MIN_SAMPLES} rows of numbers are needed")
    delimiter = max(_DELIMITERS, key=lines[0][1].count)
    (_, header), *rows = [(number, _cells(path, number, text, delimiter)) for number, text in lines]
    _check_header(path, header)
    return header, rows


def read_folder(path: Path) -> Dataset:
    """A data set from ``data.txt``: numbers, no header; ``index_*.txt`` hold 0-based columns of inputs and targets."""
    missing = [n for n in ("data.txt", "index_features.txt", "index_target.txt") if not (path / n).is_file()]
    if missing:
        raise DataError(f"{path}: not a {_FOLDER_SOURCE}: {', '.join(missing)} missing")
    file = path / "data.txt"
    rows = [(number, text.split()) for number, text in _lines(file)]
    if not rows:
        raise DataError(f"{file}: the file is empty; at least {MIN_SAMPLES} rows of numbers are needed")
    table = _numbers(file, rows, [f"column {j}" for j in range(len(rows[0][1]))])
    features = _indices(path / "index_features.txt", table.shape[1])
    targets = _indices(path / "index_target.txt", table.shape[1])
    return Dataset(
        name=path.resolve().name,
        x=np.ascontiguousarray(table[:, features]),
        y=np.ascontiguousarray(table[:, targets]),
        feature_names=tuple(f"x{j}" for j in features),
        target_names=("y",) if len(targets) == 1 else tuple(f"y{j}" for j in targets),
        source=str(path),
    )


def _lines(path: Path) -> list[tuple[int, str]]:
    """Line numbers (from 1) and texts of the lines that are not blank."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not text in UTF-8 (byte {error.start}); export the table as CSV in UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    return [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _cells(path: Path, number: int, text: str, delimiter: str) -> list[str]:
    try:
        return [
            cell.strip() for cell in next(csv.reader([text], delimiter=delimiter, skipinitialspace=True, strict=True))
        ]
    except csv.Error as error:
        raise DataError(f"{path}, line {number}: {error}") from None


def _check_header(path: Path, header: Sequence[str]) -> None:
    if all(_is_number(cell) for cell in header):
        raise DataError(f"{path}: the first line holds only numbers; a header with the column names is needed")
    if not all(header):
        raise DataError(f"{path}: column {list(header).index('') + 1} has no name in the header")
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise DataError(f"{path}: column name {twice[0]!r} appears more than once in the header")


def _check_target(path: Path, header: Sequence[str], target: Sequence[str]) -> list[int]:
    columns = ", ".join(header)
    if not target:
        raise DataError(f"{path}: which column is the target? Name one of: {columns}")
    unknown = [name for name in target if name not in header]
    if unknown:
        raise DataError(f"{path}: no column {unknown[0]!r} to take as target; the columns are: {columns}")
    return sorted({header.index(name) for name in target})


def _numbers(path: Path, rows: Sequence[tuple[int, list[str]]], header: Sequence[str]) -> Array:
    if len(rows) < MIN_SAMPLES:
        raise DataError(f"{path}: {len(rows)} row(s) of numbers, at least {MIN_SAMPLES} are needed")
    return np.array([list(_row(path, number, cells, header)) for number, cells in rows])


def _row(path: Path, number: int, cells: list[str], header: Sequence[str]) -> Iterator[float]:
    _check_length(path, number, cells, header)
    for cell, name in zip(cells, header, strict=True):
        if not cell:
            raise DataError(f"{path}, line {number}: no value in column {name!r}; fill it in or drop the row")
        if not _is_number(cell):
            raise DataError(
                f"{path}, line {number}: {cell!r} in column {name!r} is not a number (decimal points, not commas; "
                "encode categories as numbers)"
            )
        value = float(cell)
        if not np.isfinite(value):
            raise DataError(f"{path}, line {number}: {cell!r} in column {name!r} is not finite; drop or fill the row")
        yield value


def _check_length(path: Path, number: int, cells: list[str], header: Sequence[str]) -> None:
    if len(cells) != len(header):
        raise DataError(f"{path}, line {number}: {len(cells)} cells where {len(header)} are expected")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # float() takes Python's 1_000 too


def _indices(path: Path, columns: int) -> list[int]:
    words = [word for _, text in _lines(path) for word in text.split()]
    try:
        indices = [int(float(word)) for word in words]
    except ValueError:
        raise DataError(f"{path}: 0-based column numbers are expected, received {words[:5]}") from None
    if not indices or min(indices) < 0 or max(indices) >= columns:
        raise DataError(f"{path}: column numbers must lie in 0..{columns - 1}, received {indices[:5]}")
    return indices
