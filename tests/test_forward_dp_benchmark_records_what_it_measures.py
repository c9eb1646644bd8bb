"""The benchmark script's records, exponents and peers, on sizes that take no time."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from ocp_nn import forward_dp

RECORD_KEYS = {
    "form",
    "num_samples",
    "depth",
    "width",
    "num_controls",
    "penalty",
    "milliseconds",
    "relative_error",
    "flops",
    "blas_ratio",
    "peak_bytes",
    "ipopt_iteration_milliseconds",
}


@pytest.fixture(scope="module")
def script():
    folder = str(Path(__file__).parents[1] / "scripts")
    sys.path.insert(0, folder)
    try:
        import bench_forward_dp
    finally:
        sys.path.remove(folder)
    bench_forward_dp.BUDGET = 0.01
    return bench_forward_dp


@pytest.mark.parametrize("form", forward_dp.FORMS)
def test_records(script, form):
    bench = script.Bench()
    record = bench.measure(script.Case(num_samples=6, depth=2, width=3), form)
    assert record.keys() >= RECORD_KEYS and record["ipopt_iteration_milliseconds"] is None
    assert record["relative_error"] < 1e-9 and record["refined_error"] < 1e-12
    assert record["num_controls"] == 6 + 12 + 4
    assert json.loads(json.dumps(asdict(bench)))["records"] == [record]


def test_exponents_are_slopes(script, monkeypatch):
    bench = script.Bench()

    def cubic(case, form, check=True):
        return {"num_samples": case.num_samples, "milliseconds": 2.0 * case.num_samples**3}

    monkeypatch.setattr(bench, "measure", cubic)
    case = script.Case(num_samples=10, depth=2, width=3)
    bench.grow("information", "num_samples", [replace(case, num_samples=n) for n in (10, 20, 80)])
    (fit,) = bench.exponents
    assert (fit["form"], fit["variable"]) == ("information", "num_samples")
    assert fit["value"] == pytest.approx(3.0)


def test_peers_solve_the_same_problem(script):
    case = script.Case(num_samples=6, depth=2, width=3)
    made = script.instance(case)
    exact = np.concatenate(forward_dp.solve(made.subproblem).controls)
    program = script.quadratic_program(made.subproblem)
    for name in ("sparse QR", "osqp"):
        _, w = script.PEERS[name](program)
        np.testing.assert_allclose(w + np.concatenate(made.subproblem.mean_controls), exact, atol=1e-6)
