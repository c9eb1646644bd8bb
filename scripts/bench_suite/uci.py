"""Test errors on the 20 standard splits, beside published ones.

Per split: standardise by the training part, choose the weight decay on held-out parts of the training samples
(:func:`ocp_nn.selection.choose_weight_decay`), train one network on the whole training part, look at the test part
once.  The network is fixed beforehand: two hidden layers of 20 tanh units.  Other choices (width, depth, ensembles)
are not searched.
"""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ocp_nn import Options, load_dataset, solve
from ocp_nn.data import standard_splits
from ocp_nn.experiment import Experiment, linear_baseline
from ocp_nn.selection import choose_weight_decay

__all__ = ["PUBLISHED", "SETS", "measure"]

SETS = ("yacht", "energy", "bostonHousing")
HIDDEN = (20, 20)
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
    """One split of one set: what was chosen, and the test error."""
    dataset = load_dataset(folder)
    rows = next(islice(standard_splits(dataset.num_samples), split, None))
    experiment = Experiment.prepare(dataset, HIDDEN, split=rows)
    began = time.process_time()
    candidates = (1.0, 0.1, 0.01) if quick else (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
    choice = choose_weight_decay(
        experiment.network,
        experiment.train_inputs,
        experiment.train_targets,
        candidates,
        seed=split,
        repeats=1 if quick else 3,
    )
    chosen = time.process_time()
    problem = experiment.problem(choice.weight_decay)
    result = solve(problem, options=Options(seed=split, time_limit=LIMIT))
    controls = result.trajectory.controls
    return {
        "dataset": folder.name,
        "split": split,
        "weight_decay": choice.weight_decay,
        "validation_errors": dict(zip(map(str, choice.candidates), np.round(choice.errors, 5).tolist(), strict=True)),
        "test_rmse": experiment.rmse(controls, "test"),
        "train_rmse": experiment.rmse(controls, "train"),
        "linear_test_rmse": linear_baseline(experiment).test_rmse,
        "status": result.status.value,
        "choosing_seconds": chosen - began,
        "training_seconds": time.process_time() - chosen,
    }
