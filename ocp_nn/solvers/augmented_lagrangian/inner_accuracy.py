"""How the subproblem of an outer iteration is solved: to what accuracy, in how many steps of which kind."""

from __future__ import annotations

import numpy as np

from .inner_result import InnerResult
from .linearisation import Method
from .options import Options
from .schedule import GAUSS_NEWTON, LIFTED, NEWTON
from .state import SolverState

__all__ = ["counted", "inner_method", "inner_steps", "inner_tolerance"]

# Steps of an outer iteration of the finish: with the exact Hessian, by Gauss-Newton, and lifted.
_NEWTON_STEPS, _FINISH_STEPS, _LIFTED_STEPS = 2, 2, 10

# A softened restart allows so many times the inner steps: the states then move far before the defects close.
_RESTART_PATIENCE = 4


def inner_tolerance(options: Options, state: SolverState, first: float) -> float:
    """eps_t of the next outer iteration, given the norm of its first gradient.

    In the finish it is the solve's own, or none at all where that is met already and was not enough.
    """
    if state.schedule.finish is not None:
        return 0.0 if state.is_stationary(options.tolerance) else options.tolerance * max(1.0, state.point.objective)
    if options.inner_accuracy == "relative":
        return options.inner_tolerance * first
    if options.inner_accuracy == "absolute":
        # NumPy's power: Python's own raises where it overflows
        return options.inner_tolerance * float(np.power(options.inner_decay, state.outer))
    return 0.0


def inner_steps(state: SolverState, options: Options) -> int:
    """Steps allowed in the next outer iteration."""
    if state.schedule.finish is not None and state.schedule.finish.prefers_lifted:
        return _LIFTED_STEPS
    if state.schedule.finish is not None and state.schedule.finish.prefers_second_order:
        return _NEWTON_STEPS
    if state.schedule.finish is not None:
        return min(_FINISH_STEPS, options.max_inner)
    return options.max_inner * (_RESTART_PATIENCE if state.is_softened else 1)


def inner_method(state: SolverState, options: Options) -> Method:
    """How the steps of the next outer iteration are made."""
    return Method(
        globalisation=options.globalisation,
        acceleration=options.acceleration,
        second_order=state.schedule.finish is not None and state.schedule.finish.prefers_second_order,
        form=options.form,
        max_memory=options.max_memory,
    )


def counted(state: SolverState, inner: InnerResult) -> dict[str, int]:
    """The counts with the work of an outer iteration."""
    kind = GAUSS_NEWTON if state.schedule.finish is None else state.schedule.finish.preferred
    steps = {GAUSS_NEWTON: "gauss_newton", NEWTON: "newton", LIFTED: "lifted"}[kind]
    return state.added(**{steps: inner.steps, "least_squares": inner.solves, "hessian_products": inner.products})
