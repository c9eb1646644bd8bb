"""Results on disk: weights, architecture, units, options, history, status and, if wanted, all that it takes to go on.

The file is NumPy's ``.npz`` (a zip of arrays with check sums), without pickle.  It is written beside its place and
moved into it, so that a kill leaves the old file whole.  Reading takes nothing for granted (:mod:`ocp_nn.base.npz`)
and, where all layers are dense, runs no code of the file.  A symbolic layer is a CasADi function as CasADi serialises
it, and that may name a library to load, or be compiled when it is read: as with any
program, open such files from people you trust.

Formats 2 and 3
---------------
Format 2 is that of training problems.  Format 3 is the same for all others (:mod:`.packing`): it has no model, its
``layers`` are null, and over time what a trajectory has is in ``trajectory_states`` and ``trajectory_multipliers``.

``meta`` is JSON text; numbers that are not finite are the strings "inf", "-inf" and "nan" there.  ``meta_sha256`` is
the SHA-256 of that text.  Its keys:

* ``format``: "ocp_nn result"; ``version``: 2 or 3; ``versions``: of ocp_nn, Python and the packages that compute
* ``layers``: {"kind": "dense", "num_inputs", "num_outputs", "activation", "residual"} or {"kind": "symbolic",
  "function"}, the latter being ``casadi.Function.serialize()``; ``sizes``: the widths of x_0..x_K
* ``features``, ``targets``: names; ``activation``: of the first layer, "" where that is symbolic
* ``link``, ``classes``: of the model, a text and a list of texts or numbers; "identity" and none in files without
* ``result``: status, message, objective, rollout_objective, max_defect, stationarity, seconds, solver, counts and,
  not in the first files of this format, notes
* ``options``: those of :class:`ocp_nn.Options`, or null
* ``problem``: of training {"weight_decay"} and, for another loss than squares, ``loss``: its name, with "delta" for
  Huber's and the serialised "function" for a custom one; or null.  ``state``: the scalars of a solver's state, or null
* ``digests``: of each array by name, the first 16 hexadecimal digits of the SHA-256 of its bytes

The check sums are against accidents and edits, not forgery; a file without ``meta_sha256`` is of before they were kept.

Arrays, with k counting stages from 0:

* ``control_k``: vec([W b]) of stage k, columns stacked; ``x_mean``, ``x_scale``, ``y_mean``, ``y_scale``;
  ``x_range``, (2, inputs), where the model knows the lowest and highest training inputs
* ``history``: one row a record, the numeric columns of :class:`ocp_nn.Record` in order; ``history_phase``
* with the problem: ``problem_x``, ``problem_y``, where samples are weighted ``problem_weight``;
  ``trajectory_state_k`` (k >= 1), ``trajectory_multiplier_k``
* with the state: ``state_*``: point, multipliers, penalty, violation, best, safeguard and start

What follows from these by computation (outputs, defects, adjoints) is not in the file; it is computed again on loading,
in the same order, so a solve that goes on from a file gives the same bits as one that never stopped.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib import metadata
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..base.atomic import atomic_write
from ..base.npz import digest
from ..base.schema import AMOUNT, COUNTS, NUMBER, TEXT, TEXTS, Optional, Table, or_none, to_words
from ..base.version import VERSION
from ..network.model import Model
from .constraints.constrained_problem import ConstrainedProblem
from .optimal_control import OptimalControlProblem
from .packing import numbered, packed_problem, packed_trajectory
from .record import Record, Status
from .training import TrainingProblem
from .trajectory import Trajectory

__all__ = ["FORMAT", "FORMAT_VERSION", "GENERAL_VERSION", "NUMBERS", "RESULT", "Packable", "save", "text_digest"]

Array = NDArray[np.float64]
Content = dict[str, Any]

FORMAT, FORMAT_VERSION, GENERAL_VERSION = "ocp_nn result", 2, 3

_PACKAGES = ("casadi", "numpy", "scipy")

# Fields of a result that are plain values.
RESULT: Table = {
    "message": TEXT, "notes": Optional(TEXTS, []), "curvature": Optional(or_none(NUMBER), None),
    "objective": NUMBER, "rollout_objective": NUMBER,
    "max_defect": NUMBER, "stationarity": NUMBER, "seconds": AMOUNT, "solver": TEXT, "counts": COUNTS,
}  # fmt: skip

# Numeric columns of the history.
NUMBERS = tuple(name for name in Record.columns() if name != "phase")


@runtime_checkable
class Packable(Protocol):
    """A solver's state that can be saved: its scalars, and its arrays by name."""

    def packed(self) -> tuple[dict[str, Any], Content]: ...


class Savable(Protocol):
    """What of a result is saved, beside the fields of :data:`RESULT`."""

    @property
    def status(self) -> Status: ...
    @property
    def trajectory(self) -> Trajectory: ...
    @property
    def history(self) -> tuple[Record, ...]: ...
    @property
    def state(self) -> object | None: ...
    @property
    def problem(self) -> OptimalControlProblem | None: ...
    @property
    def model(self) -> Model | None: ...
    @property
    def options(self) -> Any: ...
    @property
    def versions(self) -> dict[str, str]: ...


def save(
    result: Savable,
    path: str | os.PathLike[str],
    *,
    state: bool = True,
    arrays: Mapping[str, Any] | None = None,
) -> None:
    """Write a result to a file that :func:`ocp_nn.load` reads.

    Parameters
    ----------
    result : Result
    path : path
        Is replaced if it exists.
    state : bool
        With what it takes to go on: training data, trajectory and, from our solver, its state.  Without, the file
        is small and holds no data.  Constrained problems are not written: of them a file has the model, the history
        and how it ended.
    arrays : mapping, optional
        Further arrays to put beside the others under names of their own.

    Raises
    ------
    ValueError
        If a result of training has no model, any other is to be saved without its problem, or a name of ``arrays``
        is taken.
    OSError
        If the file cannot be written.
    """
    content = _packed(result, state)
    further = {name: np.asarray(value) for name, value in (arrays or {}).items()}
    if taken := content.keys() & further.keys():
        raise ValueError(f"the names {sorted(taken)} are used by the file itself")
    # packed where Ctrl-C does not arrive: an archive left open hides the exception or complains when it is collected
    archive = io.BytesIO()
    with ThreadPoolExecutor(1) as packer:
        packer.submit(np.savez, archive, **content, **further).result()  # type: ignore[arg-type, unused-ignore]
    with atomic_write(path) as file:
        file.write(archive.getbuffer())


def _packed(result: Savable, state: bool) -> Content:
    problem = None if isinstance(result.problem, ConstrainedProblem) else result.problem
    is_training = problem is None or isinstance(problem, TrainingProblem)
    if result.model is None and is_training:
        raise ValueError("only a result with a model can be saved; use dataclasses.replace(result, model=Model(...))")
    if not (is_training or state):
        raise ValueError("a result without a model is saved with its problem or not at all: use state=True")
    meta = {
        "format": FORMAT,
        "version": FORMAT_VERSION if is_training else GENERAL_VERSION,
        "versions": result.versions or _versions(),
        **_described_model(result.model if is_training else None),
        "result": {"status": result.status.value} | {name: getattr(result, name) for name in RESULT},
        "options": None if result.options is None else asdict(result.options),
        "problem": None,
        "state": None,
    }
    content = _packed_model(result.model) if is_training else numbered("control", result.trajectory.controls)
    content |= _packed_history(result.history)
    if state and problem is not None:
        meta["problem"], arrays = packed_problem(problem)
        content |= arrays
        content |= packed_trajectory(problem, result.trajectory)
        if isinstance(result.state, Packable):
            meta["state"], arrays = result.state.packed()
            content |= arrays
    meta["digests"] = {name: digest(array) for name, array in content.items()}
    text = json.dumps(to_words(meta), allow_nan=False)
    return content | {"meta": np.array(text), "meta_sha256": np.array(text_digest(text))}


def _described_model(model: Model | None) -> dict[str, Any]:
    if model is None:
        return {"layers": None, "features": [], "targets": []}
    return {
        "layers": model.network.describe(),
        "sizes": list(model.network.sizes),
        "activation": getattr(model.network.layers[0], "activation", ""),
        "features": list(model.features),
        "targets": list(model.targets),
        "link": model.link,
        "classes": list(model.classes),
    }


def _packed_model(model: Model | None) -> Content:
    assert model is not None
    content = numbered("control", model.controls)
    content |= {"x_mean": model.x_scaler.mean, "x_scale": model.x_scaler.scale}
    content |= {"y_mean": model.y_scaler.mean, "y_scale": model.y_scaler.scale}
    return content if model.x_range is None else content | {"x_range": model.x_range}


def _versions() -> dict[str, str]:
    return {
        "ocp_nn": VERSION,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in _PACKAGES},
    }


def _packed_history(history: Sequence[Record]) -> Content:
    rows = [[np.nan if (v := getattr(r, name)) is None else float(v) for name in NUMBERS] for r in history]
    return {
        "history": np.array(rows, dtype=float).reshape(len(rows), len(NUMBERS)),
        "history_phase": np.array([r.phase for r in history], dtype=str),
    }


def text_digest(text: str) -> str:
    """SHA-256 of a text, in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()
