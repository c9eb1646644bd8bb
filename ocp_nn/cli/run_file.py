"""``run.json``: what a run of ``ocp-nn fit --out DIR`` was asked to do, so that ``--resume DIR`` can go on with it.

Beside it lies ``checkpoint.npz``, the solver's state now and then and at the end.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data import BUILTIN
from ..persistence import load
from ..report import write_json
from ..result import Result
from ..selection import Selection

__all__ = ["CHECKPOINT_FILE", "earlier_result", "earlier_run", "write_run"]

RUN_FILE, CHECKPOINT_FILE = "run.json", "checkpoint.npz"

# What belongs to the run; the rest (time limit, quiet, ...) is said anew when it goes on.
_ARGUMENTS = ("dataset", "target", "hidden", "activation", "test_size", "seed", "shooting", "reference")


def write_run(folder: Path, args: argparse.Namespace, weight_decay: float, selection: Selection | None) -> None:
    """Leave the arguments and the weight decay; a path of a data set is made absolute."""
    arguments = {name: getattr(args, name) for name in _ARGUMENTS}
    if args.dataset not in BUILTIN and Path(args.dataset).exists():
        arguments["dataset"] = str(Path(args.dataset).resolve())
    chosen = None if selection is None else selection.as_dict()
    write_json(folder / RUN_FILE, {"arguments": arguments, "weight_decay": weight_decay, "selection": chosen})


def earlier_run(args: argparse.Namespace) -> tuple[argparse.Namespace, Selection | None]:
    """The arguments of the run in ``args.resume``, and how its weight decay was chosen.

    Raises
    ------
    FileNotFoundError
        If there is no run.
    ValueError
        If its file cannot be read.
    """
    path = args.resume / RUN_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file, so there is no run to go on with; start one with --out")
    try:
        content = json.loads(path.read_text())
        arguments = {name: content["arguments"][name] for name in _ARGUMENTS}
        selection = None if content["selection"] is None else _selection(content["selection"])
        arguments |= {"hidden": tuple(arguments["hidden"]), "weight_decay": float(content["weight_decay"])}
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: damaged ({type(error).__name__}: {error}); start the run again") from None
    return argparse.Namespace(**{**vars(args), **arguments, "out": args.resume}), selection


def earlier_result(folder: Path) -> Result | None:
    """The last checkpoint, or None where the run ended before the first."""
    path = folder / CHECKPOINT_FILE
    return load(path) if path.is_file() else None


def _selection(content: Mapping[str, Any]) -> Selection:
    lists = {name: tuple(value) for name, value in content.items() if isinstance(value, list)}
    return Selection(**{**content, **lists})
