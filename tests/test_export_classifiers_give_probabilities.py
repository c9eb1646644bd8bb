"""Exported classifiers give probabilities, and models of counts rates, in every format and at any logit."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys

import casadi as ca
import numpy as np
import pytest

from ocp_nn import Model, Network
from ocp_nn.export import casadi_function, onnx_model, write_c, write_casadi, write_numpy, write_onnx
from ocp_nn.learning.data import Scaler

RNG = np.random.default_rng(0)
COMPILER = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler")

X = np.vstack([5 * RNG.standard_normal((50, 3)), np.zeros((1, 3))])
# logits of +-1000 from the linear models
FAR = 1000.0 * np.array(np.meshgrid([-1, 0, 1], [-1, 0, 1], [-1, 0, 1])).reshape(3, -1).T


def curved(link, outputs, **further) -> Model:
    network = Network.mlp([3, 6, outputs])
    controls = [u + 0.1 * RNG.standard_normal(u.shape) for u in network.init_controls(1)]
    x_scaler = Scaler(RNG.standard_normal(3), RNG.uniform(0.5, 2, 3))
    return Model(network, controls, x_scaler=x_scaler, link=link, **further)


def linear(link, outputs, **further) -> Model:
    """Outputs that are the first inputs."""
    controls = [np.concatenate([np.eye(outputs, 3).ravel(order="F"), np.zeros(outputs)])]
    return Model(Network.mlp([3, outputs]), controls, link=link, **further)


MODELS = {
    "logistic": (curved("logistic", 1, classes=("no", "yes")), X),
    "several": (curved("logistic", 2), X),
    "softmax": (curved("softmax", 3, classes=("a", "*/ b", "c\n")), X),
    "log": (curved("log", 2), X),
    "logistic_far": (linear("logistic", 1), FAR),
    "softmax_far": (linear("softmax", 3, classes=(1, 2, 3)), FAR),
    "log_far": (linear("log", 2), np.minimum(FAR, 700.0)),
}
every_model = pytest.mark.parametrize("name", MODELS)


def assert_same(found, name, tolerance=1e-12):
    model, x = MODELS[name]
    expected = model.predict(x)
    assert np.isfinite(found).all()
    if model.link != "log":
        assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=1e-300 if tolerance < 1e-6 else 1e-30)


@every_model
def test_plain_casadi_gives_them(name, tmp_path):
    model, x = MODELS[name]
    write_casadi(model, tmp_path / "model.casadi")
    assert_same(np.array(ca.Function.load(str(tmp_path / "model.casadi"))(x.T)).T, name)


@every_model
def test_casadi_differentiates_them(name):
    model, x = MODELS[name]
    f = casadi_function(model)
    z = ca.MX.sym("x", 3)
    jacobian = ca.Function("J", [z], [ca.jacobian(f(z), z)])
    assert all(np.isfinite(jacobian(row).full()).all() for row in x)
    steps = 1e-6 * np.eye(3)
    differences = (model.predict(0.1 * x[:1] + steps) - model.predict(0.1 * x[:1] - steps)).T / 2e-6
    np.testing.assert_allclose(jacobian(0.1 * x[0]).full(), differences, rtol=1e-6, atol=1e-8)


@needs_compiler
@every_model
def test_c_gives_them(name, tmp_path):
    model, x = MODELS[name]
    source, library = tmp_path / "net.c", tmp_path / "net.so"
    write_c(model, source, "net")
    flags = ["-std=c99", "-O1", "-Wall", "-Werror", "-shared", "-fPIC"]
    subprocess.run([COMPILER, *flags, "-o", str(library), str(source), "-lm"], check=True, capture_output=True)
    predict = ctypes.CDLL(str(library)).net_predict
    numbers = ctypes.POINTER(ctypes.c_double)
    predict.argtypes, predict.restype = [numbers, numbers], None
    found = np.empty((len(x), model.network.num_outputs))
    for row, y in zip(np.ascontiguousarray(x), found, strict=True):
        predict(row.ctypes.data_as(numbers), y.ctypes.data_as(numbers))
    assert_same(found, name)
    assert ("classes no, yes" in source.read_text()) == (model.classes == ("no", "yes"))


@every_model
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 3e-5)])
def test_onnx_gives_them(name, dtype, tolerance, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    if (name, dtype) == ("log_far", "float32"):
        pytest.skip("e^700 is beyond single precision")
    model, x = MODELS[name]
    write_onnx(model, tmp_path / "model.onnx", dtype=dtype)
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    (y,) = session.run(["y"], {"x": x.astype(dtype)})
    assert y.dtype == dtype
    assert_same(y, name, tolerance)


def test_onnx_says_what_its_output_is():
    pytest.importorskip("onnx")
    proto = onnx_model(MODELS["logistic"][0])
    properties = {p.key: p.value for p in proto.metadata_props}
    assert properties == {"features": "x0, x1, x2", "targets": "yes", "link": "logistic", "classes": "no, yes"}
    assert [node.op_type for node in proto.graph.node][-1] == "Sigmoid"
    assert [output.name for output in proto.graph.output] == ["y"]


@every_model
def test_numpy_alone_gives_them(name, tmp_path):
    model, x = MODELS[name]
    write_numpy(model, tmp_path / "exported.py")
    np.save(tmp_path / "x.npy", x)
    code = """
import sys
sys.modules.update(dict.fromkeys(["ocp_nn", "casadi", "scipy"]))   # importing them is an ImportError
import numpy as np
from exported import CLASSES, predict
np.save("y.npy", predict(np.load("x.npy")))
print(repr(CLASSES))
"""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert_same(np.load(tmp_path / "y.npy"), name)
    assert done.stdout.strip() == repr(model.classes)
