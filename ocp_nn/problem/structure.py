"""What an optimal control problem is made of: stages of dynamics, and terms that look at their states.

    x_{k+1} = f_k(x_k, u_c(k), v_k)          a :class:`Stage`: dynamics, control block c(k), exogenous input v_k
    sum_i w_i phi(h_j(x_s(j), u_d(j)), y)    a :class:`Term`: stage s(j), output h_j, control block d(j), loss phi

Several stages and terms may name one control block: they share it.  A feed-forward network has a block for every
layer, and its last layer is the one term; a network over time has one block, and a term at every step.
"""

from __future__ import annotations

from collections.abc import Sequence

import casadi as ca
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import checks
from ..network.layers import Dense, Driven, Layer, Symbolic
from .data_term import DataTerm
from .losses import Loss

__all__ = ["Stage", "Term", "checked_structure"]

Array = NDArray[np.float64]

_LAYER = checks.instance((Dense, Symbolic, Driven, ca.Function), "a layer or a casadi.Function f(x, u) or f(x, u, v)")


class Stage:
    """Dynamics from one state to the next.

    Parameters
    ----------
    layer : Dense, Symbolic or casadi.Function
        f_k(x, u), or with an exogenous input f_k(x, u, v).
    block : int
        c(k), the control block it uses.
    exogenous : array_like, shape (N, q), optional
        v_k.
    unit : float
        The size that x_{k+1} typically has: the first penalty is divided by its square.

    Raises
    ------
    ValueError
        For a layer that is none, an exogenous input that does not fit, or a unit that is not positive.
    """

    __slots__ = ("block", "layer", "unit")

    def __init__(
        self, layer: Layer | ca.Function, block: int = 0, *, exogenous: ArrayLike | None = None, unit: float = 1.0
    ) -> None:
        checks.check("block", block, checks.integer(0))
        checks.check("unit", unit, checks.POSITIVE)
        self.layer = _layer(layer, exogenous)
        self.block, self.unit = int(block), float(unit)

    def __repr__(self) -> str:
        return f"Stage({self.layer.num_inputs} -> {self.layer.num_outputs}, block {self.block})"


class Term:
    """What an output of a state costs.

    Parameters
    ----------
    stage : int
        s, the state x_s that is looked at.
    output : Dense, Symbolic or casadi.Function
        h(x, u), or with an exogenous input h(x, u, v).
    targets : array_like, shape (N, m)
    block : int
        d, the control block it uses.
    loss : str or Loss
        As for :class:`ocp_nn.TrainingProblem`.
    sample_weight : array_like, shape (N,), optional
        w_i >= 0.  For squares also (N, m), one weight a number, where zero leaves a number out.
    exogenous : array_like, shape (N, q), optional

    Raises
    ------
    ValueError
        For an output that is none, or targets, weights or exogenous inputs that do not fit.
    """

    __slots__ = ("block", "data", "layer", "stage")

    def __init__(
        self,
        stage: int,
        output: Layer | ca.Function,
        targets: ArrayLike,
        *,
        block: int = 0,
        loss: str | Loss = "squared",
        sample_weight: ArrayLike | None = None,
        exogenous: ArrayLike | None = None,
    ) -> None:
        checks.check("stage", stage, checks.integer(0))
        checks.check("block", block, checks.integer(0))
        self.layer = _layer(output, exogenous)
        self.stage, self.block = int(stage), int(block)
        self.data = DataTerm.of(loss, checks.table("targets", targets, self.layer.num_outputs), sample_weight)

    @classmethod
    def of_data(cls, stage: int, layer: Layer, block: int, data: DataTerm) -> Term:
        """The term of data that have been checked."""
        term = object.__new__(cls)
        term.stage, term.layer, term.block, term.data = stage, layer, block, data
        return term

    def __repr__(self) -> str:
        return f"Term({self.data.loss.name} of {self.layer.num_outputs} at stage {self.stage}, block {self.block})"


def _layer(layer: Layer | ca.Function, exogenous: ArrayLike | None) -> Layer:
    checks.check("layer", layer, _LAYER)
    if isinstance(layer, ca.Function):
        layer = Symbolic(layer)
    takes = isinstance(layer, Symbolic) and layer.num_exogenous
    if exogenous is None and not takes:
        return layer
    if exogenous is None or not isinstance(layer, Symbolic) or not takes:
        has = f"an exogenous input of {takes} numbers" if takes else "no exogenous input"
        raise ValueError(f"the stage has {has}, but exogenous is {'missing' if exogenous is None else 'given'}")
    return Driven(layer, np.asarray(exogenous, dtype=float))


def checked_structure(dynamics: Sequence[Stage], terms: Sequence[Term], width: int, samples: int) -> tuple[int, ...]:
    """The lengths of all control blocks, once stages and terms fit together.

    Raises
    ------
    ValueError
        Where widths, samples, stages or blocks do not fit.
    """
    widths = [width]
    for k, stage in enumerate(dynamics):
        if stage.layer.num_inputs != widths[-1]:
            raise ValueError(f"stage {k} expects {stage.layer.num_inputs} inputs, but x_{k} has {widths[-1]}")
        widths.append(stage.layer.num_outputs)
    _check_terms(terms, widths, samples)
    lengths: dict[int, int] = {}
    users: list[Stage | Term] = [*dynamics, *terms]
    for used in users:
        known = lengths.setdefault(used.block, used.layer.num_controls)
        if known != used.layer.num_controls:
            raise ValueError(
                f"all that use control block {used.block} need control vectors of one length, received {known} and "
                f"{used.layer.num_controls}"
            )
        v = getattr(used.layer, "v", None)
        if v is not None and len(v) != samples:
            raise ValueError(f"{used!r} has exogenous inputs of {len(v)} samples, expected {samples}")
    if sorted(lengths) != list(range(len(lengths))):
        raise ValueError(f"control blocks must be numbered 0, 1, ... without gaps, received {sorted(lengths)}")
    return tuple(lengths[block] for block in range(len(lengths)))


def _check_terms(terms: Sequence[Term], widths: Sequence[int], samples: int) -> None:
    stages = [term.stage for term in terms]
    if not stages or stages != sorted(stages) or stages[-1] != len(widths) - 1:
        raise ValueError(
            f"expected terms in the order of their stages, the last at stage {len(widths) - 1}, received stages "
            f"{stages}"
        )
    for term in terms:
        if term.layer.num_inputs != widths[term.stage]:
            raise ValueError(f"{term!r} expects {term.layer.num_inputs} inputs, but its state has {widths[term.stage]}")
        if len(term.data.y) != samples:
            raise ValueError(f"{term!r} has targets for {len(term.data.y)} samples, expected {samples}")
