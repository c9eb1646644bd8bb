"""Building blocks of random cases."""

from __future__ import annotations

import numpy as np

from ocp_nn import Network
from ocp_nn.network.activations import ACTIVATIONS

__all__ = ["ODD", "controls_of", "network_of", "odd", "pick", "plain_table", "seldom"]

NAN, INF = float("nan"), float("inf")

# Values of the wrong kind for almost everything.
ODD = [
    None, True, False, 0, -1, 1, 2, 3, 10**400, -(10**30), 0.0, -0.0, 0.5, 1.5, 1e-320, 1e308, NAN, INF, -INF, 1j, "",
    " ", "1", "auto", "none", "multiple", "\u00b2", "\0", "x" * 3000, b"1", (), [], {}, set(), [1], [1.5], ["1"],
    [None], [NAN], (1, 2), (0,), (True,), {"a": 1}, {1}, object(), len, int, range(3), slice(2), np.float32(0.5),
    np.int8(1), np.uint64(2**63), np.bool_(True), np.float64("nan"), np.array(1), np.array([1]), np.ones(3),
    np.ones((2, 2)), np.array(["a"]), np.array([None]), np.datetime64("2020-01-01"),
    np.ma.masked, memoryview(b"ab"), Ellipsis,
]  # fmt: skip


def pick(rng, options):
    """One of a sequence, whatever the kinds of its entries."""
    return options[int(rng.integers(len(options)))]


def seldom(rng, probability):
    return bool(rng.random() < probability)


def odd(rng):
    return pick(rng, ODD)


def network_of(rng, inputs, outputs):
    """A dense network of up to three hidden layers of up to four units."""
    hidden = [int(n) for n in rng.integers(1, 5, rng.integers(0, 4))]
    activation = pick(rng, list(ACTIVATIONS))
    return Network.mlp([inputs, *hidden, outputs], activation, residual=seldom(rng, 0.2))


def controls_of(rng, network):
    """Weights of the usual size, or larger."""
    return tuple(pick(rng, [1.0, 1.0, 3.0, 30.0]) * u for u in network.init_controls(int(rng.integers(1000))))


def plain_table(rng, rows, columns):
    """Numbers of the usual size with the peculiarities that real tables have."""
    table = rng.standard_normal((rows, columns))
    if seldom(rng, 0.3):
        table = np.round(table, int(rng.integers(0, 3)))
    column = int(rng.integers(columns))
    peculiarity = pick(rng, ["none", "none", "constant", "duplicate", "collinear", "level", "rare", "sorted"])
    if peculiarity == "constant":
        table[:, column] = pick(rng, [0.0, 1.0, 0.1, -3e5])
    elif peculiarity == "duplicate":
        table[:, column] = table[:, 0]
    elif peculiarity == "collinear":
        table[:, column] = table.sum(axis=1)
    elif peculiarity == "level":
        table[:, column] = 1e9 + table[:, column]
    elif peculiarity == "rare":
        table[:, column] = np.arange(rows) == rows - 1
    elif peculiarity == "sorted":
        table.sort(axis=0)
    return table
