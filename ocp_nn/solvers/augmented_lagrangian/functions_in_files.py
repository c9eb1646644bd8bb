"""CasADi functions as text in a file: looked at before they are read."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

__all__ = ["check_functions"]

# CasADi's text has two letters of a..p for each byte.  Reading a damaged one may ask for any amount of memory, take
# minutes or end the process, so a text that no check sum vouches for is tried in a process of its own.
_LETTERS = frozenset("abcdefghijklmnop")
_TRIAL, _TRIAL_SECONDS, _TRIAL_BYTES = Path(__file__).with_name("casadi_trial.py"), 10, 2**30


def check_functions(texts: list[str], versions: dict[str, str], *, is_vouched_for: bool) -> None:
    """Whether these are texts that CasADi can read.

    Parameters
    ----------
    texts : list of str
        Of ``casadi.Function.serialize()``.
    versions : dict
        Of the packages that wrote the file.
    is_vouched_for : bool
        Whether a check sum says that they are what was saved; others are tried in a process of their own.

    Raises
    ------
    ValueError
        For a text that is no function.
    """
    for text in texts:
        if not text or len(text) % 2 or not _LETTERS.issuperset(text):
            raise ValueError(
                "a symbolic layer or loss is not what CasADi's serialize() gives: pairs of letters from a to p"
            )
    if texts and not is_vouched_for:
        _try_functions(texts, versions.get("casadi", ""))


def _try_functions(texts: list[str], version: str) -> None:
    """Read and evaluate the functions in another process, within limits of time and memory."""
    memory = _TRIAL_BYTES + 100 * sum(map(len, texts))
    writer = "same" if version == metadata.version("casadi") else "other"
    one_thread = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    try:
        done = subprocess.run(
            [sys.executable, str(_TRIAL), str(memory), writer], input="\n".join(texts), text=True, capture_output=True,
            timeout=_TRIAL_SECONDS, env=os.environ | one_thread, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ValueError(f"CasADi could not read a symbolic layer or loss within {_TRIAL_SECONDS} seconds") from None
    if done.returncode != 0:
        raise ValueError("CasADi cannot read a symbolic layer or loss")
