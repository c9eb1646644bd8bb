"""How well conditioned are the shooting formulations of a training problem?

* :func:`measure`: condition numbers of every formulation at a point, dense or iterative (:mod:`.measures`);
* :func:`measure_layers`: where signal and gradient vanish or explode (:mod:`.layers`);
* :func:`run_sweep`: both over networks and along trainings, as tidy CSV (:mod:`.sweep`, :mod:`.tables`);
* :func:`run_trial`: short trainings to measure along (:mod:`.trials`);
* :mod:`.findings`: what the tables say, in numbers and in plain language; :mod:`.figures`: in pictures.

The command ``ocp-nn conditioning`` does all of it.
"""

from __future__ import annotations

from .layers import LayerMeasures, measure_layers
from .measures import MATRICES, Measurement, measure
from .point import LinearisedPoint, linearise_at
from .spectrum import Spectrum
from .sweep import Grid, Settings, SweepResult, run_sweep
from .tables import DICTIONARY, read_table
from .trials import run_trial

__all__ = [
    "DICTIONARY",
    "MATRICES",
    "Grid",
    "LayerMeasures",
    "LinearisedPoint",
    "Measurement",
    "Settings",
    "Spectrum",
    "SweepResult",
    "linearise_at",
    "measure",
    "measure_layers",
    "read_table",
    "run_sweep",
    "run_trial",
]
