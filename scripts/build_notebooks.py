"""Makes notebooks/*.ipynb, outputs included, from the scripts in notebooks/sources.

    python scripts/build_notebooks.py [NAME ...]        for instance 03; without names, all of them

The sources are Python scripts in jupytext's percent format, because those can be read in a review and linted.  A
notebook is written only if all of its cells run; nothing in it depends on the machine or on the day but the numbers it
computes.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
SOURCES = NOTEBOOKS / "sources"

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of file names")
    names = tuple(parser.parse_args().names)
    for source in sorted(SOURCES.glob("*.py")):
        if not names or source.stem.startswith(names):
            began = time.perf_counter()
            notebook = executed(read_source(source))
            nbformat.write(notebook, NOTEBOOKS / f"{source.stem}.ipynb")
            print(f"{source.stem}: {time.perf_counter() - began:.1f} s", flush=True)


def read_source(path: Path) -> nbformat.NotebookNode:
    """The notebook that a script stands for, without outputs."""
    notebook = jupytext.read(path)
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", nbformat.NotebookNode()
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def executed(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with outputs; raises ``nbclient.exceptions.CellExecutionError`` where a cell fails."""
    client = NotebookClient(
        notebook, timeout=300, record_timing=False, coalesce_streams=True, resources={"metadata": {"path": NOTEBOOKS}}
    )
    client.execute()
    notebook.metadata.language_info = nbformat.from_dict({"name": "python"})
    return notebook


if __name__ == "__main__":
    main()
