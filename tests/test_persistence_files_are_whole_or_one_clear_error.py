"""``Result.save`` / ``ocp_nn.load``: everything comes back; damage and other versions are one error; no half files."""

from __future__ import annotations

import builtins
import io
import json
import os
import zipfile
from dataclasses import fields, replace

import casadi as ca
import numpy as np
import pytest

import ocp_nn
from ocp_nn import (
    IpoptOptions,
    LoadError,
    Model,
    Network,
    Options,
    Result,
    Status,
    TrainingProblem,
    multiple_shooting,
    solve,
    solve_ipopt,
)
from ocp_nn.learning.data import Scaler
from ocp_nn.solvers.augmented_lagrangian import files as persistence
from ocp_nn.solvers.augmented_lagrangian.damping import Damping
from ocp_nn.solvers.augmented_lagrangian.schedule import LIFTED, NEWTON, Finish

RNG = np.random.default_rng(0)
X = RNG.uniform(-3, 3, (37, 2))
Y = np.sin(X[:, :1]) + X[:, 1:]


@pytest.fixture(scope="module")
def result() -> Result:
    options = Options(max_outer=6, shooting=[2], penalty=[3.0, 4.0], time_limit=np.inf)
    found = solve(TrainingProblem(Network.mlp([2, 3, 3, 1], "sigmoid"), X, Y, 1e-3), options=options)
    scalers = {
        "x_scaler": Scaler(np.array([1.0, 2.0]), np.array([0.1, 3.0])),
        "y_scaler": Scaler(np.zeros(1), 5 * np.ones(1)),
    }
    model = Model(found.model.network, found.model.controls, **scalers, features=["a", "b*é"], targets=["t"])
    return replace(found, model=model)


@pytest.fixture(scope="module")
def content(result, tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("saved") / "result.npz"
    result.save(path)
    return path.read_bytes()


def loaded(content, tmp_path) -> Result:
    (tmp_path / "copy.npz").write_bytes(content)
    return ocp_nn.load(tmp_path / "copy.npz")


def test_everything_comes_back(result, content, tmp_path):
    copy = loaded(content, tmp_path)
    numbers = ("objective", "rollout_objective", "max_defect", "stationarity", "seconds")
    for name in (*numbers, "status", "message", "solver", "history", "counts", "options"):
        assert getattr(copy, name) == getattr(result, name), name
    for name in ("controls", "states", "multipliers"):
        for a, b in zip(getattr(copy.trajectory, name), getattr(result.trajectory, name), strict=True):
            np.testing.assert_array_equal(a, b)
    assert copy.problem.is_same_as(result.problem)
    assert (copy.model.features, copy.model.targets) == (("a", "b*é"), ("t",))
    np.testing.assert_array_equal(copy.predict(X), result.predict(X))
    assert copy.versions["ocp_nn"] == ocp_nn.__version__
    assert copy.versions.keys() == {"ocp_nn", "python", "casadi", "numpy", "scipy"}


def test_it_can_be_read_as_documented(result, content):
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        meta = json.loads(str(file["meta"]))
        arrays = dict(file)
    assert (meta["format"], meta["version"], meta["sizes"]) == ("ocp_nn result", 2, [2, 3, 3, 1])
    assert meta["options"]["time_limit"] == "inf"
    x = (X - arrays["x_mean"]) / arrays["x_scale"]
    for k, layer in enumerate(meta["layers"]):
        table = arrays[f"control_{k}"].reshape(layer["num_inputs"] + 1, layer["num_outputs"])
        a = x @ table[:-1] + table[-1]
        x = 0.5 + 0.5 * np.tanh(a / 2) if layer["activation"] == "sigmoid" else a
    np.testing.assert_allclose(x * arrays["y_scale"] + arrays["y_mean"], result.predict(X), rtol=1e-13, atol=1e-12)


def test_a_file_without_state_holds_no_data(result, tmp_path):
    result.save(tmp_path / "small.npz", state=False)
    with np.load(tmp_path / "small.npz") as file:
        sizes = {name: array.size for name, array in file.items()}
        assert all(len(X) not in array.shape for name, array in file.items())
    assert sum(sizes.values()) < 200
    copy = ocp_nn.load(tmp_path / "small.npz")
    np.testing.assert_array_equal(copy.predict(X), result.predict(X))
    assert (copy.state, copy.problem, copy.trajectory.states) == (None, None, ())
    assert copy.history == result.history


def test_every_number_of_the_solver_state_comes_back(result, tmp_path):
    """Also of fields that do not exist yet: each is set to what it is not by default."""
    odd = {bool: lambda v: not v, int: lambda v: v + 7, float: lambda v: 0.123}

    def changes(part):
        values = {f.name: getattr(part, f.name) for f in fields(part)}
        return {name: odd[type(value)](value) for name, value in values.items() if type(value) in odd}

    of_state, of_schedule = changes(result.state), changes(result.state.schedule)
    assert len(of_state) + len(of_schedule) >= 9
    changed = replace(result.state, schedule=replace(result.state.schedule, **of_schedule), **of_state)
    replace(result, state=changed).save(tmp_path / "state.npz")
    copy = ocp_nn.load(tmp_path / "state.npz").state
    assert {name: getattr(copy, name) for name in of_state} == of_state
    assert {name: getattr(copy.schedule, name) for name in of_schedule} == of_schedule
    for name in ("counts", "penalty", "violation", "damping"):
        assert getattr(copy, name) == getattr(result.state, name)


@pytest.mark.parametrize(
    "finish",
    [
        None,
        Finish((Damping(0.1), Damping(0.3, 4.0))),
        Finish((Damping(1e-12, 8.0), Damping(2.0)), (0.25, -1.0), NEWTON),
        Finish((Damping(1e19), Damping(7.0)), (-1.0, np.inf)),
        Finish((Damping(1e19), Damping(7.0), Damping(1e-9)), (-1.0, np.inf, 0.0), LIFTED),
    ],
    ids=["before", "fresh", "second order exhausted", "infinite gain", "lifted"],
)
def test_the_finish_comes_back(result, finish, tmp_path):
    replace(result, state=replace(result.state, schedule=replace(result.state.schedule, finish=finish))).save(
        tmp_path / "finish.npz"
    )
    assert ocp_nn.load(tmp_path / "finish.npz").state.schedule.finish == finish


def test_results_of_ipopt_are_saved_with_their_trajectory(tmp_path):
    problem = TrainingProblem(Network.mlp([2, 2, 1]), X, Y, 1.0)
    result = solve_ipopt(multiple_shooting(problem), options=IpoptOptions(max_iterations=3))
    result.save(tmp_path / "ipopt.npz")
    copy = ocp_nn.load(tmp_path / "ipopt.npz")
    assert (copy.solver, copy.state) == (result.solver, None)
    assert list(map(repr, copy.history)) == list(map(repr, result.history))  # by repr: IPOPT's penalty is NaN
    for a, b in zip(copy.trajectory.states, result.trajectory.states, strict=True):
        np.testing.assert_array_equal(a, b)
    assert problem.objective(copy.trajectory) == result.objective


def test_symbolic_stages_are_saved(tmp_path):
    x, u = ca.SX.sym("x", 2), ca.SX.sym("u", 3)
    stage = ca.Function("stage", [x, u], [ca.tanh(x * u[:2]) + u[2]])
    problem = TrainingProblem(Network([stage, stage]), X, X, 0.1)
    result = solve(problem, options=Options(max_outer=3))
    result.save(tmp_path / "symbolic.npz")
    copy = ocp_nn.load(tmp_path / "symbolic.npz")
    np.testing.assert_array_equal(copy.predict(X), result.predict(X))
    copy.save(tmp_path / "again.npz")
    np.testing.assert_array_equal(ocp_nn.load(tmp_path / "again.npz").predict(X), result.predict(X))


def test_every_flipped_byte_is_noticed_or_harmless(result, content, tmp_path):
    noticed = 0
    for position in range(0, len(content), 97):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        try:
            copy = loaded(bytes(damaged), tmp_path)
        except LoadError:
            noticed += 1
        else:
            np.testing.assert_array_equal(copy.predict(X), result.predict(X))
            assert copy.history == result.history
    assert noticed > 50


@pytest.mark.parametrize("length", [0, 1, 10, 300, -1000, -1])
def test_a_file_cut_short_is_an_error(content, tmp_path, length):
    with pytest.raises(LoadError, match=r"copy\.npz: damaged, or not a result saved by ocp_nn"):
        loaded(content[:length], tmp_path)


def changed(content: bytes, **meta) -> bytes:
    with np.load(io.BytesIO(content)) as file:
        arrays = dict(file)
    arrays["meta"] = np.array(json.dumps(json.loads(str(arrays["meta"])) | meta))
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


@pytest.mark.parametrize("version", [1, 4])
def test_another_version_is_named(content, tmp_path, version):
    """An earlier one too: format 1 holds a Newton state where format 2 holds the finish."""
    other = changed(content, version=version, versions={"ocp_nn": "9.1"})
    message = rf"written in format {version} by ocp_nn 9\.1.*reads formats 2 and 3; install ocp_nn 9\.1"
    with pytest.raises(LoadError, match=message):
        loaded(other, tmp_path)


def other_archive() -> bytes:
    out = io.BytesIO()
    np.savez(out, weights=np.ones(3))
    return out.getvalue()


def pickled_archive() -> bytes:
    out = io.BytesIO()
    np.savez(out, meta=np.array([{"format": "ocp_nn result"}], dtype=object))
    return out.getvalue()


def text_zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("meta", "hello")
    return out.getvalue()


@pytest.mark.parametrize("make", [other_archive, pickled_archive, text_zip, lambda: b"hello, world\n" * 50])
def test_other_files_are_one_clear_error(make, tmp_path):
    with pytest.raises(LoadError, match="damaged, or not a result saved by ocp_nn"):
        loaded(make(), tmp_path)


@pytest.mark.parametrize(
    "meta",
    [{"format": "other"}, {"layers": [{"kind": "lstm"}]}, {"layers": []}, {"result": {}}, {"targets": ["a", "b"]}],
)
def test_contents_that_do_not_fit_are_one_clear_error(content, meta, tmp_path):
    with pytest.raises(LoadError, match="damaged"):
        loaded(changed(content, **meta), tmp_path)


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        ocp_nn.load(tmp_path / "none.npz")


def test_what_is_no_readable_file_is_one_clear_error(content, tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")  # would wait for a writer
    for path in (tmp_path, tmp_path / "pipe", "/dev/null"):
        with pytest.raises(LoadError, match=f"{path}: not a regular file, expected a result saved by ocp_nn"):
            ocp_nn.load(path)

    def refuse(path, mode):
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "r.npz").write_bytes(content)
    monkeypatch.setattr(builtins, "open", refuse)
    with pytest.raises(LoadError, match=r"r\.npz: cannot be read: Permission denied"):
        ocp_nn.load(tmp_path / "r.npz")


def test_a_kill_while_writing_leaves_the_old_file(result, content, tmp_path, monkeypatch):
    path = tmp_path / "result.npz"
    result.save(path)

    def half(file, **arrays):
        file.write(content[: len(content) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(persistence.np, "savez", half)
    with pytest.raises(KeyboardInterrupt):
        replace(result, status=Status.FAILED).save(path)
    assert ocp_nn.load(path).status is result.status
    assert [p.name for p in tmp_path.iterdir()] == ["result.npz"]


def test_what_cannot_be_saved_says_so(result, tmp_path):
    with pytest.raises(ValueError, match="only a result with a model"):
        replace(result, model=None).save(tmp_path / "x.npz")
    with pytest.raises(ValueError, match="control_0"):
        persistence.save(result, tmp_path / "x.npz", arrays={"control_0": 1.0})
    assert not list(tmp_path.iterdir())
