"""The benchmark of the Kalman form runs in small, and its lazy stages are the ones that it holds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ocp_nn import forward_dp

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(SCRIPTS))
    try:
        import bench_kalman
    finally:
        sys.path.remove(str(SCRIPTS))
    bench_kalman.BUDGET = 0.01
    return bench_kalman


def test_lazy_stages_are_the_held_ones(script):
    case = script.Case(horizon=50, width=3, controls=5)
    held, lazy = (forward_dp.solve(script.subproblem(case, lazy=lazy), "kalman") for lazy in (False, True))
    np.testing.assert_allclose(held.controls[0], lazy.controls[0], rtol=1e-12)


def test_exponents_are_slopes(script, monkeypatch):
    monkeypatch.setattr(script, "measure", lambda case: {"horizon": case.horizon, "milliseconds": 3 * case.horizon**2})
    assert script.growth("horizon", [script.Case(horizon=n) for n in (8, 16, 64)])["exponent"] == pytest.approx(2.0)


def test_it_runs_in_small(tmp_path):
    command = [sys.executable, "bench_kalman.py", "--quick", "--only", "step", "memory", "--json", tmp_path / "b.json"]
    subprocess.run(command, cwd=SCRIPTS, check=True, capture_output=True)
    found = json.loads((tmp_path / "b.json").read_text())
    assert found.keys() == {"step", "memory"}
    assert found["step"]["chosen"] == "kalman" and found["step"]["milliseconds"] > 0
    assert found["memory"]["resident_bytes"] >= found["memory"]["before_bytes"] > 0
