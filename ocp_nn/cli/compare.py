"""``ocp-nn compare``: solvers on one training problem, from the same start and from each other's answers."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from ..compare import DEFAULT_METHODS, METHODS, OURS, Row, compare
from ..data import load_dataset
from ..report import environment_line, format_number, problem_line
from .arguments import (
    add_problem_arguments,
    make_folder,
    path,
    positive,
    prepare_experiment,
    print_line,
    select_weight_decay,
    silent,
)

__all__ = ["register", "run"]

_EPILOG = f"""\
examples:
  ocp-nn compare diabetes --hidden 20,20 --out results/compare
  ocp-nn compare yacht/ --weight-decay 1 --methods al,ipopt-single --time-limit 20

methods: {", ".join(METHODS)}
Plugins other than IPOPT have no time limit: keep them to small problems.
A cross start begins at another method's answer: a solver that agrees stays there (columns dJ, du, dlambda).
Exit code: 0 when our answer passed its certificate, 2 when it did not, 1 error.
"""

_LINE = "{:<20}{:<20}{:<18}{:>6}{:>13}{:>10}{:>12}{:>7}{:>9}{:>9}{:>9}{:>9}"
_HEADER = _LINE.format(
    "method", "start", "status", "passed", "objective", "defect", "gradient", "iters", "seconds", "dJ", "du", "dlambda"
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
    data = load_dataset(args.dataset, target=args.target)
    if args.out is not None:
        make_folder(args.out)
    experiment = prepare_experiment(args, data)
    selection = select_weight_decay(args, experiment, say)
    problem = experiment.problem(args.weight_decay if selection is None else selection.weight_decay)
    say(problem_line(data.name, problem))
    say(f"\n{_HEADER}")
    comparison = compare(
        problem,
        methods=args.methods,
        cross=not args.no_cross,
        time_limit=args.time_limit,
        seed=args.seed,
        csv_path=None if args.out is None else args.out / "compare.csv",
        on_row=lambda row: say(_line(row)),
    )
    if args.out is not None:
        from ..report.comparison import comparison_figure

        comparison_figure(comparison).savefig(args.out / "convergence.png", dpi=150)
        say(f"\nwritten to {args.out}: compare.csv, convergence.png")
    first = comparison.rows[0]
    return 0 if first.passed else 2


def _line(row: Row) -> str:
    numbers = [format_number(value, 2) for value in (row.objective_change, row.control_change, row.multiplier_change)]
    line = _LINE.format(
        row.method,
        row.start,
        row.status,
        "yes" if row.passed else "no",
        f"{row.objective:.6g}",
        f"{row.max_defect:.1e}",
        f"{row.stationarity:.1e}",
        row.iterations,
        f"{row.seconds:.2f}",
        *numbers,
    )
    return line if row.status != "error" else f"{line.rstrip()}  {row.message}"


def _methods(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown method {unknown[0]!r}: expected some of {', '.join(METHODS)}")
    return names if OURS not in names else (OURS, *(name for name in names if name != OURS))
