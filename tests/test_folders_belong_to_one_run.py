"""Two runs never write to one place at once; a kill hinders nobody, and what it left is removed by the next run."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import ocp_nn
from ocp_nn import Network, Options, TrainingProblem
from ocp_nn.base.atomic import atomic_write, remove_leftovers
from ocp_nn.base.claim import claim
from ocp_nn.cli import main

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")

HOLDER = """
import sys
from pathlib import Path
from ocp_nn.base.atomic import atomic_write
from ocp_nn.base.claim import claim
with claim(sys.argv[1]), atomic_write(Path(sys.argv[1]) / "summary.json") as file:
    file.write(b"half of the n"); file.flush()
    print("here", flush=True)
    sys.stdin.read()
    file.write(b"umber")
"""

WRITER = """
import sys
from ocp_nn.base.atomic import atomic_write
with atomic_write(sys.argv[1]) as file:
    print("here", flush=True)
    sys.stdin.read()
    file.write(b"whole")
"""


def start(code, *arguments):
    """A process that has come as far as its line "here", and goes on when its standard input closes."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "here\n"
    return process


def end(process):
    process.communicate(timeout=60)
    return process.returncode


def kill(process):
    process.kill()
    process.communicate(timeout=60)


def sine() -> TrainingProblem:
    x = np.linspace(-2, 2, 20)[:, None]
    return TrainingProblem(Network.mlp([1, 3, 1]), x, np.sin(x), 1e-2)


def test_another_process_is_refused_by_name_until_the_end(tmp_path):
    holder = start(HOLDER, tmp_path)
    with pytest.raises(BlockingIOError, match=rf"{tmp_path} is in use by process {holder.pid} on .*: wait for it"):
        claim(tmp_path).__enter__()
    assert end(holder) == 0
    with claim(tmp_path):
        assert (tmp_path / "summary.json").read_text() == "half of the number"
    assert os.listdir(tmp_path) == ["summary.json"]


def test_a_kill_hinders_nobody_and_its_leftovers_go(tmp_path):
    kill(start(HOLDER, tmp_path))
    strangers = {".summary.json.0123456789abcdef0123456789abcdef", ".netrc", "data.csv"}
    for name in strangers:
        (tmp_path / name).touch()
    assert len(os.listdir(tmp_path)) == len(strangers) + 2  # half a file, and the lock
    with claim(tmp_path):
        assert set(os.listdir(tmp_path)) == strangers | {".ocp_nn.lock"}
    assert set(os.listdir(tmp_path)) == strangers


def test_what_is_being_written_stays(tmp_path):
    writer = start(WRITER, tmp_path / "predictions.csv")
    with claim(tmp_path):
        pass
    assert end(writer) == 0
    assert (tmp_path / "predictions.csv").read_text() == "whole"


def test_the_leftovers_of_one_file_are_its_own(tmp_path):
    for name in ("a.npz", "b.npz"):
        kill(start(WRITER, tmp_path / name))
    with claim(tmp_path / "a.npz"):
        pass
    (left,) = os.listdir(tmp_path)
    assert left.startswith(".b.npz.")


def test_a_folder_and_a_file_in_it_are_two_places(tmp_path):
    with claim(tmp_path), claim(tmp_path / "checkpoint.npz"), pytest.raises(BlockingIOError):
        claim(tmp_path / "checkpoint.npz").__enter__()


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        claim(tmp_path / "none" / "file").__enter__()


def test_threads_that_contend_are_never_inside_together(tmp_path):
    inside, taken = [], [0] * 4

    def contend(rank):
        for _ in range(300):
            try:
                with claim(tmp_path):
                    inside.append(rank)
                    assert inside == [rank]
                    taken[rank] += 1
                    inside.remove(rank)
            except BlockingIOError:
                time.sleep(0)

    run_all(lambda rank=rank: contend(rank) for rank in range(4))
    assert sum(taken) > 0
    assert os.listdir(tmp_path) == []


def test_files_survive_someone_who_removes_leftovers_all_the_time(tmp_path):
    writing = [True] * 3

    def write(rank):
        for number in range(200):
            with atomic_write(tmp_path / f"{rank}") as file:
                file.write(b"%d" % number)
        writing[rank] = False

    def remove():
        while any(writing):
            remove_leftovers(tmp_path)

    run_all([*(lambda rank=rank: write(rank) for rank in range(3)), remove])
    assert {(tmp_path / name).read_text() for name in os.listdir(tmp_path)} == {"199"}


def run_all(works):
    errors = []

    def guarded(work):
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_without_locks_others_are_not_kept_out_but_all_is_written(tmp_path, monkeypatch, caplog):
    def refuse(_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("ocp_nn.base.claim.try_lock", refuse)
    monkeypatch.setattr("ocp_nn.base.atomic.try_lock", refuse)
    with claim(tmp_path), atomic_write(tmp_path / "file") as file:
        file.write(b"whole")
    assert "cannot be locked" in caplog.text
    assert (tmp_path / "file").read_text() == "whole"


COMMANDS = {
    "fit": ["fit", "sin2x", "--hidden", "2", "--weight-decay", "1", "--reference", "none", "--quiet", "--out"],
    "compare": ["compare", "sin2x", "--hidden", "2", "--weight-decay", "1", "--methods", "al", "--quiet", "--out"],
    "conditioning": ["conditioning", "sin2x", "--depths", "1", "--widths", "2", "--seeds", "1", "--quiet", "--out"],
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_commands_refuse_a_folder_in_use_and_touch_nothing(command, tmp_path, capsys):
    holder = start(HOLDER, tmp_path)
    before = set(os.listdir(tmp_path))
    assert main([*command, str(tmp_path)]) == 1
    errors = capsys.readouterr().err
    assert errors.startswith(f"ocp-nn: error: {tmp_path} is in use by process {holder.pid}")
    assert errors.count("\n") == 1
    assert set(os.listdir(tmp_path)) == before
    kill(holder)


def test_resuming_a_run_that_goes_on_is_refused(tmp_path, capsys):
    assert main([*COMMANDS["fit"], str(tmp_path)]) == 0
    with claim(tmp_path):
        assert main(["fit", "--resume", str(tmp_path), "--quiet"]) == 1
    assert f"in use by process {os.getpid()}" in capsys.readouterr().err


@posix
def test_fit_after_the_kill_of_a_fit_leaves_its_own_files_alone(tmp_path, capsys):
    arguments = ["fit", "friedman", "--hidden", "30,30", "--weight-decay", "0.001", "--reference", "none"]
    command = [sys.executable, "-m", "ocp_nn", *arguments, "--checkpoint", "1e-9", "--out", str(tmp_path)]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (tmp_path / "checkpoint.npz").exists():
        assert first.poll() is None and time.monotonic() < deadline
    os.kill(first.pid, signal.SIGSTOP)  # it must not end before the others have looked
    assert main([*COMMANDS["fit"], str(tmp_path)]) == 1
    assert f"in use by process {first.pid}" in capsys.readouterr().err
    kill(first)
    assert main([*COMMANDS["fit"], str(tmp_path)]) == 0
    assert {name for name in os.listdir(tmp_path) if name.startswith(".")} == set()
    assert ocp_nn.load(tmp_path / "checkpoint.npz").model.network.sizes == (1, 2, 1)


def test_two_solves_with_one_checkpoint(tmp_path):
    """The second is refused before it begins; other checkpoints in the same folder are not."""
    path, refused = tmp_path / "checkpoint.npz", []

    def second(_):
        with pytest.raises(BlockingIOError, match=r"checkpoint\.npz is in use by process"):
            ocp_nn.solve(sine(), checkpoint=path)
        ocp_nn.solve(sine(), options=Options(max_outer=1), checkpoint=tmp_path / "other.npz")
        refused.append(True)

    ocp_nn.solve(sine(), options=Options(max_outer=2), checkpoint=path, callback=second)
    assert refused
    assert sorted(os.listdir(tmp_path)) == ["checkpoint.npz", "other.npz"]


def test_a_solve_that_fails_gives_its_checkpoint_free(tmp_path):
    def fail(_):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        ocp_nn.solve(sine(), checkpoint=tmp_path / "c.npz", callback=fail)
    ocp_nn.solve(sine(), options=Options(max_outer=1), checkpoint=tmp_path / "c.npz")
