"""Tables of the classification benchmark, from its JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .measures import time_to
from .peers import OURS

__all__ = ["WITHIN", "markdown", "means", "paired", "times"]

Row = dict[str, Any]

WITHIN = 0.05
# A deep network is trained where its objective is below this part of the classes' frequencies' loss.
TRAINED = 0.1


def markdown(results: Row) -> str:
    """The tables of the parts that there are."""
    parts = [
        ("### Held-out log loss and accuracy", results["folds"], _folds_table),
        ("### Ours beside the better of both MLPClassifiers", results["folds"], _paired_table),
        ("### Seconds to 5 % above the best known objective", results["timed"], _times_table),
        ("### A deep sigmoid classifier", results["deep"], _deep_table),
    ]
    return "\n\n".join(f"{title}\n\n{table(rows)}" for title, rows, table in parts if rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _names(rows: Sequence[Row], key: str) -> list[str]:
    return list(dict.fromkeys(row[key] for row in rows))


def _values(rows: Sequence[Row], dataset: str, method: str, key: str) -> np.ndarray:
    """Of every fold, in the folds' order."""
    some = [row for row in rows if (row["dataset"], row["method"]) == (dataset, method)]
    return np.array([row[key] for row in sorted(some, key=lambda row: row["fold"])])


def means(values: np.ndarray) -> tuple[float, float]:
    """Mean and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan


def _shown(values: np.ndarray, digits: int = 4) -> str:
    mean, error = means(values)
    return f"{mean:.{digits}f} +- {error:.{digits}f}"


def _folds_table(rows: Sequence[Row]) -> str:
    lines = []
    for dataset in _names(rows, "dataset"):
        for method in _names(rows, "method"):
            loss, accuracy, decay, seconds, fit = (
                _values(rows, dataset, method, key)
                for key in ("log_loss", "accuracy", "weight_decay", "seconds", "fit_seconds")
            )
            decays = f"{np.median(decay):g} ({decay.min():g}-{decay.max():g})"
            cells = [_shown(loss), _shown(accuracy), decays, f"{np.median(seconds):.1f}", f"{np.median(fit):.2f}"]
            lines.append([dataset, method, *cells])
    head = ["data", "method", "log loss", "accuracy", "weight decay", "seconds, choice included", "seconds of the fit"]
    return _table(head, lines)


def paired(rows: Sequence[Row], dataset: str, key: str) -> tuple[str, np.ndarray]:
    """The other method that is better on this set by its mean, and ours minus it, fold by fold."""
    others = [method for method in _names(rows, "method") if method != OURS]
    sign = 1.0 if key == "log_loss" else -1.0
    best = min(others, key=lambda method: sign * _values(rows, dataset, method, key).mean())
    return best, _values(rows, dataset, OURS, key) - _values(rows, dataset, best, key)


def _paired_table(rows: Sequence[Row]) -> str:
    lines = []
    for dataset in _names(rows, "dataset"):
        cells = [dataset]
        for key in ("log_loss", "accuracy"):
            best, difference = paired(rows, dataset, key)
            cells += [best, _shown(difference)]
        lines.append(cells)
    return _table(["data", "better in log loss", "ours - it", "better in accuracy", "ours - it"], lines)


def times(rows: Sequence[Row], problem: str, family: str, *, same_start: bool) -> list[float]:
    """Seconds of every seed to 5 % above the lowest objective of any run, or of any from the same weights."""
    some = [row for row in rows if row["problem"] == problem and row["objective"] is not None]
    found = []
    for seed in sorted({row["seed"] for row in some}):
        best = min(row["objective"] for row in some if not same_start or row["seed"] == seed)
        traces = [row["trace"] for row in some if (row["family"], row["seed"]) == (family, seed)]
        found.append(min((time_to(trace, (1 + WITHIN) * best) for trace in traces), default=np.inf))
    return found


def _seconds(values: Sequence[float]) -> str:
    arrived = int(np.isfinite(values).sum())
    middle = sorted(values)[len(values) // 2]
    shown = f"{middle:.3f}" if np.isfinite(middle) else "-"
    return shown if arrived == len(values) else f"{shown} ({arrived}/{len(values)})"


def _times_table(rows: Sequence[Row]) -> str:
    lines = []
    for problem in _names(rows, "problem"):
        best = min(row["objective"] for row in rows if row["problem"] == problem and row["objective"] is not None)
        for same_start in (False, True):
            cells = [problem, "the same weights" if same_start else "all", f"{best:.4g}"]
            cells += [_seconds(times(rows, problem, f, same_start=same_start)) for f in _names(rows, "family")]
            lines.append(cells)
    return _table(["data", "best of", "best J", *_names(rows, "family")], lines)


def _deep_table(rows: Sequence[Row]) -> str:
    lines = []
    for problem in _names(rows, "problem"):
        for peer in _names(rows, "peer"):
            some = [row for row in rows if (row["problem"], row["peer"]) == (problem, peer)]
            shares = [row["objective"] / row["null"] for row in some]
            seconds = [time_to(row["trace"], TRAINED * row["null"]) for row in some]
            trained = f"{sum(share < TRAINED for share in shares)}/{len(shares)}"
            cells = [f"{np.median(shares):.4f}", f"{min(shares):.4f}-{max(shares):.4f}", _seconds(seconds)]
            lines.append([problem, peer, trained, *cells])
    head = ["network", "method", "trained", "J over the loss of the frequencies, median", "range", "seconds"]
    return _table(head, lines)
