"""Ours and the other packages, each from training records to a function that simulates new ones.

A method is a function (dataset, setting, seed, seconds) -> :class:`Fitted`; all that it chooses it chooses on training
records.  ``seconds`` are processor seconds, about, and a method that lives by epochs ends with them.

*ours* and *ours, linear* are ``StateSpaceRegressor``.  Peers choose on the last fifth of every training record and are
trained anew on all of it:

* *jax-sysid*: the same model and the same objective, Adam and then L-BFGS (:mod:`horizon_suite.jax_peer`), from two
  random starts at each of four weight decays; its initial states of new records are estimated as ours are.
* *GRU* and *LSTM*: PyTorch, 16 units and a linear output, state zero at first, Adam on pieces of the records whose
  first rows do not count, the epoch with the least held-out error.
* *polynomial NARX*: sysidentpy's FROLS, degree 2 or 3, lags 2, 4 or 8.
* *N4SID*: nfoursid, order 1 to 8.

The last two take one record: of several records each has a model of its own.
"""

from __future__ import annotations

import importlib.util
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from horizon_suite import jax_peer
from numpy.typing import NDArray

import ocp_nn
from ocp_nn.learning.data import SequenceDataset
from ocp_nn.learning.state_space.choice import known_states
from ocp_nn.learning.state_space.model import IdentifiedModel
from ocp_nn.learning.state_space.regressor import StateSpaceRegressor
from ocp_nn.network.scaling import Scaler

from .settings import Setting, shares

__all__ = ["METHODS", "OURS", "SEEDED", "Fitted", "Method", "missing"]

Array = NDArray[np.float64]
Pair = tuple[Array, Array]

OURS, LINEAR, JAX, GRU, LSTM, NARX, N4SID = (
    "ours", "ours, linear", "jax-sysid", "GRU", "LSTM", "polynomial NARX", "N4SID"
)  # fmt: skip

_NEEDS = {JAX: "jax_sysid", GRU: "torch", LSTM: "torch", NARX: "sysidentpy", N4SID: "nfoursid"}

# Those that have anything random.
SEEDED = (OURS, JAX, GRU, LSTM)

# What jax-sysid chooses from.
_JAX_DECAYS, _JAX_STARTS = (10.0, 1.0, 0.1, 0.01), 2

# Epochs of Adam and L-BFGS, and on longer records.
_JAX_EPOCHS, _JAX_FEW, _JAX_LONG = (2_000, 5_000), (300, 300), 20_000

_UNITS, _RATE, _PIECE, _BATCH, _PATIENCE = 16, 5e-3, 256, 32, 200
_DEGREES, _LAGS = (2, 3), (2, 4, 8)
_ORDERS, _BLOCK_ROWS = range(1, 9), 15


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a method found.

    Attributes
    ----------
    simulate : callable
        (i, v, y_init) -> outputs (T, m): the free run of test record i of its part, whose first rows are measured.
    chosen : str
        In words.
    """

    simulate: Callable[[int, Array, Array], Array]
    chosen: str


Method = Callable[[SequenceDataset, Setting, int, float], Fitted]


def missing(name: str) -> bool:
    """Whether the package of a method is not installed."""
    return name in _NEEDS and importlib.util.find_spec(_NEEDS[name]) is None


# ---- ours


def ours(dataset: SequenceDataset, setting: Setting, seed: int, seconds: float) -> Fitted:
    return _regressor(dataset, setting.states, setting.hidden, setting.starts, "auto", seed, seconds)


def ours_linear(dataset: SequenceDataset, setting: Setting, seed: int, seconds: float) -> Fitted:
    """Orders 1 to 4, little weight decay: there are few parameters."""
    return _regressor(dataset, "auto", (), 1, 1e-3, seed, seconds)


def _regressor(
    dataset: SequenceDataset, states: object, hidden: Sequence[int], starts: int, decay: object, seed: int, limit: float
) -> Fitted:
    estimator = StateSpaceRegressor(
        states[0] if isinstance(states, tuple) and len(states) == 1 else states,  # type: ignore[arg-type]
        hidden,
        weight_decay=decay,  # type: ignore[arg-type]
        warm_up=dataset.warm_up,
        num_starts=starts,
        max_iter=1000,
        time_limit=limit,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(dataset.train.inputs, dataset.train.outputs)
    chosen = f"{estimator.num_states_} states, decay {estimator.weight_decay_:g}, {estimator.status_.value}"
    return Fitted(lambda _i, v, y: estimator.model_.run(v, y)[0], chosen)


# ---- jax-sysid


def jax_sysid(dataset: SequenceDataset, setting: Setting, seed: int, seconds: float) -> Fitted:
    began = time.process_time()
    scalers = dataset.train.scalers()
    scaled = dataset.train.scaled(*scalers)
    first, ends = shares(scaled.pairs)
    epochs = _JAX_EPOCHS if sum(scaled.lengths) <= _JAX_LONG else _JAX_FEW
    model = ocp_nn.StateSpaceModel(
        num_states=setting.num_states,
        num_inputs=scaled.num_inputs,
        num_outputs=scaled.num_outputs,
        hidden_layer_sizes=setting.hidden,
    )
    errors: dict[tuple[float, int], float] = {}
    for decay, start in product(_JAX_DECAYS, range(_JAX_STARTS)):
        if errors and time.process_time() - began > seconds / 2:
            break
        found = _jax_fitted(model, first, decay, 10 * seed + start, scalers, epochs)
        window = [min(dataset.warm_up, len(y) // 3) for _, y in ends]
        errors[decay, start] = _rmse(
            [(found.known, v, y, w) for (v, y), w in zip(ends, window, strict=True)],
            lambda known, v, y, found=found: model.simulate(
                found.standard_theta, v, known.estimate(model, found.standard_theta, v[: len(y)], y)
            )[0],
        )
    decay, start = min(errors, key=lambda key: errors[key])
    best = _jax_fitted(model, scaled.pairs, decay, 10 * seed + start, scalers, epochs)
    return Fitted(lambda _i, v, y: best.run(v, y)[0], f"{model.num_states} states, decay {decay:g}")


def _jax_fitted(
    model: ocp_nn.StateSpaceModel,
    pairs: list[Pair],
    decay: float,
    seed: int,
    scalers: tuple[Scaler, Scaler],
    epochs: tuple[int, int],
) -> IdentifiedModel:
    problem = ocp_nn.IdentificationProblem(model, pairs, decay)
    initial = np.zeros((problem.num_samples, model.num_states))
    theta, x0 = jax_peer.fitted(problem, model.initial_parameters(seed), initial, adam=epochs[0], lbfgs=epochs[1])
    with np.errstate(over="ignore", invalid="ignore"):
        states = problem.simulated(theta, x0)
    trajectory = ocp_nn.Trajectory((theta,), tuple(np.nan_to_num(states, nan=0.0, posinf=1e6, neginf=-1e6)))
    return IdentifiedModel(model, theta, *scalers, x0, known_states(model, trajectory, problem.records))


def _rmse(ends: list[tuple[object, Array, Array, int]], simulate: Callable[..., Array]) -> float:
    """Of free runs after their windows; infinite where one is."""
    squares = [((simulate(known, v, y[:w]) - y)[w:] ** 2).mean() for known, v, y, w in ends]
    value = float(np.sqrt(np.mean(squares)))
    return value if np.isfinite(value) else np.inf


# ---- PyTorch


def recurrent(kind: str) -> Method:
    """A GRU or an LSTM."""

    def method(dataset: SequenceDataset, setting: Setting, seed: int, seconds: float) -> Fitted:
        import torch

        torch.set_num_threads(1)
        torch.manual_seed(seed)
        began = time.process_time()
        of_v, of_y = dataset.train.scalers()
        scaled = dataset.train.scaled(of_v, of_y)
        first, _ = shares(scaled.pairs)
        network = getattr(torch.nn, kind)(scaled.num_inputs, _UNITS, batch_first=True)
        head = torch.nn.Linear(_UNITS, scaled.num_outputs)
        parameters = [*network.parameters(), *head.parameters()]

        def run(v: Array) -> torch.Tensor:
            return head(network(torch.as_tensor(v, dtype=torch.float32))[0])

        def held_out() -> float:
            with torch.no_grad():
                runs = [
                    (run(v[None])[0].numpy() - y)[len(begin[1]) :]
                    for (v, y), begin in zip(scaled.pairs, first, strict=True)
                ]
            return float(np.sqrt(np.mean(np.concatenate(runs) ** 2)))

        def epochs(pairs: list[Pair], most: int, limit: float, watch: bool) -> tuple[int, float]:
            v, y, counts = _pieces(pairs, dataset.warm_up)
            optimiser = torch.optim.Adam(parameters, lr=_RATE)
            generator = np.random.default_rng(seed)
            best, at, epoch = np.inf, 0, 0
            while epoch < most and time.process_time() - began < limit:
                epoch += 1
                for rows in np.array_split(generator.permutation(len(v)), max(1, len(v) // _BATCH)):
                    error = (run(v[rows]) - torch.as_tensor(y[rows], dtype=torch.float32))[:, counts:]
                    optimiser.zero_grad()
                    (error**2).mean().backward()
                    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                    optimiser.step()
                if watch and (error := held_out()) < best:
                    best, at = error, epoch
                if watch and epoch - at > _PATIENCE:
                    break
            return at, best

        state = [p.detach().clone() for p in parameters]
        at, error = epochs(first, 10**6, 0.6 * seconds, watch=True)
        with torch.no_grad():
            for p, value in zip(parameters, state, strict=True):
                p.copy_(value)
        epochs(scaled.pairs, at, seconds, watch=False)

        def simulate(_i: int, v: Array, _y: Array) -> Array:
            with torch.no_grad():
                return of_y.inverse(run(of_v.transform(v)[None])[0].numpy().astype(float))

        return Fitted(simulate, f"{_UNITS} units, {at} epochs, held-out {error:.3f}")

    return method


def _pieces(pairs: list[Pair], warm_up: int) -> tuple[Array, Array, int]:
    """Overlapping pieces of all records, (K, T, q) and (K, T, m), and how many of their first rows do not count."""
    length = min(_PIECE, *(len(y) for _, y in pairs))
    counts = min(warm_up, length // 4)
    step = max(1, (length - counts) // 2)
    starts = [(v, y, k) for v, y in pairs for k in range(0, len(y) - length + 1, step)]
    v, y = (np.stack([pair[i][pair[2] : pair[2] + length] for pair in starts]) for i in (0, 1))
    return v, y, counts


# ---- models of one record


def of_one_record(fit: Callable[[Pair, int], tuple[Callable[[Array, Array], Array], str]]) -> Method:
    """A method for one record: with several, each has a model of its own, and its test record is that one's."""

    def method(dataset: SequenceDataset, setting: Setting, seed: int, seconds: float) -> Fitted:
        of_v, of_y = dataset.train.scalers()
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            found = [fit(pair, dataset.warm_up) for pair in dataset.train.scaled(of_v, of_y).pairs]

        def simulate(i: int, v: Array, y: Array) -> Array:
            run, _ = found[i if len(found) > 1 else 0]
            return of_y.inverse(run(of_v.transform(v), of_y.transform(y)))

        return Fitted(simulate, "; ".join(chosen for _, chosen in found))

    return method


def _chosen_on_the_end(
    pair: Pair, warm_up: int, candidates: list[object], fit: Callable[[Pair, object], Callable[[Array, Array], Array]]
) -> tuple[Callable[[Array, Array], Array], str]:
    """The candidate with the least error on the end of the record, fitted to all of it."""
    (first,), (end,) = shares([pair])
    errors = []
    for candidate in candidates:
        try:
            run = fit(first, candidate)
            window = min(warm_up, len(end[1]) // 3)
            errors.append(_rmse([(None, *end, window)], lambda _known, v, y, run=run: run(v, y)))
        except (ValueError, np.linalg.LinAlgError, IndexError):
            errors.append(np.inf)
    best = candidates[int(np.argmin(errors))]
    return fit(pair, best), f"{best}"


def narx(pair: Pair, warm_up: int) -> tuple[Callable[[Array, Array], Array], str]:
    from sysidentpy.basis_function import Polynomial
    from sysidentpy.model_structure_selection import FROLS
    from sysidentpy.parameter_estimation import LeastSquares

    def fit(pair: Pair, candidate: object) -> Callable[[Array, Array], Array]:
        degree, lag = candidate  # type: ignore[misc]
        model = FROLS(
            ylag=lag,
            xlag=lag,
            n_info_values=min(30, 5 * lag),
            order_selection=True,
            info_criteria="bic",
            estimator=LeastSquares(),
            basis_function=Polynomial(degree=degree),
        )
        model.fit(X=pair[0], y=pair[1])

        def run(v: Array, y: Array) -> Array:
            begin = len(y) - model.max_lag
            simulated = model.predict(X=v[begin:], y=y[begin:])
            return np.concatenate([y[:begin], np.asarray(simulated).reshape(len(v) - begin, -1)])

        return run

    candidates: list[object] = [(d, k) for d, k in product(_DEGREES, _LAGS) if d * k <= 16 and k <= warm_up]
    run, chosen = _chosen_on_the_end(pair, warm_up, candidates, fit)
    return run, f"degree, lags {chosen}"


def n4sid(pair: Pair, warm_up: int) -> tuple[Callable[[Array, Array], Array], str]:
    import pandas
    from nfoursid.nfoursid import NFourSID

    def fit(pair: Pair, order: object) -> Callable[[Array, Array], Array]:
        frame = pandas.DataFrame({"v": pair[0][:, 0], "y": pair[1][:, 0]})
        found = NFourSID(frame, output_columns=["y"], input_columns=["v"], num_block_rows=_BLOCK_ROWS)
        found.subspace_identification()
        system, _ = found.system_identification(rank=order)  # type: ignore[arg-type]
        a, b, c, d = (np.asarray(m) for m in (system.a, system.b, system.c, system.d))

        def free(v: Array, x: Array) -> Array:
            outputs = []
            for row in v:
                outputs.append(c @ x + d @ row)
                x = a @ x + b @ row
            return np.array(outputs)

        def run(v: Array, y: Array) -> Array:
            forced = free(v[: len(y)], np.zeros(len(a)))
            response = np.stack([free(0 * v[: len(y)], e).ravel() for e in np.eye(len(a))], axis=1)
            x0 = np.linalg.lstsq(response, (y - forced).ravel(), rcond=1e-8)[0]
            return free(v, x0)

        return run

    run, chosen = _chosen_on_the_end(pair, warm_up, list(_ORDERS), fit)
    return run, f"order {chosen}"


METHODS: dict[str, Method] = {
    OURS: ours,
    LINEAR: ours_linear,
    JAX: jax_sysid,
    GRU: recurrent("GRU"),
    LSTM: recurrent("LSTM"),
    NARX: of_one_record(narx),
    N4SID: of_one_record(n4sid),
}
