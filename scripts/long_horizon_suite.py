"""Long horizons: which formulation fits a state-space model to a record of hundreds of steps, and in what time.

    python scripts/long_horizon_suite.py [--problems NAME ...] [--methods NAME ...] [--seeds N ...] [--budget S]
                                         [--ipopt-seeds N] [--ipopt-budget S] [--data FOLDER] [--full] [--quick]
                                         [--json FILE] [--resume] [--markdown FILE] [--figure FILE]
    python scripts/long_horizon_suite.py --redraw FILE ... [--markdown FILE] [--figure FILE]

The problems are described in :mod:`horizon_suite.problems`, the methods in :mod:`horizon_suite.methods`, and what a
success is in :mod:`horizon_suite.measures`.  Every run has its own data and weights, by its seed, and a process of its
own with one BLAS thread.  Runs end with their success, but for chaotic systems (whose exponent wants a finished model)
and measured data (which have no floor), or at their budget of processor seconds; with ``--full`` all go on.

Runs go seed by seed.  Of a method with several settings (Adam's rates) all are run on the first seed, and the best one
of each problem on the others.  IPOPT gets a budget of its own, and fewer seeds if so wanted: it takes up to a second an
iteration.  The JSON is rewritten after every run; ``--resume`` makes only the runs that it lacks.  ``--redraw`` makes
tables and figure from one or several such files, without any run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is there: no threads, none to be stopped
sys.path.insert(0, str(Path(__file__).resolve().parent))
from bench import commit, processor, write_markdown
from horizon_suite import figure, measures, problems, report, scores
from horizon_suite.methods import IPOPT, METHODS, family

from ocp_nn.forward_dp.kalman_arrays import kernels
from ocp_nn.report import environment, write_json

SCHEMA = 1


def plan(args: argparse.Namespace) -> Iterator[tuple[str, int, str]]:
    """Problem, seed and method of every run, seed by seed."""
    for number, seed in enumerate(args.seeds):
        methods = [name for name in args.methods if name not in IPOPT or number < args.ipopt_seeds]
        yield from ((problem, seed, method) for problem in args.problems for method in methods)


def is_favourite(runs: Sequence[scores.Run], problem: str, method: str, seed: int, first: int) -> bool:
    """Whether a method is run on a seed: on the first one any is, later the best of its settings."""
    earlier = [run for run in runs if run["seed"] == first]
    mine = scores.some(earlier, problem, family(method))
    return seed == first or not mine or scores.favourite(mine, problem, family(method)) == method


def run_all(args: argparse.Namespace, results: dict[str, Any]) -> None:
    runs = results["runs"]
    done = {(run["problem"], run["seed"], run["method"]) for run in runs}
    made: dict[tuple[str, int], problems.Problem] = {}
    for name, seed, method in plan(args):
        if (name, seed, method) in done or not is_favourite(runs, name, method, seed, args.seeds[0]):
            continue
        if (name, seed) not in made:
            made = made | {(name, seed): problems.problem(name, seed, args.data)}
        budget = args.ipopt_budget if method in IPOPT else args.budget
        outcome = measures.run(made[name, seed], seed, method, METHODS[method], budget, full=args.full)
        runs.append(asdict(outcome) | {"budget": budget})
        print(report.line(runs[-1]), flush=True)
        if args.json:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            write_json(args.json, results)


def results_of(files: Sequence[Path]) -> dict[str, Any]:
    """The results of files, of a run that several have the last one; none at all without files."""
    found: dict[str, Any] = {"schema": SCHEMA, "runs": [], "commands": []}
    for path in files:
        other = json.loads(path.read_text())
        if other["schema"] != SCHEMA:
            raise ValueError(f"expected results of schema {SCHEMA}, received {other['schema']} in {path}")
        found = other | {key: found[key] + other[key] for key in ("runs", "commands")}
    runs = {(run["problem"], run["seed"], run["method"]): run for run in found["runs"]}
    return found | {"runs": list(runs.values())}


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", metavar="NAME", help="; ".join(problems.DEFAULT) + "; tanks")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], metavar="N")
    parser.add_argument("--budget", type=float, default=20.0, help="processor seconds of a run")
    parser.add_argument("--ipopt-seeds", type=int, default=2, metavar="N", help="how many of the seeds IPOPT gets")
    parser.add_argument("--ipopt-budget", type=float, default=120.0, help="processor seconds of a run of IPOPT")
    parser.add_argument("--data", type=Path, help="folder that holds cascaded_tanks/; adds the tanks")
    parser.add_argument("--full", action="store_true", help="go on after a success")
    parser.add_argument("--quick", action="store_true", help="two short records, one seed, half a second a run")
    parser.add_argument("--redraw", type=Path, nargs="+", default=[], metavar="FILE", help="run nothing")
    parser.add_argument("--resume", action="store_true", help="go on from --json")
    for name in ("json", "markdown", "figure"):
        parser.add_argument(f"--{name}", type=Path)
    args = parser.parse_args(arguments)
    if args.resume and not args.json:
        parser.error("--resume needs --json")
    if args.quick:
        args.seeds, args.budget, args.ipopt_budget = args.seeds[:1], min(args.budget, 0.5), min(args.ipopt_budget, 0.5)
    if args.problems is None:
        args.problems = [*(problems.QUICK if args.quick else problems.DEFAULT), *([problems.TANKS] * bool(args.data))]
    return args


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    arguments = sys.argv[1:] if arguments is None else arguments
    args = parse(arguments)
    resumed = [args.json] if args.resume and args.json.is_file() else []
    results = results_of(args.redraw or resumed)
    if not args.redraw:
        about = {"commit": commit(), "cpu": processor()}
        results["environment"] = environment() | about
        results["commands"].append("python scripts/long_horizon_suite.py " + " ".join(map(str, arguments)))
        kernels()  # compiled here, once, and not on the clock of the first run
        run_all(args, results)
    text = report.markdown(results["runs"])
    print("\n" + text)
    if args.markdown:
        write_markdown(args.markdown, text)
    if args.figure:
        figure.draw(results["runs"], args.figure)
    return results


if __name__ == "__main__":
    main()
