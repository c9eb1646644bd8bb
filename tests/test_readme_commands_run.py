"""Every command and every Python block of the README runs as it stands, in its order, from an empty folder.

The long studies are run in small: the same command with further arguments that :data:`IN_SMALL` names.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("onnx")

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

# Arguments that make a study of minutes or hours one of seconds.
IN_SMALL = {
    "ocp-nn compare diabetes --hidden 8,8": "--methods al,ipopt-single,ipopt-single-lbfgs",
    "ocp-nn conditioning": "--depths 2 --activations tanh --initialisations standard --seeds 1 --penalties 1 "
    "--samples 20 --steps 5 --workers 1",
    "python scripts/conditioning_over_time.py": "--horizons 10",
    "python scripts/deep_suite.py": "--quick --limit 0.2 --methods ours --starts auto",
    "python scripts/bench.py": "--quick --only peers --peers ours --limit 0.1",
    "python scripts/bench_classification.py": "--quick --only timed --limit 0.1",
    "python scripts/bench_identification.py --data DATA": "--quick",
    "python scripts/bench_constrained.py": "--quick --only random",
    "python scripts/bench_forward_dp.py": "--quick --only forms",
    "python scripts/certify_random_problems.py": "--cases 20",
    "python scripts/mpc_tanks.py": "--quick",
    "python scripts/fuzz.py": "--cases 20 --jobs 1",
}
PROGRAMS = ("ocp-nn", "pip", "python", "python3")


@dataclass(frozen=True)
class Piece:
    """A command or a block of Python, and where it begins in the README."""

    position: int
    kind: str
    text: str


def pieces() -> list[Piece]:
    """Fenced blocks of shell, line by line, and of Python, and commands inside the text, in order."""
    found = []
    for block in re.finditer(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE):
        kind, lines = block[1], [line for line in block[2].splitlines() if line.strip()]
        texts = [block[2]] if kind == "python" else lines
        found += [Piece(block.start() + k, kind, text) for k, text in enumerate(texts)]
    for code in re.finditer(r"(?<!`)`([^`\n]+)`(?!`)", README):
        if " " in code[1] and code[1].split()[0] in PROGRAMS:
            found.append(Piece(code.start(), "sh", code[1]))
    return sorted(found, key=lambda piece: piece.position)


PIECES = pieces()
COMMANDS = [" ".join(shlex.split(piece.text, comments=True)) for piece in PIECES if piece.kind == "sh"]


def test_the_readme_has_commands_and_python_and_nothing_else():
    assert {piece.kind for piece in PIECES} == {"sh", "python"}
    assert len(COMMANDS) > 10 and IN_SMALL.keys() <= set(COMMANDS)
    indented = [line.split()[0] for line in README.splitlines() if line.startswith("    ")]
    assert not set(indented) & {*PROGRAMS, "import"}


def is_for_set_up(command: str) -> bool:
    return command.startswith("pip ") or "scripts/dev.py" in command


@pytest.mark.parametrize("command", sorted({c for c in COMMANDS if is_for_set_up(c)}))
def test_set_up_names_what_exists(command):
    """Verbs and extras only: running these would install things."""
    words = shlex.split(command)
    if words[0] == "pip":
        extras = (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1].split("\n[")[0]
        assert words[1:3] == ["install", "-e"]
        wanted = re.fullmatch(r"\.\[(.*)\]", words[3])[1].split(",")
        assert set(wanted) <= set(re.findall(r"^(\w+) = \[", extras, re.MULTILINE))
    else:
        usage = subprocess.run([sys.executable, ROOT / words[1], "--help"], capture_output=True, text=True, check=True)
        assert words[2] in re.search(r"\{(.*?)\}", usage.stdout)[1].split(",")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An empty folder that has the scripts, as the checkout does."""
    made = tmp_path_factory.mktemp("readme")
    (made / "scripts").symlink_to(ROOT / "scripts")
    return made


def arguments(piece: Piece) -> list[str]:
    if piece.kind == "python":
        return [sys.executable, "-W", "error", "-c", piece.text]
    words = shlex.split(piece.text, comments=True)
    program = [sys.executable, "-m", "ocp_nn"] if words[0] == "ocp-nn" else [sys.executable]
    return [*program, *words[1:], *IN_SMALL.get(" ".join(words), "").split()]


def test_all_the_others_run_in_their_order(folder):
    for piece in PIECES:
        if piece.kind == "sh" and is_for_set_up(piece.text):
            continue
        done = subprocess.run(arguments(piece), cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{piece.text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    left = {"predictions.csv", "model.onnx", "model.npz", "predictions.png", "results", "docs"}
    assert left <= {path.name for path in folder.iterdir()}
    assert len((folder / "predictions.csv").read_text().splitlines()) == 443
