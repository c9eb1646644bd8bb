"""Claim: our solver and IPOPT agree on what a solution is: started at the other's, each stays there, on five data sets.

Cold starts may end in different basins: nothing is claimed about them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ocp_nn import (
    Network,
    Options,
    TrainingProblem,
    Trajectory,
    certify,
    multiple_shooting,
    single_shooting,
    solve,
    solve_ipopt,
    transcribe,
)

UCI = Path(__file__).parents[2] / "shared" / "data" / "uci"

# multipliers are compared, which the default tolerance, relative to J, leaves at five digits
FINE = Options(tolerance=1e-8)

# weight decays that make the problems well posed
DECAYS = {"diabetes": 30.0, "synthetic": 0.1, "yacht": 0.1, "energy": 1.0, "bostonHousing": 3.0}


def _table(name: str) -> tuple[np.ndarray, np.ndarray]:
    if name == "synthetic":
        rng = np.random.default_rng(0)
        x = rng.uniform(-1, 1, (150, 2))
        return x, np.sin(3 * x[:, :1]) * x[:, 1:] + 0.1 * rng.standard_normal((150, 1))
    if name == "diabetes":
        datasets = pytest.importorskip("sklearn.datasets")
        x, y = datasets.load_diabetes(return_X_y=True)
        return x, y[:, None]
    folder = UCI / name
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    table = np.loadtxt(folder / "data.txt")
    inputs, targets = (
        np.atleast_1d(np.loadtxt(folder / f"index_{part}.txt", dtype=int)) for part in ("features", "target")
    )
    return table[:, inputs], table[:, targets]


def _problem(name: str) -> TrainingProblem:
    x, y = (a - a.mean(axis=0) for a in _table(name))
    return TrainingProblem(
        Network.mlp([x.shape[1], 6, 6, y.shape[1]]), x / x.std(axis=0), y / y.std(axis=0), DECAYS[name]
    )


def _assert_stayed(problem: TrainingProblem, before: Trajectory, after: Trajectory) -> None:
    assert problem.objective(after) == pytest.approx(problem.objective(before), rel=1e-6)
    u, v = np.concatenate(before.controls), np.concatenate(after.controls)
    assert np.linalg.norm(v - u) < 1e-4 * np.linalg.norm(u)
    size = max(abs(m).max() for m in before.multipliers)
    for old, new in zip(before.multipliers, after.multipliers, strict=True):
        np.testing.assert_allclose(new, old, atol=1e-5 * size)


@pytest.mark.parametrize("name", DECAYS)
def test_each_stays_at_the_others_solution(name: str) -> None:
    problem = _problem(name)
    nlp = single_shooting(problem)
    ours, theirs = solve(problem, options=FINE), solve_ipopt(nlp)
    assert ours.success, ours.message
    assert theirs.success, theirs.message
    assert certify(problem, ours.trajectory).passed(), str(certify(problem, ours.trajectory))
    assert certify(problem, theirs.trajectory).passed(), str(certify(problem, theirs.trajectory))
    for before, after in (
        (ours.trajectory, solve_ipopt(nlp, ours.trajectory)),
        (theirs.trajectory, solve(problem, theirs.trajectory, options=FINE)),
    ):
        assert after.success, after.message
        _assert_stayed(problem, before, after.trajectory)


@pytest.mark.parametrize("nodes", [(1,), (1, 2)], ids=["partial", "multiple"])
def test_multiple_shooting_stays_too_with_multipliers_carried_over(nodes: tuple[int, ...]) -> None:
    problem = _problem("synthetic")
    ours = solve(problem)
    after = solve_ipopt(transcribe(problem, nodes), ours.trajectory)
    assert after.success, after.message
    _assert_stayed(problem, ours.trajectory, after.trajectory)
    # without multipliers IPOPT estimates them itself, and arrives at the same ones
    bare = Trajectory(ours.trajectory.controls, ours.trajectory.states)
    again = solve_ipopt(multiple_shooting(problem), bare)
    assert again.success, again.message
    _assert_stayed(problem, ours.trajectory, again.trajectory)
