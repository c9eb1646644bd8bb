"""What signals do where this package is the program: ``ocp-nn ...`` or ``python -m ocp_nn ...``.

While packages are imported, for a second, there is nothing to interrupt: Ctrl-C says so in a line and exits with 130,
whatever is being imported.  That takes a handler, since an exception would be a traceback from the inside of some
package, and this module is the first thing that the package imports.  Afterwards Ctrl-C is Python's KeyboardInterrupt
again, and SIGTERM, by which schedulers and containers end a program, is one as well: a solve ends with its best
weights, files are written, and the exit code is 143.

Imported as a library, the package leaves signals alone.
"""

from __future__ import annotations

import os
import signal
import sys
from itertools import pairwise

TYPE_CHECKING = False  # typing itself, like pathlib, would be milliseconds in which Ctrl-C is a traceback
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

__all__ = ["Terminated", "exit_code", "started"]

INTERRUPTED, TERMINATED = 130, 143  # 128 + the number of the signal, as shells have it


class Terminated(KeyboardInterrupt):
    """SIGTERM was received."""


def _is_program() -> bool:
    words = sys.orig_argv
    if "--multiprocessing-fork" in words:  # a worker has its parent's sys.argv
        return False
    if sys.argv[:1] == ["-m"]:  # as long as the package is looked for; afterwards it is the path of __main__
        return "-mocp_nn" in words or ("-m", "ocp_nn") in pairwise(words)
    return os.path.splitext(os.path.basename("".join(sys.argv[:1])))[0] == "ocp-nn"


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    os.write(2, b"ocp-nn: interrupted\n")
    os._exit(INTERRUPTED)


_terminated = False


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    global _terminated
    _terminated = True
    raise Terminated


# A signal that is ignored (a job in the background) or handled by somebody else stays so.
if _is_program() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _leave)


def started() -> None:
    """The imports are done, and from here on a signal is an exception that the caller handles."""
    if signal.getsignal(signal.SIGINT) is _leave:
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _terminate)
        signal.signal(signal.SIGINT, signal.default_int_handler)


def exit_code(code: int) -> int:
    """The code of an interruption says by which signal it was."""
    return TERMINATED if code == INTERRUPTED and _terminated else code
