"""Identified state-space models for use elsewhere: one step x_next = f(x, v), y = g(x, v), with the parameters inside.

    step = step_function(model, theta)          x_next, y = step(x, v)                a controller's prediction model
    run = simulation_function(model, theta, T)  y, x = run(x0, v)                     v (q, T), y (m, T), x (n, T + 1)

``model`` is an :class:`ocp_nn.StateSpaceModel` and ``theta`` its parameters for inputs and outputs in their own units
(``StateSpaceRegressor.model_.system`` and ``.theta``): what they give is what ``model.simulate(theta, v, x0)`` gives,
and the tests hold that over a thousand steps.  Besides CasADi there are C code, an ONNX graph of the step, and a Python
module that needs NumPy alone; the last two are for models of matrices and networks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import casadi as ca
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import checks
from ..base.atomic import atomic_write
from ..network.state_space import StateSpaceModel
from ..network.state_space_networks import Architecture
from .c import generated
from .casadi_function import saved_function
from .names import NAME
from .numpy_module import ACTIVATION_CODE, digits
from .onnx_graph import ACTIVATION_NODES, Graph, onnx_package

__all__ = [
    "simulation_function",
    "step_function",
    "step_onnx",
    "write_step_c",
    "write_step_casadi",
    "write_step_numpy",
    "write_step_onnx",
]

Array = NDArray[np.float64]

_MODEL = checks.instance(StateSpaceModel, "an ocp_nn.StateSpaceModel")

_C_WRAPPER = """
#ifdef __cplusplus
extern "C" {{
#endif
/* {states} states, {inputs} inputs, {outputs} outputs; x_next may be x itself */
CASADI_SYMBOL_EXPORT void {name}_step(const double *x, const double *v, double *x_next, double *y) {{
  const double *arg[{sz_arg}];
  double *res[{sz_res}];
  casadi_int iw[{sz_iw}];
  double w[{sz_w}], after[{states}];
  int i;
  arg[0] = x;
  arg[1] = v;
  res[0] = after;
  res[1] = y;
  {name}(arg, res, iw, w, 0);
  for (i = 0; i < {states}; ++i) x_next[i] = after[i];
}}
#ifdef __cplusplus
}}
#endif
"""

_MODULE = '''\
"""An identified state-space model; made by ocp_nn {version}.  Needs NumPy only.

    from {module} import simulate, step
    x_next, y = step(x, v)         # x (N, {states}), v (N, {inputs}) -> x_next (N, {states}), y (N, {outputs})
    y, x = simulate(v, x0)         # v (T, {inputs}), x0 ({states},) -> y (T, {outputs}), x (T + 1, {states})
"""

import numpy as np

NUM_STATES, NUM_INPUTS, NUM_OUTPUTS = {states}, {inputs}, {outputs}

PARTS = {{
{parts}
}}


def activation(a):
    return {activation}


def _network(prefix, z):
    layers = sum(name.startswith(prefix + "W") for name in PARTS)
    for i in range(1, layers + 1):
        z = z @ PARTS[f"{{prefix}}W{{i}}"].T
        if f"{{prefix}}b{{i}}" in PARTS:
            z = z + PARTS[f"{{prefix}}b{{i}}"].T
        z = activation(z) if i < layers else z
    return z if layers else 0.0


def _linear(names, x, v):
    value = 0.0
    for name, z in zip(names, (x, v)):
        if name in PARTS:
            value = value + z @ PARTS[name].T
    return value + PARTS[names[2]].T if names[2] in PARTS else value


def step(x, v):
    x, v = np.asarray(x, dtype=float), np.asarray(v, dtype=float)
    if x.ndim != 2 or x.shape[1] != NUM_STATES or v.shape != (len(x), NUM_INPUTS):
        expected = f"x (N, {{NUM_STATES}}) and v (N, {{NUM_INPUTS}})"
        raise ValueError(f"expected {{expected}}, received {{x.shape}} and {{v.shape}}")
    x_next = _linear("ABb", x, v) + _network("", np.hstack([x, v]))
    y = _linear("CDd", x, v) + _network("output_", {seen})
    return x_next, y


def simulate(v, x0):
    v, x = np.asarray(v, dtype=float), [np.asarray(x0, dtype=float)]
    y = np.empty((len(v), NUM_OUTPUTS))
    for t in range(len(v)):
        after, now = step(x[-1][None], v[t : t + 1])
        x.append(after[0])
        y[t] = now[0]
    return y, np.array(x)
'''


def step_function(model: StateSpaceModel, theta: ArrayLike, name: str = "step") -> ca.Function:
    """One step as a function (x, v) -> (x_next, y) of columns; v has no rows where there are no inputs.

    Parameters
    ----------
    model : StateSpaceModel
    theta : array, shape (P,)
        In the units of inputs and outputs as they are.
    name : str

    Raises
    ------
    ValueError
        For parameters that are not the model's, or a name that CasADi or C cannot take.
    """
    checks.check("model", model, _MODEL)
    checks.check("name", name, NAME)
    inside = ca.DM(model.check_parameters(theta))
    x, v = ca.MX.sym("x", model.num_states), ca.MX.sym("v", model.num_inputs)
    both = [ca.densify(model.dynamics(x, v, inside)), ca.densify(model.output(x, v, inside))]
    return ca.Function(name, [x, v], both, ["x", "v"], ["x_next", "y"])


def simulation_function(model: StateSpaceModel, theta: ArrayLike, steps: int, name: str = "simulation") -> ca.Function:
    """T steps as a function (x0, v) -> (y, x) with v (q, T), y (m, T) and x (n, T + 1), one column a step.

    Raises
    ------
    ValueError
        As :func:`step_function`, and for less than one step.
    """
    checks.check("steps", steps, checks.WIDTH)
    step = step_function(model, theta)
    checks.check("name", name, NAME)
    x0, v = ca.MX.sym("x0", model.num_states), ca.MX.sym("v", model.num_inputs, int(steps))
    after, y = step.mapaccum("steps", int(steps))(x0, v)
    return ca.Function(name, [x0, v], [y, ca.horzcat(x0, after)], ["x0", "v"], ["y", "x"])


def write_step_casadi(
    model: StateSpaceModel, theta: ArrayLike, path: str | os.PathLike[str], name: str = "step"
) -> None:
    """:func:`step_function` in a file for ``casadi.Function.load``."""
    content = saved_function(step_function(model, theta, name), None)
    with atomic_write(path) as file:
        file.write(content)


def write_step_c(model: StateSpaceModel, theta: ArrayLike, path: str | os.PathLike[str], name: str = "step") -> None:
    """The step as one C file without dependencies, ``void NAME_step(x, v, x_next, y)``.

    ``gcc -O2 -shared -fPIC -o step.so step.c -lm`` makes a library of it; CasADi's own interface is in it too.

    Raises
    ------
    ValueError
        As :func:`step_function`.
    """
    function = step_function(model, theta, name)
    wrapper = _C_WRAPPER.format(
        name=name,
        states=model.num_states,
        inputs=model.num_inputs,
        outputs=model.num_outputs,
        **{f"sz_{part}": max(getattr(function, f"sz_{part}")(), 1) for part in ("arg", "res", "iw", "w")},
    )
    with atomic_write(path) as file:
        file.write((generated(function) + wrapper).encode())


def write_step_numpy(model: StateSpaceModel, theta: ArrayLike, path: str | os.PathLike[str]) -> None:
    """The model as a Python module with ``step`` and ``simulate`` that needs NumPy alone.

    Raises
    ------
    ValueError
        For a model of CasADi functions, or parameters that are not the model's.
    """
    from ..base.version import VERSION

    form, parts = _parts(model, theta, "NumPy cannot evaluate")
    text = _MODULE.format(
        version=VERSION,
        module=os.path.splitext(os.path.basename(os.fspath(path)))[0],
        states=model.num_states,
        inputs=model.num_inputs,
        outputs=model.num_outputs,
        parts="\n".join(f"    {name!r}: np.array({digits(part)})," for name, part in parts.items()),
        activation=ACTIVATION_CODE[form.activation],
        seen="np.hstack([x, v])" if form.feedthrough else "x",
    )
    with atomic_write(path) as file:
        file.write(text.encode())


def step_onnx(model: StateSpaceModel, theta: ArrayLike, *, dtype: str = "float64") -> Any:
    """The step as an ``onnx.ModelProto``: x (N, n) and, where there are inputs, v (N, q) -> x_next (N, n), y (N, m).

    Raises
    ------
    ImportError
        If onnx is not installed.
    ValueError
        For a model of CasADi functions, parameters that are not the model's, an unknown ``dtype``, or numbers beyond
        single precision.
    """
    onnx_package()
    checks.check("dtype", dtype, checks.one_of(("float64", "float32")))
    form, parts = _parts(model, theta, "ONNX cannot hold")
    graph = Graph(dtype)
    has_inputs = model.num_inputs > 0
    both = graph.apply("Concat", "x", "v", axis=1) if has_inputs else "x"
    _rows(graph, form, parts, ("A", "B", "b"), "", both, "x_next")
    _rows(graph, form, parts, ("C", "D", "d"), "output_", both if form.feedthrough else "x", "y")
    widths = {"x": model.num_states, **({"v": model.num_inputs} if has_inputs else {})}
    return graph.finished(widths, {"x_next": model.num_states, "y": model.num_outputs}, {})


def write_step_onnx(
    model: StateSpaceModel, theta: ArrayLike, path: str | os.PathLike[str], *, dtype: str = "float64"
) -> None:
    """:func:`step_onnx` in a file."""
    content = step_onnx(model, theta, dtype=dtype).SerializeToString()
    with atomic_write(path) as file:
        file.write(content)


def _parts(model: StateSpaceModel, theta: ArrayLike, cannot: str) -> tuple[Architecture, Mapping[str, Array]]:
    checks.check("model", model, _MODEL)
    if model.architecture is None:
        raise ValueError(f"the model is made of CasADi functions, which {cannot}: export to CasADi or C instead")
    return model.architecture, model.matrices(theta)


def _rows(
    graph: Graph,
    form: Architecture,
    parts: Mapping[str, Array],
    linear: tuple[str, str, str],
    prefix: str,
    seen: str,
    output: str,
) -> None:
    """The nodes of f or of g: what the network says, and the linear part beside it."""
    layers, total, z = sum(name.startswith(f"{prefix}W") for name in parts), [], seen
    for i in range(1, layers + 1):
        weights, bias = f"{prefix}W{i}", f"{prefix}b{i}"
        z = graph.apply("MatMul", z, graph.constant(weights, parts[weights].T))
        z = graph.apply("Add", z, graph.constant(bias, parts[bias].T)) if bias in parts else z
        z = ACTIVATION_NODES[form.activation](graph, z) if i < layers else z
    total += [z] if layers else []
    for name, given in zip(linear, ("x", "v"), strict=False):
        if name in parts:
            total.append(graph.apply("MatMul", given, graph.constant(name, parts[name].T)))
    if linear[2] in parts:
        total.append(graph.constant(linear[2], parts[linear[2]].T))
    for part in total[1:-1]:
        total[0] = graph.apply("Add", total[0], part)
    graph.apply("Add", total[0], total[-1], output=output) if len(total) > 1 else graph.apply(
        "Identity", total[0], output=output
    )
