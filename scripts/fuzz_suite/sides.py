"""Side effects: what a process has that is not the case's, before and after."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import warnings
from contextlib import contextmanager
from functools import cache

import numpy as np
from threadpoolctl import ThreadpoolController

__all__ = ["legacy_generator", "state", "writes_stay_in"]


def legacy_generator():
    """NumPy's global generator of before ``Generator``."""
    return np.random.mtrand._rand


@cache
def _libraries():
    """Those with threads of their own; looking for them takes longer than many a case."""
    return ThreadpoolController()


def state():
    """Whatever the package could change, by name."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    return {
        "floating-point settings": np.geterr(),
        "warning filters": list(warnings.filters),
        "random": random.getstate(),
        "numpy.random": repr(legacy_generator().get_state()),
        "BLAS threads": [library["num_threads"] for library in _libraries().info()],
        "environment": dict(os.environ),
        "working folder": os.getcwd(),
        "signal handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "print options": np.get_printoptions(),
        "threads": threading.active_count(),
        "figures": [] if pyplot is None else pyplot.get_fignums(),
    }


# What the interpreter and multiprocessing write for themselves.
_HARMLESS = ("__pycache__", os.devnull, "/dev/shm", "/dev/tty")

_watched = None


def _audit(event, arguments):
    if _watched is None or event not in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate"):
        return
    folder, found = _watched
    path = arguments[1] if event == "os.rename" else arguments[0]
    if event == "open" and (isinstance(path, int) or not _writes(arguments[1], arguments[2])):
        return
    if event in ("os.remove", "os.rmdir", "os.mkdir") and arguments[-1] != -1:
        return  # relative to a folder that is open, of shutil.rmtree
    path = os.path.realpath(os.fsdecode(path))
    if not path.startswith(str(folder)) and not any(part in path for part in _HARMLESS):
        found.append(f"{event} {path}")


def _writes(mode, flags):
    if mode is not None:
        return any(letter in mode for letter in "wax+")
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


@contextmanager
def writes_stay_in(folder):
    """A list to which whatever this process writes, makes or removes outside the folder meanwhile is added.

    A temporary folder that was made and has gone again is none of it.
    """
    global _watched
    if not getattr(_audit, "is_there", False):
        sys.addaudithook(_audit)
        _audit.is_there = True
    found = []
    _watched = (os.path.realpath(folder), found)
    try:
        yield found
    finally:
        _watched = None
        gone = tuple(path for event, _, path in (what.partition(" ") for what in found)
                     if event == "os.mkdir" and not os.path.exists(path))  # fmt: skip
        found[:] = [what for what in found if not what.partition(" ")[2].startswith(gone)]
