"""Programs of optimal control problems by CasADi, and written out by hand, for the tests of transcriptions."""

import casadi as ca
import numpy as np
from control_problems import random_point

from ocp_nn import Dense, OptimalControlProblem, Stage, Term, Trajectory, transcribe


def anywhere(problem, seed=1):
    """A point that satisfies nothing, with multipliers."""
    controls, states = random_point(problem, seed)
    rng = np.random.default_rng(seed + 1)
    return Trajectory(controls, states, tuple(rng.standard_normal(x.shape) for x in states))


def vector(parts):
    return np.concatenate([np.zeros(0), *(np.ravel(part) for part in parts)])


def casadis(nlp, sigma, point):
    """Objective, constraints, their derivatives, and the Hessian of the Lagrangian: all by CasADi from the program."""
    x, f, g = (nlp.problem[key] for key in ("x", "f", "g"))
    lam = ca.MX.sym("lam", nlp.num_constraints)
    outputs = [f, g, ca.gradient(f, x), ca.jacobian(g, x), ca.hessian(sigma * f + ca.dot(lam, g), x)[0]]
    values = ca.Function("all", [x, lam], outputs)(point["x0"], point["lam_g0"])
    return [np.array(value.full()) for value in values]


def written_out(problem, nodes):
    """The program once more, sample by sample and without batches, in SX; and its variables."""
    variables = transcribe(problem, nodes).variables
    at_node = {block.stage for block in variables if block.kind == "state"}
    x = ca.SX.sym("x", variables[-1].stop)
    parts = {(block.kind, block.stage): x[block.start : block.stop] for block in variables}
    controls = [parts["control", b] for b in range(len(problem.block_lengths))]
    objective = sum(rho / 2 * ca.sumsqr(u) for rho, u in zip(problem.decays, controls, strict=True))
    states, constraints = {}, []

    def called(row, state, i):
        v = [ca.DM(row.layer.v[i])] if hasattr(row.layer, "v") else []
        return row.layer.function(state, controls[row.block], *v)

    for k, width in enumerate(problem.widths):
        for i in range(problem.num_samples):
            variable = parts["state", k][i * width : (i + 1) * width] if k in at_node else None
            value = ca.DM(problem.x[i]) if k == 0 else called(problem.dynamics[k - 1], states[k - 1, i], i)
            states[k, i] = value if variable is None else variable
            if k and variable is not None:
                constraints.append(value - variable)
            if k == 0 and problem.has_free_start:
                objective += problem.initial_weight / 2 * ca.sumsqr(variable - value)
    for term in problem.terms:
        for i in range(problem.num_samples):
            objective += term_value(term.data, called(term, states[term.stage, i], i), i)
    return x, objective, ca.vertcat(ca.SX(0, 1), *constraints)


def term_value(data, z, i):
    if data.weights is not None and data.weights.ndim == 2:
        return ca.dot(ca.DM(data.weights[i]), (z - ca.DM(data.y[i])) ** 2) / 2
    return (1.0 if data.weights is None else data.weights[i]) * data.loss.symbolic(z, ca.DM(data.y[i]))


def over_time(steps, hidden=8, width=2):
    """One block for everything over a long horizon."""
    x, v = ca.SX.sym("x", width), ca.SX.sym("v", 1)
    inner, last = Dense(width + 1, hidden, "tanh"), Dense(hidden, width, "identity")
    out = Dense(width, 1, "identity")
    cuts = np.cumsum([0, inner.num_controls, last.num_controls, out.num_controls]).tolist()
    u = ca.SX.sym("u", cuts[-1])
    parts = ca.vertsplit(u, cuts)
    f = ca.Function("f", [x, u, v], [0.9 * x + last.function(inner.function(ca.vertcat(x, v), parts[0]), parts[1])])
    h = ca.Function("h", [x, u], [out.function(x, parts[2])])
    rng = np.random.default_rng(0)
    inputs, targets = rng.standard_normal((steps, 1, 1)), rng.standard_normal((steps + 1, 1, 1))
    return OptimalControlProblem(
        [Stage(f, exogenous=inputs[k]) for k in range(steps)],
        [Term(k, h, targets[k]) for k in range(steps + 1)],
        np.zeros((1, width)),
        weight_decay=1e-2,
        initial_weight=1.0,
    )
