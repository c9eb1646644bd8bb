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


def imports(name: str) -> set[str]:
    """Modules of this package that ``name`` imports, also inside functions and for type checkers only."""
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in MODULES}
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
                base = f"{above}.{node.module}" if node.module else above
            if base in MODULES:
                found |= {f"{base}.{a.name}" if f"{base}.{a.name}" in MODULES else base for a in node.names}
    return found - {name}


def room(name: str) -> str:
    """The package directly below ocp_nn; its own face and the program's entry are a room each."""
    return name.split(".")[1] if "." in name else "ocp_nn"


# What each room may import, beside itself.
ROOMS = {
    "base": set(),
    "network": {"base"},
    "problem": {"base", "network"},
    "forward_dp": {"base", "network"},
    "solvers": {"base", "network", "problem", "forward_dp"},
    "learning": {"base", "network", "problem", "forward_dp", "solvers"},
    "analysis": {"base", "network", "problem", "forward_dp", "solvers", "learning"},
    "export": {"base", "network"},
}
ROOMS["report"] = {*ROOMS} - {"export"}
ROOMS["cli"] = {*ROOMS, "report"}


def test_every_module_stands_in_a_room():
    assert {room(name) for name in MODULES} == {*ROOMS, "ocp_nn", "__main__"}


@pytest.mark.parametrize("name", [n for n in MODULES if room(n) in ROOMS])
def test_rooms_import_one_way(name):
    assert {room(target) for target in imports(name)} - {room(name)} <= ROOMS[room(name)]


def test_no_module_imports_itself_by_a_detour():
    """The faces of packages gather names from their modules, which import from modules, not from faces."""
    graph = {name: imports(name) for name in MODULES if name != "ocp_nn"}
    while free := [name for name, targets in graph.items() if not targets & graph.keys()]:
        for name in free:
            del graph[name]
    assert not graph, f"import cycle among {sorted(graph)}"


@pytest.mark.parametrize("name", [n for n in MODULES if room(n) != "cli"])
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
