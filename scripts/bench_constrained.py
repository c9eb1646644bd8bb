"""Constrained problems: do ours and IPOPT agree, who is feasible first, monotone regression, and inputs found.

    python scripts/bench_constrained.py [--only {random,timed,monotone,sparse} ...] [--cases N] [--seed N]
                                        [--seeds N ...] [--methods NAME ...] [--limit S] [--data FOLDER]
                                        [--splits N] [--quick] [--json FILE] [--merge FILE ...] [--markdown FILE]

* **random**: ``--cases`` random problems from ``--seed`` on; from our solution IPOPT must stay where it is, with the
  same multipliers (:mod:`constrained_suite.random_problems`).
* **timed**: seconds to a feasible point within 1 % of the best objective, beside IPOPT and alpaqa, on ten problems
  (:mod:`constrained_suite.timed`).
* **monotone**: real data with and without monotony, beside scikit-learn's boosting, on ``--splits`` standard splits
  (:mod:`constrained_suite.monotone`); needs ``--data``, the folder with the sets, and scikit-learn.
* **sparse**: which inputs of Friedman's function (5 of 10 matter) the group lasso finds among 200 samples, weight decay
  and lasso chosen on these samples (:mod:`ocp_nn.learning.sparse_path`).

All on one BLAS thread.  The JSON is written as results come in; ``--markdown`` keeps what a file holds above
``<!-- generated -->``.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is there: no threads, none to be stopped

sys.path.insert(0, str(Path(__file__).resolve().parent))
import bench
import numpy as np
from constrained_suite import monotone, random_problems, report, timed
from threadpoolctl import threadpool_limits

import ocp_nn
from ocp_nn.learning.selection import choose_weight_decay
from ocp_nn.learning.sparse_path import choose_inputs
from ocp_nn.report import environment, write_json

PARTS = ("random", "timed", "monotone", "sparse")

# Inputs of Friedman's function that it depends on.
_TRUE = (0, 1, 2, 3, 4)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--cases", type=int, default=100, help="random problems")
    parser.add_argument("--seed", type=int, default=0, help="of the first of them")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="of the timed and sparse parts")
    parser.add_argument("--methods", nargs="+", choices=timed.METHODS, default=list(timed.METHODS), metavar="NAME",
                        help="of the timed part; alpaqa takes up to a minute a call")  # fmt: skip
    parser.add_argument("--limit", type=float, default=20.0, help="processor seconds of a timed run, about")
    parser.add_argument("--data", type=Path, help="folder that holds energy and yacht")
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="two random problems, one timed, one seed")
    parser.add_argument("--merge", type=Path, nargs="+", default=[], metavar="FILE")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    args = parser.parse_args(arguments)
    args.command = list(arguments)
    if args.quick:
        args.cases, args.seeds, args.splits, args.limit = 2, args.seeds[:1], 1, min(args.limit, 1.0)
    if "monotone" in args.only and args.data is None:
        args.only.remove("monotone")
    return args


def run_random(args: argparse.Namespace, results: dict[str, Any]) -> None:
    for seed in range(args.seed, args.seed + args.cases):
        found = random_problems.compared(seed)
        results["random"].append(asdict(found) | {"agrees": found.agrees, "infeasible": found.is_infeasible})
        if not found.agrees:
            print(found, flush=True)
        save(args, results)


def run_timed(args: argparse.Namespace, results: dict[str, Any]) -> None:
    for name in list(timed.PROBLEMS)[: 1 if args.quick else None]:
        for seed in args.seeds:
            for method in args.methods[: 3 if args.quick else None]:
                run = timed.measure(name, method, seed, args.limit)
                results["timed"].append(asdict(run))
                last = run.trace[-1] if run.trace else []
                print(f"{name}, {seed}, {method}: {run.status}, {last}", flush=True)
            save(args, results)


def run_monotone(args: argparse.Namespace, results: dict[str, Any]) -> None:
    for name in monotone.SIGNS:
        for split in range(args.splits):
            results["monotone"].append(monotone.measure(args.data, name, split))
            print(results["monotone"][-1], flush=True)
            save(args, results)


def run_sparse(args: argparse.Namespace, results: dict[str, Any]) -> None:
    for seed in args.seeds:
        x, y = friedman(seed)
        network = ocp_nn.Network.mlp([10, 10, 1])
        began = time.process_time()
        decay = choose_weight_decay(network, x, y, seed=seed).weight_decay
        found = choose_inputs(ocp_nn.TrainingProblem(network, x, y, decay), seed=seed)
        results["sparse"].append(
            {
                "seed": seed,
                "weight_decay": decay,
                "chosen": list(found.chosen),
                "is_right": found.chosen == _TRUE,
                "sets": [list(used) for used in found.sets],
                "errors": list(found.errors),
                "seconds": time.process_time() - began,
            }
        )
        print(results["sparse"][-1], flush=True)
        save(args, results)


def friedman(seed: int, samples: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Friedman's function of ten inputs with noise of deviation one, standardised."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=(samples, 10))
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    y = y + rng.standard_normal(samples)
    return (x - x.mean(axis=0)) / x.std(axis=0), ((y - y.mean()) / y.std())[:, None]


def save(args: argparse.Namespace, results: dict[str, Any]) -> None:
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.json, results)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    args = parse(sys.argv[1:] if arguments is None else arguments)
    results: dict[str, Any] = {
        "environment": environment() | {"commit": bench.commit(), "cpu": bench.processor()},
        "commands": ["python scripts/bench_constrained.py " + shlex.join(args.command)] if args.only else [],
        **{part: [] for part in PARTS},
    }
    for path in args.merge:
        other = json.loads(path.read_text())
        for part in PARTS:
            results[part] += other[part]
        # each with the code that it was run on
        commit = other["environment"]["commit"]
        results["commands"] += [report.at(command, commit) for command in other["commands"]]
        results["environment"] = other["environment"]
    with threadpool_limits(1):
        for part, run in zip(PARTS, (run_random, run_timed, run_monotone, run_sparse), strict=True):
            if part in args.only:
                run(args, results)
    save(args, results)
    text = report.markdown(results)
    print("\n" + text)
    if args.markdown:
        bench.write_markdown(args.markdown, text)
    return results


if __name__ == "__main__":
    main()
