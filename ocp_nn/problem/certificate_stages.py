"""The problem once more, for the certificate alone: layers, rollout and adjoint recursion, from the definition.

Layers are written out from W, b and the formulas of the activations (their slopes as functions of the pre-activation,
where training uses the value); stages that are CasADi functions are called as such.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ..network.layers import Dense
from .certificate_losses import WrittenLoss
from .optimal_control import OptimalControlProblem

__all__ = ["WrittenProblem"]

Array = NDArray[np.float64]


class WrittenProblem:
    """Values and derivatives of a problem by recursions of their own.  Rows are the stages and then the terms."""

    def __init__(self, problem: OptimalControlProblem) -> None:
        self.problem = problem
        maps: dict[Any, ca.Function] = {}
        self._inner = len(problem.dynamics)
        self._rows = [WrittenStage(row.layer, maps) for row in problem.rows]
        self._blocks = [row.block for row in problem.rows]
        self._at = [*range(self._inner), *(term.stage for term in problem.terms)]
        self._losses = [WrittenLoss(term.data) for term in problem.terms]

    def rollout(self, controls: Sequence[Array], initial: Array) -> list[Array]:
        """x_0..x_{K-1} from ``initial``."""
        states = [initial]
        for row, block in zip(self._rows[: self._inner], self._blocks, strict=False):
            states.append(row.value(states[-1], controls[block]))
        return states

    def values(self, controls: Sequence[Array], states: Sequence[Array]) -> tuple[list[Array], list[Array]]:
        """The outputs of the stages, and those of the terms."""
        points = zip(self._rows, self._at, self._blocks, strict=True)
        outputs = [row.value(states[k], controls[block]) for row, k, block in points]
        return outputs[: self._inner], outputs[self._inner :]

    def objective(self, controls: Sequence[Array], initial: Array, outputs: Sequence[Array]) -> float:
        """J, given the outputs of the terms."""
        total = sum(loss.value(z) for loss, z in zip(self._losses, outputs, strict=True))
        total += 0.5 * sum(rho * float(np.sum(u**2)) for rho, u in zip(self.problem.decays, controls, strict=True))
        if self.problem.has_free_start:
            total += 0.5 * self.problem.initial_weight * float(np.sum((initial - self.problem.x) ** 2))
        return total

    def gradients(self, outputs: Sequence[Array]) -> list[Array]:
        """Of every term in its output."""
        return [loss.gradient(z) for loss, z in zip(self._losses, outputs, strict=True)]

    def pull(
        self, controls: Sequence[Array], states: Sequence[Array], costates: Sequence[Array]
    ) -> tuple[list[Array], list[Array]]:
        """What given costates of all rows say: of every state, x_0 first, and of every control block."""
        in_states = [np.zeros_like(x) for x in states]
        in_controls = [rho * u for rho, u in zip(self.problem.decays, controls, strict=True)]
        for row, k, block, costate in zip(self._rows, self._at, self._blocks, costates, strict=True):
            back, gradient = row.pull(states[k], controls[block], costate)
            in_states[k] = in_states[k] + back
            in_controls[block] = in_controls[block] + gradient
        return in_states, in_controls

    def adjoints(self, controls: Sequence[Array], states: Sequence[Array], gradients: Sequence[Array]) -> list[Array]:
        """lambda_0..lambda_{K-1} by the adjoint recursion, given the terms' gradients."""
        costates = [np.zeros_like(x) for x in states]
        for row, k, block, gradient in zip(
            self._rows[self._inner :], self._at[self._inner :], self._blocks[self._inner :], gradients, strict=True
        ):
            costates[k] = costates[k] + row.pull(states[k], controls[block], gradient)[0]
        for k in range(self._inner - 1, -1, -1):
            costates[k] = costates[k] + self._rows[k].pull(states[k], controls[self._blocks[k]], costates[k + 1])[0]
        return costates

    def initial_pull(self, initial: Array) -> Array:
        """The gradient of the prior in a free x_0."""
        return np.asarray(self.problem.initial_weight * (initial - self.problem.x))


def _sigmoid(a: Array) -> Array:
    small = np.exp(-np.abs(a))
    return np.where(a >= 0, 1.0, small) / (1.0 + small)


# phi and phi' of the pre-activation, from the textbook.
_FORMULAS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "tanh": (np.tanh, lambda a: 1.0 / np.cosh(np.clip(a, -300, 300)) ** 2),
    "sigmoid": (_sigmoid, lambda a: _sigmoid(a) * _sigmoid(-a)),
    "relu": (lambda a: np.where(a > 0, a, np.where(a <= 0, 0.0, a)), lambda a: np.where(a > 0, 1.0, 0.0)),
    "softplus": (lambda a: np.maximum(a, 0) + np.log1p(np.exp(-np.abs(a))), _sigmoid),
    "identity": (lambda a: a, np.ones_like),
}


class WrittenStage:
    """One layer, written out again: its value, and A' eta and B' eta.

    ``maps`` keeps what was made of CasADi functions: stages over time are often the same one.
    """

    def __init__(self, layer: Any, maps: dict[Any, ca.Function]) -> None:
        self._layer, self._maps = layer, maps
        self._exogenous = [layer.v.T] if hasattr(layer, "v") else []

    def value(self, x: Array, u: Array) -> Array:
        if not isinstance(self._layer, Dense):
            mapped = self._mapped("value", len(x), lambda f: f)
            return np.array(mapped(x.T, u, *self._exogenous).full()).T
        y = _FORMULAS[self._layer.activation][0](self._preactivation(x, u))
        return y + x if self._layer.residual else y

    def _mapped(self, what: str, samples: int, make: Callable[[ca.Function], ca.Function]) -> ca.Function:
        """A CasADi function of one sample for all of them, columns being samples; u is the same for all."""
        key = what, self._layer.function.__hash__(), samples
        if key not in self._maps:
            self._maps[key] = make(self._layer.function).map("mapped", "serial", samples, [1], [])
        return self._maps[key]

    def _preactivation(self, x: Array, u: Array) -> Array:
        n, m = x.shape[1], len(u) // (x.shape[1] + 1)
        weight, bias = u[: n * m].reshape(n, m), u[n * m :]  # vec(W), then b
        return x @ weight + bias

    def pull(self, x: Array, u: Array, eta: Array) -> tuple[Array, Array]:
        """A' eta for every sample, (N, n), and B' eta summed over samples, (P,)."""
        if not isinstance(self._layer, Dense):
            return self._pull_symbolic(x, u, eta)
        g = eta * _FORMULAS[self._layer.activation][1](self._preactivation(x, u))
        n, m = x.shape[1], eta.shape[1]
        back = g @ u[: n * m].reshape(n, m).T
        return (back + eta if self._layer.residual else back), np.concatenate([(x.T @ g).ravel(), g.sum(axis=0)])

    def _pull_symbolic(self, x: Array, u: Array, eta: Array) -> tuple[Array, Array]:
        mapped = self._mapped("pull", len(x), _pull)
        back, gradients = mapped.call([x.T, u, eta.T, *self._exogenous])
        return np.array(back.full()).T, np.array(ca.sum2(gradients).full())[:, 0]


def _pull(f: ca.Function) -> ca.Function:
    x, u, *v = (ca.MX.sym(name, f.numel_in(i)) for i, name in enumerate(("x", "u", "v")[: f.n_in()]))
    eta = ca.MX.sym("eta", f.numel_out(0))
    return ca.Function("pull", [x, u, eta, *v], [ca.jtimes(f(x, u, *v), w, eta, True) for w in (x, u)])
