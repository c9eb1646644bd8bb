"""Trained models for use elsewhere: a CasADi function, C code, ONNX, and Python that needs nothing but NumPy.

Those of a network take a :class:`ocp_nn.Model` (``result.model``) and contain the scaling: inputs and outputs are in
the data's own units; classifiers give probabilities, models of counts their expectation, and none its error bars.  The
tests hold each against :meth:`ocp_nn.Model.predict`.  Those of a model over time are of one step, or of many:
:mod:`.state_space`.
"""

from __future__ import annotations

from .c import write_c
from .casadi_function import casadi_function, write_casadi
from .numpy_module import write_numpy
from .onnx_graph import onnx_model, write_onnx
from .state_space import (
    simulation_function,
    step_function,
    step_onnx,
    write_step_c,
    write_step_casadi,
    write_step_numpy,
    write_step_onnx,
)

__all__ = [
    "casadi_function",
    "onnx_model",
    "simulation_function",
    "step_function",
    "step_onnx",
    "write_c",
    "write_casadi",
    "write_numpy",
    "write_onnx",
    "write_step_c",
    "write_step_casadi",
    "write_step_numpy",
    "write_step_onnx",
]
