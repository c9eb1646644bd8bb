"""Units change nothing: data of any size are standardised, fitted and judged alike, or refused in one sentence.

Warnings are errors in this suite, so an overflow anywhere on the way shows here too.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from ocp_nn import DataError, Dataset, Network, TrainingProblem
from ocp_nn.cli import main
from ocp_nn.learning.data import Scaler
from ocp_nn.learning.experiment import Experiment, linear_baseline, rmse
from ocp_nn.solvers.augmented_lagrangian.solve import solve

RNG = np.random.default_rng(0)
X = RNG.uniform(-2, 2, (60, 2))
Y = np.sin(X[:, 0]) + X[:, 1]

UNITS = [5e-310, 1e-300, 1e-170, 1e-100, 1e100, 1e160, 1e299]
every_unit = pytest.mark.parametrize("unit", UNITS)


@every_unit
@pytest.mark.parametrize("offset", [0.0, 7.0])
def test_standard_units_are_those_of_the_plain_numbers(unit, offset):
    plain, scaled = X + offset, (X + offset) * unit
    expected = Scaler.fit(plain).transform(plain)
    rounding = 1e-12 + 1e-323 / unit  # what the products above have lost
    scaler = Scaler.fit(scaled)
    np.testing.assert_allclose(scaler.transform(scaled), expected, atol=rounding)
    np.testing.assert_allclose(scaler.inverse(expected) / unit, plain, atol=30 * rounding)


def test_powers_of_two_change_no_bit():
    for exponent in (-900, -3, 700):
        scaler, other = Scaler.fit(X), Scaler.fit(np.ldexp(X, exponent))
        np.testing.assert_array_equal(np.ldexp(scaler.mean, exponent), other.mean)
        np.testing.assert_array_equal(np.ldexp(scaler.scale, exponent), other.scale)
        np.testing.assert_array_equal(scaler.mean, X.mean(axis=0))
        np.testing.assert_array_equal(scaler.scale, X.std(axis=0))


def test_a_small_spread_on_a_huge_level_is_centred():
    """The mean of many large numbers is itself rounded, here by more than they differ."""
    table = 1e13 + RNG.standard_normal((20_000, 1))
    standard = Scaler.fit(table).transform(table)
    assert abs(standard.mean()) < 1e-2
    assert standard.std() == pytest.approx(1, rel=1e-3)


LEVELS = {
    "one sample": ([[5.0]], [0.0]),
    "a value whose mean is rounded": ([[0.1]] * 30, [0.0] * 30),
    "a huge constant": ([[1e300]] * 3, [0.0] * 3),
    "two denormals": ([[0.0], [5e-324]], [0.0, 1.0]),
    "the whole range": ([[1e300], [-1e300]], [1.0, -1.0]),
    "rounding of a small level": ([[1e-200], [np.nextafter(1e-200, 1)]], [0.0, 0.0]),
    "rounding of a huge level": ([[1e299], [np.nextafter(1e299, 0)]], [0.0, 0.0]),
}


@pytest.mark.parametrize(("table", "expected"), LEVELS.values(), ids=LEVELS)
def test_columns_without_much_variation_stay_small(table, expected):
    np.testing.assert_allclose(Scaler.fit(table).transform(table).ravel(), expected, atol=1e-15)


REFUSED = {
    "beyond what can be predicted": ([[1.7e308], [-1.7e308]], "column 0: finite values up to 1e.300 in magnitude"),
    "infinite": ([[1.0], [np.inf]], "must be finite, received inf in row 1, column 0"),
    "not a number": ([[np.nan], [1.0]], "must be finite, received nan in row 0, column 0"),
}


@pytest.mark.parametrize(("table", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_standardised_is_refused(table, message):
    with pytest.raises(ValueError, match=message):
        Scaler.fit(table)


def test_a_value_that_standard_units_cannot_hold_is_refused():
    scaler = Scaler.fit([[0.0], [1e-200]])
    with pytest.raises(ValueError, match=r"row 1, column 0: 1e\+150 is too far from the mean"):
        scaler.transform([[0.0], [1e150]])


@pytest.mark.parametrize(("unit_x", "unit_y"), [(1e160, 1.0), (1e-170, 1.0), (1.0, 1e160), (1e299, 1e-170), (1, 1e299)])
def test_an_experiment_gives_the_same_errors_in_other_units(unit_x, unit_y):
    found = [_errors(X, Y, 1.0), _errors(unit_x * X, unit_y * Y, unit_y)]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)


def _errors(x, y, unit):
    names = {"feature_names": ("a", "b"), "target_names": ("y",)}
    experiment = Experiment.prepare(Dataset(name="t", x=x, y=y[:, None], **names), (5,))
    controls = solve(experiment.problem(1e-2)).trajectory.controls
    linear = linear_baseline(experiment)
    errors = [
        experiment.rmse(controls, "train"),
        experiment.rmse(controls, "test"),
        linear.train_rmse,
        linear.test_rmse,
    ]
    return [error / unit for error in errors]


def test_the_estimator_fits_and_scores_in_any_unit():
    pytest.importorskip("sklearn")
    from ocp_nn import OCPRegressor

    settings = {"hidden_layer_sizes": (5,), "weight_decay": 1e-2, "random_state": 0}
    plain = OCPRegressor(**settings).fit(X, Y)
    for unit_x, unit_y in ((1e160, 1e160), (1e-170, 1e-170), (1e-170, 1e299)):
        fitted = OCPRegressor(**settings).fit(unit_x * X, unit_y * Y)
        np.testing.assert_allclose(fitted.predict(unit_x * X) / unit_y, plain.predict(X), rtol=1e-6)
        assert fitted.score(unit_x * X, unit_y * Y) == pytest.approx(plain.score(X, Y), rel=1e-6)
    with pytest.raises(ValueError, match="can be standardised"):
        OCPRegressor(**settings).fit(X, 5e307 * Y)


@every_unit
def test_root_mean_squares_of_any_size(unit):
    difference = unit * np.array([3.0, -4.0])
    assert rmse(difference, np.zeros(2)) / unit == pytest.approx(np.sqrt(12.5), rel=1e-12 + 1e-323 / unit)
    assert rmse(np.zeros(2), np.zeros(2)) == 0
    assert rmse(np.array([np.inf, 1.0]), np.zeros(2)) == np.inf
    assert np.isnan(rmse(np.array([np.nan, 1.0]), np.zeros(2)))


RAW = {
    "inputs overflow": ((1e160, 1.0), "the squares of x overflow, its largest value being 1.9.*: scale the data"),
    "targets overflow": ((1.0, 1e160), "the squares of y overflow, its largest value being 2.*: scale the data"),
    "targets underflow": ((1.0, 1e-170), "the squares of y underflow, its largest value being 2.*: scale the data"),
}


@pytest.mark.parametrize(("units", "words"), RAW.values(), ids=RAW)
def test_raw_data_whose_squares_are_lost_are_refused(units, words):
    with pytest.raises(ValueError, match=words):
        TrainingProblem(Network.mlp([2, 5, 1]), units[0] * X, units[1] * Y)


def test_zero_targets_and_tiny_inputs_are_data():
    assert solve(TrainingProblem(Network.mlp([2, 5, 1]), 1e-170 * X, 0 * Y)).success


def test_a_data_set_names_the_column_that_is_too_large():
    with pytest.raises(
        DataError, match=r"t: column 'y' has the value -?1\..*e\+308 in sample \d+, but only values up to"
    ):
        Dataset(name="t", x=X, y=5e307 * Y[:, None], feature_names=("a", "b"), target_names=("y",))


@pytest.fixture
def table(tmp_path):
    def write(x, y):
        rows = "\n".join(f"{a!r},{b!r},{t!r}" for (a, b), t in zip(x.tolist(), y.tolist(), strict=True))
        (tmp_path / "t.csv").write_text(f"a,b,y\n{rows}\n")
        return ["fit", str(tmp_path / "t.csv"), "--target", "y", "--hidden", "5", "--weight-decay", "0.01",
                "--reference", "none", "--out", str(tmp_path)]  # fmt: skip

    return write


def test_the_command_line_fits_in_any_unit(table, tmp_path, capsys):
    assert main(table(1e-170 * X, 1e160 * Y)) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert 0 < summary["test_rmse"] < 0.3 * summary["linear_regression"]["test_rmse"] < 1e160


def test_the_command_line_refuses_in_one_line(table, capsys):
    assert main(table(X, 5e307 * Y)) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_an_error_that_is_no_number_is_no_success(table, tmp_path, capsys):
    """One test sample is so far away that its prediction overflows."""
    rows = Experiment.prepare(
        Dataset(name="t", x=X, y=Y[:, None], feature_names=("a", "b"), target_names=("y",)), ()
    ).split.test
    x = X.copy()
    x[rows[0]] = 1e50
    arguments = table(x, 1e299 * Y)
    arguments[arguments.index("5")] = "none"
    assert main(arguments) == 2
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "converged"
    assert "not finite" in capsys.readouterr().out


def _odd_column(rng, samples):
    """Values, a constant, a small spread on a level, outliers, two values, or all magnitudes at once."""
    size, u = 10.0 ** rng.uniform(-308, 300), rng.uniform(-1, 1, samples)
    kinds = [
        size * u,
        np.full(samples, size),
        size * (1 + 0.5 * u * 10.0 ** rng.uniform(-17, 0)),
        np.where(rng.random(samples) < 0.1, size, u),
        size * np.sign(u),
        u * 10.0 ** rng.uniform(-308, 300, samples),
    ]
    return kinds[rng.integers(len(kinds))]


def test_standard_units_of_odd_tables_are_moderate_and_invertible():
    for seed in range(500):
        rng = np.random.default_rng(seed)
        samples = int(rng.integers(1, 40))
        table = np.column_stack([_odd_column(rng, samples) for _ in range(3)])
        scaler = Scaler.fit(table)
        standard = scaler.transform(table)
        assert np.abs(standard).max() <= np.sqrt(samples) * (1 + 1e-9), seed
        error = np.abs(scaler.inverse(standard) - table) / np.maximum(np.abs(table).max(axis=0), 1e-290)
        assert error.max() < 1e-12, seed
