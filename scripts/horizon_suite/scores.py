"""Successes, times and exponents of runs, as the tables and the figure show them; runs are those of the JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .jax_peer import JAX_SYSID
from .measures import CLOSED, WITHIN, time_to
from .methods import IPOPT_MULTIPLE, METHODS, OURS, family
from .problems import DEFAULT, TANKS

__all__ = [
    "Run",
    "best_rates",
    "families",
    "favourite",
    "is_true",
    "median",
    "problems_of",
    "ratios",
    "seconds",
    "some",
]

Run = dict[str, Any]

# A fitted exponent is right within this part of the true one.
_EXPONENT = 0.1


def problems_of(runs: Sequence[Run]) -> list[str]:
    """Those of the suite in its order, then others, tanks last."""
    there = dict.fromkeys(run["problem"] for run in runs)
    known = [name for name in DEFAULT if name in there]
    return sorted(dict.fromkeys([*known, *there]), key=lambda name: name == TANKS)


def families(runs: Sequence[Run]) -> list[str]:
    there = {family(run["method"]) for run in runs}
    return [name for name in dict.fromkeys(map(family, (*METHODS, JAX_SYSID))) if name in there]


def some(runs: Sequence[Run], problem: str, name: str) -> list[Run]:
    """The runs of a family on a problem."""
    return [run for run in runs if run["problem"] == problem and family(run["method"]) == name]


def number(value: float | None) -> float:
    """JSON has no infinity."""
    return np.inf if value is None else float(value)


def seconds(run: Run) -> float:
    """To success; infinite without."""
    return number(run["seconds_to_success"])


def favourite(runs: Sequence[Run], problem: str, name: str) -> str:
    """The method of a family that did best on the seeds that all were run on: successes, then how close it came."""
    mine = some(runs, problem, name)
    names = list(dict.fromkeys(run["method"] for run in mine))
    seeds = set.intersection(*({run["seed"] for run in mine if run["method"] == method} for method in names))
    mine = [run for run in mine if run["seed"] in seeds] or mine

    def rank(method: str) -> tuple[float, float]:
        own = [run for run in mine if run["method"] == method]
        key = "objective" if own[0]["floor"] is None else "fit"
        return -np.mean([np.isfinite(seconds(r)) for r in own]), float(np.median([number(r[key]) for r in own]))

    return min(names, key=rank)


def best_rates(runs: Sequence[Run]) -> list[Run]:
    """Of a family's runs those of its favourite, named by the family."""
    kept = []
    for problem in problems_of(runs):
        for name in families(runs):
            mine = some(runs, problem, name)
            if mine:
                best = favourite(mine, problem, name)
                kept += [run | {"rate": run["method"], "method": name} for run in mine if run["method"] == best]
    return kept


def is_true(run: Run) -> bool:
    """Whether the fitted model has the exponent of the true system, where that has one."""
    ratio = run["exponent_ratio"]
    return ratio is not None and abs(ratio - 1.0) <= _EXPONENT


def median(values: Sequence[float]) -> float:
    """The median; of an even number with infinite ones among them, the larger of the middle two."""
    ordered = sorted(values)
    middle = float(np.median(ordered)) if np.isfinite(ordered).all() else ordered[len(ordered) // 2]
    return middle


def ratios(runs: Sequence[Run], problem: str) -> list[tuple[float, bool]]:
    """IPOPT's seconds to success on multiple shooting over ours, seed by seed; whether it is only a lower bound.

    It is where IPOPT has not got there when its budget ended.
    """
    ours = {run["seed"]: seconds(run) for run in some(runs, problem, OURS)}
    found = []
    for run in some(runs, problem, IPOPT_MULTIPLE):
        own = ours.get(run["seed"], np.inf)
        if np.isfinite(own) and run["trace"]:
            reached = np.isfinite(seconds(run))
            found.append(((seconds(run) if reached else run["seconds"]) / own, not reached))
    return found


def tanks(runs: Sequence[Run]) -> list[Run]:
    """The runs on tanks with ``relative``, J over the best of all, and ``near``, seconds to 5 % above that best.

    And the same against the best of their own seed, ``relative_of_seed`` and ``near_of_seed``.
    """
    mine = [run for run in runs if run["problem"] == TANKS and run["objective"] is not None]
    closed = [run for run in mine if number(run["defect"]) <= CLOSED]
    least = min((run["objective"] for run in closed), default=np.nan)
    rows = []
    for run in mine:
        of_seed = min((other["objective"] for other in closed if other["seed"] == run["seed"]), default=np.nan)
        row = {"relative": run["objective"] / least, "near": time_to(run["trace"], WITHIN * least)}
        row |= {"relative_of_seed": run["objective"] / of_seed, "near_of_seed": time_to(run["trace"], WITHIN * of_seed)}
        rows.append(run | row)
    return rows
