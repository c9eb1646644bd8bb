"""Random problems, healthy and hostile: does what says "converged" pass its own certificate?

    python scripts/certify_random_problems.py [--cases 5000] [--seed 0] [--jobs 1] [--only SEED]

A case is a network, data, a weight decay, a starting point and options, all drawn from one seed: dense and symbolic
stages, one to three outputs, data of any size that float64 holds, deficient in rank or not, every way of shooting.
Solved within tight limits, it counts as a failure where

* the result says converged and its certificate, at its own tolerance, does not pass;
* an exception or a warning comes out of the solver or the certificate.

Failing cases are printed by their seeds; ``--only SEED`` runs one again and shows everything.  The exit code is 0
where there is none.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import casadi as ca
import numpy as np

from ocp_nn import Dense, Network, Options, Result, TrainingProblem, Trajectory, certify, solve
from ocp_nn.forward_dp import FORMS
from ocp_nn.network.activations import ACTIVATIONS
from ocp_nn.solvers.augmented_lagrangian.initialise import INITIALISATIONS, can_fit_states

# Sizes at which inputs or their squares leave what float64 holds, and zero.
EXTREME = (0.0, 5e-324, 1e-300, 1e-170, 1e-139, 1e16, 1e100, 1e160, 1.7e308)

# What fraction of the cases has each peculiarity.
OFTEN, SOMETIMES, SELDOM, RARELY = 0.5, 0.25, 0.1, 0.005

# So many samples that the solver begins on some of them, and how many outer iterations it then has.
_MANY, _FEW_OUTER = 4000, 5

# Controls up to which the certificate is asked for curvature, too: that takes two gradients a control.
_FEW_CONTROLS = 30

# Cases that a process is handed at a time.
_CHUNK = 25

Start = tuple[np.ndarray, ...] | Trajectory | None
Case = tuple[TrainingProblem, Start, Options]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a case."""

    seed: int
    status: str
    faults: tuple[str, ...]


def random_case(seed: int) -> Case:
    """The case of a seed."""
    rng = np.random.default_rng(seed)
    network = random_network(rng)
    x, y = random_data(rng, network)
    decay = rng.choice([0.0, 10.0 ** rng.uniform(-6, 3)], p=[0.2, 0.8])
    problem = TrainingProblem(network, x, y, float(decay))
    start, options = random_start(rng, problem), random_options(rng, network)
    if problem.num_samples == _MANY:
        outer = min(options.max_outer, _FEW_OUTER)  # and the forms for teaching would not fit in memory
        start, options = None, replace(options, max_outer=outer, max_restarts=0, form="auto")
    return problem, start, options


def random_network(rng: np.random.Generator) -> Network:
    """One to four stages; hidden ones of any activation, with skip connections or symbolic now and then."""
    hidden = [int(rng.integers(1, 6)) for _ in range(rng.integers(0, 4))]
    sizes = [int(rng.integers(1, 5)), *hidden, int(rng.integers(1, 4))]
    if rng.random() < SOMETIMES:
        sizes[:-1] = [sizes[0]] * len(hidden) + [sizes[0]]
    activation = str(rng.choice(list(ACTIVATIONS)))
    dense = Network.mlp(sizes, activation, residual=bool(rng.random() < SOMETIMES))
    symbolic = rng.random() < SELDOM
    return Network([as_symbolic(layer) if symbolic and rng.random() < OFTEN else layer for layer in dense.layers])


def as_symbolic(layer: Dense) -> ca.Function:
    """A stage that CasADi differentiates: the layer plus an oscillation in its first input."""
    x, u = ca.SX.sym("x", layer.num_inputs), ca.SX.sym("u", layer.num_controls)
    return ca.Function("stage", [x, u], [layer.function(x, u) + 0.1 * ca.sin(x[0] + u[0])])


def random_data(rng: np.random.Generator, network: Network) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets, some of them of peculiar size or rank."""
    samples = _MANY if rng.random() < RARELY else int(rng.integers(1, 31))
    x = rng.standard_normal((samples, network.num_inputs))
    y = np.sin(x @ rng.standard_normal((network.num_inputs, network.num_outputs)))
    y += rng.choice([0.0, 0.3]) * rng.standard_normal(y.shape)
    if rng.random() < SOMETIMES:  # deficient in rank
        x = [x[:, [0] * x.shape[1]], np.tile(x[:1], (samples, 1)), np.round(x)][rng.integers(3)]
    return random_size(rng, x), random_size(rng, y)


def random_size(rng: np.random.Generator, table: np.ndarray) -> np.ndarray:
    """The table, or its columns one by one, times a random factor; also where that is as large as numbers get."""
    columns = table.shape[1] if rng.random() < OFTEN else 1
    sizes = np.where(rng.random(columns) < OFTEN, 10.0 ** rng.uniform(-12, 12, columns), 1.0)
    sizes = np.where(rng.random(columns) < SELDOM, rng.choice(EXTREME, columns), sizes)
    with np.errstate(over="ignore"):
        scaled = table * sizes
    return np.clip(scaled, -sys.float_info.max, sys.float_info.max)


def random_start(rng: np.random.Generator, problem: TrainingProblem) -> Start:
    """None, weights of any size, or a trajectory with open defects, with multipliers or without."""
    if rng.random() > SOMETIMES:
        return None
    controls = tuple(10.0 ** rng.uniform(-3, 3) * u for u in problem.network.init_controls(int(rng.integers(1000))))
    if rng.random() < OFTEN:
        return controls
    shapes = [(problem.num_samples, width) for width in problem.network.sizes[:-1]]
    states = (problem.x, *(rng.standard_normal(shape) for shape in shapes[1:]))
    multipliers = tuple(rng.standard_normal(shape) for shape in shapes) if rng.random() < OFTEN else None
    return Trajectory(controls, states, multipliers)


def random_options(rng: np.random.Generator, network: Network) -> Options:
    """Options of every kind, and limits that keep a case short."""
    inner = range(1, network.num_stages)
    nodes = [k for k in inner if rng.random() < OFTEN]
    starts = [name for name in INITIALISATIONS if name != "states" or can_fit_states(network)]
    return Options(
        seed=int(rng.integers(1000)),
        initialisation=str(rng.choice(starts)) if rng.random() < SOMETIMES else "auto",
        shooting=["multiple", "single", nodes][rng.integers(3)],
        tolerance=10.0 ** rng.uniform(-9, -3),
        inner_accuracy=str(rng.choice(["steps", "steps", "relative", "absolute"])),
        max_inner=int(rng.integers(1, 11)),
        max_outer=int(rng.integers(1, 61)),
        penalty=10.0 ** rng.uniform(-3, 6) if rng.random() < SOMETIMES else "auto",
        penalty_growth=float(rng.choice([1.5, 2.0, 10.0])),
        max_penalty=float(rng.choice([1e4, 1e10])),
        multiplier_bound=float(rng.choice([1e-1, 1e6])),
        acceleration=bool(rng.random() < 0.8),
        globalisation="armijo" if rng.random() < SELDOM else "levenberg-marquardt",
        second_order=bool(rng.random() < 0.7),
        max_restarts=int(rng.integers(0, 3)),
        form=str(rng.choice(FORMS)) if rng.random() < SOMETIMES else "auto",
    )


def run_case(seed: int) -> Outcome:
    """Solve a case and look for faults."""
    try:
        problem, start, options = random_case(seed)
    except ValueError as error:  # data whose squares are no numbers are refused, in these words
        refused = "scale the data" in str(error)
        return Outcome(seed=seed, status="refused" if refused else "exception", faults=() if refused else (str(error),))
    status, faults = "exception", list[str]()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = solve(problem, start, options=options)
            status, faults = result.status.value, certificate_faults(result)
            certify(problem, result.trajectory, curvature=problem.network.num_controls <= _FEW_CONTROLS)
        except Exception:  # whatever it is, it is what this script looks for
            faults.append(traceback.format_exc().strip())
    faults += [f"{warning.category.__name__}: {warning.message} ({warning.filename}:{warning.lineno})"
               for warning in caught]  # fmt: skip
    return Outcome(seed=seed, status=status, faults=tuple(faults))


def certificate_faults(result: Result) -> list[str]:
    """What a certificate has against a result that says converged; it is made in any case."""
    failures = result.certificate.failures()
    return [f"converged, but {failure}" for failure in failures] if result.success else []


def run_cases(seeds: Iterable[int], jobs: int = 1) -> list[Outcome]:
    """The outcomes of some seeds."""
    if jobs == 1:
        return [run_case(seed) for seed in seeds]
    with ProcessPoolExecutor(jobs) as pool:
        return list(pool.map(run_case, seeds, chunksize=_CHUNK))


def summary(outcomes: list[Outcome]) -> str:
    """How many ended how, and how many of them should not have."""
    faults = [fault for outcome in outcomes for fault in outcome.faults]
    counts = Counter(outcome.status for outcome in outcomes)
    uncertified = sum(any(fault.startswith("converged, but") for fault in o.faults) for o in outcomes)
    return "\n".join(
        [
            f"{len(outcomes)} cases: " + ", ".join(f"{number} {status}" for status, number in counts.most_common()),
            f"converged without passing their own certificate: {uncertified} of {counts['converged']}",
            f"exceptions: {counts['exception']}",
            f"warnings: {sum('Warning: ' in fault for fault in faults)}",
        ]
    )


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=5000, help="default 5000")
    parser.add_argument("--seed", type=int, default=0, help="of the first case, default 0")
    parser.add_argument("--jobs", type=int, default=1, help="processes, default 1")
    parser.add_argument("--only", metavar="SEED", type=int, help="run this case alone and show it")
    args = parser.parse_args(words)
    if args.only is not None:
        problem, start, options = random_case(args.only)
        print(problem.network.describe(), problem.x, problem.y, problem.weight_decay, start, options, sep="\n")
    seeds = range(args.seed, args.seed + args.cases) if args.only is None else [args.only]
    began = time.perf_counter()
    outcomes = run_cases(seeds, args.jobs)
    failing = [outcome for outcome in outcomes if outcome.faults]
    for outcome in failing:
        print(f"--only {outcome.seed} ({outcome.status})", *outcome.faults, sep="\n    ")
    print(summary(outcomes))
    print(f"{time.perf_counter() - began:.0f} s")
    return 1 if failing else 0


if __name__ == "__main__":
    sys.exit(main())
