"""What an optimal control problem is made of: stages of dynamics, and terms that look at their states.

    x_{k+1} = f_k(x_k, u_c(k), v_k)          a :class:`Stage`: dynamics, control block c(k), exogenous input v_k
    sum_i w_i phi(h_j(x_s(j), u_d(j)), y)    a :class:`Term`: stage s(j), output h_j, control block d(j), loss phi

Several stages and terms may name one control block: they share it.  A feed-forward network has a block for every
layer, and its last layer is the one term; a network over time has one block, and a term at every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

import casadi as ca
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import checks
from ..network.layers import Dense, Driven, Layer, Symbolic, init_layer
from .data_term import DataTerm
from .losses import Loss

__all__ = ["Stage", "Structure", "Term", "checked_structure"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]

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
        targets = checks.table("targets", targets, self.layer.num_outputs)
        self.data = DataTerm.of(loss, targets, sample_weight, by_number=True)

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


class Structure:
    """The stages, terms and control blocks of a problem, its initial state, and its weights.

    Attributes
    ----------
    dynamics : tuple of K - 1 Stage
    terms : tuple of Term
    x : array (N, n_0)
        x_0 where it is known, else its prior mean xbar.
    initial_weight : float
        alpha.
    decays : tuple of floats
        rho_b.
    block_lengths : tuple of int
    """

    dynamics: tuple[Stage, ...]
    terms: tuple[Term, ...]
    x: Array
    initial_weight: float
    decays: tuple[float, ...]
    block_lengths: tuple[int, ...]

    def _set(
        self,
        dynamics: Sequence[Stage],
        terms: Sequence[Term],
        x: Array,
        weight_decay: float | Sequence[float],
        initial_weight: float,
        lengths: tuple[int, ...],
    ) -> None:
        """Everything, once checked."""
        self.dynamics, self.terms, self.x = tuple(dynamics), tuple(terms), x
        self.block_lengths, self.initial_weight = lengths, initial_weight
        if isinstance(weight_decay, Sequence | np.ndarray):
            if len(weight_decay) != len(lengths):
                raise ValueError(
                    f"weight_decay must be one number or one for each of {len(lengths)} blocks, received "
                    f"{len(weight_decay)}"
                )
            self.decays = tuple(map(float, weight_decay))
        else:
            self.decays = (float(weight_decay),) * len(lengths)

    @property
    def weight_decay(self) -> float | tuple[float, ...]:
        """rho: one number where all blocks have the same."""
        return self.decays[0] if len(set(self.decays)) == 1 else self.decays

    @property
    def num_samples(self) -> int:
        return len(self.x)

    @property
    def num_stages(self) -> int:
        """K: the states are x_0..x_{K-1}."""
        return len(self.dynamics) + 1

    @cached_property
    def num_controls(self) -> int:
        """P: numbers in all blocks."""
        return sum(self.block_lengths)

    @cached_property
    def num_rows(self) -> int:
        """M: outputs of all terms, a sample."""
        return sum(term.layer.num_outputs for term in self.terms)

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """Widths of x_0..x_{K-1}."""
        return (self.x.shape[1], *(stage.layer.num_outputs for stage in self.dynamics))

    @property
    def has_free_start(self) -> bool:
        """Whether x_0 is a variable."""
        return bool(np.isfinite(self.initial_weight))

    @cached_property
    def blocks(self) -> tuple[int, ...]:
        """c(k) of every stage."""
        return tuple(stage.block for stage in self.dynamics)

    @cached_property
    def rows(self) -> tuple[Stage | Term, ...]:
        """The stages and then the terms."""
        return (*self.dynamics, *self.terms)

    @cached_property
    def row_blocks(self) -> tuple[int, ...]:
        """The control block of every row: of the stages, then of the terms."""
        return tuple(row.block for row in self.rows)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The layer of every row: of the stages, then of the terms."""
        return tuple(row.layer for row in self.rows)

    @cached_property
    def terms_at(self) -> tuple[tuple[int, ...], ...]:
        """For every stage, which terms look at it."""
        return tuple(tuple(j for j, t in enumerate(self.terms) if t.stage == k) for k in range(self.num_stages))

    @cached_property
    def has_kinks(self) -> bool:
        """Whether a layer is piecewise linear (ReLU)."""
        return any(isinstance(layer, Dense) and layer.activation == "relu" for layer in self.layers)

    def is_same_as(self, other: Structure) -> bool:
        """Whether the other problem has this very structure, these data, weights, losses and weight decays."""
        pairs = zip(self.rows, other.rows, strict=False)
        return (
            (len(self.dynamics), len(self.terms)) == (len(other.dynamics), len(other.terms))
            and (self.decays, self.initial_weight) == (other.decays, other.initial_weight)
            and np.array_equal(self.x, other.x)
            and all(_is_same(mine, theirs) for mine, theirs in pairs)
        )

    def init_controls(self, seed: int = 0) -> Arrays:
        """Standard weights, one vector a block: W ~ N(0, 1) / sqrt(n_in), b = 0; 0.1 N(0, 1) for a symbolic stage."""
        checks.check("seed", seed, checks.SEED)
        rng = np.random.default_rng(seed)
        return tuple(init_layer(layer, rng) for layer in self.block_layers)

    @cached_property
    def block_layers(self) -> tuple[Layer, ...]:
        """The first layer that uses each block."""
        return tuple(self.layers[self.row_blocks.index(block)] for block in range(len(self.block_lengths)))

    def check_controls(self, controls: Sequence[Array]) -> Arrays:
        """The controls as float vectors, one a block.

        Raises
        ------
        ValueError
            If their number or a length is not the problem's, or they are not of real numbers.
        """
        checks.check("controls", controls, checks.ARRAYS)
        vectors = tuple([np.ascontiguousarray(checks.real_array(f"controls[{k}]", u)) for k, u in enumerate(controls)])
        expected, received = [(length,) for length in self.block_lengths], [u.shape for u in vectors]
        if received != expected:
            raise ValueError(f"expected one control vector a block with shapes {expected}, received {received}")
        return vectors

    def split(self, flat: Array) -> Arrays:
        """A vector of all controls, cut into one vector a block (views)."""
        return tuple([flat[cut] for cut in self._cuts])

    @cached_property
    def _cuts(self) -> tuple[slice, ...]:
        ends = np.cumsum([0, *self.block_lengths]).tolist()
        return tuple(slice(start, end) for start, end in pairwise(ends))


def _is_same(mine: Stage | Term, theirs: Stage | Term) -> bool:
    if mine.block != theirs.block or _described(mine.layer) != _described(theirs.layer):
        return False
    if not np.array_equal(getattr(mine.layer, "v", 0.0), getattr(theirs.layer, "v", 0.0)):
        return False
    if isinstance(mine, Term) and isinstance(theirs, Term):
        return mine.stage == theirs.stage and mine.data.is_same_as(theirs.data)
    return type(mine) is type(theirs)


def _described(layer: Layer) -> dict[str, object]:
    return {name: value for name, value in layer.describe().items() if name != "v"}


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
