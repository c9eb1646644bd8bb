"""Scores from runs: best known objectives, times to come near them, ratios, profiles.

A *run* is a row of the JSON; one with an empty trace was skipped, one of a :func:`summary` has times in its place.  A
method is a *family*: of members that differ in a setting only, the one that is fastest to 5 % (then lowest) on a
problem stands for all, on that problem.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .measures import time_to
from .peers import OURS, PEERS, Peer
from .problems import PROBLEMS

__all__ = [
    "TARGET_MSE",
    "against_peers",
    "best_by_start",
    "best_known",
    "families",
    "favourite",
    "instances",
    "members",
    "problems",
    "ratios",
    "reached",
    "representatives",
    "solved",
    "summary",
    "targets",
    "time_within",
]

Run = dict[str, Any]

# What counts as trained where a network of the suite is deep; the noise alone is 0.0025.
TARGET_MSE = 0.01
INF = float("inf")


def _finite(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if run.get("trace", True) and run["objective"] is not None]


def time_within(run: Run, within: float, target: float) -> float:
    """Seconds to a target that is ``within`` above the best known objective; of a summary's row as it says."""
    if "trace" in run:
        return time_to(run["trace"], target)
    seconds = run[f"seconds_to_{100 * within:g}_percent"]
    return INF if seconds is None else float(seconds)


def problems(runs: Sequence[Run]) -> list[str]:
    """In the order of the suite; others last, as they were run."""
    return _ordered([run["problem"] for run in _finite(runs)], [problem.name for problem in PROBLEMS])


def families(runs: Sequence[Run]) -> list[str]:
    """In the order of the suite; others last, as they were run."""
    return _ordered([run["family"] for run in _finite(runs)], [peer.family for peer in PEERS])


def _ordered(names: Sequence[str], suite: Sequence[str]) -> list[str]:
    return [name for name in dict.fromkeys([*suite, *names]) if name in names]


def members(runs: Sequence[Run], problem: str, family: str) -> list[Run]:
    """Runs of a family on a problem."""
    return [run for run in _finite(runs) if run["problem"] == problem and run["family"] == family]


def best_known(runs: Sequence[Run]) -> dict[str, float]:
    """The lowest objective any run has found, by problem."""
    return {p: min(run["objective"] for run in _finite(runs) if run["problem"] == p) for p in problems(runs)}


def best_by_start(runs: Sequence[Run]) -> dict[tuple[str, int], float]:
    """The lowest objective any run has found from a seed's initial weights, by problem and seed."""
    best: dict[tuple[str, int], float] = {}
    for run in _finite(runs):
        start = run["problem"], run["seed"]
        best[start] = min(run["objective"], best.get(start, INF))
    return best


def targets(runs: Sequence[Run], within: float, *, by_start: bool = False) -> dict[tuple[str, int], float]:
    """(1 + within) times the best known objective, by problem and seed: that of all seeds, or of each of its own."""
    best, overall = best_by_start(runs), best_known(runs)
    return {start: (1 + within) * (lowest if by_start else overall[start[0]]) for start, lowest in best.items()}


def representatives(runs: Sequence[Run]) -> list[Run]:
    """Runs of the member that stands for its family, problem by problem."""
    best = best_known(runs)
    chosen: list[Run] = []
    for problem in problems(runs):
        for family in families(runs):
            some = members(runs, problem, family)
            groups = [[run for run in some if run["peer"] == peer] for peer in dict.fromkeys(r["peer"] for r in some)]
            if groups:
                chosen += min(groups, key=lambda group: _rank(group, best[problem]))
    return chosen


def _rank(group: Sequence[Run], best: float) -> tuple[int, float, float]:
    """Most runs, then fastest to 5 %, then lowest."""
    times = [time_within(run, 0.05, 1.05 * best) for run in group]
    return -len(group), median(times), median([run["objective"] for run in group])


def favourite(runs: Sequence[Run], problem: str, peer: Peer) -> str:
    """The member of a peer's family that goes on with further seeds of a problem; itself where none has run."""
    chosen = [run["peer"] for run in representatives(members(runs, problem, peer.family))]
    return chosen[0] if chosen else peer.name


def median(values: Sequence[float]) -> float:
    """The middle value; of an even number the larger of the two, so that infinity stays what it is."""
    return sorted(values)[len(values) // 2] if values else INF


def reached(runs: Sequence[Run], within: float, *, by_start: bool = False) -> dict[tuple[str, str, int], float]:
    """Seconds to the :func:`targets`, by problem, family and seed."""
    goal = targets(runs, within, by_start=by_start)
    return {
        (run["problem"], run["family"], run["seed"]): time_within(run, within, goal[run["problem"], run["seed"]])
        for run in representatives(runs)
    }


def ratios(runs: Sequence[Run], within: float, *, by_start: bool = False) -> dict[str, dict[str, float]]:
    """Our median time over that of each other family, on the seeds both have run, by problem.

    Infinite: only the other got there. Left out: families that never got there, and our own variants.
    """
    times = reached(runs, within, by_start=by_start)
    table: dict[str, dict[str, float]] = {}
    for problem in problems(runs):
        table[problem] = {}
        for family in families(runs):
            seeds = [s for (p, f, s) in times if (p, f) == (problem, family) and (problem, OURS, s) in times]
            other = median([times[problem, family, s] for s in seeds])
            if not family.startswith(OURS) and np.isfinite(other):
                table[problem][family] = median([times[problem, OURS, s] for s in seeds]) / max(other, 1e-3)
    return table


def against_peers(runs: Sequence[Run], within: float) -> dict[str, tuple[float, float, str, float]]:
    """By problem: the lowest objective of any peer, our median seconds to near it, the fastest peer and its seconds."""
    table: dict[str, tuple[float, float, str, float]] = {}
    for problem in problems(runs):
        some = [run for run in _finite(runs) if run["problem"] == problem]
        others = [run for run in some if not run["family"].startswith(OURS)]
        if not others:
            continue
        best = min(run["objective"] for run in others)
        times: dict[str, list[float]] = {}
        for run in some:
            times.setdefault(run["peer"], []).append(time_to(run["trace"], (1 + within) * best))
        medians = {peer: median(values) for peer, values in times.items()}
        fastest = min({run["peer"] for run in others}, key=lambda peer: (medians[peer], peer))
        table[problem] = best, medians.get(OURS, INF), fastest, medians[fastest]
    return table


def solved(run: Run) -> float:
    """Seconds to :data:`TARGET_MSE`; where a solver's own history has objectives only, of its end."""
    points = [p for p in run["trace"] if p["mse"] is not None and p["mse"] < TARGET_MSE]
    return points[0]["seconds"] if points else INF


def summary(results: dict[str, Any]) -> dict[str, Any]:
    """The results with the times to 5 % and 1 % (and to :data:`TARGET_MSE` where deep) in place of the traces."""
    best = best_known(results["runs"])
    rows = []
    for run in _finite(results["runs"]):
        row = {name: _rounded(value) for name, value in run.items() if name != "trace"}
        for within in (0.05, 0.01):
            target = (1 + within) * best[run["problem"]]
            row[f"seconds_to_{100 * within:g}_percent"] = _rounded(time_to(run["trace"], target))
        rows.append(row | ({"seconds_to_mse": _rounded(solved(run))} if run["deep"] else {}))
    return results | {"best_known": best, "runs": rows}


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def instances(runs: Sequence[Run], within: float) -> dict[str, list[tuple[float, float]]]:
    """For profiles: by family, (seconds, seconds over the fastest) of every problem and seed it was run on.

    The fastest is that of all families on the same problem and seed.
    """
    times = reached(runs, within)
    fastest: dict[tuple[str, int], float] = {}
    for (problem, _, seed), seconds in times.items():
        fastest[problem, seed] = min(fastest.get((problem, seed), INF), seconds)
    rows: dict[str, list[tuple[float, float]]] = {}
    for (problem, family, seed), seconds in times.items():
        least = fastest[problem, seed]
        ratio = max(seconds, 1e-3) / max(least, 1e-3) if np.isfinite(seconds) else INF
        rows.setdefault(family, []).append((seconds, ratio))
    return rows
