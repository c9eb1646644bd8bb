"""One way in: a name, a file or a folder becomes a :class:`Dataset`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from .. import checks
from .builtin import BUILTIN, load_builtin
from .dataset import DataError, Dataset
from .files import read_delimited, read_folder

__all__ = ["load_dataset"]


_NAME = checks.Kind(
    "a name, or the path of a file or folder", lambda value: isinstance(value, str | os.PathLike) and bool(str(value))
)
_COLUMN = checks.instance(str, "the name of a column")
_TARGET = checks.optional(checks.either(_COLUMN, checks.sequence(_COLUMN, "a sequence of such names")))


def load_dataset(name_or_path: str | os.PathLike[str], *, target: str | Sequence[str] | None = None) -> Dataset:
    """Load a data set.

    Parameters
    ----------
    name_or_path : str or path
        A built-in name (:data:`ocp_nn.data.BUILTIN`), a delimited text file with a header (CSV), or a folder with
        ``data.txt``, ``index_features.txt`` and ``index_target.txt``.
    target : str or sequence of str, optional
        Column(s) to predict.  Needed for a file; built-in sets and folders know theirs.

    Raises
    ------
    DataError
        For an unknown name, a missing file or target, or a table that cannot be used; one sentence says where.

    Examples
    --------
    >>> load_dataset("sin2x").x.shape
    (100, 1)
    """
    checks.check("name_or_path", name_or_path, _NAME, DataError)
    checks.check("target", target, _TARGET, DataError)
    names = () if target is None else (target,) if isinstance(target, str) else tuple(target)
    if str(name_or_path) in BUILTIN:
        return _check_known_target(load_builtin(str(name_or_path)), names)
    path = Path(name_or_path)
    try:
        exists = path.exists()
    except (OSError, ValueError) as error:  # too long a name, or a null byte in it
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{checks.shown(str(name_or_path))}: no such file or folder ({reason})") from None
    if path.is_dir():
        return _check_known_target(read_folder(path), names)
    if path.is_file():
        return read_delimited(path, names)
    if exists:
        raise DataError(f"{path}: neither a file nor a folder; a table has to be in a file")
    if path.suffix or len(path.parts) > 1:
        raise DataError(f"{path}: no such file or folder")
    raise DataError(
        f"unknown data set {str(name_or_path)!r}: expected one of {', '.join(BUILTIN)}, or the path of a file or folder"
    )


def _check_known_target(dataset: Dataset, names: tuple[str, ...]) -> Dataset:
    if names and names != dataset.target_names:
        raise DataError(
            f"{dataset.name}: its target is fixed ({', '.join(dataset.target_names)}), received {', '.join(names)}; "
            "leave the target out"
        )
    return dataset
