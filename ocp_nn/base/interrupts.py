"""Ctrl-C in code that is not Python's: kept until Python can raise it.

CasADi looks for signals in the middle of a solve and warns of what it finds there; and where it tries how an
argument can be converted, it clears exceptions, Ctrl-C included.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

__all__ = ["PostponedInterrupts"]


class PostponedInterrupts:
    """In this context a first SIGINT or SIGTERM waits for :meth:`deliver`, or for the end; a second one does not.

    Handlers are those from before again afterwards. Signals that no Python function handles, and those of other threads
    than the main one, are left alone.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._pending: list[int] = []

    def __enter__(self) -> PostponedInterrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if callable(handler):
                    self._before[number] = handler
                    signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self.deliver()

    def deliver(self) -> None:
        """Let what has come be handled by who was to handle it; for Ctrl-C that is to raise ``KeyboardInterrupt``."""
        while self._pending:
            number = self._pending.pop(0)
            self._before[number](number, None)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._pending:
            self._pending.clear()
            self._before[number](number, frame)
        else:
            self._pending.append(number)
