"""Identification of public records: ours beside jax-sysid, recurrent networks, NARX and linear models.

    python scripts/bench_identification.py --data FOLDER [--sets NAME ...] [--methods NAME ...] [--seeds N ...]
                                           [--limit S] [--timed] [--quick] [--json FILE] [--resume] [--markdown FILE]
    python scripts/bench_identification.py --redraw FILE ... [--markdown FILE]

Parts and windows of the sets are those of the package nonlinear_benchmarks 1.0.1 (:mod:`ocp_nn.learning.data`); what
every method is and chooses is in :mod:`identification_suite.methods`.  Each run has a process of its own with one BLAS
thread; seconds are its processor seconds with everything that it chooses.  Errors are those of free runs of the test
parts after the window.  Methods whose package is not installed are named and left out; those without anything random
run once.

``--timed`` compares instead, on one objective and from one start, how long ours takes to the final objective of
jax-sysid.  The JSON is rewritten after every run, ``--resume`` makes only the runs that it lacks, and ``--redraw``
makes the tables of one or several files.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is there: no threads, none to be stopped
sys.path.insert(0, str(Path(__file__).resolve().parent))
import numpy as np
from bench import commit, processor, write_markdown
from identification_suite import report, timed
from identification_suite.methods import METHODS, SEEDED, missing
from identification_suite.settings import QUICK, SETS, load
from threadpoolctl import threadpool_limits

from ocp_nn.learning.data import SequenceDataset
from ocp_nn.learning.sequence_metrics import fit_percent, sequence_rmse
from ocp_nn.report import environment, write_json

SCHEMA = 1


def plan(args: argparse.Namespace) -> Iterator[tuple[str, int, str]]:
    """Set, seed and method of every run, seed by seed."""
    for number, seed in enumerate(args.seeds):
        for name in args.sets:
            yield from ((name, seed, method) for method in args.methods if number == 0 or method in SEEDED)


def measure(name: str, method: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One run: errors of every test part and the training records."""
    dataset, setting = load(name, args.data), (SETS | QUICK)[name]
    fitted = METHODS[method](dataset, setting, seed, args.limit)
    seconds = _processor_seconds()
    rmse: dict[str, float] = {}
    fit: dict[str, float] = {}
    for part, v, y, i in _records(dataset):
        with np.errstate(over="ignore", invalid="ignore"):
            simulated = np.asarray(fitted.simulate(i, v, y[: dataset.warm_up]))
        rmse[part] = float(np.nan_to_num(sequence_rmse(y, simulated, warm_up=dataset.warm_up)[0], nan=np.inf))
        fit[part] = float(np.nan_to_num(fit_percent(y, simulated, warm_up=dataset.warm_up)[0], nan=-np.inf))
    return {"status": "done", "rmse": rmse, "fit": fit, "chosen": fitted.chosen, "seconds": seconds}


def _records(dataset: SequenceDataset) -> Iterator[tuple[str, np.ndarray, np.ndarray, int]]:
    """Every test record with the name of its part."""
    for part, records in dataset.tests.items():
        for i, (v, y) in enumerate(records.pairs):
            yield part if len(records) == 1 else f"{part} {i + 1}", v, y, i


def _processor_seconds() -> float:
    """Of this process and its children."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def in_a_process(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """A run in a process of its own; none of it raises, and a process that dies is a result."""
    receive, send = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_child, args=(send, function, arguments))
    process.start()
    send.close()
    try:
        answer: dict[str, Any] = receive.recv()
    except EOFError:
        answer = _failed("the process died")
    process.join()
    return answer


def _child(send: Any, function: Callable[..., dict[str, Any]], arguments: tuple[Any, ...]) -> None:
    with threadpool_limits(1):
        try:
            answer = function(*arguments)
        except Exception as error:  # a method that fails is a result
            answer = _failed(f"{type(error).__name__}: {error}"[:200])
    send.send(answer)


def _failed(status: str) -> dict[str, Any]:
    return {"status": status, "rmse": {}, "fit": {}, "chosen": "", "seconds": _processor_seconds()}


def run_all(args: argparse.Namespace, results: dict[str, Any]) -> None:
    done = {(run["dataset"], run["seed"], run["method"]) for run in results["runs"]}
    for name, seed, method in plan(args):
        if (name, seed, method) in done or method in results["missing"]:
            continue
        run = {"dataset": name, "seed": seed, "method": method} | in_a_process(measure, name, method, seed, args)
        results["runs"].append(run)
        print(report.line(run), flush=True)
        save(args, results)


def run_timed(args: argparse.Namespace, results: dict[str, Any]) -> None:
    """The other comparison."""
    done = {(row["dataset"], row["seed"]) for row in results["timed"]}
    for seed in args.seeds:
        for name in (name for name in args.sets if (name, seed) not in done):
            answer = in_a_process(timed.measure, name, seed, args.data)
            if answer.get("status"):
                print(f"{name} {seed}: {answer['status']}", flush=True)
                continue
            results["timed"].append(answer)
            print(results["timed"][-1], flush=True)
            save(args, results)


def save(args: argparse.Namespace, results: dict[str, Any]) -> None:
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.json, results)


def results_of(files: Sequence[Path]) -> dict[str, Any]:
    """The results of files; none at all without any."""
    found: dict[str, Any] = {"schema": SCHEMA, "runs": [], "timed": [], "commands": [], "missing": []}
    for path in files:
        other = json.loads(path.read_text())
        if other["schema"] != SCHEMA:
            raise ValueError(f"expected results of schema {SCHEMA}, received {other['schema']} in {path}")
        found = other | {key: found[key] + other[key] for key in ("runs", "timed", "commands")}
    return found


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help=f"folder that holds {', '.join(SETS)}")
    parser.add_argument("--sets", nargs="+", choices=[*SETS, *QUICK], default=list(SETS), metavar="NAME")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], metavar="N")
    parser.add_argument("--limit", type=float, default=600.0, help="processor seconds of a run, about")
    parser.add_argument("--timed", action="store_true", help="the same objective, instead: needs jax-sysid")
    parser.add_argument("--quick", action="store_true", help="a short synthetic record, one seed, linear and ours")
    parser.add_argument("--redraw", type=Path, nargs="+", default=[], metavar="FILE", help="run nothing")
    parser.add_argument("--resume", action="store_true", help="go on from --json")
    for name in ("json", "markdown"):
        parser.add_argument(f"--{name}", type=Path)
    args = parser.parse_args(arguments)
    if args.resume and not args.json:
        parser.error("--resume needs --json")
    if args.quick:
        args.sets, args.seeds, args.methods = list(QUICK), args.seeds[:1], args.methods[:2]
    elif args.data is None and not args.redraw:
        parser.error("--data: the folder that holds the sets is needed")
    return args


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    arguments = sys.argv[1:] if arguments is None else arguments
    args = parse(arguments)
    results = results_of(args.redraw or ([args.json] if args.resume and args.json.is_file() else []))
    if not args.redraw:
        results["environment"] = environment() | {"commit": commit(), "cpu": processor()}
        results["commands"].append("python scripts/bench_identification.py " + " ".join(map(str, arguments)))
        results["missing"] = [name for name in args.methods if missing(name)]
        (run_timed if args.timed else run_all)(args, results)
    text = report.markdown(results)
    print("\n" + text)
    if args.markdown:
        write_markdown(args.markdown, text)
    return results


if __name__ == "__main__":
    main()
