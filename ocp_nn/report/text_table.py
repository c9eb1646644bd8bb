"""Plain-text tables that fit: words are never broken, whatever the width of the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

__all__ = ["format_table"]

_GAP = 2

Column = Sequence[str]


def format_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None, *, keys: int = 1
) -> str:
    """Aligned columns: words to the left, columns of numbers to the right, a rule under the header.

    Parameters
    ----------
    header : sequence of str
    rows : sequence of sequences of str
        As long as the header.
    width : int, optional
        Characters a line may have.  What is wider is folded between words, headings first; what does not fit then
        either goes into further tables below.  A single word that is wider stays whole.
    keys : int
        So many columns name a row and are repeated in each of those tables.
    """
    columns = list(zip(header, *rows, strict=True))
    return "\n\n".join(_table(some, width) for some in _split(columns, width, keys))


def _split(columns: Sequence[Column], width: int | None, keys: int) -> list[list[Column]]:
    """As many columns a table as fit when they are folded as far as they can be."""
    tables = [list(columns[:keys])]
    for column in columns[keys:]:
        fits = width is None or _total([_least(c) for c in (*tables[-1], column)]) <= width
        if not fits and len(tables[-1]) > keys:
            tables.append(list(columns[:keys]))
        tables[-1].append(column)
    return tables


def _table(columns: Sequence[Column], width: int | None) -> str:
    widths = _widths(columns, width)
    right = [len(column) > 1 and all(_looks_numeric(cell) for cell in column[1:]) for column in columns]
    header, *rows = ("\n".join(_folded(cells, widths, right)) for cells in zip(*columns, strict=True))
    return "\n".join([header, (" " * _GAP).join("-" * width for width in widths), *rows])


def _widths(columns: Sequence[Column], width: int | None) -> list[int]:
    """Of the columns: as they are if that fits, else with headings folded, else the widest ones folded further."""
    widths = [max(map(len, column)) for column in columns]
    if width is None or _total(widths) <= width:
        return widths
    least = [_least(column) for column in columns]
    widths = [
        max(_least(column[:1]), *map(len, column[1:])) if len(column) > 1 else _least(column) for column in columns
    ]
    while _total(widths) > width and widths != least:
        foldable = [j for j, narrowest in enumerate(least) if widths[j] > narrowest]
        widths[max(foldable, key=widths.__getitem__)] -= 1
    return widths


def _least(column: Column) -> int:
    """The longest word."""
    return max((len(word) for cell in column for word in cell.split()), default=0)


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _folded(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    """The lines of a row."""
    stacks = [_lines(cell, width) for cell, width in zip(cells, widths, strict=True)]
    height = max(map(len, stacks))
    padded = zip(*([*stack, *[""] * (height - len(stack))] for stack in stacks), strict=True)
    return [_align(line, widths, right) for line in padded]


def _lines(cell: str, width: int) -> list[str]:
    if len(cell) <= width:
        return [cell]
    return textwrap.wrap(cell, width, break_long_words=False, break_on_hyphens=False)


def _align(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    aligned = (cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(cells, widths, right, strict=True))
    return (" " * _GAP).join(aligned).rstrip()


def _looks_numeric(cell: str) -> bool:
    digits = cell.removesuffix("%").replace(",", "").lstrip("+-").split("e")[0].replace(".", "", 1)
    return cell in ("-", "inf") or digits.isdigit()
