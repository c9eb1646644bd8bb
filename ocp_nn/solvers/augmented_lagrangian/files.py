"""Results on disk, the way back, and checkpoints.  The format: :mod:`ocp_nn.problem.saving`."""

from __future__ import annotations

import json
import logging
import os
import struct
import time
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ...base.npz import Archive
from ...base.schema import WORDS, Optional, checked, shown
from ...problem.result import Result
from ...problem.saving import FORMAT, FORMAT_VERSION, GENERAL_VERSION, save, text_digest
from .unpacking import unpacked

__all__ = ["FORMAT_VERSION", "Checkpoint", "LoadError", "load", "save"]

Array = NDArray[np.float64]
Content = dict[str, Any]

_log = logging.getLogger(__name__)


class LoadError(ValueError):
    """A file cannot be read as a saved result; the message says why and what to do."""


class Checkpoint:
    """Saves a result to one path, not more often than every so many seconds.

    A file that cannot be written is a logged warning: a full disk must not end a long solve.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    """

    def __init__(self, path: str | os.PathLike[str], seconds: float = 30.0) -> None:
        self.path, self.seconds = Path(path), seconds
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"{self.path.parent}: no such folder to write a checkpoint to")
        self._written = time.monotonic()

    @property
    def is_due(self) -> bool:
        return time.monotonic() - self._written >= self.seconds

    def write(self, result: Result) -> None:
        try:
            save(result, self.path)
        except OSError as error:
            _log.warning("no checkpoint: %s", error)
        self._written = time.monotonic()


def load(path: str | os.PathLike[str]) -> Result:
    """Read a result that :func:`save` wrote.

    Returns
    -------
    Result
        Saved without state, its trajectory has controls only, and ``state`` and ``problem`` are None.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    LoadError
        If the file cannot be read, is damaged, something else, or of another version of the format.
    """
    with _opened(path) as file:
        try:
            archive = Archive(file)
            meta = _meta(path, archive)
            archive.digests = checked("the description", meta, _DIGESTS)["digests"]
            return unpacked(archive, meta)
        except LoadError:
            raise
        except _DAMAGE as error:
            raise LoadError(
                f"{path}: damaged, or not a result saved by ocp_nn ({_reason(error)}); use another copy, or train again"
            ) from None


def _opened(path: str | os.PathLike[str]) -> IO[bytes]:
    if Path(path).exists() and not Path(path).is_file():
        raise LoadError(f"{path}: not a regular file, expected a result saved by ocp_nn")
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise LoadError(f"{path}: cannot be read: {error.strerror}") from None


# Everything that reading garbage as a zip of arrays, as JSON or as a network has been seen to raise.
_DAMAGE = (
    ValueError, KeyError, TypeError, AttributeError, IndexError, EOFError, OSError, RuntimeError, NotImplementedError,
    SyntaxError, MemoryError, ArithmeticError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip

# Check sums of the arrays by name; files of before they were kept have none.
_DIGESTS = {"digests": Optional(WORDS, {})}


# Characters of a reason: that of a damaged zip file may hold its bytes.
_LONGEST = 300


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return text if type(error) is ValueError else f"{type(error).__name__}: {text}"


def _meta(path: str | os.PathLike[str], archive: Archive) -> Content:
    """The description of the content, once its format and its check sum are found right."""
    text = str(archive.words("meta", ()))
    meta = json.loads(text, parse_constant=_refuse_constant)
    _check_format(path, meta)
    if "meta_sha256" in archive and str(archive.words("meta_sha256", ())) != text_digest(text):
        raise ValueError("the description is not the one that was saved: its check sum differs")
    if "meta_sha256" not in archive:
        meta.pop("digests", None)
    return meta


def _refuse_constant(word: str) -> None:
    raise ValueError(f"the description holds {word}, which is not JSON")


def _check_format(path: str | os.PathLike[str], meta: Any) -> None:
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT!r}")
    if meta.get("version") not in (FORMAT_VERSION, GENERAL_VERSION):
        versions = meta.get("versions")
        writer = shown(versions.get("ocp_nn", "unknown")) if isinstance(versions, dict) else "unknown"
        writer = writer.strip("'")
        raise LoadError(
            f"{path}: written in format {shown(meta.get('version'))} by ocp_nn {writer}, but this version reads "
            f"formats {FORMAT_VERSION} and {GENERAL_VERSION}; install ocp_nn {writer}, or train again"
        )
