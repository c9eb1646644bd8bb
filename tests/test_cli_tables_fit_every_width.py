"""What commands print fits the terminal: tables fold between words, never inside them, at 60, 80 and 120 columns."""

from __future__ import annotations

import io
import re
import sys

import pytest

from ocp_nn.cli import doctor, main
from ocp_nn.cli.doctor import Finding
from ocp_nn.problem.record import Record
from ocp_nn.report import LiveHistory, format_table

WIDTHS = (60, 80, 120)
TINY = ["--hidden", "3", "--weight-decay", "1"]
SWEEP = ["--depths", "2,3", "--activations", "tanh", "--initialisations", "standard", "--seeds", "1", "--steps", "5"]
COMMANDS = {
    "datasets": ["datasets"],
    "doctor": ["doctor"],
    "fit": ["fit", "diabetes", *TINY],
    "compare": ["compare", "sin2x", *TINY, "--methods", "al,ipopt-single-lbfgs"],
    "conditioning": ["conditioning", *SWEEP, "--samples", "20", "--workers", "1"],
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No processes of the doctor, no figures of a sweep."""
    fails = Finding("CasADi ipopt with ma57", "fails", "optional", "only for comparisons; not in this build")
    monkeypatch.setattr(doctor, "_solvers", lambda: [fails])
    monkeypatch.setattr("ocp_nn.analysis.conditioning.figures.FIGURES", {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of the sweep, which is measured once."""
    return tmp_path_factory.mktemp("sweep")


def printed(name, width, folder, capsys, monkeypatch, *, terminal=True) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "dumb")  # the history in lines, not redrawn
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    more = ["--out", str(folder)] if name == "conditioning" else []
    main([*COMMANDS[name], *more])
    return capsys.readouterr().out


def too_long(text: str, width: int) -> list[str]:
    """Lines beyond the width that could have been broken."""
    return [line for line in text.splitlines() if len(line) > width and len(line.split()) > 1]


def words(text: str) -> set[str]:
    """Without rules and figures, which differ from run to run."""
    return {word for word in text.split() if not re.search(r"[0-9]|^-+$", word)}


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_printed_fits_and_no_word_is_broken(name, folder, capsys, monkeypatch):
    pytest.importorskip("sklearn")
    whole = words(printed(name, 1000, folder, capsys, monkeypatch))
    for width in WIDTHS:
        text = printed(name, width, folder, capsys, monkeypatch)
        assert not too_long(text, width)
        assert words(text) - whole - {"..."} == set()


@pytest.mark.parametrize("command", ["", "fit", "compare", "predict", "conditioning", "export", "datasets", "doctor"])
def test_help_fits_eighty_columns(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    assert not too_long(capsys.readouterr().out, 80)


@pytest.mark.parametrize("name", COMMANDS)
def test_tables_that_are_piped_have_eighty_columns(name, folder, capsys, monkeypatch):
    monkeypatch.setattr("shutil.os.get_terminal_size", broken_terminal)
    text = printed(name, "", folder, capsys, monkeypatch, terminal=False)
    tables = [block for block in text.split("\n\n") if "--" in block]
    assert tables and not any(too_long(table, 80) for table in tables)


def broken_terminal(descriptor):
    raise OSError


def test_a_sentence_that_is_piped_stays_one_line(folder, capsys, monkeypatch):
    text = printed("fit", 60, folder, capsys, monkeypatch, terminal=False)
    assert any("defect constraints" in line and line.startswith("diabetes: ") for line in text.splitlines())


HEADER = ("method", "train RMSE [score]", "what it is", "objective")
ROWS = [("IPOPT single shooting", "53.95", "a longer sentence about this", "126.4664"),
        ("linear regression", "5.4", "short", "-")]  # fmt: skip


@pytest.mark.parametrize("width", [30, 40, 50, 60, 80, 120, None])
@pytest.mark.parametrize("keys", [1, 2])
def test_a_folded_table_has_the_same_words_in_the_same_order(width, keys):
    text = format_table(HEADER, ROWS, width, keys=keys)
    assert not too_long(text, width or 1000)
    expected = {word for row in (HEADER, *ROWS) for cell in row for word in cell.split()}
    assert {word for word in text.split() if not re.fullmatch("-{2,}", word)} == expected
    found = text.split()
    sentence = iter(found)
    assert all(word in sentence for word in ROWS[0][2].split())


def test_headings_are_folded_before_cells():
    lines = format_table(HEADER, ROWS, 80).splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["method", "RMSE", "[score]", "-" * 21]
    assert lines[4].startswith("IPOPT single shooting    53.95  a longer sentence about this")


def test_what_does_not_fit_goes_below_with_its_key():
    text = format_table(("name", "one", "two"), [("a-long-name", "1234567890", "0987654321")], 30)
    assert text.splitlines() == [
        "name                one", "-----------  ----------", "a-long-name  1234567890", "",
        "name                two", "-----------  ----------", "a-long-name  0987654321",
    ]  # fmt: skip


def test_columns_of_shares_are_numbers():
    assert format_table(("x",), [("8%",), ("100%",)]).splitlines()[2] == "  8%"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("terminal", [False, True])
def test_the_history_leaves_out_what_does_not_fit(width, terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    else:
        monkeypatch.delenv("FORCE_COLOR", raising=False)
    row = Record(iteration=999, phase="second order", objective=1.23456e-30, rollout_objective=None, max_defect=1e-300,
                 stationarity=5e-200, penalty=1e10, steps=99999, seconds=99999.0)  # fmt: skip
    stream = io.StringIO()
    with LiveHistory(stream, terminal=terminal) as live:
        live(row)
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", line).rstrip() for line in stream.getvalue().splitlines()]
    shown = [line.split() for line in lines if line]
    assert max(map(len, lines)) <= width
    assert {"outer", "objective", "stationarity", "phase"} <= set(shown[0])
    assert ("seconds" in shown[0]) == (width >= 80)
    assert {"999", "1.23456e-30", "5.00e-200", "Newton"} <= set(shown[-1])
