"""Trained models for use elsewhere: a CasADi function, C code, ONNX, and Python that needs nothing but NumPy.

Each takes a :class:`ocp_nn.Model` (``result.model``) and contains the scaling: inputs and outputs are in the data's own
units; classifiers give probabilities, models of counts their expectation.  The tests hold each against
:meth:`ocp_nn.Model.predict`.
"""

from __future__ import annotations

from .c import write_c
from .casadi_function import casadi_function, write_casadi
from .numpy_module import write_numpy
from .onnx_graph import onnx_model, write_onnx

__all__ = ["casadi_function", "onnx_model", "write_c", "write_casadi", "write_numpy", "write_onnx"]
