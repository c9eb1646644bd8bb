"""``ocp-nn fit --loss``: every loss trains, is confirmed and judged by what fits; its files predict, export, resume."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from scipy import optimize, special

import ocp_nn
from ocp_nn.cli import main
from ocp_nn.learning.data import Dataset, load_dataset
from ocp_nn.learning.experiment import Experiment, constant_baseline, linear_baseline
from ocp_nn.learning.metrics import judge
from ocp_nn.problem.losses import loss_named
from ocp_nn.report.classifier_figures import classifier_figure, confusion, reliability

FILES = {
    "summary.json", "history.csv", "model.npz", "convergence.png", "predictions.png", "layers.png", "run.json",
    "checkpoint.npz",
}  # fmt: skip

# target -> loss, arguments, measures
RUNS = {
    "count": ("poisson", ["--loss", "poisson"], ("mean_deviance",)),
    "size": ("huber", ["--loss", "huber"], ("mean_absolute_error", "rmse")),
    "place": ("logistic", [], ("log_loss", "accuracy")),
    "level": ("softmax", ["--loss", "softmax"], ("log_loss", "accuracy")),
}
every_run = pytest.mark.parametrize("target", RUNS)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "field.csv"
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (120, 2))
    count = rng.poisson(np.exp(1 + np.sin(2 * x[:, 0])))
    size = 30 + 10 * np.sin(2 * x[:, 0]) + rng.standard_t(1.5, 120)
    place = np.where((x**2).sum(axis=1) + 0.3 * rng.standard_normal(120) < 2, "in", "out")
    level = 3 + np.digitize(x[:, 0] + x[:, 1] + 0.3 * rng.standard_normal(120), [-1, 1])
    rows = zip(x[:, 0], x[:, 1], count, size, place, level, strict=True)
    lines = "\n".join(",".join(map(str, row)) for row in rows)
    path.write_text(f"a,b,count,size [m],place,level\n{lines}\n")
    return path


@pytest.fixture(scope="module")
def folders(table, tmp_path_factory):
    """A folder of a run for every target."""
    root, others = tmp_path_factory.mktemp("fit"), ("count", "size", "place", "level")
    for target, (_, arguments, _) in RUNS.items():
        drop = ",".join(name for name in others if name != target)
        command = ["fit", str(table), "--target", target, "--drop", drop, "--hidden", "5", "--weight-decay", "0.3",
                   "--out", str(root / target), "--quiet", *arguments]  # fmt: skip
        assert main(command) == 0
    return root


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


@every_run
def test_it_is_solved_and_confirmed(target, folders):
    loss, _, measures = RUNS[target]
    summary = summary_of(folders / target)
    assert {p.name for p in (folders / target).iterdir()} == FILES
    assert (summary["loss"], summary["status"]) == (loss, "converged")
    assert summary["reference"]["confirmed"] is True
    for part in (summary, summary["reference"], summary["linear_model"], summary["best_constant"]):
        assert {f"{p}_{name}" for p in ("train", "test") for name in measures} <= part.keys()
    first = f"train_{measures[0]}"
    assert summary[first] < min(summary[simpler][first] for simpler in ("linear_model", "best_constant"))
    assert (folders / target / "predictions.png").read_bytes().startswith(b"\x89PNG")


@every_run
def test_the_saved_model_gives_the_reported_measures(target, table, folders):
    """By hand from the file's probabilities, rates or predictions."""
    loss, _, _ = RUNS[target]
    drop = [name for name in RUNS if name != target]
    data = load_dataset(table, target=target, drop=drop, loss=loss)
    model, summary = ocp_nn.load(folders / target / "model.npz").model, summary_of(folders / target)
    assert (model.classes, model.link) == (data.classes, loss_named(loss).link)
    with np.load(folders / target / "model.npz") as file:
        rows = {part: file[f"{part}_rows"] for part in ("train", "test")}
    for part, at in rows.items():
        y, p = data.y[at], model.predict(data.x[at])
        found = {}
        if loss == "poisson":
            found["mean_deviance"] = 2 * np.mean(special.xlogy(y, y / p) - y + p)
        elif loss == "huber":
            found = {"mean_absolute_error": np.mean(np.abs(y - p)), "rmse": np.sqrt(np.mean((y - p) ** 2))}
        else:
            p, y = (np.hstack([1 - t, t]) if t.shape[1] == 1 else t for t in (p, y))
            right = model.classify(data.x[at]) == data.labels[at]
            found = {"log_loss": -np.log(p[y > 0]).mean(), "accuracy": right.mean()}
        for name, value in found.items():
            assert summary[f"{part}_{name}"] == pytest.approx(value, rel=1e-9)


@every_run
def test_predict_writes_what_the_model_says(target, table, folders, tmp_path, capsys):
    out = tmp_path / "p.csv"
    assert main(["predict", str(folders / target), str(table), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    with open(out, newline="") as file:
        header, *rows = csv.reader(file)
    data = load_dataset(table, target=target, drop=[name for name in RUNS if name != target], loss=RUNS[target][0])
    model = ocp_nn.load(folders / target / "model.npz").model
    if not data.classes:
        assert header == [{"size": "size [m]"}.get(target, target)]
        assert {"count": "mean deviance ", "size": "RMSE "}[target] in said
    else:
        assert header == [target, *data.target_names]
        assert [row[0] for row in rows] == [str(label) for label in model.classify(data.x)]
        assert f"accuracy {(model.classify(data.x) == data.labels).mean():.6g}" in said
    numbers = np.array([row[1 if data.classes else 0 :] for row in rows], dtype=float)
    np.testing.assert_array_equal(numbers, model.predict(data.x))


def test_predict_says_where_labels_are_none_of_the_classes(table, folders, tmp_path, capsys):
    other = tmp_path / "other.csv"
    other.write_text("a,b,place\n0,0,in\n0,0.1,elsewhere\n")
    assert main(["predict", str(folders / "place"), str(other), "--out", str(tmp_path / "p.csv")]) == 0
    assert "accuracy 0.5 (1 labels are none of the classes)" in capsys.readouterr().out
    other.write_text("a,b\n0,0\n0,0.1\n")
    assert main(["predict", str(folders / "place"), str(other), "--out", str(tmp_path / "p.csv")]) == 0
    assert "accuracy" not in capsys.readouterr().out


@pytest.mark.parametrize("target", ["place", "level", "count"])
def test_an_export_gives_the_probabilities(target, table, folders, tmp_path):
    out = tmp_path / "exported.py"
    assert main(["export", str(folders / target), "--to", "numpy", "--out", str(out), "--quiet"]) == 0
    space: dict = {}
    exec(out.read_text(), space)
    model = ocp_nn.load(folders / target / "model.npz").model
    x = np.random.default_rng(0).uniform(-2, 2, (9, 2))
    np.testing.assert_allclose(space["predict"](x), model.predict(x), rtol=1e-12)
    assert space["CLASSES"] == model.classes


@every_run
def test_a_run_goes_on_with_its_loss(target, folders):
    before = summary_of(folders / target)
    assert main(["fit", "--resume", str(folders / target), "--quiet"]) == 0
    after = summary_of(folders / target)
    for key in ("objective", "outer_iterations", "loss", "classes", "best_constant"):
        assert after[key] == before[key]
    assert json.loads((folders / target / "run.json").read_text())["arguments"]["loss"] in (RUNS[target][0], "auto")


def test_a_run_of_before_there_were_losses_goes_on(tmp_path):
    command = ["fit", "sin2x", "--hidden", "3", "--weight-decay", "1", "--reference", "none", "--quiet"]
    assert main([*command, "--out", str(tmp_path)]) == 0
    run = json.loads((tmp_path / "run.json").read_text())
    del run["arguments"]["loss"]
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert main(["fit", "--resume", str(tmp_path), "--quiet"]) == 0


def test_iris_just_works(capsys):
    pytest.importorskip("sklearn")
    assert main(["fit", "iris", "--hidden", "4", "--reference", "none"]) == 0
    printed = capsys.readouterr().out
    for words in ("weight decay", "accuracy", "multinomial", "best constant", "converged"):
        assert words in printed


MISTAKES = {
    "an unknown loss": (["fit", "sin2x", "--loss", "hinge"], "argument --loss: invalid choice: 'hinge'"),
    "negative counts": (["fit", "sin2x", "--loss", "poisson"], "poisson loss needs targets >= 0"),
    "fractions": (["fit", "sin2x", "--loss", "logistic"], "is no label of a class"),
    "quantities": (["fit", "iris", "--loss", "squared"], "iris: its targets are classes"),
    "three classes": (["fit", "iris", "--loss", "logistic"], "logistic is for two: use softmax"),
    "conditioning of classes": (["conditioning", "iris"], "conditioning is measured for squares of quantities"),
}


@pytest.mark.parametrize(("command", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line(command, words, capsys):
    pytest.importorskip("sklearn")
    try:
        code = main(command)
    except SystemExit as stop:
        code = stop.code
    errors = capsys.readouterr().err
    assert code == 1
    assert words in errors and errors.count("\n") == 1


# --- measures, simpler models and figures, against others


@pytest.mark.parametrize("name", ["logistic", "softmax", "poisson"])
def test_measures_are_scikit_learns(name):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    z = rng.normal(0, 2, (40, 3 if name == "softmax" else 1))
    if name == "poisson":
        y = rng.poisson(3, (40, 1)).astype(float)
        expected = {"mean_deviance": metrics.mean_poisson_deviance(y[:, 0], np.exp(z[:, 0]))}
    else:
        labels = rng.integers(0, 3 if name == "softmax" else 2, 40)
        y = np.eye(3)[labels] if name == "softmax" else labels[:, None].astype(float)
        p = special.softmax(z, axis=1) if name == "softmax" else special.expit(z[:, 0])
        best = p.argmax(axis=1) if name == "softmax" else p > 0.5
        expected = {"log_loss": metrics.log_loss(labels, p), "accuracy": metrics.accuracy_score(labels, best)}
    found = judge(loss_named(name), z, y)
    assert found == {key: pytest.approx(value, rel=1e-12) for key, value in expected.items()}


def test_logits_beyond_any_probability_have_a_finite_log_loss():
    found = judge(loss_named("logistic"), np.array([[-2000.0], [2000.0]]), np.array([[1.0], [1.0]]))
    assert found == {"log_loss": 1000.0, "accuracy": 0.5}


def experiment_of(loss) -> Experiment:
    rng = np.random.default_rng(1)
    x = rng.uniform(-2, 2, (80, 2))
    y = {"logistic": x[:, :1] + 0.5 * rng.standard_normal((80, 1)) > 0, "poisson": rng.poisson(np.exp(x[:, :1]))}
    classes = (0, 1) if loss == "logistic" else ()
    data = Dataset(name="d", x=x, y=y[loss].astype(float), feature_names=("a", "b"), target_names=("t",), loss=loss,
                   classes=classes)  # fmt: skip
    return Experiment.prepare(data, (3,))


@pytest.mark.parametrize(("loss", "rho"), [("logistic", 1.0), ("poisson", 1e-3)])
def test_the_linear_model_minimises_its_convex_objective(loss, rho):
    """SciPy's minimum of the same function has the same measures."""
    experiment = experiment_of(loss)
    x, y, phi = experiment.train_inputs, experiment.train_targets, loss_named(loss)

    def outputs(w, table):
        return table @ w[:2, None] + w[2]

    best = optimize.minimize(lambda w: phi.values(outputs(w, x), y).sum() + rho / 2 * w @ w, np.zeros(3), tol=1e-12).x
    test = experiment.x_scaler.transform(experiment.dataset.x[experiment.split.test])
    parts = {"train": outputs(best, x), "test": outputs(best, test)}
    expected = experiment.judged(parts.__getitem__)
    assert linear_baseline(experiment).errors == {key: pytest.approx(v, rel=1e-5) for key, v in expected.items()}


def test_the_best_constant_predicts_the_frequency():
    experiment = experiment_of("logistic")
    p = experiment.train_targets.mean()
    found = constant_baseline(experiment).errors
    assert found["train_log_loss"] == pytest.approx(-p * np.log(p) - (1 - p) * np.log(1 - p), rel=1e-12)
    assert found["train_accuracy"] == pytest.approx(max(p, 1 - p))


def test_the_confusion_matrix_counts_pairs():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    labels, p = rng.integers(0, 4, 50), rng.dirichlet(np.ones(4), 50)
    found = confusion(np.eye(4)[labels], p)
    np.testing.assert_array_equal(found, metrics.confusion_matrix(labels, p.argmax(axis=1), labels=range(4)))


def test_the_reliability_diagram_is_scikit_learns():
    calibration = pytest.importorskip("sklearn.calibration")
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.uniform(size=198), [0.0, 1.0]])
    y = (rng.uniform(size=200) < p).astype(float)
    share, mean = calibration.calibration_curve(y, p, n_bins=10)
    found = reliability(y[:, None], p[:, None])
    np.testing.assert_allclose(found[0], mean)
    np.testing.assert_allclose(found[1], share)
    assert found[2].sum() == 200


@pytest.mark.parametrize("classes", [2, 12, 60])
def test_the_figure_draws_any_number_of_classes(classes, tmp_path):
    rng = np.random.default_rng(0)
    y, p = np.eye(classes)[rng.integers(0, classes, 30)], rng.dirichlet(np.ones(classes), 30)
    figure = classifier_figure([("training", y, p), ("test", y, p)], [f"a long name {k}" for k in range(classes)], "t")
    figure.savefig(tmp_path / "f.png")
    written = [text.get_text() for text in figure.axes[0].texts]
    assert written == ([str(n) for n in confusion(y, p).ravel()] if classes <= 15 else [])


def test_the_kink_of_hubers_loss_is_an_option(tmp_path, capsys):
    """Small, it counts absolute deviations; large, it is squares; a resume keeps it."""
    objectives = {}
    for delta in ("0.1", "100"):
        out = tmp_path / delta
        arguments = ["sin2x", "--hidden", "3", "--loss", "huber", "--huber-delta", delta, "--weight-decay", "1"]
        assert main(["fit", *arguments, "--reference", "none", "--quiet", "--out", str(out)]) == 0
        objectives[delta] = json.loads((out / "summary.json").read_text())["objective"]
        assert json.loads((out / "run.json").read_text())["arguments"]["huber_delta"] == float(delta)
        assert ocp_nn.load(out / "checkpoint.npz").problem.loss.delta == float(delta)
    assert objectives["0.1"] < objectives["100"]
    assert main(["fit", "--resume", str(tmp_path / "0.1"), "--quiet"]) == 0
    capsys.readouterr()
    for wrong in ("0", "-1", "nan", "big"):
        with pytest.raises(SystemExit):
            main(["fit", "sin2x", "--huber-delta", wrong])
        assert "--huber-delta" in capsys.readouterr().err
