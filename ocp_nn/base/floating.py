"""Overflow as a value: infinity and NaN are judged where they arrive, so that NumPy need not warn of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import numpy as np

__all__ = ["overflow_is_a_value"]

_Arguments = ParamSpec("_Arguments")
_Returned = TypeVar("_Returned")


def overflow_is_a_value(function: Callable[_Arguments, _Returned]) -> Callable[_Arguments, _Returned]:
    """The function without NumPy's warnings of overflow, division by zero and invalid operations, in its thread alone.

    A new context for every call: ``numpy.errstate`` as a decorator is one for all in NumPy 1, which recursion and
    threads would leave set.
    """

    @wraps(function)
    def quiet(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Returned:
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            return function(*args, **kwargs)

    return quiet
