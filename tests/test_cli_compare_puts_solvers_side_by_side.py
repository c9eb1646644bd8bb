"""``ocp-nn compare`` runs every method from the same start and from each other's answers, and keeps partial results."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from ocp_nn.cli import main


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> tuple[int, Path]:
    out = tmp_path_factory.mktemp("compare")
    arguments = ["compare", "sin2x", "--hidden", "4", "--weight-decay", "0.1", "--methods", "ipopt-single,al"]
    return main([*arguments, "--time-limit", "20", "--out", str(out)]), out


def test_ours_comes_first_and_passes(ran):
    code, out = ran
    with (out / "compare.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert code == 0
    assert [(row["method"], row["start"]) for row in rows[:2]] == [("al", "cold"), ("ipopt-single", "cold")]
    assert {row["start"] for row in rows[2:]} <= {"al", "ipopt-single"}
    assert len(rows) == 4


def test_cross_starts_stay_where_they_are(ran):
    with (ran[1] / "compare.csv").open(newline="") as file:
        crossed = [row for row in csv.DictReader(file) if row["start"] != "cold"]
    for row in crossed:
        assert row["passed"] == "True"
        assert float(row["objective_change"]) < 1e-6
        assert float(row["control_change"]) < 1e-4


def test_the_figure_is_there(ran):
    assert (ran[1] / "convergence.png").stat().st_size > 1000


def test_an_unknown_method_is_one_line(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["compare", "sin2x", "--methods", "al,nobody"])
    assert stopped.value.code == 1
    assert "unknown method 'nobody'" in capsys.readouterr().err


def test_cold_starts_alone(capsys):
    assert main(["compare", "sin2x", "--hidden", "3", "--weight-decay", "1", "--methods", "al", "--no-cross"]) == 0
    printed = capsys.readouterr().out
    assert "objective" in printed
    assert sum(line.startswith("al") for line in printed.splitlines()) == 1


def test_quiet_prints_nothing(capsys):
    arguments = ["--weight-decay", "1", "--methods", "al", "--no-cross", "--quiet"]
    assert main(["compare", "sin2x", "--hidden", "3", *arguments]) == 0
    assert capsys.readouterr().out == ""
