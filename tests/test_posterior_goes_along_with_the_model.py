"""The compact posterior: what it leaves out, what a fit leaves in its folder, and intervals from the command line."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

import ocp_nn
from ocp_nn.cli import main
from ocp_nn.learning.compact_posterior import CompactPosterior

RNG = np.random.default_rng(0)
X = RNG.uniform(-2, 2, (60, 2))
Y = np.column_stack([np.sin(2 * X[:, 0]), X[:, 0] * X[:, 1]]) + 0.1 * RNG.standard_normal((60, 2))
NEW = RNG.uniform(-3, 3, (600, 2))


@pytest.mark.parametrize("hidden", [4, 60])
def test_its_intervals_are_those_of_the_whole_posterior(hidden):
    """In the primal form and the dual one, and through arrays."""
    problem = ocp_nn.TrainingProblem(ocp_nn.Network.mlp([2, hidden, 2]), X, Y, 0.1)
    posterior = ocp_nn.Posterior.of(problem, ocp_nn.solve(problem).trajectory.controls)
    compact = CompactPosterior.of(posterior)
    assert compact.directions.shape[1] <= min(120, problem.network.num_controls)
    again = CompactPosterior.from_arrays(compact.arrays(), problem.network)
    for of in (compact, again):
        ends = of.interval(problem.network, posterior.controls, NEW, 0.8)
        for one, other in zip(ends, posterior.interval(NEW, 0.8), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)
    assert CompactPosterior.from_arrays({"train_rows": X}, problem.network) is None
    with pytest.raises(ValueError, match="damaged posterior"):
        CompactPosterior.from_arrays(compact.arrays() | {"posterior_shares": np.ones(3)}, problem.network)
    with pytest.raises(ValueError, match="damaged posterior"):
        CompactPosterior.from_arrays({"posterior_shares": np.ones(3)}, problem.network)
    with pytest.raises(ValueError, match="coverage must be"):
        compact.interval(problem.network, posterior.controls, NEW, 2.0)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "run.csv"
    x = RNG.uniform(-2, 2, (150, 2))
    y = 100 + 20 * np.sin(2 * x[:, 0]) + 2.0 * RNG.standard_normal(150)
    np.savetxt(path, np.column_stack([x, y]), delimiter=",", header="a,b,y [m]", comments="")
    return path


@pytest.fixture(scope="module")
def folder(table, tmp_path_factory):
    out = tmp_path_factory.mktemp("fit")
    assert (
        main(["fit", str(table), "--target", "y", "--hidden", "8", "--reference", "none", "--quiet", "--out", str(out)])
        == 0
    )
    return out


def test_predict_gives_intervals_in_the_units_of_the_target(table, folder, capsys):
    assert main(["predict", str(folder), str(table), "--interval", "0.9"]) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows[0] == ["y [m]", "y [m] low", "y [m] high"]
    predicted, low, high = np.array(rows[1:], dtype=float).T
    y = np.loadtxt(table, delimiter=",", skiprows=1)[:, 2]
    assert (low < predicted).all() and (predicted < high).all()
    assert 0.84 < np.mean((low <= y) & (y <= high)) < 0.98


def test_the_summary_says_what_the_noise_is(folder):
    posterior = json.loads((folder / "summary.json").read_text())["posterior"]
    assert posterior["noise_std"][0] == pytest.approx(2.0, rel=0.25)
    assert 3 < posterior["effective_parameters"] < 33 and posterior["log_evidence"] < 0


def test_other_models_have_no_intervals_and_say_why(table, tmp_path, capsys):
    command = [
        "fit",
        str(table),
        "--target",
        "y",
        "--hidden",
        "4",
        "--reference",
        "none",
        "--quiet",
        "--weight-decay",
        "0.1",
    ]
    assert main([*command, "--weight-bounds=-1,1", "--out", str(tmp_path)]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["posterior"] == {"message": "there is no posterior of a network with constraints"}
    assert main(["predict", str(tmp_path), str(table), "--interval", "0.9"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "no posterior, so no intervals" in error


def test_a_damaged_one_is_a_line(table, folder, tmp_path, capsys):
    with np.load(folder / "model.npz") as content:
        arrays = {name: content[name] for name in content.files}
    arrays["posterior_shares"] = arrays["posterior_shares"][1:]
    np.savez(tmp_path / "model.npz", **arrays)
    assert main(["predict", str(tmp_path), str(table), "--interval", "0.9"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_share_is_a_share(table, folder, capsys):
    with pytest.raises(SystemExit):
        main(["predict", str(folder), str(table), "--interval", "90"])
    assert "--interval" in capsys.readouterr().err
