"""``ocp-nn predict`` and ``ocp-nn export`` work on the folder that ``ocp-nn fit`` left; mistakes are one line."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace

import casadi as ca
import numpy as np
import pytest

import ocp_nn
from ocp_nn.cli import main
from ocp_nn.learning.data import load_dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("arm")
    arguments = ["--hidden", "6", "--weight-decay", "0.01", "--reference", "none", "--quiet", "--out", str(path)]
    assert main(["fit", "arm", *arguments]) == 0
    return path


@pytest.fixture
def table(tmp_path):
    """The arm's data with its columns in another order, one more that is no number, and semicolons."""
    data = load_dataset("arm")
    rows = [f"left;{b!r};{t[1]!r};{a!r};{t[0]!r}" for (a, b), t in zip(data.x.tolist(), data.y.tolist(), strict=True)]
    path = tmp_path / "arm.csv"
    path.write_text("\n".join(["side;x2;y2;x1;y1", *rows]) + "\n")
    return path


def predictions(folder):
    return ocp_nn.load(folder / "model.npz").predict(load_dataset("arm").x)


def test_predictions_are_those_of_the_model(folder, table, tmp_path, capsys):
    out = tmp_path / "predictions.csv"
    assert main(["predict", str(folder), str(table), "--out", str(out)]) == 0
    with open(out, newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["y1", "y2"]
    np.testing.assert_array_equal(np.array(rows, dtype=float), predictions(folder))
    line = capsys.readouterr().out
    data = load_dataset("arm")
    summary = json.loads((folder / "summary.json").read_text())
    error = np.sqrt(np.mean((predictions(folder) - data.y) ** 2))
    assert f"300 predictions written to {out}; RMSE {error:.6g}" in line
    assert summary["train_rmse"] == pytest.approx(error, rel=0.2)


def test_predictions_are_printed_without_out(folder, table, capsys):
    assert main(["predict", str(folder / "model.npz"), str(table)]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header == "y1,y2"
    np.testing.assert_array_equal(np.array([row.split(",") for row in rows], dtype=float), predictions(folder))


def test_one_row_without_targets_is_enough(folder, tmp_path, capsys):
    (tmp_path / "one.csv").write_text("x1,x2\n0.5,1\n")
    assert main(["predict", str(folder), str(tmp_path / "one.csv")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_quiet_is_quiet(folder, table, tmp_path, capsys):
    assert main(["predict", str(folder), str(table), "--out", str(tmp_path / "p.csv"), "--quiet"]) == 0
    assert main(["export", str(folder), "--to", "c", "--out", str(tmp_path / "m.c"), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("to", "file"), [("casadi", "model.casadi"), ("c", "model.c"), ("numpy", "model_numpy.py")])
def test_exports_land_beside_the_model(folder, to, file, capsys):
    assert main(["export", str(folder), "--to", to]) == 0
    assert (folder / file).is_file()
    assert f"written to {folder / file}: x1, x2 -> y1, y2" in capsys.readouterr().out


def test_the_casadi_export_predicts(folder, tmp_path):
    out = tmp_path / "arm.casadi"
    assert main(["export", str(folder), "--to", "casadi", "--out", str(out), "--name", "arm", "--quiet"]) == 0
    f = ca.Function.load(str(out))
    assert f.name() == "arm"
    np.testing.assert_allclose(np.array(f(load_dataset("arm").x.T)).T, predictions(folder), rtol=1e-12, atol=1e-12)


def test_the_numpy_export_predicts(folder):
    assert main(["export", str(folder), "--to", "numpy", "--quiet"]) == 0
    code = "from model_numpy import predict; print(predict([[0.5, 1.0]]).tolist())"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    expected = ocp_nn.load(folder / "model.npz").predict([[0.5, 1.0]])
    np.testing.assert_allclose(json.loads(done.stdout), expected, rtol=1e-14)


@pytest.mark.parametrize(("options", "dtype"), [([], "float64"), (["--float32"], "float32")])
def test_the_onnx_export_predicts(folder, tmp_path, options, dtype):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    out = tmp_path / "arm.onnx"
    assert main(["export", str(folder), "--to", "onnx", "--out", str(out), "--quiet", *options]) == 0
    (y,) = runtime.InferenceSession(str(out)).run(None, {"x": load_dataset("arm").x.astype(dtype)})
    np.testing.assert_allclose(y, predictions(folder), atol=1e-12 if dtype == "float64" else 1e-5)


@pytest.fixture(scope="module")
def pump(tmp_path_factory):
    """A folder that was fitted to a table with units, decimal commas and a column of words, and the table."""
    path = tmp_path_factory.mktemp("pump")
    rows = [f"{i},5;p{i};{(7 * i) % 11};{(i * i) % 13},25" for i in range(1, 40)]
    (path / "pump.csv").write_text("\n".join(["speed [1/min];name;temp (K);head [m]", *rows]) + "\n")
    arguments = ["--target", "head", "--drop", "name", "--hidden", "2", "--weight-decay", "1", "--reference", "none"]
    code = main(["fit", str(path / "pump.csv"), *arguments, "--out", str(path / "run")])
    assert code == 0
    return path


def test_units_of_a_table_stay_with_the_model(pump, capsys):
    model = ocp_nn.load(pump / "run" / "model.npz").model
    assert (model.features, model.targets) == (("speed [1/min]", "temp [K]"), ("head [m]",))
    summary = json.loads((pump / "run" / "summary.json").read_text())
    assert (summary["features"], summary["units"]) == (["speed [1/min]", "temp [K]"], "m")
    assert json.loads((pump / "run" / "run.json").read_text())["arguments"]["drop"] == ["name"]
    assert main(["fit", "--resume", str(pump / "run")]) == 0
    assert "test RMSE [m]" in capsys.readouterr().out


def test_predict_reads_a_table_by_the_same_rules(pump, tmp_path, capsys):
    assert main(["predict", str(pump / "run"), str(pump / "pump.csv"), "--out", str(tmp_path / "p.csv")]) == 0
    assert "39 predictions" in (line := capsys.readouterr().out) and "RMSE" in line
    header, *rows = (tmp_path / "p.csv").read_text().splitlines()
    assert header == "head [m]"
    x = [[i + 0.5, (7 * i) % 11] for i in range(1, 40)]
    expected = ocp_nn.load(pump / "run" / "model.npz").predict(x)
    np.testing.assert_array_equal(np.array(rows, dtype=float), expected[:, 0])
    (tmp_path / "hot.csv").write_text("temp [C],speed\n1,2\n")
    assert main(["predict", str(pump / "run"), str(tmp_path / "hot.csv")]) == 1
    assert "hot.csv: column temp [C] is expected in K; convert it" in capsys.readouterr().err


MISTAKES = {
    "no folder": (["predict", "{tmp}/none", "{table}"], "none: no such file"),
    "no model in it": (["export", "{tmp}", "--to", "c"], "model.npz: no such file"),
    "not a model": (["export", "{table}", "--to", "c"], "damaged, or not a result"),
    "a device": (["export", "/dev/null", "--to", "c"], "/dev/null: not a regular file, so not a model"),
    "weights that are not finite": (
        ["predict", "{tmp}/broken.npz", "{table}"],
        "broken.npz: its weights are not finite",
    ),
    "no table": (["predict", "{folder}", "{tmp}/gone.csv"], "gone.csv: cannot be read"),
    "column missing": (["predict", "{folder}", "{tmp}/short.csv"], "no column 'x2'; needed are x1, x2, found x1, y"),
    "no rows": (["predict", "{folder}", "{tmp}/header.csv"], "no rows"),
    "text": (["predict", "{folder}", "{tmp}/text.csv"], "text.csv, line 3: 'two' in column 'x2' is not a number"),
    "bad name": (["export", "{folder}", "--to", "c", "--name", "my model"], "C identifier"),
    "unknown export": (["export", "{folder}", "--to", "tflite"], "invalid choice: 'tflite'"),
    "no export": (["export", "{folder}"], "--to"),
    "no folder to write to": (
        ["export", "{folder}", "--to", "c", "--out", "{tmp}/a/b.c"],
        "a/b.c: cannot be written: No such file or directory",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line(folder, table, tmp_path, capsys, arguments, message):
    result = ocp_nn.load(folder / "model.npz")
    controls = tuple(np.full_like(control, np.nan) for control in result.model.controls)
    model = ocp_nn.Model(result.model.network, controls, features=result.model.features, targets=result.model.targets)
    replace(result, model=model, status=ocp_nn.Status.FAILED).save(tmp_path / "broken.npz")
    (tmp_path / "short.csv").write_text("x1,y\n1,2\n")
    (tmp_path / "header.csv").write_text("x1,x2\n")
    (tmp_path / "text.csv").write_text("x1,x2\n1,2\n1,two\n")
    arguments = [word.format(tmp=tmp_path, table=table, folder=folder) for word in arguments]
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    output, errors = capsys.readouterr()
    assert (code, output, errors.count("\n")) == (1, "", 1)
    assert message in errors


def test_doctor_tells_what_works(capsys, monkeypatch):
    from ocp_nn.cli import doctor

    monkeypatch.setattr(doctor, "_SOLVERS", (("ipopt", "mumps", "reference"), ("nonsense", "", "nothing")))
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:5] == ["CasADi", "ipopt", "with", "mumps", "solves"] for line in lines)
    assert any(line.split()[:3] == ["CasADi", "nonsense", "fails"] for line in lines)
    assert any(line.startswith("BLAS") for line in lines)
    assert any(line.startswith("C compiler") for line in lines)
    assert lines[-1] == "everything that is required works"


def test_doctor_notices_what_is_broken(capsys, monkeypatch):
    from ocp_nn.cli import doctor

    monkeypatch.setattr(doctor, "_SOLVERS", (("ipopt", "mumps", "reference"), ("fatrop", "", "comparisons")))
    monkeypatch.setattr(doctor, "_TRIAL", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    monkeypatch.setattr(doctor, "_REQUIRED", ("casadi", "a-package-that-is-not-there"))
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CC", "")
    assert main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "a-package-that-is-not-there: pip install a-package-that-is-not-there" in text
    assert "does not work: a-package-that-is-not-there, CasADi ipopt with mumps" in text
    assert "crashes" in text
    assert "install gcc or clang" in text


@pytest.mark.parametrize("command", ["predict", "export", "doctor"])
def test_help_has_examples_or_says_what_the_exit_code_means(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = capsys.readouterr().out
    assert f"ocp-nn {command}" in text
    assert "examples:" in text or "Exit code:" in text
    assert max(map(len, text.splitlines())) <= 80
