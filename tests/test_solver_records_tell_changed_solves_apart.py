"""The record of solves that a change is held against is the same twice over, and shows what differs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import record_solves

    yield record_solves
    sys.modules.pop("record_solves", None)


def test_two_records_of_one_code_are_the_same(script, tmp_path, capsys):
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    for file in (first, second):
        assert script.record(file, "two outputs") == 0
    assert script.compare(first, second) == 0
    assert "1 and 1 solves, 0 differ" in capsys.readouterr().out


def test_a_last_bit_a_row_and_a_missing_solve_are_differences(script, tmp_path, capsys):
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    script.record(first, "two outputs")
    rows = json.loads(first.read_text())
    changed = json.loads(first.read_text())
    changed["two outputs"]["controls"] = "0" * 64
    changed["two outputs"]["history"][1][3] = (1.0).hex()
    second.write_text(json.dumps(changed | {"another": rows["two outputs"]}))
    assert script.compare(first, second) == 2
    out = capsys.readouterr().out
    assert "histories part at row 1" in out and "another: only in" in out


def test_there_are_at_least_forty_solves(script):
    names = [name for name, _ in script.solves()]
    assert len(set(names)) == len(names) >= (40 if script.UCI.is_dir() else 36)
