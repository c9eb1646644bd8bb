"""How many threads BLAS gets: handing small matrices to more than one costs more than it gains.

The number belongs to the process, not to a thread, so the limits of solves that overlap have to know of each other:

* BLAS has one thread while any solve that wants this is under way, a large one beside it included;
* a limit that ends while a later one is in force leaves to that one what was there before, and changes nothing;
* the last one to end brings back what was there, whoever had set it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from threadpoolctl import ThreadpoolController

from .optimal_control import OptimalControlProblem

__all__ = ["limited_blas", "one_blas_thread"]

# Order of the factorised matrix up to which one BLAS thread is used.
_ONE_THREAD_SIZE = 2000


def limited_blas(problem: OptimalControlProblem) -> contextlib.AbstractContextManager[None]:
    """A context in which BLAS uses the number of threads that suits a problem; the global setting comes back after."""
    smaller = min(problem.num_samples * problem.num_rows, problem.num_controls)
    return one_blas_thread() if smaller <= _ONE_THREAD_SIZE else contextlib.nullcontext()


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """A context in which BLAS uses one thread, in the whole process."""
    limit = _Limit(threading.get_ident())
    try:
        _begin(limit)
        yield
    finally:
        try:
            _end(limit)
        except KeyboardInterrupt:  # halfway: what is done twice is no harm
            _end(limit)
            raise


@dataclass(eq=False)
class _Limit:
    """One context: whose it is, and the BLAS libraries with the threads that each had, by path."""

    thread: int
    before: dict[str, tuple[Any, int]] = field(default_factory=dict)


_in_force: list[_Limit] = []  # in the order in which they began
_lock = threading.RLock()  # signal handlers and the garbage collector may come back here in the same thread


def _begin(limit: _Limit) -> None:
    with _lock:
        libraries = ThreadpoolController().select(user_api="blas").lib_controllers
        limit.before = {library.filepath: (library, library.num_threads) for library in libraries}
        _in_force.append(limit)
        for library in libraries:
            _set(library, 1)


def _end(limit: _Limit) -> None:
    with _lock:
        if limit not in _in_force:
            return
        later = _in_force[_in_force.index(limit) + 1 :]
        if later:
            later[0].before |= limit.before
        else:
            for library, num_threads in limit.before.values():
                _set(library, num_threads)
        _in_force.remove(limit)


def _set(library: Any, num_threads: int) -> None:
    # Since 3.8 threadpoolctl lets one thread alone set OpenBLAS, and silently ignores others.  Here limits that overlap
    # are in order, and any thread may be the one that brings the number back.
    release = getattr(library, "clear_controlling_thread", lambda **_: None)
    release(force=True)
    library.set_num_threads(num_threads)
    release()


def _after_fork() -> None:
    """A child has the thread that forked and no other: their limits end, and who held the lock may be gone."""
    global _lock
    _lock = threading.RLock()
    for limit in [limit for limit in _in_force if limit.thread != threading.get_ident()]:
        _end(limit)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
