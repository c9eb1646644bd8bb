"""Options of the augmented-Lagrangian solver: immutable, keyword-only, checked when made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...base import checks
from ...base.checks import Kind, either, integer, one_of, text
from ...forward_dp import FORMS
from ...problem.shooting import check_nodes
from .initialise import ALL_INITIALISATIONS

__all__ = ["OPTIONS", "Options"]

INNER_ACCURACIES = ("steps", "relative", "absolute")
GLOBALISATIONS = ("levenberg-marquardt", "armijo")

_PENALTIES = checks.sequence(checks.POSITIVE_OR_INFINITE, "a sequence of such numbers")

_KINDS: dict[str, Kind] = {
    "seed": checks.SEED,
    "initialisation": one_of(ALL_INITIALISATIONS),
    "shooting": either(text("multiple", "single"), checks.NODES, integer(1)),
    "tolerance": checks.POSITIVE,
    "inner_accuracy": one_of(INNER_ACCURACIES),
    "inner_tolerance": checks.POSITIVE,
    "inner_decay": checks.POSITIVE,
    "max_inner": integer(1),
    "max_steps": integer(0),
    "max_outer": integer(0),
    "time_limit": checks.POSITIVE_OR_INFINITE,
    "penalty": either(text("auto"), checks.POSITIVE_OR_INFINITE, _PENALTIES),
    "penalty_growth": checks.number(above=1),
    "violation_reduction": checks.NON_NEGATIVE,
    "max_penalty": checks.POSITIVE_OR_INFINITE,
    "multiplier_bound": checks.POSITIVE_OR_INFINITE,
    "damping": checks.POSITIVE,
    "acceleration": checks.BOOLEAN,
    "globalisation": one_of(GLOBALISATIONS),
    "sample_start": checks.BOOLEAN,
    "gradient_start": checks.BOOLEAN,
    "second_order": checks.BOOLEAN,
    "lifted": checks.BOOLEAN,
    "max_restarts": integer(0),
    "form": one_of(("auto", *FORMS)),
    "max_memory": checks.POSITIVE_OR_INFINITE,
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of :func:`ocp_nn.solve`.  The defaults are one configuration for shallow and deep networks.

    Attributes
    ----------
    seed : int
        Of the initial weights and of restarts.
    initialisation : str
        Of :func:`.initialise.initialise`, where no initial point is given.  Over time: ``"auto"``, ``"linear"`` (a
        linear model first), ``"states"`` (states from delays of the outputs), ``"slow"`` (states that remember the
        inputs for long) or ``"standard"`` (random parameters).
    shooting : "multiple", "single", sequence of int, or int
        Which of x_1..x_{K-1} are variables: all, none, these, or every s-th one.
    tolerance : float
        Converged when every defect is below it and the 2-norm of the Lagrangian's gradient below it times max(1, J).
    inner_accuracy : str
        How accurately a subproblem is solved: ``"steps"``, just ``max_inner`` Gauss-Newton steps; ``"relative"``,
        until the gradient has fallen by ``inner_tolerance``; ``"absolute"``, until it is below ``inner_tolerance *
        inner_decay**t`` in outer iteration t.  ``max_inner`` bounds all three.
    inner_tolerance, inner_decay : float
        See ``inner_accuracy``.
    max_inner : int
        Gauss-Newton steps per outer iteration.
    max_steps : int
        Gauss-Newton steps in all.
    max_outer : int
        Outer iterations, second-order iterations included.
    time_limit : float
        Seconds.
    penalty : "auto", float, or sequence of float
        First beta, for all nodes or node by node; ``"auto"`` is 1e4 mean(y^2).
    penalty_growth : float
        Factor by which a node's beta grows.
    violation_reduction : float
        A node's beta grows where ||d_k|| is above this multiple of what it was; 0 lets every beta grow always.
    max_penalty : float
        Cap of beta.
    multiplier_bound : float
        Multipliers are projected on [-bound, bound], the safeguard of the convergence theory
        (Birgin and Martinez 2014, algorithm 4.1), here times max(1, max|y|).
    damping : float
        First Levenberg-Marquardt damping mu, relative to the mean diagonal entry of the Gauss-Newton matrix.
    acceleration : bool
        Add the second-order correction to Gauss-Newton steps (:mod:`.gauss_newton`).
    globalisation : str
        ``"levenberg-marquardt"`` or ``"armijo"``.
    sample_start : bool
        Begin on a sample of the data where there are many more samples than controls and no initial point is given.
    gradient_start : bool
        Begin with L-BFGS in single shooting where the loss is that of a classifier, a factorisation is dear, signals
        reach the last state, and no initial point is given (:mod:`.gradient_start`).
    second_order : bool
        Finish in the controls alone, with exact Hessians where they pay, once the augmented Lagrangian has settled, and
        see that what has converged is a minimum (:mod:`.minimum`).
    lifted : bool
        In the finish of deep smooth networks with nodes, take Newton steps with the states as variables where those
        without crawl (:mod:`.lifted`).
    max_restarts : int
        How often to start over: perturbed and with a smaller penalty where the result is worse than the
        state-trajectory start, with other weights where it is no better than a straight line through data that bend.
    form, max_memory :
        Of :func:`ocp_nn.forward_dp.prepare`.

    Raises
    ------
    ValueError
        For a value out of range; the message names the option.
    """

    seed: int = 0
    initialisation: str = "auto"
    shooting: str | int | Sequence[int] = "multiple"
    tolerance: float = 1e-6
    inner_accuracy: str = "steps"
    inner_tolerance: float = 0.1
    inner_decay: float = 0.5
    max_inner: int = 5
    max_steps: int = 100_000
    max_outer: int = 2000
    time_limit: float = np.inf
    penalty: str | float | Sequence[float] = "auto"
    penalty_growth: float = 2.0
    violation_reduction: float = 0.25
    max_penalty: float = 1e10
    multiplier_bound: float = 1e6
    damping: float = 0.3
    acceleration: bool = True
    globalisation: str = "levenberg-marquardt"
    sample_start: bool = True
    gradient_start: bool = True
    second_order: bool = True
    lifted: bool = True
    max_restarts: int = 40
    form: str = "auto"
    max_memory: float = 4 * 2**30

    def __post_init__(self) -> None:
        checks.check_all(_KINDS, vars(self))

    def nodes(self, num_stages: int) -> frozenset[int]:
        """Which of 1..K-1 are nodes: their states are variables.

        Raises
        ------
        ValueError
            If ``shooting`` names a node outside 1..K-1.
        """
        if isinstance(self.shooting, str):
            return frozenset(range(1, num_stages) if self.shooting == "multiple" else ())
        if isinstance(self.shooting, int | np.integer):
            return frozenset(range(int(self.shooting), num_stages, int(self.shooting)))
        return check_nodes(self.shooting, num_stages, "shooting nodes")


OPTIONS = checks.optional(checks.instance(Options, "an ocp_nn.Options"))
