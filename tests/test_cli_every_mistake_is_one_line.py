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
        "--weight-decay: must be 'auto', 'evidence', 'held-out' or a finite number >= 0, received '-1'",
    ),
    "weight decay in words": (
        ["fit", "sin2x", "--weight-decay", "much"],
        "must be 'auto', 'evidence', 'held-out' or a finite number >= 0, received 'much'",
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
    "fixed target, a long name": (["fit", "sin2x", "--target", "x" * 5000], "received xxxxx"),
    "unknown column": (["fit", "friedman", "--drop", "x1,size"], "friedman: no column 'size' to take among the inputs"),
    "all dropped": (["compare", "sin2x", "--drop", "x"], "sin2x: no input is left of x"),
    "both choices": (["conditioning", "friedman", "--drop", "x1", "--features", "x2"], "not both"),
    "no column names": (["fit", "sin2x", "--features", "x,,"], "column names separated by commas are expected"),
    "device": (["fit", "/dev/null", "--target", "y"], "/dev/null: a device, expected a file with a table"),
    "no data set": (["fit"], "DATASET"),
    "a line break": (["datasets", "a\nb"], "unrecognized arguments: a b"),
    "no command": ([], "COMMAND"),
    "unknown command": (["train"], "invalid choice: 'train'"),
}


DEVICE = "/dev/null"
ODD = {
    "a number": [
        "nan",
        "inf",
        "-inf",
        "1e400",
        "-1",
        "",
        " ",
        "²",
        "\uff11",
        "1_0",
        "0x10",
        "None",
        "[1]",
        "1,2",
        "9" * 400,
    ],
    "an integer": ["nan", "inf", "-1", "", " ", "²", "\uff11", "1_0", "0x10", "1.5", "1e3", "None", "9" * 5000],
    "integers": ["nan", "-1", "0", "", " ", "²", "\uff11", "1_0", "1.5", ",", "1,", "1,,2", "1;2", "[1]", "9" * 5000],
    "names": ["nan", "", " ", "tanh,", ",", "x" * 5000],
    "a path": ["", " "],
    "a folder to write": ["", " ", DEVICE, f"{DEVICE}/x", "x" * 5000],
}
COMMANDS = {
    "fit": {
        "--hidden": "integers",
        "--activation": "names",
        "--weight-decay": "a number",
        "--test-size": "a number",
        "--seed": "an integer",
        "--shooting": "names",
        "--reference": "names",
        "--time-limit": "a number",
        "--checkpoint": "a number",
        "--out": "a folder to write",
    },
    "compare": {
        "--hidden": "integers",
        "--seed": "an integer",
        "--methods": "names",
        "--time-limit": "a number",
        "--out": "a folder to write",
    },
    "conditioning": {
        "--depths": "integers",
        "--widths": "integers",
        "--activations": "names",
        "--initialisations": "names",
        "--seeds": "an integer",
        "--penalties": "a number",
        "--node-strides": "integers",
        "--weight-decay": "a number",
        "--samples": "an integer",
        "--steps": "an integer",
        "--hidden": "integers",
        "--activation": "names",
        "--workers": "an integer",
        "--out": "a folder to write",
    },
}


@pytest.mark.parametrize(
    ("command", "option"), [(command, option) for command, options in COMMANDS.items() for option in options]
)
def test_odd_values_are_refused_by_the_name_of_their_option(capsys, command, option):
    for value in ODD[COMMANDS[command][option]]:
        if (option, value) == ("--penalties", "1,2"):
            continue
        line = failing(capsys, command, "sin2x", f"{option}={value}")
        assert option.lstrip("-") in line


HUGE = {
    "fit": ["fit", "sin2x", "--hidden", "99999999999"],
    "fit, two layers": ["fit", "sin2x", "--hidden", "5000000,5000000"],
    "advice": ["conditioning", "sin2x", "--no-sweep", "--hidden", "99999999999"],
    "sweep": ["conditioning", "sin2x", "--widths", "99999999999", "--out", "{tmp}/out"],
}


@pytest.mark.parametrize("arguments", HUGE.values(), ids=HUGE)
def test_a_network_beyond_any_memory(tmp_path, capsys, arguments):
    line = failing(capsys, *(word.format(tmp=tmp_path) for word in arguments))
    assert "weights would take" in line and "GiB" in line
    assert not list(tmp_path.iterdir())


DATA = {
    "a device": (DEVICE, f"{DEVICE}: a device, expected a file with a table"),
    "nothing": ("", "name_or_path must be a name, or the path of a file or folder, received ''"),
    "a blank": (" ", "unknown data set"),
    "a number": ("1e400", "unknown data set '1e400'"),
    "a file as a folder": (f"{DEVICE}/x.csv", f"{DEVICE}/x.csv: no such file or folder"),
    "far too long": ("x" * 5000, "no such file or folder (File name too long)"),
}


@pytest.mark.parametrize(("name", "message"), DATA.values(), ids=DATA)
def test_what_is_no_data_set(capsys, name, message):
    assert message in failing(capsys, "fit", name)


def test_what_is_no_folder_to_write_to(tmp_path, capsys):
    (tmp_path / "taken").touch()
    for command in ("fit", "compare", "conditioning"):
        line = failing(capsys, command, "sin2x", "--out", str(tmp_path / "taken"))
        assert line == f"ocp-nn: error: --out {tmp_path}/taken: a file of this name is there; a folder is needed\n"
        line = failing(capsys, command, "sin2x", "--out", str(tmp_path / "taken" / "below"))
        assert line.endswith("taken/below: this folder cannot be made: Not a directory\n")


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
