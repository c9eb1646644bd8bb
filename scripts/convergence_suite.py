"""Deep networks to the last digits: how many of the default solves converge, and how long that takes.

    python scripts/convergence_suite.py [--seeds N] [--limit S] [--quick] [--deepest] [--methods NAME ...]
                                        [--json FILE] [--markdown FILE]

The problems of ``deep_suite.py`` (sin(2x) + noise, 100 samples, weight decay 1e-3), each solved from the default start
to the default tolerance, 1e-6, or until ``--limit`` seconds are over: by the defaults ("ours"), and without lifted
Newton steps ("in the controls").  *Trained* is a mean squared error of the rollout below 0.01.  ReLU networks end at a
kink, where no gradient vanishes; these are counted apart.  With ``--deepest`` also 100 layers.

Seconds are of the processor, one BLAS thread; the limit is one of wall time, so that a busy machine counts against us.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is there: no threads, none to be stopped
sys.path.insert(0, str(Path(__file__).resolve().parent))
import numpy as np
from bench import signed, write_markdown
from deep_suite import CASES, QUICK_CASES, TARGET, rollout_mse, sin2x

from ocp_nn import Network, Options, TrainingProblem, solve

DEEPEST = (("sigmoid", 100, 5), ("tanh", 100, 8))
METHODS = {"ours": Options(), "in the controls": Options(lifted=False)}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One solve."""

    network: str
    method: str
    seed: int
    status: str
    mse: float
    objective: float
    gradient: float
    seconds: float


def run(case: tuple[str, int, int], method: str, seed: int, limit: float) -> Run:
    activation, depth, width = case
    problem = TrainingProblem(Network.mlp([1, *[width] * depth, 1], activation), *sin2x(seed), weight_decay=1e-3)
    options = Options(**{**vars(METHODS[method]), "seed": seed, "time_limit": limit})
    began = time.process_time()
    result = solve(problem, options=options)
    seconds = time.process_time() - began
    return Run(
        network=f"{activation} {depth}x{width}",
        method=method,
        seed=seed,
        status=result.status.value,
        mse=rollout_mse(problem, np.concatenate(result.trajectory.controls)),
        objective=result.objective,
        gradient=result.stationarity,
        seconds=seconds,
    )


def table(runs: Sequence[Run]) -> Iterator[str]:
    """Rows of Markdown, one a network and method, and one for all smooth and all ReLU networks of a method."""
    columns = ("network", "method", "trained", "converged", "at a kink", "median J", "largest gradient", "median s")
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    networks = list(dict.fromkeys(r.network for r in runs))
    groups = {name: [name] for name in networks}
    groups["all smooth"] = [name for name in networks if not name.startswith("relu")]
    groups["all"] = networks
    for title, members in groups.items():
        for method in dict.fromkeys(r.method for r in runs):
            some = [r for r in runs if r.network in members and r.method == method]
            if not some:
                continue
            counts = [
                sum(r.mse < TARGET for r in some),
                sum(r.status == "converged" for r in some),
                sum(r.status == "at a kink" for r in some),
            ]
            numbers = " | ".join(f"{count}/{len(some)}" for count in counts)
            middle = f"{np.median([r.objective for r in some]):.5f}" if len(members) == 1 else ""
            largest, seconds = max(r.gradient for r in some), np.median([r.seconds for r in some])
            yield f"| {title} | {method} | {numbers} | {middle} | {largest:.0e} | {seconds:.1f} |"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Deep networks to the last digits.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--limit", type=float, default=20.0, help="seconds of a solve")
    parser.add_argument("--quick", action="store_true", help="two networks, one seed, five seconds")
    parser.add_argument("--deepest", action="store_true", help="also 100 layers")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["ours"], metavar="NAME")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    arguments = sys.argv[1:] if arguments is None else arguments
    given = parser.parse_args(arguments)
    if given.quick:
        given.seeds, given.limit = 1, min(given.limit, 5.0)
    networks = (*(QUICK_CASES if given.quick else CASES), *(DEEPEST if given.deepest else ()))
    runs: list[Run] = []
    for case in networks:
        for seed in range(given.seeds):
            for method in given.methods:
                runs.append(one := run(case, method, seed, given.limit))
                print(
                    f"{one.network:14} {seed} {method:16} {one.status:11} MSE {one.mse:.4f} J {one.objective:.6f} "
                    f"gradient {one.gradient:.0e} {one.seconds:.1f} s",
                    flush=True,
                )
    lines = "\n".join(table(runs))
    print(lines)
    if given.json:
        given.json.write_text(json.dumps([asdict(r) for r in runs], indent=1) + "\n")
    if given.markdown:
        write_markdown(given.markdown, signed(lines, "convergence_suite.py", arguments))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
