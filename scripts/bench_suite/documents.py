"""The commands behind every number and figure of the README that this benchmark does not measure itself.

Figures go where the README shows them; tables, and what a command prints, to ``results/documents``: the sentences
around them are written by hand, from there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

__all__ = ["NAMES", "regenerate"]

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path("results/documents")

COMMANDS: dict[str, tuple[str, ...]] = {
    "first figure": ("scripts/readme_figure.py", "--out", "docs/deep_sigmoid.png"),
    "fit diabetes": ("-m", "ocp_nn", "fit", "diabetes", "--hidden", "20,20", "--out", f"{FOLDER}/diabetes"),
    "fit friedman": ("-m", "ocp_nn", "fit", "friedman", "--hidden", "20,20", "--out", f"{FOLDER}/friedman"),
    "cross starts": ("-m", "ocp_nn", "compare", "diabetes", "--hidden", "8,8", "--out", f"{FOLDER}/compare"),
    "deep networks": (
        "scripts/deep_suite.py", "--peer-seeds", "2", "--peer-limit", "10", "--budget", "27",
        "--json", f"{FOLDER}/deep_suite.json", "--figure", "docs/deep_suite.png",
        "--markdown", f"{FOLDER}/deep_suite.md",
    ),
    "real data": ("scripts/real_suite.py", "--json", f"{FOLDER}/real.json", "--markdown", f"{FOLDER}/real_suite.md"),
    "conditioning": ("-m", "ocp_nn", "conditioning", "--out", f"{FOLDER}/conditioning"),
    "forward DP": ("scripts/bench_forward_dp.py", "--json", f"{FOLDER}/forward_dp.json", "--output", str(FOLDER)),
    "notebooks": ("scripts/build_notebooks.py",),
}  # fmt: skip
NAMES = tuple(COMMANDS)

# Figures that a command leaves elsewhere.
FIGURES = {"conditioning": (FOLDER / "conditioning/summary.png", Path("docs/conditioning.png"))}


def regenerate(names: Sequence[str] = ()) -> None:
    """Run the commands of these names (none: all), on one BLAS thread; what they print is kept.

    Raises
    ------
    ValueError
        For a name that is not in :data:`NAMES`.
    """
    unknown = [name for name in names if name not in COMMANDS]
    if unknown:
        raise ValueError(f"unknown documents {unknown}: expected some of {', '.join(NAMES)}")
    folder = ROOT / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or NAMES:
        began = time.perf_counter()
        with (folder / f"{name}.txt").open("w") as log:
            ended = subprocess.run(
                [sys.executable, *COMMANDS[name]],
                cwd=ROOT,
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if ended.returncode == 0 and name in FIGURES:
            made, shown = FIGURES[name]
            shutil.copyfile(ROOT / made, ROOT / shown)
        state = "done" if ended.returncode == 0 else f"exit code {ended.returncode}"
        print(f"{name}: {state} after {time.perf_counter() - began:.0f} s, {FOLDER / name}.txt", flush=True)
