"""Folders of public benchmarks, with their official parts and windows.

================  ====================================================================================================
cascaded_tanks    ``train.csv`` and ``test.csv``, columns u, y; window 50
ced               coupled electric drives: ``uniform_low.csv`` and ``uniform_high.csv``, columns u, y and ``split``: the
                  first 400 samples of each are for training, the last 100 for tests; window 10
rlc               ``train.csv.gz`` and ``test.csv.gz``, columns u, y; simulated, without noise; window 50
silverbox         ``silverbox.npz`` with ``snls_u`` and ``snls_y``: the multisine, rows 40650 to 127400, is for training
                  in its first three quarters and for a test in its last; the arrow, rows 100 to 40575, is a test in
                  full, and its first 32000 rows are one without extrapolation; window 50
================  ====================================================================================================

Parts and windows are those of the package nonlinear_benchmarks 1.0.1 (G. Beintema, M. Schoukens), for the data sets of
nonlinearbenchmark.org; the circuit is M. Forgione's and D. Piga's (Continuous-time system identification with neural
networks, European Journal of Control 59, 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .dataset import DataError
from .sequence_files import Pair, checked_records, read_arrays, read_record, rows_of
from .sequences import SequenceDataset

__all__ = ["BENCHMARKS", "read_benchmark"]

# Rows of the silverbox record.
_MULTISINE, _SHARE = (40650, 127400), 0.75
_ARROW, _INSIDE = (100, 40575), 32000

Parts = dict[str, list[Pair]]


@dataclass(frozen=True)
class Benchmark:
    """What a folder holds: a line about it, the files it needs, and what its numbers are."""

    description: str
    files: tuple[str, ...]
    read: Callable[[Path], Parts]
    output: tuple[str, str]
    input_unit: str
    sampling_time: float
    warm_up: int
    source: str


def _files(folder: Path, suffix: str) -> Parts:
    return {part: [_pair(folder / f"{part}.{suffix}")] for part in ("train", "test")}


def _pair(path: Path) -> Pair:
    record = read_record(path, ["u"], ["y"])
    return record.v, record.y


def _drives(folder: Path) -> Parts:
    parts: Parts = {"train": [], "test": []}
    for file in BENCHMARKS["ced"].files:
        record = read_record(folder / file, ["u"], ["y"])
        for part, pairs in parts.items():
            pair = rows_of(record, part)
            if pair is None:
                raise DataError(f"{folder / file}: no rows of the part {part!r} in the column 'split'")
            pairs.append(pair)
    return parts


def _silverbox(folder: Path) -> Parts:
    arrays = read_arrays(folder / "silverbox.npz", ("snls_u", "snls_y"))
    u, y = arrays["snls_u"].reshape(-1, 1), arrays["snls_y"].reshape(-1, 1)
    if min(len(u), len(y)) < _MULTISINE[1]:
        raise DataError(f"{folder}: {_MULTISINE[1]} samples or more are needed, received {min(len(u), len(y))}")

    def rows(first: int, end: int) -> list[Pair]:
        return [(u[first:end], y[first:end])]

    first, end = _MULTISINE
    middle = first + int(_SHARE * (end - first))
    return {
        "train": rows(first, middle),
        "multisine": rows(middle, end),
        "arrow": rows(*_ARROW),
        "arrow_without_extrapolation": rows(_ARROW[0], _ARROW[0] + _INSIDE),
    }


BENCHMARKS: Mapping[str, Benchmark] = {
    "cascaded_tanks": Benchmark(
        "two tanks above each other that overflow, 1024 samples of pump voltage to level",
        ("train.csv", "test.csv"),
        lambda folder: _files(folder, "csv"),
        ("y", "V"),
        "V",
        4.0,
        50,
        "Schoukens, Mattsson, Wigren and Noel, doi:10.4121/12960104",
    ),
    "ced": Benchmark(
        "coupled electric drives, two records of 500 samples, drive voltage to speed without its sign",
        ("uniform_low.csv", "uniform_high.csv"),
        _drives,
        ("y", ""),
        "V",
        0.02,
        10,
        "Wigren and Schoukens, TR 2017-024, Uppsala University, 2017",
    ),
    "rlc": Benchmark(
        "simulated circuit with a saturating inductor, 10,000 samples, voltage to voltage, without noise",
        ("train.csv.gz", "test.csv.gz"),
        lambda folder: _files(folder, "csv.gz"),
        ("y", "V"),
        "V",
        5e-7,
        50,
        "Forgione and Piga, European Journal of Control 59, 2021",
    ),
    "silverbox": Benchmark(
        "electronic Duffing oscillator, 131,072 samples, voltage to voltage",
        ("silverbox.npz",),
        _silverbox,
        ("y", "V"),
        "V",
        2**14 / 1e7,
        50,
        "Wigren and Schoukens, European Control Conference 2013",
    ),
}


def read_benchmark(folder: Path) -> SequenceDataset | None:
    """The benchmark that a folder holds by its name and files; None where it is none of them.

    Raises
    ------
    DataError
        For files that cannot be used.
    """
    name = folder.resolve().name
    entry = BENCHMARKS.get(name)
    if entry is None or not all((folder / file).is_file() for file in entry.files):
        return None
    parts = {part: checked_records(f"{folder} ({part})", pairs) for part, pairs in entry.read(folder).items()}
    return SequenceDataset(
        name=name,
        train=parts.pop("train"),
        tests=parts,
        input_names=("u",),
        output_names=(entry.output[0],),
        input_units=(entry.input_unit,),
        output_units=(entry.output[1],),
        sampling_time=entry.sampling_time,
        warm_up=entry.warm_up,
        source=entry.source,
    )
