"""Ctrl-C in code that would lose it: kept until it can be raised.

CasADi looks for signals in the middle of a solve and warns of what it finds there; and where it tries how an
argument can be converted, it clears exceptions, Ctrl-C included.  joblib's memory passes over every exception where it
writes about what it keeps.
"""

from __future__ import annotations

import _thread
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

__all__ = ["PostponedInterrupts", "RepeatedInterrupts"]

# Modules in which an exception may be lost, and the seconds after which a signal that came there comes again.
_LOSING = ("casadi.", "joblib._store_backends.", "joblib.func_inspect.")
_PAUSE = 0.005


class _Handlers:
    """In this context SIGINT and SIGTERM are ours to handle; afterwards handlers are those from before again.

    Signals that no Python function handles, and those of other threads than the main one, are left alone.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Any:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if callable(handler):
                    self._before[number] = handler
                    signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        raise NotImplementedError


class RepeatedInterrupts(_Handlers):
    """In this context a SIGINT or SIGTERM that comes where exceptions are lost comes again a moment later.

    Everywhere else it is handled at once by who was to handle it.
    """

    def __enter__(self) -> RepeatedInterrupts:
        super().__enter__()
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not _is_lost_in(frame):
            self._before[number](number, frame)
            return
        again = threading.Timer(_PAUSE, _thread.interrupt_main, (number,))
        again.daemon = True
        again.start()


def _is_lost_in(frame: FrameType | None) -> bool:
    while frame is not None:
        if f"{frame.f_globals.get('__name__')}.".startswith(_LOSING):
            return True
        frame = frame.f_back
    return False


class PostponedInterrupts(_Handlers):
    """In this context a first SIGINT or SIGTERM waits for :meth:`deliver`, or for the end; a second one does not."""

    def __init__(self) -> None:
        super().__init__()
        self._pending: list[int] = []

    def __enter__(self) -> PostponedInterrupts:
        super().__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        super().__exit__(kind, error, at)
        self.deliver()

    def deliver(self) -> None:
        """Let what has come be handled by who was to handle it; for Ctrl-C that is to raise ``KeyboardInterrupt``."""
        while self._pending:
            number = self._pending.pop(0)
            self._before[number](number, None)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._pending:
            self._pending.clear()
            self._before[number](number, frame)
        else:
            self._pending.append(number)
