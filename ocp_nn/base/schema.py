"""What a JSON value may be, said once in a table and checked by it; and words for the numbers that JSON has not.

A table maps the names of an object's entries to their kinds, or to an :class:`Optional` one with its default.  Names
that are not in the table are left out of what comes back, so that a later version may add entries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = [
    "AMOUNT", "COUNT", "COUNTS", "FLAG", "NUMBER", "POSITIVE", "TEXT", "TEXTS", "WORDS", "Kind", "Optional", "Table",
    "checked", "from_words", "listed", "one_of", "or_none", "shown", "to_words",
]  # fmt: skip

# Integers beyond this are no counts, and not exact as floating-point numbers.
_LARGEST = 2**53


@dataclass(frozen=True)
class Kind:
    """A kind of value: its name for messages, and which values are of it."""

    name: str
    fits: Callable[[Any], bool]


@dataclass(frozen=True)
class Optional:
    """An entry that may be missing."""

    kind: Kind
    default: Any


Table = Mapping[str, Kind | Optional]


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (type(value) is int and abs(value) <= _LARGEST)


def _is_finite(value: Any) -> bool:
    return _is_number(value) and bool(np.isfinite(value))


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST


def _is_mapping(value: Any, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(map(fits, value.values()))


TEXT = Kind("text", lambda v: isinstance(v, str))
FLAG = Kind("true or false", lambda v: isinstance(v, bool))
COUNT = Kind("an integer >= 0", _is_count)
NUMBER = Kind("a number", _is_number)
POSITIVE = Kind("a finite number > 0", lambda v: _is_finite(v) and v > 0)
AMOUNT = Kind("a finite number >= 0", lambda v: _is_finite(v) and v >= 0)
COUNTS = Kind("an object of integers >= 0", lambda v: _is_mapping(v, _is_count))
WORDS = Kind("an object of texts", lambda v: _is_mapping(v, TEXT.fits))


def listed(kind: Kind, length: int | None = None) -> Kind:
    """A list of values of a kind."""
    return Kind(
        f"a list{'' if length is None else f' of {length}'}, each {kind.name}",
        lambda v: isinstance(v, list) and length in (None, len(v)) and all(map(kind.fits, v)),
    )


TEXTS = listed(TEXT)


def one_of(*values: str) -> Kind:
    """One of these texts."""
    return Kind(f"one of {', '.join(values)}", lambda v: isinstance(v, str) and v in values)


def or_none(kind: Kind) -> Kind:
    """A value of the kind, or null."""
    return Kind(f"{kind.name}, or null", lambda v: v is None or kind.fits(v))


def checked(where: str, value: Any, table: Table, *, strict: bool = False) -> dict[str, Any]:
    """The entries of the table in an object, each of its kind; ``strict`` refuses others.

    Raises
    ------
    ValueError
        If the value is no object, or an entry is missing or of another kind; ``where`` begins the sentence.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {shown(value)}, expected an object with {', '.join(table)}")
    unknown = sorted(value.keys() - table.keys())
    if strict and unknown:
        raise ValueError(f"{where} has an entry {shown(unknown[0])}, expected only {', '.join(table)}")
    return {name: _entry(where, value, name, kind) for name, kind in table.items()}


def _entry(where: str, value: Mapping[str, Any], name: str, kind: Kind | Optional) -> Any:
    if name not in value:
        if isinstance(kind, Optional):
            return kind.default
        raise ValueError(f"{where} has no entry {name!r}")
    kind = kind.kind if isinstance(kind, Optional) else kind
    if not kind.fits(value[name]):
        raise ValueError(f"{where} has {shown(value[name])} for {name!r}, expected {kind.name}")
    return value[name]


def shown(value: Any) -> str:
    """A value in at most sixty characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def to_words(value: Any) -> Any:
    """Plain Python values, with the words "inf", "-inf" and "nan" for the numbers that JSON has not."""
    if isinstance(value, Mapping):
        return {str(key): to_words(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [to_words(entry) for entry in value]
    if isinstance(value, np.generic | np.ndarray):
        return to_words(value.tolist())
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


def from_words(value: Any) -> Any:
    """The inverse of :func:`to_words`."""
    if isinstance(value, dict):
        return {key: from_words(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [from_words(entry) for entry in value]
    return float(value) if isinstance(value, str) and value in ("inf", "-inf", "nan") else value
