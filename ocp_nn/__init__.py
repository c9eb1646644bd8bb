"""Training neural networks as optimal control problems."""

from __future__ import annotations

from .augmented_lagrangian import solve
from .certificate import Certificate, certify
from .ipopt import IpoptOptions, solve_ipopt
from .network import Dense, Network, Symbolic
from .options import Options
from .problem import TrainingProblem, Trajectory
from .result import Record, Result, Status
from .transcription import NLP, multiple_shooting, project, single_shooting, transcribe

__all__ = [
    "NLP",
    "Certificate",
    "Dense",
    "IpoptOptions",
    "Network",
    "Options",
    "Record",
    "Result",
    "Status",
    "Symbolic",
    "TrainingProblem",
    "Trajectory",
    "certify",
    "multiple_shooting",
    "project",
    "single_shooting",
    "solve",
    "solve_ipopt",
    "transcribe",
]

__version__ = "0.1.0"
