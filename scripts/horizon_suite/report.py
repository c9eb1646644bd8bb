"""The tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from . import scores
from .methods import OURS
from .problems import TANKS
from .scores import Run

__all__ = ["line", "markdown"]


def line(run: Run) -> str:
    """One run, for those who wait."""
    hit = scores.seconds(run)
    close = "" if run["floor"] is None else f"  fit/floor {scores.number(run['fit']) / run['floor']:8.3g}"
    exponent = "" if run["exponent_ratio"] is None else f"  exponent {run['exponent_ratio']:5.2f}"
    return (
        f"{run['problem']:13} seed {run['seed']}  {run['method']:24} {f'{hit:.2f} s' if np.isfinite(hit) else '-':>8} "
        f"of {run['seconds']:6.1f} s{close}  J {scores.number(run['objective']):9.4g}  defect "
        f"{scores.number(run['defect']):8.2g}{exponent}  {run['status']}"
    )


def markdown(runs: Sequence[Run]) -> str:
    """All tables that the runs have something for."""
    best = scores.best_rates(runs)
    suite = [run for run in best if run["problem"] != TANKS]
    blocks = [_successes(suite), _exponents(suite), _ratios(suite), _tanks(best), _missing(best), _failures(suite)]
    return "\n\n".join(block for block in blocks if block)


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [f"**{title}**", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _by_problem(title: str, runs: Sequence[Run], cell: Callable[[list[Run]], str], *, total: bool) -> str:
    """One row a problem, one column a method."""
    problems = scores.problems_of(runs)
    names = [name for name in scores.families(runs) if any(_ran(run) for run in runs if run["method"] == name)]
    rows = [[problem, *(cell(scores.some(runs, problem, name)) for name in names)] for problem in problems]
    if total and rows:
        rows.append(["all", *(_total([run for run in runs if run["method"] == name]) for name in names)])
    return _table(title, ["problem", *names], rows)


def _ran(run: Run) -> bool:
    return not run["status"].startswith("not available")


def _total(runs: Sequence[Run]) -> str:
    return f"**{sum(np.isfinite(scores.seconds(run)) for run in runs)}/{len(runs)}**"


def _success_cell(runs: list[Run]) -> str:
    if not runs:
        return "-"
    times = [scores.seconds(run) for run in runs if np.isfinite(scores.seconds(run))]
    if times:
        return f"{len(times)}/{len(runs)} {np.median(times):.2g} s"
    fits = scores.median([scores.number(run["fit"]) / run["floor"] for run in runs])
    return f"0/{len(runs)} ({_factor(fits)})"


def _factor(value: float) -> str:
    """How often the floor."""
    if not np.isfinite(value):
        return "overflow"
    return f"x{value:.2g}" if value < 100 else f"x{value:.0f}" if value < 1e5 else f"x{value:.0e}"


def _successes(runs: Sequence[Run]) -> str:
    title = (
        "Successes, and the median of processor seconds to success (without any: the median of what is left, in units "
        "of the noise floor)"
    )
    return _by_problem(title, runs, _success_cell, total=True)


def _exponents(runs: Sequence[Run]) -> str:
    chaotic = [run for run in runs if run["exponent_ratio"] is not None or _had_exponent(run, runs)]
    return _by_problem(
        "Largest Lyapunov exponent of the returned model: runs within 10 % of the true one, and the median ratio",
        chaotic,
        _exponent_cell,
        total=False,
    )


def _had_exponent(run: Run, runs: Sequence[Run]) -> bool:
    """Overflow leaves a run without a ratio on a problem that has one."""
    return any(other["problem"] == run["problem"] and other["exponent_ratio"] is not None for other in runs)


def _exponent_cell(runs: list[Run]) -> str:
    if not runs:
        return "-"
    known = [run["exponent_ratio"] for run in runs if run["exponent_ratio"] is not None]
    middle = f"{np.median(known):.2f}" if known else "overflow"
    return f"{sum(map(scores.is_true, runs))}/{len(runs)} ({middle})"


def _ratios(runs: Sequence[Run]) -> str:
    rows = []
    for problem in scores.problems_of(runs):
        found = scores.ratios(runs, problem)
        if found:
            rows.append([problem, str(len(found)), ", ".join(f"{'> ' * bound}{value:.0f}" for value, bound in found)])
    title = (
        "Seconds of IPOPT on multiple shooting over ours, to success (>: it had not got there when its budget ended)"
    )
    return _table(title, ["problem", "seeds", "ratios"], rows)


def _tanks(runs: Sequence[Run]) -> str:
    rows = []
    measured = scores.tanks(runs)
    for name in scores.families(measured):
        mine = [run for run in measured if run["method"] == name]
        rows.append(
            [
                name,
                _spread([run["train_rmse"] for run in mine], "{:.3f}"),
                _spread([run["test_rmse"] for run in mine], "{:.3g}"),
                _spread([run["relative"] for run in mine], "{:.3f}"),
                _times([run["near"] for run in mine]),
                _spread([run["relative_of_seed"] for run in mine], "{:.3f}"),
                _times([run["near_of_seed"] for run in mine]),
            ]
        )
    head = ["method", "train RMSE (V)", "test RMSE (V)", "J / best of all", "seconds to 1.05 best of all"]
    head += ["J / best of the seed", "seconds to 1.05 best of the seed"]
    return _table("Cascaded tanks: one number a seed, and for seconds the median of those that arrived", head, rows)


def _spread(values: Sequence[float | None], form: str) -> str:
    return " ".join(form.format(scores.number(value)) for value in values)


def _times(values: Sequence[float]) -> str:
    arrived = [value for value in values if np.isfinite(value)]
    return f"{len(arrived)}/{len(values)}" + (f" {np.median(arrived):.2g} s" if arrived else "")


def _missing(runs: Sequence[Run]) -> str:
    """Methods that could not be run."""
    reasons = dict.fromkeys(f"{run['method']}: {run['status']}" for run in runs if not _ran(run))
    return "\n".join(f"- {reason}" for reason in reasons)


def _failures(runs: Sequence[Run]) -> str:
    """Where ours has not succeeded."""
    failed = [run for run in runs if run["method"] == OURS and not np.isfinite(scores.seconds(run))]
    rows = [
        [
            run["problem"],
            str(run["seed"]),
            _factor(scores.number(run["fit"]) / run["floor"]),
            f"{scores.number(run['defect']):.0e}",
            f"{run['seconds']:.1f}",
            run["status"],
        ]
        for run in failed
    ]
    head = ["problem", "seed", "half the squares / floor", "largest defect", "seconds", "status"]
    return _table("Where ours has not succeeded", head, rows)
