"""Several starts, the better half of which goes on: the race, its result, and what is refused."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import ocp_nn
from ocp_nn import Network, Options, Status, TrainingProblem, solve, solve_from_starts


def sine(samples=40, sizes=(1, 5, 5, 1), weight_decay=1e-3):
    x = np.random.default_rng(0).uniform(-3, 3, (samples, 1))
    return TrainingProblem(Network.mlp(sizes), x, np.sin(2 * x), weight_decay)


@pytest.fixture(scope="module")
def race():
    return solve_from_starts(sine(), 5, options=Options(seed=3))


def test_the_better_half_goes_on(race):
    first, second, third, last = race.rungs
    assert first.seeds == (3, 4, 5, 6, 7)
    assert [len(rung.seeds) for rung in race.rungs] == [5, 3, 2, 1]
    for before, after in ((first, second), (second, third), (third, last)):
        ranked = [seed for _, seed in sorted(zip(before.objectives, before.seeds, strict=True))]
        assert set(after.seeds) == set(ranked[: len(after.seeds)])
        kept = dict(zip(before.seeds, before.objectives, strict=True))
        assert all(now <= kept[seed] for seed, now in zip(after.seeds, after.objectives, strict=True))
    assert [rung.max_outer for rung in race.rungs] == [8, 16, 32, Options().max_outer]


def test_the_result_is_that_of_the_seed_alone(race):
    alone = solve(sine(), options=Options(seed=race.seed))
    assert race.result.success and race.result.objective == alone.objective
    np.testing.assert_array_equal(np.concatenate(race.result.model.controls), np.concatenate(alone.model.controls))
    assert race.result.certificate.passed() and race.seconds > 0


def test_processes_share_the_starts_and_change_nothing(race):
    shared = solve_from_starts(sine(), 5, options=Options(seed=3), n_jobs=2)
    assert shared.seed == race.seed and shared.result.objective == race.result.objective
    assert [rung.objectives for rung in shared.rungs] == [rung.objectives for rung in race.rungs]


def test_one_start_is_a_solve():
    race = solve_from_starts(sine(), 1)
    assert [rung.seeds for rung in race.rungs] == [(0,)]
    assert race.result.objective == solve(sine()).objective


def test_time_is_that_of_the_whole_race():
    race = solve_from_starts(sine(200, (1, 20, 20, 20, 1)), 4, options=Options(time_limit=0.3, tolerance=1e-12))
    assert race.result.status is Status.TIME_LIMIT and race.seconds < 3.0
    assert np.isfinite(race.result.objective)


def test_a_race_beats_its_worst_start():
    problem = sine()
    alone = [solve(problem, options=Options(seed=seed)).objective for seed in range(3, 8)]
    assert solve_from_starts(problem, 5, options=Options(seed=3)).result.objective < np.median(alone) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_starts": 0}, "n_starts"),
        ({"n_starts": 2.5}, "n_starts"),
        ({"n_jobs": 0}, "n_jobs must be an integer other than 0"),
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
    arguments = ["--problems", "sigmoid 10x5", "--budget", "0.3", "--repeats", "1", "--starts", "2"]
    assert bench.main([*arguments, "--markdown", str(page)]) == 0
    printed = capsys.readouterr().out
    assert "| sigmoid 10x5 |" in printed and "within 1 %" in printed
    assert "bench_starts.py --problems sigmoid 10x5" in page.read_text()
