"""Files come into being in one move: an exception in the middle leaves the older file, and no litter."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from ocp_nn.problem.record import Record
from ocp_nn.report import atomic_write, write_history, write_json

RECORD = Record(
    iteration=0, phase="inner", objective=1 / 3, rollout_objective=None, max_defect=1e-9, stationarity=0.1,
    penalty=float("inf"), steps=4, seconds=0.5,
)  # fmt: skip


def test_an_exception_keeps_the_old_file(tmp_path):
    path = tmp_path / "summary.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write(b"half of the n")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["summary.json"]


PLACES = {
    "a folder": ("folder", IsADirectoryError, "folder: cannot be written: it is a folder"),
    "a pipe": ("pipe", OSError, "pipe: cannot be written: it is not a regular file"),
    "below a file": ("file/new", NotADirectoryError, "file/new: cannot be written: Not a directory"),
    "no folder": ("none/new", FileNotFoundError, "none/new: cannot be written: No such file or directory"),
}


@pytest.mark.skipif(os.name == "nt", reason="POSIX pipes and messages")
@pytest.mark.parametrize(("name", "kind", "message"), PLACES.values(), ids=PLACES)
def test_what_cannot_be_written_is_one_sentence(tmp_path, name, kind, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("old")
    os.mkfifo(tmp_path / "pipe")
    before = {path: path.stat().st_ino for path in tmp_path.rglob("*")}
    with pytest.raises(kind) as error, atomic_write(tmp_path / name) as file:
        file.write(b"new")
    assert str(error.value) == f"{tmp_path}{os.sep}{message}"
    assert {path: path.stat().st_ino for path in tmp_path.rglob("*")} == before
    assert (tmp_path / "file").read_text() == "old"


def test_a_full_disk_keeps_the_old_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "summary.json"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"summary\.json: cannot be written: No space left on device") as error:
        write_json(path, {"a": 1})
    assert error.value.errno == errno.ENOSPC
    assert (path.read_text(), os.listdir(tmp_path)) == ("old", ["summary.json"])


def test_an_error_of_ones_own_stays_what_it_was(tmp_path):
    with pytest.raises(FileNotFoundError, match="No such file or directory: 'source'"), atomic_write(tmp_path / "x"):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "source")


def test_a_link_stays_one(tmp_path):
    (tmp_path / "latest").symlink_to("real")
    with atomic_write(tmp_path / "latest") as file:
        file.write(b"new")
    assert (tmp_path / "latest").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
@pytest.mark.parametrize("write", ["write_casadi", "write_c", "write_numpy"])
def test_exports_on_a_full_disk_are_an_error(tmp_path, write):
    """CasADi says nothing when it cannot write, so the exports must look."""
    code = f"""
import resource, signal, sys
import numpy as np, ocp_nn, ocp_nn.export
network = ocp_nn.Network.mlp([3, 40, 1])
model = ocp_nn.Model(network, network.init_controls(0))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    ocp_nn.export.{write}(model, sys.argv[1])
except OSError as error:
    print(error)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "model")]
    line = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "the disk full" in line or "cannot be written: File too large" in line
    assert not list(tmp_path.iterdir())


def test_nothing_is_visible_before_the_end(tmp_path):
    path = tmp_path / "history.csv"
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["history.csv"]


def test_new_files_have_the_usual_permissions(tmp_path):
    with atomic_write(tmp_path / "ours") as file:
        file.write(b"")
    (tmp_path / "usual").touch()
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_json_is_strict(tmp_path):
    path = tmp_path / "summary.json"
    write_json(
        path, {"a": np.float64(0.5), "b": (1, np.int64(2)), "c": float("nan"), "d": {"e": float("inf")}, "f": True}
    )

    def refuse(constant):
        raise AssertionError(constant)

    content = json.loads(path.read_text(), parse_constant=refuse)
    assert content == {"a": 0.5, "b": [1, 2], "c": None, "d": {"e": None}, "f": True}


def test_history_keeps_every_digit(tmp_path):
    path = tmp_path / "history.csv"
    write_history(path, [RECORD, RECORD])
    header, first, second = path.read_text().splitlines()
    assert tuple(header.split(",")) == Record.columns()
    row = dict(zip(header.split(","), first.split(","), strict=True))
    assert float(row["objective"]) == 1 / 3
    assert (row["phase"], row["rollout_objective"], row["penalty"]) == ("inner", "", "inf")
    assert first == second
