"""A mistake ends with exit code 1 and one line that says what and where: no traceback, no half-written folder."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ocp_nn.cli import main

GOOD = "a,b,price\n" + "\n".join(f"{i},{i * i % 7},{3 * i % 5}" for i in range(12)) + "\n"

FILES = {
    "missing target": (GOOD, ["--target", "size"], "no column 'size'"),
    "no target": (GOOD, [], "which column is the target"),
    "text in a column": (
        GOOD.replace("\n3,", "\nthree,"),
        ["--target", "price"],
        "'three' in column 'a' is not a number",
    ),
    "NaN": (GOOD.replace("\n3,", "\nNaN,"), ["--target", "price"], "'NaN' in column 'a' is not finite"),
    "constant column": ("a,b,price\n1,1,1\n1,2,2\n1,3,1\n", ["--target", "price"], "column 'a' is constant"),
    "empty file": ("", ["--target", "price"], "the file is empty"),
    "one row": ("a,b,price\n1,2,3\n", ["--target", "price"], "1 row(s) of numbers"),
    "ragged": (GOOD + "1,2\n", ["--target", "price"], "2 cells where 3 are expected"),
    "duplicate names": (GOOD.replace("b", "a"), ["--target", "price"], "appears more than once"),
}


def failing(capsys, *arguments: str) -> str:
    """Run a command that must fail; its one line."""
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    output, errors = capsys.readouterr()
    assert code == 1
    assert errors.endswith("\n") and errors.count("\n") == 1, errors
    assert "Traceback" not in output + errors
    return errors


@pytest.mark.parametrize(("text", "options", "message"), FILES.values(), ids=FILES)
def test_bad_files(tmp_path, capsys, text, options, message):
    path, out = tmp_path / "houses.csv", tmp_path / "out"
    path.write_text(text)
    line = failing(capsys, "fit", str(path), *options, "--out", str(out))
    assert message in line
    assert "houses.csv" in line or "houses" in line
    assert not out.exists()


ARGUMENTS = {
    "missing file": (["fit", "gone.csv"], "gone.csv: no such file"),
    "unknown data set": (["fit", "diabets"], "unknown data set 'diabets': expected one of diabetes"),
    "unknown activation": (
        ["fit", "sin2x", "--activation", "swish"],
        "activation must be one of tanh, sigmoid, relu, softplus, identity, received 'swish'",
    ),
    "negative weight decay": (
        ["fit", "sin2x", "--weight-decay", "-1"],
        "--weight-decay: must be 'auto' or a finite number >= 0, received '-1'",
    ),
    "weight decay in words": (
        ["fit", "sin2x", "--weight-decay", "much"],
        "must be 'auto' or a finite number >= 0, received 'much'",
    ),
    "NaN weight decay": (["fit", "sin2x", "--weight-decay", "nan"], "received 'nan'"),
    "hidden widths": (
        ["fit", "sin2x", "--hidden", "20,0"],
        "--hidden: must be positive integers separated by commas, or 'none', received '20,0'",
    ),
    "hidden in words": (
        ["fit", "sin2x", "--hidden", "20;20"],
        "--hidden: must be positive integers separated by commas, or 'none', received '20;20'",
    ),
    "test size": (
        ["fit", "sin2x", "--test-size", "1.5"],
        "--test-size: must be a finite number > 0 and < 1, received '1.5'",
    ),
    "seed": (["fit", "sin2x", "--seed", "-3"], "--seed: must be an integer >= 0, received '-3'"),
    "time limit": (["fit", "sin2x", "--time-limit", "0"], "--time-limit: must be a finite number > 0, received '0'"),
    "reference": (["fit", "sin2x", "--reference", "snopt"], "invalid choice: 'snopt'"),
    "unknown option": (["fit", "sin2x", "--hiden", "20"], "--hiden"),
    "fixed target": (["fit", "sin2x", "--target", "x"], "its target is fixed (y)"),
    "no data set": (["fit"], "DATASET"),
    "no command": ([], "COMMAND"),
    "unknown command": (["train"], "invalid choice: 'train'"),
}


@pytest.mark.parametrize(("arguments", "message"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_bad_arguments(capsys, arguments, message):
    assert message in failing(capsys, *arguments)


def test_an_output_that_is_a_file(tmp_path, capsys):
    (tmp_path / "taken").touch()
    assert "taken" in failing(capsys, "fit", "sin2x", "--out", str(tmp_path / "taken"))


def test_it_is_so_in_a_process_of_its_own(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "ocp_nn", "fit", "gone.csv"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stderr) == (1, "ocp-nn: error: gone.csv: no such file or folder\n")


@pytest.mark.parametrize("arguments", [["--help"], ["fit", "--help"], ["datasets", "--help"], ["--version"]])
def test_help_is_no_mistake(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0
    assert "ocp" in capsys.readouterr().out
