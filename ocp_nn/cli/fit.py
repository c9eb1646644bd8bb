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
from ..selection import Selection, choose_weight_decay

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
    parser.add_argument("dataset", metavar="DATASET", help="a name (see ocp-nn datasets), a CSV file or a folder")
    parser.add_argument("--target", metavar="COL", action="append", help="column to predict (may be repeated)")
    parser.add_argument(
        "--hidden", metavar="WIDTHS", type=_widths, default=(20, 20), help="default 20,20; 'none' is linear"
    )
    parser.add_argument(
        "--activation", metavar="NAME", default="tanh", help="tanh (default), sigmoid, relu, softplus, identity"
    )
    parser.add_argument("--weight-decay", metavar="RHO", type=_weight_decay, default=None,
                        help="Tikhonov weight of all weights and biases; default auto: chosen on held-out parts of the "
                             "training part")  # fmt: skip
    parser.add_argument("--test-size", metavar="SHARE", type=float, default=0.1, help="share held out, default 0.1")
    parser.add_argument(
        "--seed", metavar="N", type=_seed, default=0, help="of the split and the initial weights, default 0"
    )
    parser.add_argument("--shooting", choices=("multiple", "single"), default="multiple", help="default multiple")
    parser.add_argument("--reference", choices=("ipopt", "none"), default="ipopt", help="default ipopt")
    parser.add_argument("--time-limit", metavar="SECONDS", type=_positive,
                        help=f"of each solve, default {SOLVE_SECONDS:g}; IPOPT: {REFERENCE_SECONDS:g}")  # fmt: skip
    parser.add_argument("--out", metavar="DIR", type=Path, help="leave summary, history, model and figures there")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(args: argparse.Namespace) -> int:
    say: Callable[[str], None] = _silent if args.quiet else _print
    say(environment_line())
    data = load_dataset(args.dataset, target=args.target)
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
    experiment = Experiment.prepare(
        data, args.hidden, activation=args.activation, test_size=args.test_size, seed=args.seed
    )
    selection = _select(args, experiment, say)
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


def _select(args: argparse.Namespace, experiment: Experiment, say: Callable[[str], None]) -> Selection | None:
    if args.weight_decay is not None:
        return None
    selection = choose_weight_decay(
        experiment.network, experiment.train_inputs, experiment.train_targets, seed=args.seed
    )
    say(selection.message)
    return selection


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


def _print(line: str) -> None:
    print(line, flush=True)


def _silent(line: str) -> None:
    pass


def _widths(text: str) -> tuple[int, ...]:
    if text.strip() in ("", "none"):
        return ()
    try:
        widths = tuple(int(word) for word in text.split(","))
    except ValueError:
        widths = (0,)
    if min(widths) < 1:
        raise argparse.ArgumentTypeError(f"widths are positive integers separated by commas, received {text!r}")
    return widths


def _weight_decay(text: str) -> float | None:
    if text == "auto":
        return None
    value = _number(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"the weight decay is 'auto' or a number >= 0, received {text!r}")
    return value


def _positive(text: str) -> float:
    value = _number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"a number > 0 is expected, received {text!r}")
    return value


def _seed(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"a seed is an integer >= 0, received {text!r}")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a number is expected, received {text!r}") from None
