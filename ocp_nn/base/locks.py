"""Locks on open files, which the system takes back when a process ends, however it ends."""

from __future__ import annotations

import sys
from typing import IO, Any

__all__ = ["try_lock"]

if sys.platform == "win32":
    import msvcrt

    # Windows locks bytes against reading: one far behind what is written.
    _BYTE = 2**30

    def try_lock(file: IO[Any]) -> bool:
        """Lock an open file until it is closed; False where somebody else has it, in this process too."""
        position = file.tell()
        file.seek(_BYTE)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        finally:
            file.seek(position)
        return True

else:
    import fcntl

    def try_lock(file: IO[Any]) -> bool:
        """Lock an open file until it is closed; False where somebody else has it, in this process too.

        Raises
        ------
        OSError
            On a file system without locks.
        """
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
