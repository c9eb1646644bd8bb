"""Training neural networks as optimal control problems.

After B. Evens, P. Latafat, A. Themelis, J. Suykens and P. Patrinos, Neural Network Training as an Optimal Control
Problem: An Augmented Lagrangian Approach, 60th IEEE Conference on Decision and Control, 2021, arXiv:2103.14343.  Of the
paper the abstract alone was at hand: multiple shooting, an inexact augmented Lagrangian, Gauss-Newton, forward dynamic
programming.  Whatever goes beyond that is our own derivation.

Public is what ``__all__`` names, and of the packages among these names what their own ``__all__`` names: take them as
``from ocp_nn import conditioning``.  Where a module lies inside the package may change.
"""

from __future__ import annotations

from .base import program as program  # first: it is what Ctrl-C meets while the others are imported

# isort: split
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from . import forward_dp
from .base.version import VERSION
from .learning.data import DataError, Dataset, Scaler, SequenceDataset, load_dataset, load_records, random_split
from .learning.overfitting import OverfittingWarning
from .learning.sequence_metrics import fit_percent, residual_tests
from .network.check_derivatives import check_derivatives
from .network.layers import Dense, Symbolic
from .network.model import ExtrapolationWarning, Model
from .network.network import Network
from .network.online_observer import Observer
from .network.state_space import StateSpaceModel
from .problem.certificate import Certificate, certify
from .problem.constraints.constrained_problem import ConstrainedProblem
from .problem.constraints.control_sets import ControlBounds, GroupLasso, Lasso
from .problem.constraints.output_constraint import OutputConstraint
from .problem.identification import IdentificationProblem
from .problem.optimal_control import OptimalControlProblem
from .problem.record import Record, Status
from .problem.result import Result
from .problem.structure import Stage, Term
from .problem.training import TrainingProblem
from .problem.trajectory import Trajectory
from .solvers import augmented_lagrangian
from .solvers.augmented_lagrangian.files import LoadError, load
from .solvers.augmented_lagrangian.initialise import initialise
from .solvers.augmented_lagrangian.options import Options
from .solvers.augmented_lagrangian.several_starts import solve_from_starts
from .solvers.augmented_lagrangian.solve import solve
from .solvers.augmented_lagrangian.state import Iterate
from .solvers.nlp.ipopt import IpoptOptions, solve_ipopt
from .solvers.nlp.plugins import solve_nlp
from .solvers.nlp.reference import confirm
from .solvers.nlp.transcription import NLP, multiple_shooting, project, single_shooting, transcribe

__all__ = [
    "NLP",
    "Certificate",
    "ConstrainedProblem",
    "ControlBounds",
    "DataError",
    "Dataset",
    "Dense",
    "ExtrapolationWarning",
    "GroupLasso",
    "IdentificationProblem",
    "IpoptOptions",
    "Iterate",
    "Lasso",
    "LoadError",
    "Model",
    "Network",
    "Observer",
    "OptimalControlProblem",
    "Options",
    "OutputConstraint",
    "OverfittingWarning",
    "Posterior",
    "Record",
    "Result",
    "Scaler",
    "SequenceDataset",
    "Stage",
    "StateSpaceModel",
    "Status",
    "Symbolic",
    "Term",
    "TrainingProblem",
    "Trajectory",
    "augmented_lagrangian",
    "certify",
    "check_derivatives",
    "choose_by_evidence",
    "choose_weight_decay",
    "conditioning",
    "confirm",
    "export",
    "fit_percent",
    "forward_dp",
    "initialise",
    "load",
    "load_dataset",
    "load_records",
    "multiple_shooting",
    "project",
    "random_split",
    "report",
    "residual_tests",
    "single_shooting",
    "solve",
    "solve_from_starts",
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


# scikit-learn is an extra, and slow to import.
_ESTIMATORS = {
    "OCPClassifier": ".learning.estimator",
    "OCPRegressor": ".learning.estimator",
    "StateSpaceRegressor": ".learning.state_space.regressor",
}

if _is_there("sklearn"):
    __all__ += _ESTIMATORS  # without its package, ``from ocp_nn import *`` gives the rest

__version__ = VERSION

# Packages that training does not need.
_ON_DEMAND = {"conditioning": ".analysis.conditioning", "export": ".export", "report": ".report"}

# What training does not need, and SciPy's special functions are slow to import.
_LATER = {
    "Posterior": ".learning.posterior",
    "choose_by_evidence": ".learning.evidence",
    "choose_weight_decay": ".learning.selection",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name], __name__), name)
    if name in _ESTIMATORS:
        return getattr(import_module(_ESTIMATORS[name], __name__), name)
    if name in _ON_DEMAND:
        return import_module(_ON_DEMAND[name], __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER, *_ON_DEMAND, *_ESTIMATORS})
