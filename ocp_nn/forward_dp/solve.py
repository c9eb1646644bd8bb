"""One interface to the forms: choose, prepare, step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base import checks
from ..network.linear_stages import LinearStage
from ..network.stacked_stages import StackedStages
from .condensed import Condensed, Factor, Form, RightHandSide, Solution
from .cost import Cost, chunk_size, factor_share, predict_cost, predict_costs
from .covariance import CovarianceForm
from .dual import DualForm
from .information import InformationForm
from .kalman import KalmanForm, KalmanSystem
from .primal import PrimalForm
from .subproblem import Step, Subproblem
from .terms import Stack, StackedMultipliers, StackedTerms

__all__ = ["FORMS", "Damped", "Prepared", "TooLargeError", "choose_form", "mean_curvature", "prepare", "solve"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]
Indices = NDArray[np.intp]

FORMS = ("information", "covariance", "dual", "primal", "primal_qr", "kalman", "kalman_qr")

# Forms that "auto" may take; the other two are for teaching and as oracles.
_FAST_FORMS = ("dual", "primal")

# Those that carry covariances.
_OF_COVARIANCES = ("dual", "covariance")

DEFAULT_MAX_MEMORY = 4 * 2**30

_FORM = checks.one_of(("auto", *FORMS))
_REFINEMENTS = checks.integer(0)


class TooLargeError(MemoryError):
    """A form would need more working memory than allowed."""


def choose_form(
    subproblem: Subproblem, form: str = "auto", *, max_memory: float = DEFAULT_MAX_MEMORY
) -> tuple[str, str]:
    """The form to use and why.

    Parameters
    ----------
    subproblem : Subproblem
    form : str
        ``"auto"`` or one of :data:`FORMS`.
    max_memory : float
        Bytes of working memory allowed.

    Returns
    -------
    form, reason : str

    Raises
    ------
    ValueError
        For an unknown form, or one that carries covariances where controls of a block have different weight decays.
    TooLargeError
        If the form, or for ``"auto"`` every fast form, would need more than ``max_memory``.
    """
    checks.check("form", form, _FORM)
    checks.check("max_memory", max_memory, checks.POSITIVE_OR_INFINITE)
    if form != "auto":
        return _check_form(subproblem, form, max_memory), "asked for"
    costs = predict_costs(subproblem, _candidates(subproblem))
    affordable = [name for name in costs if costs[name].bytes <= max_memory]
    if not affordable:
        needs = " and ".join(f"{name} {costs[name].bytes:.2e}" for name in costs)
        raise TooLargeError(
            f"every form needs more than max_memory = {max_memory:.2e} bytes ({needs}): raise max_memory, "
            "narrow the network or use fewer samples"
        )
    best = min(affordable, key=lambda name: costs[name].seconds)
    if len(costs) == 1:
        return best, f"{best}: controls of a block have different weight decays"
    return best, _reason(best, costs, affordable)


def _candidates(subproblem: Subproblem) -> tuple[str, ...]:
    """The forms that "auto" may take: the Kalman form where controls are shared over time."""
    shared = len(subproblem.dynamics) + len(subproblem.terms) > len(subproblem.controls)
    fast = ("primal",) if subproblem.has_diagonal_decay else _FAST_FORMS
    return (*fast, "kalman") if shared else fast


def _reason(best: str, costs: dict[str, Cost], affordable: list[str]) -> str:
    others = [name for name in costs if name != best]
    other = min([name for name in others if name in affordable] or others, key=lambda name: costs[name].seconds)
    if other not in affordable:
        return f"{best}: the {other} form would need {costs[other].bytes:.1e} bytes"
    return (
        f"{best}: {costs[best].seconds:.1e} s predicted ({costs[best].flops:.1e} operations) against "
        f"{costs[other].seconds:.1e} s ({costs[other].flops:.1e}) of the {other} form"
    )


def _check_form(subproblem: Subproblem, form: str, max_memory: float) -> str:
    if subproblem.has_diagonal_decay and form in _OF_COVARIANCES:
        raise ValueError(
            f"the {form} form needs one weight decay a block, received one a control: use 'primal', 'information' or "
            "'kalman'"
        )
    needed = predict_cost(subproblem, form).bytes
    if needed > max_memory:
        costs = predict_costs(subproblem, _candidates(subproblem))
        smallest = min(costs, key=lambda name: costs[name].bytes)
        advice = f"use form={smallest!r} ({costs[smallest].bytes:.2e} bytes)"
        if costs[smallest].bytes > max_memory:
            advice = f"raise max_memory; the smallest form, {smallest}, needs {costs[smallest].bytes:.2e} bytes"
        raise TooLargeError(f"the {form} form needs {needed:.2e} bytes but max_memory is {max_memory:.2e}: {advice}")
    return form


# The subproblem as a form works on it.
System = Condensed | KalmanSystem

_MAKERS: dict[str, Callable[[Any], Form]] = {
    "information": InformationForm,
    "covariance": CovarianceForm,
    "dual": DualForm,
    "primal": PrimalForm,
    "primal_qr": partial(PrimalForm, orthogonal=True),
    "kalman": KalmanForm,
    "kalman_qr": KalmanForm,
}


class _NamingBadStages:
    """Where the algebra fails, look for non-finite data first; a check beforehand would cost two sweeps every time."""

    def __init__(self, subproblem: Subproblem) -> None:
        self._subproblem = subproblem
        self._quiet = np.errstate(invalid="ignore", over="ignore", divide="ignore")

    def __enter__(self) -> None:
        self._quiet.__enter__()

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        self._quiet.__exit__(kind, *rest)
        if kind is not None and issubclass(kind, np.linalg.LinAlgError):
            self._subproblem.check_finite()


def _halfway(first: Stack, second: Stack) -> Any:
    """first + second / 2, in the kind of the first."""
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return first + 0.5 * second
    if isinstance(first, StackedMultipliers) and isinstance(second, StackedMultipliers):
        return StackedMultipliers(first.costates + 0.5 * second.costates, first.theta + 0.5 * second.theta)
    return tuple(a + 0.5 * b for a, b in zip(first, second, strict=True))


@dataclass(frozen=True, eq=False)
class Prepared:
    """A subproblem whose damping-independent part is computed: one Gram matrix serves every damping.

    Attributes
    ----------
    subproblem : Subproblem
    form, reason : str
        As :func:`choose_form` gives them.
    condensed : Condensed or KalmanSystem
        The subproblem with its states eliminated.
    matrix : Form
        What its matrix has that does not depend on the damping.
    """

    subproblem: Subproblem
    form: str
    reason: str
    condensed: System
    matrix: Form

    def damped(self, damping: float | None = None) -> Damped:
        """The subproblem with a damping mu (default: its own), factorised.

        Raises
        ------
        numpy.linalg.LinAlgError
            If the factorisation fails in floating point: raise the damping.
        """
        condensed = self.condensed if damping is None else self.condensed.damped(damping)
        with _NamingBadStages(condensed.subproblem):
            factor = self.matrix.factor(condensed.subproblem)
        return Damped(condensed, factor, self.form, self.reason)

    def step(self, damping: float | None = None, *, refinements: int = 1) -> Step:
        """The minimiser for a damping: :meth:`damped`, then :meth:`Damped.step`."""
        return self.damped(damping).step(refinements=refinements)

    @property
    def factor_share(self) -> float:
        """The predicted part of a step's time that is spent on the factorisation."""
        return factor_share(self.subproblem, self.form)


@dataclass(frozen=True, eq=False)
class Damped:
    """A subproblem with one damping, factorised.

    Attributes
    ----------
    condensed : Condensed or KalmanSystem
    factor : Factor
    form, reason : str
    """

    condensed: System
    factor: Factor
    form: str
    reason: str

    def step(self, *, refinements: int = 1) -> Step:
        """The minimiser.

        Parameters
        ----------
        refinements : int
            Rounds of iterative refinement; one gains about four digits where rho + mu is tiny, none is what an outer
            nonlinear iteration needs.

        Raises
        ------
        numpy.linalg.LinAlgError
            If the step overflows.
        """
        checks.check("refinements", refinements, _REFINEMENTS)
        condensed, sub = self.condensed, self.condensed.subproblem
        data = RightHandSide.of(sub)
        with _NamingBadStages(sub):
            solution = _checked(condensed.minimiser(self.factor, data, refinements))
            pairs = zip(sub.mean_controls, condensed.split(solution.w), strict=True)
            du = tuple([ubar + wk for ubar, wk in pairs])
            dx, multipliers = condensed.recover(solution, du, data)
        return Step(controls=du, states=dx, multipliers=multipliers, form=self.form, reason=self.reason)

    def corrected(self, step: Step, largest: float) -> Step:
        """The step with half of its second-order correction, where that is small enough to be trusted.

        Along (du, dx) stage k gains  A_k dx_k + B_k du_k + 1/2 f_k''[(dx_k, du_k), (dx_k, du_k)] + ...  The correction
        (a_u, a_x) answers the second derivatives with the same matrix: it minimises the subproblem with f_k'' for the
        gaps and the residual, and zero for the controls, so that the step plus half of it follows the curve
        (geodesic acceleration; Transtrum and Sethna 2012, for single shooting; with penalties and states: our
        derivation).  It costs sweeps but no factorisation.

        Parameters
        ----------
        step : Step
        largest : float
            The step comes back as it is where ||a_u|| is more than this part of ||du||.

        Raises
        ------
        numpy.linalg.LinAlgError
            If the correction overflows.
        """
        condensed, sub = self.condensed, self.condensed.subproblem
        with np.errstate(invalid="ignore", over="ignore"):
            bends = _bends(sub, step)
            bend = _checked(condensed.response(self.factor, bends))
        if np.linalg.norm(bend.w) > largest * np.sqrt(sum(float(du @ du) for du in step.controls)):
            return step
        a_u = condensed.split(bend.w)
        if np.isinf(sub.initial_weight) and np.isinf(sub.penalty).all():
            return replace(step, controls=_halfway(step.controls, a_u))
        a_x, a_eta = condensed.recover(bend, a_u, bends)
        return replace(
            step,
            controls=_halfway(step.controls, a_u),
            states=_halfway(step.states, a_x),
            multipliers=_halfway(step.multipliers, a_eta),
        )

    def precondition(self, vector: Array) -> Array:
        """(rho + mu + J' Sigma^-1 J)^-1 vector, (P,) -> (P,)."""
        return self.factor.precondition(vector)


def _checked(solution: Solution) -> Solution:
    if not (np.isfinite(solution.theta).all() and np.isfinite(solution.w).all()):
        raise np.linalg.LinAlgError("the step overflows: raise the damping or scale the problem")
    return solution


def _bends(sub: Subproblem, step: Step) -> RightHandSide:
    """f'' and h'' along a step, at every stage and of every term."""
    if isinstance(sub.dynamics, StackedStages) and isinstance(sub.terms, StackedTerms):
        states = np.asarray(step.states)
        gaps = _bent(sub.dynamics, states[:-1], sub.blocks, step.controls)
        terms = sub.terms
        return RightHandSide(gaps, _bent(terms.outputs, states[terms.stages], terms.blocks, step.controls))

    def along(stage: LinearStage, k: int, block: int) -> Array:
        is_known = k == 0 and sub.initial_gap is None and sub.initial_variance == 0
        return stage.second_derivative(None if is_known else step.states[k], step.controls[block])

    each = tuple(along(stage, k, block) for k, (stage, block) in enumerate(zip(sub.dynamics, sub.blocks, strict=True)))
    return RightHandSide(each, tuple(along(term.output, term.stage, term.block) for term in sub.terms))


def _bent(stages: StackedStages, dx: Array, blocks: Sequence[int] | Indices, controls: Arrays) -> Array:
    used = np.unique(blocks)
    one = len(used) == 1
    return stages.second_derivative(dx, controls[used[0]] if one else np.stack([controls[b] for b in blocks]))


def mean_curvature(subproblem: Subproblem) -> float:
    """The mean diagonal entry of J' Sigma^-1 J, the scale that a damping is measured by; one sweep.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the slack drowns the outputs' own noise in floating point.
    """
    form = choose_form(subproblem)[0] if "kalman" in _candidates(subproblem) else "primal"
    return _system(subproblem, "primal" if form == "dual" else form).squared_size() / subproblem.num_controls


def _system(subproblem: Subproblem, form: str) -> System:
    """What a form works on; in Kalman form that is the filter."""
    if form.startswith("kalman"):
        return KalmanSystem(subproblem, orthogonal=form == "kalman_qr")
    return Condensed(subproblem, chunk=chunk_size(subproblem) if form.startswith("primal") else None)


def prepare(subproblem: Subproblem, form: str = "auto", *, max_memory: float = DEFAULT_MAX_MEMORY) -> Prepared:
    """Choose a form and compute what does not depend on the damping (errors as :func:`choose_form`)."""
    chosen, reason = choose_form(subproblem, form, max_memory=max_memory)
    with _NamingBadStages(subproblem):
        condensed = _system(subproblem, chosen)
        return Prepared(subproblem, chosen, reason, condensed, _MAKERS[chosen](condensed))


def solve(
    subproblem: Subproblem, form: str = "auto", *, max_memory: float = DEFAULT_MAX_MEMORY, refinements: int = 1
) -> Step:
    """Solve a least-squares subproblem by forward dynamic programming.

    Parameters
    ----------
    subproblem : Subproblem
    form : str
        ``"auto"`` (the faster of dual and primal) or one of :data:`FORMS`.
    max_memory : float
        Bytes of working memory allowed.
    refinements : int
        Rounds of iterative refinement.

    Returns
    -------
    Step
        Controls, states and multipliers of the minimiser; the form and why it was chosen.

    Raises
    ------
    ValueError
        For an unknown form or non-finite data (the stage is named).
    TooLargeError
        If the form needs more than ``max_memory``.
    numpy.linalg.LinAlgError
        If the factorisation fails in floating point because rho + mu is too small.
    """
    return prepare(subproblem, form, max_memory=max_memory).step(refinements=refinements)
