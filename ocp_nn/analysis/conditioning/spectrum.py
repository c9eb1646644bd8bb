"""What is reported of a matrix: extremes, condition number, rank, and how accurately they are known.

The condition number is the 2-norm one, largest over smallest singular value, of ``min(rows, columns)`` values for
a rectangular matrix (``numpy.linalg.cond``).  Floating point knows singular values to about ``eps * largest``: beyond
``1/eps`` a condition number only says "singular", and :attr:`Spectrum.accuracy` says how far each one can be trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...base.display import brief

__all__ = ["Spectrum", "from_eigenvalues", "from_singular_values", "ratio"]

Array = NDArray[np.float64]

EPS = float(np.finfo(float).eps)


@dataclass(frozen=True, kw_only=True, eq=False)
class Spectrum:
    """Singular values of a matrix, or what is known of them.

    Attributes
    ----------
    rows, columns : int
    largest, smallest : float
        Of the ``min(rows, columns)`` singular values (absolute eigenvalues of a symmetric matrix).
    condition : float
        ``largest / smallest``; infinite where the smallest is zero.
    accuracy : float
        Relative error of ``condition`` that is to be expected; 1 or more means that the matrix is singular to rounding.
    rank : int or None
        Numerical rank, as ``numpy.linalg.matrix_rank`` counts it; None where only the extremes are known.
    negative : int or None
        Negative eigenvalues beyond rounding; None for a matrix that is not symmetric, or where it is not known.
    route : str
        ``"dense"`` or ``"iterative"``.
    is_bound : bool
        ``condition`` is a lower bound, not a value.
    values : array or None
        All of them, largest first (eigenvalues with their sign, by size); None where only the extremes are known.
    """

    rows: int
    columns: int
    largest: float
    smallest: float
    accuracy: float
    rank: int | None = None
    negative: int | None = None
    route: str = "dense"
    is_bound: bool = False
    values: Array | None = None

    __repr__ = brief

    @property
    def condition(self) -> float:
        return ratio(self.largest, self.smallest)

    @property
    def is_singular(self) -> bool:
        """Singular to rounding."""
        return not self.accuracy < 1.0


def ratio(largest: float, smallest: float) -> float:
    """``largest / smallest``, infinite where that is zero or overflows; 1 for a matrix of no size."""
    if largest == smallest:
        return 1.0
    return largest / smallest if smallest > largest * np.finfo(float).tiny else np.inf


def from_singular_values(values: NDArray[Any], rows: int, columns: int) -> Spectrum:
    """The spectrum of a matrix whose singular values are all known; those beyond the ones given are zero."""
    padded = np.zeros(min(rows, columns))
    padded[: len(values)] = np.sort(values)[::-1]
    return _known(padded, rows, columns, negative=None)


def from_eigenvalues(values: NDArray[Any]) -> Spectrum:
    """The spectrum of a symmetric matrix from all of its eigenvalues."""
    by_size = values[np.argsort(-np.abs(values), kind="stable")]
    rounding = len(values) * EPS * float(np.abs(values).max(initial=0.0))
    return _known(by_size, len(values), len(values), negative=int(np.sum(values < -rounding)))


def _known(values: Array, rows: int, columns: int, negative: int | None) -> Spectrum:
    sizes = np.abs(values)
    largest, smallest = float(sizes[0]), float(sizes[-1])
    rounding = max(rows, columns) * EPS
    return Spectrum(
        rows=rows,
        columns=columns,
        largest=largest,
        smallest=smallest,
        accuracy=rounding * ratio(largest, smallest),
        rank=int(np.sum(sizes > rounding * largest)),
        negative=negative,
        values=values,
    )
