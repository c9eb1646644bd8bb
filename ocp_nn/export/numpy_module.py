"""A trained network as one Python file that needs NumPy and nothing else.

The weights are in the file as decimal numbers with all their digits; ``predict(x)`` gives what
:meth:`ocp_nn.Model.predict` gives: a classifier's gives probabilities.
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from ..base.atomic import atomic_write
from ..network.layers import Dense
from ..network.links import link_named
from ..network.model import Model

__all__ = ["ACTIVATION_CODE", "digits", "write_numpy"]

Array = NDArray[np.float64]

ACTIVATION_CODE = {
    "tanh": "np.tanh(a)",
    "sigmoid": "0.5 + 0.5 * np.tanh(0.5 * a)",
    "relu": "np.maximum(a, 0.0)",
    "softplus": "np.logaddexp(0.0, a)",
    "identity": "a",
}

_MODULE = '''\
"""A trained network; made by ocp_nn {version}.  Needs NumPy only.

    from {module} import predict
    y = predict(x)        # x of shape (N, {inputs}) -> y of shape (N, {outputs}), {meaning}
"""

import numpy as np

FEATURES = {features!r}
TARGETS = {targets!r}
CLASSES = {classes!r}

# the lowest and the highest training inputs, or None; nothing was learned far outside them
X_RANGE = {x_range}

X_MEAN = np.array({x_mean})
X_SCALE = np.array({x_scale})
Y_MEAN = np.array({y_mean})
Y_SCALE = np.array({y_scale})

# weights (inputs, outputs), bias, activation, whether the layer adds its input
LAYERS = [
{layers}
]

ACTIVATIONS = {{
{activations}
}}


def predict(x):
    x = np.asarray(x, dtype=float)
    if x.ndim != 2 or x.shape[1] != len(X_MEAN):
        raise ValueError(f"expected x of shape (N, {{len(X_MEAN)}}), received {{x.shape}}")
    x = (x - X_MEAN) / X_SCALE
    for weights, bias, activation, residual in LAYERS:
        y = ACTIVATIONS[activation](x @ weights + bias)
        x = x + y if residual else y
    {response}
'''

# as in .links: no exponent is positive where a mean is finite
_RESPONSES = {
    "identity": "return x * Y_SCALE + Y_MEAN",
    "logistic": "return np.exp(np.minimum(x, 0.0)) / (1.0 + np.exp(-np.abs(x)))",
    "softmax": "x = np.exp(x - x.max(axis=1, keepdims=True))\n    return x / x.sum(axis=1, keepdims=True)",
    "log": "return np.exp(x)",
}


def write_numpy(model: Model, path: str | os.PathLike[str]) -> None:
    """Write the model as a Python module with a function ``predict``.

    Raises
    ------
    ValueError
        For a symbolic stage, which only CasADi can evaluate.
    """
    from ..base.version import VERSION

    layers = [
        _layer_line(k, layer, u)
        for k, (layer, u) in enumerate(zip(model.network.layers, model.layer_controls, strict=True))
    ]
    used = {layer.activation: None for layer in model.network.layers if isinstance(layer, Dense)}
    text = _MODULE.format(
        version=VERSION,
        module=os.path.splitext(os.path.basename(os.fspath(path)))[0],
        inputs=model.network.num_inputs,
        outputs=model.network.num_outputs,
        features=model.features,
        targets=model.targets,
        classes=model.classes,
        meaning=link_named(model.link).meaning,
        response=_RESPONSES[model.link],
        x_range=None if model.x_range is None else f"np.array({digits(model.x_range)})",
        x_mean=digits(model.x_scaler.mean),
        x_scale=digits(model.x_scaler.scale),
        y_mean=digits(model.y_scaler.mean),
        y_scale=digits(model.y_scaler.scale),
        layers="\n".join(layers),
        activations="\n".join(f"    {name!r}: lambda a: {ACTIVATION_CODE[name]}," for name in used),
    )
    with atomic_write(path) as file:
        file.write(text.encode())


def _layer_line(k: int, layer: object, u: Array) -> str:
    if not isinstance(layer, Dense):
        raise ValueError(f"stage {k} is a CasADi function, which NumPy cannot evaluate: export to CasADi or C instead")
    weight, bias = layer.weights(u)
    return f"    (np.array({digits(weight.T)}), np.array({digits(bias)}), {layer.activation!r}, {layer.residual}),"


def digits(values: Array) -> str:
    """All digits, as Python lists."""
    return repr(values.tolist())
