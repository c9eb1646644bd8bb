"""``run.json``: what a run with ``--out DIR`` was asked to do, so that ``--resume DIR`` can go on with it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..base.schema import COUNT, TEXT, Kind, Optional, Table, checked, shown
from ..report import write_json

__all__ = ["OBJECT", "RUN_FILE", "located", "read_run", "write_run"]

RUN_FILE = "run.json"

# Of the file; those of before it was named are of the first, and of the command ``fit``.
_FORMAT, _COMMAND = 1, "fit"

OBJECT = Kind("an object", lambda value: isinstance(value, dict))
_OWN: Table = {"format": Optional(COUNT, _FORMAT), "arguments": OBJECT, "command": Optional(TEXT, _COMMAND)}

# A run's file has a kilobyte.
_MAX_BYTES = 2**20


def write_run(folder: Path, command: str, arguments: dict[str, Any], **others: Any) -> None:
    """Leave the arguments of a command, and what else it has to know."""
    write_json(folder / RUN_FILE, {"format": _FORMAT, "command": command, "arguments": arguments} | others)


def located(name: Any) -> Any:
    """The path of a file or folder made absolute; anything else as it is."""
    return str(Path(name).resolve()) if isinstance(name, str) and Path(name).exists() else name


def read_run(folder: Path, command: str, arguments: Table, others: Table) -> tuple[argparse.Namespace, dict[str, Any]]:
    """The arguments of the run in a folder, and what else it has to know.

    Raises
    ------
    FileNotFoundError
        If there is no run.
    ValueError
        If its file cannot be read, or is another command's.
    """
    path = folder / RUN_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file, so there is no run to go on with; start one with --out")
    try:
        content = _content(path)
        of = content.get("command", _COMMAND) if isinstance(content, dict) else _COMMAND
        if of == command or not isinstance(of, str):
            run = checked("it", content, {**_OWN, **others}, strict=True)
            return argparse.Namespace(**checked("'arguments'", run["arguments"], arguments, strict=True)), run
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: damaged ({' '.join(str(error).split())}); start the run again") from None
    raise ValueError(f"{path}: expected a run of ocp-nn {command}, received one of ocp-nn {shown(of)[1:-1]}")


def _content(path: Path) -> Any:
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise ValueError(f"{size} bytes, expected at most {_MAX_BYTES}")
    content = json.loads(path.read_text(encoding="utf-8"))
    version = content.get("format", _FORMAT) if isinstance(content, dict) else _FORMAT
    if version != _FORMAT:
        raise ValueError(f"its format is {shown(version)}, but this version reads format {_FORMAT}")
    return content
