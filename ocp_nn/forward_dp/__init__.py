"""Forward dynamic programming for the least-squares subproblems: one recursion, five forms.

The cost-to-arrive V_k is a quadratic; it can be carried forward as

* ``information``: a square root of its Hessian, by QR (:mod:`.information`), the textbook form;
* ``covariance``: its inverse, a Kalman prediction (:mod:`.covariance`);
* ``dual``: only what reaches the outputs, N m x N m (:mod:`.dual`), good when N m <= P;
* ``primal``: only what depends on the controls, P x P (:mod:`.primal`), good when P < N m and streamed over samples;
  ``primal_qr`` is the same by orthogonal transformations;
* ``kalman``: mean, covariance and sensitivities of each sample's state by a Kalman filter (:mod:`.kalman`), linear in
  the horizon, for controls that many stages share; ``kalman_qr`` by orthogonal transformations.

All are algebraically equal.  All but the last share the forward means and the backward sweep of :mod:`.sweeps`, so that
a form is no more than a way to factorise the condensed problem of :mod:`.condensed`; the Kalman form condenses nothing.
``form="auto"`` takes the one that :mod:`.cost` predicts to be fastest within the memory allowed.
"""

from __future__ import annotations

from .covariance import predict_covariance
from .solve import FORMS, Damped, Prepared, TooLargeError, choose_form, mean_curvature, prepare, solve
from .subproblem import Step, Subproblem
from .terms import LinearTerm, StackedMultipliers, StackedTerms

__all__ = [
    "FORMS",
    "Damped",
    "LinearTerm",
    "Prepared",
    "StackedMultipliers",
    "StackedTerms",
    "Step",
    "Subproblem",
    "TooLargeError",
    "choose_form",
    "mean_curvature",
    "predict_covariance",
    "prepare",
    "solve",
]
