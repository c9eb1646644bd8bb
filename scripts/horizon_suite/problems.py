"""Systems whose records separate ways to fit them over long horizons, and one measured benchmark.

A problem is named by its system and its horizon, ``lorenz-400``; any horizon will do.  ``lorenz-400@1e-5`` has
a weight decay of its own, and ``chain-300/slow`` another start (:mod:`.methods`).  Records are synthetic, with 2 %
of output noise whose realisation is known: half its sum of squares is the *floor*, about what the true system leaves.
Every seed makes other data.  Outputs are in units of their standard deviation.

===========  ==========================================================================================================
lorenz       x of Lorenz' system (1963), sampled at 0.05 time units: chaotic, largest exponent 0.906 a time unit
duffing      x'' + 0.04 x' + x + x^3 = v, a multisine v, sampled at 0.2: lightly damped
pendulum     theta'' = 9 sin theta - 0.1 theta' + 10 u about its upper equilibrium, u fed back from a noisy angle,
             sampled at 0.05: unstable in open loop
chain        six records; a pulse whose height is read out 200 steps later, when a second input says so
tanks        the cascaded tanks of the nonlinear benchmarks (Schoukens et al. 2016): 1024 measured samples of real
             water, no floor; ``--data`` names the folder that holds cascaded_tanks/train.csv and test.csv (u, y)
===========  ==========================================================================================================

The weight decay is 1e-5, but for Lorenz 2e-3, which is five times the variance of the noise.  With less, models fit the
noise of a few hundred samples, and their free runs leave the attractor sooner or later: no exponent, whoever has
fitted them.  (Chosen on the seeds 0, 2 and 3.)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ocp_nn import IdentificationProblem, Scaler, StateSpaceModel

__all__ = ["DEFAULT", "QUICK", "TANKS", "Problem", "problem"]

Array = NDArray[np.float64]
Experiments = list[tuple[Array, Array]]
_Records = tuple[Array, Array, Array]

TANKS = "tanks"
DEFAULT = ("lorenz-400", "lorenz-1000", "duffing-1000", "pendulum-500", "chain-300")
QUICK = ("lorenz-100", "duffing-100")
NOISE = 0.02

# Lorenz (1963) with the usual parameters: the largest exponent, a time unit (Viswanath 1998), and the sampling time.
EXPONENT, LORENZ_STEP = 0.906, 0.05


@dataclass(frozen=True, eq=False)
class Problem:
    """An identification problem, and what is known about its data.

    Attributes
    ----------
    floor : float or None
        Half the sum of squares of the noise in the records.
    exponent : float or None
        The largest Lyapunov exponent of the true system, a step; for chaotic systems.
    unit : float
        One standard deviation of the outputs, in the unit of the record.
    test : (v, y) or None
        A record for tests, in the units of the training records.
    slow : bool
        Whether all methods start from a slow random system.
    """

    name: str
    identification: IdentificationProblem
    floor: float | None = None
    exponent: float | None = None
    unit: float = 1.0
    test: tuple[Array, Array] | None = None
    slow: bool = False


def problem(name: str, seed: int, data: Path | None = None) -> Problem:
    """The problem of a name, with the data of a seed.

    Raises
    ------
    ValueError
        For a name that is no system and horizon, and for tanks without their data.
    """
    if name == TANKS:
        return _tanks(data)
    found = re.fullmatch(r"([a-z]+)-([1-9]\d+)(?:@([\d.e+-]+))?(/slow)?", name)
    if found is None or found[1] not in _SYSTEMS:
        raise ValueError(
            f"a problem must be {TANKS!r} or one of {', '.join(_SYSTEMS)} with a horizon, as {DEFAULT[0]!r}, "
            f"received {name!r}"
        )
    system, horizon, decay, slow = found.groups()
    entry = _SYSTEMS[system]
    v, y, noise = entry.records(np.random.default_rng([entry.number, seed]), int(horizon))
    mean, scale = float(np.mean(y + noise)), float(np.std(y + noise))
    outputs = (y + noise - mean) / scale
    experiments = [(inputs, output[:, None]) for inputs, output in zip(v, outputs, strict=True)]
    floor = 0.5 * float(np.sum((noise / scale) ** 2))
    weight_decay = entry.weight_decay if decay is None else float(decay)
    identification = _identification(experiments, entry.states, entry.hidden, weight_decay)
    return Problem(name, identification, floor, entry.exponent, slow=slow is not None)


def _identification(experiments: Experiments, states: int, hidden: int, weight_decay: float) -> IdentificationProblem:
    v, y = experiments[0]
    model = StateSpaceModel(
        num_states=states, num_inputs=v.shape[1], num_outputs=y.shape[1], hidden_layer_sizes=(hidden,)
    )
    return IdentificationProblem(model, experiments, weight_decay=weight_decay)


# ---- the systems: inputs (N, T, q), outputs without noise (N, T), and the noise in them


def _noise(rng: np.random.Generator, y: Array) -> Array:
    return NOISE * y.std() * rng.standard_normal(y.shape)


def _unit(v: Array) -> Array:
    """An input as one record, in units of its standard deviation."""
    return ((v - v.mean()) / v.std())[None, :, None]


def _runge_kutta(f: Callable[[Array], Array], x: Array, step: float) -> Array:
    """Four classical steps of a quarter each."""
    h = step / 4
    for _ in range(4):
        a = f(x)
        b = f(x + h / 2 * a)
        c = f(x + h / 2 * b)
        x = x + h / 6 * (a + 2 * b + 2 * c + f(x + h * c))
    return x


def _multisine(rng: np.random.Generator, steps: int, low: float, high: float, tones: int) -> Array:
    """A sum of sines of random frequencies, in cycles a step, and phases; its variance is one."""
    t, frequencies = np.arange(steps), rng.uniform(low, high, tones)
    waves = [np.sin(2 * np.pi * (f * t + rng.uniform())) for f in frequencies]
    return np.sum(waves, axis=0) / np.sqrt(tones / 2)


def _lorenz(rng: np.random.Generator, steps: int) -> _Records:
    def flow(x: Array) -> Array:
        return np.array([10 * (x[1] - x[0]), x[0] * (28 - x[2]) - x[1], x[0] * x[1] - 8 / 3 * x[2]])

    x, y = rng.standard_normal(3) + np.array([1.0, 1.0, 25.0]), np.empty(steps)
    for _ in range(400):  # to the attractor
        x = _runge_kutta(flow, x, LORENZ_STEP)
    for t in range(steps):
        y[t], x = x[0], _runge_kutta(flow, x, LORENZ_STEP)
    return np.zeros((1, steps, 0)), y[None], _noise(rng, y[None])


def _duffing(rng: np.random.Generator, steps: int) -> _Records:
    v, x, y = 0.5 * _multisine(rng, steps, 0.005, 0.06, 8), np.array([0.5, 0.0]), np.empty(steps)
    for t in range(steps):
        y[t] = x[0]
        x = _runge_kutta(lambda s, force=v[t]: np.array([s[1], force - 0.04 * s[1] - s[0] - s[0] ** 3]), x, 0.2)
    return _unit(v), y[None], _noise(rng, y[None])


def _pendulum(rng: np.random.Generator, steps: int) -> _Records:
    """An observer and a state feedback hold it up and follow a reference; what they see is the noisy angle."""
    step, reference = 0.05, 0.8 * _multisine(rng, steps, 0.003, 0.04, 6)
    x, estimate = np.array([0.1, 0.0]), np.zeros(2)
    u, y = np.empty(steps), np.empty(steps)
    noise = NOISE * 0.3 * rng.standard_normal(steps)  # the angle deviates by about 0.3
    for t in range(steps):
        y[t] = x[0]
        estimate = estimate + np.array([0.7, 4.0]) * (y[t] + noise[t] - estimate[0])
        u[t] = 0.35 * reference[t] - 2.2 * estimate[0] - 0.5 * estimate[1] + 0.05 * rng.standard_normal()
        force = 10 * u[t]
        x = _runge_kutta(lambda s, force=force: np.array([s[1], 9 * np.sin(s[0]) - 0.1 * s[1] + force]), x, step)
        estimate = estimate + step * np.array([estimate[1], 9 * np.sin(estimate[0]) + force])
    return _unit(u), y[None], noise[None]


def _chain(rng: np.random.Generator, steps: int) -> _Records:
    records, delay = 6, min(200, steps // 2)
    heights = np.linspace(-1, 1, records) + 0.1 * rng.standard_normal(records)
    v, y = np.zeros((records, steps, 2)), np.zeros((records, steps))
    for i, height in enumerate(heights):
        pulse = int(rng.integers(steps // 15, max(steps // 5, steps // 15 + 1)))
        read = pulse + delay
        v[i, pulse, 0], v[i, read : read + 10, 1] = 3 * height, 1.0
        y[i, read + 1 : read + 11] = height
    return v, y, _noise(rng, y)


@dataclass(frozen=True)
class _System:
    """How its records are made, and the model: states, hidden units, weight decay."""

    number: int
    records: Callable[[np.random.Generator, int], _Records]
    states: int
    hidden: int
    weight_decay: float = 1e-5
    exponent: float | None = None


_SYSTEMS = {
    "lorenz": _System(1, _lorenz, 3, 12, 2e-3, EXPONENT * LORENZ_STEP),
    "duffing": _System(2, _duffing, 2, 12),
    "pendulum": _System(3, _pendulum, 2, 8),
    "chain": _System(4, _chain, 3, 8),
}


def _tanks(data: Path | None) -> Problem:
    if data is None:
        raise ValueError(f"{TANKS} are measured data: --data must name the folder that holds cascaded_tanks/")
    train, test = (
        np.loadtxt(data / "cascaded_tanks" / f"{part}.csv", delimiter=",", skiprows=1) for part in ("train", "test")
    )
    inputs, outputs = Scaler.fit(train[:, :1]), Scaler.fit(train[:, 1:2])
    scaled = [(inputs.transform(table[:, :1]), outputs.transform(table[:, 1:2])) for table in (train, test)]
    identification = _identification(scaled[:1], states=2, hidden=8, weight_decay=1e-3)
    return Problem(TANKS, identification, unit=float(outputs.scale[0]), test=scaled[1])
