"""Held-out time segments of training records.

Every record is cut into K pieces of equal length.  Fold k trains with the outputs of every record's piece k missing, as
if they had not been measured, so that the records keep their inputs and their length; it is judged on that piece alone,
simulated from an initial state that its own first rows tell.  Samples are never shuffled: what a model over time has to
do is to simulate on.  Where there are K records or more whole records are held out, every K-th one.

Of records that are long together the first rows of every piece are looked at: a choice becomes dearer with more, not
better.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ...network.records import Records
from ...network.state_space import StateSpaceModel
from .initial_state import InitialStates

__all__ = ["Fold", "folds", "held_out_errors", "shortened"]

Array = NDArray[np.float64]
Pair = tuple[Array, Array]

# Samples that a choice looks at, in all.
MOST_SAMPLES = 3000

# Of a segment at most this share is warm-up.
_WARM_UP_SHARE = 1 / 3

# Shorter pieces than this say nothing of a simulation.
LEAST_SAMPLES = 8


@dataclass(frozen=True, eq=False)
class Fold:
    """Records to train on, which of all records they are, and segments that are held out from them."""

    train: Records
    kept: tuple[int, ...]
    held_out: Records

    def states(self, states: Array) -> Array:
        """The part of the states (T, N, n) of all records that belongs to those trained on."""
        return states[: max(self.train.lengths), list(self.kept)]


def shortened(records: Records, number: int) -> Records:
    """Records that a choice looks at: as they are, or the first rows of each of their pieces."""
    if sum(records.lengths) <= MOST_SAMPLES:
        return records
    share = max(MOST_SAMPLES // (number * len(records)), LEAST_SAMPLES)
    pieces = [
        _rows(pair, first, min(end, first + share)) for pair in records.pairs for first, end in _cuts(pair, number)
    ]
    return _records(list(filter(_is_usable, pieces)))


def folds(records: Records, number: int) -> list[Fold]:
    """The folds; without those whose pieces are shorter than eight samples or hold no measurement, or none at all."""
    return [fold for k in range(number) if (fold := _fold(records.pairs, number, k)) is not None]


def _fold(pairs: list[Pair], number: int, k: int) -> Fold | None:
    if len(pairs) >= number:
        held_out = pairs[k::number]
        train = {i: pair for i, pair in enumerate(pairs) if i % number != k}
    else:
        rows = [_cuts(pair, number)[k] for pair in pairs]
        held_out = [_rows(pair, *of) for pair, of in zip(pairs, rows, strict=True)]
        train = {i: _without(pair, *of) for i, (pair, of) in enumerate(zip(pairs, rows, strict=True))}
    train = {i: pair for i, pair in train.items() if np.isfinite(pair[1]).any()}
    held_out = list(filter(_is_usable, held_out))
    if not train or not held_out:
        return None
    return Fold(_records(list(train.values())), tuple(train), _records(held_out))


def _cuts(pair: Pair, number: int) -> list[tuple[int, int]]:
    """First row and end of every piece."""
    ends = np.linspace(0, len(pair[1]), number + 1).round().astype(int).tolist()
    return list(pairwise(ends))


def _records(pairs: list[Pair]) -> Records:
    return Records(tuple(v for v, _ in pairs), tuple(y for _, y in pairs))


def _rows(pair: Pair, first: int, end: int) -> Pair:
    return pair[0][first:end], pair[1][first:end]


def _without(pair: Pair, first: int, end: int) -> Pair:
    """The record with these outputs not measured."""
    y = pair[1].copy()
    y[first:end] = np.nan
    return pair[0], y


def _is_usable(pair: Pair) -> bool:
    return len(pair[1]) >= LEAST_SAMPLES and bool(np.isfinite(pair[1]).any())


def held_out_errors(
    model: StateSpaceModel, theta: Array, known: InitialStates, records: Records, warm_up: int
) -> Array:
    """All errors after the warm-up, in which the initial state is estimated, of the outputs that were measured."""
    errors = [np.empty(0)]
    for v, y in records.pairs:
        window = max(1, min(warm_up, int(_WARM_UP_SHARE * len(y))))
        x0 = known.estimate(model, theta, v[:window], y[:window])
        simulated = model.simulate(theta, v, x0)[0]
        errors.append((simulated - y)[window:][np.isfinite(y[window:])])
    return np.concatenate(errors)
