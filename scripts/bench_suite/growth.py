"""What one Gauss-Newton step costs as samples, depth and width grow, beside one gradient.

A step is one of the solver's, everything included: stages, sensitivities, linear algebra, trial points, the outer
loop.  The benchmark of forward dynamic programming (``scripts/bench_forward_dp.py``) splits it up.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from deep_suite import objective_and_gradient

from ocp_nn import Network, Options, TrainingProblem
from ocp_nn.solvers.augmented_lagrangian.outer_loop import step
from ocp_nn.solvers.augmented_lagrangian.sample_start import begin

__all__ = ["Case", "cases", "exponents", "measure"]

# A case is repeated until it has taken so long; the median step counts.
BUDGET = 1.0


@dataclass(frozen=True)
class Case:
    """Which of the three grows, and the sizes."""

    variable: str
    num_samples: int = 500
    depth: int = 4
    width: int = 10

    @property
    def size(self) -> int:
        return int(getattr(self, self.variable))


SIZES = {"num_samples": (250, 1000, 4000, 16000), "depth": (2, 8, 32, 64), "width": (5, 10, 20, 40)}


def cases(*, quick: bool = False) -> list[Case]:
    """One variable at a time."""
    return [replace(Case(name), **{name: n}) for name, sizes in SIZES.items() for n in sizes[: 2 if quick else None]]


def measure(case: Case) -> dict[str, Any]:
    """Milliseconds a Gauss-Newton step (linear solve counted, rejected ones too) and a gradient."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-3, 3, (case.num_samples, 1))
    network = Network.mlp([1, *[case.width] * case.depth, 1])
    problem = TrainingProblem(network, x, np.sin(2 * x) + 0.05 * rng.standard_normal(x.shape), 1e-3)
    options = Options(max_restarts=0, second_order=False)
    flat = np.concatenate(network.init_controls(0))
    gradients = _repeat(lambda: objective_and_gradient(problem, flat) and 1, BUDGET / 10)
    state = begin(problem, options=options)

    def advance() -> int:
        nonlocal state
        before = state.counts["least_squares"]
        state = step(problem, state, options)
        return max(1, state.counts["least_squares"] - before)

    return {
        "variable": case.variable,
        "size": case.size,
        "num_controls": network.num_controls,
        "step_milliseconds": _repeat(advance, BUDGET),
        "gradient_milliseconds": gradients,
    }


def _repeat(work: Any, budget: float) -> float:
    """Median milliseconds of one unit of work; work returns how many it did."""
    times: list[float] = []
    began = time.process_time()
    while len(times) < 2 or time.process_time() - began < budget:
        start = time.process_time()
        units = work()
        times.append(1e3 * (time.process_time() - start) / units)
    return float(np.median(times))


def exponents(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Slopes of time against size, by variable, for a step and for a gradient: of the larger half of the sizes."""
    slopes: dict[str, dict[str, float]] = {}
    for variable in dict.fromkeys(row["variable"] for row in rows):
        some = sorted((row for row in rows if row["variable"] == variable), key=lambda row: row["size"])[-3:]
        sizes = np.log([row["size"] for row in some])
        slopes[variable] = {
            kind: float(np.polyfit(sizes, np.log([row[f"{kind}_milliseconds"] for row in some]), 1)[0])
            for kind in ("step", "gradient")
        }
    return slopes
