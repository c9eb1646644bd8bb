"""One interface to the forms: choose, prepare, step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .. import checks
from .cost import Cost, chunk_size, factor_share, predict_cost
from .covariance import CovarianceFactor
from .dual import DualFactor
from .information import InformationFactor
from .primal import PrimalFactor
from .reduced import Factor, Reduced
from .subproblem import Step, Subproblem

__all__ = ["FORMS", "Prepared", "TooLargeError", "choose_form", "mean_curvature", "prepare", "solve"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]

FORMS = ("information", "covariance", "dual", "primal", "primal_qr")

# Forms that "auto" may take; the other two are for teaching and as oracles.
_FAST_FORMS = ("dual", "primal")

DEFAULT_MAX_MEMORY = 4 * 2**30


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
        For an unknown form.
    TooLargeError
        If the form, or for ``"auto"`` every fast form, would need more than ``max_memory``.
    """
    checks.check("form", form, checks.one_of(("auto", *FORMS)))
    checks.check("max_memory", max_memory, checks.POSITIVE_OR_INFINITE)
    if form != "auto":
        return _check_form(subproblem, form, max_memory), "asked for"
    costs = {name: predict_cost(subproblem, name) for name in _FAST_FORMS}
    affordable = [name for name in _FAST_FORMS if costs[name].bytes <= max_memory]
    if not affordable:
        needs = " and ".join(f"{name} {costs[name].bytes:.2e}" for name in _FAST_FORMS)
        raise TooLargeError(
            f"every form needs more than max_memory = {max_memory:.2e} bytes ({needs}): raise max_memory, "
            "narrow the network or use fewer samples"
        )
    best = min(affordable, key=lambda name: costs[name].seconds)
    return best, _reason(best, costs, affordable)


def _reason(best: str, costs: dict[str, Cost], affordable: list[str]) -> str:
    (other,) = (name for name in _FAST_FORMS if name != best)
    if other not in affordable:
        return f"{best}: the {other} form would need {costs[other].bytes:.1e} bytes"
    return (
        f"{best}: {costs[best].seconds:.1e} s predicted ({costs[best].flops:.1e} operations) against "
        f"{costs[other].seconds:.1e} s ({costs[other].flops:.1e}) of the {other} form"
    )


def _check_form(subproblem: Subproblem, form: str, max_memory: float) -> str:
    needed = predict_cost(subproblem, form).bytes
    if needed > max_memory:
        bytes_of = {name: predict_cost(subproblem, name).bytes for name in _FAST_FORMS}
        smallest = min(bytes_of, key=lambda name: bytes_of[name])
        advice = f"use form={smallest!r} ({bytes_of[smallest]:.2e} bytes)"
        if bytes_of[smallest] > max_memory:
            advice = f"raise max_memory; the smallest form, {smallest}, needs {bytes_of[smallest]:.2e} bytes"
        raise TooLargeError(f"the {form} form needs {needed:.2e} bytes but max_memory is {max_memory:.2e}: {advice}")
    return form


def _make_factor(form: str, reduced: Reduced) -> Factor:
    if form == "information":
        return InformationFactor(reduced)
    if form == "covariance":
        return CovarianceFactor(reduced)
    if form == "dual":
        return DualFactor(reduced)
    return PrimalFactor(reduced, orthogonal=form == "primal_qr")


@contextmanager
def _naming_bad_stages(subproblem: Subproblem) -> Iterator[None]:
    """Where the algebra fails, look for non-finite data first; a check beforehand would cost two sweeps every time."""
    try:
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            yield
    except np.linalg.LinAlgError:
        subproblem.check_finite()
        raise


def _halfway(first: Arrays, second: Arrays) -> Arrays:
    return tuple(a + 0.5 * b for a, b in zip(first, second, strict=True))


class Prepared:
    """A subproblem whose damping-independent part is computed: one Gram matrix serves every damping."""

    def __init__(self, subproblem: Subproblem, form: str, reason: str) -> None:
        self.subproblem, self.form, self.reason = subproblem, form, reason
        self._reduced = Reduced(subproblem, chunk=chunk_size(subproblem) if form.startswith("primal") else None)
        with _naming_bad_stages(subproblem):
            self._factor = _make_factor(form, self._reduced)
        self._factorized: float | None = None

    def step(self, damping: float | None = None, *, refinements: int = 1) -> Step:
        """The minimiser for a damping mu (default: the subproblem's own).

        Parameters
        ----------
        damping : float, optional
        refinements : int
            Rounds of iterative refinement; one gains about four digits where rho + mu is tiny, none is what an outer
            nonlinear iteration needs.

        Raises
        ------
        numpy.linalg.LinAlgError
            If the factorisation fails in floating point: raise the damping.
        """
        checks.check("refinements", refinements, checks.integer(0))
        if damping is not None:
            checks.check("damping", damping, checks.NON_NEGATIVE)
            self._reduced = self._reduced.damped(damping)
        reduced, sub = self._reduced, self._reduced.subproblem
        gaps = (*sub.gaps, sub.residual)
        with _naming_bad_stages(sub):
            self._refactor()
            eta, w = self._solve(reduced.predicted_residual(sub.mean_controls, gaps), refinements)
            du = tuple(ubar + wk for ubar, wk in zip(sub.mean_controls, reduced.split(w), strict=True))
            dx, multipliers = reduced.recover(eta, du, gaps)
        return Step(controls=du, states=dx, multipliers=multipliers, form=self.form, reason=self.reason)

    def corrected(self, step: Step, largest: float) -> Step:
        """A step of this damping with half of its second-order correction, where that is small enough to be trusted.

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
        stages = self.subproblem.stages
        with np.errstate(invalid="ignore", over="ignore"):
            bends = tuple(
                stage.second_derivative(dx if k else None, du)
                for k, (stage, dx, du) in enumerate(zip(stages, step.states, step.controls, strict=True))
            )
            eta, w = self._solve(self._reduced.predicted_residual(None, bends), 0)
        if np.linalg.norm(w) > largest * np.sqrt(sum(float(du @ du) for du in step.controls)):
            return step
        a_u = self._reduced.split(w)
        if all(np.isinf(beta) for beta in self.subproblem.penalty):
            return replace(step, controls=_halfway(step.controls, a_u))
        a_x, a_eta = self._reduced.recover(eta, a_u, bends)
        return replace(
            step,
            controls=_halfway(step.controls, a_u),
            states=_halfway(step.states, a_x),
            multipliers=_halfway(step.multipliers, a_eta),
        )

    def _solve(self, rhat: Array, refinements: int) -> tuple[Array, Array]:
        eta, w = self._reduced.solve(self._factor, rhat, refinements)
        if not (np.isfinite(eta).all() and np.isfinite(w).all()):
            raise np.linalg.LinAlgError("the step overflows: raise the damping or scale the problem")
        return eta, w

    @property
    def factor_share(self) -> float:
        """The predicted part of a step's time that is spent on the factorisation."""
        return factor_share(self.subproblem, self.form)

    def _refactor(self) -> None:
        ridge = self._reduced.subproblem.ridge
        if self._factorized != ridge:
            self._factorized = None
            self._factor.factorize(ridge)
            self._factorized = ridge

    def precondition(self, vector: Array) -> Array:
        """(rho + mu + J' Sigma^-1 J)^-1 vector, (P,) -> (P,), with the last damping.

        Raises
        ------
        numpy.linalg.LinAlgError
            If the factorisation fails in floating point: raise the damping.
        """
        self._refactor()
        return self._factor.precondition(vector)


def mean_curvature(subproblem: Subproblem) -> float:
    """The mean diagonal entry of J' Sigma^-1 J, the scale that a damping is measured by; one sweep.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the slack drowns the outputs' own noise in floating point.
    """
    reduced = Reduced(subproblem, chunk=chunk_size(subproblem))
    return reduced.squared_size() / subproblem.num_controls


def prepare(subproblem: Subproblem, form: str = "auto", *, max_memory: float = DEFAULT_MAX_MEMORY) -> Prepared:
    """Choose a form and compute what does not depend on the damping (errors as :func:`choose_form`)."""
    return Prepared(subproblem, *choose_form(subproblem, form, max_memory=max_memory))


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
