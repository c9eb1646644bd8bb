"""Files that are whole or not there: each is written beside its place and moved into it."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

__all__ = ["atomic_write"]


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
    temporary = place.with_name(f".{place.name}.{uuid.uuid4().hex}")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, place)
    except BaseException as error:
        with contextlib.suppress(OSError):  # where there is no folder there is nothing to take away
            temporary.unlink()
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
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
