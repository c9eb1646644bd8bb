"""``ocp-nn identify``: a nonlinear state-space model from a table of inputs and outputs over time."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base import program
from ..base.claim import claim
from ..base.schema import AMOUNT, COUNT, NUMBER, TEXT, TEXTS, Kind, Table, listed, or_none
from ..learning.data import SequenceDataset, load_records
from ..learning.data.synthetic_records import SYSTEMS
from ..problem.identification import IdentificationProblem
from ..problem.record import Status
from ..problem.result import Result
from ..problem.starts.start import start
from ..problem.trajectory import Trajectory
from ..report.environment import environment_line
from ..report.identification import (
    IDENTIFICATION_FILES,
    Identification,
    identification_table,
    write_identification,
)
from ..solvers.nlp.ipopt import IpoptOptions, solve_ipopt
from ..solvers.nlp.transcription import multiple_shooting
from .arguments import column_names, count, make_folder, path, positive, print_line, silent, table_width, weight_decay
from .arguments import seed as read_seed
from .arguments import widths as read_widths
from .run_file import located, read_run, write_run

if TYPE_CHECKING:
    from ..learning.state_space.model import IdentifiedModel
    from ..learning.state_space.regressor import StateSpaceRegressor

__all__ = ["register", "run"]

# Seconds of IPOPT by default.
REFERENCE_SECONDS = 60.0

# In the folder of a run: paths and judgements of the choice, and checkpoints of the last training.
MEMORY = "memory"

# What belongs to the run; the rest is said anew when it goes on.
_ARGUMENTS: Table = {
    "data": TEXT,
    "inputs": TEXTS,
    "outputs": TEXTS,
    "test": or_none(Kind("text or a number", lambda value: TEXT.fits(value) or NUMBER.fits(value))),
    "warm_up": or_none(COUNT),
    "states": listed(COUNT),
    "hidden": listed(COUNT),
    "weight_decay": or_none(AMOUNT),
    "starts": COUNT,
    "seed": COUNT,
}

_EPILOG = """\
examples:
  ocp-nn identify run.csv --inputs voltage --outputs level --states 2 --test check.csv
  ocp-nn identify run.csv --inputs u1,u2 --outputs y --states 1,2,3 --out results/run
  ocp-nn identify duffing --weight-decay 0.01 --reference none
  ocp-nn identify --resume results/run --time-limit 600

DATA is a CSV file (or .csv.gz, .npz) with one row a sample, a folder of such
files or of a known benchmark, or one of the synthetic systems lorenz, duffing,
pendulum, tanks, wiener.  All choices are made on the training records.
Ctrl-C ends the run; --resume goes on with what it had done.  Exit code: 0 the
training ended at rest, 2 it did not, 1 error, 130 interrupted, 143 terminated.
"""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "identify",
        help="identify a nonlinear state-space model from records over time",
        description="Identify a nonlinear state-space model by its simulation error, validate it on other records.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("data", metavar="DATA", nargs="?", help="file, folder, or name of a synthetic system")
    add("--inputs", metavar="COLS", type=column_names, default=(), help="columns, separated by commas; default none")
    add("--outputs", metavar="COLS", type=column_names, default=(), help="columns, separated by commas")
    add("--test", metavar="FILE|SHARE", type=_test, help="a file to test on, or the share of the end of every record")
    add("--warm-up", metavar="N", type=count, default=None, help="first rows that tell an initial state; default 50")
    add("--states", metavar="N", type=read_widths, default=(2,), help="order, or orders to choose from; default 2")
    add("--hidden", metavar="WIDTHS", type=read_widths, default=(8,), help="default 8; 'none' is linear")
    add("--weight-decay", metavar="RHO", type=weight_decay, default=None,
        help="default auto: chosen on held-out segments of the training records, in a minute or more")  # fmt: skip
    add("--starts", metavar="N", type=count, default=4, help="random starts, default 4")
    add("--seed", metavar="N", type=read_seed, default=0, help="of the random weights, default 0")
    add("--time-limit", metavar="SECONDS", type=positive, help="of the identification; default none")
    add("--reference", choices=("ipopt", "none"), default="none",
        help=f"ipopt: what it finds from the linear model, in {REFERENCE_SECONDS:g} s; default none")  # fmt: skip
    add("--out", metavar="DIR", type=path, help="leave summary, history, model and figures there")
    add("--resume", metavar="DIR", type=path, help="instead of DATA: go on with the run in DIR")
    add("--quiet", action="store_true", help="print nothing but errors")


def _test(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def run(args: argparse.Namespace) -> int:
    if (args.data is None) == (args.resume is None):
        raise ValueError("identify needs DATA, or --resume DIR to go on with an earlier run, and not both")
    if args.resume is not None:
        args = _earlier(args)
    say: Callable[[str], None] = silent if args.quiet else print_line
    say(environment_line())
    data = load_records(args.data, inputs=args.inputs, outputs=args.outputs, test=args.test, warm_up=args.warm_up)
    if args.out is None:
        return _identify(args, data, say)
    make_folder(args.out)
    with claim(args.out):
        return _identify(args, data, say)


def _earlier(args: argparse.Namespace) -> argparse.Namespace:
    """The arguments of the run in ``args.resume``; time limit, reference and quiet are said anew."""
    earlier, _ = read_run(args.resume, "identify", _ARGUMENTS, {})
    lists = {name: tuple(getattr(earlier, name)) for name in ("inputs", "outputs", "states", "hidden")}
    return argparse.Namespace(**vars(args) | vars(earlier) | lists | {"out": args.resume})


def _identify(args: argparse.Namespace, data: SequenceDataset, say: Callable[[str], None]) -> int:
    if args.out is not None:
        given = {name: getattr(args, name) for name in _ARGUMENTS}
        paths = {name: located(given[name]) for name in ("data", "test") if given[name] not in SYSTEMS}
        write_run(args.out, "identify", given | paths)
    say(f"{data!r}; {', '.join(map(str, args.states))} states, hidden {args.hidden or 'none'}")
    if args.weight_decay is None or len(args.states) > 1:
        say("choosing order and weight decay on held-out segments of the training records ...")
    fitted = _fitted(args, data)
    say(f"weight decay {fitted.weight_decay_:g}, {fitted.num_states_} states: {fitted.status_.value}, "
        f"J {fitted.result_.objective:.6g}, largest defect {fitted.result_.max_defect:.1e}")  # fmt: skip
    wants_reference = args.reference == "ipopt" and fitted.status_ is not Status.INTERRUPTED
    found = Identification(
        dataset=data,
        model=fitted.model_,
        linear=fitted.linear_model_,
        result=fitted.result_,
        weight_decay=fitted.weight_decay_,
        warm_up=data.warm_up,
        reference=_reference(fitted, say) if wants_reference else None,
    )
    say(f"\n{identification_table(found, table_width())}\n")
    _say_verdict(found, say)
    if args.out is not None:
        write_identification(args.out, found)
        say(f"written to {args.out}: {IDENTIFICATION_FILES}; {MEMORY}: for --resume")
    if fitted.status_ is Status.INTERRUPTED:
        return program.INTERRUPTED
    return 0 if fitted.status_ in (Status.CONVERGED, Status.SETTLED, Status.STALLED) else 2


def _fitted(args: argparse.Namespace, data: SequenceDataset) -> StateSpaceRegressor:
    import warnings

    from ..learning.state_space.regressor import StateSpaceRegressor

    estimator = StateSpaceRegressor(
        args.states[0] if len(args.states) == 1 else args.states,
        args.hidden,
        weight_decay="auto" if args.weight_decay is None else args.weight_decay,
        warm_up=data.warm_up,
        num_starts=args.starts,
        max_iter=1000,
        time_limit=args.time_limit or np.inf,
        random_state=args.seed,
        memory=None if args.out is None else args.out / MEMORY,
    )
    with warnings.catch_warnings():  # the status says it
        warnings.simplefilter("ignore")
        return estimator.fit(data.train.inputs, data.train.outputs)


def _reference(fitted: StateSpaceRegressor, say: Callable[[str], None]) -> tuple[IdentifiedModel, Result]:
    """IPOPT on the same program, multiple shooting with exact Hessian, from the linear model."""
    say(f"IPOPT: the same problem from the linear model, at most {REFERENCE_SECONDS:g} s ...")
    problem = fitted.result_.problem
    assert isinstance(problem, IdentificationProblem)
    theta, states = start(problem.model, problem.records, "linear")
    initial = Trajectory((theta,), tuple(states))
    options = IpoptOptions(time_limit=REFERENCE_SECONDS)
    result = solve_ipopt(multiple_shooting(problem), initial, options=options)
    model = replace(
        fitted.model_,
        standard_theta=result.trajectory.controls[0],
        initial_states=np.asarray(result.trajectory.states[0]),
    )
    return model, result


def _say_verdict(found: Identification, say: Callable[[str], None]) -> None:
    say(f"{found.result.status.value}: {found.result.message}")
    each = found.figures_of_records(found.model, found.part)
    for number, of in enumerate(each, start=1):
        if of is not None and len(each) > 1:
            error, fit = (" ".join(f"{value:.4g}" for value in values) for values in of)
            say(f"record {number} of {found.part}: RMSE {error}, fit {fit} %")
    tests = found.tests
    for j, label in enumerate(found.dataset.output_labels):
        white = "white" if tests.is_white[j] else "not white"
        shares = zip(found.dataset.input_labels, tests.share_outside[:, j], strict=True)
        outside = ", ".join(f"{100 * share:.0f} % of the lags of {name}" for name, share in shares)
        say(f"residuals of {label} on {found.part}: {white}" + (f"; outside the band: {outside}" if outside else ""))
    for steps, rmse in found.ahead().items():
        if steps in (1, 10):
            say(f"predicted {steps} ahead: RMSE {' '.join(f'{value:.4g}' for value in rmse)}")
