"""A trained network as a CasADi ``Function`` of one sample, for someone's model predictive controller.

    f = casadi_function(result.model)       y = f(x),  x (n,) and y (m,) in the data's own units

Weights and scaling are constants inside, so the file that :func:`write_casadi` leaves is read by plain CasADi:
``casadi.Function.load("model.casadi")``.  Derivatives of all orders are CasADi's.

Behind the function the file holds, where they are known, the lowest and the highest training inputs as two columns: the
second thing that a ``casadi.FileDeserializer`` of the file unpacks.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ..base import checks
from ..base.atomic import atomic_write
from ..network.layers import Dense, Layer
from ..network.links import link_named
from ..network.model import Model
from .names import NAME

__all__ = ["casadi_function", "saved_function", "write_casadi"]

Array = NDArray[np.float64]


def casadi_function(model: Model, name: str = "model") -> ca.Function:
    """The model as a function ``x -> y`` of column vectors; matrices with one column a sample are mapped by CasADi.

    Under a link y is a column of probabilities or rates, as of :meth:`ocp_nn.Model.predict`.

    Raises
    ------
    ValueError
        If ``name`` cannot name a function in CasADi and in the C code that it generates.
    """
    checks.check("model", model, checks.instance(Model, "an ocp_nn.Model"))
    checks.check("name", name, NAME)
    x = ca.MX.sym("x", model.network.num_inputs)
    state = (x - ca.DM(model.x_scaler.mean)) / ca.DM(model.x_scaler.scale)
    for layer, u in zip(model.network.layers, model.layer_controls, strict=True):
        state = _apply(layer, state, u)
    y = link_named(model.link).symbolic(state * ca.DM(model.y_scaler.scale) + ca.DM(model.y_scaler.mean))
    return ca.Function(name, [x], [ca.densify(y)], ["x"], ["y"])


def _apply(layer: Layer, x: ca.MX, u: Array) -> ca.MX:
    if not isinstance(layer, Dense):
        return layer.function(x, ca.DM(u))
    weight, bias = layer.weights(u)
    # whole matrices: the expression, and C code made from it, does not grow with the widths
    y = layer.phi.symbolic(ca.MX(ca.DM(weight)) @ x + ca.DM(bias))
    return x + y if layer.residual else y


def write_casadi(model: Model, path: str | os.PathLike[str], name: str = "model") -> None:
    """:func:`casadi_function` in a file for ``casadi.Function.load``.

    Raises
    ------
    OSError
        If the file, or CasADi's own in the folder for temporary ones, cannot be written.
    """
    content = saved_function(casadi_function(model, name), model.x_range)
    with atomic_write(path) as file:
        file.write(content)


def saved_function(function: ca.Function, x_range: Array | None) -> bytes:
    """What ``casadi.Function.load`` reads, with a range behind it where there is one."""
    # CasADi writes what ``load`` reads to files only
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "function"
        serializer = ca.FileSerializer(str(saved), {})
        serializer.pack(function)
        if x_range is not None:
            serializer.pack(ca.DM(x_range.T))
        del serializer  # closes the file
        _check_whole(saved)
        return saved.read_bytes()


def _check_whole(saved: Path) -> None:
    """CasADi says nothing where the disk is full."""
    try:
        ca.Function.load(str(saved))
    except RuntimeError:
        raise OSError(f"{saved}: CasADi could not write its function there; is the disk full?") from None
