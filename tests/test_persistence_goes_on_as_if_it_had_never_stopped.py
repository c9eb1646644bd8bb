"""k iterations, a file, and m more are k + m iterations in one go, bit for bit; so are checkpoints and interrupts."""

from __future__ import annotations

import logging
import pickle
from dataclasses import replace
from functools import cache

import casadi as ca
import numpy as np
import pytest

import ocp_nn
from ocp_nn import Dense, Network, Options, Status, TrainingProblem, solve
from ocp_nn.solvers.augmented_lagrangian.outer_loop import init, step, terminate
from ocp_nn.solvers.augmented_lagrangian.schedule import GAUSS_NEWTON, LIFTED, NEWTON

RNG = np.random.default_rng(0)
X = RNG.uniform(-3, 3, (40, 1))
Y = np.sin(2 * X) + 0.05 * RNG.standard_normal((40, 1))
TOTAL = 24


def spring() -> ca.Function:
    x, u = ca.SX.sym("x", 4), ca.SX.sym("u", 2)
    return ca.Function("spring", [x, u], [x + 0.3 * ca.vertcat(x[2:], ca.sin(x[:2]) * u)])


NETWORKS = {
    "tanh": lambda: Network.mlp([1, 6, 6, 1]),
    "deep sigmoid": lambda: Network.mlp([1, *[4] * 8, 1], "sigmoid"),
    "relu, restarts": lambda: Network.mlp([1, *[4] * 6, 1], "relu"),
    "linear": lambda: Network.mlp([1, 1]),
    "residual": lambda: Network.mlp([1, 5, 5, 1], residual=True),
    "symbolic": lambda: Network([Dense(1, 4), spring(), Dense(4, 1, "identity")]),
}
CASES = [
    ("tanh", {}),
    ("tanh", {"shooting": "single"}),
    ("tanh", {"shooting": [1]}),
    ("tanh", {"second_order": False}),
    ("tanh", {"inner_accuracy": "absolute"}),
    ("deep sigmoid", {}),
    ("relu, restarts", {"seed": 2, "initialisation": "standard", "penalty": 1000.0, "max_inner": 10}),
    ("linear", {}),
    ("residual", {"globalisation": "armijo"}),
    ("symbolic", {}),
]


@cache
def problem(name):
    return TrainingProblem(NETWORKS[name](), X, Y, 1e-3)


def finishes(name, settings):
    """The finish after each outer iteration, of its first one on."""
    options = Options(max_outer=TOTAL, tolerance=1e-9, **settings)
    state = init(problem(name), options=options)
    found = []
    while terminate(problem(name), state, options) is None:
        state = step(problem(name), state, options)
        found.append(state.schedule.finish)
    return found


def moments(name, settings):
    """Iterations to stop after: some, and around the first step of each kind in the finish.

    The state then says which kind comes next, and last was.
    """
    found = finishes(name, settings)
    kinds = {"next": lambda finish: finish.preferred, "last": lambda finish: finish.kind}
    chosen = {1, 5, 11, TOTAL - 1}
    for kind in kinds.values():
        for value in (GAUSS_NEWTON, NEWTON, LIFTED):
            chosen |= set([k for k, finish in enumerate(found, 1) if finish is not None and kind(finish) == value][:1])
    return sorted(k for k in chosen if k < TOTAL)


def bits(result):
    """All that must agree: everything but the seconds."""
    point = result.state.point
    arrays = [*result.trajectory.controls, *result.trajectory.states, *result.trajectory.multipliers]
    arrays += [*point.controls, *point.states, *result.state.multipliers, *result.state.best.controls]
    rows = [replace(record, seconds=0.0) for record in result.history]
    steering = result.state.damping, result.state.schedule.finish, result.state.penalty, result.state.schedule.settled
    numbers = result.status, result.counts, result.objective, result.stationarity
    return [a.tobytes() for a in arrays], rows, steering, numbers


@pytest.mark.parametrize(("name", "settings"), CASES, ids=str)
def test_a_file_in_between_changes_nothing(name, settings, tmp_path):
    chosen = moments(name, settings)
    settings = {"tolerance": 1e-9, **settings}
    whole = solve(problem(name), options=Options(max_outer=TOTAL, **settings))
    for k in chosen:
        solve(problem(name), options=Options(max_outer=k, **settings)).save(tmp_path / "k.npz")
        resumed = solve(problem(name), ocp_nn.load(tmp_path / "k.npz"), options=Options(max_outer=TOTAL, **settings))
        assert bits(resumed) == bits(whole), k


def test_the_cases_reach_every_phase():
    results = [solve(problem(n), options=Options(max_outer=TOTAL, tolerance=1e-9, **s)) for n, s in CASES]
    phases = {record.phase for result in results for record in result.history}
    assert phases == {"augmented Lagrangian", "second order", "single shooting", "lifted Newton"}
    assert any(result.counts["restarts"] for result in results)
    assert any(result.counts["hessian_products"] for result in results)


@pytest.mark.parametrize("name", ["tanh", "deep sigmoid", "symbolic"])
def test_the_cases_stop_before_and_after_both_kinds_of_steps_of_the_finish(name):
    found = finishes(name, {})
    at = [found[k - 1] for k in moments(name, {}) if k <= len(found)]
    exact = LIFTED if name == "deep sigmoid" else NEWTON
    assert {(f.kind, f.preferred) for f in at if f is not None} >= {
        (GAUSS_NEWTON, GAUSS_NEWTON),
        (GAUSS_NEWTON, exact),
        (exact, exact if exact == LIFTED else GAUSS_NEWTON),
    }
    assert None in at


@pytest.mark.parametrize("name", ["tanh", "deep sigmoid", "symbolic"])
def test_a_pickle_in_between_changes_nothing(name):
    whole = solve(problem(name), options=Options(max_outer=TOTAL, tolerance=1e-9))
    for k in moments(name, {}):
        part = pickle.loads(pickle.dumps(solve(problem(name), options=Options(max_outer=k, tolerance=1e-9))))
        assert bits(solve(problem(name), part, options=Options(max_outer=TOTAL, tolerance=1e-9))) == bits(whole), k


def test_networks_survive_pickling():
    for name in NETWORKS:
        network = problem(name).network
        controls = network.init_controls(0)
        copy = pickle.loads(pickle.dumps(network))
        np.testing.assert_array_equal(copy.predict(controls, X), network.predict(controls, X))


def test_a_converged_result_is_not_touched_again(tmp_path):
    done = solve(problem("tanh"))
    assert done.status is Status.CONVERGED
    done.save(tmp_path / "done.npz")
    assert bits(solve(problem("tanh"), ocp_nn.load(tmp_path / "done.npz"))) == bits(done)


def test_the_seconds_go_on_too(tmp_path):
    first = solve(problem("tanh"), options=Options(max_outer=3))
    second = solve(problem("tanh"), first, options=Options(max_outer=6))
    seconds = [record.seconds for record in second.history]
    assert seconds == sorted(seconds)
    assert second.seconds > first.seconds


def test_checkpoints_are_written_on_the_way(tmp_path):
    path = tmp_path / "check.npz"
    seen = []

    def look(record):
        seen.append(ocp_nn.load(path))

    whole = solve(problem("tanh"), options=Options(max_outer=8), callback=look, checkpoint=path, checkpoint_seconds=0)
    assert [len(result.history) for result in seen] == list(range(1, 9))
    assert {result.status for result in seen} == {Status.INTERRUPTED}
    for k in (0, 4):
        assert bits(solve(problem("tanh"), seen[k], options=Options(max_outer=8))) == bits(whole)
    assert ocp_nn.load(path).status is whole.status


def test_checkpoints_keep_to_their_interval(tmp_path):
    path = tmp_path / "check.npz"
    there = []
    solve(
        problem("tanh"), options=Options(max_outer=5), callback=lambda _: there.append(path.exists()), checkpoint=path,
        checkpoint_seconds=3600,
    )  # fmt: skip
    assert not any(there)
    assert path.exists()


def test_ctrl_c_leaves_the_best_so_far(tmp_path):
    def interrupt(record):
        if record.iteration == 7:
            raise KeyboardInterrupt

    path = tmp_path / "check.npz"
    result = solve(problem("tanh"), options=Options(max_outer=20), callback=interrupt, checkpoint=path)
    assert result.status is Status.INTERRUPTED
    assert result.rollout_objective == min(r.rollout_objective for r in result.history)
    whole = solve(problem("tanh"), options=Options(max_outer=20))
    assert bits(solve(problem("tanh"), ocp_nn.load(path), options=Options(max_outer=20))) == bits(whole)


def test_a_callback_may_stop_the_solve():
    result = solve(problem("tanh"), callback=lambda record: record.iteration == 4)
    assert (result.status, len(result.history)) == (Status.INTERRUPTED, 4)


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_solve(tmp_path, caplog):
    (tmp_path / "taken").mkdir()
    with caplog.at_level(logging.WARNING, "ocp_nn"):
        result = solve(problem("linear"), checkpoint=tmp_path / "taken")
    assert result.success
    assert "no checkpoint" in caplog.text
    with pytest.raises(FileNotFoundError, match="no such folder"):
        solve(problem("linear"), checkpoint=tmp_path / "nowhere" / "check.npz")


def test_the_library_logs(caplog):
    with caplog.at_level(logging.DEBUG, "ocp_nn"):
        result = solve(problem("linear"))
    assert sum(record.levelno == logging.DEBUG for record in caplog.records) == len(result.history)
    assert "converged after" in caplog.text


@pytest.mark.parametrize(
    "other",
    [
        TrainingProblem(Network.mlp([1, 6, 6, 1]), X, Y + 1e-9, 1e-3),
        TrainingProblem(Network.mlp([1, 6, 6, 1]), X, Y, 2e-3),
        TrainingProblem(Network.mlp([1, 6, 6, 1], "sigmoid"), X, Y, 1e-3),
    ],
    ids=["data", "weight decay", "network"],
)
def test_going_on_with_another_problem_is_an_error(other):
    result = solve(problem("tanh"), options=Options(max_outer=2))
    with pytest.raises(ValueError, match="another problem"):
        solve(other, result)


def test_going_on_without_a_state_is_an_error(tmp_path):
    solve(problem("tanh"), options=Options(max_outer=2)).save(tmp_path / "small.npz", state=False)
    with pytest.raises(ValueError, match="no solver state to go on from"):
        solve(problem("tanh"), ocp_nn.load(tmp_path / "small.npz"))
