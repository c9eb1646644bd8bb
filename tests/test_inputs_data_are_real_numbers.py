"""Whatever takes data takes finite real numbers only, and says in one sentence what else it was given and where."""

from __future__ import annotations

from dataclasses import replace

import casadi as ca
import numpy as np
import pytest
from subproblems import DENSE, subproblem

import ocp_nn
from ocp_nn import Dataset, Model, Network, Options, Status, TrainingProblem, multiple_shooting, solve, solve_ipopt
from ocp_nn.base import checks
from ocp_nn.learning.data import Scaler
from ocp_nn.learning.selection import choose_weight_decay

X = np.arange(12.0).reshape(4, 3)
Y = np.arange(4.0)[:, None]
NETWORK = Network.mlp([3, 2, 1])
PROBLEM = TrainingProblem(NETWORK, X, Y, 0.1)
START = PROBLEM.lift(NETWORK.init_controls())
MODEL = Model(NETWORK, START.controls)
LOOSE = Options(max_outer=1)
SUB = subproblem(DENSE["tanh, several outputs"], 5)


def spoilt(array, entry):
    """The array with one entry of another kind, the last but one."""
    table = array.astype(object)
    table.flat[-2] = entry
    return table


def masked(array):
    mask = np.zeros(array.shape, bool)
    mask.flat[-2] = True
    return np.ma.array(array, mask=mask)


# What is no array of real numbers, made from one that is.
KINDS = {
    "complex": lambda a: a + 0j,
    "booleans": lambda a: a > 1,
    "strings": lambda a: a.astype(str),
    "bytes": lambda a: a.astype("S"),
    "strings among objects": lambda a: spoilt(a, "3.5"),
    "None among objects": lambda a: spoilt(a, None),
    "complex among objects": lambda a: spoilt(a, 1j),
    "booleans among objects": lambda a: spoilt(a, True),
    "an array among objects": lambda a: spoilt(a, np.ones(2)),
    "integers beyond the largest float": lambda a: spoilt(a, 10**400),
    "dates": lambda a: a.astype("M8[D]"),
    "durations": lambda a: a.astype("m8[D]"),
    "masked": masked,
    "masked rows in a list": lambda a: list(masked(a)) if a.ndim == 2 else masked(a),
    "ragged": lambda a: [[1.0, 2.0], [3.0]],
    "records": lambda a: np.zeros(a.shape, [("a", float)]),
    "nothing": lambda a: None,
    "a word": lambda a: "table",
    "a symbol": lambda a: ca.MX.sym("x", 2),
}

# What is not finite.
NOT_FINITE = {"NaN": np.nan, "infinity": np.inf, "minus infinity": -np.inf}


def with_value(array, value):
    changed = np.array(array, float)
    changed.flat[-2] = value
    return changed


# Name of the argument -> a good array, and who takes it.  The second group also takes numbers that are not finite: for
# a verdict, or because a status tells of them.
FINITE = {
    "TrainingProblem: x": (X, lambda a: TrainingProblem(NETWORK, a, Y)),
    "TrainingProblem: y": (Y, lambda a: TrainingProblem(NETWORK, X, a)),
    "Network.predict: x": (X, lambda a: NETWORK.predict(START.controls, a)),
    "Model.predict: x": (X, lambda a: MODEL.predict(a)),
    "Scaler.fit: table": (X, Scaler.fit),
    "Scaler.transform: table": (X, lambda a: Scaler.fit(X).transform(a)),
    "Scaler: mean": (np.ones(3), lambda a: Scaler(a, np.ones(3))),
    "Scaler: scale": (np.ones(3), lambda a: Scaler(np.ones(3), a)),
    "check_derivatives: x": (X, lambda a: ocp_nn.check_derivatives(NETWORK, a)),
    "choose_weight_decay: x": (X, lambda a: choose_weight_decay(NETWORK, a, Y, [1.0], repeats=1, options=LOOSE)),
    "choose_weight_decay: y": (Y, lambda a: choose_weight_decay(NETWORK, X, a, [1.0], repeats=1, options=LOOSE)),
}
REAL = {
    "check_controls: controls[0]": (START.controls[0], lambda a: NETWORK.check_controls([a, START.controls[1]])),
    "predict: controls[1]": (START.controls[1], lambda a: NETWORK.predict([START.controls[0], a], X)),
    "rollout: controls[0]": (START.controls[0], lambda a: PROBLEM.rollout([a, START.controls[1]])),
    "solve: controls[0]": (START.controls[0], lambda a: solve(PROBLEM, [a, START.controls[1]])),
    "Trajectory: controls[0]": (START.controls[0], lambda a: replace(START, controls=(a, START.controls[1]))),
    "Trajectory: states[1]": (START.states[1], lambda a: replace(START, states=(START.states[0], a))),
    "Trajectory: multipliers[1]": (START.states[1], lambda a: replace(START, multipliers=(START.states[0], a))),
    "Model: controls[0]": (START.controls[0], lambda a: Model(NETWORK, [a, START.controls[1]])),
    "Scaler.inverse: table": (X, lambda a: Scaler.fit(X).inverse(a)),
    "Subproblem: controls[0]": (SUB.controls[0], lambda a: replace(SUB, controls=(a, *SUB.controls[1:]))),
    "Subproblem: gaps[1]": (SUB.gaps[1], lambda a: replace(SUB, gaps=(SUB.gaps[0], a))),
    "Subproblem: residual": (SUB.residual, lambda a: replace(SUB, terms=(replace(SUB.terms[0], residual=a),))),
    "unpack: x": (multiple_shooting(PROBLEM).pack(START)["x0"], lambda a: multiple_shooting(PROBLEM).unpack(a)),
    "Dataset: x": (
        X,
        lambda a: Dataset(name="d", x=a, y=Y, feature_names=("a", "b", "c"), target_names=("t",)),
    ),
}


def refusal(take, given) -> str:
    with pytest.raises(ValueError) as error:
        take(given)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300
    return str(error.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("entry", FINITE | REAL)
def test_what_is_no_real_number_is_refused_by_name(entry, kind):
    good, take = (FINITE | REAL)[entry]
    argument = entry.partition(": ")[2]
    if (entry, kind) == ("check_derivatives: x", "nothing"):
        return  # its default
    assert f"{argument} must " in refusal(take, KINDS[kind](good))


@pytest.mark.parametrize("kind", NOT_FINITE)
@pytest.mark.parametrize("entry", FINITE)
def test_what_is_not_finite_is_refused_with_its_place(entry, kind):
    good, take = FINITE[entry]
    row, *column = np.unravel_index(good.size - 2, good.shape)
    place = f"in row {row}, column {column[0]}" if column else f"at position {row}"
    argument = entry.partition(": ")[2]
    expected = f"{argument} must be finite, received {NOT_FINITE[kind]} {place}"
    assert refusal(take, with_value(good, NOT_FINITE[kind])) == expected


@pytest.mark.parametrize("entry", FINITE | REAL)
def test_the_good_ones_are_taken_however_they_are_written(entry):
    good, take = (FINITE | REAL)[entry]
    whole = np.round(good)
    for same in (
        good,
        good.tolist(),
        np.asfortranarray(good),
        whole.astype(int),
        good.astype(object),
        good.astype(np.float32),
        np.ma.array(good),
        np.ma.array(good, mask=np.zeros(good.shape, bool)),
    ):
        take(same)


SHAPES = {
    "one dimension too few": (X.ravel(), "(12,)"),
    "one too many": (X[None], "(1, 4, 3)"),
    "a number": (1.0, "()"),
    "columns for rows": (X.T, "(3, 4)"),
    "nothing in it": (np.zeros((4, 0)), "(4, 0)"),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "entry", [name for name in FINITE if name.endswith(": x") or name == "Scaler.transform: table"]
)
def test_a_wrong_shape_is_shown_beside_the_right_one(entry, shape):
    given, shown = SHAPES[shape]
    argument = entry.partition(": ")[2]
    message = refusal(FINITE[entry][1], given)
    assert message == f"{argument} must have shape (N, 3) with one row a sample, received {shown}"


def test_a_data_set_names_itself_and_the_column():
    for given, words in ((X > 3, "d: x must hold real numbers, received booleans"),
                         (with_value(X, np.nan), "d: column 'b' has the value nan in sample 4")):  # fmt: skip
        assert refusal(REAL["Dataset: x"][1], given) == words


class Frame:
    """What a data frame is to NumPy: an array of what its columns have in common, and names."""

    def __init__(self, *columns):
        self.columns = [f"c{j}" for j in range(len(columns))]
        self._table = np.stack([np.asarray(column) for column in columns], axis=1)

    def __array__(self, dtype=None, copy=None):
        return self._table if dtype is None else self._table.astype(dtype)


def test_data_frames_bring_numbers_and_indicators():
    mixed = Frame(np.array([1, 2], object), np.array([True, False], object), np.array([1.5, 2.5], object))
    np.testing.assert_array_equal(checks.table("x", mixed, 3), [[1, 1, 1.5], [2, 0, 2.5]])
    np.testing.assert_array_equal(checks.table("x", Frame([True, False]), 1), [[1], [0]])
    assert "received '1' in row 0, column 0" in refusal(lambda f: checks.table("x", f), Frame(np.array(["1"], object)))


# ---- starting points


def trajectory_with(part, value):
    arrays = [array.copy() for array in getattr(START, part)]
    arrays[1].flat[1] = value
    return replace(START, **{part: tuple(arrays)})


SOLVERS = {
    "ours": lambda start: solve(PROBLEM, start),
    "IPOPT": lambda start: solve_ipopt(multiple_shooting(PROBLEM), start),
    "another": lambda start: ocp_nn.solve_nlp(multiple_shooting(PROBLEM), "sqpmethod", start),
}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("part", ["states", "multipliers"])
def test_a_start_that_is_not_finite_is_blamed_on_its_part(solver, part, value):
    message = refusal(SOLVERS[solver], trajectory_with(part, value))
    assert message == f"{part}[1] must be finite, received {value} in row 0, column 1"


@pytest.mark.parametrize("solver", ["ours", "IPOPT"])
def test_controls_that_are_not_finite_are_a_status(solver):
    assert SOLVERS[solver](trajectory_with("controls", np.nan)).status is Status.NON_FINITE


def test_a_certificate_can_be_asked_for_a_point_that_is_not_finite():
    assert not ocp_nn.certify(PROBLEM, trajectory_with("multipliers", np.nan)).finite


@pytest.mark.parametrize(
    "start",
    [3, "x", b"1", np.array(1), {1.0}, memoryview(b"1"), START.controls[0], {"controls": START.controls}, [None, None]],
)
def test_what_is_no_start_is_refused(start):
    assert "control" in refusal(SOLVERS["ours"], start)


# ---- the estimator


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("dates", "records", "a symbol", "a word", "ragged")])
@pytest.mark.parametrize("what", ["X", "y"])
def test_the_estimator_refuses_them_too(what, kind):
    pytest.importorskip("sklearn")
    model = ocp_nn.OCPRegressor((2,), weight_decay=1.0, random_state=0)
    x, y = np.arange(36.0).reshape(12, 3), np.arange(12.0)
    bad = {"X": KINDS[kind](x), "y": y} if what == "X" else {"X": x, "y": KINDS[kind](y)}
    with pytest.raises((ValueError, TypeError)) as error:
        model.fit(**bad)
    if kind not in ("complex", "complex among objects", "an array among objects", "None among objects", "nothing"):
        assert str(error.value).startswith(f"{what} must "), "scikit-learn's own words are for the others"
