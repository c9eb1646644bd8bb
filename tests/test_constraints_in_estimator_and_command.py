"""monotonic_cst, bounds and output_range of the estimator, the options of the command, and inputs that are chosen."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone

import ocp_nn
from ocp_nn.cli import main
from ocp_nn.learning.sparse_path import choose_inputs, sparse_path
from ocp_nn.problem.constraints import ready_made


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 10, (80, 3))
    y = 3 * x[:, 0] + 10 * np.sin(x[:, 1]) + 2 * rng.standard_normal(80)
    return x, y


def regressor(**options):
    return ocp_nn.OCPRegressor((6,), weight_decay=0.1, random_state=0, **options)


def lines(x, j):
    points = np.random.default_rng(1).uniform(x.min(axis=0), x.max(axis=0), (40, x.shape[1]))
    grid = np.repeat(points, 50, axis=0)
    grid[:, j] = np.tile(np.linspace(x[:, j].min(), x[:, j].max(), 50), 40)
    return grid


@pytest.mark.parametrize("method", ["weights", "points"])
def test_monotonic_cst_means_what_it_means_in_scikit_learn(data, method):
    x, y = data
    model = regressor(monotonic_cst=[1, 0, -1], monotonic_method=method).fit(x, y)
    assert model.result_.success
    if method == "weights":
        assert np.diff(model.predict(lines(x, 0)).reshape(40, 50)).min() >= -1e-9
        assert np.diff(model.predict(lines(x, 2)).reshape(40, 50)).max() <= 1e-9
    step = np.array([1e-4, 0.0, 0.0])
    inside = np.clip(x, x.min(axis=0) + 1e-3, x.max(axis=0) - 1e-3)
    assert (model.predict(inside + step) - model.predict(inside - step)).min() >= -1e-6
    assert model.score(x, y) > 0.9
    assert model.certificate_.passed()


def test_signs_may_go_by_name(data):
    pandas = pytest.importorskip("pandas")
    x, y = data
    frame = pandas.DataFrame(x, columns=["dose", "hour", "age"])
    model = regressor(monotonic_cst={"dose": 1}).fit(frame, y)
    by_number = regressor(monotonic_cst={0: 1}).fit(x, y)
    np.testing.assert_array_equal(model.predict(frame), by_number.predict(x))
    with pytest.raises(ValueError, match="unknown input 'weight'"):
        regressor(monotonic_cst={"weight": 1}).fit(frame, y)


def test_bounds_hold_for_all_weights(data):
    model = regressor(bounds=(-0.5, 0.7)).fit(*data)
    assert model.result_.success
    flat = np.concatenate(model.result_.trajectory.controls)
    assert flat.min() >= -0.5
    assert flat.max() <= 0.7


def test_an_output_range_is_in_units_of_the_target(data):
    x, y = data
    model = regressor(output_range=(0.0, 25.0), constraint_points=50).fit(x, y)
    assert model.result_.success
    predicted = model.predict(x)
    assert predicted.min() >= -1e-5
    assert predicted.max() <= 25.0 + 1e-5
    assert y.max() > 26.0


def test_an_output_range_of_counts_is_one_of_rates():
    rng = np.random.default_rng(2)
    x = rng.uniform(-1, 1, (60, 1))
    model = ocp_nn.OCPRegressor(
        (4,), loss="poisson", weight_decay=0.1, output_range=(0.0, 3.0), random_state=0, constraint_points=0
    ).fit(x, rng.poisson(np.exp(1 + x[:, 0])).astype(float))
    assert model.result_.success
    assert model.predict(x).max() <= 3.0 + 1e-5


def test_constraints_go_together_and_survive_clone(data):
    x, y = data
    model = clone(
        regressor(monotonic_cst=[1, 0, 0], output_range=(0.0, 30.0), monotonic_method="points", constraint_points=20)
    )
    model.fit(x, y)
    assert model.predict(x).max() <= 30.0 + 1e-4
    assert len(model.result_.problem.constraints) == 2


def test_a_warm_start_begins_at_the_earlier_weights(data):
    model = regressor(monotonic_cst=[1, 0, 0], warm_start=True).fit(*data)
    first = model.result_.objective
    model.fit(*data)
    assert model.result_.objective <= first * (1 + 1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"monotonic_cst": [1, 0]}, "for each of 3 inputs"),
        ({"monotonic_cst": [2, 0, 0]}, "expected -1, 0 or 1"),
        ({"monotonic_cst": "rising"}, "monotonic_cst must be"),
        ({"monotonic_method": "magic", "monotonic_cst": [1, 0, 0]}, "monotonic_method must be"),
        ({"bounds": (1.0, -1.0)}, "bounds must be"),
        ({"output_range": (0.0,)}, "output_range must be"),
        ({"constraint_points": -1}, "constraint_points must be"),
        ({"bounds": (-1.0, 1.0), "early_stopping": True}, "early_stopping is not for constrained networks"),
    ],
)
def test_bad_wishes_are_one_clear_error(data, options, words):
    with pytest.raises(ValueError, match=words):
        regressor(**options).fit(*data)


# --- the command


def test_fit_is_monotone_and_confirmed(tmp_path, capsys):
    arguments = ["fit", "diabetes", "--hidden", "5", "--weight-decay", "3", "--monotone", "bmi=1", "--monotone", "s5=1"]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    assert "constraints: monotone" in printed
    assert "confirmed by IPOPT" in printed
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "converged"
    assert not (tmp_path / "run" / "checkpoint.npz").exists()
    model = ocp_nn.load(tmp_path / "run" / "model.npz").model
    data = ocp_nn.load_dataset("diabetes")
    bmi = list(model.features).index("bmi")
    assert np.diff(model.predict(lines(data.x, bmi)).reshape(40, 50)).min() >= -1e-9


def test_fit_keeps_weights_and_outputs_within_bounds(tmp_path):
    arguments = ["fit", "sin2x", "--hidden", "5", "--weight-decay", "0.1", "--reference", "none", "--quiet"]
    assert main([*arguments, "--weight-bounds=-1,1", "--output-range=-0.7,0.7", "--out", str(tmp_path)]) == 0
    result = ocp_nn.load(tmp_path / "model.npz")
    assert np.abs(np.concatenate(result.trajectory.controls)).max() <= 1.0
    assert np.abs(result.predict(ocp_nn.load_dataset("sin2x").x[:50])).max() <= 0.75


def test_a_constrained_run_leaves_nothing_of_an_earlier_one_to_go_on_with(tmp_path, capsys):
    arguments = ["fit", "sin2x", "--hidden", "3", "--weight-decay", "0.1", "--reference", "none", "--quiet"]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    assert main(["fit", "--resume", str(tmp_path), "--weight-bounds=-1,1"]) == 1
    assert "--resume goes on with a run as it was" in capsys.readouterr().err
    assert main([*arguments, "--weight-bounds=-1,1", "--out", str(tmp_path)]) == 0
    assert not (tmp_path / "run.json").exists()
    assert not (tmp_path / "checkpoint.npz").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--monotone", "bmi"], "must be COLUMN=1 or COLUMN=-1"),
        (["--monotone", "bmi=2"], "must be COLUMN=1 or COLUMN=-1"),
        (["--monotone", "height=1"], "unknown input 'height'"),
        (["--weight-bounds", "1,0"], "a pair of numbers"),
        (["--output-range", "3"], "a pair of numbers"),
    ],
)
def test_mistakes_are_one_line(more, words, capsys):
    try:
        code = main(["fit", "diabetes", "--weight-decay", "1", *more])
    except SystemExit as end:
        code = end.code
    assert code in (1, 2)
    assert words in capsys.readouterr().err


# --- sparsity


@pytest.fixture(scope="module")
def few_inputs():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 5))
    y = np.tanh(x[:, :1]) + (x[:, 1:2] ** 2 - 1) / 2 + 0.1 * rng.standard_normal((80, 1))
    return ocp_nn.TrainingProblem(ocp_nn.Network.mlp([5, 5, 1]), x, y, 0.3)


def test_inputs_that_matter_are_found_an_even_effect_among_them(few_inputs):
    found = choose_inputs(few_inputs)
    assert found.chosen == (0, 1)
    assert len(found.sets) == len(found.errors) == len(found.deviations) == len(found.weights)
    assert all(len(a) >= len(b) for a, b in zip(found.sets, found.sets[1:], strict=False))


def test_a_path_has_fewer_inputs_with_more_weight(few_inputs):
    penalty = ready_made.sparse_inputs(few_inputs.network, 1.0)
    path = sparse_path(few_inputs, penalty, [30.0, 0.1, 3.0])
    zero = [penalty.is_zero(penalty.of(np.concatenate(r.trajectory.controls))).sum() for r in path]
    assert zero == sorted(zero)
    assert zero[-1] > 0
    assert [r.problem.constraints[0].weight for r in path] == [0.1, 3.0, 30.0]
    assert all(r.success for r in path)


def test_bad_paths_are_one_clear_error(few_inputs):
    with pytest.raises(ValueError, match="weights must be"):
        sparse_path(few_inputs, ocp_nn.Lasso(1.0), [-1.0])
    with pytest.raises(ValueError, match="penalty must be"):
        sparse_path(few_inputs, ocp_nn.ControlBounds(0, 1), [1.0])
    small = ocp_nn.TrainingProblem(ocp_nn.Network.mlp([1, 2, 1]), np.ones((3, 1)), np.ones((3, 1)))
    with pytest.raises(ValueError, match="needs 10 samples"):
        choose_inputs(small)
