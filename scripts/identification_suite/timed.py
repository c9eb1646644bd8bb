"""jax-sysid and ours on one objective: how long ours takes to the final objective of the other.

The weight decay is 1 and the start that of jax-sysid: random parameters with x_0 = 0.  Of long sets the first 3,000
samples.  Processor seconds from the problem on; jax-sysid's contain its compilation, which is a part of every fit.
Ours are those of its own default start too, because it finds that by itself.  A start that ends above is followed by
another one, from other random weights, for as long as jax-sysid took: one local minimum of many is no reason to stop,
and the time counts.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from horizon_suite import jax_peer

import ocp_nn
from ocp_nn.learning.data import SequenceDataset

from .settings import QUICK, SETS, load

__all__ = ["measure", "problem_of"]

WEIGHT_DECAY, MOST = 1.0, 3_000

# Defects below this count as closed, and J is reached within this share.
_CLOSED, _WITHIN = 1e-6, 1e-6

# Between the seeds of one run's starts.
_NEXT = 1000


def problem_of(dataset: SequenceDataset, states: int, hidden: tuple[int, ...]) -> ocp_nn.IdentificationProblem:
    scaled = dataset.train.scaled(*dataset.train.scalers())
    model = ocp_nn.StateSpaceModel(
        num_states=states, num_inputs=scaled.num_inputs, num_outputs=scaled.num_outputs, hidden_layer_sizes=hidden
    )
    return ocp_nn.IdentificationProblem(model, [(v[:MOST], y[:MOST]) for v, y in scaled.pairs], WEIGHT_DECAY)


def measure(name: str, seed: int, data: Path | None) -> dict[str, Any]:
    """One comparison."""
    setting = (SETS | QUICK)[name]
    problem = problem_of(load(name, data), setting.num_states, setting.hidden)
    began = time.process_time()
    theta, x0 = jax_peer.fitted(
        problem, problem.model.initial_parameters(seed), np.zeros((problem.num_samples, problem.model.num_states))
    )
    peer_seconds, peer = time.process_time() - began, objective_of(problem, theta, x0)
    reached: list[float] = []
    began = time.process_time()

    def look(iterate: ocp_nn.Iterate) -> bool:
        closed = iterate.max_defect <= _CLOSED
        if not reached and closed and iterate.objective <= (1 + _WITHIN) * peer:
            reached.append(time.process_time() - began)
        return False

    ends = list[float]()
    while not ends or (not reached and time.process_time() - began < peer_seconds):
        options = ocp_nn.Options(seed=seed + _NEXT * len(ends), max_outer=300)
        ends.append(ocp_nn.solve(problem, options=options, callback=look).objective)
    return {
        "dataset": name,
        "seed": seed,
        "samples": int(sum(problem.records.lengths)),
        "weight_decay": WEIGHT_DECAY,
        "peer_objective": peer,
        "peer_seconds": peer_seconds,
        "objective": min(ends),
        "starts": len(ends),
        "seconds": time.process_time() - began,
        "reached": reached[0] if reached else None,
    }


def objective_of(problem: ocp_nn.IdentificationProblem, theta: np.ndarray, x0: np.ndarray) -> float:
    """J of the simulation."""
    states = problem.simulated(theta, x0)
    return float(problem.cost([theta], tuple(problem.values(theta, states)[1]), x0))
