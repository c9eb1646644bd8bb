"""Training neural networks as optimal control problems."""

from __future__ import annotations

from .network import Dense, Network, Symbolic
from .problem import TrainingProblem, Trajectory
from .result import Record, Result, Status

__all__ = ["Dense", "Network", "Record", "Result", "Status", "Symbolic", "TrainingProblem", "Trajectory"]

__version__ = "0.1.0"
