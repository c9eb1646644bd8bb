"""What ``ocp-nn fit --resume DIR`` goes on from: the run's arguments, and the solver's state in ``checkpoint.npz``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..base.schema import (
    AMOUNT,
    COUNT,
    NUMBER,
    POSITIVE,
    TEXT,
    TEXTS,
    Optional,
    Table,
    checked,
    listed,
    one_of,
    or_none,
)
from ..learning.data import BUILTIN
from ..learning.selection import Selection
from ..network.activations import ACTIVATIONS
from ..problem.losses import LOSSES, Huber
from ..problem.result import Result
from ..solvers.augmented_lagrangian.files import load
from ..solvers.augmented_lagrangian.state import SolverState
from .run_file import OBJECT, RUN_FILE, located, read_run, write_run

__all__ = ["CHECKPOINT_FILE", "earlier_result", "earlier_run", "write_fit_run"]

CHECKPOINT_FILE = "checkpoint.npz"

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
_OTHERS: Table = {"weight_decay": AMOUNT, "selection": or_none(OBJECT)}
_SELECTION: Table = {
    "weight_decay": AMOUNT, "candidates": listed(AMOUNT), "errors": listed(or_none(NUMBER)), "num_train": COUNT,
    "num_used": COUNT, "num_validation": COUNT, "repeats": COUNT,
    "log_evidence": Optional(listed(or_none(NUMBER)), []),
}  # fmt: skip


def write_fit_run(folder: Path, args: argparse.Namespace, weight_decay: float, selection: Selection | None) -> None:
    """Leave the arguments and the weight decay; a path of a data set is made absolute."""
    arguments = {name: getattr(args, name) for name in _ARGUMENTS}
    if args.dataset not in BUILTIN:
        arguments["dataset"] = located(args.dataset)
    chosen = None if selection is None else selection.as_dict()
    write_run(folder, "fit", arguments, weight_decay=weight_decay, selection=chosen)


def earlier_run(args: argparse.Namespace) -> tuple[argparse.Namespace, Selection | None]:
    """The arguments of the run in ``args.resume``, and how its weight decay was chosen.

    Raises
    ------
    FileNotFoundError
        If there is no run.
    ValueError
        If its file cannot be read.
    """
    earlier, run = read_run(args.resume, "fit", _ARGUMENTS, _OTHERS)
    try:
        selection = None if run["selection"] is None else _selection(run["selection"])
    except ValueError as error:
        raise ValueError(f"{args.resume / RUN_FILE}: damaged ({error}); start the run again") from None
    arguments = vars(earlier) | {"hidden": tuple(earlier.hidden), "weight_decay": float(run["weight_decay"])}
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


def _selection(content: dict[str, Any]) -> Selection:
    values = checked("'selection'", content, _SELECTION, strict=True)
    for name in ("errors", "log_evidence"):
        # JSON has no word for what is not finite
        values[name] = tuple(float("nan") if value is None else value for value in values[name])
    candidates, judged = tuple(values["candidates"]), values["log_evidence"] or values["errors"]
    if len(candidates) != len(judged):
        raise ValueError(f"{len(candidates)} candidates but {len(judged)} errors in 'selection'")
    return Selection(**values | {"candidates": candidates})
