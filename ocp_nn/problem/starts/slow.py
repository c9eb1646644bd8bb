"""Hidden states that forget slowly: random linear memories of the inputs.

    x_{t+1} = (1 - 1/T) x_t + B v_t,     B random,

so that what an input did is still in the states at the end of the record.  Neither a linear model of the outputs nor
their delays say anything of an input that shows hundreds of steps later; such states do (our derivation).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...network.records import Records

__all__ = ["slow_states"]

Array = NDArray[np.float64]


def slow_states(records: Records, num_states: int, seed: int) -> list[Array]:
    """States (T_i, n) of mean zero and variance one over all records; zero where there are no inputs.

    Parameters
    ----------
    records : Records
    num_states : int
    seed : int
        Of B.
    """
    mixing = np.random.default_rng(seed).standard_normal((records.num_inputs, num_states))
    keep = 1.0 - 1.0 / max(records.lengths)
    states = [_remembered(v @ mixing, keep) for v in records.inputs]
    together = np.concatenate(states)
    scale = together.std(axis=0)
    return [(x - together.mean(axis=0)) / np.where(scale > 0, scale, 1.0) for x in states]


def _remembered(drive: Array, keep: float) -> Array:
    x = np.zeros_like(drive)
    for t in range(1, len(x)):
        x[t] = keep * x[t - 1] + drive[t - 1]
    return x
