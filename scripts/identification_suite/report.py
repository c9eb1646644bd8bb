"""Tables of the identification benchmark: errors of new records over seeds, seconds, failures, published figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .published import PUBLISHED
from .settings import QUICK, SETS, Setting

__all__ = ["line", "markdown"]

Run = dict[str, Any]

# Choices of a method that are shown.
_SHOWN = 2

# An objective beyond this is none.
_ABSURD = 1e30


def line(run: Run) -> str:
    """A run, as it is printed when it is done."""
    errors = " ".join(f"{part} {value:.4g}" for part, value in run["rmse"].items())
    what = f"{errors or run['status']}; {run['seconds']:.0f} s; {run['chosen']}"
    return f"{run['dataset']} {run['seed']} {run['method']}: {what}"


def markdown(results: dict[str, Any]) -> str:
    runs = results["runs"]
    names = [name for name in (SETS | QUICK) if any(run["dataset"] == name for run in runs)]
    blocks = [_table(name, [run for run in runs if run["dataset"] == name]) for name in names]
    blocks += [_timed(results["timed"])] if results["timed"] else []
    return "\n\n".join([*blocks, *_published(names), _made_by(results)])


def _setting(name: str) -> Setting:
    return (SETS | QUICK)[name]


def _table(name: str, runs: Sequence[Run]) -> str:
    setting = _setting(name)
    parts = [*dict.fromkeys(part for run in runs for part in run["rmse"])]
    head = ["method", "runs", *(f"{part}: RMSE{f' [{setting.unit}]' if setting.unit else ''}, fit" for part in parts)]
    rows = [[*head, "processor seconds", "chosen"], ["---"] * (len(head) + 2)]
    for method in dict.fromkeys(run["method"] for run in runs):
        mine = [run for run in runs if run["method"] == method]
        cells = [_cell([run for run in mine if part in run["rmse"]], part, setting.factor) for part in parts]
        seconds = f"{np.median([run['seconds'] for run in mine]):.0f}"
        rows.append([method, _count(mine), *cells, seconds, _chosen(mine)])
    aims = ", ".join(f"{part} {aim:g}" for part, aim in setting.aims.items())
    kind = "fit in per cent at least" if name == "rlc" else f"RMSE at most, {setting.unit or 'no unit'}"
    text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return f"### {name}\n\n" + (f"Aims ({kind}): {aims}.\n\n" if aims else "") + text


def _chosen(runs: Sequence[Run]) -> str:
    """What was chosen, of many different choices the first ones."""
    words = list(dict.fromkeys(run["chosen"] for run in runs))
    return "; ".join(words[:_SHOWN]) + ("; ..." if len(words) > _SHOWN else "")


def _count(runs: Sequence[Run]) -> str:
    failed = [run["status"] for run in runs if not run["rmse"]]
    return str(len(runs)) if not failed else f"{len(runs)}, {len(failed)} failed ({failed[0]})"


def _cell(runs: Sequence[Run], part: str, factor: float) -> str:
    """Median and range over seeds; the fit is that of the median."""
    if not runs:
        return ""
    errors = np.array([run["rmse"][part] for run in runs]) * factor
    fits = np.array([run["fit"][part] for run in runs])
    finite = errors[np.isfinite(errors)]
    text = f"**{np.median(errors):.3g}**" if len(finite) == len(errors) else f"{len(errors) - len(finite)} infinite"
    spread = f" ({finite.min():.3g} to {finite.max():.3g})" if len(finite) > 1 else ""
    return f"{text}{spread}, {np.median(fits):.1f} %"


def _timed(rows: Sequence[Run]) -> str:
    """jax-sysid and ours on one objective."""
    head = [
        "record",
        "samples",
        "decay",
        "J of jax-sysid",
        "its seconds",
        "J of ours",
        "starts",
        "seconds",
        "until J of jax-sysid",
    ]
    table = [head, ["---"] * len(head)]
    for row in rows:
        share = (
            "never" if row["reached"] is None else f"{row['reached']:.1f} ({row['reached'] / row['peer_seconds']:.2f})"
        )
        peer = row["peer_objective"]  # None in a file where it is not finite
        table.append([f"{row['dataset']}, seed {row['seed']}", str(row["samples"]), f"{row['weight_decay']:g}",
                      "not finite" if peer is None or peer > _ABSURD else f"{peer:.4g}", f"{row['peer_seconds']:.1f}",
                      f"{row['objective']:.4g}", str(row["starts"]), f"{row['seconds']:.1f}", share])  # fmt: skip
    text = "\n".join("| " + " | ".join(row) + " |" for row in table)
    return f"### The same objective, the same start\n\n{_in_time(rows)}\n\n{text}"


def _in_time(rows: Sequence[Run]) -> str:
    """How often ours was there within the other's time."""
    shares: dict[str, list[float]] = {}
    for row in rows:
        share = np.inf if row["reached"] is None else row["reached"] / row["peer_seconds"]
        shares.setdefault(row["dataset"], []).append(share)
    there = sum(share <= 1 for of in shares.values() for share in of)
    medians = ", ".join(f"{name} {np.median(of):.2f}" for name, of in shares.items())
    return (
        f"Ours is at jax-sysid's final objective within its time in {there} of {len(rows)}.  Median share of its time: "
        f"{medians}."
    )


def _published(names: Sequence[str]) -> list[str]:
    known = [entry for entry in PUBLISHED if entry.dataset in names]
    rows = [f"| {e.dataset}, {e.part} | {e.method} | {e.error} | {e.source} |" for e in known]
    head = "### Published by others\n\n| record | method | RMSE | source |\n|---|---|---|---|\n"
    return [head + "\n".join(rows)] if rows else []


def _made_by(results: dict[str, Any]) -> str:
    where, commands = results["environment"], "; ".join(f"`{command}`" for command in results["commands"])
    skipped = f"  Not installed: {', '.join(results['missing'])}." if results["missing"] else ""
    return f"{commands}; commit {where['commit']}, {where['cpu']}.{skipped}"
