"""One way in for records over time: a name, a file, several files or a folder become a :class:`SequenceDataset`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...base import checks
from ...network.records import Records
from .benchmark_records import BENCHMARKS, read_benchmark
from .dataset import DataError
from .header import listed
from .sequence_files import Named, Pair, checked_records, read_record, rows_of
from .sequences import WARM_UP, SequenceDataset
from .synthetic_records import SYSTEMS, draw

__all__ = ["describe_records", "load_records"]

PathLike = str | os.PathLike[str]

_PATH = checks.Kind("the path of a file", lambda value: isinstance(value, str | os.PathLike) and bool(str(value)))
_PATHS = checks.sequence(_PATH, "a sequence of such paths", least=1)
_COLUMN = checks.instance(str, "the name of a column")
_COLUMNS = checks.either(_COLUMN, checks.sequence(_COLUMN, "a sequence of such names"))

_KINDS = {
    "source": checks.either(checks.Kind("a name, or the path of a file or folder", _PATH.accepts), _PATHS),
    "inputs": _COLUMNS,
    "outputs": _COLUMNS,
    "test": checks.optional(checks.either(checks.SHARE, _PATH, _PATHS)),
    "sampling_time": checks.optional(checks.POSITIVE),
    "warm_up": checks.optional(checks.integer(1)),
    "seed": checks.SEED,
    "samples": checks.integer(2),
    "noise": checks.NON_NEGATIVE,
}

# Files of a folder that is no known benchmark.
_SUFFIXES = (".csv", ".csv.gz", ".npz")


def load_records(
    source: PathLike | Sequence[PathLike],
    *,
    inputs: str | Sequence[str] = (),
    outputs: str | Sequence[str] = (),
    test: float | PathLike | Sequence[PathLike] | None = None,
    sampling_time: float | None = None,
    warm_up: int | None = None,
    seed: int = 0,
    samples: int = 1000,
    noise: float = 0.02,
) -> SequenceDataset:
    """Load records of inputs and outputs over time.

    Parameters
    ----------
    source : str, path, or sequence of them
        A synthetic system by name (:mod:`.synthetic_records`), a CSV file with a header (also ``.csv.gz``) or an
        ``.npz`` file, several such files as one record each, or a folder: one of :mod:`.benchmark_records`, or one with
        files whose names begin with ``train`` and ``test``.
    inputs, outputs : str or sequence of str
        Columns, or arrays of an ``.npz`` file; without inputs the system is autonomous.  Not for synthetic systems and
        benchmarks, which know theirs.  Empty cells and NaN among the outputs were not measured.
    test : float, path, or sequence of paths, optional
        Files with records to test on, or the share of every record, its end, that is held out for tests.  Without it,
        a column ``split`` with the words ``train`` and ``test`` decides, where there is one.
    sampling_time : float, optional
        Seconds between samples.
    warm_up : int, optional
        First rows of a test record that tell its initial state; 50 where the data do not say.
    seed, samples, noise : int, int, float
        Of synthetic records: noise is a share of the outputs' standard deviation.

    Raises
    ------
    DataError
        For an unknown name, a missing file or column, or records that cannot be used; one sentence says where.

    Examples
    --------
    >>> load_records("wiener", samples=200).train.lengths
    (200,)
    """
    received = dict(locals())
    for name, kind in _KINDS.items():
        checks.check(name, received[name], kind, DataError)
    columns = _names(inputs), _names(outputs)
    dataset = _known(source, seed, samples, noise)
    if dataset is not None:
        return _as_wished(dataset, columns, test, sampling_time, warm_up)
    train, tests = _files(source), None if test is None or isinstance(test, float | int) else _files(test)  # type: ignore[arg-type]
    if isinstance(source, str | os.PathLike) and Path(source).is_dir():
        train, of_folder = _parts_of_folder(Path(source), train)
        tests = of_folder if test is None else tests
    named = [read_record(path, *columns) for path in train]
    parts = _parts(train, named, test if isinstance(test, float) else None)
    if tests:
        parts["test"] = [(record.v, record.y) for record in (read_record(path, *columns) for path in tests)]
    return _dataset(train, named[0], parts, sampling_time, warm_up)


def describe_records() -> tuple[tuple[str, str], ...]:
    """Name and description of every synthetic system."""
    return tuple((name, entry.description) for name, entry in SYSTEMS.items())


def _names(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _known(source: Any, seed: int, samples: int, noise: float) -> SequenceDataset | None:
    """A synthetic system or a benchmark, or None."""
    if not isinstance(source, str | os.PathLike):
        return None
    if str(source) in SYSTEMS:
        return draw(str(source), seed=seed, samples=samples, noise=float(noise))
    path = Path(source)
    return read_benchmark(path) if _exists(path) and path.is_dir() else None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long a name, or a null byte in it
        return False


def _as_wished(
    dataset: SequenceDataset,
    columns: tuple[tuple[str, ...], tuple[str, ...]],
    test: object,
    sampling_time: float | None,
    warm_up: int | None,
) -> SequenceDataset:
    """A data set that knows its columns and parts."""
    for kind, wanted, fixed in zip(
        ("inputs", "outputs"), columns, (dataset.input_names, dataset.output_names), strict=True
    ):
        if wanted and wanted != fixed:
            raise DataError(f"{dataset.name}: its {kind} are fixed ({listed(fixed)}), received {listed(wanted)}")
    if test is not None or sampling_time is not None:
        raise DataError(f"{dataset.name}: its tests and its sampling time are fixed; leave test and sampling_time out")
    return dataset if warm_up is None else _replaced(dataset, warm_up=warm_up)


def _replaced(dataset: SequenceDataset, **changes: Any) -> SequenceDataset:
    return SequenceDataset(**{**vars(dataset), **changes})


def _files(source: PathLike | Sequence[PathLike]) -> list[Path]:
    """The files that are named; of a folder those with tables."""
    several = [source] if isinstance(source, str | os.PathLike) else list(source)
    paths = [Path(path) for path in several]
    for path in paths:
        if not _exists(path):
            raise DataError(_unknown(path, alone=len(paths) == 1))
        if path.is_dir() and len(paths) > 1:
            raise DataError(f"{path}: a folder, expected a file")
    if paths[0].is_dir():
        found = sorted(path for path in paths[0].iterdir() if path.name.endswith(_SUFFIXES))
        if not found:
            raise DataError(f"{paths[0]}: no files that end in {', '.join(_SUFFIXES)}")
        return found
    return paths


def _unknown(path: Path, *, alone: bool) -> str:
    if not alone or path.suffix or len(path.parts) > 1:
        return f"{path}: no such file or folder"
    return (
        f"unknown records {checks.shown(str(path))}: expected one of {', '.join(SYSTEMS)}, the path of a file, or a "
        f"folder, {', '.join(BENCHMARKS)} among them"
    )


def _parts_of_folder(folder: Path, files: list[Path]) -> tuple[list[Path], list[Path]]:
    """Files that begin with train, and with test; all are for training where none says so."""
    train, tests = ([path for path in files if path.name.startswith(part)] for part in ("train", "test"))
    if tests and not train:
        raise DataError(f"{folder}: files to test on, but none whose name begins with 'train'")
    return train or files, tests


def _parts(files: list[Path], named: list[Named], share: float | None) -> dict[str, list[Pair]]:
    """The records of every part."""
    parts: dict[str, list[Pair]] = {"train": [], "test": []}
    for path, record in zip(files, named, strict=True):
        if share is not None:
            middle = len(record.y) - round(share * len(record.y))
            parts["train"].append((record.v[:middle], record.y[:middle]))
            parts["test"].append((record.v[middle:], record.y[middle:]))
        elif record.parts:
            _split(path, record, parts)
        else:
            parts["train"].append((record.v, record.y))
    return {part: pairs for part, pairs in parts.items() if pairs or part == "train"}


def _split(path: Path, record: Named, parts: dict[str, list[Pair]]) -> None:
    """The rows of a file by the words in its column ``split``."""
    if other := sorted({*record.parts} - parts.keys()):
        raise DataError(f"{path}: column 'split' must say train or test, received {checks.shown(other[0])}")
    for part, pairs in parts.items():
        try:
            pair = rows_of(record, part)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        if pair is not None:
            pairs.append(pair)


def _dataset(
    files: list[Path],
    named: Named,
    parts: dict[str, list[Pair]],
    sampling_time: float | None,
    warm_up: int | None,
) -> SequenceDataset:
    where = listed(map(str, files))
    if not parts["train"]:
        raise DataError(f"{where}: no rows to train on, all are for tests")
    records: dict[str, Records] = {part: checked_records(f"{where} ({part})", pairs) for part, pairs in parts.items()}
    shortest = min(min(part.lengths) for part in records.values())
    return SequenceDataset(
        name=files[0].name.partition(".")[0],
        train=records.pop("train"),
        tests=records,
        input_names=named.input_names,
        output_names=named.output_names,
        input_units=named.input_units,
        output_units=named.output_units,
        sampling_time=sampling_time,
        warm_up=min(WARM_UP, max(1, int(np.ceil(shortest / 4)))) if warm_up is None else warm_up,
        source=where,
    )
