"""Files come into being in one move: an exception in the middle leaves the older file, and no litter."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from ocp_nn.report import atomic_write, write_history, write_json
from ocp_nn.result import Record

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
