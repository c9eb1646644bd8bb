"""The tables of a sweep: tidy CSV files, one observation a row, with a data dictionary.

A run is one network from one start.  Its rows go to several tables; its line in ``runs.csv`` is written last, in one
piece, and marks it finished.  What a killed sweep left behind are therefore rows of runs that are not in
``runs.csv`` (or the torn end of a line): they are dropped when the folder is opened again.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...base.atomic import atomic_write

__all__ = ["COLUMNS", "DICTIONARY", "Store", "read_table"]

Row = Mapping[str, Any]

# Column: (unit, meaning).  "1" is a pure number.  Data are standardised, so states and controls are pure numbers too.
_RUN = {
    "run": ("", "key of the run: the columns that follow, joined"),
    "depth": ("1", "hidden layers"),
    "width": ("1", "units in each hidden layer"),
    "activation": ("", "of the hidden layers; the last layer is linear"),
    "initialisation": ("", "of the weights, as in ocp_nn.solvers.augmented_lagrangian.initialise"),
    "seed": ("1", "of the initial weights"),
}
_POINT = {
    "phase": ("", "start: initial weights and their rollout; during, end: on the way and at the end of a training"),
    "method": ("", "lm (single shooting), al (multiple shooting); none at the start"),
    "step": ("1", "Gauss-Newton steps taken so far"),
}

DICTIONARY: dict[str, dict[str, tuple[str, str]]] = {
    "matrices": _RUN
    | _POINT
    | {
        "matrix": ("", "which matrix; see ocp_nn.analysis.conditioning.MATRICES"),
        "shooting": ("", "single, multiple, or partial n with n nodes"),
        "penalty": ("1", "beta, common to all nodes; empty where the matrix has none"),
        "rows": ("1", "of the matrix"),
        "columns": ("1", "of the matrix"),
        "largest": ("1", "largest singular value"),
        "smallest": ("1", "smallest of the min(rows, columns) singular values"),
        "condition": ("1", "largest / smallest; inf where the matrix is singular"),
        "rank": ("1", "numerical rank; empty where only extremes are known"),
        "negative": ("1", "negative eigenvalues beyond rounding; empty where not known"),
        "accuracy": ("1", "expected relative error of condition; 1 or more: singular to rounding"),
        "is_bound": ("", "1 where condition is only a lower bound, else 0"),
        "route": ("", "dense or iterative"),
    },
    "stages": _RUN
    | _POINT
    | {
        "stage": ("1", "k, from 0"),
        "state_variance": ("1", "variance over samples of x_{k+1}, mean over units"),
        "gradient_norm": ("1", "2-norm of B_k' lambda_{k+1}: gradient of the data term in u_k"),
    },
    "products": _RUN
    | _POINT
    | {
        "first": ("1", "j of the product A_k ... A_j; the input state is x_j"),
        "last": ("1", "k of the product"),
        "largest": ("1", "largest singular value, median over samples"),
        "smallest": ("1", "smallest singular value, median over samples"),
    },
    "spectra": _RUN
    | _POINT
    | {
        "matrix": ("", "as in matrices, of single shooting"),
        "index": ("1", "rank of the value from the largest, from 0; at most 100 evenly spaced ones"),
        "value": ("1", "singular value; of a symmetric matrix the eigenvalue, with its sign"),
    },
    "training": _RUN
    | {
        "method": ("", "lm, al, or ipopt (single shooting, exact Hessian)"),
        "steps": ("1", "Gauss-Newton steps, or iterations of IPOPT"),
        "error": ("1", "mean squared training error / variance of the targets, at the end; 1 is a constant predictor"),
        "best_error": ("1", "the same, smallest on the way"),
        "status": ("", "how the training ended; limit: the steps allowed were used up"),
        "seconds": ("s", "wall-clock time"),
    },
    "history": _RUN
    | {
        "method": ("", "as in training"),
        "step": ("1", "as steps in training"),
        "error": ("1", "as error in training (ipopt: plus weight decay, a bound)"),
    },
    "runs": _RUN
    | {
        "seconds": ("s", "wall-clock time of the run"),
        "message": ("", "why it failed"),
        "status": ("", "done or failed"),
    },
}

COLUMNS = {table: tuple(columns) for table, columns in DICTIONARY.items()}


class Store:
    """The folder of a sweep.

    Parameters
    ----------
    folder : path
        Made if it is not there.
    settings : mapping
        Everything beside the grid that rows depend on; kept in ``settings.json``.

    Raises
    ------
    ValueError
        If the folder holds a sweep with other settings; the message names them.
    """

    def __init__(self, folder: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check_settings(json.loads(json.dumps(settings)))
        self._write_dictionary()
        self.finished = {row["run"] for row in read_table(self.folder, "runs") if row["status"] == "done"}
        for table in COLUMNS:
            self._drop_unfinished(table)

    def _check_settings(self, settings: dict[str, Any]) -> None:
        path = self.folder / "settings.json"
        if path.is_file():
            held = json.loads(path.read_text())
            names = [name for name in settings if held.get(name) != settings[name]]
            if names:
                differences = ", ".join(f"{name}: {held.get(name)} there, {settings[name]} now" for name in names)
                raise ValueError(f"{self.folder} holds a sweep with other settings ({differences}): use another folder")
            return
        with atomic_write(path) as file:
            file.write(f"{json.dumps(settings, indent=2)}\n".encode())

    def _write_dictionary(self) -> None:
        rows = [
            {"table": f"{table}.csv", "column": column, "unit": unit, "meaning": meaning}
            for table, columns in DICTIONARY.items()
            for column, (unit, meaning) in columns.items()
        ]
        with atomic_write(self.folder / "data_dictionary.csv") as file:
            file.write(_lines(("table", "column", "unit", "meaning"), rows, header=True))

    def _drop_unfinished(self, table: str) -> None:
        """Keep the rows of finished runs; make the file if it is not there."""
        rows = read_table(self.folder, table)
        kept = [row for row in rows if row["run"] in self.finished and (table != "runs" or row["status"] == "done")]
        path = self.folder / f"{table}.csv"
        whole = path.is_file() and path.read_bytes().endswith(b"\n")
        if not whole or len(kept) < len(rows):
            with atomic_write(path) as file:
                file.write(_lines(COLUMNS[table], kept, header=True))

    def append(self, rows: Mapping[str, Sequence[Row]]) -> None:
        """Add the rows of one run; the table ``runs`` must be among them and is written last."""
        for table in sorted(rows, key=lambda name: name == "runs"):
            with open(self.folder / f"{table}.csv", "ab") as file:
                file.write(_lines(COLUMNS[table], rows[table], header=False))
                file.flush()
                os.fsync(file.fileno())
        self.finished |= {row["run"] for row in rows["runs"] if row["status"] == "done"}


def _lines(columns: Sequence[str], rows: Sequence[Row], *, header: bool) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def read_table(folder: str | os.PathLike[str], table: str) -> list[dict[str, str]]:
    """The whole rows of a table, as text; none where there is no file.

    Raises
    ------
    ValueError
        If the columns are not those of this version.
    """
    path = Path(folder) / f"{table}.csv"
    if not path.is_file():
        return []
    with open(path, newline="") as file:
        header, *lines = list(csv.reader(file)) or [[]]
    if tuple(header) != COLUMNS[table]:
        raise ValueError(f"{path} has the columns {header}, expected {list(COLUMNS[table])}: use another folder")
    return [dict(zip(header, line, strict=True)) for line in lines if len(line) == len(header)]
