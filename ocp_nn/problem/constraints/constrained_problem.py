"""The optimal control problem with constraints, and two problems without that stand for it.

    minimise    J(u, x) + sum_j h_j(u)
    subject to  x_{k+1} = f_k(x_k, u_c(k)),     l_j <= c_j(x_k, u_b) <= u_j

where J is that of any problem here, c_j are :class:`.OutputConstraint` and h_j are bounds on controls and sparsity
(:mod:`.control_sets`).  With multipliers m_j of both kinds the Lagrangian is

    L = J + sum_k <lambda_{k+1}, d_k> + sum_j <m_j, c_j> + <m_j, u>

* :meth:`ConstrainedProblem.augmented` is the problem in which every constraint is its Moreau envelope for multipliers
  and penalties: what the augmented-Lagrangian loop minimises;
* :meth:`ConstrainedProblem.priced` is the problem in which every constraint is its price: whose stationary points, with
  the right multipliers, are those of L.

Both are ordinary problems, with the constraints for terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...base import checks
from ...network.model import Model
from ..data_term import DataTerm
from ..losses import Loss
from ..optimal_control import PROBLEM, OptimalControlProblem
from ..structure import Structure, Term
from ..trajectory import Trajectory
from .control_sets import ControlBounds, ControlSet
from .envelope import Envelope, Price
from .output_constraint import OutputConstraint

__all__ = ["ConstrainedProblem", "Constraint"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]
Constraint = OutputConstraint | ControlSet

_CONSTRAINTS = checks.sequence(
    checks.instance((OutputConstraint, ControlSet), "a constraint"), "a sequence of constraints", least=1
)


class ConstrainedProblem(OptimalControlProblem):
    """A problem and its constraints.

    Parameters
    ----------
    problem : OptimalControlProblem
        Most often a :class:`ocp_nn.TrainingProblem`.
    constraints : sequence of OutputConstraint, ControlBounds, Lasso and GroupLasso

    Attributes
    ----------
    base : OptimalControlProblem
        The problem without them.
    constraints : tuple

    Raises
    ------
    ValueError
        For constraints that do not fit the problem's states, control blocks or samples.
    """

    def __init__(self, problem: OptimalControlProblem, constraints: Sequence[Constraint]) -> None:
        checks.check("problem", problem, PROBLEM)
        checks.check("constraints", constraints, _CONSTRAINTS)
        nested = isinstance(problem, ConstrainedProblem)
        self.base: OptimalControlProblem = problem.base if nested else problem  # type: ignore[attr-defined]
        earlier: tuple[Constraint, ...] = problem.constraints if nested else ()  # type: ignore[attr-defined]
        self.constraints: tuple[Constraint, ...] = (*earlier, *constraints)
        self._take(self.base)
        for constraint in self.constraints:
            if isinstance(constraint, OutputConstraint):
                constraint.check(self.widths, self.block_lengths, self.num_samples)
            else:
                constraint.check(self.num_controls)

    def _take(self, problem: OptimalControlProblem) -> None:
        terms, decay = problem.terms, problem.weight_decay
        self._set(problem.dynamics, terms, problem.x, decay, problem.initial_weight, problem.block_lengths)

    def __repr__(self) -> str:
        return f"ConstrainedProblem({self.base!r}, {', '.join(c.name for c in self.constraints)})"

    @property
    def null_objective(self) -> float:
        return self.base.null_objective

    def is_same_as(self, other: Structure) -> bool:
        """Whether the other problem is this very one, constraints included."""
        return (
            isinstance(other, ConstrainedProblem)
            and self.base.is_same_as(other.base)
            and self.constraints == other.constraints
        )

    def init_controls(self, seed: int = 0) -> Arrays:
        """Those of the problem, reflected to where bounds allow them."""
        return self.within_bounds(self.base.init_controls(seed), reflect=True)

    def within_bounds(self, controls: Sequence[Array], *, reflect: bool = False) -> Arrays:
        """Controls within all bounds: the nearest, or reflected at the bounds.

        Random weights that were moved to a bound of zero, into a unit and out of it, would leave the unit dead: their
        product has no slope there.
        """
        flat = np.concatenate(controls)
        for constraint in self.constraints:
            if isinstance(constraint, ControlBounds):
                at = constraint.indices(self.num_controls)
                near = constraint.prox(flat[at], 1.0)
                flat[at] = constraint.prox(2.0 * near - flat[at], 1.0) if reflect else near
        return self.split(flat)

    def trained_model(self, controls: Sequence[Array]) -> Model | None:
        return self.base.trained_model(controls)

    def decay_cost(self, controls: Sequence[Array]) -> float:
        """Weight decay and sparsity: what the controls cost by themselves."""
        flat = np.concatenate(controls)
        sets = [c for c in self.constraints if isinstance(c, ControlSet)]
        return super().decay_cost(controls) + sum(constraint.cost(constraint.of(flat)) for constraint in sets)

    def constraint_values(self, trajectory: Trajectory) -> Arrays:
        """c_j at the trajectory's own states, (stages, N, m), and the controls that control sets look at."""
        u, x, flat = trajectory.controls, trajectory.states, np.concatenate(trajectory.controls)
        return tuple(
            np.stack([layer.forward(x[k], u[c.block]) for k, layer in zip(c.stages, c.layers, strict=True)])
            if isinstance(c, OutputConstraint)
            else c.of(flat)
            for c in self.constraints
        )

    def zero_multipliers(self) -> Arrays:
        """Of every constraint, in the shapes of its values."""
        return tuple(
            np.zeros(c.shape(self.num_samples) if isinstance(c, OutputConstraint) else c.size(self.num_controls))
            for c in self.constraints
        )

    def check_multipliers(self, multipliers: Sequence[Array]) -> Arrays:
        """The multipliers of all constraints as arrays.

        Raises
        ------
        ValueError
            For other shapes.
        """
        expected = [m.shape for m in self.zero_multipliers()]
        arrays = tuple([checks.real_array(f"constraint_multipliers[{j}]", m) for j, m in enumerate(multipliers)])
        if [m.shape for m in arrays] != expected:
            raise ValueError(f"expected constraint multipliers of {expected}, received {[m.shape for m in arrays]}")
        return arrays

    def augmented(self, multipliers: Sequence[Array], penalties: Sequence[float]) -> OptimalControlProblem:
        """The problem with every constraint as its envelope."""
        return _Augmented(self, multipliers, penalties)

    def priced(self, multipliers: Sequence[Array]) -> OptimalControlProblem:
        """The problem with every output constraint as its price.  Prices of controls are for the caller to add."""
        losses = [Price()] * len(self.constraints)
        return _with_terms(self, _terms(self, losses, multipliers))

    def control_prices(self, multipliers: Sequence[Array]) -> Array:
        """What control sets add to the Lagrangian's gradient in all controls, (P,)."""
        total = np.zeros(self.num_controls)
        for constraint, multiplier in zip(self.constraints, multipliers, strict=True):
            if isinstance(constraint, ControlSet):
                total[slice(None) if constraint.entries is None else constraint.entries] += multiplier
        return total


@dataclass(frozen=True, eq=False)
class _Enveloped:
    """A control set with its multiplier and penalty."""

    of: ControlSet
    multiplier: Array
    penalty: float

    def shifted(self, flat: Array) -> Array:
        """v."""
        return self.of.of(flat) + self.multiplier / self.penalty

    def put(self, total: Array, values: Array) -> None:
        total[slice(None) if self.of.entries is None else self.of.entries] += values


class _Augmented(OptimalControlProblem):
    """The constraints as envelopes: those of outputs are terms, those of controls stand beside the weight decay."""

    # Nothing that a certificate is asked about: the constrained problem is.
    is_subproblem = True

    def __init__(self, problem: ConstrainedProblem, multipliers: Sequence[Array], penalties: Sequence[float]) -> None:
        losses = [
            Envelope(c.lower, c.upper, g) if isinstance(c, OutputConstraint) else None
            for c, g in zip(problem.constraints, penalties, strict=True)
        ]
        self._base = problem.base
        self._sets = [
            _Enveloped(c, m, g)
            for c, m, g in zip(problem.constraints, multipliers, penalties, strict=True)
            if isinstance(c, ControlSet)
        ]
        terms = _terms(problem, losses, multipliers)
        decay = problem.weight_decay
        self._set(problem.dynamics, terms, problem.x, decay, problem.initial_weight, problem.block_lengths)

    @property
    def null_objective(self) -> float:
        return self._base.null_objective

    @cached_property
    def scale(self) -> float:
        return self._base.scale

    @cached_property
    def multiplier_scale(self) -> float:
        return self._base.multiplier_scale

    def init_controls(self, seed: int = 0) -> Arrays:
        return self._base.init_controls(seed)

    def decay_cost(self, controls: Sequence[Array]) -> float:
        flat = np.concatenate(controls)
        envelopes = [s.of.envelope(s.of.of(flat), s.multiplier, s.penalty) for s in self._sets]
        return super().decay_cost(controls) + sum(envelopes)

    def decay_gradient(self, controls: Sequence[Array]) -> Arrays:
        total = np.concatenate(super().decay_gradient(controls))
        flat = np.concatenate(controls)
        for s in self._sets:
            s.put(total, s.penalty * s.of.outside(s.of.of(flat), s.multiplier, s.penalty))
        return self.split(total)

    def decay_product(self, controls: Sequence[Array], direction: Sequence[Array]) -> Arrays:
        total = np.concatenate(super().decay_product(controls, direction))
        flat, along = np.concatenate(controls), np.concatenate(direction)
        for s in self._sets:
            s.put(total, s.of.product(s.shifted(flat), s.penalty, s.of.of(along)))
        return self.split(total)

    def decay_squares(self, controls: Arrays) -> tuple[float | tuple[float | Array, ...], Arrays]:
        if not self._sets:
            return super().decay_squares(controls)
        flat = np.concatenate(controls)
        weights = np.repeat(self.decays, self.block_lengths)
        pulls = weights * flat
        for s in self._sets:
            w, t = s.of.squares(s.shifted(flat), s.penalty)
            s.put(weights, w)
            s.put(pulls, w * t)
        offsets = np.divide(pulls, weights, out=np.zeros_like(pulls), where=weights > 0)
        return self.split(weights), self.split(offsets)


def _terms(problem: ConstrainedProblem, losses: Sequence[Loss | None], multipliers: Sequence[Array]) -> list[Term]:
    """Those of the data, and then those of the output constraints, in the order of their stages."""
    terms = list(problem.terms)
    for constraint, loss, multiplier in zip(problem.constraints, losses, multipliers, strict=True):
        if not isinstance(constraint, OutputConstraint) or loss is None:
            continue
        mask = constraint.mask(problem.num_samples)
        for k, layer, m in zip(constraint.stages, constraint.layers, multiplier, strict=True):
            terms.append(Term.of_data(k, layer, constraint.block, DataTerm(loss, m, mask)))
    return sorted(terms, key=lambda term: term.stage)


def _with_terms(problem: OptimalControlProblem, terms: Sequence[Term]) -> OptimalControlProblem:
    other = object.__new__(OptimalControlProblem)
    decay = problem.weight_decay
    other._set(problem.dynamics, terms, problem.x, decay, problem.initial_weight, problem.block_lengths)
    return other
