"""jax-sysid (A. Bemporad) on the same objective: Adam for 2,000 epochs, then L-BFGS-B for 10,000 (Bemporad 2024).

The same model, written in JAX, from the same parameters and x_0; its loss is ours times 2/T, weight decay and prior of
x_0 included.  It is a peer for records of one length with inputs, and for the model of the suite: a linear part, one
hidden layer of tanh units, a linear output.  Needs the package jax-sysid, which is not installed with the others.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

import ocp_nn

__all__ = ["JAX_SYSID", "fitted", "is_there"]

JAX_SYSID = "jax-sysid"

ADAM, LBFGS = 2_000, 10_000


def is_there() -> bool:
    """Whether the package is installed."""
    return importlib.util.find_spec("jax_sysid") is not None


def fitted(
    problem: ocp_nn.IdentificationProblem,
    theta: np.ndarray,
    initial: np.ndarray,
    *,
    adam: int = ADAM,
    lbfgs: int = LBFGS,
) -> tuple[np.ndarray, np.ndarray]:
    """Parameters and x_0 (N, n) that it finds in so many epochs.

    Raises
    ------
    ValueError
        For records of different length, without inputs, or another model.
    """
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp
    from jax_sysid.models import Model

    model, form = problem.model, problem.model.architecture
    one_length = len({*problem.records.lengths}) == 1
    if not one_length or not model.num_inputs or form is None or len(form.hidden_layer_sizes) != 1:
        raise ValueError("jax-sysid is a peer for records of one length with inputs, and one hidden layer")
    parts = form.split(theta.copy())
    names = list(parts)

    def dynamics(x: Any, u: Any, params: Any) -> Any:
        p = dict(zip(names, params, strict=True))
        hidden = jnp.tanh(p["W1"] @ jnp.concatenate([x, u]) + p["b1"][:, 0])
        return p["A"] @ x + p["B"] @ u + p["b"][:, 0] + p["W2"] @ hidden

    def output(x: Any, u: Any, params: Any) -> Any:
        p = dict(zip(names, params, strict=True))
        return p["C"] @ x + p["d"][:, 0]

    peer = Model(model.num_states, model.num_outputs, model.num_inputs, state_fcn=dynamics, output_fcn=output)
    peer.init(params=[np.array(parts[name]) for name in names], x0=list(initial))
    steps = problem.num_stages
    peer.loss(rho_x0=problem.initial_weight / steps, rho_th=problem.weight_decay / steps)
    peer.optimization(adam_eta=1e-3, adam_epochs=adam, lbfgs_epochs=lbfgs, iprint=-1)
    records = range(problem.num_samples)
    peer.fit([problem.y[:, i] for i in records], [problem.v[:, i] for i in records])
    found = np.concatenate([np.asarray(part, dtype=float).ravel(order="F") for part in peer.params])
    return found, np.asarray(peer.x0, dtype=float).reshape(len(initial), -1)
