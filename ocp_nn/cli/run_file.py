"""``run.json``: what a run of ``ocp-nn fit --out DIR`` was asked to do, so that ``--resume DIR`` can go on with it.

Beside it lies ``checkpoint.npz``, the solver's state now and then and at the end.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..base.schema import (
    AMOUNT,
    COUNT,
    NUMBER,
    POSITIVE,
    TEXT,
    TEXTS,
    Kind,
    Optional,
    Table,
    checked,
    listed,
    one_of,
    or_none,
    shown,
)
from ..learning.data import BUILTIN
from ..learning.selection import Selection
from ..network.activations import ACTIVATIONS
from ..problem.losses import LOSSES, Huber
from ..problem.result import Result
from ..report import write_json
from ..solvers.augmented_lagrangian.files import load
from ..solvers.augmented_lagrangian.state import SolverState

__all__ = ["CHECKPOINT_FILE", "RUN_FILE", "earlier_result", "earlier_run", "write_run"]

RUN_FILE, CHECKPOINT_FILE = "run.json", "checkpoint.npz"

# Of the file; those of before it was named are of the first.
_FORMAT = 1

# What belongs to the run; the rest (time limit, quiet, ...) is said anew when it goes on.
_ARGUMENTS: Table = {
    "dataset": TEXT,
    "target": or_none(TEXTS),
    "features": Optional(or_none(TEXTS), None),
    "drop": Optional(or_none(TEXTS), None),
    "hidden": listed(COUNT),
    "activation": one_of(*ACTIVATIONS),
    "test_size": NUMBER,
    "seed": COUNT,
    "loss": Optional(one_of("auto", *LOSSES), "auto"),
    "huber_delta": Optional(POSITIVE, Huber.delta),
    "shooting": one_of("multiple", "single"),
    "reference": one_of("ipopt", "none"),
}
_OBJECT = Kind("an object", lambda value: isinstance(value, dict))
_RUN: Table = {
    "format": Optional(COUNT, _FORMAT), "arguments": _OBJECT, "weight_decay": AMOUNT, "selection": or_none(_OBJECT),
}  # fmt: skip
_SELECTION: Table = {
    "weight_decay": AMOUNT, "candidates": listed(AMOUNT), "errors": listed(or_none(NUMBER)), "num_train": COUNT,
    "num_used": COUNT, "num_validation": COUNT, "repeats": COUNT,
}  # fmt: skip

# A run's file has a kilobyte.
_MAX_BYTES = 2**20


def write_run(folder: Path, args: argparse.Namespace, weight_decay: float, selection: Selection | None) -> None:
    """Leave the arguments and the weight decay; a path of a data set is made absolute."""
    arguments = {name: getattr(args, name) for name in _ARGUMENTS}
    if args.dataset not in BUILTIN and Path(args.dataset).exists():
        arguments["dataset"] = str(Path(args.dataset).resolve())
    chosen = None if selection is None else selection.as_dict()
    content = {"format": _FORMAT, "arguments": arguments, "weight_decay": weight_decay, "selection": chosen}
    write_json(folder / RUN_FILE, content)


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
        run = _run(path)
        arguments = checked("'arguments'", run["arguments"], _ARGUMENTS, strict=True)
        selection = None if run["selection"] is None else _selection(run["selection"])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: damaged ({' '.join(str(error).split())}); start the run again") from None
    arguments |= {"hidden": tuple(arguments["hidden"]), "weight_decay": float(run["weight_decay"])}
    return argparse.Namespace(**{**vars(args), **arguments, "out": args.resume}), selection


def earlier_result(folder: Path) -> Result | None:
    """The last checkpoint, or None where the run ended before the first.

    Raises
    ------
    ValueError
        If there is a file that cannot be read, or gone on from.
    """
    path = folder / CHECKPOINT_FILE
    if not path.is_file():
        return None
    result = load(path)
    if not isinstance(result.state, SolverState):
        raise ValueError(f"{path}: a result without the solver's state, so there is nothing to go on from; delete it")
    return result


def _run(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise ValueError(f"{size} bytes, expected at most {_MAX_BYTES}")
    content = json.loads(path.read_text(encoding="utf-8"))
    version = content.get("format", _FORMAT) if isinstance(content, dict) else _FORMAT
    if version != _FORMAT:
        raise ValueError(f"its format is {shown(version)}, but this version reads format {_FORMAT}")
    return checked("it", content, _RUN, strict=True)


def _selection(content: dict[str, Any]) -> Selection:
    values = checked("'selection'", content, _SELECTION, strict=True)
    if len(values["candidates"]) != len(values["errors"]):
        raise ValueError(f"{len(values['candidates'])} candidates but {len(values['errors'])} errors in 'selection'")
    errors = tuple(float("nan") if error is None else error for error in values["errors"])  # JSON has no word for it
    return Selection(**values | {"candidates": tuple(values["candidates"]), "errors": errors})
