"""Monotone at points: the derivatives of the outputs are states, too.

With t_k = dx_k/dx_0 e_j, the tangent of input j, the dynamics of a network and of its derivative are one system,

    x_{k+1} = f_k(x_k, u_k),     t_{k+1} = (df_k/dx)(x_k, u_k) t_k,     t_0 = e_j,

with the same controls.  So s_j t_K >= 0, that outputs rise or fall in input j, is a constraint on a state, asked for at
every sample: at the data and at points that are none.  Weights may have either sign, which bounds on weights
(:func:`.ready_made.monotone`) forbid, but between the points nothing is promised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import casadi as ca
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...base import checks
from ...network.layers import Layer, Symbolic
from ...network.model import Model
from ..optimal_control import OptimalControlProblem
from ..structure import Stage, Term
from ..training import TRAINING_PROBLEM, TrainingProblem
from .constrained_problem import ConstrainedProblem
from .output_constraint import OutputConstraint
from .ready_made import at_points, checked_signs

__all__ = ["TangentProblem", "monotone_at_points"]

Array = NDArray[np.float64]


class TangentProblem(OptimalControlProblem):
    """A training problem whose states carry the tangents of some inputs: [x_k; t_k; ...].

    Parameters
    ----------
    training : TrainingProblem
    inputs : sequence of int
        j.

    Attributes
    ----------
    training : TrainingProblem
    inputs : tuple of int
    """

    def __init__(self, training: TrainingProblem, inputs: Sequence[int]) -> None:
        checks.check("training", training, TRAINING_PROBLEM)
        self.training, self.inputs = training, tuple(inputs)
        samples, width = training.x.shape
        tangents = np.zeros((samples, len(self.inputs), width))
        tangents[:, np.arange(len(self.inputs)), list(self.inputs)] = 1.0
        x = np.column_stack([training.x, tangents.reshape(samples, -1)])
        dynamics = [Stage(_with_tangents(s.layer, len(self.inputs)), s.block) for s in training.dynamics]
        (term,) = training.terms
        output = Symbolic(_value(term.layer, len(self.inputs)))
        terms = [Term.of_data(term.stage, output, term.block, training.data)]
        self._set(dynamics, terms, x, training.weight_decay, np.inf, training.block_lengths)

    def __repr__(self) -> str:
        return f"TangentProblem({self.training!r}, inputs {', '.join(map(str, self.inputs))})"

    @property
    def null_objective(self) -> float:
        return self.training.null_objective

    def init_controls(self, seed: int = 0) -> tuple[Array, ...]:
        return self.training.init_controls(seed)

    def trained_model(self, controls: Sequence[Array]) -> Model:
        return self.training.trained_model(controls)

    def slopes(self) -> ca.Function:
        """(x, u) -> the outputs' derivatives in each of the inputs, one below the other, from the last state."""
        (term,) = self.training.terms
        return _slopes(term.layer, len(self.inputs))


def monotone_at_points(
    problem: TrainingProblem, signs: Sequence[int] | Mapping[int, int], points: ArrayLike | None = None
) -> ConstrainedProblem:
    """The problem with every output rising (1) or falling (-1) in some inputs, at its samples and at more points.

    Parameters
    ----------
    problem : TrainingProblem
    signs : sequence of int, one an input, or {input: sign}
    points : array_like (M, inputs), optional

    Raises
    ------
    ValueError
        For signs that are none, or points that do not fit.
    """
    checks.check("problem", problem, TRAINING_PROBLEM)
    wanted = checked_signs(signs, problem.network.num_inputs)
    inputs = np.flatnonzero(wanted).tolist()
    tangents = TangentProblem(problem if points is None else at_points(problem, points), inputs)
    rising = np.repeat(wanted[inputs] > 0, problem.network.num_outputs)
    last = tangents.terms[0]
    slopes = OutputConstraint(
        tangents.slopes(),
        lower=np.where(rising, 0.0, -np.inf),
        upper=np.where(rising, np.inf, 0.0),
        stages=last.stage,
        block=last.block,
        name="monotone at points",
    )
    return ConstrainedProblem(tangents, [slopes])


def _moved(layer: Layer, tangents: int) -> tuple[ca.MX, ca.MX, ca.MX, list[ca.MX]]:
    """State and control, the value, and df/dx t of every tangent."""
    width = layer.num_inputs
    state, u = ca.MX.sym("x", width * (1 + tangents)), ca.MX.sym("u", layer.num_controls)
    first, *parts = ca.vertsplit(state, width)
    x, t = ca.MX.sym("x", width), ca.MX.sym("t", width)
    along = ca.Function("along", [x, u, t], [ca.jtimes(layer.function(x, u), x, t)])
    return state, u, layer.function(first, u), [along(first, u, part) for part in parts]


def _with_tangents(layer: Layer, tangents: int) -> ca.Function:
    state, u, value, moved = _moved(layer, tangents)
    return _expanded(ca.Function("with_tangents", [state, u], [ca.vertcat(value, *moved)]))


def _value(layer: Layer, tangents: int) -> ca.Function:
    state, u, value, _ = _moved(layer, tangents)
    return _expanded(ca.Function("value", [state, u], [value]))


def _slopes(layer: Layer, tangents: int) -> ca.Function:
    state, u, _, moved = _moved(layer, tangents)
    return _expanded(ca.Function("slopes", [state, u], [ca.vertcat(*moved)]))


def _expanded(function: ca.Function) -> ca.Function:
    """In scalar operations, which are many times faster; as it is where a stage of one's own has none."""
    try:
        return function.expand()
    except RuntimeError:
        return function
