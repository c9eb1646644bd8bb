"""The linear least-squares subproblem of one Gauss-Newton step, and its solution.

    min over (du, dx)  sum_b  1/2 (u_b + du_b)' rho_b (u_b + du_b) + mu/2 ||du_b||^2
                     + sum_k  beta_k/2 || A_k dx_k + B_k du_c(k) - dx_{k+1} + c_k ||^2              k = 0..K-2
                     + sum_j  1/2 || C_j dx_s(j) + D_j du_d(j) + r_j ||^2
                     + alpha/2 || dx_0 - g_0 ||^2,

where dx_k stacks all samples: the controls couple them.  Several stages and terms may share a control *block* b; in a
feed-forward network every stage has its own, and the last stage is the one term.  An infinite beta_k turns its term
into the constraint dx_{k+1} = A_k dx_k + B_k du + c_k: the state is eliminated.  All finite is multiple shooting, all
infinite single shooting, a mixture partial shooting; one code path serves them all.  An infinite alpha is a known x_0.
The weight rho_b is one number, or a number for each control of the block (a diagonal).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import InitVar, dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from ..base import checks
from ..base.display import brief
from ..network.linear_stages import LinearStage
from ..network.stacked_stages import StackedStages
from .terms import LinearTerm, Stack, StackedTerms, blocks_of, num_rows, stages_of

__all__ = ["LinearTerm", "NonFiniteError", "Step", "Subproblem"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]
Indices = NDArray[np.intp]


class NonFiniteError(np.linalg.LinAlgError, ValueError):
    """Data that are not finite; for an outer iteration, one more reason why a step is not possible."""


_DECAYS = checks.either(
    checks.NON_NEGATIVE,
    checks.sequence(
        checks.either(
            checks.NON_NEGATIVE,
            checks.Kind(
                "an array, one a control",
                lambda value: isinstance(value, np.ndarray) and value.ndim == 1 and bool((value >= 0).all()),
            ),
        ),
        "a sequence of finite numbers >= 0 or arrays of them, one a block",
    ),
)


# What is computed once and depends on the damping.
_OF_DAMPING = frozenset({"ridge", "ridges", "ridge_vector", "mean_controls"})


@dataclass(frozen=True, kw_only=True, eq=False)
class Subproblem:
    """Data of the least-squares subproblem.

    Attributes
    ----------
    dynamics : tuple of K - 1 LinearStage, or StackedStages
        A_k and B_k.
    terms : tuple of LinearTerm, or StackedTerms
        In the order of their stages, the last of them at stage K - 1.
    controls : tuple of arrays
        u_b, one a block, where the weight decay pulls from.
    blocks : sequence of K - 1 int
        c(k), the control block of every stage of the dynamics.
    gaps : tuple of K - 1 arrays, or one array (K - 1, N, n)
        c_k, (N, n_{k+1}); d_k + lambda_{k+1}/beta_k in the augmented Lagrangian.
    penalty : sequence of K - 1 floats
        beta_k in (0, inf].
    weight_decay : float, or sequence of floats or arrays
        rho, one for all blocks or one a block; an array has one number a control, which dual and covariance refuse.
    damping : float
        mu; every rho_b + mu must be positive.
    initial_gap : array (N, n_0), optional
        g_0; zero by default.
    initial_weight : float
        alpha in (0, inf].
    trusted : bool
        Only asked for, not kept: leave the checks out, where a solver's arrays of double precision fit together by
        construction.

    Raises
    ------
    ValueError
        For shapes that do not fit, blocks that do not exist, penalties outside (0, inf], rho + mu <= 0, or non-finite
        data (the stage is named).
    """

    dynamics: Sequence[LinearStage]
    terms: Sequence[LinearTerm]
    controls: Arrays
    blocks: Sequence[int] | Indices
    gaps: Stack
    penalty: Sequence[float] | Array
    weight_decay: float | Sequence[float | Array]
    damping: float
    initial_gap: Array | None = None
    initial_weight: float = np.inf
    trusted: InitVar[bool] = False

    @classmethod
    def of_network(
        cls,
        *,
        stages: Sequence[LinearStage],
        controls: Sequence[Array],
        gaps: Sequence[Array],
        residual: Array,
        penalty: Sequence[float],
        weight_decay: float,
        damping: float,
    ) -> Subproblem:
        """The subproblem of a feed-forward network: every stage has a block of its own, the last one is the term."""
        last = len(stages) - 1
        if len(controls) != last + 1:
            raise ValueError(f"{last + 1} stages need {last + 1} controls, received {len(controls)}")
        return cls(
            dynamics=tuple(stages[:-1]),
            terms=(LinearTerm(last, stages[-1], residual, last),),
            controls=tuple(controls),
            blocks=tuple(range(last)),
            gaps=tuple(gaps),
            penalty=tuple(penalty),
            weight_decay=weight_decay,
            damping=damping,
        )

    __repr__ = brief

    def __post_init__(self, trusted: bool) -> None:
        if not trusted:
            self._check()

    def _check(self) -> None:
        inner = len(self.dynamics)
        if not len(self.gaps) == len(self.penalty) == len(self.blocks) == inner:
            raise ValueError(
                f"{inner} stages of dynamics need {inner} gaps, penalties and blocks, received {len(self.gaps)}, "
                f"{len(self.penalty)} and {len(self.blocks)}"
            )
        self._check_penalty()
        checks.check("weight_decay", self.weight_decay, _DECAYS)
        checks.check("damping", self.damping, checks.NON_NEGATIVE)
        self._check_ridges()
        self._check_terms()
        for name in ("controls", "gaps"):
            given = getattr(self, name)
            if name == "gaps" and isinstance(given, np.ndarray):
                real: Stack = checks.real_array(name, given)
            else:
                real = tuple([checks.real_array(f"{name}[{k}]", array) for k, array in enumerate(given)])
            object.__setattr__(self, name, real)
        for k, (stage, gap, block) in self._distinct_rows():
            expected = (stage.num_samples, stage.num_outputs)
            if gap.shape != expected:
                raise ValueError(f"stage {k}: expected a gap of shape {expected}, received {gap.shape}")
            if not 0 <= block < len(self.controls) or self.controls[block].shape != (stage.num_controls,):
                raise ValueError(
                    f"stage {k}: expected a control block of {stage.num_controls} numbers, received number {block} of "
                    f"shapes {[u.shape for u in self.controls]}"
                )

        unused = set(range(len(self.controls))).difference(self.blocks, blocks_of(self.terms))
        if unused:
            raise ValueError(f"control blocks {sorted(unused)} act nowhere: every block needs a stage or a term")

    def _check_penalty(self) -> None:
        if isinstance(self.penalty, np.ndarray):
            penalty = checks.real_array("penalty", self.penalty)
            worst = penalty[np.argmin(penalty > 0)] if len(penalty) else np.inf
            received: tuple[object, ...] = (worst, self.initial_weight)
        else:
            received = (*self.penalty, self.initial_weight)
        if not all(map(checks.POSITIVE_OR_INFINITE.accepts, received)):
            raise ValueError(f"penalties and the initial weight must lie in (0, inf], received {received}")

    def _check_ridges(self) -> None:
        if not (self.ridge > 0 and max(float(np.max(ridge)) for ridge in self.ridges) < np.inf):
            raise ValueError(
                f"weight_decay and damping must have a positive sum, received {self.weight_decay} and {self.damping}"
            )

    def _check_terms(self) -> None:
        stages = stages_of(self.terms)
        if not stages or stages != sorted(stages) or stages[0] < 0 or stages[-1] != len(self.dynamics):
            raise ValueError(
                f"expected terms in the order of their stages, the last at stage {len(self.dynamics)}, "
                f"received stages {checks.shown(stages) if len(stages) > 100 else stages}"
            )
        widths = {stage.num_samples for _, (stage, _, _) in self._distinct_rows()}
        if len(widths) > 1:
            raise ValueError(f"all stages and terms need as many samples as each other, received {sorted(widths)}")

    def _rows(self) -> Iterator[tuple[LinearStage, Array, int]]:
        """Every stage of the dynamics and every term, with its gap or residual and its block."""
        yield from zip(self.dynamics, self.gaps, self.blocks, strict=True)
        for term in self.terms:
            yield term.output, term.residual, term.block

    def _distinct_rows(self) -> Iterator[tuple[int, tuple[LinearStage, Array, int]]]:
        """As :meth:`_rows`, numbered; of stacked stages the first with every block, for the others are like it."""
        inner = len(self.dynamics)
        if isinstance(self.dynamics, StackedStages) and isinstance(self.gaps, np.ndarray):
            for k in np.unique(self.blocks, return_index=True)[1].tolist():
                yield k, (self.dynamics[k], self.gaps[k], int(self.blocks[k]))
        else:
            yield from enumerate(zip(self.dynamics, self.gaps, self.blocks, strict=True))
        chosen: Sequence[int] = range(len(self.terms))
        if isinstance(self.terms, StackedTerms):
            chosen = np.unique(self.terms.blocks, return_index=True)[1].tolist()
        for j in chosen:
            term = self.terms[j]
            yield inner + j, (term.output, term.residual, term.block)

    @cached_property
    def stages(self) -> tuple[LinearStage, ...]:
        """The dynamics and then the terms."""
        return (*self.dynamics, *(term.output for term in self.terms))

    @property
    def residual(self) -> Array:
        """r of all terms side by side, (N, M)."""
        if isinstance(self.terms, StackedTerms):
            return self.terms.residual.transpose(1, 0, 2).reshape(self.num_samples, -1)
        return np.concatenate([term.residual for term in self.terms], axis=1)

    @cached_property
    def num_samples(self) -> int:
        return self.terms.outputs.num_samples if isinstance(self.terms, StackedTerms) else len(self.terms[0].residual)

    @cached_property
    def num_rows(self) -> int:
        """M: rows a sample, all terms together."""
        return num_rows(self.terms)

    @cached_property
    def num_inputs(self) -> int:
        """Width of x_0."""
        return self.dynamics[0].num_inputs if self.dynamics else self.terms[0].output.num_inputs

    @property
    def num_controls(self) -> int:
        return int(self.cuts[-1].stop)

    @cached_property
    def cuts(self) -> tuple[slice, ...]:
        """Where each block stands in a vector of all controls."""
        ends = list(accumulate(map(len, self.controls), initial=0))
        return tuple(map(slice, ends[:-1], ends[1:]))

    @cached_property
    def decays(self) -> tuple[float | Array, ...]:
        """rho_b of every block."""
        if isinstance(self.weight_decay, Sequence | np.ndarray):
            if len(self.weight_decay) != len(self.controls):
                raise ValueError(
                    f"weight_decay must be one number or one for each of {len(self.controls)} blocks, received "
                    f"{len(self.weight_decay)}"
                )
            if not self.has_diagonal_decay:
                return tuple([float(rho) for rho in self.weight_decay])
            pairs = zip(self.weight_decay, self.controls, strict=True)
            return tuple([np.broadcast_to(np.asarray(rho, dtype=float), u.shape) for rho, u in pairs])
        return (float(self.weight_decay),) * len(self.controls)

    @cached_property
    def has_diagonal_decay(self) -> bool:
        """Whether the controls of a block may have weights that differ."""
        return isinstance(self.weight_decay, tuple | list) and any(np.ndim(rho) for rho in self.weight_decay)

    @cached_property
    def ridges(self) -> tuple[float | Array, ...]:
        """rho_b + mu, the weight of a step in every block."""
        return tuple([rho + self.damping for rho in self.decays])

    @cached_property
    def ridge(self) -> float:
        """The smallest rho_b + mu."""
        return float(min(map(np.min, self.ridges) if self.has_diagonal_decay else self.ridges))

    @cached_property
    def ridge_vector(self) -> Array | float:
        """rho_b + mu of every control, (P,); a number where all are the same."""
        if not self.has_diagonal_decay and len(set(self.ridges)) == 1:
            return self.ridge
        return np.concatenate([np.full(len(u), ridge) for u, ridge in zip(self.controls, self.ridges, strict=True)])

    @cached_property
    def mean_controls(self) -> Arrays:
        """ubar_b = -rho_b u_b / (rho_b + mu): the control step that the regularisation alone would take."""
        return tuple([-(rho / mu) * u for u, rho, mu in zip(self.controls, self.decays, self.ridges, strict=True)])

    @property
    def slack_variance(self) -> tuple[float, ...]:
        """1/beta_k: the process noise of the Kalman view, zero for an eliminated state."""
        return tuple([1.0 / beta for beta in self.penalty])

    @property
    def initial_variance(self) -> float:
        """1/alpha: zero for a known x_0."""
        return 1.0 / self.initial_weight

    def check_finite(self) -> None:
        """Raise :class:`NonFiniteError`, naming the first stage whose data are not finite."""
        for k, (stage, gap, block) in enumerate(self._rows()):
            data = {
                "df/dx": _probe(stage, lambda some, ones: some.transpose_state(ones)),
                "df/du": _probe(stage, lambda some, ones: some.transpose_control(ones)),
                "gap": gap,
                "control": self.controls[block],
            }
            for name, values in data.items():
                if not np.isfinite(values).all():
                    raise NonFiniteError(f"stage {k}: non-finite values in its {name}")

    def damped(self, damping: float) -> Subproblem:
        """The same subproblem with another Levenberg-Marquardt damping.

        Raises
        ------
        ValueError
            Unless the damping is a finite number >= 0 and every rho_b + mu positive.
        """
        checks.check("damping", damping, checks.NON_NEGATIVE)
        other = object.__new__(Subproblem)  # all else has been checked when this one was made
        known = {name: value for name, value in vars(self).items() if name not in _OF_DAMPING}
        vars(other).update(known, damping=damping)
        other._check_ridges()
        return other

    def value(self, du: Arrays, dx: Arrays) -> float:
        """The objective at a step, from its definition; terms with an infinite penalty are left out.

        ``dx`` holds dx_0..dx_{K-1}, as :class:`Step` does.
        """
        total = 0.0
        for u, d, rho in zip(self.controls, du, self.decays, strict=True):
            total += 0.5 * float((rho * (u + d)) @ (u + d)) + 0.5 * self.damping * float(d @ d)
        for k, (stage, beta) in enumerate(zip(self.dynamics, self.penalty, strict=True)):
            if np.isfinite(beta):
                slack = stage.apply(dx[k], du[self.blocks[k]]) - dx[k + 1] + self.gaps[k]
                total += 0.5 * beta * float(np.vdot(slack, slack))
        for term in self.terms:
            rows = term.output.apply(dx[term.stage], du[term.block]) + term.residual
            total += 0.5 * float(np.vdot(rows, rows))
        if np.isfinite(self.initial_weight):
            moved = dx[0] if self.initial_gap is None else dx[0] - self.initial_gap
            total += 0.5 * self.initial_weight * float(np.vdot(moved, moved))
        return total


# Samples probed at a time, so that a check of large data needs little memory.
_PROBE_ROWS = 4096


def _probe(stage: LinearStage, product: Callable[[LinearStage, Array], Array]) -> Array:
    """The sum of a transposed product with ones over samples: not finite if an entry of the Jacobian is not."""
    total = np.zeros(1)
    with np.errstate(invalid="ignore", over="ignore"):
        for start in range(0, stage.num_samples, _PROBE_ROWS):
            some = stage.rows(slice(start, start + _PROBE_ROWS))
            total = total + product(some, np.ones((some.num_samples, some.num_outputs))).sum(axis=0)
    return total


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """The minimiser of a subproblem.

    Attributes
    ----------
    controls : tuple of arrays
        du_b, one a block.
    states : tuple of K arrays, or one array (K, N, n) for stacked stages
        dx_0..dx_{K-1}; dx_0 is zero where x_0 is known.
    multipliers : tuple of K arrays, or StackedMultipliers
        eta_1..eta_{K-1}, (N, n_k), the new estimates eta_{k+1} = beta_k (A_k dx_k + B_k du - dx_{k+1} + c_k) of
        lambda_{k+1}; and last the predicted rows theta of all terms side by side, (N, M).
    form : str
        The form that computed it.
    reason : str
        Why that form, in a sentence.
    """

    controls: Arrays
    states: Stack
    multipliers: Sequence[Array]
    form: str
    reason: str

    __repr__ = brief
