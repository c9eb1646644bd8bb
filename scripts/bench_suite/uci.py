"""Test errors on the 20 standard splits, beside published ones.

Per split everything is standardised and chosen by the training part, and the test part is looked at once, for each of
two methods:

* *one network*: two hidden layers of 20 tanh units; the weight decay is chosen on held-out parts of the training
  samples (:func:`ocp_nn.learning.selection.choose_weight_decay`), then the network is trained on all of them.
* *committee*: a mixture of networks of 50 tanh, 50 ReLU and 20 x 20 tanh units and of several weight decays, each on a
  bootstrap sample; the weights of the mixture are chosen by the samples that members have not seen
  (:mod:`bench_suite.committee`).

Which of the two is better is not asked: both are shown.
"""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ocp_nn import Options, load_dataset, solve
from ocp_nn.learning.data import Dataset, Split, standard_splits
from ocp_nn.learning.experiment import Experiment, linear_baseline, rmse
from ocp_nn.learning.selection import choose_weight_decay

from . import committee

__all__ = ["PUBLISHED", "SETS", "measure"]

SETS = ("yacht", "energy", "bostonHousing")
HIDDEN, CANDIDATES = (20, 20), (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
COMMITTEE_NETWORKS = (((50,), "tanh"), ((50,), "relu"), (HIDDEN, "tanh"))
COMMITTEE_CANDIDATES, MEMBERS = (3.0, 0.5, 0.1, 0.02, 0.003), 12
LIMIT = 20.0

# Mean test RMSE on the same splits, one hidden layer of 50: PBP, MC-dropout and deep ensembles after 40 epochs
# (Lakshminarayanan et al. 2017, table 1); MC-dropout after a grid search with ten times the epochs.
PUBLISHED = {
    "yacht": (1.02, 1.11, 1.58, 0.67),
    "energy": (1.80, 1.66, 2.09, 0.54),
    "bostonHousing": (3.01, 2.97, 3.28, 2.90),
    "power-plant": (4.12, 4.02, 4.11, 4.01),
}


def measure(folder: Path, split: int, *, quick: bool = False) -> dict[str, Any]:
    """One split of one set: what was chosen, and the test errors."""
    dataset = load_dataset(folder)
    rows = next(islice(standard_splits(dataset.num_samples), split, None))
    found = {"dataset": folder.name, "split": split, "committee": _committee(dataset, rows, split, quick)}
    return found | _one_network(dataset, rows, split, quick)


def _one_network(dataset: Dataset, rows: Split, split: int, quick: bool) -> dict[str, Any]:
    experiment = Experiment.prepare(dataset, HIDDEN, split=rows)
    began = time.process_time()
    choice = choose_weight_decay(
        experiment.network,
        experiment.train_inputs,
        experiment.train_targets,
        (1.0, 0.1, 0.01) if quick else CANDIDATES,
        seed=split,
        repeats=1 if quick else 3,
    )
    chosen = time.process_time()
    problem = experiment.problem(choice.weight_decay)
    result = solve(problem, options=Options(seed=split, time_limit=LIMIT))
    controls = result.trajectory.controls
    return {
        "weight_decay": choice.weight_decay,
        "validation_errors": dict(zip(map(str, choice.candidates), np.round(choice.errors, 5).tolist(), strict=True)),
        "test_rmse": experiment.rmse(controls, "test"),
        "train_rmse": experiment.rmse(controls, "train"),
        "linear_test_rmse": linear_baseline(experiment).test_rmse,
        "status": result.status.value,
        "seconds": time.process_time() - began,
        "choosing_seconds": chosen - began,
    }


def _committee(dataset: Dataset, rows: Split, split: int, quick: bool) -> dict[str, Any]:
    began = time.process_time()
    candidates, members = ((1.0, 0.1), 4) if quick else (COMMITTEE_CANDIDATES, MEMBERS)
    experiments = [
        Experiment.prepare(dataset, hidden, split=rows, activation=phi) for hidden, phi in COMMITTEE_NETWORKS
    ]
    chosen = committee.train(experiments, candidates, members, split)
    decays = [candidate.weight_decay for candidate in chosen.candidates]
    mixed = zip(chosen.candidates, chosen.weights, strict=True)
    return {
        "weights": {candidate.name: round(float(w), 5) for candidate, w in mixed if w > 0},
        "weight_decay": float(np.exp(chosen.weights @ np.log(decays))),
        "expected_error": round(chosen.expected_error, 5),
        "test_rmse": rmse(chosen.predicted("test"), experiments[0].measured("test")),
        "seconds": time.process_time() - began,
    }
