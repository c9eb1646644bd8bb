"""A model knows its training range: it warns once about rows far outside, and files and exports know the range too."""

from __future__ import annotations

import pickle
import warnings

import casadi as ca
import numpy as np
import pytest

import ocp_nn
from ocp_nn import Dataset, ExtrapolationWarning, Model, Network, TrainingProblem
from ocp_nn.cli import main
from ocp_nn.export import onnx_model, write_c, write_casadi, write_numpy, write_onnx
from ocp_nn.learning.data import Scaler
from ocp_nn.learning.experiment import Experiment

NETWORK = Network.mlp([2, 3, 1])
RANGE = np.array([[0.0, -1.0], [10.0, 1.0]])
INSIDE = [[-10.0, 3.0], [20.0, -3.0]]  # one width beyond, to the digit


def model(x_range=RANGE, **settings):
    return Model(NETWORK, NETWORK.init_controls(0), x_range=x_range, features=["heat", "feed"], **settings)


def test_one_width_beyond_the_range_is_near_enough():
    assert model().extrapolation(INSIDE) == ""
    model().predict(INSIDE)


FAR = {
    "above": (
        [[20.1, 0.0]],
        "1 of 1 samples lie far outside .*'heat' is 20.1 in sample 1, and was 0 to 10 in training",
    ),
    "below": ([[0.0, 0.0], [0.0, -3.1]], "1 of 2 samples .*'feed' is -3.1 in sample 2, and was -1 to 1"),
    "the furthest is named": ([[21.0, 0.0], [0.0, 9.0], [0.0, 5.0]], "3 of 3 samples .*'feed' is 9 in sample 2"),
}


@pytest.mark.parametrize(("x", "words"), FAR.values(), ids=FAR)
def test_a_warning_names_the_feature_and_the_value(x, words):
    with pytest.warns(ExtrapolationWarning, match=words):
        model().predict(x)


def test_it_is_said_once_by_predict_and_always_by_extrapolation():
    one = model()
    with pytest.warns(ExtrapolationWarning):
        one.predict([[1e3, 0.0]])
    one.predict([[1e3, 0.0]])
    assert "'heat' is 1000" in one.extrapolation([[1e3, 0.0]])


def test_pythons_own_filters_decide():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model().predict([[1e3, 0.0]])
    one = model()
    for _ in range(2):  # raised, it has not been said
        with warnings.catch_warnings(), pytest.raises(ExtrapolationWarning):
            warnings.simplefilter("error")
            one.predict([[1e3, 0.0]])


def test_where_a_feature_was_constant_any_other_value_is_far():
    constant = model([[0.3, 0.0], [0.3, 1.0]])
    assert constant.extrapolation([[np.nextafter(0.3, 1), 0.5]]) == ""
    assert "'heat' is 0.31" in constant.extrapolation([[0.31, 0.5]])


def test_without_ranges_nothing_is_said():
    model(None).predict([[1e9, 0.0]])


@pytest.mark.parametrize("bad", [[[0.0], [1.0]], [[1.0, 0.0], [0.0, 1.0]], [[0.0, 0.0], [np.nan, 1.0]]])
def test_ranges_that_are_none_are_refused(bad):
    with pytest.raises(ValueError, match=r"x_range must be the lowest and the highest value of each of 2 input\(s\)"):
        model(bad)


@pytest.mark.parametrize("bad", [{1}, "ab", [["0", "0"], ["1", "1"]], [[False, False], [True, True]], object()])
def test_ranges_of_no_numbers_are_refused(bad):
    with pytest.raises(ValueError, match="x_range must hold real numbers, received "):
        model(bad)


def test_a_prediction_that_is_no_number_is_refused():
    network = Network.mlp([1, 1])
    steep = Model(network, [np.array([1e10, 0.0])], y_scaler=Scaler(np.zeros(1), np.full(1, 1e299)))
    with pytest.raises(ValueError, match="the prediction for sample 2 is no finite number"):
        steep.predict([[0.0], [1.0]])
    assert np.isinf(steep.outputs([[1.0]])).all()


X = np.column_stack([np.linspace(0, 10, 30), np.linspace(-1, 1, 30) ** 2])
DATA = Dataset(name="t", x=X, y=np.sin(X[:, :1]), feature_names=("a", "b"), target_names=("y",))


def test_everything_that_trains_sets_them():
    experiment = Experiment.prepare(DATA, (3,))
    train = X[experiment.split.train]
    expected = [train.min(axis=0), train.max(axis=0)]
    controls = experiment.network.init_controls(0)
    np.testing.assert_array_equal(experiment.model(controls).x_range, expected)
    result = ocp_nn.solve(TrainingProblem(Network.mlp([2, 3, 1]), X, DATA.y, 1.0))
    np.testing.assert_array_equal(result.model.x_range, [X.min(axis=0), X.max(axis=0)])
    with pytest.warns(ExtrapolationWarning, match="'x0' is 1000"):
        result.predict([[1000.0, 0.0]])


def test_the_estimator_warns_too():
    pytest.importorskip("sklearn")
    fitted = ocp_nn.OCPRegressor((3,), weight_decay=1.0, random_state=0).fit(X, DATA.y.ravel())
    fitted.predict(X)
    with pytest.warns(ExtrapolationWarning, match="'x1' is 3"):
        fitted.predict([[0.0, 3.0]])


def test_files_keep_them_and_old_files_have_none(tmp_path):
    result = ocp_nn.solve(TrainingProblem(Network.mlp([2, 3, 1]), X, DATA.y, 1.0))
    result.save(tmp_path / "new.npz")
    np.testing.assert_array_equal(ocp_nn.load(tmp_path / "new.npz").model.x_range, result.model.x_range)
    with np.load(tmp_path / "new.npz") as file:
        np.savez(tmp_path / "old.npz", **{name: file[name] for name in file.files if name != "x_range"})
    old = ocp_nn.load(tmp_path / "old.npz")
    assert old.model.x_range is None
    np.testing.assert_array_equal(old.predict(X), result.predict(X))
    assert pickle.loads(pickle.dumps(result.model)).extrapolation([[99.0, 0.0]])


# ---- the command line and the exports


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("arm")
    settings = ["--hidden", "3", "--weight-decay", "1", "--reference", "none", "--quiet", "--out", str(path)]
    assert main(["fit", "arm", *settings]) == 0
    (path / "far.csv").write_text("x1,x2\n0.5,1\n0.5,1000\n")
    (path / "near.csv").write_text("x1,x2\n0.5,1\n")
    return path


def test_the_command_line_says_it_in_one_line_every_time(folder, capsys):
    for _ in range(2):
        assert main(["predict", str(folder), str(folder / "far.csv")]) == 0
        output, errors = capsys.readouterr()
        assert errors.startswith("ocp-nn: warning: 1 of 2 samples lie far outside the training data")
        assert "'x2' is 1000 in sample 2" in errors and errors.count("\n") == 1
        assert output.count("\n") == 3
    assert main(["predict", str(folder), str(folder / "near.csv")]) == 0
    assert capsys.readouterr().err == ""


def test_the_numpy_module_has_them(tmp_path):
    for name, given in (("with", model()), ("without", model(None))):
        write_numpy(given, tmp_path / f"{name}.py")
    spaces = {}
    for name in ("with", "without"):
        exec((tmp_path / f"{name}.py").read_text(), spaces.setdefault(name, {}))
    np.testing.assert_array_equal(spaces["with"]["X_RANGE"], RANGE)
    assert spaces["without"]["X_RANGE"] is None


def test_the_onnx_graph_has_them():
    pytest.importorskip("onnx")
    properties = {p.key: p.value for p in onnx_model(model()).metadata_props}
    assert (properties["x_min"], properties["x_max"]) == ("0.0, -1.0", "10.0, 1.0")


def test_single_precision_that_cannot_hold_the_units_is_refused(tmp_path):
    pytest.importorskip("onnx")
    for scaler in (Scaler(np.zeros(2), np.full(2, 1e160)), Scaler(np.zeros(2), np.full(2, 1e-160))):
        write_onnx(model(x_scaler=scaler), tmp_path / "double.onnx")
        with pytest.raises(ValueError, match="float32 cannot hold x_scale: export in double precision"):
            write_onnx(model(x_scaler=scaler), tmp_path / "single.onnx", dtype="float32")


def test_the_casadi_file_has_them_behind_the_function(tmp_path):
    write_casadi(model(), tmp_path / "model.casadi")
    file = ca.FileDeserializer(str(tmp_path / "model.casadi"))
    function, ranges = file.unpack(), file.unpack()
    np.testing.assert_array_equal(np.array(ranges), RANGE.T)
    np.testing.assert_allclose(float(function([1.0, 0.5])), model().predict([[1.0, 0.5]])[0, 0], rtol=1e-12)


def test_the_c_code_names_them(tmp_path):
    write_c(model(), tmp_path / "model.c")
    assert "/* trained on heat from 0.0 to 10.0, feed from -1.0 to 1.0 */" in (tmp_path / "model.c").read_text()
    write_c(model(None), tmp_path / "model.c")
    assert "range of the training inputs is not known" in (tmp_path / "model.c").read_text()
