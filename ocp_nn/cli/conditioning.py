"""``ocp-nn conditioning``: measure the shooting formulations, say what was found, advise on a network."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..base import checks
from ..network.activations import ACTIVATIONS
from ..solvers.augmented_lagrangian.initialise import INITIALISATIONS
from .arguments import (
    add_column_arguments,
    fold,
    load_data,
    make_folder,
    path,
    positive,
    print_line,
    read_integer,
    read_list,
    read_number,
    reader,
    silent,
    table_width,
)

__all__ = ["register", "run"]

_EPILOG = """\
examples:
  ocp-nn conditioning                      the default study, on sin2x
  ocp-nn conditioning diabetes --depths 2,10 --activations tanh,relu
  ocp-nn conditioning diabetes --hidden 20,20 --activation sigmoid --no-sweep

Measured at the initial weights and along short trainings: condition numbers of
single, partial and multiple shooting.  The tables (CSV, with a data dictionary)
and figures go to --out; the same command goes on with a stopped sweep.
Exit code: 0 done, 2 some runs failed (runs.csv says why), 1 error.
"""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "conditioning",
        help="measure how well conditioned single and multiple shooting are",
        description="Measure how well conditioned the shooting formulations are, and advise.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, loss="auto")
    parser.add_argument("dataset", metavar="DATASET", nargs="?", default="sin2x", help="default sin2x")
    add_column_arguments(parser)
    parser.add_argument("--depths", metavar="N,..", type=_counts, default=(2, 5, 10, 20), help="default 2,5,10,20")
    parser.add_argument("--widths", metavar="N,..", type=_widths, default=(5,), help="default 5")
    parser.add_argument(
        "--activations", metavar="NAME,..", type=_names(ACTIVATIONS), default=("tanh", "sigmoid", "relu"),
        help="default tanh,sigmoid,relu",
    )  # fmt: skip
    parser.add_argument(
        "--initialisations", metavar="NAME,..", type=_names(INITIALISATIONS), default=("standard", "states"),
        help="default standard,states",
    )  # fmt: skip
    parser.add_argument("--seeds", metavar="N", type=_count, default=3, help="seeds 0..N-1, default 3")
    parser.add_argument("--penalties", metavar="B,..", type=_positives, default=(1.0, 1e2, 1e4, 1e6),
                        help="default 1,1e2,1e4,1e6")  # fmt: skip
    parser.add_argument("--node-strides", metavar="N,..", type=_counts, default=(2,),
                        help="partial shooting with a node at every so many layers, default 2")  # fmt: skip
    parser.add_argument("--weight-decay", metavar="RHO", type=positive, default=1e-3, help="default 1e-3")
    parser.add_argument("--samples", metavar="N", type=_count, default=60, help="of the data at most, default 60")
    parser.add_argument("--steps", metavar="N", type=_count, default=200, help="of a training at most, default 200")
    parser.add_argument("--hidden", metavar="WIDTHS", type=_widths, help="advise on this network, on all samples")
    parser.add_argument("--activation", metavar="NAME", default="tanh", choices=tuple(ACTIVATIONS),
                        help="of the network to advise on, default tanh")  # fmt: skip
    parser.add_argument("--no-sweep", action="store_true", help="only advise on --hidden")
    parser.add_argument("--workers", metavar="N", type=_count, default=2, help="processes, default 2")
    parser.add_argument("--out", metavar="DIR", type=path, default=Path("results/conditioning"),
                        help="default results/conditioning")  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(args: argparse.Namespace) -> int:
    say: Callable[[str], None] = silent if args.quiet else print_line
    if args.no_sweep and args.hidden is None:
        raise ValueError("--no-sweep leaves nothing to do without --hidden")
    data = load_data(args)
    if data.classes:
        raise ValueError(
            f"{data.name}: conditioning is measured for squares of quantities, and its targets are classes"
        )
    failed = 0 if args.no_sweep else _sweep(args, data, say)
    if args.hidden is not None:
        _advise(args, data, say)
    return 2 if failed else 0


def _sweep(args: argparse.Namespace, data: Any, say: Callable[[str], None]) -> int:
    from ..analysis.conditioning import Grid, Settings, run_sweep

    grid = Grid(
        depths=args.depths,
        widths=args.widths,
        activations=args.activations,
        initialisations=args.initialisations,
        seeds=tuple(range(args.seeds)),
    )
    settings = Settings(
        penalties=args.penalties,
        node_strides=args.node_strides,
        weight_decay=args.weight_decay,
        samples=args.samples,
        steps=args.steps,
    )
    make_folder(args.out)
    began = time.perf_counter()
    with _progress(args.quiet) as progress:
        result = run_sweep(
            data, args.out, grid=grid, settings=settings, workers=min(args.workers, len(grid.runs())), progress=progress
        )
    say(f"{data.name}: {result.done} runs done in {time.perf_counter() - began:.0f} s, {result.skipped} were there, "
        f"{result.failed} failed")  # fmt: skip
    _report(args.out, say)
    return result.failed


def _report(folder: Path, say: Callable[[str], None]) -> None:
    """Table, correlations, verdict and figures, from the CSV files alone."""
    from ..analysis.conditioning.correlations import correlations
    from ..analysis.conditioning.figures import FIGURES
    from ..analysis.conditioning.findings import verdict
    from ..analysis.conditioning.groups import load_sweep
    from ..report import format_table, write_figure

    sweep = load_sweep(folder)
    say(f"\nAt the initial weights, condition numbers; medians over seeds.\n\n{_group_table(sweep)}\n")
    meanings = {"success": "with success", "steps": "with the steps to success, where there was success"}
    for outcome, meaning in meanings.items():
        found = [c for c in correlations(sweep) if c.outcome == outcome]
        if found:
            header = ("measured at the start", *sweep.methods)
            say(f"Rank correlation {meaning} (in brackets: within networks of equal depth)\n\n"
                f"{format_table(header, _correlation_rows(found), table_width())}\n")  # fmt: skip
    for sentence in verdict(sweep):
        say(f"- {sentence}")
    for name, figure in FIGURES.items():
        write_figure(folder / f"{name}.png", figure(sweep))
    say(f"\nwritten to {folder}: tables (*.csv, explained in data_dictionary.csv) and figures")


def _group_table(sweep: Any) -> str:
    from ..analysis.conditioning.groups import groups
    from ..report import format_table

    methods = sweep.methods
    header = ("activation", "weights", "layers", "rank", "signal", "single GN", "single H", "multi KKT",
              "AL (u,x)", "fwd DP", *methods, "choice")  # fmt: skip
    rows = [
        (g.activation, g.initialisation, f"{g.depth}x{g.width}", f"{100 * g.rank:.0f}%", f"{g.signal:.0e}",
         *(f"{value:.0e}" for value in (g.gauss_newton, g.hessian, g.kkt, g.al_high, g.condensed_high)),
         *(f"{100 * g.success[method]:.0f}%" for method in methods), g.choice)
        for g in groups(sweep)
    ]  # fmt: skip
    penalty = f" at penalty {sweep.penalties[-1]:g}" if sweep.penalties else ""
    legend = (
        "layers: number and width of the hidden ones; rank: of the single-shooting Jacobian; signal: of the first "
        "hidden layer that reaches the last; GN, H: single shooting, Gauss-Newton and exact Hessian; KKT: multiple "
        f"shooting; AL (u,x), fwd DP: augmented Lagrangian in (u, x) and what forward DP factorises{penalty}; "
        f"{', '.join(methods)}: share of seeds that trained."
    )
    return f"{format_table(header, rows, table_width(), keys=3)}\n\n{fold(legend)}"


def _correlation_rows(found: Any) -> list[tuple[str, ...]]:
    table: dict[str, list[str]] = {}
    for c in found:
        inside = "" if np.isnan(c.within_depth) else f" ({c.within_depth:+.2f})"
        table.setdefault(c.measure, []).append("-" if np.isnan(c.value) else f"{c.value:+.2f}{inside}")
    return [(_SHORT[name], *cells) for name, cells in table.items()]


# Words for the measures, in the columns of the first table and here.
_SHORT = {
    "rank": "rank of the Jacobian",
    "signal": "signal",
    "gauss_newton": "cond. single GN",
    "hessian": "cond. single H",
    "kkt": "cond. multi KKT",
    "al_low": "cond. AL, low penalty",
    "al_high": "cond. AL, high penalty",
    "condensed_low": "cond. fwd DP, low penalty",
    "condensed_high": "cond. fwd DP, high penalty",
}


def _advise(args: argparse.Namespace, data: Any, say: Callable[[str], None]) -> None:
    from ..analysis.conditioning.advice import advise
    from ..analysis.conditioning.sweep import sample_data
    from ..network.network import Network
    from ..problem.training import TrainingProblem

    x, y = sample_data(data, data.num_samples)
    network = Network.mlp([x.shape[1], *args.hidden, y.shape[1]], args.activation)
    hidden = ",".join(map(str, args.hidden)) if len(args.hidden) < 8 else f"{len(args.hidden)} layers"
    say(f"\nYour network: {args.activation}, hidden {hidden}, {x.shape[1]} inputs, {y.shape[1]} outputs, "
        f"{len(x)} samples, {network.num_controls:,} controls")  # fmt: skip
    began = time.perf_counter()
    advice = advise(TrainingProblem(network, x, y, args.weight_decay))
    for reason in advice.reasons:
        say(f"- {reason}")
    say(
        f"Choice: {advice.shooting} shooting from {advice.initialisation!r} weights, "
        f"Options(shooting={advice.shooting!r}, initialisation={advice.initialisation!r})  "
        f"({time.perf_counter() - began:.0f} s)"
    )


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on standard error, so that standard output holds the findings alone."""
    if quiet:
        yield None
        return
    from ..report.random_state import same_random_state

    with same_random_state():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    console = Console(file=sys.stderr)
    with Progress("runs", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task("runs", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


_MOST = 100_000

_count = reader(checks.integer(1, _MOST), read_integer)
_counts = reader(
    checks.sequence(checks.integer(1, _MOST), f"integers from 1 to {_MOST} separated by commas"),
    read_list(read_integer),
)
_widths = reader(checks.sequence(checks.WIDTH, "positive integers separated by commas"), read_list(read_integer))
_positives = reader(checks.sequence(checks.POSITIVE, "finite numbers > 0 separated by commas"), read_list(read_number))


def _names(known: Iterable[str]) -> Callable[[str], Any]:
    some = checks.sequence(checks.one_of(known), f"some of {', '.join(known)}, separated by commas")
    return reader(some, read_list(str))
