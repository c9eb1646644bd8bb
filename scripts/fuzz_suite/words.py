"""What is a refusal in our own words, and what is a fault."""

from __future__ import annotations

import ast
import traceback
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import ocp_nn

__all__ = ["Fault", "Refused", "hold", "in_our_words", "our_words"]

_PACKAGE = str(Path(ocp_nn.__file__).parent)

# scikit-learn's checks of arrays speak for the estimator, in lines of their own.
_OTHERS = ("/sklearn/",)

_LONGEST = 1000


class Fault(Exception):
    """Something that has to hold does not."""


class Refused(Exception):
    """What was asked for was refused in our words; where that is allowed, the case is done."""


def hold(condition, sentence):
    """Raise :class:`Fault` unless the condition holds."""
    if not condition:
        raise Fault(sentence)


@contextmanager
def our_words(*kinds, naming=()):
    """A block in which errors of these kinds (default ``ValueError``) in our words become :class:`Refused`.

    With ``naming`` the message has to have one of these words.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, kinds or ValueError):
            raise
        hold(in_our_words(error), f"not in our words: {_brief(error)}")
        hold(not naming or any(name in str(error) for name in naming), f"none of {naming} is named: {_brief(error)}")
        raise Refused(str(error)) from None


def in_our_words(error):
    """Whether an error is one short sentence that a ``raise`` of the package, or of whom it asks, has said."""
    message, frame = str(error), traceback.extract_tb(error.__traceback__)[-1]
    if any(other in frame.filename for other in _OTHERS):
        return bool(message)
    if not message or "\n" in message or len(message) > _LONGEST:
        return False
    return frame.filename.startswith(_PACKAGE) and frame.lineno in _raising_lines(frame.filename)


@cache
def _raising_lines(path):
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    return {line for node in statements for line in range(node.lineno, node.end_lineno + 1)}


def _brief(error):
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {str(error)[:200]!r} ({Path(frame.filename).name}:{frame.lineno})"
