"""A trained network as an ONNX graph: ``x`` (N, inputs) -> ``y`` (N, outputs), in the data's own units.

The operators are Sub, Div, Gemm, one activation a layer, Add for skip connections and Mul, which every runtime has; and
Sigmoid, Softmax or Exp at the end where y are probabilities or rates.  The properties then name link and classes.
Softplus is written out, since not every runtime has it in double precision.  onnx is the extra ``onnx`` and is imported
when a graph is made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.atomic import atomic_write
from ..network.layers import Dense
from ..network.model import Model

__all__ = ["ACTIVATION_NODES", "Graph", "onnx_model", "onnx_package", "write_onnx"]

Array = NDArray[np.float64]

# Version of the operator set: old enough for every runtime of recent years.
_OPSET = 17


def onnx_model(model: Model, *, dtype: str = "float64") -> Any:
    """The model as an ``onnx.ModelProto``.

    Parameters
    ----------
    model : Model
    dtype : str
        ``"float64"``, or ``"float32"`` for runtimes without double precision.

    Raises
    ------
    ImportError
        If onnx is not installed.
    ValueError
        For a symbolic stage, which ONNX has no operator for, an unknown ``dtype``, or numbers beyond single precision.
    """
    onnx_package()
    if dtype not in ("float64", "float32"):
        raise ValueError(f"dtype must be 'float64' or 'float32', received {dtype!r}")
    graph = Graph(dtype)
    x = graph.apply("Sub", "x", graph.constant("x_mean", model.x_scaler.mean))
    x = graph.apply("Div", x, graph.constant("x_scale", model.x_scaler.scale))
    for k, (layer, u) in enumerate(zip(model.network.layers, model.layer_controls, strict=True)):
        if not isinstance(layer, Dense):
            raise ValueError(f"stage {k} is a CasADi function, which ONNX cannot hold: export to CasADi or C instead")
        weight, bias = layer.weights(u)
        a = graph.apply("Gemm", x, graph.constant(f"W{k}", weight.T), graph.constant(f"b{k}", bias))
        y = ACTIVATION_NODES[layer.activation](graph, a)
        x = graph.apply("Add", x, y) if layer.residual else y
    x = graph.apply("Mul", x, graph.constant("y_scale", model.y_scaler.scale))
    end = "y" if model.link == "identity" else None
    x = graph.apply("Add", x, graph.constant("y_mean", model.y_scaler.mean), output=end)
    if end is None:
        graph.apply(_RESPONSES[model.link], x, output="y")
    network = model.network
    return graph.finished({"x": network.num_inputs}, {"y": network.num_outputs}, _properties(model))


def write_onnx(model: Model, path: str | os.PathLike[str], *, dtype: str = "float64") -> None:
    """:func:`onnx_model` in a file."""
    content = onnx_model(model, dtype=dtype).SerializeToString()
    with atomic_write(path) as file:
        file.write(content)


def onnx_package() -> tuple[Any, Any]:
    """Helper and checker of the package onnx.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        from onnx import checker, helper
    except ImportError:
        raise ImportError("the export to ONNX needs the package onnx: pip install 'ocp-nn[onnx]'") from None
    return helper, checker


class Graph:
    """Nodes and constants in the order they are asked for."""

    def __init__(self, dtype: str) -> None:
        from onnx import TensorProto, helper, numpy_helper

        self._helper, self._numpy_helper = helper, numpy_helper
        self._dtype = np.dtype(dtype)
        self._kind = TensorProto.DOUBLE if dtype == "float64" else TensorProto.FLOAT
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def constant(self, name: str, values: Array) -> str:
        """Add numbers under a name, which comes back."""
        with np.errstate(over="ignore", under="ignore"):
            array = np.ascontiguousarray(values, dtype=self._dtype)
        if not np.isfinite(array).all() or (name.endswith("_scale") and not array.all()):
            raise ValueError(f"{self._dtype} cannot hold {name}: export in double precision, or train in other units")
        self._constants.append(self._numpy_helper.from_array(array, name))
        return name

    def apply(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node; the name of its output."""
        output = output or f"t{len(self._nodes)}"
        self._nodes.append(self._helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def finished(self, inputs: Mapping[str, int], outputs: Mapping[str, int], properties: dict[str, str]) -> Any:
        """The graph as a model with these inputs and outputs, by name and width, checked."""
        from ..base.version import VERSION

        helper, checker = onnx_package()
        ends = [
            [helper.make_tensor_value_info(name, self._kind, ["N", width]) for name, width in some.items()]
            for some in (inputs, outputs)
        ]
        graph = helper.make_graph(self._nodes, "ocp_nn", *ends, self._constants)
        opset = [helper.make_opsetid("", _OPSET)]
        proto = helper.make_model(graph, producer_name="ocp_nn", producer_version=VERSION, opset_imports=opset)
        proto.ir_version = min(proto.ir_version, 8)  # what runtimes of this operator set read
        helper.set_model_props(proto, properties)
        checker.check_model(proto)
        return proto


def _properties(model: Model) -> dict[str, str]:
    """Names, and where it is known the training range of every input, as lists with all digits."""
    names = {"features": ", ".join(model.features), "targets": ", ".join(model.targets)}
    if model.link != "identity":
        names |= {"link": model.link, "classes": ", ".join(map(str, model.classes))}
    if model.x_range is None:
        return names
    low, high = (", ".join(map(repr, row)) for row in model.x_range.tolist())
    return names | {"x_min": low, "x_max": high}


def _softplus(graph: Graph, a: str) -> str:
    """log(1 + e^a) = max(a, 0) + log(1 + e^-|a|)"""
    one = graph.constant(f"one_{a}", np.ones(1))
    small = graph.apply("Exp", graph.apply("Neg", graph.apply("Abs", a)))
    return graph.apply("Add", graph.apply("Relu", a), graph.apply("Log", graph.apply("Add", small, one)))


# Softmax is along the last axis; runtimes subtract the largest logit, and branch at zero.
_RESPONSES = {"logistic": "Sigmoid", "softmax": "Softmax", "log": "Exp"}

ACTIVATION_NODES: dict[str, Callable[[Graph, str], str]] = {
    "tanh": lambda graph, a: graph.apply("Tanh", a),
    "sigmoid": lambda graph, a: graph.apply("Sigmoid", a),
    "relu": lambda graph, a: graph.apply("Relu", a),
    "softplus": _softplus,
    "identity": lambda graph, a: a,
}
