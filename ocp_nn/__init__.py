"""Training neural networks as optimal control problems."""

from __future__ import annotations

from typing import Any

from . import program as program  # first: it is what Ctrl-C meets while the others are imported

# isort: split
from .certificate import Certificate, certify
from .data import DataError, Dataset, load_dataset
from .derivatives import check_derivatives
from .ipopt import IpoptOptions, solve_ipopt
from .model import Model
from .network import Dense, Network, Symbolic
from .nlp_solvers import solve_nlp
from .options import Options
from .persistence import LoadError, load
from .problem import TrainingProblem, Trajectory
from .result import Record, Result, Status
from .solver import solve
from .transcription import NLP, multiple_shooting, project, single_shooting, transcribe

__all__ = [
    "NLP",
    "Certificate",
    "DataError",
    "Dataset",
    "Dense",
    "IpoptOptions",
    "LoadError",
    "Model",
    "Network",
    "Options",
    "Record",
    "Result",
    "Status",
    "Symbolic",
    "TrainingProblem",
    "Trajectory",
    "certify",
    "check_derivatives",
    "load",
    "load_dataset",
    "multiple_shooting",
    "project",
    "single_shooting",
    "solve",
    "solve_ipopt",
    "solve_nlp",
    "transcribe",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # scikit-learn is an extra, and slow to import
    if name == "OCPRegressor":
        from .estimator import OCPRegressor

        return OCPRegressor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), "OCPRegressor"])
