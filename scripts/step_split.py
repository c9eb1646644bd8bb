"""Where the time of one Gauss-Newton step goes, and how it compares with one IPOPT iteration.

    python scripts/step_split.py [--threads 1] [--steps 20] [--repeats 5]

1. 1000 samples, 4 hidden layers of 20: the step split into evaluation (the trial points), linearisation (A_k, B_k and
   the gradient), forward-DP linear algebra (factorisation and both sweeps), the second-order correction, and the rest;
   with the states as variables and with all of them eliminated, as in the finish.
2. 100 samples, 4 hidden layers of 10: the step against one iteration of IPOPT (exact Hessian, MUMPS with METIS
   ordering, the fastest setting found) on the multiple-shooting NLP of the same problem, in the same run.
3. 100 samples, deep networks: what a lifted Newton step may use.  A product with the condensed Hessian, layers stacked
   and one by one; that Hessian, dense; and forward DP's least squares, prepared and solved.

The steps are those of the solver itself, run on a training problem from states with open defects; the pieces are
stopwatches around its own functions.  Medians over repeats.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from ocp_nn import Network, TrainingProblem
from ocp_nn.forward_dp import Damped, Prepared
from ocp_nn.report import environment_line, format_table
from ocp_nn.solvers.augmented_lagrangian import linearisation
from ocp_nn.solvers.augmented_lagrangian.damping import Damping
from ocp_nn.solvers.augmented_lagrangian.gauss_newton import minimise
from ocp_nn.solvers.augmented_lagrangian.lagrangian import AugmentedLagrangian, Point
from ocp_nn.solvers.augmented_lagrangian.lifted import Expansion
from ocp_nn.solvers.augmented_lagrangian.linearisation import Method
from ocp_nn.solvers.nlp.ipopt import IpoptOptions, solve_ipopt
from ocp_nn.solvers.nlp.transcription import multiple_shooting

# The functions of the solver that each piece of a step consists of.
PIECES = {
    "evaluation": ((AugmentedLagrangian, "at"), (AugmentedLagrangian, "slack_rollout")),
    "linearisation": ((AugmentedLagrangian, "subproblem"), (AugmentedLagrangian, "gradient")),
    "forward-DP linear algebra": (
        (linearisation, "prepare"),
        (Prepared, "damped"),
        (Damped, "step"),
        (Damped, "precondition"),
    ),
    "second-order correction": ((Damped, "corrected"),),
}

PENALTY, DAMPING = 100.0, 1.0

# beta of lifted steps.
SOFT = 0.5

# Iterations of IPOPT to average over; the first are as dear as the later ones.
IPOPT_ITERATIONS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="BLAS threads, default 1")
    parser.add_argument("--steps", type=int, default=20, help="Gauss-Newton steps in a run, default 20")
    parser.add_argument("--repeats", type=int, default=5, help="runs, default 5")
    args = parser.parse_args()
    with threadpool_limits(args.threads, "blas"):
        print(environment_line())
        for penalty in (PENALTY, float("inf")):
            print_split(problem_of(1000, [20] * 4), penalty, args.steps, args.repeats)
        print_ratio(problem_of(100, [10] * 4), args.steps, args.repeats)
        print_lifted(args.repeats)


def problem_of(num_samples: int, hidden: list[int]) -> TrainingProblem:
    """sin(2x) of one input, tanh: the sizes are what matters here."""
    x = np.random.default_rng(0).uniform(-3.0, 3.0, (num_samples, 1))
    return TrainingProblem(Network.mlp([1, *hidden, 1]), x, np.sin(2 * x), weight_decay=1e-3)


def open_point(problem: TrainingProblem, penalty: float) -> tuple[AugmentedLagrangian, Point]:
    """A point whose states do not satisfy the dynamics, as in the middle of a solve; a rollout if beta is infinite."""
    rng = np.random.default_rng(1)
    trajectory = problem.lift(problem.network.init_controls())
    assert trajectory.multipliers is not None
    states = (problem.x, *(x + 0.1 * rng.standard_normal(x.shape) for x in trajectory.states[1:]))
    lagrangian = AugmentedLagrangian(problem, trajectory.multipliers[1:], (penalty,) * (problem.num_stages - 1))
    return lagrangian, lagrangian.at(trajectory.controls, states)


def timed_steps(problem: TrainingProblem, penalty: float, steps: int, repeats: int) -> dict[str, float]:
    """Seconds a step takes, in all and by pieces: medians over runs of the solver's inner loop."""
    runs = []
    for _ in range(repeats):
        lagrangian, point = open_point(problem, penalty)
        with stopwatches() as seconds:
            start = time.perf_counter()
            result = minimise(lagrangian, point, Damping(DAMPING), tolerance=lambda _: 0.0, max_steps=steps)
            seconds["step"] = time.perf_counter() - start
        taken = result.solves + result.reuses
        runs.append({name: value / taken for name, value in seconds.items()})
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


@contextlib.contextmanager
def stopwatches() -> Iterator[dict[str, float]]:
    """Times, while the block runs, the functions of :data:`PIECES`."""
    seconds = dict.fromkeys(PIECES, 0.0)
    originals = [(owner, name, getattr(owner, name)) for functions in PIECES.values() for owner, name in functions]
    for piece, functions in PIECES.items():
        for owner, name in functions:
            setattr(owner, name, timed(getattr(owner, name), seconds, piece))
    try:
        yield seconds
    finally:
        for owner, name, function in originals:
            setattr(owner, name, function)


def timed(function: Callable[..., Any], seconds: dict[str, float], piece: str) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seconds[piece] += time.perf_counter() - start

    return wrapper


def title(problem: TrainingProblem) -> str:
    hidden = "-".join(map(str, problem.network.sizes))
    return f"{problem.num_samples} samples, {hidden} tanh, {problem.network.num_controls:,} controls"


def print_split(problem: TrainingProblem, penalty: float, steps: int, repeats: int) -> None:
    seconds = timed_steps(problem, penalty, steps, repeats)
    step = seconds.pop("step")
    rows = [(name, f"{1e3 * value:.2f}", f"{100 * value / step:.0f}") for name, value in seconds.items()]
    rest = step - sum(seconds.values())
    rows += [("rest", f"{1e3 * rest:.2f}", f"{100 * rest / step:.0f}"), ("one step", f"{1e3 * step:.2f}", "100")]
    print(f"\n{title(problem)}, penalty {penalty:g}\n{format_table(('piece', 'ms', '% of step'), rows)}")


def print_ratio(problem: TrainingProblem, steps: int, repeats: int) -> None:
    step = timed_steps(problem, PENALTY, steps, repeats)["step"]
    iteration = ipopt_iteration(problem)
    rows = [
        ("Gauss-Newton step, forward DP", f"{1e3 * step:.3f}", "1"),
        ("IPOPT iteration, multiple shooting, MUMPS with METIS", f"{1e3 * iteration:.1f}", f"{iteration / step:.0f}"),
    ]
    print(f"\n{title(problem)}\n{format_table(('method', 'ms', 'ratio'), rows)}")


def print_lifted(repeats: int) -> None:
    """Milliseconds of the pieces of a lifted Newton step, medians over five times as many calls."""
    rows = []
    for depth, width in ((10, 5), (10, 8), (30, 5), (50, 8)):
        problem = problem_of(100, [width] * depth)
        lagrangian, point = open_point(problem, SOFT)
        direction = np.random.default_rng(2).standard_normal(problem.num_controls)
        here = Expansion(lagrangian, point, Method())
        alone = Expansion(lagrangian, point, Method())
        alone.__dict__["_chain"] = None  # layers one by one
        pieces: tuple[Callable[[], Any], ...] = (
            lambda here=here, v=direction: here.hessian(v),
            lambda alone=alone, v=direction: alone.hessian(v),
            lambda lagrangian=lagrangian, point=point: Expansion(lagrangian, point, Method()).dense_hessian,
            lambda lagrangian=lagrangian, point=point: Expansion(lagrangian, point, Method()).prepared.step(
                DAMPING, refinements=0
            ),
        )
        seconds = [median_seconds(piece, 5 * repeats) for piece in pieces]
        cells = [f"{1e3 * value:.2f}" for value in seconds]
        rows.append((f"{depth}x{width}", f"{problem.num_controls:,}", *cells, f"{seconds[2] / seconds[3]:.0f}"))
    columns = (
        "network",
        "controls",
        "product",
        "one by one",
        "dense Hessian",
        "least squares",
        "dense / least squares",
    )
    print(f"\nLifted Newton, 100 samples, ms\n{format_table(columns, rows)}")


def median_seconds(call: Callable[[], Any], repeats: int) -> float:
    """Of a call, the first one left out."""
    call()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def ipopt_iteration(problem: TrainingProblem) -> float:
    """Seconds of one IPOPT iteration on the multiple-shooting NLP: a median over the first few, without its set-up."""
    options = IpoptOptions(hessian="exact", mumps_pivot_order=5, max_iterations=IPOPT_ITERATIONS)
    result = solve_ipopt(multiple_shooting(problem), problem.network.init_controls(), options=options)
    return float(np.median(np.diff([record.seconds for record in result.history])))


if __name__ == "__main__":
    main()
