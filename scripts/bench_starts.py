"""To the lowest valley: several starts in the same processor time, ours and those of L-BFGS.

    python scripts/bench_starts.py [--data FOLDER] [--problems NAME ...] [--budget S] [--repeats N] [--markdown FILE]

The problems of ``bench.py``.  Each method has ``--budget`` seconds of processor time and may start as often as it
likes:

* *ours*: ``ocp_nn.solve_from_starts`` with the defaults;
* *L-BFGS*: SciPy's, 20 pairs, from standard weights of one seed after the other, on the same linear algebra.

Repeats begin at seeds a hundred apart.  What is shown is by how much the best objective of a method lies above the
lowest that either has found in any repeat, the median over repeats; and how many repeats came within 1 % of that.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is there: no threads, none to be stopped
sys.path.insert(0, str(Path(__file__).resolve().parent))
import numpy as np
from bench import signed, write_markdown
from bench_suite.problems import DATA, PROBLEMS, select
from deep_suite import objective_and_gradient, starting_controls
from scipy.optimize import minimize

from ocp_nn import Options, TrainingProblem, solve_from_starts

Method = Callable[[TrainingProblem, int, float], float]
WITHIN = 1.01


class OutOfTime(Exception):
    """Raised out of L-BFGS's callback."""


def ours(problem: TrainingProblem, seed: int, budget: float) -> float:
    options = Options(seed=seed, time_limit=budget)
    return solve_from_starts(problem, 100, options=options).result.rollout_objective


def lbfgs(problem: TrainingProblem, seed: int, budget: float) -> float:
    best, end = [np.inf], time.process_time() + budget

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        objective, gradient = objective_and_gradient(problem, flat)
        best[0] = min(best[0], objective) if np.isfinite(objective) else best[0]
        return objective, gradient

    def callback(_: np.ndarray) -> None:
        if time.process_time() > end:
            raise OutOfTime

    limits = {"maxiter": 10**6, "maxfun": 10**7, "maxcor": 20, "ftol": 0.0, "gtol": 1e-6}
    for number in count():
        begin = starting_controls(problem, "standard", seed + number)
        try:
            minimize(value, begin, jac=True, method="L-BFGS-B", callback=callback, options=limits)
        except OutOfTime:
            break
    return best[0]


METHODS: dict[str, Method] = {"ours": ours, "L-BFGS": lbfgs}


def table(found: dict[tuple[str, str], list[float]]) -> Iterator[str]:
    yield "| problem | lowest J | " + " | ".join(METHODS) + " |"
    yield "|---" * (len(METHODS) + 2) + "|"
    wins = dict.fromkeys(METHODS, 0)
    for name in dict.fromkeys(name for name, _ in found):
        lowest = min(min(found[name, method]) for method in METHODS)
        cells = []
        for method in METHODS:
            values = np.array(found[name, method])
            within = int((values <= WITHIN * lowest).sum())
            wins[method] += within
            cells.append(f"+{100 * (np.median(values) / lowest - 1):.2f} % ({within}/{len(values)})")
        yield f"| {name} | {lowest:.5g} | {' | '.join(cells)} |"
    yield f"| within 1 %, all | | {' | '.join(str(count) for count in wins.values())} |"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Several starts in the same processor time.")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--problems", nargs="+", choices=[p.name for p in PROBLEMS], metavar="NAME")
    parser.add_argument("--budget", type=float, default=5.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--markdown", type=Path)
    arguments = sys.argv[1:] if arguments is None else arguments
    given = parser.parse_args(arguments)
    problems, missing = select(given.problems, given.data)
    found: dict[tuple[str, str], list[float]] = {}
    for problem in problems:
        training = problem.training(given.data)
        for repeat in range(given.repeats):
            for name, method in METHODS.items():
                with np.errstate(over="ignore", invalid="ignore"):
                    value = method(training, 100 * repeat, given.budget)
                found.setdefault((problem.name, name), []).append(value)
                print(f"{problem.name:22} {repeat} {name:12} J {value:.6g}", flush=True)
    lines = "\n".join([*table(found), *(f"\nNot there: {name}." for name in missing)])
    print(lines)
    if given.markdown:
        write_markdown(given.markdown, signed(lines, "bench_starts.py", arguments))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
