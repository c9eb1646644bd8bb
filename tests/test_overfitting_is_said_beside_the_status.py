"""A converged fit that is worth nothing says so: in print, in summary.json, and where the estimator is fitted."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ocp_nn import Network, OverfittingWarning, TrainingProblem
from ocp_nn.analysis.conditioning.point import linearise_at
from ocp_nn.cli import main
from ocp_nn.learning.overfitting import effective_parameters, held_out_note, interpolation_note

RNG = np.random.default_rng(0)
SIZES = {"more weights than numbers": (25, [2, 12, 1]), "fewer": (1100, [2, 3, 1]), "two outputs": (20, [2, 4, 4, 2])}


def problem(samples, sizes, weight_decay):
    x = RNG.standard_normal((samples, sizes[0]))
    y = RNG.standard_normal((samples, sizes[-1]))
    return TrainingProblem(Network.mlp(sizes), x, y, weight_decay)


def singular_values(training, controls):
    jacobian = linearise_at(training, training.rollout(controls)).batch().whitened_jacobian()
    return np.linalg.svd(jacobian, compute_uv=False)


@pytest.mark.parametrize("weight_decay", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize(("samples", "sizes"), SIZES.values(), ids=SIZES)
def test_effective_parameters_are_the_trace_of_the_hat_matrix(samples, sizes, weight_decay):
    training = problem(samples, sizes, weight_decay)
    controls = training.network.init_controls(1)
    squares = singular_values(training, controls) ** 2
    expected = np.sum(squares / (squares + weight_decay))
    assert effective_parameters(training, controls) == pytest.approx(expected, rel=1e-6)


def test_without_weight_decay_they_are_the_rank():
    training = problem(30, [2, 2, 1], 0.0)
    same = (np.tile([0.3, 0.3], 3), np.array([0.5, 0.5, 0.1]))  # two units alike: 4 directions of 9
    assert effective_parameters(training, same) == np.linalg.matrix_rank(
        linearise_at(training, training.rollout(same)).batch().whitened_jacobian()
    )
    assert effective_parameters(problem(5, [2, 12, 1], 0.0), problem(5, [2, 12, 1], 0.0).network.init_controls(0)) == 5


def test_where_they_are_too_expensive_the_weights_are_counted(monkeypatch):
    monkeypatch.setattr("ocp_nn.learning.overfitting.LARGEST", 10)
    for weight_decay, words in ((0.0, "The 25 training targets decide 25 of 49 weights"), (1e-9, "")):
        training = problem(25, [2, 12, 1], weight_decay)
        controls = training.network.init_controls(0)
        assert effective_parameters(training, controls) is None
        assert interpolation_note(training, controls).startswith(words)


def test_few_weights_cannot_reproduce_many_numbers():
    training = problem(100, [2, 3, 1], 0.0)
    assert interpolation_note(training, training.network.init_controls(0)) == ""


def test_held_out_errors_are_set_beside_simpler_models():
    assert held_out_note(0.5, 1.0, 2.0) == held_out_note(1.05, 1.0, 2.0) == ""
    assert "worse than linear regression (RMSE 1.5 against 1)" in held_out_note(1.5, 1.0, 2.0)
    assert "no better than the mean of the training targets (RMSE 2 against 2;" in held_out_note(2.0, 1.0, 2.0)
    assert "not finite" in held_out_note(float("nan"), 1.0, 2.0)


def fit(tmp_path, capsys, *arguments):
    assert main(["fit", *arguments, "--reference", "none", "--out", str(tmp_path)]) == 0
    return json.loads((tmp_path / "summary.json").read_text()), capsys.readouterr().out


def test_a_ruined_model_is_named_in_print_and_in_the_summary(tmp_path, capsys):
    pytest.importorskip("sklearn")
    summary, printed = fit(tmp_path, capsys, "diabetes", "--weight-decay", "0")
    assert (summary["status"], summary["num_weights"]) == ("converged", 661)
    assert summary["train_rmse"] < 1e-3 and summary["test_rmse"] > summary["constant_test_rmse"] > 75
    assert summary["effective_parameters"] == pytest.approx(398, abs=1)
    worse, reproduced, remedy = summary["notes"]
    assert "no better than the mean of the training targets" in worse
    assert "The 398 training targets decide 398 of 661 weights" in reproduced
    assert "Raise the weight decay" in remedy
    assert all(note in printed for note in summary["notes"])


@pytest.mark.parametrize("name", ["sin2x", "friedman"])
def test_an_ordinary_fit_has_no_notes(name, tmp_path, capsys):
    summary, _ = fit(tmp_path, capsys, name, "--hidden", "8", "--weight-decay", "0.1")
    assert summary["notes"] == []
    assert 0 < summary["effective_parameters"] < summary["num_weights"]


def test_test_samples_far_outside_are_told(tmp_path, capsys):
    x = RNG.uniform(-1, 1, 40)
    x[int(_test_rows(40)[0])] = 50.0
    rows = "\n".join(f"{a!r},{float(np.sin(a))!r}" for a in x.tolist())
    (tmp_path / "t.csv").write_text(f"a,y\n{rows}\n")
    arguments = ["--target", "y", "--hidden", "3", "--weight-decay", "0.1"]
    summary, printed = fit(tmp_path, capsys, str(tmp_path / "t.csv"), *arguments)
    assert any(note.startswith("Of the test part 1 of 4 samples lie far outside") for note in summary["notes"])
    assert "'a' is 50" in printed


def _test_rows(num_samples):
    from ocp_nn.learning.data import random_split

    return random_split(num_samples, 0.1, 0).test


def test_the_estimator_warns_where_the_targets_are_reproduced():
    pytest.importorskip("sklearn")
    from ocp_nn import OCPRegressor

    x, y = RNG.standard_normal((40, 3)), RNG.standard_normal(40)
    with pytest.warns(OverfittingWarning, match="The 40 training targets decide 40 of 101 weights"):
        ruined = OCPRegressor((20,), weight_decay=0.0, random_state=0).fit(x, y)
    assert reproduced(ruined)
    assert not reproduced(OCPRegressor((20,), weight_decay=3.0, random_state=0).fit(x, y))


def reproduced(model):
    return any("reproduces the targets" in note for note in model.notes_)


def test_what_held_out_samples_have_judged_is_not_warned_about():
    pytest.importorskip("sklearn")
    from ocp_nn import OCPRegressor

    x, y = RNG.standard_normal((40, 3)), RNG.standard_normal(40)
    stopped = OCPRegressor((20,), weight_decay=0.0, early_stopping=True, random_state=0).fit(x, y)
    assert not reproduced(stopped)
    assert not reproduced(OCPRegressor((20,), random_state=0).fit(x, y))
