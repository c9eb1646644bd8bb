"""From a one-step predictor to a simulation: how the penalty, the anchor and the multipliers follow each other.

With beta small against the weight of the measurements, x_t follows the data and the model is fitted one step ahead: a
problem without bad valleys, even for chaotic systems.  Growing beta slowly lengthens the horizon that errors add up
over.  (Chosen by measurement: scripts/long_horizon_suite.py; all constants are ours.)

* beta grows by more where its subproblem was easy, and not at all where no step gave a decrease.
* The anchor (:mod:`.lagrangian`) weighs kappa = 0.1 beta_0/beta, and nothing from the multipliers on.
* Multipliers are switched on at beta >= 1e3 times the weight of the measurements.  Before, an open defect says that
  the penalty is small, not that the multiplier is wrong.
* Where the damping rose during a subproblem the valley is narrow already: the multipliers move, and beta stays, for
  three subproblems in a row at most.
* Once the defects are closed beta has done its work, and stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["FIRST_PENALTY", "Hardening", "Subproblem"]

# beta_0 and the beta at which multipliers are switched on, relative to the weight of a measurement in the states' unit.
FIRST_PENALTY, _MULTIPLIERS_AT = 0.1, 1e3

# kappa at beta_0.
_ANCHOR = 0.1

# Factors of beta after subproblems that took at most 2 steps, fewer than allowed, and all that are allowed.
_EASY, _GROWTH = 2, (1.6, 1.3, 1.1)

# Subproblems in a row at which beta may stay because the damping rose.
_HOLD = 3

# Subproblems in a row without a decrease after which beta grows all the same.
_PATIENCE = 6


@dataclass(frozen=True)
class Subproblem:
    """How a subproblem went: its steps, those allowed, whether any gained, and whether the damping rose."""

    steps: int
    allowed: int
    gained: bool
    harder: bool


@dataclass(frozen=True)
class Hardening:
    """Where on the way a solve is.

    Attributes
    ----------
    unit : float
        A penalty of the weight of a measurement, in the states' unit.
    first, penalty : float
        beta_0 and beta.
    stuck, held : int
        Subproblems in a row without any decrease, and those in which beta stayed because the damping rose.
    """

    unit: float
    first: float
    penalty: float
    stuck: int = 0
    held: int = 0

    @property
    def anchor_weight(self) -> float:
        """kappa."""
        return 0.0 if self.has_multipliers else _ANCHOR * self.unit * self.first / self.penalty

    @property
    def has_multipliers(self) -> bool:
        """Whether multipliers follow the defects."""
        return self.penalty >= _MULTIPLIERS_AT * self.unit

    def after(self, taken: Subproblem, *, closed: bool, growth: float, largest: float) -> Hardening:
        """After a subproblem; ``closed`` says that defects need no larger penalty."""
        stuck = 0 if taken.gained else self.stuck + 1
        hold = taken.gained and taken.harder and self.has_multipliers and self.held < _HOLD
        if closed or hold or stuck % _PATIENCE:
            return replace(self, stuck=stuck, held=self.held + 1 if hold else 0)
        factor = _GROWTH[0] if taken.steps <= _EASY else _GROWTH[1] if taken.steps < taken.allowed else _GROWTH[2]
        penalty = min(self.penalty * min(factor, growth), max(self.penalty, largest))
        return replace(self, stuck=stuck, held=0, penalty=penalty)
