"""What arguments may be: one table of kinds, and one way in for arrays.

A :class:`Kind` says in words what is expected and decides whether a value is that; whoever takes an option names its
kind, and every refusal reads "name must be ..., received ...".  ``True`` is no integer, NaN no number in any range,
and NumPy's scalars are as good as Python's.

Arrays of data are real numbers.  What NumPy would convert without a word is refused, because it is a mistake more often
than not: complex numbers lose their imaginary part, masked entries come back, strings and booleans become numbers.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ARRAYS",
    "BOOLEAN",
    "CALLABLE",
    "FINITE",
    "MAPPING",
    "NODES",
    "NON_NEGATIVE",
    "PENALTIES",
    "POSITIVE",
    "POSITIVE_OR_INFINITE",
    "SEED",
    "SHARE",
    "SIZES",
    "WIDTH",
    "WIDTHS",
    "Kind",
    "check",
    "check_all",
    "check_finite",
    "check_memory",
    "check_weights",
    "either",
    "instance",
    "integer",
    "number",
    "one_of",
    "optional",
    "real_array",
    "sequence",
    "shown",
    "table",
    "text",
]

Array = NDArray[np.float64]

_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = _BRIEF.maxlong = 60


@dataclass(frozen=True)
class Kind:
    """What a value has to be.

    Attributes
    ----------
    words : str
        Ends the sentence "... must be".
    accepts : callable
        Whether a value is one; takes anything at all.
    """

    words: str
    accepts: Callable[[Any], bool]


def check(name: str, value: Any, kind: Kind, error: type[ValueError] = ValueError) -> None:
    """Raise the error, "name must be ..., received ...", unless the value is of the kind."""
    if not kind.accepts(value):
        raise error(f"{name} must be {kind.words}, received {shown(value)}")


def check_all(kinds: Mapping[str, Kind], values: Mapping[str, Any]) -> None:
    """:func:`check` every name of the table."""
    for name, kind in kinds.items():
        check(name, values[name], kind)


# What one thing may take, in bytes.  Beyond it the machine's memory would end: in CasADi, without a word.
_MAX_BYTES = 8 * 2**30


def check_memory(what: str, needed: float, remedy: str) -> None:
    """Raise ``ValueError`` for what is out of all proportion, before anything is allocated."""
    if needed > _MAX_BYTES:
        raise ValueError(
            f"{what} would take {needed / 2**30:.3g} GiB, and {_MAX_BYTES / 2**30:g} GiB is the bound: {remedy}"
        )


# What a weight takes in the symbolic function of its layer (measured with CasADi 3.8: 380).
_WEIGHT_BYTES = 400

# A larger number of weights is not written out.
_NAMED = 10**100


def check_weights(sizes: Sequence[int]) -> None:
    """:func:`check_memory` for dense layers of these widths."""
    weights = sum((int(n) + 1) * int(m) for n, m in pairwise(sizes))
    if weights > _NAMED:  # and maybe beyond any float
        raise ValueError(f"a network of more than {_NAMED:.0e} weights fits into no memory: narrow its layers")
    check_memory(f"a network of {weights:,} weights", weights * _WEIGHT_BYTES, "narrow its layers")


def shown(value: Any) -> str:
    """A value for a message: its ``repr`` in one short line, arrays by their shape."""
    if isinstance(value, np.ndarray) and value.size > 8:
        return f"{type(value).__name__} of shape {value.shape} and type {value.dtype}"
    return " ".join(_BRIEF.repr(value).split())


_NOT_SEVERAL = (str, bytes, bytearray, memoryview, Set, Mapping)


def _is_several(value: Any) -> bool:
    """Whether it can be gone through, other than by characters, bytes or in no order."""
    is_scalar = isinstance(value, np.ndarray) and value.ndim == 0
    return isinstance(value, Iterable) and not is_scalar and not isinstance(value, _NOT_SEVERAL)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    """Real, and not NaN; Python's integers beyond the largest float are none."""
    if not (_is_integer(value) or isinstance(value, float | np.floating)):
        return False
    try:
        return not np.isnan(float(value))
    except OverflowError:
        return False


def number(
    *, above: float = -np.inf, least: float = -np.inf, below: float = np.inf, most: float = np.inf, finite: bool = True
) -> Kind:
    """Real numbers within bounds; infinity is one only where ``finite`` is False."""

    def accepts(value: Any) -> bool:
        if not _is_number(value) or (finite and not np.isfinite(float(value))):
            return False
        is_above, is_below = value > above or above == -np.inf, value < below or below == np.inf
        return bool(is_above and least <= value <= most and is_below)

    bounds = [
        f"{sign} {bound:g}"
        for sign, bound in ((">", above), (">=", least), ("<", below), ("<=", most))
        if np.isfinite(bound)
    ]
    return Kind(f"a {'finite ' if finite else ''}number {' and '.join(bounds)}".strip(), accepts)


def integer(least: int, most: int | None = None) -> Kind:
    """Integers from ``least`` on, or up to ``most``."""
    words = f"an integer >= {least}" if most is None else f"an integer from {least} to {most}"
    return Kind(words, lambda value: _is_integer(value) and least <= value and (most is None or value <= most))


def one_of(names: Iterable[str]) -> Kind:
    """One of these words."""
    known = tuple(names)
    return Kind(f"one of {', '.join(known)}", lambda value: isinstance(value, str) and value in known)


def instance(kind: type | tuple[type, ...], words: str) -> Kind:
    """An object of a class."""
    return Kind(words, lambda value: isinstance(value, kind))


def sequence(kind: Kind, words: str, *, least: int = 0, ordered: bool = True) -> Kind:
    """A list, tuple, range or vector (or set) of a kind; iterators are none, for a look would use them up."""

    def accepts(value: Any) -> bool:
        is_vector = isinstance(value, np.ndarray) and value.ndim == 1
        is_list = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        if not (is_vector or is_list or (isinstance(value, Set) and not ordered)):
            return False
        return len(value) >= least and all(kind.accepts(entry) for entry in value)

    return Kind(words, accepts)


def either(*kinds: Kind) -> Kind:
    """Any of several kinds."""
    return Kind(" or ".join(kind.words for kind in kinds), lambda value: any(kind.accepts(value) for kind in kinds))


def optional(kind: Kind) -> Kind:
    """A kind, or None."""
    return Kind(f"{kind.words} or None", lambda value: value is None or kind.accepts(value))


def text(*words: str) -> Kind:
    """Exactly one of these words, in quotes where they are named: for unions with other kinds."""
    return Kind(" or ".join(repr(word) for word in words), lambda value: isinstance(value, str) and value in words)


FINITE = number()
POSITIVE = number(above=0)
POSITIVE_OR_INFINITE = number(above=0, finite=False)
NON_NEGATIVE = number(least=0)
SHARE = number(above=0, below=1)
CALLABLE = Kind("callable", callable)
MAPPING = instance(Mapping, "a mapping")
SEED = integer(0)
RANDOM_STATE = optional(either(integer(0, 2**32 - 1), instance(np.random.RandomState, "a RandomState")))
PENALTIES = sequence(POSITIVE, "a sequence of finite numbers > 0")
WIDTH = integer(1)
WIDTHS = sequence(WIDTH, "a sequence of widths (integers >= 1)")
SIZES = sequence(WIDTH, "a sequence of two widths or more (integers >= 1), inputs and outputs included", least=2)
ARRAYS = Kind("a sequence of arrays, one a stage", lambda value: _is_several(value))
BOOLEAN = instance((bool, np.bool_), "True or False")
NODES = sequence(integer(1), "a sequence of node indices (integers >= 1)", ordered=False)


# ---- arrays


def real_array(name: str, values: Any) -> Array:
    """The values as an array of double precision, whatever its shape; NaN and infinity pass.

    A boolean column of a data frame is taken as 0 and 1: there each column has the type that its owner gave it.

    Raises
    ------
    ValueError
        For masked entries, complex numbers, booleans, strings and other objects, rows that differ in length, and
        integers beyond double precision.
    """
    if type(values) is np.ndarray and values.dtype == np.float64:
        return values
    _refuse_masked(name, values)
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        rows = "rows that differ in length" if "inhomogeneous" in str(error) else f"a {type(values).__name__}"
        raise ValueError(f"{name} must be an array of real numbers, received {rows}") from None
    kind, is_frame = array.dtype.kind, hasattr(values, "columns")
    if kind == "O":
        _check_objects(name, array, booleans=is_frame)
    elif kind not in ("iufb" if is_frame else "iuf"):
        raise ValueError(f"{name} must hold real numbers, received {_KINDS.get(kind, f'the type {array.dtype}')}")
    with np.errstate(over="ignore"):  # of higher precision: infinity, which is refused where it matters
        return np.asarray(array, dtype=float)


_KINDS = {"c": "complex numbers", "b": "booleans", "U": "strings", "S": "strings", "M": "dates", "m": "durations"}


def _refuse_masked(name: str, values: Any) -> None:
    if isinstance(values, list | tuple) and any(isinstance(row, np.ma.MaskedArray) for row in values):
        values = np.ma.array(values)
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        mask = np.ma.getmaskarray(values)
        where = _place(np.argwhere(mask)[0])
        raise ValueError(
            f"{name} must have no masked entries, received {int(mask.sum())}, the first {where}: fill or drop them"
        )


def _check_objects(name: str, array: NDArray[Any], *, booleans: bool) -> None:
    """By their types first: data frames of mixed columns arrive as objects, and may be large."""

    def is_real(entry: Any) -> bool:
        is_boolean = isinstance(entry, bool | np.bool_)
        return booleans if is_boolean else isinstance(entry, float | np.floating) or _is_number(entry)

    for kind in set(map(type, array.flat)):
        if not issubclass(kind, float | np.floating | np.integer):
            for where in np.ndindex(array.shape):
                if not is_real(array[where]):
                    received = f"{shown(array[where])} {_place(where)}".rstrip()
                    raise ValueError(f"{name} must hold real numbers, received {received}")
            return


def check_finite(name: str, array: Array) -> None:
    """Raise ``ValueError``, saying where, if an entry is NaN or infinite."""
    finite = np.isfinite(array)
    if not finite.all():
        where = np.argwhere(~finite)[0]
        raise ValueError(f"{name} must be finite, received {array[tuple(where)]} {_place(where)}".rstrip())


def table(name: str, values: Any, columns: int | None = None) -> Array:
    """Finite real numbers with one row a sample, C-contiguous; a vector is one column where one is expected.

    Raises
    ------
    ValueError
        As :func:`real_array`, and for another shape than (N, columns) or values that are not finite.
    """
    array = np.asarray(real_array(name, values), order="C")
    if array.ndim == 1 and columns == 1:
        array = array[:, None]
    if array.ndim != 2 or (columns is not None and array.shape[1] != columns):
        wanted = f"(N, {'columns' if columns is None else columns})"
        raise ValueError(f"{name} must have shape {wanted} with one row a sample, received {array.shape}")
    check_finite(name, array)
    return array


def _place(where: Iterable[Any]) -> str:
    indices = [int(index) for index in where]
    if len(indices) == 2:
        return f"in row {indices[0]}, column {indices[1]}"
    return f"at position {', '.join(map(str, indices))}" if indices else ""
