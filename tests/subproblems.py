"""Least-squares subproblems for tests: random points, gaps and residuals around small networks."""

from __future__ import annotations

from dataclasses import replace

import casadi as ca
import numpy as np

from ocp_nn import Network, Symbolic, TrainingProblem
from ocp_nn.forward_dp import Subproblem

INF = float("inf")


def subproblem(network, samples, penalty=1.0, *, weight_decay=1e-3, damping=0.0, x=None, seed=0):
    """The subproblem of a network at random states near its rollout, with random gaps and residual.

    ``penalty`` is one number for all nodes or one a node; ``x`` replaces the random inputs.
    """
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((samples, network.num_inputs)) if x is None else x
    problem = TrainingProblem(network, x, rng.standard_normal((samples, network.num_outputs)), weight_decay)
    rollout = problem.rollout(network.init_controls(seed))
    states = (x, *(s + 0.1 * rng.standard_normal(s.shape) for s in rollout.states[1:]))
    outputs = problem.evaluate(rollout.controls, states)
    stages = problem.linearize(type(rollout)(rollout.controls, states), outputs)
    nodes = len(stages) - 1
    return Subproblem.of_network(
        stages=stages,
        controls=rollout.controls,
        gaps=tuple(rng.standard_normal(f.shape) for f in outputs[:-1]),
        residual=outputs[-1] - problem.y,
        penalty=tuple(np.broadcast_to(penalty, nodes).tolist()),
        weight_decay=weight_decay,
        damping=damping,
    )


def changed(sub, *, stages=None, residual=None, **others):
    """A network's subproblem with other stages (the last one is the term) or another residual."""
    stages = sub.stages if stages is None else stages
    (term,) = sub.terms
    term = replace(term, output=stages[-1], residual=term.residual if residual is None else residual)
    return replace(sub, dynamics=tuple(stages[:-1]), terms=(term,), **others)


def as_symbolic(network):
    """The same network with every layer hidden behind its CasADi function."""
    return Network([Symbolic(layer.function) for layer in network.layers])


def two_layers_in_one_stage(n_in, hidden, n_out):
    """tanh(V tanh(W x + b) + c) as one stage, its control stacking both layers."""
    x, u = ca.SX.sym("x", n_in), ca.SX.sym("u", hidden * (n_in + 1) + n_out * (hidden + 1))
    first = ca.reshape(u[: hidden * (n_in + 1)], hidden, n_in + 1)
    second = ca.reshape(u[hidden * (n_in + 1) :], n_out, hidden + 1)
    inner = ca.tanh(first @ ca.vertcat(x, 1))
    return ca.Function("two_layers", [x, u], [ca.tanh(second @ ca.vertcat(inner, 1))])


def residual_block(width):
    """x + V softplus(W x)."""
    x, u = ca.SX.sym("x", width), ca.SX.sym("u", 2 * width**2)
    w, v = ca.reshape(u[: width**2], width, width), ca.reshape(u[width**2 :], width, width)
    return ca.Function("residual_block", [x, u], [x + v @ ca.log1p(ca.exp(w @ x))])


def neural_ode_step(width, step=0.3):
    """One step of the classical Runge-Kutta method for x' = tanh(W x + b)."""
    x, u = ca.SX.sym("x", width), ca.SX.sym("u", width * (width + 1))
    table = ca.reshape(u, width, width + 1)

    def rate(z):
        return ca.tanh(table @ ca.vertcat(z, 1))

    k1 = rate(x)
    k2 = rate(x + step / 2 * k1)
    k3 = rate(x + step / 2 * k2)
    k4 = rate(x + step * k3)
    return ca.Function("rk4", [x, u], [x + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)])


def normalisation(width):
    """(x - mean) / std of the units of a sample, times one control a unit, plus another."""
    x, u = ca.SX.sym("x", width), ca.SX.sym("u", 2 * width)
    centred = x - ca.sum1(x) / width
    scaled = centred / ca.sqrt(ca.sumsqr(centred) / width + 1e-3)
    return ca.Function("normalisation", [x, u], [u[:width] * scaled + u[width:]])


GENERIC = {
    "two dense layers in one stage": Network([two_layers_in_one_stage(2, 3, 4), *Network.mlp([4, 2]).layers]),
    "residual block": Network([*Network.mlp([2, 3, 3]).layers, residual_block(3), *Network.mlp([3, 1]).layers]),
    "neural ODE": Network([neural_ode_step(2), neural_ode_step(2), *Network.mlp([2, 1]).layers]),
    "normalisation": Network([*Network.mlp([2, 4, 4]).layers, normalisation(4), *Network.mlp([4, 3, 1]).layers]),
    "generic output stage": Network([*Network.mlp([2, 3, 3]).layers, two_layers_in_one_stage(3, 2, 2)]),
}

DENSE = {
    "tanh, several outputs": Network.mlp([2, 3, 4, 2]),
    "sigmoid with skip connections": Network.mlp([1, 4, 4, 4, 1], "sigmoid", residual=True),
    "relu": Network.mlp([3, 5, 5, 1], "relu"),
    "softplus": Network.mlp([2, 4, 3], "softplus"),
    "one stage": Network.mlp([3, 2]),
}
