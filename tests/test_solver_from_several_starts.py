"""Several starts, of which the lowest counts: the result, time, processes, and what is refused."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import ocp_nn
from ocp_nn import Network, Options, Status, TrainingProblem, solve, solve_from_starts


def sine(samples=40, sizes=(1, 4, 4, 1), weight_decay=1e-3):
    x = np.random.default_rng(0).uniform(-3, 3, (samples, 1))
    return TrainingProblem(Network.mlp(sizes), x, np.sin(2 * x), weight_decay)


@pytest.fixture(scope="module")
def alone():
    """The solves, one by one."""
    return [solve(sine(), options=Options(seed=seed)) for seed in range(3, 7)]


def test_the_result_is_the_lowest_solve(alone):
    found = solve_from_starts(sine(), 4, options=Options(seed=3))
    assert found.seeds == (3, 4, 5, 6) and found.seconds > 0
    assert found.objectives == tuple(result.rollout_objective for result in alone)
    assert len(set(found.objectives)) > 1
    best = min(alone, key=lambda result: result.rollout_objective)
    assert found.seed == best.options.seed and found.result.objective == best.objective
    np.testing.assert_array_equal(np.concatenate(found.result.model.controls), np.concatenate(best.model.controls))
    assert found.statuses == tuple(result.status for result in alone)
    assert found.result.certificate.passed()


def test_processes_share_the_starts_and_change_nothing(alone):
    found = solve_from_starts(sine(), 4, options=Options(seed=3), n_jobs=2)
    assert found.objectives == tuple(result.rollout_objective for result in alone)
    assert found.result.objective == min(found.objectives) and found.seeds == (3, 4, 5, 6)


def test_one_start_is_a_solve():
    found = solve_from_starts(sine(), 1, n_jobs=2)
    assert found.seeds == (0,) and found.result.objective == solve(sine()).objective


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_time_is_that_of_all_together(n_jobs):
    problem = sine(200, (1, 20, 20, 20, 1))
    options = Options(time_limit=0.3, tolerance=1e-12)
    found = solve_from_starts(problem, 50, options=options, n_jobs=n_jobs)
    assert 1 <= len(found.seeds) < 50 and np.isfinite(found.result.objective)
    assert Status.TIME_LIMIT in found.statuses


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_starts": 0}, "n_starts"),
        ({"n_starts": 2.5}, "n_starts"),
        ({"n_jobs": 0}, "n_jobs must be an integer other than 0"),
        ({"n_jobs": -2}, "n_jobs"),
        ({"n_jobs": "two"}, "n_jobs"),
        ({"options": {}}, "options"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        solve_from_starts(sine(), **arguments)


def test_constraints_are_refused():
    problem = ocp_nn.ConstrainedProblem(sine(), [ocp_nn.ControlBounds(-1.0, 1.0)])
    with pytest.raises(ValueError, match="without constraints"):
        solve_from_starts(problem)


def test_the_benchmark_runs(capsys, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "scripts"))
    bench = import_module("bench_starts")
    page = tmp_path / "starts.md"
    arguments = ["--problems", "sigmoid 10x5", "--budget", "0.3", "--repeats", "1"]
    assert bench.main([*arguments, "--markdown", str(page)]) == 0
    printed = capsys.readouterr().out
    assert "| sigmoid 10x5 |" in printed and "within 1 %" in printed
    assert "bench_starts.py --problems sigmoid 10x5" in page.read_text()
