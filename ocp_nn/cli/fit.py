"""``ocp-nn fit``: train a network on a data set, compare, confirm with IPOPT, leave the files."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..augmented_lagrangian import solve
from ..data import load_dataset
from ..experiment import Experiment, linear_baseline
from ..initialise import initialise
from ..options import Options
from ..problem import TrainingProblem
from ..reference import cold_start, confirm
from ..report import environment_line, final_table, history_header, history_row, problem_line, write_fit
from ..report.summary import Fit
from ..result import Record, Result
from ..selection import Selection
from .arguments import (
    add_problem_arguments,
    positive,
    prepare_experiment,
    print_line,
    select_weight_decay,
    silent,
)

__all__ = ["register", "run"]

# Seconds that our solve and each of IPOPT's may take by default.  IPOPT's keep the whole command below a minute on
# small tables; where a limit ends it, the table says so.
SOLVE_SECONDS, REFERENCE_SECONDS = 60.0, 40.0

_EPILOG = """\
examples:
  ocp-nn fit diabetes --hidden 20,20 --out results/diabetes
  ocp-nn fit houses.csv --target price --weight-decay 1
  ocp-nn fit sin2x --hidden 8,8,8 --activation sigmoid --reference none

Inputs and targets are standardised by the training part; errors are reported in the target's own units.
Exit code: 0 converged, 2 a limit was reached, 1 error.
"""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "fit",
        help="train a network on a data set and check it against IPOPT",
        description="Train a network on a data set as an optimal control problem, and check the answer with IPOPT.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    add_problem_arguments(parser)
    parser.add_argument("--shooting", choices=("multiple", "single"), default="multiple", help="default multiple")
    parser.add_argument("--reference", choices=("ipopt", "none"), default="ipopt", help="default ipopt")
    parser.add_argument("--time-limit", metavar="SECONDS", type=positive,
                        help=f"of each solve, default {SOLVE_SECONDS:g}; IPOPT: {REFERENCE_SECONDS:g}")  # fmt: skip
    parser.add_argument("--out", metavar="DIR", type=Path, help="leave summary, history, model and figures there")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(args: argparse.Namespace) -> int:
    say: Callable[[str], None] = silent if args.quiet else print_line
    say(environment_line())
    data = load_dataset(args.dataset, target=args.target)
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
    experiment = prepare_experiment(args, data)
    selection = select_weight_decay(args, experiment, say)
    problem = experiment.problem(args.weight_decay if selection is None else selection.weight_decay)
    say(problem_line(data.name, problem, args.shooting))
    options = Options(seed=args.seed, shooting=args.shooting, time_limit=args.time_limit or SOLVE_SECONDS)
    fit = _fit(args, experiment, problem, options, selection, say)
    say(f"\n{final_table(fit)}\n")
    _say_verdict(fit, say)
    if args.out is not None:
        write_fit(args.out, fit)
        say(f"written to {args.out}: summary.json, history.csv, model.npz, convergence.png, predictions.png")
    return 0 if fit.result.success else 2


def _fit(
    args: argparse.Namespace,
    experiment: Experiment,
    problem: TrainingProblem,
    options: Options,
    selection: Selection | None,
    say: Callable[[str], None],
) -> Fit:
    say(f"\n{history_header()}")
    result = solve(problem, options=options, callback=lambda record: _say_record(record, say))
    cold = check = None
    if args.reference == "ipopt":
        say("IPOPT: from the same initial weights, and from our solution ...")
        seconds = args.time_limit or REFERENCE_SECONDS
        initial = initialise(problem, options.initialisation, options.seed)
        cold = cold_start(problem, initial, time_limit=seconds)
        check = confirm(problem, result.trajectory.controls, time_limit=seconds)
    return Fit(
        experiment=experiment,
        weight_decay=problem.weight_decay,
        selection=selection,
        seed=args.seed,
        activation=args.activation,
        shooting=args.shooting,
        tolerance=options.tolerance,
        result=result,
        linear=linear_baseline(experiment),
        reference=cold,
        confirmation=check,
    )


def _say_record(record: Record, say: Callable[[str], None]) -> bool:
    say(history_row(record))
    return False


def _say_verdict(fit: Fit, say: Callable[[str], None]) -> None:
    say(f"{fit.result.status.value}: {fit.result.message}")
    if fit.confirmation is not None:
        verdict = "confirmed by IPOPT" if fit.confirmation.confirmed else "NOT confirmed by IPOPT"
        say(f"{verdict}: started at this solution it {_ended(fit.confirmation.result)} and moved the objective by a "
            f"relative {abs(fit.confirmation.relative_change):.1e}")  # fmt: skip


def _ended(result: Result) -> str:
    return "converged" if result.success else f"ended with {result.status.value}"
