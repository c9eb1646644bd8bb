"""What objects say of themselves: one short line, and small tables for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from html import escape
from itertools import groupby
from typing import Any

import numpy as np

__all__ = ["brief", "html_table", "names", "runs", "widths"]

# Longest text of a field that is shown as it is.
_LONGEST = 40
# Most kinds of layers that are listed.
_MOST = 6


def brief(thing: Any) -> str:
    """The ``repr`` of a dataclass that holds arrays: its fields, arrays by shape and long sequences by length."""
    shown = ", ".join(f"{field.name}={_brief_value(getattr(thing, field.name))}" for field in fields(thing))
    return f"{type(thing).__name__}({shown})"


def runs(words: Iterable[str]) -> str:
    """Words in a row, with those that repeat counted: ``20 x tanh, identity``."""
    counted = [(word, len(list(same))) for word, same in groupby(words)]
    shown = [word if count == 1 else f"{count} x {word}" for word, count in counted]
    return ", ".join(shown if len(shown) <= _MOST else [*shown[:_MOST], "..."])


def widths(sizes: Sequence[object]) -> str:
    """``10-20-20-1``; the middle of a long row is left out."""
    shown = [str(size) for size in sizes]
    return "-".join(shown if len(shown) <= 2 * _MOST else [*shown[:_MOST], "...", *shown[-2:]])


def names(words: Sequence[str]) -> str:
    """The first few, each cut where it is long."""
    shown = [word if len(word) <= _LONGEST else f"{word[:_LONGEST]}..." for word in words[:_MOST]]
    return ", ".join(shown if len(words) <= _MOST else [*shown, f"... ({len(words)})"])


def _brief_value(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"<array {' x '.join(map(str, value.shape))}>"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, float):
        return f"{value:.6g}"
    text = "" if is_dataclass(value) else repr(value)
    if isinstance(value, str | int | None) and len(text) <= _LONGEST:
        return text
    if isinstance(value, tuple | list | Mapping):
        small = 0 < len(text) <= _LONGEST and not any(isinstance(entry, np.ndarray) for entry in value)
        return text if small or not len(value) else f"<{len(value)} entries>"
    return f"<{type(value).__name__}>"


def html_table(title: str, rows: Sequence[Sequence[object]], header: Sequence[object] = ()) -> str:
    """A table for a notebook; every text is escaped."""

    def line(cells: Sequence[object], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{escape(str(cell))}</{tag}>' for cell in cells)}</tr>"

    head = f"<thead>{line(header, 'th')}</thead>" if header else ""
    body = "".join(line(row, "td") for row in rows)
    return f"<table><caption>{escape(title)}</caption>{head}<tbody>{body}</tbody></table>"
