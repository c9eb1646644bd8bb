"""An identification that was killed, interrupted or out of time goes on with ``--resume`` to the same end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("sklearn")

import ocp_nn
from ocp_nn.cli import main
from ocp_nn.learning.state_space import choice, memory

ARGUMENTS = ["--inputs", "v", "--outputs", "y", "--hidden", "none", "--states", "1,2", "--starts", "1"]


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """The command on 120 rows of a linear system."""
    table, v = tmp_path_factory.mktemp("table") / "run.csv", np.random.default_rng(0).standard_normal(120)
    y = np.convolve(v, [0, 1, 0.5, 0.2])[:120] + 0.1 * np.cos(7 * np.arange(120) ** 2)
    np.savetxt(table, np.column_stack([v, y]), delimiter=",", header="v,y", comments="")
    return ["identify", str(table), *ARGUMENTS, "--warm-up", "5"]


@pytest.fixture(scope="module")
def whole(arguments, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert main([*arguments, "--quiet", "--out", str(folder)]) in (0, 2)
    return folder


def kept(folder):
    """Paths and judgements that are kept, each a folder with an output."""
    return sorted(path.parent.name for path in (folder / "memory").rglob("output.pkl"))


def assert_same_end(folder, whole):
    ours, theirs = (ocp_nn.load(path / "model.npz").trajectory for path in (folder, whole))
    np.testing.assert_array_equal(ours.controls[0], theirs.controls[0])
    ours, theirs = (json.loads((path / "summary.json").read_text()) for path in (folder, whole))
    for key in ("num_states", "weight_decay", "objective", "figures", "counts"):
        assert ours[key] == theirs[key]


def end_early(folder, arguments, how, after):
    command = [sys.executable, "-m", "ocp_nn", *arguments, "--out", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while len(kept(folder)) < after:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, how)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="POSIX signals")
def test_after_a_kill(whole, arguments, tmp_path, monkeypatch):
    code, _, _ = end_early(tmp_path, arguments, signal.SIGKILL, after=1)
    assert code == -signal.SIGKILL
    assert not (tmp_path / "summary.json").exists()
    done, calls = kept(tmp_path), []
    monkeypatch.setattr(memory, "descend", lambda start, *others: calls.append(start) or choice.descend(start, *others))
    assert main(["identify", "--resume", str(tmp_path), "--quiet"]) in (0, 2)
    assert len(calls) < 2 and set(done) < set(kept(tmp_path))
    assert_same_end(tmp_path, whole)


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_after_ctrl_c(whole, arguments, tmp_path):
    code, _, errors = end_early(tmp_path, arguments, signal.SIGINT, after=1)
    assert code == 130 and errors.count("\n") <= 1
    assert main(["identify", "--resume", str(tmp_path), "--quiet"]) in (0, 2)
    assert_same_end(tmp_path, whole)


def test_what_a_time_limit_cut_short_is_done_again(whole, arguments, tmp_path):
    assert main([*arguments, "--quiet", "--out", str(tmp_path), "--time-limit", "0.05"]) in (0, 2)
    assert kept(tmp_path) == []
    assert main(["identify", "--resume", str(tmp_path), "--quiet"]) in (0, 2)
    assert_same_end(tmp_path, whole)


def test_a_finished_run_stays_as_it_is(whole, monkeypatch):
    before = json.loads((whole / "summary.json").read_text())
    monkeypatch.setattr(memory, "descend", lambda *_: pytest.fail("a path is gone again"))
    monkeypatch.setattr(memory, "judged", lambda *_: pytest.fail("judged again"))
    assert main(["identify", "--resume", str(whole), "--quiet"]) in (0, 2)
    after = json.loads((whole / "summary.json").read_text())
    for key in ("num_states", "weight_decay", "objective", "figures", "counts"):
        assert after[key] == before[key]


def test_the_last_training_goes_on_from_its_checkpoint(tmp_path):
    v = np.random.default_rng(0).standard_normal(200)
    y = np.convolve(v, [0, 1, 0.5])[:200] ** 3
    options = {"weight_decay": 1e-2, "num_starts": 1, "random_state": 0, "tol": 1e-10, "warm_up": 10}
    with pytest.warns(match="limit"):
        short = ocp_nn.StateSpaceRegressor(2, (4,), max_iter=5, memory=str(tmp_path), **options).fit(v, y)
    long, alone = (
        ocp_nn.StateSpaceRegressor(2, (4,), max_iter=500, memory=place, **options).fit(v, y)
        for place in (tmp_path, None)
    )
    assert short.result_.counts["outer"] == 5 < long.result_.counts["outer"]
    assert long.result_.objective == alone.result_.objective
    np.testing.assert_array_equal(long.model_.theta, alone.model_.theta)


def test_other_data_begin_anew(tmp_path):
    options = {"num_states": 1, "hidden_layer_sizes": (), "weight_decay": 1e-2, "num_starts": 1, "random_state": 0}
    v = np.random.default_rng(0).standard_normal((100, 1))
    for factor in (1, 1, 2):
        y = np.tanh(factor * np.roll(v, 1))
        fitted = ocp_nn.StateSpaceRegressor(memory=str(tmp_path), **options).fit(v, y)
        alone = ocp_nn.StateSpaceRegressor(**options).fit(v, y)
        np.testing.assert_array_equal(fitted.model_.theta, alone.model_.theta)
    assert len(list(tmp_path.rglob("output.pkl"))) == 2


def test_a_memory_that_is_none_is_refused():
    with pytest.raises(ValueError, match="memory"):
        ocp_nn.StateSpaceRegressor(memory=5).fit(np.zeros(50), np.arange(50.0))


def test_there_is_one_way_to_say_what_to_do(capsys):
    assert main(["identify"]) == 1
    assert "DATA, or --resume" in capsys.readouterr().err


def test_a_run_of_another_command_is_named(whole, tmp_path, capsys):
    assert main(["fit", "--resume", str(whole)]) == 1
    assert "expected a run of ocp-nn fit, received one of ocp-nn identify" in capsys.readouterr().err
    assert main(["identify", "--resume", str(tmp_path)]) == 1
    assert "no run to go on with" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "value"), [("states", "two"), ("test", []), ("weight_decay", -1)])
def test_a_damaged_run_file_is_one_line(whole, tmp_path, capsys, name, value):
    content = json.loads((whole / "run.json").read_text())
    content["arguments"][name] = value
    (tmp_path / "run.json").write_text(json.dumps(content))
    assert main(["identify", "--resume", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "run.json: damaged" in error and name in error
