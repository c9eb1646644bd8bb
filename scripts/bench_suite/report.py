"""Markdown tables from the results; nothing is measured here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import scores
from .growth import exponents
from .peers import OURS
from .scores import Run
from .uci import COMMITTEE_NETWORKS, HIDDEN, MEMBERS, PUBLISHED

__all__ = ["markdown"]

Results = dict[str, Any]


def markdown(results: Results) -> str:
    """All tables, and what they were measured with."""
    runs = results["runs"]
    blocks = [_setting(results)]
    if scores.problems(runs):
        blocks += [_speed(runs, 0.05), _speed(runs, 0.05, by_start=True), _speed(runs, 0.01)]
        blocks += [_against_peers(runs), _deep(runs), _quality(runs), _costs(runs)]
    if results["uci"]:
        blocks.append(_uci(results["uci"]))
    if results["growth"]:
        blocks.append(_growth(results["growth"]))
    return "\n\n".join(block for block in blocks if block)


def _setting(results: Results) -> str:
    e = results["environment"]
    optional = ", ".join(f"{name} {version or 'absent'}" for name, version in e["optional"].items())
    lines = [
        "### Measured with",
        "",
        f"{e['cpu']} ({e['platform']}), one BLAS thread; ocp_nn {e['ocp_nn']} (commit {e['commit']}), Python "
        f"{e['python']}, CasADi {e['casadi']}, NumPy {e['numpy']}, SciPy {e['scipy']}, {optional}.",
        "",
        *(f"    {command}" for command in results["commands"]),
        *(f"\n- {note}" for note in results["notes"]),
    ]
    return "\n".join(lines)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    first, *others = (f"| {' | '.join(cells)} |" for cells in (header, *rows))
    return "\n".join([first, "|---" * len(header) + "|", *others])


def _seconds(value: float) -> str:
    return "-" if not np.isfinite(value) else "< 0.01" if value < 0.01 else f"{value:.2f}"


def _by_method(runs: Sequence[Run], cell: Callable[[list[Run]], str]) -> str:
    """One row a problem, one column a family."""
    names = scores.families(runs)
    rows = []
    for problem in scores.problems(runs):
        groups = [scores.members(runs, problem, family) for family in names]
        rows.append([problem, *(cell(group) if group else "" for group in groups)])
    return _table(["problem", *names], rows)


def _speed(runs: Sequence[Run], within: float, *, by_start: bool = False) -> str:
    """Time to come near the best known objective, and our ratios."""
    goal = scores.targets(runs, within, by_start=by_start)

    def cell(group: list[Run]) -> str:
        times = [scores.time_to(run["trace"], goal[run["problem"], run["seed"]]) for run in group]
        hits = sum(np.isfinite(times))
        return f"{_seconds(scores.median(times))} ({hits}/{len(times)})"

    level = f"{100 * within:g} % above the best known objective"
    whose = (
        "The lowest objective found from the same initial weights, seed by seed: a start is a problem of its own, as "
        "in the data profiles of More and Wild (2009). "
    )
    return "\n\n".join(
        [
            f"### Seconds to {level}{' from the same start' if by_start else ''}",
            (whose if by_start else "The lowest objective found from any seed. ")
            + "Median over seeds (seeds that got there / seeds run); '-': the median run did not; empty: not run.",
            _by_method(scores.representatives(runs), cell),
            "Our median time over that of the method hardest to beat, on the seeds both have run (below 1: ours is the "
            "fastest; 'inf': it got there and ours did not):",
            _table(["problem", "best known J", "hardest to beat", "ratio"], _ratios(runs, within, by_start)),
        ]
    )


def _ratios(runs: Sequence[Run], within: float, by_start: bool) -> list[list[str]]:
    best = scores.best_by_start(runs)
    times = scores.reached(runs, within, by_start=by_start)
    rows = []
    for problem, ratio in scores.ratios(runs, within, by_start=by_start).items():
        lowest = sorted(value for (name, _), value in best.items() if name == problem)
        shown = f"{lowest[0]:.6g}" + (f" to {lowest[-1]:.6g}" if by_start and len(lowest) > 1 else "")
        arrived = np.isfinite(scores.median([t for (p, f, _), t in times.items() if (p, f) == (problem, OURS)]))
        nobody = "no other got there" if arrived else "nobody got there"
        hardest = max(ratio, key=lambda family: ratio[family], default=nobody)
        value = f"{ratio[hardest]:.2f}" if hardest in ratio else "-"
        rows.append([problem, shown, hardest, value])
    return rows


def _against_peers(runs: Sequence[Run]) -> str:
    """Time to what the best peer reaches, whatever ours found beyond."""
    rows = [
        [problem, f"{best:.6g}", _seconds(ours), peer if np.isfinite(seconds) else "", _seconds(seconds)]
        for problem, (best, ours, peer, seconds) in scores.against_peers(runs, 0.01).items()
    ]
    if not rows:
        return ""
    return "\n\n".join(
        [
            "### Seconds to 1 % above the lowest objective of any peer",
            "Medians over seeds; '-': the median run did not.",
            _table(["problem", "lowest J of a peer", "ours", "fastest peer", "its seconds"], rows),
        ]
    )


def _deep(runs: Sequence[Run]) -> str:
    """Success on deep networks."""
    some = [run for run in runs if run["deep"]]
    if not scores.problems(some):
        return ""
    names = scores.families(some)
    rows = []
    for problem in scores.problems(some):
        cells = []
        for family in names:
            group = scores.members(some, problem, family)
            rates = dict.fromkeys(run["peer"] for run in group)
            by_peer = [[run for run in group if run["peer"] == peer] for peer in rates]
            cells.append(_success(max(by_peer, key=_successes)) if by_peer else "")
        rows.append([problem, *cells])
    return "\n\n".join(
        [
            f"### Deep networks: runs with a rollout MSE below {scores.TARGET_MSE:g}, and median seconds to it",
            "Standard initial weights for all but 'ours', which chooses its own start (scripts/deep_suite.py gives "
            "that start to the others too). Adam at the best of its rates.",
            _table(["network", *names], rows),
        ]
    )


def _successes(group: Sequence[Run]) -> tuple[int, float]:
    times = [scores.solved(run) for run in group]
    return sum(np.isfinite(times)), -scores.median(times)


def _success(group: Sequence[Run]) -> str:
    times = [t for t in map(scores.solved, group) if np.isfinite(t)]
    return f"{len(times)}/{len(group)}" + (f" {_seconds(scores.median(times))} s" if times else "")


def _quality(runs: Sequence[Run]) -> str:
    """Objectives, certificates, test errors at the end."""

    def objective(group: list[Run]) -> str:
        return f"{scores.median([run['objective'] for run in group]):.5g}"

    def certificate(group: list[Run]) -> str:
        residual = scores.median([run["stationarity"] for run in group])
        return f"{residual:.0e} ({sum(run['certified'] for run in group)}/{len(group)})"

    def test_error(group: list[Run]) -> str:
        errors = [run["test_rmse"] for run in group if run["test_rmse"] is not None]
        return f"{scores.median(errors):.4g}" if errors else ""

    chosen = scores.representatives(runs)
    tested = [run for run in chosen if run["test_rmse"] is not None]
    limits = ", ".join(f"{limit:g}" for limit in sorted({run["limit"] for run in chosen}))
    return "\n\n".join(
        [
            f"### Objective at the end (median over seeds; limit {limits} s)",
            _by_method(chosen, objective),
            "### KKT residual at the end",
            "Largest entry of the gradient, over max(1, J), by `ocp_nn.certify` at the rollout (runs certified to "
            "1e-6 / runs).",
            _by_method(chosen, certificate),
            *(
                ["### Test RMSE at the end, one split, in the target's units", _by_method(tested, test_error)]
                if tested
                else []
            ),
        ]
    )


def _costs(runs: Sequence[Run]) -> str:
    """Building, and working memory."""

    def memory(group: list[Run]) -> str:
        return f"{scores.median([run['peak_bytes'] for run in group]) / 1e6:.0f}"

    def build(group: list[Run]) -> str:
        return _seconds(scores.median([run["build_seconds"] for run in group]))

    chosen = scores.representatives(runs)
    return "\n\n".join(
        [
            "### Working memory, MB (growth of the largest resident set over the solve)",
            _by_method(chosen, memory),
            "### Seconds to import, build and compile, not counted above",
            _by_method(chosen, build),
        ]
    )


def _uci(rows: Sequence[dict[str, Any]]) -> str:
    """Test errors beside published ones."""
    lines = []
    for name in dict.fromkeys(row["dataset"] for row in rows):
        some = [row for row in rows if row["dataset"] == name]
        published = [f"{value:.2f}" for value in PUBLISHED.get(name, (float("nan"),) * 4)]
        linear = f"{np.mean([row['linear_test_rmse'] for row in some]):.2f}"
        for method, found in (("one network", some), ("committee", [row["committee"] for row in some])):
            errors = np.array([row["test_rmse"] for row in found])
            error = errors.std(ddof=1) / np.sqrt(len(errors)) if len(errors) > 1 else float("nan")
            chosen = sorted(row["weight_decay"] for row in found)
            lines.append(
                [
                    name,
                    method,
                    str(len(some)),
                    f"{errors.mean():.3f} +- {error:.3f}",
                    f"{np.median(errors):.3f}",
                    linear,
                    *published,
                    f"{chosen[0]:g} to {chosen[-1]:g}",
                    f"{np.median([row['seconds'] for row in found]):.1f}",
                ]
            )
    shapes = ", ".join(f"{_sizes(hidden)} {activation}" for hidden, activation in COMMITTEE_NETWORKS)
    header = [
        "set",
        "ours",
        "splits",
        "mean +- standard error",
        "median",
        "linear",
        "PBP",
        "MC-dropout",
        "ensembles",
        "MC-dropout, grid search, 10x epochs",
        "weight decays chosen",
        "seconds a split",
    ]
    return "\n\n".join(
        [
            "### Test RMSE on the standard splits",
            f"One network: {_sizes(HIDDEN)} tanh units, weight decay chosen on held-out parts of the training samples "
            f"of each split. Committee: networks of {shapes} units, each on one of {MEMBERS} bootstrap samples; shapes "
            "and weight decays are mixed with weights chosen by the training samples that members have not seen, and "
            "the weight decay shown is their geometric mean. "
            "Published: one hidden layer of 50 (sources in scripts/bench_suite/uci.py); dropout and ensemble columns "
            "are means of several networks, too.",
            _table(header, lines),
        ]
    )


def _sizes(hidden: Sequence[int]) -> str:
    return " x ".join(map(str, hidden))


def _growth(rows: list[dict[str, Any]]) -> str:
    """Milliseconds of a step and of a gradient."""
    lines = [
        [
            row["variable"],
            f"{row['size']:,}",
            f"{row['num_controls']:,}",
            f"{row['step_milliseconds']:.2f}",
            f"{row['gradient_milliseconds']:.3f}",
            f"{row['step_milliseconds'] / row['gradient_milliseconds']:.0f}",
        ]
        for row in rows
    ]
    slopes = "; ".join(
        f"{variable}: step {slope['step']:.2f}, gradient {slope['gradient']:.2f}"
        for variable, slope in exponents(rows).items()
    )
    return "\n\n".join(
        [
            "### Milliseconds of one Gauss-Newton step, and of one gradient",
            "4 tanh layers of 10, 500 samples, but for what grows.",
            _table(["grows", "to", "controls", "step", "gradient", "gradients a step"], lines),
            f"Exponents over the three largest sizes: {slopes}.",
        ]
    )
