"""The modules form layers: no import cycles, solvers know nothing of reports, only the command line prints.

Importing the package loads nothing that only some users need, and changes no global state.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ocp_nn

ROOT = Path(ocp_nn.__file__).parent
MODULES = {
    ".".join(["ocp_nn", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}


def imports_at_load(name: str) -> set[str]:
    """Modules of this package that ``name`` imports when it is loaded (not those imported inside functions)."""
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
            base = f"{base}.{node.module}" if node.module else base
            found |= {f"{base}.{a.name}" if f"{base}.{a.name}" in MODULES else base for a in node.names}
    return found - {name}


def layer(name: str) -> str:
    """The module or sub-package directly below ocp_nn."""
    return ".".join(name.split(".")[:2])


def test_no_cycles():
    graph = {name: imports_at_load(name) - {"ocp_nn"} for name in MODULES}
    # the sub-packages' own __init__ gather names from their modules: look at them as one node each
    layers: dict[str, set[str]] = {}
    for name, targets in graph.items():
        layers.setdefault(layer(name), set()).update({layer(t) for t in targets} - {layer(name)})
    layers.pop("ocp_nn")
    while free := [name for name, targets in layers.items() if not targets & layers.keys()]:
        for name in free:
            del layers[name]
    assert not layers, f"import cycle among {layers}"


OUTER = {"ocp_nn.cli", "ocp_nn.report", "ocp_nn.__main__"}


@pytest.mark.parametrize("name", [n for n in MODULES if layer(n) not in OUTER | {"ocp_nn"}])
def test_the_library_knows_no_reports(name):
    assert not {layer(t) for t in imports_at_load(name)} & OUTER


def test_data_stand_alone():
    inside = {layer(t) for name in MODULES if layer(name) == "ocp_nn.data" for t in imports_at_load(name)}
    assert inside <= {"ocp_nn.data", "ocp_nn.checks", "ocp_nn.display"}


@pytest.mark.parametrize("name", ["ocp_nn.checks", "ocp_nn.display"])
def test_checks_and_displays_are_at_the_bottom(name):
    assert not imports_at_load(name)


@pytest.mark.parametrize("name", [n for n in MODULES if layer(n) != "ocp_nn.cli"])
def test_only_the_command_line_prints(name):
    calls = [n.func for n in ast.walk(ast.parse(MODULES[name].read_text())) if isinstance(n, ast.Call)]
    assert not [f for f in calls if isinstance(f, ast.Name) and f.id == "print"]


def run(code: str) -> str:
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_import_loads_nothing_optional():
    heavy = ("matplotlib", "sklearn", "rich", "pandas", "torch", "onnx")
    assert run(f"import sys, ocp_nn, ocp_nn.cli; print([m for m in {heavy} if m in sys.modules])") == "[]"


def test_import_changes_no_global_state():
    code = """
import warnings, numpy, casadi, threadpoolctl, scipy.linalg, scipy.special
state = lambda: (list(warnings.filters), numpy.geterr(), numpy.get_printoptions(),
                 [(p["user_api"], p["num_threads"]) for p in threadpoolctl.threadpool_info()])
before = state(); import ocp_nn, ocp_nn.cli; print(state() == before)"""
    assert run(code) == "True"


def test_every_public_name_is_there_and_has_a_docstring():
    for name in ocp_nn.__all__:
        assert getattr(ocp_nn, name).__doc__, name
