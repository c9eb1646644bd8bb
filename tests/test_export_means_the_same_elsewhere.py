"""Exports predict what the model predicts: as a CasADi function, compiled C, ONNX, and a module of NumPy only."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys

import casadi as ca
import numpy as np
import pytest

from ocp_nn import Dense, Model, Network
from ocp_nn.export import casadi_function, onnx_model, write_c, write_casadi, write_numpy, write_onnx
from ocp_nn.learning.data import Scaler
from ocp_nn.network.activations import ACTIVATIONS

RNG = np.random.default_rng(0)
X = 5 * RNG.standard_normal((50, 3))
COMPILER = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler")


def scaled(network: Network, **names) -> Model:
    """Random weights and biases, random units."""
    n, m = network.num_inputs, network.num_outputs
    controls = [u + 0.1 * RNG.standard_normal(u.shape) for u in network.init_controls(1)]
    x_scaler = Scaler(RNG.standard_normal(n), RNG.uniform(0.5, 2, n))
    y_scaler = Scaler(RNG.standard_normal(m), RNG.uniform(1, 100, m))
    return Model(network, controls, x_scaler=x_scaler, y_scaler=y_scaler, **names)


def oscillator() -> ca.Function:
    x, u = ca.SX.sym("x", 3), ca.SX.sym("u", 3)
    return ca.Function("oscillator", [x, u], [x + 0.1 * ca.sin(u * x)])


DENSE = {name: scaled(Network.mlp([3, 7, 7, 2], name, residual=True)) for name in ACTIVATIONS}
DENSE["linear"] = scaled(Network.mlp([3, 1]))
DENSE["mixed"] = scaled(Network([Dense(3, 4, "relu"), Dense(4, 4, "sigmoid", True), Dense(4, 2, "softplus")]))
ALL = {**DENSE, "symbolic": scaled(Network([Dense(3, 3), oscillator(), Dense(3, 2, "identity")]))}

every_model = pytest.mark.parametrize("name", ALL)
every_dense_model = pytest.mark.parametrize("name", DENSE)


def assert_same(found, model, tolerance=1e-12, x=X):
    expected = model.predict(x)
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


@every_model
def test_plain_casadi_loads_and_evaluates(name, tmp_path):
    write_casadi(ALL[name], tmp_path / "model.casadi")
    f = ca.Function.load(str(tmp_path / "model.casadi"))
    assert (f.name(), f.name_in(), f.name_out()) == ("model", ["x"], ["y"])
    assert_same(np.array(f(X.T)).T, ALL[name])
    one_sample = f(X[0])
    assert one_sample.shape == (ALL[name].network.num_outputs, 1)


@every_model
def test_casadi_differentiates_it(name):
    f = casadi_function(ALL[name])
    x = ca.MX.sym("x", 3)
    slope = np.array(ca.Function("J", [x], [ca.jacobian(f(x), x)])(X[0]))
    steps = 1e-6 * np.eye(3)
    differences = (ALL[name].predict(X[0] + steps) - ALL[name].predict(X[0] - steps)).T / 2e-6
    np.testing.assert_allclose(slope, differences, rtol=1e-6, atol=1e-6 * np.abs(slope).max())


def test_it_serves_in_someones_optimisation():
    """min ||u||^2 such that the model reaches a target: solved by IPOPT, with the exported function as a constraint."""
    f = casadi_function(DENSE["tanh"])
    target = DENSE["tanh"].predict(X[:1]).ravel()
    u = ca.MX.sym("u", 3)
    solver = ca.nlpsol("s", "ipopt", {"x": u, "f": ca.sumsqr(u), "g": f(u) - target},
                       {"ipopt.print_level": 0, "print_time": False, "ipopt.sb": "yes"})  # fmt: skip
    found = solver(x0=X[0] + 0.1, lbg=0, ubg=0)
    assert solver.stats()["success"]
    np.testing.assert_allclose(DENSE["tanh"].predict(np.array(found["x"]).T).ravel(), target, rtol=1e-6)
    assert float(found["f"]) <= float(ca.sumsqr(X[0])) * (1 + 1e-6)


def compiled(model, folder, name):
    source, library = folder / f"{name}.c", folder / f"{name}.so"
    write_c(model, source, name)
    flags = ["-std=c99", "-O1", "-Wall", "-Werror", "-shared", "-fPIC"]
    subprocess.run([COMPILER, *flags, "-o", str(library), str(source), "-lm"], check=True, capture_output=True)
    return library


@needs_compiler
@every_model
def test_c_compiles_without_a_warning_and_matches(name, tmp_path):
    library = compiled(ALL[name], tmp_path, f"net_{len(name)}")
    predict = getattr(ctypes.CDLL(str(library)), f"net_{len(name)}_predict")
    numbers = ctypes.POINTER(ctypes.c_double)
    predict.argtypes, predict.restype = [numbers, numbers], None
    out = np.empty((len(X), ALL[name].network.num_outputs))
    for x, y in zip(X, out, strict=True):
        predict(x.ctypes.data_as(numbers), y.ctypes.data_as(numbers))
    assert_same(out, ALL[name])
    assert_same(np.array(ca.external(f"net_{len(name)}", str(library))(X.T)).T, ALL[name])


@needs_compiler
def test_c_names_its_columns_whatever_they_are(tmp_path):
    model = scaled(Network.mlp([3, 2, 1]), features=["*/ int main", "höhe\nb", "c\\"], targets=['"'])
    assert compiled(model, tmp_path, "odd").is_file()


def test_c_refuses_names_that_are_no_identifiers(tmp_path):
    with pytest.raises(ValueError, match="C identifier"):
        write_c(DENSE["tanh"], tmp_path / "x.c", "my-model")
    assert not list(tmp_path.iterdir())


TAKEN = ("1a", "int", "class", "sin", "casadi_int", "printf", "x", "w", "a__b", "jac", "a b", "x" * 64, "", 3)


@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.parametrize("write", [write_c, write_casadi])
def test_names_that_mean_something_else_are_refused(write, name, tmp_path):
    with pytest.raises(ValueError, match=r"name must be a C identifier .*, received ") as error:
        write(DENSE["tanh"], tmp_path / "x", name)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


@needs_compiler
@pytest.mark.parametrize("name", ["f", "model", "f0", "Pump_2", "x" * 63, "predict", "double_", "net"])
def test_names_that_are_taken_compile(name, tmp_path):
    assert compiled(DENSE["tanh"], tmp_path, name).is_file()


@every_dense_model
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
def test_onnx_matches_in_its_runtime(name, dtype, tolerance, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    write_onnx(DENSE[name], tmp_path / "model.onnx", dtype=dtype)
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    for rows in (X, X[:1]):  # any number of samples
        (y,) = session.run(["y"], {"x": rows.astype(dtype)})
        assert y.dtype == dtype
        assert_same(y, DENSE[name], tolerance, rows)


def test_onnx_knows_the_names_of_the_columns():
    pytest.importorskip("onnx")
    model = scaled(Network.mlp([3, 2, 1]), features=["a", "b", "c"], targets=["t"])
    assert {p.key: p.value for p in onnx_model(model).metadata_props} == {"features": "a, b, c", "targets": "t"}


@every_dense_model
def test_numpy_alone_is_enough(name, tmp_path):
    write_numpy(DENSE[name], tmp_path / "exported.py")
    np.save(tmp_path / "x.npy", X)
    code = """
import sys
sys.modules.update(dict.fromkeys(["ocp_nn", "casadi", "scipy"]))   # importing them is an ImportError
import numpy as np
from exported import predict
np.save("y.npy", predict(np.load("x.npy")))
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, check=True)
    assert_same(np.load(tmp_path / "y.npy"), DENSE[name])


def test_the_numpy_module_checks_shapes(tmp_path):
    write_numpy(DENSE["tanh"], tmp_path / "exported.py")
    space = {}
    exec((tmp_path / "exported.py").read_text(), space)
    with pytest.raises(ValueError, match=r"expected x of shape \(N, 3\), received \(3,\)"):
        space["predict"](X[0])


@pytest.mark.parametrize("write", [write_onnx, write_numpy])
def test_symbolic_stages_are_refused_where_they_cannot_be_written(write, tmp_path):
    if write is write_onnx:
        pytest.importorskip("onnx")
    with pytest.raises(ValueError, match="stage 1 is a CasADi function"):
        write(ALL["symbolic"], tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_without_onnx_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'ocp-nn\[onnx\]'"):
        onnx_model(DENSE["tanh"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x_scaler": Scaler(np.zeros(2), np.ones(2))}, r"x_scaler must scale 3 column\(s\), received \(2,\)"),
        ({"targets": ["a"]}, r"targets: expected 2 name\(s\), received 1"),
        ({"controls": [np.zeros(3)]}, "expected one control vector a stage"),
    ],
)
def test_a_model_that_does_not_fit_together_is_refused(change, words):
    parts = {"controls": DENSE["tanh"].controls, **change}
    with pytest.raises(ValueError, match=words):
        Model(DENSE["tanh"].network, parts.pop("controls"), **parts)
