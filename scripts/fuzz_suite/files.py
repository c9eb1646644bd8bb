"""Files: results, runs, tables and folders of data, damaged and edited."""

from __future__ import annotations

import csv
import io
import json
import random
import tempfile
import zipfile
from contextlib import suppress
from functools import cache
from pathlib import Path

import casadi as ca
import numpy as np

import ocp_nn
from ocp_nn import Dense, Network, Options, TrainingProblem

from .arguments import command
from .draw import pick, seldom
from .oracles import check_model, same_bits
from .words import Refused, hold, our_words

__all__ = ["prepare", "run"]

_X = np.random.default_rng(0).uniform(-3, 3, (9, 2))

_NEW_ROWS = "x,y\n0.5,1\n1.5,2\n"

# Values for an entry of a description, in JSON.
_ODD = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    10**30,
    1e308,
    -0.5,
    "",
    "nan",
    "inf",
    "1",
    "tanh",
    "x" * 3000,
    [],
    [1],
    {},
    {"a": 1},
]


def prepare():
    """What is damaged later is made once."""
    _saved()
    _expected_predictions()


def run(rng, folder):
    with suppress(Refused):
        pick(rng, [_result, _result, _result, _result, _run_file, _table, _table, _data_folder])(rng, folder)


# ---- results


@cache
def _saved():
    """Small results as files: with the solver's state, without, with a symbolic layer, from IPOPT."""
    x, u = ca.SX.sym("x", 2), ca.SX.sym("u", 2)
    spring = Network([ca.Function("spring", [x, u], [x + ca.sin(x) * u]), Dense(2, 1, "identity")])
    dense = TrainingProblem(Network.mlp([2, 3, 2, 1]), _X, np.sin(_X[:, :1]), 1e-2)
    problems = [dense, dense, TrainingProblem(spring, _X, np.sin(_X[:, :1]), 1e-2)]
    results = [ocp_nn.solve(problem, options=Options(max_outer=6, tolerance=1e-9)) for problem in problems]
    results.append(ocp_nn.solve_ipopt(ocp_nn.multiple_shooting(dense)))
    contents = []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for i, result in enumerate(results):
            result.save(Path(folder, "r.npz"), state=i in (0, 2))
            contents.append(Path(folder, "r.npz").read_bytes())
    return tuple(zip(results, contents, strict=True))


def _result(rng, folder):
    result, content = pick(rng, _saved())
    damage = pick(rng, [_bytes_damaged, _bytes_damaged, _members_damaged, _array_edited, _meta_edited, _meta_edited])
    if seldom(rng, 0.02):
        damage = _as_it_is
    damaged, is_sealed = damage(rng, content)
    path = folder / "r.npz"
    path.write_bytes(damaged)
    with our_words(ocp_nn.LoadError):
        loaded = ocp_nn.load(path)
    ours, theirs = result.trajectory.controls, loaded.trajectory.controls
    if is_sealed:  # with its check sums: what is read is what was written
        hold(
            same_bits(ours, theirs) and same_bits(result.model.outputs(_X), loaded.model.outputs(_X)), "read otherwise"
        )
        hold(
            repr(loaded.history) == repr(result.history) and loaded.status is result.status,
            "history or status read otherwise",
        )
    with our_words():
        predicted = loaded.predict(_X)
    hold(np.isfinite(predicted).all(), "a loaded model predicts what is no finite number")
    if all(isinstance(layer, Dense) for layer in loaded.model.network.layers):
        check_model(loaded.model, _X)
    if loaded.state is not None and seldom(rng, 0.5):
        with our_words():
            ocp_nn.solve(loaded.problem, loaded, options=Options(max_outer=loaded.counts["outer"] + 2))


def _as_it_is(rng, content):
    return content, True


def _bytes_damaged(rng, content):
    """Bytes changed, cut, doubled or wiped out."""
    content = bytearray(content)
    for _ in range(pick(rng, [1, 1, 2, 20])):
        a, b = sorted(int(i) for i in rng.integers(0, len(content), 2))
        b = min(b, a + pick(rng, [1, 4, 200, 10**6]))
        kind = pick(rng, ["flip", "flip", "flip", "cut", "double", "wipe", "end"])
        if kind == "flip":
            content[a] ^= 1 << int(rng.integers(8))
        elif kind == "cut":
            del content[a:b]
        elif kind == "double":
            content[a:a] = content[a:b]
        elif kind == "wipe":
            content[a:b] = bytes(b - a)
        elif kind == "end":
            del content[a:]
        if not content:
            break
    return bytes(content), True


def _members(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def _archive(members, compression=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def _members_damaged(rng, content):
    """Arrays taken out, exchanged, damaged under a right check sum of the zip file, or added."""
    members = _members(content)
    one, other = pick(rng, list(members)), pick(rng, list(members))
    kind = pick(rng, ["out", "exchange", "damage", "add", "compress"])
    if kind == "out":
        del members[one]
    elif kind == "exchange":
        members[one], members[other] = members[other], members[one]
    elif kind == "damage":
        members[one] = _bytes_damaged(rng, members[one])[0]
    elif kind == "add":
        members[f"extra_{one}"] = members[one]
    return _archive(members, zipfile.ZIP_DEFLATED if kind == "compress" else zipfile.ZIP_STORED), True


def _with_meta(members, meta, sealed):
    """The members under another description, with or without the check sums of the old one."""
    members = dict(members)
    if not sealed:
        members.pop("meta_sha256.npy", None)
        if isinstance(meta, dict):
            meta.pop("digests", None)
    members["meta.npy"] = _npy(np.array(json.dumps(meta)))
    return _archive(members)


def _npy(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def _meta(members):
    return json.loads(str(np.load(io.BytesIO(members["meta.npy"]))))


def _array_edited(rng, content):
    """An array with another number, type or shape, and no check sums."""
    members = _members(content)
    name = pick(rng, [name for name in members if not name.startswith("meta")])
    array = np.load(io.BytesIO(members[name]))
    with np.errstate(all="ignore"):
        members[name] = _npy(pick(rng, _EDITS)(rng, array))
    return _with_meta(members, _meta(members), False), False


def _spoilt(rng, array):
    array = array.copy()
    if array.size:
        array.flat[int(rng.integers(array.size))] = pick(rng, [0, 1, -1, 1e300, 1e-300, np.nan, np.inf, 7])
    return array


_EDITS = [
    _spoilt,
    _spoilt,
    lambda rng, array: array[:-1] if array.ndim else array,
    lambda rng, array: np.concatenate([array, array]) if array.ndim else array,
    lambda rng, array: (
        array.astype(pick(rng, ["f4", "i8", "c16", ">f8", "U", "?"])) if array.dtype.kind == "f" else array
    ),
    lambda rng, array: array[..., None],
    lambda rng, array: array.T,
    lambda rng, array: array[::-1] if array.ndim else array,
    lambda rng, array: np.float64(pick(rng, [0, np.nan, 1])),
    lambda rng, array: np.zeros(int(pick(rng, [0, 1, 1000]))),
    lambda rng, array: array * pick(rng, [1 + 1e-9, -1, 1e200, 0]) if array.dtype.kind == "f" else array,
]


def _meta_edited(rng, content):
    members = _members(content)
    sealed = seldom(rng, 0.2)
    meta = edited(rng, _meta(members))
    return _with_meta(members, meta, sealed), False


def edited(rng, content):
    """JSON with an entry put to another value, taken out or moved, at a random place."""
    content = json.loads(json.dumps(content))
    parent, key = pick(rng, list(_places(content)))
    kind = pick(rng, ["put", "put", "take", "swap", "add"])
    if kind == "put":
        parent[key] = pick(rng, _ODD)
    elif kind == "take":
        del parent[key]
    elif kind == "swap":
        other_parent, other = pick(rng, list(_places(content)))
        parent[key], other_parent[other] = other_parent[other], json.loads(json.dumps(parent[key]))
    elif isinstance(parent, dict):
        parent["extra"] = pick(rng, _ODD)
    else:
        parent.append(pick(rng, _ODD))
    return content


def _places(content):
    """Every (container, key) of it."""
    keys = content.keys() if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    for key in keys:
        yield content, key
        yield from _places(content[key])


# ---- a run's folder


@cache
def _finished_run():
    """Names and contents of what a small run leaves, figures left out."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        code, _, _ = command(["fit", "sin2x", "--hidden", "2", "--weight-decay", "0.1", "--reference", "none",
                              "--quiet", "--out", f"{folder}/run"])  # fmt: skip
        hold(code == 0, "a plain run fails")
        return {path.name: path.read_bytes() for path in Path(folder, "run").iterdir() if path.suffix != ".png"}


def _run_file(rng, folder):
    """``fit --resume`` and ``predict`` on a damaged run."""
    files = dict(_finished_run())
    name = pick(rng, ["run.json", "run.json", "checkpoint.npz", "model.npz"])
    if name == "run.json" and seldom(rng, 0.7):
        files[name] = json.dumps(edited(rng, json.loads(files[name]))).encode()
    else:
        files[name] = _bytes_damaged(rng, files[name])[0]
    out = folder / "run"
    out.mkdir()
    for file, content in files.items():
        (out / file).write_bytes(content)
    (folder / "t.csv").write_text(_NEW_ROWS)
    if name == "model.npz":
        code, output, errors = command(["predict", str(out), str(folder / "t.csv")])
        hold(code == 1 or output == _expected_predictions(), "a damaged model predicts otherwise")
    else:
        code, output, errors = command(["fit", "--resume", str(out), "--quiet", "--time-limit", "2"])
    hold(code in (0, 2) or (code == 1 and errors.count("\n") == 1), f"exit code {code}: {errors}")
    hidden = [path.name for path in out.iterdir() if path.name.startswith(".")]
    hold(not hidden, f"left behind: {hidden}")


@cache
def _expected_predictions():
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        Path(folder, "model.npz").write_bytes(_finished_run()["model.npz"])
        Path(folder, "t.csv").write_text(_NEW_ROWS)
        return command(["predict", folder, f"{folder}/t.csv"])[1]


# ---- tables


def _numbers(rng):
    rows, columns = int(rng.integers(2, 12)), int(rng.integers(2, 5))
    return rng.standard_normal((rows, columns)) * 10.0 ** rng.integers(-12, 12, columns)


def _table(rng, folder):
    """A table in a random dialect is read to the last bit, a damaged one is read or refused."""
    numbers = _numbers(rng)
    names = [pick(rng, ["a", "b c", "speed [m/s]", "\u03b1", 'q"', "x(y)"]) + str(j) for j in range(numbers.shape[1])]
    text = _written(rng, names, numbers)
    content = text.encode(pick(rng, ["utf-8", "utf-8", "utf-8-sig"]))
    damaged = seldom(rng, 0.6)
    if damaged:
        content = _text_damaged(rng, content) if seldom(rng, 0.5) else _bytes_damaged(rng, content)[0]
    path = folder / "t.csv"
    path.write_bytes(content)
    with our_words(ocp_nn.DataError):
        dataset = ocp_nn.load_dataset(path, target=names[-1])
    hold(np.isfinite(dataset.x).all() and np.isfinite(dataset.y).all(), "a table read as numbers that are not finite")
    if not damaged:
        hold(same_bits(np.hstack([dataset.x, dataset.y]), numbers), "the numbers of a table are read otherwise")


def _written(rng, names, numbers):
    delimiter, decimal = pick(rng, [(",", "."), (";", "."), (";", ","), ("\t", "."), ("\t", ","), ("|", ".")])
    out = io.StringIO(newline="")
    quoting = pick(rng, [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    writer = csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator=pick(rng, ["\n", "\r\n"]))
    writer.writerow(names)
    writer.writerows([[repr(float(value)).replace(".", decimal) for value in row] for row in numbers])
    return out.getvalue()


_TOKENS = [b"", b" ", b",", b";", b"\t", b"nan", b"inf", b"1e999", b"1,5", b"1.000,5", b'"', b"\n", b"\n\n", b"\r",
           b"\0", b"\xff", b"abc", b"-", b"1_0", "\u0663".encode(), b"0x1", b"#", b"1e", b"9" * 400]  # fmt: skip


def _text_damaged(rng, content):
    """Cells, lines or single tokens exchanged."""
    kind = pick(rng, ["token", "token", "line", "double"])
    lines = content.split(b"\n")
    i, j = (int(k) for k in rng.integers(len(lines), size=2))
    if kind == "line":
        del lines[i]
    elif kind == "double":
        lines.insert(i, lines[j])
    else:
        at = int(rng.integers(len(content)))
        return content[:at] + pick(rng, _TOKENS) + content[at + pick(rng, [0, 1, 3]) :]
    return b"\n".join(lines)


def _data_folder(rng, folder):
    """A folder with data and index files, whole or damaged."""
    numbers = _numbers(rng)
    columns = numbers.shape[1]
    order = random.Random(int(rng.integers(10**6))).sample(range(columns), columns)
    files = {
        "data.txt": "\n".join(" ".join(repr(float(value)) for value in row) for row in numbers),
        "index_features.txt": "\n".join(f"{j:.18e}" if seldom(rng, 0.3) else str(j) for j in order[:-1]),
        "index_target.txt": str(order[-1]),
    }
    damaged = pick(rng, [*files, None])
    for name, text in files.items():
        content = text.encode()
        if name == damaged:
            content = _text_damaged(rng, content) if seldom(rng, 0.6) else _bytes_damaged(rng, content)[0]
        (folder / name).write_bytes(content)
    with our_words(ocp_nn.DataError):
        dataset = ocp_nn.load_dataset(folder)
    hold(np.isfinite(dataset.x).all() and np.isfinite(dataset.y).all(), "a folder read as numbers that are not finite")
    if damaged is None:
        hold(
            same_bits(np.hstack([dataset.x, dataset.y]), numbers[:, order]),
            "the numbers of a folder are read otherwise",
        )
