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
    """
    path = Path(path)
    file = _new_file(path)
    temporary = Path(file.name)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if sys.platform != "win32":  # while it is locked
                os.replace(temporary, path)
        if sys.platform == "win32":  # open files cannot be moved there
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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
