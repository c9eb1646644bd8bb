"""The benchmarks of identification and of constraints run in small, and their files say the same again."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

SCRIPTS = str(Path(__file__).parents[1] / "scripts")


@pytest.fixture(scope="module")
def scripts():
    sys.path.insert(0, SCRIPTS)
    try:
        import bench_constrained
        import bench_identification
    finally:
        sys.path.remove(SCRIPTS)
    return bench_identification, bench_constrained


def test_identification_in_small_and_resumed(scripts, tmp_path, monkeypatch):
    script, _ = scripts
    monkeypatch.setattr(script, "in_a_process", lambda function, *arguments: function(*arguments))
    files = ["--json", str(tmp_path / "a.json"), "--markdown", str(tmp_path / "a.md")]
    results = script.main(["--quick", *files])
    assert [run["method"] for run in results["runs"]] == ["ours", "ours, linear"]
    ours, linear = (run["rmse"]["test"] for run in results["runs"])
    assert ours < linear
    monkeypatch.setattr(script, "measure", None)
    again = script.main(["--quick", *files, "--resume"])
    assert again["runs"] == results["runs"]
    script.main(["--redraw", str(tmp_path / "a.json"), "--markdown", str(tmp_path / "b.md")])
    assert "| ours | 1 |" in (tmp_path / "b.md").read_text()


def test_a_method_that_fails_is_a_result(scripts):
    script, _ = scripts
    answer = script.in_a_process(np.linalg.inv, np.zeros((2, 2)))
    assert answer["status"].startswith("LinAlgError")
    assert answer["rmse"] == {}


def test_packages_that_are_not_there_are_named(scripts):
    from identification_suite import methods

    assert not methods.missing("ours")
    assert isinstance(methods.missing("jax-sysid"), bool)


def test_constraints_in_small(scripts, tmp_path):
    _, script = scripts
    files = ["--json", str(tmp_path / "a.json"), "--markdown", str(tmp_path / "a.md")]
    results = script.main(["--quick", "--only", "random", "timed", *files])
    assert all(row["agrees"] for row in results["random"])
    assert {row["method"] for row in results["timed"]} >= {"ours", "IPOPT, single shooting"}
    assert json.loads((tmp_path / "a.json").read_text())["random"] == json.loads(json.dumps(results["random"]))
    assert "2 of 2 agree with IPOPT" in (tmp_path / "a.md").read_text()


def test_a_trace_counts_where_it_is_feasible_and_low_enough():
    sys.path.insert(0, SCRIPTS)
    try:
        from constrained_suite.timed import seconds_to
    finally:
        sys.path.remove(SCRIPTS)
    trace = [[0.1, 1.0, 1e-3], [0.2, 3.0, 0.0], [0.3, 1.5, 1e-9]]
    assert seconds_to(trace, 2.0) == 0.3
    assert seconds_to(trace, 1.0) == float("inf")


def test_a_comparison_in_time_says_how_often_and_when(scripts):
    from identification_suite import report

    row = {"dataset": "rlc", "seed": 0, "samples": 9, "weight_decay": 1.0, "peer_objective": 2.0, "peer_seconds": 10.0,
           "objective": 1.9, "starts": 1, "seconds": 3.0, "reached": 2.0}  # fmt: skip
    rows = [row, row | {"seed": 1, "reached": None}, row | {"seed": 2, "peer_objective": None, "reached": 4.0}]
    text = report._timed(rows)
    assert "within its time in 2 of 3.  Median share of its time: rlc 0.40." in text
    assert "never" in text and "not finite" in text


def test_expected_seconds_count_the_runs_that_do_not_arrive(scripts):
    from constrained_suite.timed import expected_seconds

    never = float("inf")
    assert expected_seconds([(1.0, 5.0), (never, 4.0), (3.0, 9.0)]) == 4.0
    assert expected_seconds([(never, 4.0)]) == never
