"""Claim: a sweep that is killed goes on, and ends with the tables of one that was not; its columns are explained."""

from __future__ import annotations

import csv
import subprocess
import sys

import numpy as np
import pytest

from ocp_nn.analysis.conditioning import DICTIONARY, Grid, Settings, read_table, run_sweep, sweep
from ocp_nn.analysis.conditioning.tables import COLUMNS
from ocp_nn.learning.data import load_dataset

GRID = Grid(depths=(1, 2), widths=(2,), activations=("tanh", "relu"), initialisations=("standard",), seeds=(0,))
SETTINGS = Settings(penalties=(1.0, 1e3), samples=12, steps=15)
# Columns that say which number a row holds; the others are numbers.
KEYS = {"run", "phase", "method", "matrix", "shooting", "rows", "columns", "stage", "first", "last", "route"}

# Long trainings of ReLU networks amplify rounding, which differs between processes: their numbers are not compared.
TRAINED = {"training", "history"}


def data():
    return load_dataset("sin2x")


def tables(folder):
    """All rows, in a fixed order."""
    return {name: sorted(tuple(row.items()) for row in read_table(folder, name)) for name in COLUMNS}


def assert_same(folder, other):
    """The same runs with the same rows, and the same numbers wherever no training came before."""
    for name in set(COLUMNS) - {"history"}:
        rows, expected = (sorted(map(key, read_table(place, name))) for place in (folder, other))
        assert rows == expected, name
        assert rows, name
    for name in set(COLUMNS) - TRAINED - {"runs"}:
        ours, theirs = (sorted(started(place, name), key=key) for place in (folder, other))
        for row, expected in zip(ours, theirs, strict=True):
            assert_alike(row, expected)


def key(row):
    return tuple(value for column, value in row.items() if column in KEYS)


def started(folder, name):
    return [row for row in read_table(folder, name) if row["phase"] == "start" and row.get("matrix") != "jacobian"]


def assert_alike(row, expected):
    if row.get("accuracy") and float(row["accuracy"]) > 1e-4:
        return  # singular, or nearly: rounding is all there is
    for column in ("largest", "condition", "gradient_norm", "state_variance"):
        if column in row:
            np.testing.assert_allclose(float(row[column]), float(expected[column]), rtol=1e-3, atol=1e-9)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    result = run_sweep(data(), folder, grid=GRID, settings=SETTINGS, workers=0)
    assert (result.done, result.skipped, result.failed) == (4, 0, 0)
    return folder


KILLED = """
import os
from ocp_nn.analysis.conditioning import Grid, Settings, run_sweep
from ocp_nn.learning.data import load_dataset
grid = Grid(depths=(1, 2), widths=(2,), activations=("tanh", "relu"), initialisations=("standard",), seeds=(0,))
settings = Settings(penalties=(1.0, 1e3), samples=12, steps=15)
run_sweep(load_dataset("sin2x"), {folder!r}, grid=grid, settings=settings, workers=0,
          progress=lambda done, total: os._exit(9) if done == 2 else None)
"""


def test_killed_half_way(whole, tmp_path):
    killed = subprocess.run([sys.executable, "-c", KILLED.format(folder=str(tmp_path))], check=False)
    assert killed.returncode == 9
    before = tables(tmp_path)
    assert len(before["runs"]) == 2
    told = []
    result = run_sweep(
        data(), tmp_path, grid=GRID, settings=SETTINGS, workers=0, progress=lambda *numbers: told.append(numbers)
    )
    assert (result.done, result.skipped) == (2, 2)
    assert told == [(2, 4), (3, 4), (4, 4)]
    assert all(set(before[name]) <= set(rows) for name, rows in tables(tmp_path).items())
    assert_same(tmp_path, whole)


def test_killed_while_writing(whole, tmp_path):
    """Rows of a run without its line in runs.csv, and torn lines, are not part of the tables."""
    first = Grid(depths=(1,), widths=(2,), activations=("tanh",), initialisations=("standard",), seeds=(0,))
    run_sweep(data(), tmp_path, grid=first, settings=SETTINGS, workers=0)
    for name in ("matrices", "spectra", "runs"):
        lines = (whole / f"{name}.csv").read_text().splitlines(keepends=True)
        others = [line for line in lines[1:] if not line.startswith("d1-w2-tanh")]
        torn = "".join(others[:3])[:-9] if name != "runs" else others[0][:-3]
        with open(tmp_path / f"{name}.csv", "a") as file:
            file.write(torn)
    result = run_sweep(data(), tmp_path, grid=GRID, settings=SETTINGS, workers=0)
    assert (result.done, result.skipped) == (3, 1)
    assert_same(tmp_path, whole)


def test_processes_give_the_same_rows(whole, tmp_path):
    small = Grid(depths=(1,), widths=(2,), activations=("tanh", "relu"), initialisations=("standard",), seeds=(0,))
    run_sweep(data(), tmp_path, grid=small, settings=SETTINGS, workers=2)
    run_sweep(data(), tmp_path, grid=GRID, settings=SETTINGS, workers=0)
    assert_same(tmp_path, whole)


def test_another_sweep_does_not_get_in(whole):
    before = tables(whole)
    other = Settings(penalties=(1.0, 1e3), samples=12, steps=15, weight_decay=0.5)
    with pytest.raises(ValueError, match=r"other settings \(weight_decay: 0.001 there, 0.5 now\)"):
        run_sweep(data(), whole, grid=GRID, settings=other, workers=0)
    with pytest.raises(ValueError, match="data_checksum"):
        run_sweep(load_dataset("linear"), whole, grid=GRID, settings=SETTINGS, workers=0)
    assert tables(whole) == before


def test_a_run_that_fails_is_recorded_and_tried_again(whole, tmp_path, monkeypatch):
    measured = sweep._measure_run

    def sometimes(run, *rest):
        if run.activation == "relu":
            raise np.linalg.LinAlgError("no luck")
        return measured(run, *rest)

    monkeypatch.setattr(sweep, "_measure_run", sometimes)
    result = run_sweep(data(), tmp_path, grid=GRID, settings=SETTINGS, workers=0)
    assert (result.done, result.failed) == (2, 2)
    messages = {row["message"] for row in read_table(tmp_path, "runs") if row["status"] == "failed"}
    assert messages == {"LinAlgError: no luck"}
    monkeypatch.undo()
    result = run_sweep(data(), tmp_path, grid=GRID, settings=SETTINGS, workers=0)
    assert (result.done, result.skipped, result.failed) == (2, 2, 0)
    assert_same(tmp_path, whole)


def test_every_column_is_explained(whole):
    with open(whole / "data_dictionary.csv", newline="") as file:
        explained = [(row["table"], row["column"]) for row in csv.DictReader(file) if row["meaning"]]
    held = []
    for path in sorted(whole.glob("*.csv")):
        if path.name != "data_dictionary.csv":
            with open(path, newline="") as file:
                held += [(path.name, column) for column in next(csv.reader(file))]
    assert sorted(explained) == sorted(held)
    assert all(meaning and unit in ("", "1", "s") for c in DICTIONARY.values() for unit, meaning in c.values())


def test_tables_hold_what_they_promise(whole):
    rows = read_table(whole, "matrices")
    start = {(r["matrix"], r["shooting"], r["penalty"]) for r in rows if r["run"].startswith("d2-w2-tanh")
             and r["phase"] == "start"}  # fmt: skip
    assert {shooting for _, shooting, _ in start} == {"single", "partial 1", "multiple"}
    assert {("al_gauss_newton", "multiple", "1.0"), ("al_gauss_newton", "multiple", "1000.0")} <= start
    assert {(r["phase"], r["method"]) for r in rows} == {
        ("start", ""), ("during", "lm"), ("end", "lm"), ("during", "al"), ("end", "al")
    }  # fmt: skip
    assert {r["method"] for r in read_table(whole, "training")} == {"lm", "al", "ipopt"}
    for row in rows:
        ratio = float(row["largest"]) / float(row["smallest"]) if float(row["smallest"]) else np.inf
        assert float(row["condition"]) == ratio or float(row["condition"]) > 1e300


def test_only_whole_networks_are_swept():
    with pytest.raises(ValueError, match=r"depths must be .* an integer from 1 to"):
        Grid(depths=(0,))
    with pytest.raises(ValueError, match=r"activations must be .*sine"):
        Grid(activations=("sine",))
    with pytest.raises(ValueError, match="seeds must be a sequence of one or more"):
        Grid(seeds=())


def test_settings_name_their_node_sets():
    assert Settings(node_strides=(2, 3)).nodes(7) == [(), (3, 6), (2, 4, 6), (1, 2, 3, 4, 5, 6)]
    assert Settings(node_strides=(2,)).nodes(2) == [(), (1,)]
