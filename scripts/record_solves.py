"""What forty solves return, to the last bit: a record to hold a change against that must not change numbers.

    python scripts/record_solves.py record FILE [--only TEXT]   run the solves, write their hashes and histories
    python scripts/record_solves.py compare BEFORE AFTER        what differs between two records

A record holds, per solve, a hash of the final controls and multipliers, the status, and every row of the history
without its seconds.  Two records compare only when made on one machine with one set of packages: other BLAS kernels
round differently.  No solve is ended by the clock.

The solves: the nine networks of the deep suite with two seeds each, four real sets, ReLU, partial and single shooting,
Armijo, the accuracies of the inner loop, resumed solves, the sample start, several outputs, symbolic stages.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import casadi as ca
import numpy as np
from deep_suite import CASES, sin2x

import ocp_nn
from ocp_nn import Network, Options, Result, TrainingProblem

UCI = Path(__file__).resolve().parents[2] / "shared/data/uci"
DEEP_OUTER, REAL_OUTER, SMALL_OUTER = 150, 60, 150

Solve = Callable[[], Result]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    recording = verbs.add_parser("record")
    recording.add_argument("file", type=Path)
    recording.add_argument("--only", default="", help="solves whose name has this text")
    comparing = verbs.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    args = parser.parse_args()
    return record(args.file, args.only) if args.verb == "record" else compare(args.before, args.after)


def record(file: Path, only: str) -> int:
    rows: dict[str, Any] = {}
    for name, solve in solves():
        if only in name:
            began = time.process_time()
            rows[name] = described(solve())
            print(f"{name:<44} {rows[name]['status']:<12} {rows[name]['objective']:<24} "
                  f"{time.process_time() - began:6.1f} s", flush=True)  # fmt: skip
    file.write_text(json.dumps(rows, indent=1))
    print(f"{len(rows)} solves written to {file}")
    return 0


def compare(before: Path, after: Path) -> int:
    """Print the differences; the exit code is their number, 100 at most."""
    first, second = (json.loads(path.read_text()) for path in (before, after))
    different = 0
    for name in sorted(first.keys() | second.keys()):
        if name not in first or name not in second:
            print(f"{name}: only in {before if name in first else after}")
        elif first[name] == second[name]:
            continue
        else:
            print(f"{name}: {difference(first[name], second[name])}")
        different += 1
    print(f"{len(first)} and {len(second)} solves, {different} differ")
    return min(different, 100)


def difference(first: dict[str, Any], second: dict[str, Any]) -> str:
    rows = [k for k, (a, b) in enumerate(zip(first["history"], second["history"], strict=False)) if a != b]
    parts = [f"J {first['objective']} -> {second['objective']}", f"{first['status']} -> {second['status']}"]
    parts.append(f"histories part at row {rows[0]}" if rows else "histories agree as far as both go")
    return ", ".join(parts)


def described(result: Result) -> dict[str, Any]:
    return {
        "status": result.status.value,
        "controls": digest(result.trajectory.controls),
        "multipliers": digest(result.trajectory.multipliers or ()),
        "objective": result.objective.hex(),
        "stationarity": float(result.stationarity).hex(),
        "counts": result.counts,
        "history": [
            [row.iteration, row.phase, row.steps]
            + [float(v).hex() for v in (row.objective, row.rollout_objective, row.max_defect, row.stationarity)]
            + [float(row.penalty).hex()]
            for row in result.history
        ],
    }


def digest(arrays: tuple[np.ndarray, ...]) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


def solves() -> Iterator[tuple[str, Solve]]:
    yield from deep_suite()
    yield from real_sets()
    yield from options_and_shapes()
    yield from symbolic_stages()


def deep_suite() -> Iterator[tuple[str, Solve]]:
    for activation, depth, width in CASES:
        for seed in range(2):
            network = Network.mlp([1, *[width] * depth, 1], activation=activation)
            problem = TrainingProblem(network, *sin2x(seed), weight_decay=1e-3)
            yield f"deep {activation} {depth}x{width} seed {seed}", solver(problem, seed=seed, max_outer=DEEP_OUTER)


def real_sets() -> Iterator[tuple[str, Solve]]:
    yield "diabetes 20,20 rho 30", solver(scaled("diabetes", [20, 20], 30.0), max_outer=REAL_OUTER)
    yield "diabetes 20,20 rho 1", solver(scaled("diabetes", [20, 20], 1.0), max_outer=REAL_OUTER)
    yield "friedman 20", solver(scaled("friedman", [20], 1.0), max_outer=REAL_OUTER)
    for name in ("yacht", "energy", "bostonHousing") if UCI.is_dir() else ():
        yield f"{name} 20,20 rho 1", solver(scaled(str(UCI / name), [20, 20], 1.0), max_outer=REAL_OUTER)
    if UCI.is_dir():
        yield "power-plant 20,20 sample start", solver(scaled(str(UCI / "power-plant"), [20, 20], 1.0), max_outer=20)


def options_and_shapes() -> Iterator[tuple[str, Solve]]:
    small = TrainingProblem(Network.mlp([1, 6, 6, 6, 1]), *sin2x(0), weight_decay=1e-3)
    for name, options in {
        "single shooting": {"shooting": "single"},
        "partial shooting": {"shooting": [2]},
        "armijo": {"globalisation": "armijo"},
        "no second order": {"second_order": False},
        "no acceleration": {"acceleration": False},
        "relative accuracy": {"inner_accuracy": "relative", "max_inner": 50},
        "absolute accuracy": {"inner_accuracy": "absolute", "max_inner": 50},
        "penalty by node": {"penalty": [1.0, 100.0, 1e4], "penalty_growth": 3.0},
        "covariance form": {"form": "covariance", "max_outer": 8},
        "primal qr form": {"form": "primal_qr"},
        "states": {"initialisation": "states"},
        "orthogonal": {"initialisation": "orthogonal", "seed": 3},
    }.items():
        yield name, solver(small, **({"max_outer": SMALL_OUTER} | options))
    yield "relu 20", solver(scaled("friedman", [20], 1.0, activation="relu"), max_outer=REAL_OUTER)
    yield "two outputs", solver(scaled("arm", [8, 8], 1e-2), max_outer=REAL_OUTER)
    yield "residual blocks", solver(residual_problem(), max_outer=REAL_OUTER)
    yield "resumed", lambda: resumed(small)
    yield "resumed from a file", lambda: resumed_from_file(small)


def symbolic_stages() -> Iterator[tuple[str, Solve]]:
    x, u = ca.SX.sym("x", 3), ca.SX.sym("u", 12)
    block = ca.Function("block", [x, u], [x + 0.5 * ca.tanh(ca.reshape(u[:9], 3, 3) @ x + u[9:])])
    lift = ocp_nn.Dense(1, 3, "tanh")
    network = Network([lift, block, block, block, ocp_nn.Dense(3, 1, "identity")])
    problem = TrainingProblem(network, *sin2x(1), weight_decay=1e-3)
    for seed in (1, 2):
        yield f"symbolic stages seed {seed}", solver(problem, seed=seed, max_outer=REAL_OUTER)


def solver(problem: TrainingProblem, **options: Any) -> Solve:
    return lambda: ocp_nn.solve(problem, options=Options(**options))


def resumed(problem: TrainingProblem) -> Result:
    first = ocp_nn.solve(problem, options=Options(max_outer=6))
    return ocp_nn.solve(problem, first, options=Options(max_outer=SMALL_OUTER))


def resumed_from_file(problem: TrainingProblem) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        ocp_nn.solve(problem, options=Options(max_outer=4)).save(f"{folder}/model.npz")
        return ocp_nn.solve(problem, ocp_nn.load(f"{folder}/model.npz"), options=Options(max_outer=SMALL_OUTER))


def residual_problem() -> TrainingProblem:
    return TrainingProblem(Network.mlp([1, 6, 6, 6, 1], residual=True), *sin2x(2), weight_decay=1e-3)


def scaled(name: str, hidden: list[int], weight_decay: float, activation: str = "tanh") -> TrainingProblem:
    data = ocp_nn.load_dataset(name)
    x, y = (
        (table - table.mean(axis=0)) / np.where(table.std(axis=0) > 0, table.std(axis=0), 1.0)
        for table in (data.x, data.y)
    )
    network = Network.mlp([x.shape[1], *hidden, y.shape[1]], activation=activation)
    return TrainingProblem(network, x, y, weight_decay)


if __name__ == "__main__":
    sys.exit(main())
