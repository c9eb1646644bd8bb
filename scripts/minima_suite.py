"""Whether what says "converged" is a minimum: solves of real data, with IPOPT started where they end.

    python scripts/minima_suite.py [--data FOLDER] [--sets NAME ...] [--seeds N] [--limit S] [--quick] [--markdown FILE]

Per set, network, weight decay and seed one solve from random weights ("random"), and one from weights that are all zero
and from weights that are all alike, where gradients keep the units of a layer together ("alike": each weight is 0.1).
Where a solve says converged:

* the reduced Hessian, dense, written by :mod:`ocp_nn.problem.curvature`: a *saddle* is where its smallest eigenvalue in
  the metric of Gauss-Newton's (weight decay included) is below -1e-6;
* IPOPT on single shooting, started there at a tolerance of 1e-10: what it gains, relative to the objective.

A saddle is stationary, so IPOPT may stay at one too; the eigenvalue is the judge.  Times are seconds of the processor.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is there: no threads, none to be stopped
sys.path.insert(0, str(Path(__file__).resolve().parent))
import numpy as np
from bench import signed, write_markdown
from scipy.linalg import eigh

import ocp_nn
from ocp_nn import Network, Options, Result, TrainingProblem, solve
from ocp_nn.problem.curvature import reduced_hessian
from ocp_nn.solvers.nlp.ipopt import IpoptOptions, solve_ipopt
from ocp_nn.solvers.nlp.transcription import single_shooting

SETS = ("diabetes", "yacht", "energy", "bostonHousing", "power-plant")
HIDDEN = ((10,), (8, 8))
DECAYS = (10.0, 1.0, 0.1, 0.01)
STARTS = ("random", "zero", "alike")
ALIKE = 0.1
MOST_ROWS = 1000
NEGATIVE = -1e-6
GAIN = 1e-6


@dataclass(frozen=True)
class Case:
    """One solve."""

    name: str
    hidden: tuple[int, ...]
    decay: float
    start: str
    seed: int


@dataclass(frozen=True)
class Outcome:
    """How a solve ended: its status, the smallest eigenvalue there, IPOPT's relative gain, and seconds."""

    status: str
    curvature: float
    gain: float
    escapes: int
    seconds: float


def problem_of(case: Case, folder: Path | None) -> TrainingProblem:
    """The set, standardised, at most its first thousand rows."""
    data = ocp_nn.load_dataset(case.name if folder is None or case.name == "diabetes" else folder / case.name)
    x, y = data.x[:MOST_ROWS], data.y[:MOST_ROWS].reshape(len(data.x[:MOST_ROWS]), -1)
    x, y = ((a - a.mean(0)) / a.std(0) for a in (x, y))
    network = Network.mlp([x.shape[1], *case.hidden, y.shape[1]])
    return TrainingProblem(network, x, y, weight_decay=case.decay)


def start_of(case: Case, problem: TrainingProblem) -> list[np.ndarray] | None:
    """Controls to start from; None leaves it to the solver."""
    if case.start == "random":
        return None
    return [np.full(length, ALIKE if case.start == "alike" else 0.0) for length in problem.block_lengths]


def smallest_eigenvalue(problem: TrainingProblem, result: Result) -> float:
    """Of the Hessian in the metric of Gauss-Newton's."""
    controls = result.trajectory.controls
    metric = reduced_hessian(problem, controls, gauss_newton=True)
    return float(eigh(reduced_hessian(problem, controls), metric, eigvals_only=True, subset_by_index=(0, 0))[0])


def ipopt_gain(problem: TrainingProblem, result: Result, limit: float) -> float:
    """By how much IPOPT lowers the objective, relative to it."""
    options = IpoptOptions(tolerance=1e-10, time_limit=limit)
    found = solve_ipopt(single_shooting(problem), result.trajectory.controls, options=options)
    return (result.objective - found.objective) / result.objective


def measure(case: Case, folder: Path | None, limit: float) -> Outcome:
    problem = problem_of(case, folder)
    began = time.process_time()
    result = solve(problem, start_of(case, problem), options=Options(seed=case.seed, time_limit=limit))
    seconds = time.process_time() - began
    if result.status.value != "converged":
        return Outcome(result.status.value, np.nan, np.nan, result.counts.get("escapes", 0), seconds)
    curvature, gain = smallest_eigenvalue(problem, result), ipopt_gain(problem, result, limit)
    return Outcome("converged", curvature, gain, result.counts.get("escapes", 0), seconds)


def table(outcomes: dict[Case, Outcome], names: Sequence[str]) -> Iterator[str]:
    """Rows of Markdown, one a set and start."""
    columns = (
        "data", "start", "solves", "converged", "of these saddles", "smallest eigenvalue", "saddles left on the way",
        "IPOPT gains more than 1e-6", "median seconds",
    )  # fmt: skip
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for name, start in product([*names, "all"], STARTS):
        some = [o for case, o in outcomes.items() if name in (case.name, "all") and case.start == start]
        ended = [o for o in some if o.status == "converged"]
        least = min((o.curvature for o in ended), default=np.nan)
        largest = max((o.gain for o in ended), default=np.nan)
        saddles, gains = sum(o.curvature < NEGATIVE for o in ended), sum(o.gain > GAIN for o in ended)
        left, seconds = sum(o.escapes for o in some), np.median([o.seconds for o in some])
        yield (
            f"| {name} | {start} | {len(some)} | {len(ended)} | {saddles} | {least:.1e} "
            f"| {left} | {gains} (most {largest:.0e}) | {seconds:.2f} |"
        )


def cases(names: Sequence[str], seeds: int, decays: Sequence[float]) -> Iterator[Case]:
    for name, hidden, decay, start in product(names, HIDDEN, decays, STARTS):
        for seed in range(seeds if start == "random" else 1):
            yield Case(name, hidden, decay, start, seed)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Whether what says converged is a minimum.")
    parser.add_argument("--data", type=Path, help="folder with the UCI sets; without it diabetes alone")
    parser.add_argument("--sets", nargs="+", choices=SETS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--limit", type=float, default=20.0, help="seconds of a solve, and of IPOPT after it")
    parser.add_argument("--quick", action="store_true", help="one seed, two weight decays")
    parser.add_argument("--markdown", type=Path)
    arguments = sys.argv[1:] if arguments is None else arguments
    given = parser.parse_args(arguments)
    names = given.sets or (SETS[:1] if given.data is None else SETS)
    outcomes: dict[Case, Outcome] = {}
    for case in cases(names, 1 if given.quick else given.seeds, DECAYS[::3] if given.quick else DECAYS):
        outcomes[case] = o = measure(case, given.data, given.limit)
        print(
            f"{case.name} {case.hidden} {case.decay:g} {case.start} {case.seed}: {o.status}, "
            f"eigenvalue {o.curvature:.1e}, IPOPT gains {o.gain:.1e}, saddles left {o.escapes}, {o.seconds:.2f} s",
            flush=True,
        )
    lines = "\n".join(table(outcomes, names))
    print(lines)
    if given.markdown:
        write_markdown(given.markdown, signed(lines, "minima_suite.py", arguments))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
