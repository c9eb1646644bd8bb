"""``ocp-nn compare``: solvers on one training problem, from the same start and from each other's answers."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable
from typing import Any

from ..analysis.compare import DEFAULT_METHODS, METHODS, OURS, Comparison, Row, compare
from ..base.claim import claim
from ..learning.data import Dataset
from ..report import environment_line, format_number, format_table, problem_line, write_figure
from .arguments import (
    add_problem_arguments,
    fold,
    load_data,
    make_folder,
    path,
    positive,
    prepare_experiment,
    print_line,
    select_weight_decay,
    silent,
    table_width,
)

__all__ = ["register", "run"]

_EPILOG = f"""\
examples:
  ocp-nn compare diabetes --hidden 20,20 --out results/compare
  ocp-nn compare yacht/ --weight-decay 1 --methods al,ipopt-single

{textwrap.fill(f"methods: {', '.join(METHODS)}", 79, break_on_hyphens=False)}
Plugins other than IPOPT have no time limit: keep them to small problems.
A cross start begins at another method's answer: a solver that agrees stays
there (columns dJ, du, dlambda).
Exit code: 0 when our answer passed its certificate, 2 when it did not, 1 error.
"""

_COLD = ("method", "status", "ok", "objective", "defect", "grad", "iters", "seconds")
_CROSS = ("method", "start", "status", "dJ", "du", "dlambda")

_LEGEND = (
    "ok: the certificate passed; objective, largest defect and largest entry of the gradient (grad) are the "
    "certificate's. dJ, du, dlambda: what a method changed, relatively, when it was started at another's answer."
)


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "compare",
        help="run several solvers on the same problem, cold and from each other's answers",
        description="Run several solvers on one training problem: the same start, the same objective.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    add_problem_arguments(parser)
    parser.add_argument("--methods", metavar="NAMES", type=_methods, default=DEFAULT_METHODS,
                        help=f"separated by commas, default {','.join(DEFAULT_METHODS)}")  # fmt: skip
    parser.add_argument("--no-cross", action="store_true", help="cold starts only")
    parser.add_argument("--time-limit", metavar="SECONDS", type=positive, default=60.0, help="for each run, default 60")
    parser.add_argument("--out", metavar="DIR", type=path, help="leave compare.csv and convergence.png there")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(args: argparse.Namespace) -> int:
    say: Callable[[str], None] = silent if args.quiet else print_line
    say(environment_line())
    data = load_data(args)
    if args.out is None:
        return _compare(args, data, say)
    make_folder(args.out)
    with claim(args.out):
        return _compare(args, data, say)


def _compare(args: argparse.Namespace, data: Dataset, say: Callable[[str], None]) -> int:
    experiment = prepare_experiment(args, data)
    selection = select_weight_decay(args, experiment, say)
    problem = experiment.problem(args.weight_decay if selection is None else selection.weight_decay)
    say(problem_line(data.name, problem))
    say("")
    comparison = compare(
        problem,
        methods=args.methods,
        cross=not args.no_cross,
        time_limit=args.time_limit,
        seed=args.seed,
        csv_path=None if args.out is None else args.out / "compare.csv",
        on_row=lambda row: say(_progress(row)),
    )
    _say_tables(comparison, say)
    if args.out is not None:
        from ..report.comparison import comparison_figure

        write_figure(args.out / "convergence.png", comparison_figure(comparison))
        say(f"\nwritten to {args.out}: compare.csv, convergence.png")
    first = comparison.rows[0]
    return 0 if first.passed else 2


def _progress(row: Row) -> str:
    start = "the initial weights" if row.start == "cold" else f"the answer of {row.start}"
    reason = f" ({row.message})" if row.status == "error" else ""
    return f"ran {row.method} from {start}: {row.status}{reason}, {row.seconds:.2f} s"


def _say_tables(comparison: Comparison, say: Callable[[str], None]) -> None:
    """Cold starts, then cross starts; everything else is in the CSV file."""
    cold = [_cold(row) for row in comparison.rows if row.start == "cold"]
    cross = [_cross(row) for row in comparison.rows if row.start != "cold"]
    say(f"\nFrom the same initial weights\n\n{format_table(_COLD, cold, table_width())}")
    if cross:
        say(f"\nFrom the answer of another method\n\n{format_table(_CROSS, cross, table_width(), keys=2)}")
    say(f"\n{fold(_LEGEND)}")


def _cold(row: Row) -> tuple[str, ...]:
    residuals = (format_number(value, 2) for value in (row.max_defect, row.stationarity))
    ok = "yes" if row.passed else "no"
    objective = format_number(row.objective, 6)
    return (row.method, row.status, ok, objective, *residuals, str(row.iterations), f"{row.seconds:.2f}")


def _cross(row: Row) -> tuple[str, ...]:
    changes = (row.objective_change, row.control_change, row.multiplier_change)
    return (row.method, row.start, row.status, *(format_number(value, 2) for value in changes))


def _methods(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown method {unknown[0]!r}: expected some of {', '.join(METHODS)}")
    return names if OURS not in names else (OURS, *(name for name in names if name != OURS))
