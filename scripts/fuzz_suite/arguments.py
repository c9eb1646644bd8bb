"""Arguments: random command lines of every command, in this process."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tempfile
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np

import ocp_nn
from ocp_nn.cli import main

from .draw import pick, seldom
from .words import hold

__all__ = ["command", "prepare", "run"]

_TABLE = "a,b [m],price\n" + "\n".join(f"{i},{i * i % 7},{3 * i % 5 + 0.5}" for i in range(14)) + "\n"

_EXIT_CODES = (0, 1, 2, 130)

_ODD = ["", " ", "nan", "inf", "-1", "0", "1e400", "\u00b2", "1_0", "0x10", "None", "[1]", ",", "1,,2", "9" * 400,
        "x" * 3000, "\0", "\udcff", "-", "--", "-x", "\n", "a\nb", "'", "%s", "{}", "$HOME", "tanh", "1.5",
        "99999999999"]  # fmt: skip

# Options of each command with values that are fine and, in most cases, quick; None is a flag.
_PROBLEM = {
    "--hidden": ["2", "1,2", "none"],
    "--activation": ["tanh", "sigmoid", "relu", "softplus", "identity"],
    "--weight-decay": ["0.1", "1e3", "0"],
    "--test-size": ["0.1", "0.5", "0.9"],
    "--seed": ["0", "3"],
}
_COLUMNS = {"--target": ["price", "y", "b"], "--features": ["a", "a,b", "x"], "--drop": ["a", "b", "x"]}
_OPTIONS = {
    "fit": {
        **_PROBLEM, **_COLUMNS, "--shooting": ["multiple", "single"], "--reference": ["none"],
        "--time-limit": ["0.2", "1"],
        "--checkpoint": ["1e-9", "30"], "--quiet": None, "--resume": ["run", "nowhere"],
    },
    "compare": {
        **_PROBLEM, **_COLUMNS, "--methods": ["al", "al,al-single"], "--no-cross": None, "--time-limit": ["0.2"],
    },
    "predict": {"--quiet": None},
    "conditioning": {
        **_COLUMNS, "--depths": ["1", "1,2"], "--widths": ["2"], "--activations": ["tanh"],
        "--initialisations": ["standard"], "--seeds": ["1"], "--penalties": ["1"], "--node-strides": ["2"],
        "--weight-decay": ["0.1"], "--samples": ["10"], "--steps": ["2"], "--hidden": ["2"], "--activation": ["tanh"],
        "--no-sweep": None, "--workers": ["1"], "--quiet": None,
    },
    "export": {"--to": ["casadi", "c", "onnx", "numpy"], "--name": ["f", "model", "int", "1a"], "--float32": None,
               "--quiet": None},
    "datasets": {},
    "doctor": {},
}  # fmt: skip

# What is needed for a quick run: nothing is chosen, nothing compared with.
_QUICK = {
    "fit": ["--weight-decay", "0.1", "--reference", "none", "--time-limit", "0.3", "--hidden", "2"],
    "compare": ["--weight-decay", "0.1", "--time-limit", "0.3", "--hidden", "2", "--methods", "al", "--no-cross"],
    "conditioning": ["--hidden", "2", "--no-sweep"],
}

_INPUTS = {"fit": 1, "compare": 1, "conditioning": 1, "predict": 2, "export": 1, "datasets": 0, "doctor": 0}


def command(words):
    """Exit code and what was printed, of a command run in this process."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            code = main(words)
        except SystemExit as stop:
            code = stop.code
    return code, output.getvalue(), errors.getvalue()


def prepare():
    """The model that the commands are handed is trained once."""
    _model_files()


def run(rng, folder):
    _lay_out(folder)
    before, here = _contents(folder), Path.cwd()
    words, out = _drawn(rng)
    os.chdir(folder)
    try:
        code, output, errors = command(words)
    finally:
        os.chdir(here)
    shown = f"{[word[:60] for word in words]}"
    hold(code in _EXIT_CODES, f"exit code {code} of {shown}")
    hold("Traceback" not in output + errors, f"a traceback from {shown}: {errors}")
    lines = errors.splitlines()
    hold(len(lines) == 1 if code == 1 else all(": warning: " in line for line in lines), f"{shown} says {errors!r}")
    _check_folder(folder, before, out, words, code, shown)


def _check_folder(folder, before, out, words, code, shown):
    after = _contents(folder)
    outputs = [name for name in {*before, *after} if before.get(name) != after.get(name)]
    hidden = [name for name in after if Path(name).name.startswith(".")]
    hold(not hidden, f"left behind by {shown}: {hidden}")
    allowed = ("run", "results", "model", *([] if out is None else [out]))
    elsewhere = [name for name in outputs if not name.startswith(allowed)]
    hold(not elsewhere, f"{shown} has changed {elsewhere}")
    hold(before["t.csv"] == after["t.csv"] and set(before) <= set(after), f"{shown} has changed its inputs")
    if words[:1] == ["fit"] and code in (0, 2) and out is not None and (folder / out / "summary.json").exists():
        _check_summary(folder, folder / out)


def _check_summary(folder, out):
    """The errors that are reported are those of the model that was left."""
    summary, arguments = (json.loads((out / name).read_text()) for name in ("summary.json", "run.json"))
    given, model = arguments["arguments"], ocp_nn.load(out / "model.npz").model
    data = ocp_nn.load_dataset(
        given["dataset"], target=given["target"], features=given["features"], drop=given["drop"] or ()
    )
    split = ocp_nn.random_split(data.num_samples, given["test_size"], given["seed"])
    for part in ("train", "test"):
        rows = getattr(split, part)
        error = float(np.sqrt(np.mean((model.outputs(data.x[rows]) - data.y[rows]) ** 2)))
        reported = summary[f"{part}_rmse"]
        hold(abs(error - reported) <= 1e-9 * error, f"summary.json: {part} RMSE {reported}, of its model {error}")


def _lay_out(folder):
    """A table, a model in a folder, and what is not what it should be."""
    (folder / "t.csv").write_text(_TABLE)
    (folder / "bad.csv").write_text("a,b\n1,x\n")
    (folder / "run").mkdir()
    for name, content in _model_files().items():
        (folder / "run" / name).write_bytes(content)
    (folder / "empty").mkdir()


@cache
def _model_files():
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        table = Path(folder, "t.csv")
        table.write_text(_TABLE)
        code, _, errors = command(
            ["fit", str(table), "--target", "price", *_QUICK["fit"], "--quiet", "--out", f"{folder}/run"]
        )
        hold(code in (0, 2), f"a plain run fails: {errors}")
        return {name: Path(folder, "run", name).read_bytes() for name in ("model.npz", "checkpoint.npz")}


def _contents(folder):
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*") if path.is_file()}  # fmt: skip


def _drawn(rng):
    """A command line, and the path after its last --out."""
    name = pick(
        rng, ["fit", "fit", "fit", "compare", "predict", "predict", "conditioning", "export", "export", "datasets"]
    )
    if seldom(rng, 0.003):
        return ["doctor"], None
    if seldom(rng, 0.03):
        name = pick(rng, ["", "train", "FIT", "--version", "--help", "-h", "doctor"])
    inputs = _inputs(rng, name) if name != "doctor" else ["extra"]
    words = [name, *inputs, *_QUICK.get(name, [])]
    options = _OPTIONS.get(name, {})
    for option in [o for o in options if seldom(rng, 2.0 / (2 + len(options)))]:
        fine = options[option]
        value = pick(rng, _ODD) if fine is None or seldom(rng, 0.15) else pick(rng, fine)
        words += (
            [option]
            if fine is None and seldom(rng, 0.9)
            else [f"{option}={value}"]
            if seldom(rng, 0.3)
            else [option, value]
        )
    words, out = _with_out(rng, words, name)
    if seldom(rng, 0.1):
        words = _disturbed(rng, words)
        out = next((b for a, b in reversed([*pairwise(words)]) if a == "--out"), None)
    return words, None if out is None else os.path.normpath(out)


def _inputs(rng, name):
    """Positional arguments: names of data sets and of files that are there, or not."""
    sources = {
        "predict": [
            ["run", "t.csv"],
            ["run/model.npz", "t.csv"],
            ["run", "bad.csv"],
            ["empty", "t.csv"],
            ["t.csv", "run"],
        ],
        "export": [["run"], ["run/model.npz"], ["empty"], ["t.csv"]],
        "datasets": [[]],
    }.get(
        name,
        [
            ["t.csv", "--target", "price"],
            ["t.csv", "--target", "price"],
            ["sin2x"],
            ["t.csv"],
            ["bad.csv"],
            ["empty"],
            [],
        ],
    )
    words = list(pick(rng, sources))
    return [pick(rng, _ODD), *words[1:]] if seldom(rng, 0.1) else words


def _with_out(rng, words, name):
    """The command line with an --out inside the folder, sometimes."""
    if name not in ("fit", "compare", "predict", "conditioning", "export") or seldom(rng, 0.5):
        return words, None
    out = pick(
        rng, ["out", "out", "out dir/deep", "\u00fc", "empty", "run", "t.csv/x", "bad.csv/below/it", "out/../out"]
    )
    return [*words, "--out", out], out


def _disturbed(rng, words):
    """A word taken out, doubled or exchanged; an --out keeps its value."""
    i = int(rng.integers(len(words)))
    if "--out" in (words[i], words[i - 1]):
        return words
    changed = pick(rng, [[], [words[i]] * 2, [pick(rng, [word for word in _ODD if word not in ("-", "--")])]])
    return [*words[:i], *changed, *words[i + 1 :]]
