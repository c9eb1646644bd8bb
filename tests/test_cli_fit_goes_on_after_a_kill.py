"""A run that was killed or interrupted goes on with ``--resume`` and ends where it would have ended."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

import ocp_nn
from ocp_nn.cli import fit, main

ARGUMENTS = ["fit", "sin2x", "--hidden", "12,12", "--weight-decay", "0.001", "--reference", "none"]


def objective(folder):
    return json.loads((folder / "summary.json").read_text())["objective"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert main([*ARGUMENTS, "--quiet", "--out", str(folder)]) == 0
    return folder


def end_early(folder, how, after):
    """Start a run that leaves a checkpoint every iteration and end it after some."""
    command = [sys.executable, "-m", "ocp_nn", *ARGUMENTS, "--checkpoint", "1e-9", "--out", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    checkpoint, deadline = folder / "checkpoint.npz", time.monotonic() + 60
    while not (checkpoint.exists() and len(ocp_nn.load(checkpoint).history) >= after):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
    os.kill(process.pid, how)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


def assert_same_end(folder, whole):
    ours, theirs = (ocp_nn.load(path / "checkpoint.npz") for path in (folder, whole))
    for a, b in zip(ours.trajectory.controls, theirs.trajectory.controls, strict=True):
        np.testing.assert_array_equal(a, b)
    assert [r.objective for r in ours.history] == [r.objective for r in theirs.history]
    assert objective(folder) == objective(whole)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="POSIX signals")
def test_after_a_kill(whole, tmp_path, capsys):
    code, _, _ = end_early(tmp_path, signal.SIGKILL, after=3)
    assert code == -signal.SIGKILL
    assert not (tmp_path / "summary.json").exists()
    done = len(ocp_nn.load(tmp_path / "checkpoint.npz").history)
    assert main(["fit", "--resume", str(tmp_path)]) == 0
    assert "going on after outer iteration" in capsys.readouterr().out
    assert done >= 3
    assert_same_end(tmp_path, whole)


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_after_ctrl_c_everything_is_there(whole, tmp_path):
    code, output, errors = end_early(tmp_path, signal.SIGINT, after=3)
    assert (code, errors) == (130, "")
    assert "interrupted: The solve was interrupted." in output
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "interrupted"
    assert ocp_nn.load(tmp_path / "model.npz").predict(np.zeros((1, 1))).shape == (1, 1)
    assert main(["fit", "--resume", str(tmp_path), "--quiet"]) == 0
    assert_same_end(tmp_path, whole)


def test_after_a_time_limit(whole, tmp_path):
    assert main([*ARGUMENTS, "--quiet", "--out", str(tmp_path), "--time-limit", "0.05"]) == 2
    assert main(["fit", "--resume", str(tmp_path), "--quiet"]) == 0
    assert objective(tmp_path) < 2 * objective(whole)


def test_a_finished_run_stays_as_it_is(whole, tmp_path):
    before = ocp_nn.load(whole / "checkpoint.npz")
    assert main(["fit", "--resume", str(whole), "--quiet"]) == 0
    after = ocp_nn.load(whole / "checkpoint.npz")
    assert (after.objective, after.history) == (before.objective, before.history)


def test_before_the_first_checkpoint_it_starts_over(whole, tmp_path):
    (tmp_path / "run.json").write_bytes((whole / "run.json").read_bytes())
    assert main(["fit", "--resume", str(tmp_path), "--quiet"]) == 0
    assert_same_end(tmp_path, whole)


def test_the_chosen_weight_decay_is_kept(tmp_path, monkeypatch):
    arguments = ["fit", "linear", "--hidden", "2", "--reference", "none", "--quiet", "--out", str(tmp_path)]
    assert main(arguments) == 0
    first = json.loads((tmp_path / "summary.json").read_text())
    monkeypatch.setattr(fit, "select_weight_decay", lambda *_: pytest.fail("chosen again"))
    assert main(["fit", "--resume", str(tmp_path), "--quiet"]) == 0
    again = json.loads((tmp_path / "summary.json").read_text())
    for key in ("weight_decay", "weight_decay_selection", "objective", "test_rmse"):
        assert again[key] == first[key]


def test_data_that_have_changed_are_an_error(tmp_path, capsys):
    table = tmp_path / "t.csv"
    table.write_text("a,b\n" + "\n".join(f"{i},{i * i % 7}" for i in range(20)) + "\n")
    arguments = ["--target", "b", "--hidden", "2", "--weight-decay", "1", "--reference", "none", "--quiet"]
    assert main(["fit", str(table), *arguments, "--out", str(tmp_path / "run")]) == 0
    table.write_text("a,b\n" + "\n".join(f"{i},{i * i % 5}" for i in range(20)) + "\n")
    assert main(["fit", "--resume", str(tmp_path / "run"), "--quiet"]) == 1
    assert "another problem" in capsys.readouterr().err


def edited(path, *names, value):
    """The run's file with one entry put to another value."""
    content = json.loads(path.read_text())
    inner = content
    for name in names[:-1]:
        inner = inner[name]
    inner[names[-1]] = value
    return json.dumps(content)


RUN_FILES = {
    "empty": (lambda path: "", "Expecting value"),
    "truncated": (lambda path: path.read_text()[:90], "run.json: damaged"),
    "a list": (lambda path: f"[{path.read_text()}]", "expected an object with format, arguments"),
    "nested": (lambda path: json.dumps({"run": json.loads(path.read_text())}), "an entry 'run', expected only format"),
    "deeply nested": (lambda path: "[" * 100_000, "run.json: damaged"),
    "huge": (lambda path: path.read_text() + " " * 2**21, "bytes, expected at most 1048576"),
    "another version": (
        lambda path: edited(path, "format", value=7),
        "its format is 7, but this version reads format 1",
    ),
    "no arguments": (lambda path: edited(path, "arguments", value=None), "None for 'arguments', expected an object"),
    "unknown argument": (lambda path: edited(path, "arguments", "hiden", value=[2]), "an entry 'hiden', expected only"),
    "hidden": (lambda path: edited(path, "arguments", "hidden", value=2), "2 for 'hidden', expected a list"),
    "nested hidden": (lambda path: edited(path, "arguments", "hidden", value=[[2]]), "[[2]] for 'hidden', expected"),
    "seed": (lambda path: edited(path, "arguments", "seed", value="0"), "'0' for 'seed', expected an integer >= 0"),
    "activation": (lambda path: edited(path, "arguments", "activation", value="swish"), "expected one of tanh"),
    "weight decay": (
        lambda path: edited(path, "weight_decay", value=None),
        "None for 'weight_decay', expected a finite",
    ),
    "not finite": (lambda path: edited(path, "weight_decay", value=float("nan")), "nan for 'weight_decay'"),
    "selection": (lambda path: edited(path, "selection", value=[]), "[] for 'selection', expected an object, or null"),
    "empty selection": (lambda path: edited(path, "selection", value={}), "'selection' has no entry 'weight_decay'"),
    "other encoding": (lambda path: path.read_text().encode("utf-16"), "run.json: damaged"),
    "binary": (lambda path: bytes(range(256)), "run.json: damaged"),
}


@pytest.mark.parametrize(("make", "message"), RUN_FILES.values(), ids=RUN_FILES)
def test_a_damaged_run_file_is_one_line(whole, tmp_path, capsys, make, message):
    content = make(whole / "run.json")
    (tmp_path / "run.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main(["fit", "--resume", str(tmp_path)]) == 1
    output, errors = capsys.readouterr()
    assert (output, errors.count("\n")) == ("", 1)
    assert message in errors and "run.json" in errors


def test_run_files_of_earlier_versions_are_read(whole, tmp_path):
    content = json.loads((whole / "run.json").read_text())
    del content["format"]
    (tmp_path / "run.json").write_text(json.dumps(content))
    assert main(["fit", "--resume", str(tmp_path), "--quiet"]) == 0
    assert_same_end(tmp_path, whole)


def test_checkpoints_that_cannot_be_gone_on_from_are_one_line(whole, tmp_path, capsys):
    (tmp_path / "run.json").write_bytes((whole / "run.json").read_bytes())
    (tmp_path / "checkpoint.npz").write_bytes((whole / "model.npz").read_bytes())
    assert main(["fit", "--resume", str(tmp_path)]) == 1
    assert "checkpoint.npz: a result without the solver's state" in capsys.readouterr().err
    (tmp_path / "checkpoint.npz").write_bytes((whole / "checkpoint.npz").read_bytes()[:-100])
    assert main(["fit", "--resume", str(tmp_path)]) == 1
    assert "checkpoint.npz: damaged" in capsys.readouterr().err


def test_mistakes_are_one_line(whole, tmp_path, capsys):
    (tmp_path / "run.json").write_text("{}")
    for arguments, message in [
        (["--resume", str(tmp_path / "none")], "no run to go on with"),
        (["--resume", str(tmp_path)], "run.json: damaged"),
        (["sin2x", "--resume", str(whole)], "and not both"),
    ]:
        assert main(["fit", *arguments]) == 1
        errors = capsys.readouterr().err
        assert message in errors and errors.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_in_a_save_is_ctrl_c_and_the_older_file_stays(tmp_path, monkeypatch):
    """An archive that is left open would say so when collected, which pytest turns into an error."""
    problem = ocp_nn.TrainingProblem(ocp_nn.Network.mlp([1, 2, 1]), [[0.0], [1.0]], [0.0, 1.0])
    result = ocp_nn.solve(problem, options=ocp_nn.Options(max_outer=1))
    result.save(tmp_path / "model.npz")
    older = (tmp_path / "model.npz").read_bytes()
    signals = []
    begin = zipfile._ZipWriteFile.__init__  # the archive waits for this member to end by then

    def interrupted(self, *args, **kwargs):
        if not signals:
            signals.append(os.kill(os.getpid(), signal.SIGINT))
            time.sleep(0.02)
        begin(self, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(zipfile._ZipWriteFile, "__init__", interrupted)
        result.save(tmp_path / "model.npz")
    gc.collect()
    assert [path.name for path in tmp_path.iterdir()] == ["model.npz"]
    assert (tmp_path / "model.npz").read_bytes() == older
