"""Systems with known truth, drawn by name, seed, length and noise: a record to train on and one to test on.

===========  ==========================================================================================================
lorenz       x of Lorenz' system (1963) with the usual parameters, sampled at 0.05: chaotic, no inputs
duffing      x'' + 0.04 x' + x + x^3 = v, sampled at 0.2, v a multisine: lightly damped
pendulum     theta'' = 9 sin theta - 0.1 theta' + 10 u about its upper equilibrium, sampled at 0.05, u fed back from the
             noisy angle by an observer: unstable in open loop
tanks        two tanks above each other with square-root outflows and overflow, in the form of the cascaded tanks
             benchmark (Schoukens et al. 2016), sampled at 4: levels are cut off at 10
wiener       a linear filter of two states and tanh behind it
===========  ==========================================================================================================

Continuous systems are integrated by four classical Runge-Kutta steps a sample.  Noise is white, its deviation a share
of the standard deviation of the outputs without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...network.records import Records
from .sequences import SequenceDataset

__all__ = ["SYSTEMS", "draw"]

Array = NDArray[np.float64]
Rng = np.random.Generator

# Inputs (T, q), and outputs (T, m) without noise; the noise (T, m), of unit deviation, is there for systems in a loop.
Simulation = Callable[[Rng, int, Array], tuple[Array, Array]]


@dataclass(frozen=True)
class System:
    """A named system: a line about it, how it is simulated, and its names."""

    description: str
    simulate: Simulation
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    sampling_time: float | None = None


def draw(name: str, *, seed: int, samples: int, noise: float) -> SequenceDataset:
    """Records of a system (a ``KeyError`` if there is none of that name); the test record is drawn anew."""
    entry = SYSTEMS[name]
    number = list(SYSTEMS).index(name)
    parts, truth = {}, {}
    for i, part in enumerate(("train", "test")):
        rng = np.random.default_rng([number, seed, i])
        disturbance = noise * rng.standard_normal((samples, len(entry.outputs)))
        v, y = entry.simulate(rng, samples, disturbance)
        parts[part] = Records((v,), (y + disturbance * y.std(axis=0),))
        truth[part] = (y,)
    return SequenceDataset(
        name=name,
        train=parts.pop("train"),
        tests=parts,
        input_names=entry.inputs,
        output_names=entry.outputs,
        sampling_time=entry.sampling_time,
        warm_up=min(50, samples // 4),
        truth=truth,
        source=f"synthetic: {entry.description}",
    )


def runge_kutta(f: Callable[[Array], Array], x: Array, step: float, steps: int = 4) -> Array:
    """Classical Runge-Kutta steps of order four."""
    h = step / steps
    for _ in range(steps):
        a = f(x)
        b = f(x + h / 2 * a)
        c = f(x + h / 2 * b)
        x = x + h / 6 * (a + 2 * b + 2 * c + f(x + h * c))
    return x


def multisine(rng: Rng, samples: int, low: float, high: float, tones: int) -> Array:
    """A sum of sines of random frequencies, in cycles a sample, and phases; its variance is one."""
    t, frequencies = np.arange(samples), rng.uniform(low, high, tones)
    waves = [np.sin(2 * np.pi * (f * t + rng.uniform())) for f in frequencies]
    return np.asarray(np.sum(waves, axis=0) / np.sqrt(tones / 2))


def lorenz(x: Array) -> Array:
    """The flow of Lorenz' system."""
    return np.array([10 * (x[1] - x[0]), x[0] * (28 - x[2]) - x[1], x[0] * x[1] - 8 / 3 * x[2]])


def duffing(x: Array, force: float) -> Array:
    """The forced oscillator as a flow of position and velocity."""
    return np.array([x[1], force - 0.04 * x[1] - x[0] - x[0] ** 3])


def pendulum(x: Array, torque: float) -> Array:
    """The flow of angle from the upper equilibrium, and velocity."""
    return np.array([x[1], 9 * np.sin(x[0]) - 0.1 * x[1] + 10 * torque])


def tanks(x: Array, u: float) -> Array:
    """The flow of both levels; what the upper tank cannot hold is lost but for a third, which falls into the lower."""
    upper, lower = np.sqrt(np.maximum(x, 0.0))
    spilt = max(0.05 * u - 0.06 * upper, 0.0) if x[0] >= _BRIM else 0.0
    return np.array([0.05 * u - 0.06 * upper - spilt, 0.06 * upper - 0.05 * lower + spilt / 3])


# Levels at which tanks overflow, and their sensor ends.
_BRIM = 10.0


def _lorenz(rng: Rng, samples: int, disturbance: Array) -> tuple[Array, Array]:
    x, y = rng.standard_normal(3) + np.array([1.0, 1.0, 25.0]), np.empty((samples, 1))
    for _ in range(400):  # to the attractor
        x = runge_kutta(lorenz, x, 0.05)
    for t in range(samples):
        y[t], x = x[0], runge_kutta(lorenz, x, 0.05)
    return np.empty((samples, 0)), y


def _duffing(rng: Rng, samples: int, disturbance: Array) -> tuple[Array, Array]:
    v, x, y = 0.5 * multisine(rng, samples, 0.005, 0.06, 8), np.array([0.5, 0.0]), np.empty((samples, 1))
    for t, force in enumerate(v):
        y[t], x = x[0], runge_kutta(lambda s, force=force: duffing(s, force), x, 0.2)  # type: ignore[misc]
    return v[:, None], y


def _pendulum(rng: Rng, samples: int, disturbance: Array) -> tuple[Array, Array]:
    """An observer and a state feedback hold it up and follow a reference; what they see is the noisy angle."""
    step, reference = 0.05, 0.8 * multisine(rng, samples, 0.003, 0.04, 6)
    x, estimate = np.array([0.1, 0.0]), np.zeros(2)
    u, y = np.empty((samples, 1)), np.empty((samples, 1))
    seen = 0.3 * disturbance[:, 0]  # the angle deviates by about 0.3
    for t in range(samples):
        y[t] = x[0]
        estimate = estimate + np.array([0.7, 4.0]) * (x[0] + seen[t] - estimate[0])
        u[t] = 0.35 * reference[t] - 2.2 * estimate[0] - 0.5 * estimate[1] + 0.05 * rng.standard_normal()
        torque = float(u[t, 0])
        x = runge_kutta(lambda s, torque=torque: pendulum(s, torque), x, step)  # type: ignore[misc]
        estimate = estimate + step * pendulum(estimate, torque)
    return u, y


def _tanks(rng: Rng, samples: int, disturbance: Array) -> tuple[Array, Array]:
    v = np.clip(2.5 + 0.9 * multisine(rng, samples, 0.001, 0.02, 12), 0.0, 6.5)
    x, y = np.array([5.0, 5.0]), np.empty((samples, 1))
    for t, u in enumerate(v):
        y[t] = x[1]
        x = np.clip(runge_kutta(lambda s, u=u: tanks(s, u), x, 4.0), 0.0, _BRIM)  # type: ignore[misc]
    return v[:, None], y


def _wiener(rng: Rng, samples: int, disturbance: Array) -> tuple[Array, Array]:
    v, x, y = rng.standard_normal((samples, 1)), np.zeros(2), np.empty((samples, 1))
    a, b = np.array([[0.8, 0.3], [-0.3, 0.8]]), np.array([0.3, 0.6])
    for t in range(samples):
        y[t], x = np.tanh(x[0]), a @ x + b * v[t, 0]
    return v, y


SYSTEMS: Mapping[str, System] = {
    "lorenz": System("x of the Lorenz system at steps of 0.05, chaotic", _lorenz, (), ("x",), 0.05),
    "duffing": System("lightly damped Duffing oscillator, forced by a multisine", _duffing, ("v",), ("x",), 0.2),
    "pendulum": System("inverted pendulum under feedback, unstable in open loop", _pendulum, ("u",), ("angle",), 0.05),
    "tanks": System("two cascaded tanks that overflow", _tanks, ("u",), ("level",), 4.0),
    "wiener": System("a linear filter of two states with tanh behind it", _wiener, ("v",), ("y",)),
}
