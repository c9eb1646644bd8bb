"""Classification: ours and scikit-learn's MLPClassifier on held-out parts, and solvers on one objective.

    python scripts/bench_classification.py [--quick] [--only {folds,timed,deep} ...] [--sets NAME ...] [--folds N]
                                           [--seeds N] [--limit S] [--jobs N] [--merge FILE ...]
                                           [--json FILE] [--markdown FILE]

Three parts, on scikit-learn's own data (digits, breast_cancer, wine, iris), all on one BLAS thread a process:

* **folds**: ten stratified folds; one hidden layer of 20 tanh units; the weight decay of every method is chosen on the
  training part by the same search.  Log loss and accuracy on the part left out, and paired differences.
* **timed**: objective against processor seconds, from the same weights, on the same J: the sum of the log losses plus
  half the weight decay times the sum of squared weights and biases.  scikit-learn's decay leaves biases out, so it
  minimises something slightly else; J is what is reported for it too.  PyTorch is left out where it is not installed.
* **deep**: ten sigmoid layers of five units, our default beside single-shooting methods from standard weights.

The JSON is rewritten after every fold; ``--markdown`` keeps what a file holds above ``<!-- generated -->``.
``--merge`` adds the results of other files; with ``--only`` and no part, nothing is measured.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shlex
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is there: no threads, none to be stopped

sys.path.insert(0, str(Path(__file__).resolve().parent))
import bench
from bench_suite import classification, classification_tables

from ocp_nn.report import environment, write_json

PARTS = ("folds", "timed", "deep")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="iris, two folds, two candidates, one seed, half a second")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--sets", nargs="+", choices=classification.SETS, default=list(classification.SETS))
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5, help="of the initial weights, in the other two parts")
    parser.add_argument("--limit", type=float, default=5.0, help="processor seconds of a run there")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes, for the folds alone")
    parser.add_argument("--merge", type=Path, nargs="+", default=[], metavar="FILE")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    args = parser.parse_args(arguments)
    args.command = list(arguments)
    if args.quick:
        args.sets, args.folds, args.seeds, args.limit, args.jobs = ["iris"], 2, 1, min(args.limit, 0.5), 1
    return args


def run_folds(args: argparse.Namespace, results: dict[str, Any]) -> None:
    """The first part; what takes longest goes first, so that no process waits for it."""
    wanted = [(name, fold) for name in reversed(args.sets) for fold in range(args.folds)]
    with ProcessPoolExecutor(args.jobs, multiprocessing.get_context("fork")) as pool:
        tasks = [
            pool.submit(classification.measure_fold, name, fold, args.folds, quick=args.quick) for name, fold in wanted
        ]
        for task in as_completed(tasks):
            rows = task.result()
            results["folds"] += rows
            print("; ".join(f"{r['method']}: {r['log_loss']:.4f}, {r['seconds']:.1f} s" for r in rows),
                  rows[0]["dataset"], rows[0]["fold"], flush=True)  # fmt: skip
            save(args, results)


def run_timed(args: argparse.Namespace, results: dict[str, Any]) -> None:
    """The second part."""
    for problem in classification.TIMED:
        for seed in range(args.seeds if problem.name in args.sets else 0):
            limit = args.limit * (2 if problem.name == "digits" else 1)
            rows, notes = classification.timed_runs(problem, seed, limit)
            results["timed"] += rows
            results["notes"] += [note for note in notes if note not in results["notes"]]
            print(problem.name, seed, {row["peer"]: row["objective"] for row in rows}, flush=True)
        save(args, results)


def run_deep(args: argparse.Namespace, results: dict[str, Any]) -> None:
    """The third part."""
    for problem in classification.DEEP[: 1 if args.quick else None]:
        for seed in range(args.seeds):
            rows = classification.deep_runs(problem, seed, args.limit)
            results["deep"] += rows
            print(problem.name, seed, {row["peer"]: row["objective"] for row in rows}, flush=True)
        save(args, results)


def merge(results: dict[str, Any], other: dict[str, Any]) -> None:
    """Add what another file has and these results lack."""
    for part in ("commands", "notes", *PARTS):
        results[part] += [entry for entry in other[part] if entry not in results[part]]
    results["seconds"] += other["seconds"]
    results["environment"] = other["environment"]


def sort(results: dict[str, Any]) -> None:
    """Folds come in as they are done."""
    order = {name: k for k, name in enumerate(classification.SETS)}
    results["folds"].sort(key=lambda row: (order[row["dataset"]], row["fold"]))


def save(args: argparse.Namespace, results: dict[str, Any]) -> None:
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.json, results)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    args = parse(sys.argv[1:] if arguments is None else arguments)
    results: dict[str, Any] = {
        "environment": environment() | {"commit": bench.commit(), "cpu": bench.processor()},
        "commands": ["python scripts/bench_classification.py " + shlex.join(args.command)] if args.only else [],
        "notes": [],
        "seconds": 0.0,
        **{part: [] for part in PARTS},
    }
    for path in args.merge:
        merge(results, json.loads(path.read_text()))
    began = time.perf_counter()
    for part, run in zip(PARTS, (run_folds, run_timed, run_deep), strict=True):
        if part in args.only:
            run(args, results)
    results["seconds"] += time.perf_counter() - began
    sort(results)
    save(args, results)
    text = "\n\n".join([classification_tables.markdown(results), *results["notes"], _made_by(results)])
    print("\n" + text)
    if args.markdown:
        bench.write_markdown(args.markdown, text)
    return results


def _made_by(results: dict[str, Any]) -> str:
    where = results["environment"]
    commands = "; ".join(f"`{command}`" for command in results["commands"])
    return f"{commands}, {results['seconds']:.0f} s in all, commit {where['commit']}, {where['cpu']}."


if __name__ == "__main__":
    main()
