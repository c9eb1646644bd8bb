"""Importing ocp_nn costs little beyond CasADi and NumPy, and everything required works without any optional package."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata

import pytest

OPTIONAL = ("sklearn", "onnx", "onnxruntime", "pandas", "joblib", "hypothesis", "pytest")

# Meta path finder that knows no optional package: what a clean environment looks like to an import.
CLEAN = f"""
import sys
OPTIONAL = {OPTIONAL!r}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in OPTIONAL:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""


def run(code: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=check)


# what the package is made of, and what Cython registers on behalf of SciPy
KNOWN = {"ocp_nn", "scipy", "threadpoolctl", "cython_runtime"}


def test_only_a_few_modules_are_loaded_beyond_casadi_and_numpy():
    """What costs the seconds: nothing asserts these themselves."""
    code = """
import sys, casadi, numpy
before = {name.partition(".")[0] for name in sys.modules}
import ocp_nn
print(*sorted({name.partition(".")[0] for name in sys.modules} - before))
"""
    new = set(run(code).stdout.split())
    foreign = {name for name in new if name not in sys.stdlib_module_names and not name.startswith("_")} - KNOWN
    assert not foreign


def test_parts_of_scipy_that_are_slow_to_import_are_left_out():
    slow = ("scipy.optimize", "scipy.stats", "scipy.interpolate", "scipy.spatial", "scipy.signal", "scipy.integrate")
    code = f"import sys, ocp_nn, ocp_nn.cli; print([m for m in {slow!r} if m in sys.modules])"
    assert run(code).stdout.strip() == "[]"


SESSION = """
import json, numpy as np, ocp_nn
from ocp_nn.cli import main
from ocp_nn.export import write_casadi, write_c, write_numpy
from ocp_nn.report import LiveHistory, convergence_figure, write_figure
folder = sys.argv[1]
x = np.linspace(-3, 3, 50)[:, None]
problem = ocp_nn.TrainingProblem(ocp_nn.Network.mlp([1, 6, 1]), x, np.sin(x), 1e-3)
with LiveHistory() as live:
    result = ocp_nn.solve(problem, callback=live)
assert result.success and ocp_nn.certify(problem, result.trajectory).passed()
result.save(f"{folder}/r.npz")
assert (ocp_nn.load(f"{folder}/r.npz").predict(x) == result.predict(x)).all()
write_casadi(result.model, f"{folder}/m.casadi"); write_c(result.model, f"{folder}/m.c")
write_numpy(result.model, f"{folder}/m.py")
write_figure(f"{folder}/c.png", convergence_figure(result.history))
assert main(["fit", "sin2x", "--hidden", "4", "--weight-decay", "1", "--quiet", "--out", f"{folder}/fit"]) == 0
assert main(["datasets"]) == 0
assert not [name for name in sys.modules if name.partition(".")[0] in OPTIONAL], "an optional package was loaded"
assert "OCPRegressor" not in ocp_nn.__all__
from ocp_nn import *
assert solve is ocp_nn.solve
try:
    ocp_nn.OCPRegressor
except ImportError as error:
    assert "pip install 'ocp-nn[ml]'" in str(error), error
else:
    raise AssertionError("OCPRegressor without scikit-learn")
"""


def test_everything_at_once_has_the_estimator_where_its_package_is():
    pytest.importorskip("sklearn")
    code = """
import sys, ocp_nn
assert "sklearn" not in sys.modules
from ocp_nn import *
print(OCPRegressor.__name__, [name for name in ocp_nn.__all__ if name not in globals()])
"""
    assert run(code).stdout.strip() == "OCPRegressor []"


def test_everything_required_works_in_a_clean_environment(tmp_path):
    done = run(CLEAN + SESSION, str(tmp_path), check=False)
    assert done.returncode == 0, done.stderr
    for name in ("m.casadi", "m.c", "m.py", "c.png", "fit/model.npz", "fit/layers.png"):
        assert (tmp_path / name).is_file()


def test_optional_packages_that_are_missing_are_one_line(tmp_path):
    code = CLEAN + "from ocp_nn.cli import main\nsys.exit(main(sys.argv[1:]))"
    done = run(code, "fit", "diabetes", check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "pip install 'ocp-nn[ml]'" in done.stderr


def test_required_packages_are_those_that_are_declared():
    """What the code imports at load, or when it draws or shows something, is what pip installs with it."""
    requirements = metadata.requires("ocp-nn") or []
    declared = {re.split(r"[ <>=\[]", line)[0] for line in requirements if "extra ==" not in line}
    assert declared == {"casadi", "matplotlib", "numba", "numpy", "rich", "scipy", "threadpoolctl"}


def test_the_estimator_is_found_lazily():
    pytest.importorskip("sklearn")
    code = """
import sys, ocp_nn
assert "sklearn" not in sys.modules and "OCPRegressor" in dir(ocp_nn)
from ocp_nn import OCPRegressor
assert "sklearn" in sys.modules and OCPRegressor is ocp_nn.OCPRegressor
try:
    ocp_nn.nothing
except AttributeError as error:
    print(error)
"""
    assert run(code).stdout.strip() == "module 'ocp_nn' has no attribute 'nothing'"
