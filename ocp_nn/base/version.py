"""The version of the package, where everything can read it."""

from __future__ import annotations

__all__ = ["VERSION"]

VERSION = "0.1.0"
