"""Data: odd tables through a training problem, the estimator, an experiment and a scaler."""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

import ocp_nn
from ocp_nn import Dataset, Options, Scaler, TrainingProblem
from ocp_nn.learning.experiment import Experiment, linear_baseline

from .draw import controls_of, network_of, odd, pick, plain_table, seldom
from .oracles import check_file, check_model, check_result, same_bits
from .words import Refused, hold, our_words

__all__ = ["run"]

# How far a table's numbers are from one, in powers of ten.
_SIZES = [-320, -300, -170, -100, -12, 12, 100, 150, 160, 299, 308]


@dataclass(frozen=True)
class Given:
    """A table as it is handed over, and the numbers that it means; None where it is no table of finite numbers."""

    values: Any
    numbers: np.ndarray | None


def run(rng, folder):
    rows, inputs, outputs = int(rng.integers(1, 41)), int(rng.integers(1, 5)), int(rng.integers(1, 4))
    x, y = table(rng, rows, inputs), table(rng, rows, outputs)
    before = [_copy(given.values) for given in (x, y)]
    with suppress(Refused):
        pick(rng, [_problem, _problem, _estimator, _units, _experiment, _scaler])(rng, folder, x, y)
    for given, copy in zip((x, y), before, strict=True):
        hold(_unchanged(given.values, copy), "the data that were given have changed")


def table(rng, rows, columns):
    """A table of a random size and kind."""
    numbers = plain_table(rng, rows, columns)
    with np.errstate(over="ignore", under="ignore"):
        if seldom(rng, 0.25):
            numbers = numbers * 10.0 ** pick(rng, _SIZES)
        if seldom(rng, 0.1):
            numbers[:, rng.integers(columns)] *= 10.0 ** pick(rng, _SIZES)
    if seldom(rng, 0.06):
        numbers[rng.integers(rows), rng.integers(columns)] = pick(rng, [np.nan, np.inf, -np.inf])
    values, kept = pick(rng, _FORMS)(rng, numbers) if seldom(rng, 0.5) else (numbers, numbers)
    return Given(values, kept if kept is not None and np.isfinite(kept).all() else None)


def _as(dtype):
    def convert(rng, t):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            values = t.astype(dtype)
            return values, values.astype(float)

    return convert


def _integers(rng, t):
    values = np.clip(np.nan_to_num(t), -100, 100).astype(pick(rng, [np.int8, np.int64, ">i4"]))
    return values, values.astype(float)


def _read_only(rng, t):
    values = t.copy()
    values.flags.writeable = False
    return values, t


def _masked(rng, t):
    mask = rng.random(t.shape) < pick(rng, [0.0, 0.1])
    return np.ma.array(t, mask=mask), None if mask.any() else t


def _ragged(rng, t):
    return [*t.tolist(), [1.0] * (t.shape[1] + 1)], None


def _spoilt(rng, t):
    values = t.astype(object)
    values[rng.integers(len(t)), 0] = pick(rng, [None, "1.5", "a", 1j, True, [1], Decimal("1.5"), object()])
    return values, None


def _frame(rng, t):
    try:
        import pandas as pd
    except ImportError:
        return t, t
    return pd.DataFrame(t, columns=[f"c{j}" for j in range(t.shape[1])]), t


def _vector(rng, t):
    return t[:, 0], t[:, :1]


def _of_no_kind(rng, t):
    values = odd(rng)
    is_table = isinstance(values, np.ndarray) and values.dtype.kind == "f" and values.ndim > 0
    return values, values.reshape(len(values), -1) if is_table else None


_FORMS = [
    lambda rng, t: (np.asfortranarray(t), t),
    lambda rng, t: (np.repeat(t, 2, axis=0)[::2], t),
    lambda rng, t: (t[::-1].copy()[::-1], t),
    lambda rng, t: (np.hstack([t, t])[:, : t.shape[1]], t),
    lambda rng, t: (t.tolist(), t),
    lambda rng, t: (tuple(map(tuple, t)), t),
    lambda rng, t: ([*t], t),
    lambda rng, t: (t.astype(object), t),
    lambda rng, t: (t + 0j, None),
    lambda rng, t: (t.astype(str), None),
    lambda rng, t: (t > 0, None),
    lambda rng, t: (t[None], None),
    lambda rng, t: (t[:0], None),
    lambda rng, t: (t[:, :0], t[:, :0]),
    lambda rng, t: (iter(t), None),
    _of_no_kind,
    _as("f4"), _as(">f8"), _as("f2"), _as("g"), _integers, _read_only, _masked, _ragged, _spoilt, _frame, _vector,
]  # fmt: skip


def _copy(values):
    return np.array(values, copy=True) if isinstance(values, np.ndarray) else repr(values)


def _unchanged(values, copy):
    if not isinstance(values, np.ndarray):
        return repr(values) == copy
    return values.dtype == copy.dtype and (values.dtype.kind == "O" or np.asarray(values).tobytes() == copy.tobytes())


def _accepted(given, used):
    """What was taken is what was given."""
    hold(given.numbers is not None, f"{type(given.values).__name__} without finite numbers taken as data")
    hold(same_bits(np.asarray(used), given.numbers), "the data that were taken are not those given")


def _problem(rng, folder, x, y):
    shape = [1 if given.numbers is None else max(1, given.numbers.shape[1]) for given in (x, y)]
    network = network_of(rng, *shape)
    with our_words(naming=("x", "y")):
        problem = TrainingProblem(network, x.values, y.values, pick(rng, [0.0, 1e-8, 1e-2, 1.0, 1e3]))
    for given, used in ((x, problem.x), (y, problem.y)):
        _accepted(given, used)
    start = controls_of(rng, network) if seldom(rng, 0.5) else None
    options = Options(
        max_outer=int(rng.integers(1, 21)), max_restarts=int(rng.integers(0, 2)), seed=int(rng.integers(99))
    )
    result = ocp_nn.solve(problem, start, options=options)
    check_result(result, start)
    check_model(result.model, problem.x)
    if seldom(rng, 0.3):
        check_file(result, folder, problem.x)
    if seldom(rng, 0.1):
        again = ocp_nn.solve(problem, start, options=options)
        hold(same_bits(again.trajectory.controls, result.trajectory.controls), "the same solve again ends elsewhere")


def _regressor(rng, **parameters):
    hidden = [int(n) for n in rng.integers(1, 5, rng.integers(0, 3))]
    given = {
        "hidden_layer_sizes": hidden,
        "weight_decay": pick(rng, [1e-6, 1e-2, 1.0]),
        "random_state": 0,
        "max_iter": 8,
    }
    return ocp_nn.OCPRegressor(**given | parameters)


def _estimator(rng, folder, x, y):
    regressor = _regressor(rng, early_stopping=seldom(rng, 0.2))
    with our_words(ValueError, TypeError):
        regressor.fit(x.values, y.values)
    check_result(regressor.result_)
    with our_words(ValueError, TypeError):
        predicted = regressor.predict(x.values)
    hold(np.isfinite(predicted).all(), "the estimator predicts what is no finite number")
    if x.numbers is not None:
        check_model(regressor.result_.model, x.numbers)
        check_file(regressor.result_, folder, x.numbers)
    else:
        hold(not isinstance(x.values, np.ma.MaskedArray), "masked entries taken as data")


def _units(rng, folder, x, y):
    """Units that are powers of two change no bit of a prediction."""
    if x.numbers is None or y.numbers is None or len(x.numbers) != len(y.numbers) or len(x.numbers) < 3:
        return
    x, y = np.clip(x.numbers, -1e100, 1e100), np.clip(y.numbers, -1e100, 1e100)
    if not all(_well_spread(t) for t in (x, y)):
        return
    units = 2.0 ** rng.integers(-60, 60, 2)
    iterations, hidden = int(rng.integers(1, 9)), int(rng.integers(1, 4))

    def fitted(a, b):
        regressor = _regressor(np.random.default_rng(hidden), max_iter=iterations).fit(a * x, b * y)
        return np.asarray(regressor.predict(a * x)).reshape(y.shape) / b

    known = y.any(axis=0)  # a column of zeros has no unit
    hold(same_bits(fitted(*units)[:, known], fitted(1.0, 1.0)[:, known]), f"predictions change with units {units}")


def _well_spread(t):
    """Neither so small nor so large that a change of units would round."""
    sizes = np.abs(t[t != 0])
    return sizes.size > 0 and sizes.min() > 1e-100 and sizes.max() < 1e120


def _experiment(rng, folder, x, y):
    shapes = [np.shape(given.values) if hasattr(given.values, "shape") else (0, 1) for given in (x, y)]
    names = [
        tuple(f"{letter}{j}" for j in range(shape[-1] if shape else 1))
        for letter, shape in zip("xy", shapes, strict=True)
    ]
    with our_words():
        dataset = Dataset(name="odd", x=x.values, y=y.values, feature_names=names[0], target_names=names[1])
    _accepted(x, dataset.x), _accepted(y, dataset.y)
    with our_words():
        experiment = Experiment.prepare(dataset, (3,), test_size=pick(rng, [0.1, 0.5, 0.9]), seed=int(rng.integers(99)))
    linear_baseline(experiment)
    with our_words():
        problem = experiment.problem(1e-2)
    result = ocp_nn.solve(problem, options=Options(max_outer=8, max_restarts=0))
    check_result(result)
    controls = result.trajectory.controls
    for part in ("train", "test"):
        rows = getattr(experiment.split, part)
        with np.errstate(all="ignore"):
            difference = experiment.model(controls).outputs(dataset.x[rows]) - dataset.y[rows]
            largest = np.abs(difference).max()
            expected = largest * np.sqrt(np.mean((difference / largest) ** 2)) if largest > 1e-300 else largest
        error = experiment.rmse(controls, part)
        hold(
            not np.isfinite(expected) or abs(error - expected) <= 1e-9 * expected + 1e-300,
            f"RMSE {error}, not {expected}",
        )
    check_model(experiment.model(controls), dataset.x[experiment.split.train])


def _scaler(rng, folder, x, y):
    with our_words():
        scaler = Scaler.fit(x.values)
    hold(x.numbers is not None, "a scaler fitted to what are no finite numbers")
    with our_words():
        standard = scaler.transform(x.values)
    spread = np.abs(standard).max(initial=0.0)
    hold(spread <= np.sqrt(len(standard)) * (1 + 1e-6) + 1e-6, f"standard units as large as {spread}")
    back, size = scaler.inverse(standard), np.abs(x.numbers).max(axis=0)
    hold(bool((np.abs(back - x.numbers) <= 1e-12 * size + 1e-322).all()), "standard units do not lead back")
