"""Small optimal control problems with everything in them, for the tests."""

import casadi as ca
import numpy as np

from ocp_nn import Dense, OptimalControlProblem, Stage, Symbolic, Term

WIDTH, SAMPLES = 2, 3


def layer(width=WIDTH, exogenous=0, name="f"):
    """x + 0.4 tanh(W [x; v] + b): a stage with weights and, perhaps, an exogenous input."""
    x, v = ca.SX.sym("x", width), ca.SX.sym("v", exogenous)
    u = ca.SX.sym("u", width * (width + exogenous + 1))
    table = ca.reshape(u, width, width + exogenous + 1)
    f = x + 0.4 * ca.tanh(table[:, :-1] @ ca.vertcat(x, v) + table[:, -1])
    return Symbolic(ca.Function(name, [x, u, v] if exogenous else [x, u], [f]))


def readout(width=WIDTH, outputs=1, controls=None):
    """An output that uses the first numbers of a longer control block."""
    dense = Dense(width, outputs, "identity")
    if controls is None:
        return dense
    x, u = ca.SX.sym("x", width), ca.SX.sym("u", controls)
    return Symbolic(ca.Function("h", [x, u], [dense.function(x, u[: dense.num_controls])]))


def shared_over_time(steps=5, *, free_start=True, exogenous=1, missing=True, seed=0, weight_decay=1e-2):
    """One block for all stages and terms, an exogenous input, a term at every stage: a network over time."""
    rng = np.random.default_rng(seed)
    stage, output = layer(exogenous=exogenous), readout(controls=layer(exogenous=exogenous).num_controls)
    inputs = rng.standard_normal((steps, SAMPLES, max(1, exogenous)))
    targets = np.cumsum(rng.standard_normal((steps + 1, SAMPLES, 1)), axis=0) * 0.3
    weights = np.ones(targets.shape)
    if missing:
        weights[1, 0] = weights[-1, 1] = 0.0
    return OptimalControlProblem(
        [Stage(stage, exogenous=inputs[k] if exogenous else None) for k in range(steps)],
        [Term(k, output, targets[k], sample_weight=weights[k]) for k in range(steps + 1)],
        np.zeros((SAMPLES, WIDTH)),
        weight_decay=weight_decay,
        initial_weight=0.5 if free_start else np.inf,
    )


def mixed(seed=0, *, free_start=False):
    """Two shared blocks and one of its own, decays by block, several terms of several losses at several stages."""
    rng = np.random.default_rng(seed)
    one, two = layer(name="one"), Dense(WIDTH, WIDTH, "tanh")
    labels = np.eye(2)[rng.integers(2, size=SAMPLES)]
    return OptimalControlProblem(
        [Stage(one, 0), Stage(two, 1, unit=0.5), Stage(one, 0), Stage(two, 1)],
        [
            Term(1, Dense(WIDTH, 1, "identity"), rng.poisson(2.0, (SAMPLES, 1)), block=2, loss="poisson"),
            Term(3, Dense(WIDTH, WIDTH, "identity"), labels, block=1, loss="softmax", sample_weight=[1.0, 2.0, 0.5]),
            Term(4, two, rng.standard_normal((SAMPLES, WIDTH)), block=1, loss="huber"),
            Term(4, Dense(WIDTH, 1, "identity"), rng.standard_normal((SAMPLES, 1)), block=2),
        ],
        rng.standard_normal((SAMPLES, WIDTH)),
        weight_decay=[0.02, 0.03, 0.05],
        initial_weight=2.0 if free_start else np.inf,
    )


PROBLEMS = {
    "one block over time, free start": shared_over_time(),
    "one block over time, known start": shared_over_time(free_start=False, missing=False),
    "autonomous": shared_over_time(exogenous=0),
    "mixed losses and blocks": mixed(),
    "mixed losses and blocks, free start": mixed(free_start=True),
}


def random_point(problem, seed=1, size=0.5):
    """Controls and states off the dynamics."""
    rng = np.random.default_rng(seed)
    controls = tuple(size * rng.standard_normal(length) for length in problem.block_lengths)
    states = problem.rollout(controls).states
    moved = tuple(x + 0.3 * rng.standard_normal(x.shape) for x in states)
    return controls, (moved if problem.has_free_start else (problem.x, *moved[1:]))
