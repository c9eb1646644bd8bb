"""Small training problems with every loss."""

from __future__ import annotations

import casadi as ca
import numpy as np

from ocp_nn import Network, TrainingProblem
from ocp_nn.problem.losses import Custom, Huber


def log_cosh(m):
    z, y = ca.SX.sym("z", m), ca.SX.sym("y", m)
    size = ca.sqrt((z - y) ** 2 + 1e-300)
    return ca.Function("log_cosh", [z, y], [ca.sum1(size + ca.log1p(ca.exp(-2 * size)) - np.log(2))])


# name -> (loss, outputs, targets of a curve with values about -1..1)
LOSSES = {
    "squared": ("squared", 1, lambda f, rng: f[:, None] + 0.1 * rng.standard_normal((len(f), 1))),
    "huber": (Huber(0.1), 1, lambda f, rng: f[:, None] + 0.1 * rng.standard_t(2, (len(f), 1))),
    "logistic": ("logistic", 1, lambda f, rng: (rng.uniform(size=(len(f), 1)) < 0.5 + 0.45 * f[:, None]).astype(float)),
    "softmax": (
        "softmax",
        3,
        lambda f, rng: np.eye(3)[np.digitize(f + 0.3 * rng.standard_normal(len(f)), [-0.4, 0.4])],
    ),
    "poisson": ("poisson", 1, lambda f, rng: rng.poisson(np.exp(1.0 + f))[:, None].astype(float)),
    "custom": (Custom(log_cosh(1)), 1, lambda f, rng: f[:, None] + 0.1 * rng.standard_normal((len(f), 1))),
}
CASES = [(name, weighted) for name in LOSSES for weighted in (False, True)]


def problem(name, *, weighted=False, samples=60, hidden=(5, 5), weight_decay=0.02, seed=0):
    """Targets that follow sin 2x, and sample weights, one of them zero, where asked for."""
    rng = np.random.default_rng(seed)
    loss, outputs, targets = LOSSES[name]
    x = np.sort(rng.uniform(-2, 2, (samples, 1)), axis=0)
    y = targets(np.sin(2 * x[:, 0]), rng)
    weights = rng.uniform(0.2, 3.0, samples) if weighted else None
    if weights is not None:
        weights[3] = 0.0
    return TrainingProblem(Network.mlp([1, *hidden, outputs], "tanh"), x, y, weight_decay, loss, weights)
