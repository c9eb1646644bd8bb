"""Files that are whole or not there: each is written beside its place and moved into it."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base.atomic import atomic_write
from ..problem.record import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["atomic_write", "write_figure", "write_history", "write_json"]


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """``content`` as indented JSON; values that are not finite become null, since JSON has no word for them."""
    text = json.dumps(_plain(content), indent=2, allow_nan=False)
    with atomic_write(path) as file:
        file.write(f"{text}\n".encode())


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def write_history(path: str | os.PathLike[str], history: Iterable[Record]) -> None:
    """One CSV row per record, with the record's fields as columns."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, Record.columns(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(record) for record in history)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


def write_figure(path: str | os.PathLike[str], figure: Figure, *, dpi: int = 150) -> None:
    """A matplotlib figure as PNG."""
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=dpi)
