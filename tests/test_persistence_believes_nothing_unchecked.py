"""A saved file is believed only as far as it has been checked: sizes before reading, content after, all within bounds.

Files of earlier versions, which had no check sums, are read the same way.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from pathlib import Path

import casadi as ca
import numpy as np
import pytest

import ocp_nn
from ocp_nn import Dense, LoadError, Network, Options, TrainingProblem, solve
from ocp_nn.solvers.augmented_lagrangian import functions_in_files

EARLIER = Path(__file__).parent / "data"
RNG = np.random.default_rng(0)
X = RNG.uniform(-3, 3, (9, 2))


def packed(arrays: dict) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def solved(kind: str) -> ocp_nn.Result:
    x, u = ca.SX.sym("x", 2), ca.SX.sym("u", 2)
    spring = ca.Function("spring", [x, u], [x + ca.sin(x) * u])
    layers = {"dense": Network.mlp([2, 3, 2, 1]), "symbolic": Network([spring, Dense(2, 1, "identity")])}
    problem = TrainingProblem(layers[kind], X, np.sin(X[:, :1]), 1e-2)
    return solve(problem, options=Options(max_outer=6, tolerance=1e-9))


@cache
def saved(kind: str) -> dict:
    """The arrays of a small result with its state; without check sums, so that the content is what is judged."""
    with tempfile.TemporaryDirectory() as folder:
        solved(kind).save(f"{folder}/r.npz")
        with np.load(f"{folder}/r.npz") as file:
            arrays = dict(file)
    arrays.pop("meta_sha256")
    return arrays


def edited(arrays: dict, edit) -> dict:
    """The arrays with another description: ``edit`` changes it in place, or returns another."""
    meta = json.loads(str(arrays["meta"]))
    meta = edit(meta) or meta
    return arrays | {"meta": np.array(json.dumps(meta))}


def loaded(content: bytes, tmp_path):
    (tmp_path / "copy.npz").write_bytes(content)
    return ocp_nn.load(tmp_path / "copy.npz")


def refused(content: bytes, tmp_path) -> str:
    """The one sentence with which it is refused."""
    with pytest.raises(LoadError) as error:
        loaded(content, tmp_path)
    message = str(error.value)
    assert "copy.npz: " in message
    assert "\n" not in message
    assert len(message) < 600
    return message


# --- files of earlier versions


@pytest.mark.parametrize("kind", ["dense", "symbolic"])
def test_files_of_earlier_versions_predict_and_go_on(kind, tmp_path):
    path = EARLIER / f"format_2_{kind}.npz"
    result = ocp_nn.load(path)
    with np.load(path) as file:
        arrays = dict(file)
    for k, control in enumerate(result.model.controls):
        np.testing.assert_array_equal(control, arrays[f"control_{k}"])
    x = result.problem.x
    standard = (x - arrays["x_mean"]) / arrays["x_scale"]
    outputs = result.model.network.predict(
        [arrays[f"control_{k}"] for k in range(len(result.model.controls))], standard
    )
    np.testing.assert_array_equal(result.predict(x), arrays["y_mean"] + arrays["y_scale"] * outputs)
    options = Options(max_outer=12, tolerance=1e-9)
    resumed = solve(result.problem, result, options=options)
    if kind == "dense":  # the numbers that the earlier version found, up to the rounding of another machine
        np.testing.assert_allclose(result.predict(x), arrays["expected_prediction"], rtol=1e-12)
        np.testing.assert_allclose(np.concatenate(resumed.trajectory.controls), arrays["expected_end"], rtol=1e-6)
    result.save(tmp_path / "again.npz")
    again = solve(result.problem, ocp_nn.load(tmp_path / "again.npz"), options=options)
    assert again.trajectory.controls[0].tobytes() == resumed.trajectory.controls[0].tobytes()
    assert again.counts == resumed.counts


# --- what is not there, of another kind or size, or contradicts the rest


def without(name):
    return lambda arrays: {key: value for key, value in arrays.items() if key != name}


def replaced(name, change):
    return lambda arrays: arrays | {name: change(arrays[name])}


def spoilt(value):
    def change(array):
        array = array.copy()
        array.flat[0] = value
        return array

    return change


ARRAYS = {
    "control missing": (without("control_1"), "array 'control_1' is missing"),
    "state missing": (without("state_state_1"), "array 'state_state_1' is missing"),
    "start missing": (without("state_start_0"), "array 'state_start_0' is missing"),
    "history missing": (without("history_phase"), "array 'history_phase' is missing"),
    "NaN control": (replaced("control_0", spoilt(np.nan)), "'control_0' holds nan, expected finite numbers"),
    "infinite scale": (replaced("x_scale", spoilt(np.inf)), "'x_scale' holds inf, expected finite numbers"),
    "zero scale": (replaced("y_scale", spoilt(0.0)), "'y_scale' holds 0.0, expected numbers > 0"),
    "integers": (replaced("control_0", lambda a: a.astype(int)), "holds int64 of shape (9,), expected float64"),
    "single precision": (replaced("x_mean", lambda a: a.astype("f4")), "holds float32 of shape (2,), expected float64"),
    "complex": (replaced("state_best_0", lambda a: a + 0j), "holds complex128 of shape (9,), expected float64"),
    "words": (replaced("problem_y", lambda a: a.astype(str)), "expected float64 of shape (9, 1)"),
    "objects": (replaced("y_mean", lambda a: a.astype(object)), "y_mean"),
    "short control": (replaced("control_0", lambda a: a[:-1]), "has shape (8,), but its layer needs (9,)"),
    "flat data": (replaced("problem_x", np.ravel), "expected float64 of shape (18, 2)"),
    "fewer samples": (replaced("problem_y", lambda a: a[:5]), "of shape (5, 1), expected float64 of shape (9, 1)"),
    "fewer states": (replaced("trajectory_state_1", lambda a: a[:5]), "of shape (5, 3), expected float64"),
    "NaN data": (replaced("problem_x", spoilt(np.nan)), "'problem_x' holds nan, expected finite numbers"),
    "NaN state": (replaced("state_multiplier_0", spoilt(np.nan)), "'state_multiplier_0' holds nan"),
    "penalty": (replaced("state_penalty", spoilt(0.0)), "'state_penalty' holds 0, expected numbers > 0"),
    "violation": (replaced("state_violation", spoilt(-1.0)), "'state_violation' holds -1.0, expected numbers >= 0"),
    "history of counts": (replaced("history", spoilt(0.5)), "counts that are not integers >= 0"),
    "history goes back": (replaced("history", lambda a: a[::-1]), "the history goes back in iteration or steps"),
    "history of NaN": (replaced("history", lambda a: a * np.nan), "counts that are not integers"),
    "narrow history": (replaced("history", lambda a: a[:, 1:]), "expected float64 of shape (6, 8)"),
    "fewer phases": (replaced("history_phase", lambda a: a[1:]), "expected text of shape (6,)"),
    "other weights": (replaced("control_2", lambda a: a * 1.01), "the objective of its trajectory is"),
    "other targets": (replaced("problem_y", lambda a: a + 0.01), "the objective of its trajectory is"),
}


@pytest.mark.parametrize(("change", "message"), ARRAYS.values(), ids=ARRAYS)
def test_arrays_that_do_not_fit(change, message, tmp_path):
    def unsigned(meta):
        del meta["digests"]

    assert message in refused(packed(edited(change(saved("dense")), unsigned)), tmp_path)


def put(*path, value):
    """An edit of the description."""

    def edit(meta):
        *parents, last = path
        for name in parents:
            meta = meta[name]
        meta[last] = value

    return edit


def removed(*path):
    def edit(meta):
        *parents, last = path
        for name in parents:
            meta = meta[name]
        del meta[last]

    return edit


META = {
    "a list": (lambda meta: [meta], "its format is not 'ocp_nn result'"),
    "nested": (lambda meta: {"meta": meta}, "its format is not 'ocp_nn result'"),
    "weight decay": (put("problem", "weight_decay", value=2e-2), "the objective of its trajectory is"),
    "negative decay": (put("problem", "weight_decay", value=-1.0), "expected a finite number >= 0"),
    "decay in words": (put("problem", "weight_decay", value="0.01"), "'0.01' for 'weight_decay', expected a finite"),
    "decay true": (put("problem", "weight_decay", value=True), "True for 'weight_decay', expected a finite"),
    "objective": (put("result", "objective", value=-3.0), "but -3 was saved with it"),
    "objective in words": (put("result", "objective", value="low"), "'low' for 'objective', expected a number"),
    "status": (put("result", "status", value="fine"), "'fine' for 'status', expected one of converged"),
    "status list": (put("result", "status", value=["converged"]), "for 'status', expected one of converged"),
    "message": (put("result", "message", value=3), "3 for 'message', expected text"),
    "seconds": (put("result", "seconds", value="nan"), "nan for 'seconds', expected a finite number >= 0"),
    "count": (put("result", "counts", "outer", value=-1), "for 'counts', expected an object of integers >= 0"),
    "no outer": (removed("result", "counts", "outer"), "the result has no count of 'outer'"),
    "state entry": (removed("state", "fruitless"), "the state has no entry 'fruitless'"),
    "state count": (removed("state", "counts", "newton"), "the state has no count of 'newton'"),
    "state flag": (put("state", "settled", value=0), "0 for 'settled', expected true or false"),
    "no damping": (removed("state", "damping"), "the state has no entry 'damping'"),
    "damping": (put("state", "damping", value={"value": -1.0, "growth": 2.0}), "-1.0 for 'value', expected a finite"),
    "finish": (put("state", "finish", value={"damping": 1}), "for 'damping', expected a list, each an object"),
    "unknown option": (
        put("options", "speed", value=1),
        "the entry 'options' has an entry 'speed', expected only seed",
    ),
    "option": (put("options", "tolerance", value=-1.0), "tolerance must be a finite number > 0"),
    "features": (put("features", value=["a"]), "has 1 features, expected 2"),
    "feature": (put("features", value=["a", 1]), "for 'features', expected a list, each text"),
    "layers": (put("layers", value={}), "for 'layers', expected a list, each an object"),
    "no layers": (put("layers", value=[]), "at least one layer"),
    "widths": (put("layers", 0, "num_outputs", value=99999999999), "but its layer needs (299999999997,)"),
    "width in words": (put("layers", 0, "num_outputs", value="3"), "'3' for 'num_outputs', expected an integer >= 0"),
    "activation": (put("layers", 0, "activation", value="swish"), "swish"),
    "kind": (put("layers", 0, "kind", value="lstm"), "'lstm' for 'kind', expected one of dense, symbolic"),
    "many layers": (lambda meta: meta | {"layers": meta["layers"] * 10_000}, "array 'control_3' is missing"),
    "versions": (put("versions", value=[]), "for 'versions', expected an object of texts"),
    "huge number": (put("result", "objective", value=10**400), "for 'objective', expected a number"),
}


@pytest.mark.parametrize(("edit", "message"), META.values(), ids=META)
def test_descriptions_that_do_not_fit(edit, message, tmp_path):
    assert message in refused(packed(edited(saved("dense"), edit)), tmp_path)


def test_a_description_that_is_no_json(tmp_path):
    for text in ("", "{", "[" * 100_000, '{"format": NaN}', "9" * 5000):
        assert "copy.npz" in refused(packed({"meta": np.array(text)}), tmp_path)


def test_other_versions_are_named_even_where_their_descriptions_are_odd(tmp_path):
    for versions in ([], None, {"ocp_nn": ["x" * 5000]}):
        edit = {"version": [3] * 500, "versions": versions}
        message = refused(packed(edited(saved("dense"), lambda meta, edit=edit: meta | edit)), tmp_path)
        assert "written in format [3, 3" in message


@pytest.mark.parametrize("damaged", [b"'shape': (9L,)", b"'shape': ((9,)"], ids=["Python 2", "no end"])
def test_headers_that_are_no_literals(damaged, tmp_path):
    """NumPy would read the first one with a warning, and take the second apart until its tokenizer fails."""
    whole = packed(saved("dense"))
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = members["control_0.npy"]
    assert b"'shape': (9,)," in header
    members["control_0.npy"] = header.replace(b"'shape': (9,), ", damaged + b",")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert "'control_0' has a header that cannot be read" in refused(out.getvalue(), tmp_path)


def test_a_reason_with_the_bytes_of_the_file_is_cut(tmp_path):
    """The length of a name in a local header is damaged: the zip module's complaint has thousands of bytes in it."""
    content = bytearray(packed(saved("dense")))
    at = content.index(b"control_0.npy") - 4
    content[at : at + 2] = (4000).to_bytes(2, "little")
    refused(bytes(content), tmp_path)


# --- check sums


def test_whatever_is_edited_is_noticed(tmp_path):
    """Also where the content would pass."""
    solved("dense").save(tmp_path / "r.npz")
    with np.load(tmp_path / "r.npz") as file:
        arrays = dict(file)
    loaded(packed(arrays), tmp_path)
    edit = put("features", value=["b", "a"])
    assert "its check sum differs" in refused(packed(edited(arrays, edit)), tmp_path)
    tiny = arrays | {"state_start_0": arrays["state_start_0"] * (1 + 1e-15)}
    assert "array 'state_start_0' is not the one that was saved" in refused(packed(tiny), tmp_path)


def test_check_sums_are_what_the_docstring_says(tmp_path):
    solved("dense").save(tmp_path / "r.npz")
    with np.load(tmp_path / "r.npz") as file:
        arrays = dict(file)
    assert str(arrays["meta_sha256"]) == hashlib.sha256(str(arrays["meta"]).encode()).hexdigest()
    digests = json.loads(str(arrays["meta"]))["digests"]
    assert digests.keys() == arrays.keys() - {"meta", "meta_sha256"}
    for name, value in digests.items():
        assert value == hashlib.sha256(arrays[name].tobytes()).hexdigest()[:16]


# --- CasADi's text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", "pairs of letters from a to p"),
        (lambda text: text[:-1], "pairs of letters from a to p"),
        (lambda text: text.upper(), "pairs of letters from a to p"),
        (lambda text: "a" * 3000, "CasADi cannot read a symbolic layer"),
        (lambda text: text[:-200], "CasADi cannot read a symbolic layer"),
        # lengths that ask for gigabytes, found by trying: each took seconds and 0.5 to 2 GB in this process
        (lambda text: text[:144] + "p" + text[145:], "CasADi"),
        (lambda text: text[:145] + "p" + text[146:], "CasADi"),
    ],
)
def test_damaged_functions_end_in_an_error_within_bounds(change, message, tmp_path):
    def edit(meta):
        meta["layers"][0]["function"] = change(meta["layers"][0]["function"])

    assert message in refused(packed(edited(saved("symbolic"), edit)), tmp_path)


def test_mutated_functions_are_refused_or_evaluate(tmp_path, monkeypatch):
    """One letter changed; reading or evaluating some of these ends a process without a word."""
    rng, text = np.random.default_rng(5), json.loads(str(saved("symbolic")["meta"]))["layers"][0]["function"]
    monkeypatch.setattr(functions_in_files, "_TRIAL_SECONDS", 2)
    refusals = 0
    for position in rng.integers(len(text), size=14):
        changed = text[:position] + "abcdefghijklmnop"[rng.integers(16)] + text[position + 1 :]
        try:
            copy = loaded(packed(edited(saved("symbolic"), put("layers", 0, "function", value=changed))), tmp_path)
        except LoadError:
            refusals += 1
        else:
            assert copy.predict(X).shape == (9, 1)
    assert refusals >= 3


def test_functions_with_a_check_sum_need_no_trial(tmp_path, monkeypatch):
    solved("symbolic").save(tmp_path / "r.npz")
    monkeypatch.setattr(subprocess, "run", None)
    ocp_nn.load(tmp_path / "r.npz")


# --- sizes


def bomb(arrays: dict, name: str, compression: int) -> bytes:
    """The file with one array more, of 100 MB of zeros."""
    out = io.BytesIO(packed(arrays))
    with zipfile.ZipFile(out, "a", compression) as archive, archive.open(f"{name}.npy", "w") as member:
        shape = {"descr": "<f8", "fortran_order": False, "shape": (12_500_000, 1)}
        np.lib.format.write_array_header_1_0(member, shape)
        for _ in range(10):
            member.write(bytes(10_000_000))
    return out.getvalue()


def peak_of_loading(path) -> tuple[str, int]:
    code = f"""
import resource, ocp_nn
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
try:
    ocp_nn.load({str(path)!r}); print("loaded")
except ocp_nn.LoadError as error:
    print(error)
print(peak() - before)
"""
    lines = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    return lines[0], int(lines[1])


@pytest.mark.parametrize(
    ("name", "answer"), [("unknown", "loaded"), ("problem_y", "'problem_y' is compressed or longer than the file")]
)
def test_zip_bombs_stay_packed(name, answer, tmp_path):
    arrays = {key: value for key, value in saved("dense").items() if key != name}
    (tmp_path / "bomb.npz").write_bytes(bomb(arrays, name, zipfile.ZIP_DEFLATED))
    assert (tmp_path / "bomb.npz").stat().st_size < 1_000_000
    message, megabytes = peak_of_loading(tmp_path / "bomb.npz")
    assert answer in message
    assert megabytes < 40


def test_headers_that_announce_more_than_there_is(tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, array in saved("dense").items():
            with archive.open(f"{name}.npy", "w") as member:
                if name != "problem_x":
                    np.lib.format.write_array(member, array)
                    continue
                shape = {"descr": "<f8", "fortran_order": False, "shape": (10**12, 2)}
                np.lib.format.write_array_header_1_0(member, shape)
                member.write(array.tobytes())
    assert "where float64 of shape (1000000000000, 2) is announced" in refused(out.getvalue(), tmp_path)


def test_two_arrays_of_one_name(tmp_path):
    out = io.BytesIO(packed(saved("dense")))
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(out, "a") as archive:
        archive.writestr("control_0.npy", b"")
    assert "names between them" in refused(out.getvalue(), tmp_path)


# --- fuzz


def mutated(rng: np.random.Generator, content: bytes) -> bytes:
    """Some bytes replaced, cut out, doubled, or the end cut off."""
    data = bytearray(content)
    start = int(rng.integers(len(data)))
    end = min(start + int(rng.integers(1, 40)), len(data))
    kind = rng.integers(4)
    if kind == 0:
        data[start:end] = rng.bytes(end - start)
    elif kind == 1:
        del data[start:end]
    elif kind == 2:
        data[start:start] = data[start:end]
    else:
        del data[start:]
    return bytes(data)


@pytest.mark.parametrize("kind", ["dense", "symbolic"])
def test_mutated_files_are_refused_or_right(kind, tmp_path):
    result = solved(kind)
    result.save(tmp_path / "r.npz")
    content, rng, noticed = (tmp_path / "r.npz").read_bytes(), np.random.default_rng(1), 0
    for _ in range(200):
        try:
            copy = loaded(mutated(rng, content), tmp_path)
        except LoadError as error:
            noticed += 1
            assert "copy.npz: damaged, or not a result" in str(error)
        else:
            assert copy.predict(X).tobytes() == result.predict(X).tobytes()
            assert (copy.history, copy.counts) == (result.history, result.counts)
    assert noticed > 150


ODD = [None, True, -1, 2.5, 10**30, "", "inf", "nan", [], {}, [[]], {"a": 1}, "x" * 1000, [1] * 1000]


def paths(value, path=()):
    """Every place in a JSON value."""
    yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield from paths(entry, (*path, key))


def test_mutated_descriptions_are_refused_or_right(tmp_path):
    """Every entry replaced by odd values, and left out; check sums do not help here."""
    result = ocp_nn.load(EARLIER / "format_2_dense.npz")
    with np.load(EARLIER / "format_2_dense.npz") as file:
        arrays = dict(file)
    rng, meta = np.random.default_rng(2), json.loads(str(arrays["meta"]))
    for path in list(paths(meta))[1:]:
        for edit in (removed(*path), put(*path, value=ODD[rng.integers(len(ODD))])):
            try:
                copy = loaded(packed(edited(arrays, edit)), tmp_path)
            except LoadError as error:
                assert "Error:" not in str(error), error  # our words, not Python's
            else:
                assert copy.predict(X[:, :1]).tobytes() == result.predict(X[:, :1]).tobytes()
