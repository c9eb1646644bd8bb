"""What the tables of a sweep say, in sentences.

Everything is computed from the CSV files (:mod:`.groups`, :mod:`.correlations`), so that a reader of the files can
check it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .correlations import MEASURE_NAMES, Correlation, correlations
from .groups import Group, Sweep, groups, median, start_condition, start_measures, succeeded

__all__ = ["verdict"]

Array = NDArray[np.float64]
Row = dict[str, str]

# Condition number up to which a matrix is called far from singular: half the digits are left.
_REGULAR = 1e8


def verdict(sweep: Sweep) -> list[str]:
    """The findings in plain sentences, each with its numbers; what the data do not support is not said."""
    sentences = [*_on_hypothesis(sweep), *_on_penalty(sweep), *_on_rank(sweep)]
    if sweep.training:
        sentences += [_on_training(sweep), *_on_what_matters(sweep), *_on_prediction(correlations(sweep))]
    return sentences


def _on_hypothesis(sweep: Sweep) -> list[str]:
    """Is multiple shooting better conditioned than single shooting?"""
    single, multiple = start_condition(sweep, "single"), start_condition(sweep, "multiple")
    pairs = (
        ("Gauss-Newton", single("gauss_newton", None), multiple("kkt_gauss_newton", None)),
        ("exact Hessian", single("hessian", None), multiple("kkt", None)),
    )
    parts, shares = [], []
    for name, one, many in pairs:
        ratios = [many[run] / one[run] for run in many if np.isfinite(one.get(run, np.nan)) and np.isfinite(many[run])]
        if ratios:
            better = sum(value < 1.0 for value in ratios)
            shares.append(better / len(ratios))
            parts.append(f"{name} {better} of {len(ratios)}, median ratio {median(ratios):.1f}")
    if not parts:
        return []
    word = "holds" if min(shares) > 0.9 else "fails" if max(shares) < 0.1 else "holds in part"
    return [
        f"The hypothesis that multiple shooting is better conditioned {word} for the matrices at the start: its KKT "
        f"matrix has a smaller condition number than single shooting's matrix of the same kind ({'; '.join(parts)}).",
        *_without_decay(sweep, single("gauss_newton_no_decay", None), multiple("constraint_jacobian", None)),
    ]


def _without_decay(sweep: Sweep, plain: dict[str, float], constraints: dict[str, float]) -> list[str]:
    if not (plain and constraints):
        return []
    singular = sum(value > 1.0 / np.finfo(float).eps for value in plain.values())
    worst = max(constraints.values())
    regular = ": never near singular" if worst < _REGULAR else ""
    return [
        f"Without weight decay single shooting's Gauss-Newton matrix is singular to rounding in {singular} of "
        f"{len(plain)} runs.  The Jacobian of multiple shooting's defects has condition numbers up to {worst:.0e} "
        f"(median {median(list(constraints.values())):.0e}){regular}."
    ]


def _on_penalty(sweep: Sweep) -> list[str]:
    if len(sweep.penalties) < 2:
        return []
    low, high = sweep.penalties[0], sweep.penalties[-1]
    measures = start_measures(sweep)
    runs = [run for run in measures["al_low"] if run in measures["al_high"]]
    growth = median([measures["al_high"][run] / measures["al_low"][run] for run in runs])
    condensed = [measures["condensed_high"][run] / measures["condensed_low"][run] for run in runs]
    against = median([measures["condensed_high"][run] / measures["gauss_newton"][run] for run in runs])
    return [
        f"From a penalty of {low:g} to {high:g} the augmented Lagrangian's Gauss-Newton matrix in (u, x) gets worse by "
        f"a factor of {growth:.1e} (median), the matrices that forward DP factorises by {median(condensed):.1f} "
        f"(largest {max(condensed):.0f}): they tend to single shooting's ({against:.2f} of it), whatever the penalty."
    ]


def _on_rank(sweep: Sweep) -> list[str]:
    """What goes wrong in single shooting: directions that are lost, not large condition numbers."""
    table = [g for g in groups(sweep) if not np.isnan(g.rank)]
    if not table:
        return []
    worst = min(table, key=lambda g: g.rank)
    best = max(table, key=lambda g: g.rank)
    return [
        f"What depth destroys is rank: the single-shooting Jacobian keeps {100 * worst.rank:.0f} % of its rank in "
        f"{_name(worst)} (signal {worst.signal:.0e}), against {100 * best.rank:.0f} % in {_name(best)}; weight decay "
        f"hides it from the condition numbers ({worst.gauss_newton:.0e} and {best.gauss_newton:.0e})."
    ]


def _name(group: Group) -> str:
    return f"{group.depth} {group.activation} layers with {group.initialisation!r} weights"


def _on_training(sweep: Sweep) -> str:
    shares = []
    for method in sweep.methods:
        rows = [row for row in sweep.training if row["method"] == method]
        shares.append(f"{method} {sum(succeeded(sweep, row) for row in rows)} of {len(rows)}")
    limits = {
        method: max(int(row["steps"]) for row in sweep.training if row["method"] == method) for method in sweep.methods
    }
    budget = ", ".join(f"{method} {steps}" for method, steps in limits.items())
    return (
        f"Trainings that reach a relative error of {sweep.threshold:.3f} ({budget} steps at most): {', '.join(shares)}."
    )


def _on_what_matters(sweep: Sweep) -> list[str]:
    """Did the formulation or the start decide?"""
    ends = {(row["run"], row["method"]): succeeded(sweep, row) for row in sweep.training}
    runs = sorted({run for run, _ in ends if (run, "lm") in ends and (run, "al") in ends})
    if not runs:
        return []
    only = {method: sum(ends[run, method] and not ends[run, other] for run in runs)
            for method, other in (("lm", "al"), ("al", "lm"))}  # fmt: skip
    shares = []
    for start in sorted({row["initialisation"] for row in sweep.training}):
        rows = [row for row in sweep.training if row["initialisation"] == start]
        shares.append(f"{start!r} {sum(succeeded(sweep, row) for row in rows)} of {len(rows)}")
    return [
        f"From the same weights only multiple shooting (al) trains in {only['al']} of {len(runs)} runs and only single "
        f"shooting (lm) in {only['lm']}; by starting weights, all methods together: {', '.join(shares)}."
    ]


def _on_prediction(found: Sequence[Correlation]) -> list[str]:
    """The best predictor of success per method, and what the Hessian's condition number is worth."""
    sentences = _on_warning(found)
    for method in dict.fromkeys(c.method for c in found):
        rows = [c for c in found if c.method == method and c.outcome == "success" and not np.isnan(c.value)]
        if not rows:
            sentences.append(f"{method}: success does not vary, so nothing predicts it.")
            continue
        best = max(rows, key=lambda c: abs(c.value))
        rule = [c for c in rows if c.measure == "hessian"]
        against = f"; the exact Hessian's condition number has {_signed(rule[0])}" if rule and best not in rule else ""
        sentences.append(
            f"{method}: success goes best with the {MEASURE_NAMES[best.measure]}, rank correlation {_signed(best)}"
            f"{against}."
        )
    return sentences


def _on_warning(found: Sequence[Correlation]) -> list[str]:
    """Would a warning on the condition number of single shooting's Hessian have been right?"""
    names = ("gauss_newton", "hessian")
    rows = [
        c for c in found if (c.method, c.outcome) == ("lm", "success") and c.measure in names and not np.isnan(c.value)
    ]
    if len(rows) < 2:
        return []
    values = " and ".join(f"{c.value:+.2f}" for c in rows)
    largest, smallest = max(c.value for c in rows), min(c.value for c in rows)
    if smallest > 0.2:
        word = "the sign is the wrong one: networks that cannot train have small condition numbers, set by weight decay"
    elif largest < -0.2:
        word = "they do, so a warning on a large condition number is worth something here"
    else:
        word = "they hardly correlate, so a warning on a large condition number is worth little here"
    return [
        "If ill-conditioning kept single shooting from training, its condition numbers (Gauss-Newton, exact Hessian) "
        f"and success of lm would correlate negatively; the rank correlations are {values}: {word}."
    ]


def _signed(correlation: Correlation) -> str:
    inside = "" if np.isnan(correlation.within_depth) else f" ({correlation.within_depth:+.2f} within equal depth)"
    return f"{correlation.value:+.2f}{inside}"
