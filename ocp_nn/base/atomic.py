"""Files that are whole or not there: each is written beside its place and moved into it.

What is being written is locked, so that what a kill has left can be told from it.
"""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from .locks import try_lock

__all__ = ["atomic_write", "remove_leftovers"]

_SUFFIX = ".ocp_nn-part"

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A binary file to write to, which becomes ``path`` when the block ends without an exception.

    Until then, and after an exception or a kill, an older file at ``path`` stays as it was.

    Raises
    ------
    OSError
        If it cannot be written (no folder, no permission, a full disk), or ``path`` is a folder or device, which must
        not be replaced; the message names ``path``.
    """
    path = Path(path)
    _check_place(path)
    place = Path(os.path.realpath(path))  # a link stays one
    temporary = None
    try:
        file = _new_file(place)
        temporary = Path(file.name)
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if sys.platform != "win32":  # while it is locked
                os.replace(temporary, place)
        if sys.platform == "win32":  # open files cannot be moved there
            os.replace(temporary, place)
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and (error.filename is None or str(error.filename).endswith(_SUFFIX)):
            raise _unwritable(path, error.strerror or str(error), error) from None
        raise


def _check_place(path: Path) -> None:
    if path.is_dir():
        raise _unwritable(path, "it is a folder", IsADirectoryError())
    if path.exists() and not path.is_file():
        raise _unwritable(path, "it is not a regular file", OSError())


def _unwritable(path: Path, reason: str, error: OSError) -> OSError:
    """An error of the same kind, with a sentence."""
    named = type(error)(f"{path}: cannot be written: {reason}")
    named.errno = error.errno
    return named


def _new_file(path: Path) -> IO[bytes]:
    file = _open_new(path)
    while not _is_kept(file):
        file.close()
        file = _open_new(path)
    return file


def _open_new(path: Path) -> IO[bytes]:
    return open(path.with_name(f".{path.name}.{uuid.uuid4().hex}{_SUFFIX}"), "xb")


def _is_kept(file: IO[bytes]) -> bool:
    """Lock a new file; False if somebody took it for a leftover before."""
    if sys.platform == "win32":  # nobody can remove an open file there
        return True
    try:
        return try_lock(file) and os.fstat(file.fileno()).st_nlink > 0
    except OSError:  # a file system without locks, where leftovers stay
        return True


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes began to write in a folder, or to one file there; not what is being written."""
    pattern = "*" if name is None else glob.escape(name)
    for path in folder.glob(f".{pattern}.{'[0-9a-f]' * 32}{_SUFFIX}"):
        try:
            _remove_unless_locked(path)
        except OSError as error:  # gone meanwhile, of another user, or in use on Windows
            _log.info("%s stays: %s", path, error)


def _remove_unless_locked(path: Path) -> None:
    if sys.platform == "win32":
        path.unlink()
        return
    with open(path, "r+b") as file:
        if try_lock(file):
            path.unlink()
