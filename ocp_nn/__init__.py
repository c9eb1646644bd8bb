"""Training neural networks as optimal control problems.

After B. Evens, P. Latafat, A. Themelis, J. Suykens and P. Patrinos, Neural Network Training as an Optimal Control
Problem: An Augmented Lagrangian Approach, 60th IEEE Conference on Decision and Control, 2021, arXiv:2103.14343.  Of the
paper the abstract alone was at hand: multiple shooting, an inexact augmented Lagrangian, Gauss-Newton, forward dynamic
programming.  Whatever goes beyond that is our own derivation.

Public is what ``__all__`` names, and of the packages among these names what their own ``__all__`` names: take them as
``from ocp_nn import conditioning``.  Where a module lies inside the package may change.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from . import program as program  # first: it is what Ctrl-C meets while the others are imported

# isort: split
from . import augmented_lagrangian, forward_dp
from .certificate import Certificate, certify
from .data import DataError, Dataset, Scaler, load_dataset, random_split
from .derivatives import check_derivatives
from .initialise import initialise
from .ipopt import IpoptOptions, solve_ipopt
from .model import ExtrapolationWarning, Model
from .network import Dense, Network, Symbolic
from .nlp_solvers import solve_nlp
from .options import Options
from .overfitting import OverfittingWarning
from .persistence import LoadError, load
from .problem import TrainingProblem, Trajectory
from .reference import confirm
from .result import Record, Result, Status
from .solver import solve
from .solver_state import Iterate
from .transcription import NLP, multiple_shooting, project, single_shooting, transcribe

__all__ = [
    "NLP",
    "Certificate",
    "DataError",
    "Dataset",
    "Dense",
    "ExtrapolationWarning",
    "IpoptOptions",
    "Iterate",
    "LoadError",
    "Model",
    "Network",
    "Options",
    "OverfittingWarning",
    "Record",
    "Result",
    "Scaler",
    "Status",
    "Symbolic",
    "TrainingProblem",
    "Trajectory",
    "augmented_lagrangian",
    "certify",
    "check_derivatives",
    "conditioning",
    "confirm",
    "export",
    "forward_dp",
    "initialise",
    "load",
    "load_dataset",
    "multiple_shooting",
    "project",
    "random_split",
    "report",
    "single_shooting",
    "solve",
    "solve_ipopt",
    "solve_nlp",
    "transcribe",
]


def _is_there(package: str) -> bool:
    """Whether a package can be imported; looks for it, and imports nothing."""
    try:
        return find_spec(package) is not None
    except ImportError:
        return False


if _is_there("sklearn"):
    __all__ += ["OCPRegressor"]  # without its package, ``from ocp_nn import *`` gives the rest

__version__ = "0.1.0"

# Packages that training does not need.
_ON_DEMAND = ("conditioning", "export", "report")


def __getattr__(name: str) -> Any:
    # scikit-learn is an extra, and slow to import
    if name == "OCPRegressor":
        from .estimator import OCPRegressor

        return OCPRegressor
    if name in _ON_DEMAND:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ON_DEMAND, "OCPRegressor"})
