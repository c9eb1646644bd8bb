"""A data set loads with the right numbers and names, or not at all, with one sentence that says where and what."""

from __future__ import annotations

import csv
import gzip
import sys
from pathlib import Path

import numpy as np
import pytest

from ocp_nn.learning.data import BUILTIN, DataError, Dataset, describe_builtin, load_dataset
from ocp_nn.learning.data.files import read_columns

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


def test_a_packed_file_is_the_same(write):
    packed = load_dataset(write(gzip.compress(GOOD.encode()), "houses.csv.gz"), target="price")
    plain = load_dataset(write(GOOD), target="price")
    assert (packed.name, packed.feature_names) == (plain.name, plain.feature_names)
    np.testing.assert_array_equal(packed.x, plain.x)


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
    "comma and point": (
        GOOD.replace(",", ";").replace("30", "3,5").replace("20", "2.5"),
        "price",
        "line 3: '3,5' in column 'b' has a comma where other cells have decimal points; use points in the whole file",
    ),
    "comma or thousands": (
        GOOD.replace(",", ";").replace("100", "1,100"),
        "price",
        "line 2: '1,100' in column 'price' may have a decimal comma or a thousands separator; write points",
    ),
    "thousands": (
        GOOD.replace(",", ";").replace("100", "1.100,5"),
        "price",
        "'1.100,5' in column 'price' has",
    ),
    "thousands, quoted": (
        GOOD.replace("100", '"1,100.5"'),
        "price",
        "'1,100.5' in column 'price' has thousands",
    ),
    "thousands, blank": (GOOD.replace("100", "1 100"), "price", "'1 100' in column 'price' has thousands separators"),
    "comma in a comma-separated file": (GOOD.replace("30", "3,5"), "price", "line 3: 4 cells where 3 are expected"),
    "other digits": (GOOD.replace("30", "\u0663\u0660"), "price", "in column 'b' is not a number"),
    "zero bytes": (GOOD.replace("30", "3\0"), "price", "not text (byte 22 is zero)"),
    "UTF-16": (GOOD.encode("utf-16"), "price", "text in UTF-16, expected UTF-8"),
    "latin-1": (GOOD.replace("b", "b\u00e4").encode("latin-1"), "price", "not text in UTF-8 (byte 3)"),
    "binary": (bytes(range(256)) * 40, "price", "not text"),
    "a long line": (GOOD + "1," + "2" * 200_000 + ",3\n", "price", "line 5: field larger than field limit (131072)"),
    "many columns": (",".join(f"c{j}" for j in range(5000)) + "\n1\n", "x", "c8, c9 and 4990 more"),
    "a long name": (GOOD.replace("b", "b" * 5000), "size", "bbbbb..., price"),
    "unit twice": ("v [m],v [m],y\n1,2,3\n2,3,4\n", "y", "column name 'v [m]' appears more than once"),
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


DECIMALS = {
    "semicolons": "a;b;price\n1,5;2;3\n2;3,25;1e1\n4;5;-0,5\n",
    "tabs": "a\tb\tprice\n1,5\t2\t3\n2\t3,25\t1e1\n4\t5\t-0,5\n",
    "quoted": 'a,b,price\n"1,5",2,3\n2,"3,25",1e1\n4,5,"-0,5"\n',
    "three digits": "a;b;price\n1,500;2,000;3\n2;3,250;1,0e1\n4;5;-0,500\n",
}


@pytest.mark.parametrize("text", DECIMALS.values(), ids=DECIMALS)
def test_decimal_commas_are_read_where_they_can_be_nothing_else(write, text):
    data = load_dataset(write(text), target="price")
    np.testing.assert_array_equal(np.hstack([data.x, data.y]), [[1.5, 2, 3], [2, 3.25, 10], [4, 5, -0.5]])


def test_separators_in_names_and_in_columns_that_are_left_out(write):
    text = '"a, raw";"b;c";price;note\n1;10;100;"x;y, z"\n2;30;150;"1,5"\n4;20;130;2.5\n'
    data = load_dataset(write(text), target="price", drop="note")
    assert data.feature_names == ("a, raw", "b;c")
    np.testing.assert_array_equal(np.hstack([data.x, data.y]), [[1, 10, 100], [2, 30, 150], [4, 20, 130]])


UNITS = "speed [m/s],temp (\u00b0C),f(x),w[kg],price (EUR)\n1,10,3,5,100\n2,30,4,6,150\n4,20,6,1,130\n"


@pytest.mark.parametrize("target", ["price", "price (EUR)", "price [EUR]"])
def test_units_stand_in_brackets_behind_the_names(write, target):
    data = load_dataset(write(UNITS), target=target)
    assert data.feature_names == ("speed", "temp", "f(x)", "w")
    assert data.feature_units == ("m/s", "\u00b0C", "", "kg")
    assert data.feature_labels == ("speed [m/s]", "temp [\u00b0C]", "f(x)", "w [kg]")
    assert (data.target_names, data.target_units, data.units) == (("price",), ("EUR",), "EUR")
    assert data.target_labels == ("price [EUR]",)


def test_columns_that_only_their_brackets_tell_apart_keep_them(write):
    data = load_dataset(write("x[0],x[1],y [mm]\n1,2,3\n2,3,5\n"), target="y")
    assert (data.feature_names, data.feature_units, data.units) == (("x[0]", "x[1]"), ("", ""), "mm")


def test_targets_of_several_units_have_none_in_common(write):
    data = load_dataset(write(UNITS), target=["price", "w"])
    assert (data.target_labels, data.units) == (("w [kg]", "price [EUR]"), "")


CHOICES = {
    "features": ({"features": ["w", "speed"]}, ("speed", "w")),
    "feature with unit": ({"features": "speed [m/s]"}, ("speed",)),
    "drop": ({"drop": ["temp (\u00b0C)", "f(x)"]}, ("speed", "w")),
    "drop none": ({"drop": []}, ("speed", "temp", "f(x)", "w")),
}


@pytest.mark.parametrize(("choice", "names"), CHOICES.values(), ids=CHOICES)
def test_inputs_can_be_chosen_or_left_out(write, choice, names):
    data, whole = (load_dataset(write(UNITS), target="price", **c) for c in (choice, {}))
    assert data.feature_names == names
    np.testing.assert_array_equal(data.x, whole.x[:, [whole.feature_names.index(name) for name in names]])


def test_what_is_left_out_may_hold_anything(write):
    text = "a,b,price\n1,old,100\n2,,150\n4,NaN,130\n"
    for choice in ({"drop": "b"}, {"features": "a"}):
        data = load_dataset(write(text), target="price", **choice)
        np.testing.assert_array_equal(data.x, [[1], [2], [4]])


@pytest.mark.parametrize("name", ["friedman", "folder"])
def test_inputs_of_known_data_can_be_chosen_too(tmp_path, name):
    if name == "folder":
        rows = np.random.default_rng(0).uniform(size=(9, 4))
        np.savetxt(tmp_path / "data.txt", rows)
        (tmp_path / "index_features.txt").write_text("0\n1\n2\n")
        (tmp_path / "index_target.txt").write_text("3\n")
        name = tmp_path
    whole = load_dataset(name)
    np.testing.assert_array_equal(
        load_dataset(name, drop="x1").x, np.delete(whole.x, whole.feature_names.index("x1"), 1)
    )
    assert load_dataset(name, features=["x2", "x1"]).feature_names == ("x1", "x2")
    with pytest.raises(DataError, match="no column 'x11' to take among the inputs; the columns are: x"):
        load_dataset(name, drop="x11")


BAD_CHOICES = {
    "unknown": ({"drop": "size"}, "no column 'size' to take among the inputs; the columns are: a, b"),
    "the target": ({"features": ["a", "price"]}, "no column 'price' to take among the inputs; the columns are: a, b"),
    "both": ({"features": "a", "drop": "b"}, "name the features to keep or those to drop, not both"),
    "none left": ({"drop": ["a", "b"]}, "no input is left of a, b"),
    "nothing chosen": ({"features": []}, "no input is left of a, b"),
}


@pytest.mark.parametrize(("choice", "message"), BAD_CHOICES.values(), ids=BAD_CHOICES)
def test_bad_choices_of_inputs(write, choice, message):
    with pytest.raises(DataError) as error:
        load_dataset(write(GOOD), target="price", **choice)
    assert message in str(error.value)


def test_columns_are_found_by_name_and_unit(write):
    path = write(UNITS)
    table, targets = read_columns(path, ["w [kg]", "speed", "temp (\u00b0C)"], ["price [EUR]"])
    np.testing.assert_array_equal(np.hstack([table, targets])[0], [5, 1, 10, 100])
    assert read_columns(write("speed,price\n1,2\n"), ["speed [m/s]"])[0] == [[1]]
    with pytest.raises(DataError, match=r"houses\.csv: column speed \[m/s\] is expected in km/h; convert it"):
        read_columns(write(UNITS), ["speed [km/h]"])


INDEX_FILES = {
    "infinite": ("0\ninf\n", "received 'inf'"),
    "NaN": ("nan", "received 'nan'"),
    "negative": ("-1", "received '-1'"),
    "too large": ("3", "0-based column numbers in 0..2 are expected, received '3'"),
    "huge": ("1e400", "received '1e400'"),
    "very long": ("9" * 5000, "999..."),
    "fraction": ("0.5", "received '0.5'"),
    "words": ("one", "received 'one'"),
    "twice": ("0\n0.0\n", "column 0 appears more than once"),
    "empty": ("", "received an empty file"),
    "the target": ("0\n1\n", "column 1 is both an input and a target"),
    "binary": (b"\xff\x00\x80", "not text in UTF-8"),
    "UTF-16": ("0\n2\n".encode("utf-16"), "text in UTF-16"),
}


@pytest.mark.parametrize(("text", "message"), INDEX_FILES.values(), ids=INDEX_FILES)
def test_bad_index_files(tmp_path, text, message):
    (tmp_path / "data.txt").write_text("1 5 10\n2 6 30\n3 9 20\n")
    (tmp_path / "index_target.txt").write_text("1\n")
    (tmp_path / "index_features.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError) as error:
        load_dataset(tmp_path)
    assert message in str(error.value)
    assert len(str(error.value)) < 300


def test_what_is_no_file_of_text(tmp_path):
    with pytest.raises(DataError, match="/dev/null: a device, expected a file with a table"):
        load_dataset("/dev/null", target="y")
    with pytest.raises(DataError, match="a folder, expected a file with a table"):
        read_columns(tmp_path, ["x"])
    (tmp_path / "data.txt").mkdir()
    with pytest.raises(DataError, match=r"data\.txt, index_features\.txt, index_target\.txt missing"):
        load_dataset(tmp_path)


def test_a_file_that_may_not_be_read(write, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=r"houses\.csv: cannot be read: Permission denied"):
        load_dataset(write(GOOD), target="price")


def test_mutated_tables_are_refused_or_what_another_reader_makes_of_them(write):
    """Bytes changed, cut out and doubled, in a table with quotes, units and blank lines."""
    rng = np.random.default_rng(0)
    text = b'a [m],"b, c",price\n1.5,10,100\n\n2,"30",150\n4,20.25,1.3e2\n'
    alphabet = b'0123456789.,;\t"|eE+-naif []()\n\r\0\xc3\xa4\xff'
    loaded = 0
    for _ in range(1500):
        data = bytearray(text)
        for _ in range(rng.integers(1, 4)):
            start = int(rng.integers(len(data)))
            end = start + int(rng.integers(3))
            data[start:end] = bytes(rng.choice(list(alphabet), rng.integers(4)).tolist())
        try:
            table = load_dataset(write(bytes(data)), target="price")
        except DataError as error:
            assert "houses" in str(error) and "\n" not in str(error)
        else:
            loaded += 1
            assert_as_csv_reads(bytes(data), table)
    assert loaded > 100


def assert_as_csv_reads(content: bytes, table: Dataset) -> None:
    """The numbers are those of the standard library's reader, with decimal commas as points."""
    text = content.decode("utf-8-sig")
    readings = []
    for delimiter in ",;\t|":
        rows = [row for row in csv.reader(text.splitlines(), delimiter=delimiter, skipinitialspace=True) if any(row)]
        try:
            readings.append([[float(cell.replace(",", ".")) for cell in row] for row in rows[1:]])
        except ValueError:
            continue
    columns = np.hstack([table.x, table.y])
    assert any(sorted(map(sorted, reading)) == sorted(map(sorted, columns.tolist())) for reading in readings), content


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
    with pytest.raises(DataError, match=r"in 0\.\.2 are expected, received '3'"):
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
