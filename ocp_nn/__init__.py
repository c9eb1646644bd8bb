"""Training neural networks as optimal control problems."""

from __future__ import annotations

from .augmented_lagrangian import solve
from .network import Dense, Network, Symbolic
from .options import Options
from .problem import TrainingProblem, Trajectory
from .result import Record, Result, Status

__all__ = [
    "Dense",
    "Network",
    "Options",
    "Record",
    "Result",
    "Status",
    "Symbolic",
    "TrainingProblem",
    "Trajectory",
    "solve",
]

__version__ = "0.1.0"
