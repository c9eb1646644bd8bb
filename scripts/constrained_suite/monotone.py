"""Monotone regression on real data, beside the same network without that, and scikit-learn's monotone boosting.

* *energy*: the heating load of a building must not fall with its height and with its share of glazing, both of which
  lose heat.
* *yacht*: the resistance of a hull must not fall with the Froude number, its speed.

Per standard split everything is chosen on the training part, the weight decay of each network by the same rule
(:mod:`ocp_nn.learning.selection`).
Violations are counted on grids: 1,000 random points of the box of the data, and from each 100 steps along
every input that has a sign, 10^5 points an input.
"""

from __future__ import annotations

import time
import warnings
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

import ocp_nn
from ocp_nn.learning.data import standard_splits
from ocp_nn.learning.experiment import Experiment
from ocp_nn.learning.requirements import Requirements
from ocp_nn.learning.selection import choose_weight_decay

__all__ = ["SIGNS", "measure"]

SIGNS: dict[str, dict[int, int]] = {"energy": {4: 1, 6: 1}, "yacht": {5: 1}}
HIDDEN, LIMIT = (20, 20), 60.0

# Steps that count as falling: above rounding.
_ROUNDING = 1e-10


def measure(data: Path, name: str, split: int) -> dict[str, Any]:
    """One split: errors on its test part, and violations."""
    dataset = ocp_nn.load_dataset(data / name)
    rows = next(islice(standard_splits(dataset.num_samples), split, None))
    experiment = Experiment.prepare(dataset, HIDDEN, split=rows)
    signs = tuple(SIGNS[name].get(j, 0) for j in range(dataset.num_features))
    row: dict[str, Any] = {"dataset": name, "split": split}
    for method, wanted in (("unconstrained", Requirements()), ("monotone", Requirements(signs=signs))):
        began = time.process_time()
        constrained = partial(wanted.constrained, y_scaler=experiment.y_scaler) if wanted else None
        decay = choose_weight_decay(
            experiment.network, experiment.train_inputs, experiment.train_targets, constrained=constrained
        ).weight_decay
        problem = wanted.constrained(experiment.problem(decay), experiment.y_scaler)
        result = ocp_nn.solve(problem, options=ocp_nn.Options(time_limit=LIMIT))
        model = experiment.model(result.trajectory.controls)
        row[method] = {
            "weight_decay": decay,
            "rmse": experiment.errors(result.trajectory.controls)["test_rmse"],
            "violations": _violations(model.predict, dataset.x, signs),
            "seconds": time.process_time() - began,
            "status": result.status.value,
        }
    return row | {"boosting": _boosting(dataset, rows, signs)}


def _boosting(dataset: Any, rows: Any, signs: tuple[int, ...]) -> dict[str, Any]:
    from sklearn.ensemble import HistGradientBoostingRegressor

    began = time.process_time()
    model = HistGradientBoostingRegressor(monotonic_cst=list(signs), max_iter=500, random_state=0)
    model.fit(dataset.x[rows.train], dataset.y[rows.train].ravel())
    error = model.predict(dataset.x[rows.test]) - dataset.y[rows.test].ravel()
    return {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "violations": _violations(model.predict, dataset.x, signs),
        "seconds": time.process_time() - began,
        "status": "done",
    }


def _violations(predict: Any, x: np.ndarray, signs: tuple[int, ...]) -> int:
    """Steps of a grid along which predictions go the wrong way."""
    low, high = x.min(axis=0), x.max(axis=0)
    points = np.random.default_rng(0).uniform(low, high, (1000, x.shape[1]))
    found = 0
    for j, sign in enumerate(signs):
        if not sign:
            continue
        grid = np.repeat(points, 100, axis=0)
        grid[:, j] = np.tile(np.linspace(low[j], high[j], 100), 1000)
        with warnings.catch_warnings():  # a grid of a box is not all between the data
            warnings.simplefilter("ignore", ocp_nn.ExtrapolationWarning)
            along = np.asarray(predict(grid)).reshape(1000, 100)
        found += int((np.diff(along, axis=1) * sign < -_ROUNDING).sum())
    return found
