"""Exports of state-space models simulate as the model does, over a thousand steps."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess

import casadi as ca
import numpy as np
import pytest

from ocp_nn import Scaler, StateSpaceModel
from ocp_nn.export import (
    simulation_function,
    step_function,
    step_onnx,
    write_step_c,
    write_step_casadi,
    write_step_numpy,
    write_step_onnx,
)

STEPS = 1000
RNG = np.random.default_rng(0)


def of_networks(**others):
    widths = {"num_states": 2, "num_inputs": 1, "num_outputs": 2, "hidden_layer_sizes": (4,)} | others
    return StateSpaceModel(**widths)


def own_functions():
    x, v, theta = ca.SX.sym("x", 2), ca.SX.sym("v", 1), ca.SX.sym("theta", 3)
    f = ca.vertcat(0.8 * theta[0] * ca.sin(x[1]) + v, theta[1] * x[0] - 0.2 * x[1])
    names = [x, v, theta]
    return StateSpaceModel(dynamics=ca.Function("f", names, [f]), output=ca.Function("g", names, [theta[2] * x[0]]))


MODELS = {
    "linear and network": of_networks(),
    "network alone, deep": of_networks(linear=False, hidden_layer_sizes=(5, 3), activation="sigmoid"),
    "feedthrough, deep output": of_networks(feedthrough=True, output_layer_sizes=(3,), activation="softplus"),
    "linear": of_networks(hidden_layer_sizes=()),
    "relu, one output": of_networks(num_outputs=1, activation="relu"),
    "autonomous": of_networks(num_inputs=0),
    "own functions": own_functions(),
}


def parameters(model):
    """Small enough to be stable, in units of their own where the model has units."""
    theta = 0.4 * np.random.default_rng(1).standard_normal(model.num_parameters)
    if model.architecture is None:
        return theta
    inputs = Scaler(np.full(model.num_inputs, 3.0), np.full(model.num_inputs, 2.0))
    return model.in_units(theta, inputs, Scaler(np.full(model.num_outputs, -5.0), np.full(model.num_outputs, 0.3)))


def record(model):
    return 3.0 + 2.0 * RNG.standard_normal((STEPS, model.num_inputs)), RNG.standard_normal(model.num_states)


def close(found, expected, tolerance=1e-12):
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=tolerance * max(1.0, np.abs(theirs).max()))


def stepped(step, v, x0):
    """(y, x) of step after step."""
    x, outputs = [x0], []
    for row in v:
        after, y = step(x[-1], row)
        x.append(np.ravel(after))
        outputs.append(np.ravel(y))
    return np.array(outputs), np.array(x)


@pytest.mark.parametrize("name", MODELS)
def test_casadi_functions_of_one_step_and_of_many(name, tmp_path):
    model = MODELS[name]
    theta, (v, x0) = parameters(model), record(model)
    expected = model.simulate(theta, v, x0)
    assert np.abs(expected[1]).max() < 1e3
    y, x = simulation_function(model, theta, STEPS)(x0, v.T)
    close((np.array(y).T, np.array(x).T), expected)
    write_step_casadi(model, theta, tmp_path / "step.casadi")
    for step in (step_function(model, theta), ca.Function.load(str(tmp_path / "step.casadi"))):
        assert step.name_in() == ["x", "v"] and step.name_out() == ["x_next", "y"]
        close(stepped(lambda x, v, step=step: map(np.array, step(x, v)), v, x0), expected)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize("name", ["linear and network", "autonomous", "own functions"])
def test_c_code_of_one_step(name, tmp_path):
    model = MODELS[name]
    theta, (v, x0) = parameters(model), record(model)
    write_step_c(model, theta, tmp_path / "s.c", "tank")
    command = ["cc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(tmp_path / "s.so"), str(tmp_path / "s.c")]
    subprocess.run([*command, "-lm"], check=True, capture_output=True)
    function = ctypes.CDLL(str(tmp_path / "s.so")).tank_step

    def step(x, row):
        arrays = [np.array(x), np.array(row), np.empty(model.num_states), np.empty(model.num_outputs)]
        arrays[2] = arrays[0]  # in place
        function(*(ctypes.c_void_p(a.ctypes.data) for a in arrays))
        return arrays[2], arrays[3]

    close(stepped(step, v, x0), model.simulate(theta, v, x0))


@pytest.mark.parametrize("name", [name for name in MODELS if name != "own functions"])
def test_a_module_that_needs_numpy_alone(name, tmp_path):
    model = MODELS[name]
    theta, (v, x0) = parameters(model), record(model)
    write_step_numpy(model, theta, tmp_path / "plant.py")
    text = (tmp_path / "plant.py").read_text()
    assert [line for line in text.splitlines() if line.startswith("import")] == ["import numpy as np"]
    spec = importlib.util.spec_from_file_location("plant", tmp_path / "plant.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    close(module.simulate(v, x0), model.simulate(theta, v, x0))
    batch = module.step(RNG.standard_normal((5, model.num_states)), RNG.standard_normal((5, model.num_inputs)))
    assert [part.shape for part in batch] == [(5, model.num_states), (5, model.num_outputs)]
    with pytest.raises(ValueError, match="expected x"):
        module.step(np.zeros((2, 9)), np.zeros((2, 1)))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", [name for name in MODELS if name != "own functions"])
def test_an_onnx_graph_of_one_step(name, dtype, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = MODELS[name]
    theta, (v, x0) = parameters(model), record(model)
    write_step_onnx(model, theta, tmp_path / "s.onnx", dtype=dtype)
    session = onnxruntime.InferenceSession(str(tmp_path / "s.onnx"), providers=["CPUExecutionProvider"])

    def step(x, row):
        given = {"x": np.array(x, dtype=dtype)[None], "v": np.array(row, dtype=dtype)[None]}
        return session.run(["x_next", "y"], {key: given[key] for key in given if key == "x" or model.num_inputs})

    tolerance = 1e-6 if dtype == "float64" else 1e-4
    close(stepped(step, v, x0), model.simulate(theta, v, x0), tolerance)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda m, theta, path: step_function(m, theta[:-1]), "theta"),
        (lambda m, theta, path: step_function(m, theta, "void"), "name"),
        (lambda m, theta, path: step_function("m", theta), "StateSpaceModel"),
        (lambda m, theta, path: simulation_function(m, theta, 0), "steps"),
        (lambda m, theta, path: write_step_numpy(own_functions(), np.ones(3), path), "NumPy cannot evaluate"),
        (lambda m, theta, path: step_onnx(own_functions(), np.ones(3)), "ONNX cannot hold"),
        (lambda m, theta, path: step_onnx(m, theta, dtype="float16"), "dtype"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(function, message, tmp_path):
    model = MODELS["linear and network"]
    with pytest.raises(ValueError, match=message):
        function(model, parameters(model), tmp_path / "out")
    assert not list(tmp_path.iterdir())
