"""Every notebook runs from top to bottom, the solutions of its exercises too, and was made from the source beside it.

The cells assert their own numbers.  Here: no cell fails, nothing is written to stderr (warnings), the outputs that are
committed are clean, and the course keeps its form.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import ModuleType

import pytest

import ocp_nn

nbformat = pytest.importorskip("nbformat")
jupytext = pytest.importorskip("jupytext")
nbclient = pytest.importorskip("nbclient")

ROOT = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(ROOT.glob("*.ipynb"))
SOURCES = sorted((ROOT / "sources").glob("*.py"))

MAX_CODE_LINES = 100

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem[:2])


def code_lines(notebook: nbformat.NotebookNode) -> list[str]:
    lines = [line for cell in notebook.cells if cell.cell_type == "code" for line in cell.source.splitlines()]
    return [line for line in lines if line.strip() and not line.strip().startswith("#")]


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def solutions(notebook: nbformat.NotebookNode) -> list[str]:
    """The folded code blocks of the exercises."""
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    folded = re.findall(r"<details>.*?</details>", "\n".join(texts), flags=re.DOTALL)
    return [block for text in folded for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)]


def test_there_is_a_notebook_for_every_source() -> None:
    assert len(NOTEBOOKS) == 11
    assert [path.stem for path in NOTEBOOKS] == [path.stem for path in SOURCES]


@each_notebook
def test_it_runs_with_its_solutions(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    extra = solutions(notebook)
    assert len(extra) >= 2
    notebook.cells += [nbformat.v4.new_code_cell(code) for code in extra]
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": ROOT}}).execute()
    said = [output.text for output in outputs(notebook) if output.output_type == "stream" and output.name == "stderr"]
    assert said == []


@each_notebook
def test_it_was_made_from_its_source(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    source = jupytext.read(ROOT / "sources" / f"{path.stem}.py")
    assert [(c.cell_type, c.source) for c in notebook.cells] == [(c.cell_type, c.source) for c in source.cells]


@each_notebook
def test_it_is_committed_with_clean_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert any("image/png" in output.get("data", {}) for output in outputs(notebook))
    assert all(output.output_type in ("stream", "display_data", "execute_result") for output in outputs(notebook))
    assert not [output for output in outputs(notebook) if output.get("name") == "stderr"]
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert not re.search(r"/(home|root|tmp|work|Users|usr)/|[A-Z]:\\\\", path.read_text(encoding="utf-8"))


@each_notebook
def test_it_keeps_the_form_of_the_course(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert text.startswith("# ") and "**Question.**" in notebook.cells[0].source
    assert "## What we did not show" in text
    assert text.count("<details>") == text.count("</details>") == 2
    assert len(code_lines(notebook)) <= MAX_CODE_LINES
    assert not re.search(
        r"ocp_nn[\w.]*\._|import _|\b(ocp_nn|problem|network|result|nlp)\._", "\n".join(code_lines(notebook))
    )
    assert path.name in (ROOT / "README.md").read_text(encoding="utf-8")


def names_used(code: str) -> set[str]:
    """Dotted names of the package in a piece of code, aliases resolved: ``ocp_nn.report.BLUE``."""
    nodes, whole = list(ast.walk(ast.parse(code))), {"ocp_nn": "ocp_nn"}
    for node in nodes:
        if isinstance(node, ast.Import):
            whole |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            whole |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    chains = [ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)]
    dotted = [chain.split(".", 1) for chain in chains if re.fullmatch(r"[\w.]+", chain)]
    reached = {f"{whole[first]}.{rest}" for first, rest in dotted if first in whole}
    return {name for name in reached | set(whole.values()) if name.split(".")[0] == "ocp_nn"}


def is_public(name: str) -> bool:
    """Whether every module on the way has the next part in its ``__all__``."""
    found: object = ocp_nn
    for part in name.split(".")[1:]:
        if isinstance(found, ModuleType):
            if part not in found.__all__:
                return False
            found = getattr(found, part)
    return True


def test_public_names_are_told_from_others():
    code = (
        "import ocp_nn\nfrom ocp_nn import forward_dp as dp\nfrom ocp_nn.report.figures import BLUE\ndp.solve, dp.dual"
    )
    assert {name for name in names_used(code) if not is_public(name)} == {
        "ocp_nn.report.figures.BLUE",
        "ocp_nn.forward_dp.dual",
    }


@each_notebook
def test_it_uses_public_names_only(path: Path) -> None:
    """So that modules may move inside the package."""
    notebook = nbformat.read(path, as_version=4)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    names = names_used("\n".join(code + solutions(notebook)))
    assert {name for name in names if not is_public(name)} == set()


def test_real_data_appear_in_at_least_three() -> None:
    real = [
        path
        for path in NOTEBOOKS
        if 'load_dataset("diabetes")' in path.with_suffix(".ipynb").read_text().replace('\\"', '"')
    ]
    assert len(real) >= 3
