"""A data set loads with the right numbers and names, or not at all, with one sentence that says where and what."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from ocp_nn.data import BUILTIN, DataError, Dataset, describe_builtin, load_dataset

UCI = Path(__file__).parents[2] / "shared/data/uci"

GOOD = "a,b,price\n1,10,100\n2,30,150\n4,20,130\n"


@pytest.fixture
def write(tmp_path):
    def write(text: str | bytes, name: str = "houses.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def test_csv_with_a_named_target(write):
    data = load_dataset(write(GOOD), target="price")
    assert (data.name, data.feature_names, data.target_names) == ("houses", ("a", "b"), ("price",))
    np.testing.assert_array_equal(data.x, [[1, 10], [2, 30], [4, 20]])
    np.testing.assert_array_equal(data.y, [[100], [150], [130]])


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace(",", ";"),
        GOOD.replace(",", "\t"),
        GOOD.replace(",", "|"),
        GOOD.replace(",", ", "),
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("\n", "\n\n"),
        "\ufeff" + GOOD,
        GOOD.replace("a,b,price", '"a","b","price"'),
    ],
    ids=["semicolon", "tab", "bar", "spaces", "crlf", "blank lines", "byte order mark", "quotes"],
)
def test_dialects_mean_the_same(write, text):
    data = load_dataset(write(text), target="price")
    assert data.feature_names == ("a", "b")
    np.testing.assert_array_equal(np.hstack([data.x, data.y]), [[1, 10, 100], [2, 30, 150], [4, 20, 130]])


def test_several_targets_in_the_order_of_the_file(write):
    data = load_dataset(write(GOOD), target=["price", "a"])
    assert (data.feature_names, data.target_names) == (("b",), ("a", "price"))


BAD_FILES = {
    "no target named": (GOOD, None, "which column is the target? Name one of: a, b, price"),
    "missing target": (GOOD, "size", "no column 'size' to take as target; the columns are: a, b, price"),
    "text in a column": (GOOD.replace("30", "old"), "price", "line 3: 'old' in column 'b' is not a number"),
    "decimal comma": (GOOD.replace(",", ";").replace("30", "3,5"), "price", "'3,5' in column 'b' is not a number"),
    "underscores": (GOOD.replace("30", "3_0"), "price", "line 3: '3_0' in column 'b' is not a number"),
    "NaN": (GOOD.replace("30", "NaN"), "price", "line 3: 'NaN' in column 'b' is not finite"),
    "infinity": (GOOD.replace("150", "inf"), "price", "line 3: 'inf' in column 'price' is not finite"),
    "missing value": (GOOD.replace("30", ""), "price", "line 3: no value in column 'b'"),
    "constant input": ("a,b\n1,1\n1,2\n1,3\n", "b", "column 'a' is constant (1 in all 3 samples)"),
    "constant target": ("a,b\n1,7\n2,7\n3,7\n", "b", "column 'b' is constant (7 in all 3 samples)"),
    "empty file": ("", "price", "the file is empty"),
    "blank file": ("\n \n", "price", "the file is empty"),
    "header only": ("a,b,price\n", "price", "0 row(s) of numbers, at least 2 are needed"),
    "one row": ("a,b,price\n1,2,3\n", "price", "1 row(s) of numbers, at least 2 are needed"),
    "short row": (GOOD + "1,2\n", "price", "line 5: 2 cells where 3 are expected"),
    "long row": (GOOD + "1,2,3,4\n", "price", "line 5: 4 cells where 3 are expected"),
    "duplicate names": (GOOD.replace("b", "a"), "price", "column name 'a' appears more than once"),
    "unnamed column": (GOOD.replace("b", ""), "price", "column 2 has no name"),
    "no header": ("1,2,3\n4,5,6\n7,8,10\n", "price", "a header with the column names is needed"),
    "only targets": ("a,b\n1,2\n2,4\n", ["a", "b"], "no inputs are left"),
    "not text": (b"a,b\n\xff\xfe\x00,1\n", "b", "not text in UTF-8"),
    "broken quotes": ('a,b\n"1,2\n3,4\n', "b", "line 2: unexpected end of data"),
}


@pytest.mark.parametrize(("text", "target", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_file(write, text, target, message):
    path = write(text)
    with pytest.raises(DataError) as error:
        load_dataset(path, target=target)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file_and_unknown_name(tmp_path):
    with pytest.raises(DataError, match=r"gone\.csv: no such file or folder"):
        load_dataset(tmp_path / "gone.csv")
    with pytest.raises(DataError, match="unknown data set 'diabets': expected one of diabetes, sin2x"):
        load_dataset("diabets")
    with pytest.raises(DataError, match=r"data\.txt, index_features\.txt, index_target\.txt missing"):
        load_dataset(tmp_path)


def test_folder(tmp_path):
    (tmp_path / "data.txt").write_text("1 5 10\n2\t6  30\n3 9 20\n\n")
    (tmp_path / "index_features.txt").write_text("0\n2\n")
    (tmp_path / "index_target.txt").write_text("1\n")
    data = load_dataset(tmp_path)
    np.testing.assert_array_equal(data.x, [[1, 10], [2, 30], [3, 20]])
    np.testing.assert_array_equal(data.y, [[5], [6], [9]])
    with pytest.raises(DataError, match=r"its target is fixed \(y\)"):
        load_dataset(tmp_path, target="x0")
    (tmp_path / "index_target.txt").write_text("3\n")
    with pytest.raises(DataError, match=r"must lie in 0\.\.2"):
        load_dataset(tmp_path)


@pytest.mark.skipif(not UCI.is_dir(), reason="the shared data are not beside this checkout")
@pytest.mark.parametrize(
    ("name", "shape"),
    [("yacht", (308, 6)), ("bostonHousing", (506, 13)), ("energy", (768, 8)), ("power-plant", (9568, 4))],
)
def test_benchmark_folders(name, shape):
    data = load_dataset(UCI / name)
    assert (data.name, data.x.shape, data.y.shape) == (name, shape, (shape[0], 1))


@pytest.mark.parametrize("name", BUILTIN)
def test_builtin_sets_are_the_same_every_time(name):
    first, second = load_dataset(name), load_dataset(name)
    np.testing.assert_array_equal(first.x, second.x)
    np.testing.assert_array_equal(first.y, second.y)
    assert first.name == name
    assert name in dict(describe_builtin())


def test_synthetic_truth_and_noise():
    data = load_dataset("sin2x")
    assert (data.x.shape, data.y.shape) == ((100, 1), (100, 1))
    assert np.abs(data.x).max() <= 3
    np.testing.assert_array_equal(data.truth, np.sin(2 * data.x))
    assert np.std(data.y - data.truth) == pytest.approx(0.05, rel=0.2)
    friedman = load_dataset("friedman")
    assert np.std(friedman.y - friedman.truth) == pytest.approx(1.0, rel=0.1)
    arm = load_dataset("arm")
    np.testing.assert_array_equal(arm.y, arm.truth)
    elbow = arm.y - np.column_stack([np.cos(arm.x[:, 0]), np.sin(arm.x[:, 0])])
    np.testing.assert_allclose(np.hypot(*elbow.T), 0.7)


def test_diabetes_is_scikit_learns():
    datasets = pytest.importorskip("sklearn.datasets")
    data = load_dataset("diabetes")
    raw = datasets.load_diabetes(scaled=False)
    assert data.x.shape == (442, 10)
    np.testing.assert_array_equal(data.y[:, 0], raw.target)
    np.testing.assert_array_equal(data.x, raw.data)
    assert data.feature_names[2] == "bmi"


def test_diabetes_without_scikit_learn_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"pip install 'ocp-nn\[ml\]'"):
        load_dataset("diabetes")


def test_a_dataset_checks_itself():
    x, y = np.arange(6.0).reshape(3, 2), np.arange(3.0)[:, None]
    good = {"name": "d", "x": x, "y": y, "feature_names": ("a", "b"), "target_names": ("t",)}
    assert Dataset(**good).num_samples == 3
    for change, message in (
        ({"y": y[:2]}, "as many rows"),
        ({"feature_names": ("a",)}, "2 columns but 1 names"),
        ({"x": np.where(x == 3, np.nan, x)}, "column 'b' has the value nan in sample 2"),
        ({"x": x[:, :0], "feature_names": ()}, "no input columns"),
    ):
        with pytest.raises(DataError, match=message):
            Dataset(**(good | change))
