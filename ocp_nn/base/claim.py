"""A place to write to, for one process at a time: two that write there at once would mix their files.

The place is a folder or a file.  A hidden file beside what is written is locked meanwhile, and says whose it is.  The
system unlocks it when its process ends, so that a kill leaves nothing that hinders the next one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from .atomic import remove_leftovers
from .locks import try_lock

__all__ = ["claim"]

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def claim(place: str | os.PathLike[str]) -> Iterator[None]:
    """A context in which a folder, or a file in a folder, is this caller's to write; what kills have left is removed.

    On a file system without locks, others are not kept out: that is a logged warning.

    Raises
    ------
    BlockingIOError
        If another process, or another thread of this one, has it; the message names the process.
    FileNotFoundError
        If the folder does not exist.
    """
    place = Path(place)
    folder, name = (place, None) if place.is_dir() else (place.parent, place.name)
    lock = folder / ".ocp_nn.lock" if name is None else folder / f".{name}.lock"
    try:
        file = _acquire(lock, place)
    except (BlockingIOError, FileNotFoundError):
        raise
    except OSError as error:
        _log.warning("%s cannot be locked, so other processes are not kept out of it: %s", place, error)
        yield
        return
    try:
        remove_leftovers(folder, name)
        yield
    finally:
        _release(file, lock)


def _acquire(lock: Path, place: Path) -> IO[str]:
    while True:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(open(lock, "a+", encoding="utf-8"))
            if try_lock(file) and _is_at(file, lock):
                file.truncate(0)
                file.write(_myself())
                file.flush()
                stack.pop_all()
                return file
            if _is_at(file, lock):
                file.seek(0)
                owner = file.read() or "another process"
                raise BlockingIOError(f"{place} is in use by {owner}: wait for it, end it, or write somewhere else")
        # otherwise its owner has just removed it: another one is needed


def _is_at(file: IO[str], lock: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), lock.stat())
    except FileNotFoundError:
        return False


def _myself() -> str:
    command = Path(sys.argv[0]).name if sys.argv else ""
    return f"process {os.getpid()} on {platform.node()} ({command}, since {time.strftime('%Y-%m-%d %H:%M:%S')})"


def _release(file: IO[str], lock: Path) -> None:
    with file:
        if sys.platform != "win32":  # while it is locked
            lock.unlink(missing_ok=True)
    if sys.platform == "win32":
        with contextlib.suppress(PermissionError):  # somebody who waits for it has it open
            lock.unlink(missing_ok=True)
