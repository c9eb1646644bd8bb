"""Tables of the constrained benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import timed

__all__ = ["at", "markdown"]

Row = dict[str, Any]


def markdown(results: dict[str, Any]) -> str:
    parts = []
    for name, table in (("random", _random), ("timed", _timed), ("monotone", _monotone), ("sparse", _sparse)):
        if results[name]:
            parts.append(table(results[name]))
    where = results["environment"]
    commands = "; ".join(f"`{at(command, where['commit'])}`" for command in results["commands"])
    return "\n\n".join([*parts, f"{commands}; {where['cpu']}."])


def at(command: str, commit: str) -> str:
    """The command with the code that it was run on, between backticks of Markdown; said once."""
    return command if "` at `" in command else f"{command}` at `{commit}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (rows[0], ["---"] * len(rows[0]), *rows[1:]))


def _random(rows: Sequence[Row]) -> str:
    good, infeasible = sum(row["agrees"] for row in rows), sum(row["infeasible"] for row in rows)
    unique = [row for row in rows if row["agrees"] and not row["infeasible"] and row["unique"]]
    others = [row for row in rows if not row["agrees"]]
    most = {key: max((row[key] for row in unique), default=0.0) for key in ("objective", "multiplier", "violation")}
    text = (
        f"### Random problems\n\n{good} of {len(rows)} agree with IPOPT, {infeasible} of them in that there is no "
        f"feasible point.  Among those with unique multipliers the largest differences are {most['objective']:.1e} in "
        f"the objective and {most['multiplier']:.1e} in the multipliers, and the largest violation is "
        f"{most['violation']:.1e}.  Median {np.median([row['seconds'] for row in rows]):.2f} s."
    )
    table = [["seed", "constraints", "ours", "IPOPT", "objective", "multipliers", "violation"]]
    for row in others:
        table.append([str(row["seed"]), ", ".join(row["kinds"]), row["status"], row["reference"],
                      f"{row['objective']:.1e}", f"{row['multiplier']:.1e}", f"{row['violation']:.1e}"])  # fmt: skip
    return f"{text}\n\nThose that do not:\n\n{_table(table)}" if others else text


def _timed(rows: Sequence[Row]) -> str:
    names = list(dict.fromkeys(row["problem"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    table = [["problem", "best objective", *methods]]
    firsts = {"median": 0, "expected": 0}
    for name in names:
        mine = [row for row in rows if row["problem"] == name]
        feasible = [v for row in mine for _, v, worst in row["trace"] if timed.is_feasible(v, worst)]
        best = min(feasible, default=float("inf"))
        times = {
            method: [_time(row, best * (1 + timed.WITHIN)) for row in mine if row["method"] == method]
            for method in methods
        }
        medians = {method: float(np.median([t for t, _ in of])) if of else np.inf for method, of in times.items()}
        expected = {method: timed.expected_seconds(of) for method, of in times.items()}
        firsts["median"] += _is_first(medians)
        firsts["expected"] += _is_first(expected)
        arrived = {method: f"{sum(np.isfinite(t) for t, _ in of)}/{len(of)}" for method, of in times.items()}
        cells = [f"{_seconds(expected[m])}, {_seconds(medians[m])} ({arrived[m]})" for m in methods]
        table.append([name, f"{best:.4g}", *cells])
    words = (
        f"Expected seconds with starts until one arrives (of all runs to there or to their end, by those that arrive), "
        f"median over seeds, and how many arrive.  Ours is first on {firsts['expected']} of {len(names)} by the first "
        f"number and on {firsts['median']} by the second."
    )
    return f"### Seconds to a feasible point within 1 % of the best\n\n{words}\n\n{_table(table)}"


def _time(row: Row, objective: float) -> tuple[float, float]:
    """Seconds to the aim, infinite if it is never reached, and seconds of the whole run."""
    return timed.seconds_to(row["trace"], objective), row["trace"][-1][0] if row["trace"] else 0.0


def _is_first(times: dict[str, float]) -> bool:
    least = min(times.values())
    return bool(np.isfinite(least) and times.get(timed.OURS, np.inf) == least)


def _seconds(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "never"


def _monotone(rows: Sequence[Row]) -> str:
    table = [["data", "splits", "method", "mean test RMSE", "against unconstrained", "violations", "seconds"]]
    for name in dict.fromkeys(row["dataset"] for row in rows):
        mine = [row for row in rows if row["dataset"] == name]
        base = np.mean([row["unconstrained"]["rmse"] for row in mine])
        for method in ("unconstrained", "monotone", "boosting"):
            errors = [row[method]["rmse"] for row in mine]
            found = sum(row[method]["violations"] for row in mine)
            seconds = np.median([row[method]["seconds"] for row in mine])
            table.append([name, str(len(mine)), method, f"{np.mean(errors):.4f}", f"{np.mean(errors) / base:.3f}",
                          f"{found:,}", f"{seconds:.1f}"])  # fmt: skip
    return f"### Monotone regression\n\n{_table(table)}"


def _sparse(rows: Sequence[Row]) -> str:
    right = sum(row["is_right"] for row in rows)
    table = [["seed", "weight decay", "inputs found", "seconds"]]
    table += [
        [str(r["seed"]), f"{r['weight_decay']:g}", ", ".join(map(str, r["chosen"])), f"{r['seconds']:.0f}"]
        for r in rows
    ]
    words = f"The five true ones, and no other, in {right} of {len(rows)}."
    return f"### Inputs of Friedman's function\n\n{words}\n\n{_table(table)}"
