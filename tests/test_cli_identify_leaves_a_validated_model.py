"""``ocp-nn identify``: from a CSV file of inputs and outputs to a validated model, its figures and its files."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

pytest.importorskip("sklearn")

import ocp_nn
from ocp_nn.cli import main

FILES = {"summary.json", "history.csv", "model.npz", "simulation.png", "correlations.png", "states.png"}
QUICK = ["--weight-decay", "0.01", "--starts", "1", "--hidden", "4"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """300 rows of a mildly nonlinear system, and 200 to test on."""
    folder = tmp_path_factory.mktemp("records")
    for name, rows, seed in (("run.csv", 300, 0), ("check.csv", 200, 1)):
        rng = np.random.default_rng(seed)
        v, x = rng.standard_normal(rows), np.zeros(2)
        with open(folder / name, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["voltage [V]", "level [m]", "note"])
            for t in range(rows):
                writer.writerow([v[t], x[0] + 0.02 * rng.standard_normal(), t])
                x = np.array([np.tanh(0.7 * x[0] + 0.3 * x[1]) + 0.5 * v[t], 0.6 * x[1] - 0.4 * x[0] + v[t]])
    return folder


def test_it_prints_what_it_found_and_leaves_its_files(table, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = [
        str(table / "run.csv"),
        "--inputs",
        "voltage",
        "--outputs",
        "level",
        "--test",
        str(table / "check.csv"),
    ]
    assert main(["identify", *arguments, *QUICK, "--warm-up", "20", "--reference", "ipopt", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    for words in ("linear model", "ours", "IPOPT", "test", "residuals of level [m] on test", "predicted 10 ahead"):
        assert words in printed
    assert {path.name for path in out.iterdir()} == FILES | {"run.json", "memory"}
    summary = json.loads((out / "summary.json").read_text())
    fits = {name: parts["test"]["fit_percent"][0] for name, parts in summary["figures"].items()}
    assert fits["ours"] > 85 and fits["ours"] > fits["linear model"]
    assert summary["warm_up"] == 20 and summary["inputs"] == ["voltage [V]"] and len(summary["poles"]) == 2
    assert summary["reference"]["objective"] == pytest.approx(summary["objective"], rel=0.5)


def test_its_model_file_is_loaded_and_simulates(table, tmp_path):
    out = tmp_path / "out"
    arguments = [str(table / "run.csv"), "--inputs", "voltage", "--outputs", "level", "--test", "0.25"]
    assert main(["identify", *arguments, *QUICK, "--quiet", "--out", str(out)]) == 0
    result = ocp_nn.load(out / "model.npz")
    model, theta = result.problem.model, result.trajectory.controls[0]
    with np.load(out / "model.npz") as file:
        inputs, outputs = (ocp_nn.Scaler(file[f"{side}_mean"], file[f"{side}_scale"]) for side in ("input", "output"))
    v, y = ocp_nn.load_records(table / "run.csv", inputs="voltage", outputs="level", test=0.25).train.pairs[0]
    simulated, _ = model.simulate(model.in_units(theta, inputs, outputs), v, result.trajectory.states[0][0])
    summary = json.loads((out / "summary.json").read_text())
    rmse = np.sqrt(np.mean((simulated - y)[summary["warm_up"] :] ** 2))
    assert rmse == pytest.approx(summary["figures"]["ours"]["train"]["rmse"][0], rel=1e-9)


def test_a_synthetic_system_needs_no_file_and_no_reference(capsys):
    assert main(["identify", "wiener", *QUICK, "--states", "2"]) == 0
    printed = capsys.readouterr().out
    assert "IPOPT" not in printed and "written to" not in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.csv", "--outputs", "y"], "nowhere.csv"),
        (["wiener", "--states", "0"], "--states"),
        (["wiener", "--weight-decay", "-1"], "--weight-decay"),
        (["wiener", "--warm-up", "none"], "--warm-up"),
        (["wiener", "--test", "nowhere.csv"], "test"),
    ],
)
def test_mistakes_are_one_line(arguments, words, capsys):
    try:
        code = main(["identify", *arguments])
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 1 and error.count("\n") == 1 and words in error


def test_a_column_that_is_not_there_is_named(table, capsys):
    assert main(["identify", str(table / "run.csv"), "--inputs", "voltage", "--outputs", "pressure"]) == 1
    assert "pressure" in capsys.readouterr().err


def test_figures_are_of_all_records(table, tmp_path, capsys):
    """A test of two records: each has its figures, and residuals and steps ahead are those of both."""
    out = tmp_path / "out"
    for name in ("first", "second"):
        (tmp_path / "both").mkdir(exist_ok=True)
        (tmp_path / "both" / f"{name}.csv").write_text((table / "run.csv").read_text())
    arguments = [str(tmp_path / "both"), "--inputs", "voltage", "--outputs", "level", "--test", "0.4"]
    assert main(["identify", *arguments, *QUICK, "--warm-up", "10", "--out", str(out)]) == 0
    assert "record 2 of test: RMSE" in capsys.readouterr().out
    of = json.loads((out / "summary.json").read_text())["figures"]["ours"]["test"]
    each = [record["rmse"][0] for record in of["records"]]
    assert len(each) == 2 and of["rmse"][0] == pytest.approx(np.sqrt(np.mean(np.square(each))))
