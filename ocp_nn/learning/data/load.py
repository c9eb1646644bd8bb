"""One way in: a name, a file or a folder becomes a :class:`Dataset`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...base import checks
from ...problem.losses import LOSSES
from .builtin import BUILTIN, load_builtin
from .dataset import DataError, Dataset
from .files import chosen, read_delimited, read_folder
from .header import Column, listed
from .labels import column_of, with_loss

__all__ = ["load_dataset"]


_NAME = checks.Kind(
    "a name, or the path of a file or folder", lambda value: isinstance(value, str | os.PathLike) and bool(str(value))
)
_COLUMN = checks.instance(str, "the name of a column")
_COLUMNS = checks.either(_COLUMN, checks.sequence(_COLUMN, "a sequence of such names"))


def load_dataset(
    name_or_path: str | os.PathLike[str],
    *,
    target: str | Sequence[str] | None = None,
    features: str | Sequence[str] | None = None,
    drop: str | Sequence[str] = (),
    loss: str = "auto",
) -> Dataset:
    """Load a data set.

    Parameters
    ----------
    name_or_path : str or path
        A built-in name (:data:`.BUILTIN`), a delimited text file with a header (CSV), or a folder with
        ``data.txt``, ``index_features.txt`` and ``index_target.txt``.
    target : str or sequence of str, optional
        Column(s) to predict.  Needed for a file; built-in sets and folders know theirs.
    features : str or sequence of str, optional
        The inputs to keep, in the order of the data; default all columns that are no target.
    drop : str or sequence of str
        Instead of ``features``: inputs to leave out.  Columns of a file that are left out may hold anything.
    loss : str
        What the targets are meant for: "squared", "huber" and "poisson" need quantities, "logistic" (two classes) and
        "softmax" labels, that is words or whole numbers.  "auto": labels where a file's target holds words, else
        quantities and squares; built-in sets know theirs.

    Raises
    ------
    DataError
        For an unknown name, a missing file or column, or a table that cannot be used; one sentence says where.

    Notes
    -----
    In a file a name may have its unit behind it, ``speed [m/s]`` or ``speed (m/s)``; columns are named with or without
    it.  Numbers have decimal points, or decimal commas where the file is clear about them.

    Examples
    --------
    >>> load_dataset("sin2x").x.shape
    (100, 1)
    >>> load_dataset("friedman", drop=["x6", "x7"]).x.shape
    (500, 8)
    """
    checks.check("name_or_path", name_or_path, _NAME, DataError)
    checks.check("target", target, checks.optional(_COLUMNS), DataError)
    checks.check("features", features, checks.optional(_COLUMNS), DataError)
    checks.check("drop", drop, _COLUMNS, DataError)
    checks.check("loss", loss, checks.one_of(("auto", *LOSSES)), DataError)
    names, dropped = _names(target), _names(drop)
    kept = None if features is None else _names(features)
    if str(name_or_path) in BUILTIN:
        return _restricted(_known(load_builtin(str(name_or_path)), names, loss), kept, dropped)
    path = Path(name_or_path)
    try:
        exists = path.exists()
    except (OSError, ValueError) as error:  # too long a name, or a null byte in it
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{checks.shown(str(name_or_path))}: no such file or folder ({reason})") from None
    if path.is_dir():
        return _restricted(_known(read_folder(path), names, loss), kept, dropped)
    if exists:
        return read_delimited(path, names, features=kept, drop=dropped, loss=loss)
    if path.suffix or len(path.parts) > 1:
        raise DataError(f"{path}: no such file or folder")
    raise DataError(
        f"unknown data set {str(name_or_path)!r}: expected one of {', '.join(BUILTIN)}, or the path of a file or folder"
    )


def _names(names: str | Sequence[str] | None) -> tuple[str, ...]:
    return () if names is None else (names,) if isinstance(names, str) else tuple(names)


def _restricted(dataset: Dataset, features: tuple[str, ...] | None, drop: tuple[str, ...]) -> Dataset:
    """The data set with some of its inputs."""
    if features is None and not drop:
        return dataset
    keep = chosen(dataset.name, [Column(name, "", name) for name in dataset.feature_names], features, drop)
    names = tuple(dataset.feature_names[j] for j in keep)
    return replace(dataset, x=np.ascontiguousarray(dataset.x[:, keep]), feature_names=names)


def _known(dataset: Dataset, names: tuple[str, ...], loss: str) -> Dataset:
    """A data set that knows its targets, as the loss needs them."""
    fixed = dataset.target_names
    if dataset.classes:
        fixed = (column_of(fixed, dataset.classes),)
    if names and names != fixed:
        raise DataError(
            f"{dataset.name}: its target is fixed ({', '.join(fixed)}), received {listed(names)}; leave the target out"
        )
    return with_loss(dataset, loss)
