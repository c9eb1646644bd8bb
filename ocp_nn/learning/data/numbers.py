"""From the cells of a table to numbers: decimal points, or decimal commas where there can be no doubt.

A comma between digits is a decimal comma if the file has no decimal point beside it, and if not every such cell could
as well be a number with thousands separators, as "1,234" could.  Thousands separators themselves are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .dataset import DataError
from .header import shown

__all__ = ["check_length", "complaint", "is_number", "looks_like_number", "numbers"]

Array = NDArray[np.float64]
Row = tuple[int, list[str]]

_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")
# With decimals of either kind, and with other separators: 1.234,5  1,234.5  1 234  1'234
_GROUPED = re.compile(r"[+-]?\d{1,3}([.,' \u00a0\u2009\u202f]\d{3})+([.,]\d+)?")


def is_number(cell: str) -> bool:
    """Whether a cell is a number with a decimal point, infinities and NaN included."""
    try:
        float(cell)
    except ValueError:
        return False
    return cell.isascii() and "_" not in cell  # float() takes Python's 1_000 and other scripts' digits too


def looks_like_number(cell: str) -> bool:
    """Whether a cell is a number, or may be meant as one: with a decimal comma or thousands separators."""
    return is_number(cell) or bool(_COMMA.fullmatch(cell) or _GROUPED.fullmatch(cell))


def numbers(path: Path, rows: Sequence[Row], names: Sequence[str]) -> Array:
    """The table (rows, names) of the cells, all finite.

    Raises
    ------
    DataError
        For a cell that is empty, no number or not finite, and where the meaning of commas is not clear.
    """
    if any("," in cell for _, row in rows for cell in row):
        rows = _without_commas(path, rows, names)
    return np.array([list(_row(path, number, row, names)) for number, row in rows])


def _without_commas(path: Path, rows: Sequence[Row], names: Sequence[str]) -> Sequence[Row]:
    """Decimal commas as points."""
    found = [
        (n, cell, name) for n, row in rows for cell, name in zip(row, names, strict=True) if _COMMA.fullmatch(cell)
    ]
    if not found:
        return rows
    number, cell, name = found[0]
    where = f"{path}, line {number}: {shown(cell)} in column {shown(name)}"
    if any("." in cell for _, row in rows for cell in row):
        raise DataError(f"{where} has a comma where other cells have decimal points; use points in the whole file")
    if all(_THOUSANDS.fullmatch(cell) for _, cell, _ in found):
        raise DataError(
            f"{where} may have a decimal comma or a thousands separator; write points, and thousands without a mark"
        )
    return [(n, [cell.replace(",", ".") if _COMMA.fullmatch(cell) else cell for cell in row]) for n, row in rows]


def _row(path: Path, number: int, cells: list[str], names: Sequence[str]) -> Iterator[float]:
    check_length(path, number, cells, names)
    for cell, name in zip(cells, names, strict=True):
        value = float(cell) if is_number(cell) else np.nan
        if not np.isfinite(value):
            raise DataError(f"{path}, line {number}: {complaint(cell, name)}")
        yield value


def complaint(cell: str, name: str) -> str:
    """What is wrong with a cell that is no finite number."""
    if not cell:
        return f"no value in column {shown(name)}; fill it in or drop the row"
    if is_number(cell):
        return f"{shown(cell)} in column {shown(name)} is not finite; drop or fill the row"
    if _GROUPED.fullmatch(cell):
        return f"{shown(cell)} in column {shown(name)} has thousands separators; write the number without them"
    return f"{shown(cell)} in column {shown(name)} is not a number; encode categories as numbers, or drop the column"


def check_length(path: Path, number: int, cells: Sequence[str], names: Sequence[object]) -> None:
    """Raise ``DataError`` unless a row has as many cells as the header."""
    if len(cells) != len(names):
        raise DataError(f"{path}, line {number}: {len(cells)} cells where {len(names)} are expected")
