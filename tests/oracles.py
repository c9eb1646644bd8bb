"""Reference solutions of the least-squares subproblem in extended precision, sharing no code with the forms.

* :func:`dense_step`: the whole problem written out as one matrix and solved by Householder QR in ``longdouble``.
* :func:`refined_step`: for sizes where that matrix is out of reach, iterative refinement of any form's step on the
  optimality conditions evaluated in ``longdouble``.
* :func:`optimality_residuals`: those conditions, from their definition.
* :func:`dense_solution`: states and multipliers too, from the one matrix.
* :func:`reduced_inverse`: the inverse of the normal matrix in the controls.

Also :func:`second_derivative`, how a layer bends along a direction, by CasADi.

The numbers A, B, c, r are data: both references take them as exact.
"""

from __future__ import annotations

import casadi as ca
import numpy as np
from subproblems import changed

from ocp_nn import forward_dp
from ocp_nn.network.linear_stages import DenseStage

LONG = np.longdouble


def jacobians(stage):
    """A (N, n', n) and B (N, n', P) of a stage in extended precision."""
    if not isinstance(stage, DenseStage):
        return stage.A.astype(LONG), stage.B.astype(LONG)
    slope, weight, x = stage.slope.astype(LONG), stage.weight.astype(LONG), stage.x.astype(LONG)
    a = slope[:, :, None] * weight
    if stage.layer.residual:
        a += np.eye(stage.num_inputs)
    inputs = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    units = np.eye(stage.num_outputs)
    b = slope[:, :, None, None] * inputs[:, None, :, None] * units[:, None, :]
    return a, b.reshape(len(x), stage.num_outputs, -1)


def least_squares_rows(sub):
    """(M, b, num_controls) with the subproblem = min 1/2 ||M z + b||^2, z stacking du, then the weighted slacks.

    The slack e of a finite penalty is the variable, dx_{k+1} = A dx_k + B du + c_k - e / sqrt(beta_k) is substituted,
    and so is dx_0 = g_0 - e / sqrt(alpha): the same problem, and well scaled for any beta.
    """
    samples = sub.num_samples
    weights = [(sub.initial_weight, sub.num_inputs)] + [
        (beta, stage.num_outputs) for beta, stage in zip(sub.penalty, sub.dynamics, strict=True)
    ]
    columns = sub.num_controls + samples * sum(width for beta, width in weights if np.isfinite(beta))
    starts = np.cumsum([0, *(len(u) for u in sub.controls)])
    rows, node = [], sub.num_controls

    def slacked(state, beta):
        nonlocal node
        if not np.isfinite(beta):
            return state
        size = state.shape[0] * state.shape[1]
        slack = np.zeros((size, columns + 1), LONG)
        slack[:, node : node + size] = np.eye(size)
        rows.append(slack)
        node += size
        return state - slack.reshape(state.shape) / np.sqrt(LONG(beta))

    def after(stage, state, block, constant):
        a, b = jacobians(stage)
        state = a @ state
        state[:, :, starts[block] : starts[block + 1]] += b
        state[:, :, -1] += constant
        return state

    state = np.zeros((samples, sub.num_inputs, columns + 1), LONG)  # affine in z; last column: constant
    if sub.initial_gap is not None:
        state[:, :, -1] = sub.initial_gap
    state, outputs = slacked(state, sub.initial_weight), []
    for k in range(len(sub.dynamics) + 1):
        outputs += [after(t.output, state, t.block, t.residual) for t in sub.terms if t.stage == k]
        if k < len(sub.dynamics):
            state = slacked(after(sub.dynamics[k], state, sub.blocks[k], sub.gaps[k]), sub.penalty[k])
    effort = np.zeros((2, sub.num_controls, columns + 1), LONG)
    decay = np.concatenate([np.full(len(u), LONG(rho)) for u, rho in zip(sub.controls, sub.decays, strict=True)])
    for weight, block in zip((decay, np.full_like(decay, sub.damping)), effort, strict=True):
        block[:, : sub.num_controls] = np.diag(np.sqrt(weight))
    effort[0, :, -1] = np.sqrt(decay) * np.concatenate(sub.controls)
    table = np.vstack([*(output.reshape(-1, columns + 1) for output in outputs), *rows, *effort])
    return table[:, :-1], table[:, -1], sub.num_controls


def householder_least_squares(matrix, right):
    """argmin ||matrix z - right|| by Householder QR with heavy rows first."""
    order = np.argsort(-np.abs(matrix).max(axis=1))
    r, t = matrix[order].copy(), right[order].copy()
    columns = r.shape[1]
    for j in range(columns):
        v = r[j:, j].copy()
        v[0] += np.copysign(np.sqrt(v @ v), v[0])
        v /= np.sqrt(v @ v)
        r[j:, j:] -= 2 * v[:, None] * (v @ r[j:, j:])
        t[j:] -= 2 * v * (v @ t[j:])
    z = np.zeros(columns, r.dtype)
    for j in reversed(range(columns)):
        z[j] = (t[j] - r[j, j + 1 : columns] @ z[j + 1 :]) / r[j, j]
    return z


def dense_step(sub):
    """du of the subproblem, all stages stacked, in extended precision."""
    matrix, constant, num_controls = least_squares_rows(sub)
    return householder_least_squares(matrix, -constant)[:num_controls]


def reduced_inverse(sub):
    """(rho + mu + J' Sigma^-1 J)^-1: the block in du of the inverse normal matrix of the whole problem."""
    matrix, _, num_controls = least_squares_rows(sub)
    return np.linalg.inv((matrix.T @ matrix).astype(float))[:num_controls, :num_controls]


def dense_solution(sub):
    """(du, dx, multipliers) of the subproblem from its definition: as in :class:`Step`."""
    matrix, constant, num_controls = least_squares_rows(sub)
    z = householder_least_squares(matrix, -constant)
    du = np.split(z[:num_controls], np.cumsum([len(u) for u in sub.controls])[:-1])
    dx = np.zeros((sub.num_samples, sub.num_inputs), LONG) + (0 if sub.initial_gap is None else sub.initial_gap)
    start, slacks, states, theta = num_controls, [], [], []

    def slacked(value, beta):
        nonlocal start
        if not np.isfinite(beta):
            slacks.append(None)
            return value
        slack = z[start : start + value.size].reshape(value.shape)
        start += value.size
        slacks.append(np.sqrt(LONG(beta)) * slack)
        return value - slack / np.sqrt(LONG(beta))

    def after(stage, state, block):
        a, b = jacobians(stage)
        return np.einsum("iab,ib->ia", a, state) + b @ du[block]

    states.append(slacked(dx, sub.initial_weight))
    for k in range(len(sub.dynamics) + 1):
        theta += [after(t.output, states[k], t.block) + t.residual for t in sub.terms if t.stage == k]
        if k < len(sub.dynamics):
            following = after(sub.dynamics[k], states[k], sub.blocks[k]) + sub.gaps[k]
            states.append(slacked(following, sub.penalty[k]))
    etas = [np.concatenate(theta, axis=1)]
    for k in range(len(sub.dynamics), 0, -1):
        if slacks[k] is not None:
            etas.append(slacks[k])
            continue
        pulled = [jacobians(t.output)[0] for t in sub.terms if t.stage == k]
        rows = [th for t, th in zip(sub.terms, theta, strict=True) if t.stage == k]
        if k < len(sub.dynamics):
            pulled.append(jacobians(sub.dynamics[k])[0])
            rows.append(etas[-1])
        etas.append(sum(np.einsum("iab,ia->ib", a, th) for a, th in zip(pulled, rows, strict=True)))
    return tuple(tuple(array.astype(float) for array in part) for part in (du, states, etas[::-1]))


def second_derivative(layer, x, u, dx, du):
    """d^2/dt^2 f(x + t dx, u + t du) at t = 0, sample by sample, by CasADi from the layer's definition."""
    t, dx_, du_ = ca.MX.sym("t"), ca.MX.sym("dx", x.shape[1]), ca.MX.sym("du", len(u))
    x_, u_ = ca.MX.sym("x", x.shape[1]), ca.MX.sym("u", len(u))
    value = layer.function(x_ + t * dx_, u_ + t * du_)
    bend = ca.jacobian(ca.jacobian(value, t), t)
    function = ca.Function("bend", [x_, u_, dx_, du_], [ca.substitute(bend, t, 0)])
    return np.array([function(row, u, change, du) for row, change in zip(x, dx, strict=True)])[:, :, 0]


class ExtendedStage:
    """Products of a dense stage in extended precision, without its Jacobians."""

    def __init__(self, stage):
        self.x, self.slope, self.weight = (np.asarray(a, LONG) for a in (stage.x, stage.slope, stage.weight))
        self.residual = stage.layer.residual

    def apply(self, dx, du):
        table = du.reshape(self.x.shape[1] + 1, -1)
        da = self.x @ table[:-1] + table[-1]
        if dx is None:
            return self.slope * da
        return self.slope * (da + dx @ self.weight.T) + (dx if self.residual else 0)

    def transpose_state(self, eta):
        return (eta * self.slope) @ self.weight + (eta if self.residual else 0)

    def transpose_control(self, eta):
        g = eta * self.slope
        return np.vstack([self.x.T @ g, g.sum(axis=0)]).ravel()


def reduced_residuals(sub, stages, du, eta):
    """Residuals of the output equation, (N, m), and of stationarity in every du_k; states and costates are exact."""
    etas = [eta]
    for stage in reversed(stages[1:]):
        etas.insert(0, stage.transpose_state(etas[0]))
    stationarity = [
        sub.weight_decay * u + sub.ridge * d + stage.transpose_control(e)
        for stage, u, d, e in zip(stages, sub.controls, du, etas, strict=True)
    ]
    dx = None
    for k, (stage, d) in enumerate(zip(stages, du, strict=True)):
        dx = stage.apply(dx, d) + (sub.gaps[k] if k < len(sub.gaps) else sub.residual)
        if k < len(sub.gaps):
            dx = dx - etas[k] / LONG(sub.penalty[k])
    return dx - eta, stationarity


def refined_step(sub, form="auto", rounds=4):
    """du of a subproblem of dense stages, all stages stacked, to extended precision; needs weight_decay > 0."""
    step = forward_dp.solve(sub, form)
    stages = [ExtendedStage(stage) for stage in sub.stages]
    du, eta = [LONG(d) for d in step.controls], LONG(step.multipliers[-1])
    gaps = tuple(np.zeros_like(gap) for gap in sub.gaps)
    for _ in range(rounds):
        output, stationarity = reduced_residuals(sub, stages, du, eta)
        controls = tuple((g / sub.weight_decay).astype(float) for g in stationarity)
        correction = changed(sub, controls=controls, gaps=gaps, residual=output.astype(float))
        more = forward_dp.solve(correction, form)
        du = [d + e for d, e in zip(du, more.controls, strict=True)]
        eta = eta + more.multipliers[-1]
    return np.concatenate(du)


def optimality_residuals(sub, step):
    """Largest violation, relative to its terms, of each optimality condition of the subproblem, from its definition."""
    etas, du, dx = step.multipliers, step.controls, step.states
    worst = {"costate": 0.0, "control": 0.0, "slack": 0.0, "output": 0.0}

    def record(name, *terms):
        scale = max(np.abs(term).max(initial=0.0) for term in terms)
        worst[name] = max(worst[name], float(np.abs(sum(terms)).max(initial=0.0) / scale) if scale else 0.0)

    for k, stage in enumerate(sub.stages):
        a, b = jacobians(stage)
        record("control", sub.weight_decay * sub.controls[k], sub.ridge * du[k], np.einsum("iap,ia->p", b, etas[k]))
        forward = [np.einsum("iab,ib->ia", a, dx[k]), b @ du[k]]
        if k == len(sub.stages) - 1:
            record("output", *forward, sub.residual, -etas[k])
        else:
            record("slack", *forward, sub.gaps[k], -dx[k + 1], -etas[k] / sub.penalty[k])
        if k > 0:
            record("costate", np.einsum("iab,ia->ib", a, etas[k]), -etas[k - 1])
    return worst
