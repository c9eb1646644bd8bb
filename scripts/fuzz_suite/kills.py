"""Kills: a run ended by a signal at a random moment leaves whole files, and the next one goes on and tidies up."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import numpy as np

import ocp_nn

from .arguments import command
from .draw import pick
from .oracles import same_bits
from .words import hold

__all__ = ["prepare", "run"]

_ROWS = 40
_FIT = [
    "--target",
    "y",
    "--hidden",
    "4,4",
    "--weight-decay",
    "0.01",
    "--reference",
    "none",
    "--quiet",
    "--checkpoint",
    "1e-9",
]

# About how long a run takes from its start to its end; drawn moments lie within somewhat more.
_SECONDS = 4.0


def prepare():
    _undisturbed()


def run(rng, folder):
    how = pick(rng, [signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    out = folder / "run"
    _write_table(folder)
    for _ in range(int(rng.integers(1, 3))):  # killed once, or again while going on
        words = (
            ["--resume", str(out)] if (out / "run.json").exists() else [str(folder / "t.csv"), *_FIT, "--out", str(out)]
        )
        code, errors = _killed(["fit", *words, "--quiet"], how, _moment(rng, out))
        if not _was_starting(errors):
            hold(code in (0, 2, 130, 143, -how), f"exit code {code} after signal {how}: {errors[-300:]}")
            hold("Traceback" not in errors and errors.count("\n") <= 1, f"after signal {how}: {errors[-300:]!r}")
        _check_files(out)
    _go_on(folder, out)


def _was_starting(errors):
    """Whether Ctrl-C came before the package could have a word: the interpreter then shows where it was."""
    modules = set(re.findall(r"/ocp_nn/([\w/]+)\.py", errors))
    return "KeyboardInterrupt" in errors and modules <= {"__init__", "base/__init__", "base/program"}


def _moment(rng, out):
    """A time, or a file in whose presence to end the run."""
    return pick(rng, [None, "run.json", "checkpoint.npz", "history.csv", "summary.json"]), float(rng.uniform(0.0, 1.0))


def _killed(words, how, moment):
    """Run a command and end it a while after its start, or just after a file is there."""
    file, share = moment
    environment = dict(os.environ, PYTHONPATH=str(Path(ocp_nn.__file__).parents[1]))
    process = subprocess.Popen([sys.executable, "-m", "ocp_nn", *words], stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True, env=environment)  # fmt: skip
    deadline = time.monotonic() + (_SECONDS * share if file is None else 60.0)
    path = None if file is None else Path(words[-2]) / file
    while process.poll() is None and time.monotonic() < deadline and not (path is not None and path.exists()):
        time.sleep(0.001)
    if file is not None:
        time.sleep(0.05 * share)
    process.send_signal(how)
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def _check_files(out):
    """Whatever has its name is whole."""
    for path in out.glob("[!.]*"):
        if path.suffix == ".npz":
            ocp_nn.load(path)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".csv":
            with path.open() as file:
                lengths = {len(row) for row in csv.reader(file)}
            hold(len(lengths) == 1, f"{path.name} is not whole")
        elif path.suffix == ".png":
            hold(path.read_bytes()[-8:-4] == b"IEND", f"{path.name} is not whole")


def _go_on(folder, out):
    """The run goes on to the end it would have had, or says that there is none; nothing is left behind."""
    was_there = (out / "run.json").exists()
    code, _, errors = command(["fit", "--resume", str(out), "--quiet"])
    if not was_there:
        hold(code == 1 and errors.count("\n") == 1, f"without a run --resume ends with {code}: {errors}")
        code, _, errors = command(["fit", str(folder / "t.csv"), *_FIT, "--out", str(out)])
    hold(code in (0, 2) and not errors, f"going on ends with {code}: {errors}")
    hidden = [path.name for path in out.iterdir() if path.name.startswith(".")]
    hold(not hidden, f"left behind: {hidden}")
    controls = ocp_nn.load(out / "model.npz").trajectory.controls
    hold(same_bits(controls, _undisturbed()), "the run has ended elsewhere than without a kill")


def _write_table(folder):
    x = np.linspace(-2, 2, _ROWS)
    rows = "\n".join(f"{float(a)!r},{float(np.sin(2 * a))!r}" for a in x)
    (folder / "t.csv").write_text(f"x,y\n{rows}\n")


@cache
def _undisturbed():
    """The weights of the same run without a kill."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        _write_table(Path(folder))
        code, _, errors = command(["fit", f"{folder}/t.csv", *_FIT, "--out", f"{folder}/run"])
        hold(code in (0, 2), f"a plain run fails: {errors}")
        return ocp_nn.load(Path(folder, "run", "model.npz")).trajectory.controls
