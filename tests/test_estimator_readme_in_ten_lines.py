"""The README's ten lines run as they stand: a model is fitted, checked, plotted, exported and saved."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ocp_nn

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def ten_lines() -> tuple[list[str], str]:
    """The lines of shell and Python in the section, and the Python."""
    section = README.split("## Ten lines")[1].split("\n## ")[0]
    (shell,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    python = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[0]
    return [line for line in (shell + python).splitlines() if line.strip()], python


def test_there_are_ten_and_the_first_installs():
    lines, _ = ten_lines()
    assert len(lines) <= 10
    assert lines[0].startswith("pip install")


def test_they_do_what_they_say(tmp_path):
    pytest.importorskip("sklearn")
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    _, python = ten_lines()
    command = [sys.executable, "-W", "error", "-c", python]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Stationarity and defects are within the tolerance." in done.stdout
    (score,) = re.findall(r"^R2 (.*)$", done.stdout, re.MULTILINE)
    assert float(score) > 0.9
    assert (tmp_path / "predictions.png").read_bytes().startswith(b"\x89PNG")
    x = ocp_nn.load_dataset("friedman").x
    predicted = ocp_nn.load(tmp_path / "model.npz").predict(x)
    (exported,) = runtime.InferenceSession(str(tmp_path / "model.onnx")).run(None, {"x": x})
    np.testing.assert_allclose(exported, predicted, rtol=1e-12, atol=1e-12 * np.abs(predicted).max())
