"""The first line of a table: which character separates columns, their names, and their units in brackets."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .dataset import DataError, label

__all__ = ["Column", "cells", "columns", "delimiter", "find", "listed", "shown"]

DELIMITERS = ",;\t|"

# "speed [m/s]", "speed[m/s]" and "speed (m/s)"; not "f(x)", which is a name.
_UNIT = re.compile(r"(?P<name>.*\S)(?:\s*\[(?P<square>[^\[\]]+)\]|\s+\((?P<round>[^()]+)\))")


@dataclass(frozen=True)
class Column:
    """A column's name, its unit ("" where there is none), and the two as the header has them."""

    name: str
    unit: str
    text: str


def shown(text: str) -> str:
    """Quoted, and cut where it is long."""
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


def listed(names: Iterable[str]) -> str:
    """Names separated by commas; the first ten and a count where there are more."""
    names = [name if len(name) <= 40 else f"{name[:37]}..." for name in names]
    return ", ".join(names) if len(names) <= 10 else f"{', '.join(names[:10])} and {len(names) - 10} more"


def cells(path: Path, number: int, line: str, separator: str) -> list[str]:
    """The cells of a line; what stands in double quotes is one cell."""
    try:
        row = next(csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}, line {number}: {error}") from None
    return [cell.strip() for cell in row]


def delimiter(path: Path, lines: Sequence[tuple[int, str]]) -> str:
    """The separator that cuts header and first row into equally many cells, the more the better.

    Where none does, the one that the header has most of: the error is then about the row.
    """

    def count(line: tuple[int, str], separator: str) -> int:
        try:
            return len(cells(path, *line, separator))
        except DataError:
            return 0

    header = {separator: count(lines[0], separator) for separator in DELIMITERS}
    agreeing = [s for s in DELIMITERS if header[s] > 1 and len(lines) > 1 and count(lines[1], s) == header[s]]
    return max(agreeing or DELIMITERS, key=header.__getitem__)


def columns(path: Path, header: Sequence[str]) -> list[Column]:
    """The columns that a header names.

    Where two would have the same name without their units, "left (mm)" and "left (in)", both keep the brackets in it.

    Raises
    ------
    DataError
        For a column without a name, or a name that appears twice.
    """
    if not all(header):
        raise DataError(f"{path}: column {list(header).index('') + 1} has no name in the header")
    if twice := [text for text, count in Counter(header).items() if count > 1]:
        raise DataError(f"{path}: column name {shown(twice[0])} appears more than once in the header")
    split = [_split(text) for text in header]
    used = Counter(column.name for column in split)
    return [column if used[column.name] == 1 else Column(column.text, "", column.text) for column in split]


def _split(text: str) -> Column:
    match = _UNIT.fullmatch(text)
    if match is None:
        return Column(text, "", text)
    return Column(match["name"], (match["square"] or match["round"]).strip(), text)


def find(path: Path | str, among: Sequence[Column], wanted: str) -> int | None:
    """The position of a column, named as in the header, or without its unit, or with it in either brackets; or None.

    Raises
    ------
    DataError
        If the column is there in another unit.
    """
    exact = [j for j, column in enumerate(among) if wanted in (column.text, column.name)]
    if exact:
        return exact[0]
    asked = _split(wanted)
    for j, column in enumerate(among):
        if column.name == asked.name and column.unit in ("", asked.unit):
            return j
        if column.name == asked.name:
            raise DataError(f"{path}: column {label(column.name, column.unit)} is expected in {asked.unit}; convert it")
    return None
