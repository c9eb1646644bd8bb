"""``ocp-nn fit``: train a network on a data set, compare, confirm with IPOPT, leave the files."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from ..base.claim import claim
from ..learning.data import Dataset
from ..learning.experiment import Experiment, linear_baseline
from ..learning.selection import Selection
from ..problem.constraints.constrained_problem import ConstrainedProblem
from ..problem.optimal_control import OptimalControlProblem
from ..problem.record import Status
from ..problem.result import Result
from ..report import LiveHistory, environment_line, final_table, problem_line, write_fit
from ..report.phases import phase_line
from ..report.summary import Fit
from ..solvers.augmented_lagrangian.initialise import initialise
from ..solvers.augmented_lagrangian.options import Options
from ..solvers.augmented_lagrangian.solve import solve
from ..solvers.nlp.reference import cold_start, confirm
from .arguments import (
    add_problem_arguments,
    add_requirement_arguments,
    load_data,
    make_folder,
    path,
    positive,
    prepare_experiment,
    print_line,
    requirements,
    select_weight_decay,
    silent,
    table_width,
)
from .fit_run import CHECKPOINT_FILE, earlier_result, earlier_run, write_fit_run
from .run_file import RUN_FILE

__all__ = ["register", "run"]

# Seconds that our solve and each of IPOPT's may take by default.  IPOPT's keep the whole command below a minute on
# small tables; where a limit ends it, the table says so.
SOLVE_SECONDS, REFERENCE_SECONDS = 60.0, 40.0

_EPILOG = """\
examples:
  ocp-nn fit diabetes --hidden 20,20 --out results/diabetes
  ocp-nn fit houses.csv --target price --drop address,id --weight-decay 1
  ocp-nn fit sin2x --hidden 8,8,8 --activation sigmoid --reference none
  ocp-nn fit iris
  ocp-nn fit visits.csv --target count --loss poisson
  ocp-nn fit diabetes --monotone bmi=1 --monotone s5=1
  ocp-nn fit --resume results/diabetes --time-limit 600

Inputs and targets are standardised by the training part (classes and counts are
not); errors are reported in the target's own units.
Ctrl-C ends the run with the best weights so far; --resume goes on with it.
Exit code: 0 converged, 2 a limit was reached or an error is not a finite
number, 1 error, 130 interrupted, 143 terminated.
"""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "fit",
        help="train a network on a data set and check it against IPOPT",
        description="Train a network as an optimal control problem, check the answer with IPOPT.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    add_problem_arguments(parser, optional=True)
    add_requirement_arguments(parser)
    parser.add_argument("--shooting", choices=("multiple", "single"), default="multiple", help="default multiple")
    parser.add_argument("--reference", choices=("ipopt", "none"), default="ipopt", help="default ipopt")
    parser.add_argument("--time-limit", metavar="SECONDS", type=positive,
                        help=f"of each solve, default {SOLVE_SECONDS:g}; IPOPT: {REFERENCE_SECONDS:g}")  # fmt: skip
    parser.add_argument("--out", metavar="DIR", type=path, help="leave summary, history, model and figures there")
    parser.add_argument("--resume", metavar="DIR", type=path,
                        help="instead of DATASET: go on with the run in DIR as if it had never stopped")  # fmt: skip
    parser.add_argument("--checkpoint", metavar="SECONDS", type=positive, default=30.0,
                        help="how often the solver's state is saved to the folder, default 30")  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(args: argparse.Namespace) -> int:
    if (args.dataset is None) == (args.resume is None):
        raise ValueError("fit needs a DATASET, or --resume DIR to go on with an earlier run, and not both")
    selection = None
    if args.resume is not None:
        if args.monotone or args.weight_bounds or args.output_range:
            raise ValueError(
                "--resume goes on with a run as it was, and constrained ones have nothing to go on from: leave out "
                "--monotone, --weight-bounds and --output-range"
            )
        args, selection = earlier_run(args)
    say: Callable[[str], None] = silent if args.quiet else print_line
    say(environment_line())
    data = load_data(args)
    if args.out is None:
        return _fit(args, data, selection, say)
    make_folder(args.out)
    with claim(args.out):
        return _fit(args, data, selection, say)


def _fit(args: argparse.Namespace, data: Dataset, selection: Selection | None, say: Callable[[str], None]) -> int:
    earlier = None if args.resume is None else earlier_result(args.resume)
    experiment = prepare_experiment(args, data)
    wanted = requirements(args, data)
    selection = selection or select_weight_decay(args, experiment, say, wanted)
    training = experiment.problem(args.weight_decay if selection is None else selection.weight_decay)
    problem = wanted.constrained(training, experiment.y_scaler)
    if args.out is not None and not wanted:
        write_fit_run(args.out, args, training.weight_decay, selection)
    elif args.out is not None:  # an earlier run's there are not to be gone on with
        for name in (RUN_FILE, CHECKPOINT_FILE):
            (args.out / name).unlink(missing_ok=True)
    say(problem_line(data.name, training, args.shooting))
    if wanted and isinstance(problem, ConstrainedProblem):
        say(f"constraints: {', '.join(constraint.name for constraint in problem.constraints)}")
    options = Options(seed=args.seed, shooting=args.shooting, time_limit=args.time_limit or SOLVE_SECONDS)
    result = _solve(args, problem, options, earlier, say)
    fit = _compare(args, experiment, problem, options, selection, result, say)
    say(f"\n{final_table(fit, table_width())}\n")
    _say_phases(fit, say)
    _say_verdict(fit, say)
    if args.out is not None:
        write_fit(args.out, fit)
        say(f"written to {args.out}: {_FILES if not wanted else _FILES.replace(' checkpoint.npz,', '')}")
    return 0 if fit.succeeded else 130 if fit.result.status is Status.INTERRUPTED else 2


_FILES = "summary.json, history.csv, model.npz, checkpoint.npz, convergence.png, predictions.png, layers.png"


def _solve(
    args: argparse.Namespace,
    problem: OptimalControlProblem,
    options: Options,
    earlier: Result | None,
    say: Callable[[str], None],
) -> Result:
    if earlier is not None:
        say(f"going on after outer iteration {earlier.counts['outer']}")
    say("")
    resumable = args.out is not None and not isinstance(problem, ConstrainedProblem)
    checkpoint = args.out / CHECKPOINT_FILE if resumable else None
    with nullcontext(None) if args.quiet else LiveHistory() as live:
        return solve(
            problem, earlier, options=options, callback=live, checkpoint=checkpoint, checkpoint_seconds=args.checkpoint
        )


def _compare(
    args: argparse.Namespace,
    experiment: Experiment,
    problem: OptimalControlProblem,
    options: Options,
    selection: Selection | None,
    result: Result,
    say: Callable[[str], None],
) -> Fit:
    """The solution beside IPOPT and linear regression; after Ctrl-C IPOPT is left out."""
    cold = check = None
    if args.reference == "ipopt" and result.status is not Status.INTERRUPTED:
        say("IPOPT: from the same initial weights, and from our solution ...")
        seconds = args.time_limit or REFERENCE_SECONDS
        initial = initialise(problem, options.initialisation, options.seed)
        cold = cold_start(problem, initial, time_limit=seconds)
        constrained = isinstance(problem, ConstrainedProblem)
        point = result.trajectory if constrained else result.trajectory.controls
        check = confirm(problem, point, time_limit=seconds)
    return Fit(
        experiment=experiment,
        weight_decay=problem.decays[0],
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


def _say_phases(fit: Fit, say: Callable[[str], None]) -> None:
    """How much of the solve was multiple shooting, and why not all of it."""
    say(phase_line(fit.result.history))
    if fit.phases_note:
        say(fit.phases_note)


def _say_verdict(fit: Fit, say: Callable[[str], None]) -> None:
    say(f"{fit.result.status.value}: {fit.result.message}")
    if fit.confirmation is not None:
        verdict = "confirmed by IPOPT" if fit.confirmation.confirmed else "NOT confirmed by IPOPT"
        say(f"{verdict}: started at this solution it {_ended(fit.confirmation.result)} and moved the objective by a "
            f"relative {abs(fit.confirmation.relative_change):.1e}")  # fmt: skip
    for note in (*fit.result.notes, *fit.notes):
        say(f"note: {note}")


def _ended(result: Result) -> str:
    return "converged" if result.success else f"ended with {result.status.value}"
