"""Systems to identify, with known noise, for the tests."""

import numpy as np


def runge_kutta(ode, x, step, parts=4):
    for _ in range(parts):
        h = step / parts
        a = ode(x)
        b = ode(x + h / 2 * a)
        c = ode(x + h / 2 * b)
        d = ode(x + h * c)
        x = x + h / 6 * (a + 2 * b + 2 * c + d)
    return x


def noisy(y, rng, noise):
    """Outputs in units of their standard deviation, with noise, and the noise floor 1/2 ||noise||^2."""
    error = noise * y.std() * rng.standard_normal(y.shape)
    measured = y + error
    scale = measured.std()
    return (measured - measured.mean()) / scale, 0.5 * float(np.sum((error / scale) ** 2))


def mildly_nonlinear(length=100, seed=0):
    """A stable system of two states: (v, y)."""
    rng = np.random.default_rng(seed)
    v, x, y = rng.standard_normal((length, 1)), np.zeros(2), np.zeros((length, 1))
    for t in range(length):
        y[t] = x[0] + 0.05 * rng.standard_normal()
        x = np.array([[0.7, 0.3], [-0.4, 0.6]]) @ x + np.array([0.5, 1.0]) * v[t]
        x[0] = np.tanh(x[0])
    return v, y


def lorenz(length=400, seed=0, noise=0.02):
    """The x of Lorenz-63, sampled every 0.05: y and the noise floor."""
    rng = np.random.default_rng(1000 + seed)

    def ode(x):
        return np.array([10 * (x[1] - x[0]), x[0] * (28 - x[2]) - x[1], x[0] * x[1] - 8 / 3 * x[2]])

    x = rng.normal(size=3) + np.array([1.0, 1.0, 25.0])
    path = []
    for t in range(400 + length):
        x = runge_kutta(ode, x, 0.05)
        if t >= 400:
            path.append(x[0])
    return noisy(np.array(path)[:, None], rng, noise)


def pendulum(length=300, seed=0, noise=0.02):
    """An inverted pendulum that a feedback holds upright: (v, y) and the noise floor."""
    rng = np.random.default_rng(3000 + seed)
    x, v, y = np.array([0.1, 0.0]), np.zeros((length, 1)), np.zeros((length, 1))
    reference = 0.3 * np.sin(0.05 * np.arange(length)) * np.sin(0.013 * np.arange(length))
    for t in range(length):
        y[t] = x[0]
        push = v[t, 0] = -(2.2 * x[0] + 0.5 * x[1]) + reference[t] + 0.1 * rng.standard_normal()

        def ode(s, push=push):
            return np.array([s[1], 9 * np.sin(s[0]) - 0.1 * s[1] + 10 * push])

        x = runge_kutta(ode, x, 0.05)
    measured, floor = noisy(y, rng, noise)
    return (v - v.mean()) / v.std(), measured, floor


def long_memory(length=120, lag=80, records=5, seed=0, noise=0.02):
    """The height of an early pulse is asked for by a second input much later: records (v, y) and the noise floor."""
    rng = np.random.default_rng(4000 + seed)
    heights = np.linspace(-1, 1, records) + 0.1 * rng.standard_normal(records)
    v, y = np.zeros((records, length, 2)), np.zeros((records, length, 1))
    for i, height in enumerate(heights):
        at = rng.integers(5, 20)
        v[i, at, 0], v[i, at + lag : at + lag + 10, 1] = 3 * height, 1.0
        y[i, at + lag + 1 : at + lag + 11, 0] = height
    y /= y.std()
    error = noise * rng.standard_normal(y.shape)
    return list(zip(v, y + error, strict=True)), 0.5 * float(np.sum(error**2))
