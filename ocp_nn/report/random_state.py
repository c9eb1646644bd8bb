"""rich draws a number from Python's global generator when it is imported: whoever uses that must not notice."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

__all__ = ["same_random_state"]


@contextlib.contextmanager
def same_random_state() -> Iterator[None]:
    """A context after which the state of the module ``random`` is what it was."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)
