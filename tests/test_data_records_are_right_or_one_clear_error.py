"""Records over time load with the right numbers, names and parts, or not at all, with one sentence that says why."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest

from ocp_nn import DataError, load_records

SYSID = Path(__file__).parents[2] / "shared/data/sysid"
GOOD = "t,u [V],w,y [m]\n0,1,10,100\n1,3,30,150\n2,2,20,130\n3,5,50,170\n"


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "run.csv") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return write


@pytest.mark.parametrize("name", ["run.csv", "run.csv.gz"])
def test_named_columns_of_a_file_are_one_record(write, name):
    data = load_records(write(GOOD, name), inputs=["w", "u"], outputs="y", sampling_time=0.5)
    assert (data.name, data.input_names, data.output_names) == ("run", ("w", "u"), ("y",))
    assert (data.input_labels, data.output_labels) == (("w", "u [V]"), ("y [m]",))
    np.testing.assert_array_equal(data.train.inputs[0], [[10, 1], [30, 3], [20, 2], [50, 5]])
    np.testing.assert_array_equal(data.train.outputs[0], [[100], [150], [130], [170]])
    assert (data.sampling_time, data.warm_up, dict(data.tests)) == (0.5, 1, {})


def test_several_files_are_several_records(write):
    longer = write(GOOD + "4,6,60,180\n", "longer.csv")
    data = load_records([write(GOOD), longer], inputs="u", outputs="y", test=longer)
    assert data.train.lengths == (4, 5)
    assert data.test.lengths == (5,)


def test_outputs_may_be_missing_and_inputs_may_not(write):
    gaps = GOOD.replace("150", "").replace("130", "NaN")
    data = load_records(write(gaps), inputs="u", outputs="y")
    np.testing.assert_array_equal(data.train.outputs[0].ravel(), [100, np.nan, np.nan, 170])
    with pytest.raises(DataError, match=r"line 3: no value in column 'u \[V\]'"):
        load_records(write(GOOD.replace("1,3,", "1,,")), inputs="u", outputs="y")


def test_without_inputs_a_system_is_autonomous(write):
    data = load_records(write(GOOD), outputs="y")
    assert data.train.inputs[0].shape == (4, 0)
    assert "no inputs -> y" in repr(data)


def test_a_share_of_every_record_is_held_out_at_its_end(write):
    data = load_records(write(GOOD), inputs="u", outputs="y", test=0.5)
    np.testing.assert_array_equal(data.train.outputs[0].ravel(), [100, 150])
    np.testing.assert_array_equal(data.test.outputs[0].ravel(), [130, 170])


def test_a_column_of_words_splits_a_file(write):
    text = "u,y,split\n1,1,train\n2,3,train\n3,2,test\n4,5,test\n"
    data = load_records(write(text), inputs="u", outputs="y")
    np.testing.assert_array_equal(data.train.inputs[0].ravel(), [1, 2])
    np.testing.assert_array_equal(data.test.inputs[0].ravel(), [3, 4])
    with pytest.raises(DataError, match="must say train or test, received 'tset'"):
        load_records(write(text.replace("test", "tset")), inputs="u", outputs="y")
    with pytest.raises(DataError, match="must follow each other"):
        load_records(write(text + "5,6,train\n"), inputs="u", outputs="y")


def test_arrays_of_an_npz_file(tmp_path):
    u, y = np.arange(12.0).reshape(6, 2), np.arange(6.0) ** 2
    np.savez(tmp_path / "run.npz", u=u, y=y, other=np.array(["words"]))
    data = load_records(tmp_path / "run.npz", inputs="u", outputs="y")
    np.testing.assert_array_equal(data.train.inputs[0], u)
    np.testing.assert_array_equal(data.train.outputs[0].ravel(), y)
    assert data.input_names == ("u0", "u1")


def test_files_of_a_folder_say_by_their_names_what_they_are_for(write):
    write(GOOD, "rig/train1.csv")
    write(GOOD, "rig/train2.csv.gz")
    folder = write(GOOD + "4,6,60,180\n", "rig/test.csv").parent
    data = load_records(folder, inputs="u", outputs="y")
    assert (data.train.lengths, data.test.lengths) == ((4, 4), (5,))


def test_the_warm_up_is_a_quarter_of_short_records_and_can_be_said(write):
    assert load_records(write(GOOD), inputs="u", outputs="y", warm_up=2).warm_up == 2
    assert load_records("wiener", samples=100).warm_up == 25
    assert load_records("wiener", samples=1000).warm_up == 50
    assert load_records("wiener", samples=1000, warm_up=7).warm_up == 7


BENCHMARKS = {
    "cascaded_tanks": (50, 4.0, {"train": (1024,), "test": (1024,)}, 2.1662, 1e-3),
    "ced": (10, 0.02, {"train": (400, 400), "test": (100, 100)}, None, None),
    "rlc": (50, 5e-7, {"train": (10000,), "test": (10000,)}, 96.294, 1e-3),
    "silverbox": (
        50,
        0.0016384,
        {"train": (65062,), "multisine": (21688,), "arrow": (40475,), "arrow_without_extrapolation": (32000,)},
        None,
        None,
    ),
}


@pytest.mark.parametrize("name", BENCHMARKS)
@pytest.mark.skipif(not SYSID.is_dir(), reason="the benchmarks' files are not here")
def test_public_benchmarks_have_their_official_parts(name):
    warm_up, step, lengths, spread, tolerance = BENCHMARKS[name]
    data = load_records(SYSID / name)
    assert (data.name, data.warm_up) == (name, warm_up)
    assert data.sampling_time == pytest.approx(step)
    assert {"train": data.train.lengths, **{k: part.lengths for k, part in data.tests.items()}} == lengths
    if spread is not None:
        assert data.train.outputs[0].std() == pytest.approx(spread, rel=tolerance)


def silverbox(folder: Path) -> Path:
    folder = folder / "silverbox"
    folder.mkdir()
    t = np.arange(131072.0)
    np.savez(folder / "silverbox.npz", snls_u=np.sin(t), snls_y=t)
    return folder


def test_the_silverbox_is_cut_as_the_benchmark_says(tmp_path):
    data = load_records(silverbox(tmp_path))
    bounds = {part: (records.outputs[0][0, 0], records.outputs[0][-1, 0]) for part, records in data.tests.items()}
    assert (data.train.outputs[0][0, 0], data.train.outputs[0][-1, 0]) == (40650, 105711)
    assert bounds == {
        "multisine": (105712, 127399),
        "arrow": (100, 40574),
        "arrow_without_extrapolation": (100, 32099),
    }


def test_the_drives_keep_both_records_in_both_parts(tmp_path):
    folder = tmp_path / "ced"
    folder.mkdir()
    for name in ("uniform_low", "uniform_high"):
        rows = [f"{t % 7},{t},{'train' if t < 12 else 'test'}" for t in range(16)]
        (folder / f"{name}.csv").write_text("\n".join(["u,y,split", *rows]) + "\n")
    data = load_records(folder)
    assert (data.train.lengths, data.test.lengths, data.warm_up) == ((12, 12), (4, 4), 10)


MISTAKES = {
    "unknown records 'nothing': expected one of lorenz, duffing": ("nothing", {}),
    "nothing.csv: no such file or folder": ("nothing.csv", {}),
    "which columns are outputs?": ("{good}", {}),
    "no column 'z' to take as input; the columns are: t, u [V], w, y [m]": ("{good}", {"inputs": "z", "outputs": "y"}),
    "'y' is both an input and an output": ("{good}", {"inputs": "y", "outputs": "y"}),
    "the file is empty": ("{empty}", {"outputs": "y"}),
    "no rows of numbers under the header": ("{header}", {"outputs": "y"}),
    "input 'u' is constant (1 in all samples)": ("{constant}", {"inputs": "u", "outputs": "y"}),
    "y of record 0 must hold a measurement": ("{unmeasured}", {"inputs": "u", "outputs": "y"}),
    "not packed by gzip": ("{gz}", {"outputs": "y"}),
    "no array 'z'; the arrays are: u, y": ("{npz}", {"inputs": "z", "outputs": "y"}),
    "inputs and outputs differ in length, received 3 and 4 samples": ("{npz}", {"inputs": "u", "outputs": "y"}),
    "cannot be read as an .npz file": ("{nonsense}", {"outputs": "y"}),
    "(test): record 0 must have two samples or more": ("{good}", {"outputs": "y", "test": 0.25}),
    "test must be": ("{good}", {"outputs": "y", "test": 1.5}),
    "source must be a name, or the path of a file or folder": (3, {}),
    "wiener: its outputs are fixed (y), received z": ("wiener", {"outputs": "z"}),
    "leave test and sampling_time out": ("wiener", {"test": 0.5}),
    "samples must be an integer >= 2": ("wiener", {"samples": 1}),
    "no files that end in .csv, .csv.gz, .npz": ("{folder}", {"outputs": "y"}),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_are_one_sentence(tmp_path, message):
    files = {
        "good": GOOD,
        "empty": "",
        "header": "u,y\n",
        "constant": "u,y\n1,1\n1,2\n",
        "unmeasured": "u,y\n1,\n2,\n",
    }
    paths = {}
    for name, text in files.items():
        paths[name] = tmp_path / f"{name}.csv"
        paths[name].write_text(text)
    paths |= {"gz": tmp_path / "a.csv.gz", "nonsense": tmp_path / "b.npz", "npz": tmp_path / "c.npz"}
    paths["gz"].write_text("u,y\n1,2\n")
    paths["nonsense"].write_text("u,y\n1,2\n")
    np.savez(paths["npz"], u=np.arange(3.0), y=np.arange(4.0))
    paths["folder"] = tmp_path / "folder"
    paths["folder"].mkdir()
    source, options = MISTAKES[message]
    source = source.format(**paths) if isinstance(source, str) else source
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        load_records(source, **options)
    assert "\n" not in str(caught.value)


def test_a_data_set_without_tests_says_so(write):
    with pytest.raises(DataError, match="has no test records"):
        _ = load_records(write(GOOD), inputs="u", outputs="y").test
