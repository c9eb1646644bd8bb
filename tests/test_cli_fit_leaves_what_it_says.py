"""``ocp-nn fit`` trains, confirms with IPOPT, prints what it did, and leaves files that agree with each other."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

from ocp_nn import Network, TrainingProblem
from ocp_nn.cli import main
from ocp_nn.learning.data import load_dataset
from ocp_nn.problem.record import Record

KEYS = {
    "dataset", "num_train", "num_test", "sizes", "activation", "weight_decay", "seed", "status", "message", "objective",
    "rollout_objective", "max_defect", "stationarity", "train_rmse", "test_rmse", "outer_iterations",
    "gauss_newton_steps", "seconds", "reference",
}  # fmt: skip
REFERENCE_KEYS = {
    "solver", "transcription", "status", "objective", "test_rmse", "iterations", "seconds", "confirmed",
    "confirm_relative_change",
}  # fmt: skip
FILES = {
    "summary.json", "history.csv", "model.npz", "convergence.png", "predictions.png", "layers.png", "run.json",
    "checkpoint.npz",
}  # fmt: skip


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A CSV file: two inputs, a category code, a smooth target in the middle."""
    path = tmp_path_factory.mktemp("data") / "furnace.csv"
    rng = np.random.default_rng(0)
    a, b, code = rng.uniform(-2, 2, 60), rng.uniform(10, 20, 60), rng.integers(0, 3, 60)
    y = 500 + 100 * np.tanh(a) * (b - 15) / 5 + 30 * code + rng.standard_normal(60)
    rows = "\n".join(f"{p},{t},{q},{c}" for p, t, q, c in zip(a, y, b, code, strict=True))
    path.write_text(f"feed,yield,heat,code\n{rows}\n")
    return path


@pytest.fixture(scope="module")
def run(table, tmp_path_factory):
    """One complete run: exit code, printed lines and folder."""
    out = tmp_path_factory.mktemp("fit") / "deep" / "er"
    command = [sys.executable, "-m", "ocp_nn", "fit", str(table), "--target", "yield", "--hidden", "6,5", "--out",
               str(out), "--weight-decay", "0.3", "--seed", "3"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr, out


@pytest.fixture(scope="module")
def summary(run):
    return json.loads((run[3] / "summary.json").read_text())


def test_it_converges_and_leaves_the_files(run):
    code, _, errors, out = run
    assert (code, errors) == (0, "")
    assert {p.name for p in out.iterdir()} == FILES
    for name in ("convergence.png", "predictions.png", "layers.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")


def test_summary_has_every_key(summary):
    assert summary.keys() >= KEYS
    assert summary["reference"].keys() >= REFERENCE_KEYS
    assert (summary["dataset"], summary["sizes"], summary["activation"]) == ("furnace", [3, 6, 5, 1], "tanh")
    assert (summary["num_train"], summary["num_test"], summary["seed"], summary["weight_decay"]) == (54, 6, 3, 0.3)


def test_the_solution_is_feasible_stationary_and_confirmed(summary):
    assert summary["status"] == "converged"
    assert summary["max_defect"] <= 1e-6
    assert summary["rollout_objective"] == pytest.approx(summary["objective"], rel=1e-4)
    assert summary["reference"]["confirmed"] is True
    assert abs(summary["reference"]["confirm_relative_change"]) < 1e-6
    assert summary["reference"]["solver"] == "ipopt"


def test_the_saved_model_gives_the_reported_numbers(table, run, summary):
    data = load_dataset(table, target="yield")
    with np.load(run[3] / "model.npz") as model:
        meta = json.loads(str(model["meta"]))
        network = Network.mlp(meta["sizes"], activation=meta["activation"])
        controls = [model[f"control_{k}"] for k in range(network.num_stages)]
        x = (data.x - model["x_mean"]) / model["x_scale"]
        y = (data.y - model["y_mean"]) / model["y_scale"]
        train, test = model["train_rows"], model["test_rows"]
        error = data.y - (network.predict(controls, x) * model["y_scale"] + model["y_mean"])
        np.testing.assert_allclose(x[train].std(axis=0), 1)
    assert sorted([*train, *test]) == list(range(60))
    problem = TrainingProblem(network, x[train], y[train], summary["weight_decay"])
    assert problem.objective(problem.rollout(controls)) == pytest.approx(summary["rollout_objective"], rel=1e-12)
    for rows, key in ((train, "train_rmse"), (test, "test_rmse")):
        assert np.sqrt(np.mean(error[rows] ** 2)) == pytest.approx(summary[key], rel=1e-12)


def test_history_ends_at_the_solution(run, summary):
    with open(run[3] / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == Record.columns()
    steps = [int(row["steps"]) for row in rows]
    assert steps == sorted(steps)
    assert steps[-1] == summary["counts"]["least_squares"] + summary["counts"]["newton"]
    assert int(rows[-1]["iteration"]) == summary["outer_iterations"]
    assert float(rows[-1]["stationarity"]) <= summary["tolerance"] * max(1.0, summary["objective"])


def test_it_says_what_each_phase_took_and_why(run, summary):
    counts = summary["phases"]
    assert next(iter(counts)) == "augmented Lagrangian" and len(counts) > 1
    assert sum(phase["outer_iterations"] for phase in counts.values()) == summary["outer_iterations"]
    taken = summary["counts"]["least_squares"] + summary["counts"]["newton"]
    assert sum(phase["steps"] for phase in counts.values()) == taken
    lines = run[1].splitlines()
    first = counts["augmented Lagrangian"]
    said = next(
        i for i, line in enumerate(lines) if line.startswith(f"{summary['outer_iterations']} outer iterations: ")
    )
    assert f"augmented Lagrangian {first['outer_iterations']} ({first['steps']} steps), " in lines[said]
    assert lines[said + 1] == summary["phases_note"]


def test_it_says_what_it_does(run):
    lines = run[1].splitlines()
    assert lines[0].startswith("ocp_nn ")
    assert (
        "furnace: 54 training samples, 3 stages (3-6-5-1), 65 controls, 594 states, 594 defect constraints" in lines[1]
    )
    text = run[1]
    assert all(word in text for word in ("objective", "max defect", "stationarity", "penalty", "steps", "seconds"))
    methods = [line.split("  ")[0] for line in lines]
    assert [m for m in methods if m in METHODS] == METHODS
    assert "confirmed by IPOPT" in text


METHODS = ["AL + Gauss-Newton", "IPOPT single shooting", "linear regression"]


def test_quiet_prints_nothing_and_still_writes(table, tmp_path, capsys):
    code = main(["fit", str(table), "--target", "yield", "--hidden", "4", "--weight-decay", "1", "--quiet",
                 "--reference", "none", "--out", str(tmp_path)])  # fmt: skip
    assert code == 0
    assert capsys.readouterr() == ("", "")
    assert {p.name for p in tmp_path.iterdir()} == FILES
    assert json.loads((tmp_path / "summary.json").read_text())["reference"] is None


def test_a_limit_is_exit_code_2_and_the_files_are_there(table, tmp_path, capsys):
    code = main(["fit", str(table), "--target", "yield", "--hidden", "20,20", "--weight-decay", "0.001",
                 "--time-limit", "0.02", "--reference", "none", "--out", str(tmp_path)])  # fmt: skip
    assert code == 2
    assert "time limit" in capsys.readouterr().out
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "time limit"
    assert {p.name for p in tmp_path.iterdir()} == FILES


@pytest.mark.parametrize("shooting", ["single", "multiple"])
def test_shooting_and_activation_reach_the_solver(table, tmp_path, shooting):
    code = main(["fit", str(table), "--target", "yield", "--hidden", "4", "--weight-decay", "1", "--quiet",
                 "--activation", "sigmoid", "--shooting", shooting, "--reference", "none",
                 "--out", str(tmp_path)])  # fmt: skip
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (code, summary["activation"], summary["shooting"]) == (0, "sigmoid", shooting)
    assert (summary["phases_note"] is None) == (shooting == "single")
    with open(tmp_path / "history.csv", newline="") as file:
        penalties = [float(row["penalty"]) for row in csv.DictReader(file)]
    assert all(np.isinf(penalties)) == (shooting == "single")


def test_two_targets(table, tmp_path):
    code = main(["fit", str(table), "--target", "yield", "--target", "code", "--hidden", "4", "--weight-decay", "3",
                 "--quiet", "--reference", "none", "--out", str(tmp_path)])  # fmt: skip
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (code, summary["sizes"], summary["targets"]) == (0, [2, 4, 2], ["yield", "code"])


def test_diabetes_with_the_weight_decay_chosen(tmp_path, capsys):
    pytest.importorskip("sklearn")
    assert main(["fit", "diabetes", "--hidden", "5", "--out", str(tmp_path)]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    chosen = summary["weight_decay_selection"]
    assert summary["weight_decay"] == chosen["weight_decay"] >= 1
    assert chosen["num_train"] == summary["num_train"] == 398
    assert summary["reference"]["confirmed"] is True
    assert summary["test_rmse"] < 65 < 77 < np.std(load_dataset("diabetes").y)
    assert "weight decay" in capsys.readouterr().out


def test_datasets_lists_every_builtin_set(capsys):
    assert main(["datasets"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("diabetes", "sin2x", "friedman", "linear", "arm", "--target"))
