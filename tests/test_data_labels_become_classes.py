"""Labels in a target column become classes, sorted, with targets as their loss needs; what is no label is refused."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

from ocp_nn.learning.data import BUILTIN, DataError, Dataset, load_dataset, stratified_split
from ocp_nn.learning.experiment import Experiment

WORDS = ["b", "a", "c", "a", "b", "c", "a", "c", "b", "a"]


def written(tmp_path, labels, separator=",", header="x,kind"):
    path = tmp_path / "t.csv"
    rows = "\n".join(f"{k}{separator}{label}" for k, label in enumerate(labels))
    path.write_text(f"{header.replace(',', separator)}\n{rows}\n", encoding="utf-8")
    return path


def loaded(tmp_path, labels, **options) -> Dataset:
    return load_dataset(written(tmp_path, labels), target="kind", **options)


def test_words_are_classes_without_being_told(tmp_path):
    data = loaded(tmp_path, WORDS)
    assert (data.classes, data.loss) == (("a", "b", "c"), "softmax")
    assert data.labels.tolist() == WORDS
    np.testing.assert_array_equal(data.y, [[w == c for c in "abc"] for w in WORDS])
    assert data.target_names == ("kind=a", "kind=b", "kind=c")


def test_two_words_are_zero_and_one_in_their_order(tmp_path):
    data = loaded(tmp_path, ["yes", "no"] * 5)
    assert (data.classes, data.loss, data.target_names) == (("no", "yes"), "logistic", ("kind=yes",))
    np.testing.assert_array_equal(data.y, [[1.0], [0.0]] * 5)
    both = loaded(tmp_path, ["yes", "no"] * 5, loss="softmax")
    np.testing.assert_array_equal(both.y, [[0.0, 1.0], [1.0, 0.0]] * 5)


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        (["1", "2"], (1, 2)),
        (["1.0", "0"], (0, 1)),
        (["10", "9"], (9, 10)),
        (["-1", "+1"], (-1, 1)),
        (["1", "x"], ("1", "x")),
    ],
)
def test_whole_numbers_are_labels_where_the_loss_asks_for_them(cells, classes, tmp_path):
    data = loaded(tmp_path, cells * 5, loss="logistic")
    assert data.classes == classes
    assert all(type(found) is type(label) for found, label in zip(data.classes, classes, strict=True))


def test_numbers_are_quantities_otherwise(tmp_path):
    for loss in ("auto", "squared", "huber", "poisson"):
        data = loaded(tmp_path, [1, 2] * 5, loss=loss)
        assert (data.classes, data.loss) == ((), "squared" if loss == "auto" else loss)
        np.testing.assert_array_equal(data.y[:, 0], [1.0, 2.0] * 5)
    assert data.labels.size == 0


def test_decimal_commas_are_no_words(tmp_path):
    path = written(tmp_path, ["1,5", "2,25", "3,5"] * 3, ";")
    assert load_dataset(path, target="kind").classes == ()
    with pytest.raises(DataError, match="line 2: '1,5' in column 'kind' is no label of a class"):
        load_dataset(path, target="kind", loss="softmax")


REFUSED = {
    "one class": (["a"] * 9, {}, "t: column 'kind' has one class alone ('a'); at least two are needed"),
    "a quantity": (range(9), {"loss": "softmax"}, "t: column 'kind' has 9 classes in 9 samples; quantities are for"),
    "three for two": (WORDS, {"loss": "logistic"}, "has 3 classes (a, b, c), and logistic is for two: use softmax"),
    "fractions": (["1", "2.5"] * 4, {"loss": "logistic"}, "line 3: '2.5' in column 'kind' is no label of a class"),
    "beyond exact": (["1", "1e300"] * 4, {"loss": "softmax"}, "line 3: '1e300' in column 'kind' is no label"),
    "empty": (["a", "", "b", "a"], {}, "line 3: no value in column 'kind'"),
    "not a number": (["1", "2", "nan"] * 3, {"loss": "softmax"}, "line 4: 'nan' in column 'kind' is not finite"),
    "a word among numbers": (["1", "2", "x"] * 3, {}, "line 4: 'x' in column 'kind' is not a number"),
    "words for squares": (WORDS, {"loss": "squared"}, "line 2: 'b' in column 'kind' is not a number"),
    "negative counts": (["1", "-2"] * 4, {"loss": "poisson"}, "t: poisson loss needs targets >= 0, received -2"),
    "unknown loss": (WORDS, {"loss": "hinge"}, "loss must be one of auto, squared, huber, logistic, softmax, poisson"),
}  # fmt: skip


@pytest.mark.parametrize(("labels", "options", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_label_is_one_sentence(labels, options, words, tmp_path):
    with pytest.raises(DataError, match=re.escape(words)) as error:
        loaded(tmp_path, labels, **options)
    assert "\n" not in str(error.value)


def test_classes_need_one_column(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x,a,b\n" + "\n".join(f"{k},u{k % 2},{k}" for k in range(9)))
    with pytest.raises(DataError, match=r"classes need one target column, received 2 \(a, b\)"):
        load_dataset(path, target=["a", "b"])


@pytest.mark.parametrize(
    ("name", "loss", "words"),
    [
        ("sin2x", "logistic", "sin2x, sample 1: 0.930294 in column 'y' is no label of a class"),
        ("sin2x", "poisson", "sin2x: poisson loss needs targets >= 0"),
        ("arm", "softmax", "arm: classes need one target column, received 2 (y1, y2)"),
    ],
)
def test_built_in_quantities_are_no_labels(name, loss, words):
    with pytest.raises(DataError, match=re.escape(words)):
        load_dataset(name, loss=loss)


# --- the sets of scikit-learn


@pytest.mark.parametrize(
    ("name", "column", "shape", "loss"),
    [
        ("iris", "species", (150, 4), "softmax"),
        ("wine", "cultivar", (178, 13), "softmax"),
        ("breast_cancer", "diagnosis", (569, 30), "logistic"),
        ("digits", "digit", (1797, 61), "softmax"),
    ],
)
def test_sets_of_classes_are_scikit_learns(name, column, shape, loss):
    datasets = pytest.importorskip("sklearn.datasets")
    raw = getattr(datasets, f"load_{name}")()
    data = load_dataset(name)
    assert (data.x.shape, data.loss, BUILTIN[name].loss) == (shape, loss, loss)
    np.testing.assert_array_equal(data.x, raw.data[:, raw.data.std(axis=0) > 0])
    np.testing.assert_array_equal(data.labels, raw.target_names[raw.target])
    assert load_dataset(name, target=column, drop=data.feature_names[0]).num_features == shape[1] - 1
    assert load_dataset(name, loss="softmax").y.shape == (shape[0], len(raw.target_names))
    with pytest.raises(DataError, match=f"{name}: its targets are classes, and the loss squared is for quantities"):
        load_dataset(name, loss="squared")


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "digits"])
def test_without_scikit_learn_they_name_the_extra(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=rf"the {name} set comes with scikit-learn, .*: pip install 'ocp-nn\[ml\]'"):
        load_dataset(name)


# --- parts and scales


@pytest.mark.parametrize("seed", range(20))
def test_every_class_has_its_share_in_both_parts(seed):
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, rng.integers(20, 300), p=[0.6, 0.25, 0.1, 0.05])
    size = rng.choice([0.1, 0.3, 0.5])
    split = stratified_split(labels, size, seed)
    assert sorted([*split.train, *split.test]) == list(range(len(labels)))
    assert len(split.test) == round(size * len(labels))
    for label in np.unique(labels):
        count, held_out = (labels == label).sum(), (labels[split.test] == label).sum()
        assert abs(held_out - size * count) < 2
        assert held_out < count


def test_a_class_of_one_sample_is_trained_on():
    labels = ["a"] * 9 + ["b"]
    assert all(9 in stratified_split(labels, 0.5, seed).train for seed in range(20))
    assert not np.array_equal(stratified_split(labels, 0.3, 0).test, stratified_split(labels, 0.3, 1).test)


def test_classes_and_counts_are_not_scaled(tmp_path):
    for labels, loss in ((WORDS, "auto"), ([1, 5] * 5, "logistic"), ([0, 7] * 5, "poisson")):
        scaler = Experiment.prepare(loaded(tmp_path, labels, loss=loss), (3,)).y_scaler
        assert (scaler.mean == 0).all() and (scaler.scale == 1).all()


def test_outliers_do_not_move_the_scale_of_hubers_loss(tmp_path):
    values = np.random.default_rng(0).normal(5.0, 2.0, 400)
    values[:20] = 1e6
    scaler = Experiment.prepare(loaded(tmp_path, values.tolist(), loss="huber"), (3,)).y_scaler
    np.testing.assert_allclose([scaler.mean[0], scaler.scale[0]], [5.0, 2.0], rtol=0.15)
    codes = Experiment.prepare(loaded(tmp_path, [3.0] * 90 + [4.0] * 10, loss="huber"), (3,))
    assert codes.y_scaler.scale[0] == pytest.approx(codes.measured("train").std(), rel=1e-12)
