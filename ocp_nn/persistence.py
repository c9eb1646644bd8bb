"""Results on disk: weights, architecture, units, options, history, status and, if wanted, all that it takes to go on.

The file is NumPy's ``.npz`` (a zip of arrays with check sums), without pickle.  It is written beside its place and
moved into it, so that a kill leaves the old file whole.  Reading takes nothing for granted (:mod:`ocp_nn.npz`,
:mod:`ocp_nn.unpacking`) and, where all layers are dense, runs no code of the file.  A symbolic layer is a CasADi
function as CasADi serialises it, and that may name a library to load, or be compiled when it is read: as with any
program, open such files from people you trust.

Format 2
--------
``meta`` is JSON text; numbers that are not finite are the strings "inf", "-inf" and "nan" there.  ``meta_sha256`` is
the SHA-256 of that text.  Its keys:

* ``format``: "ocp_nn result"; ``version``: 2; ``versions``: of ocp_nn, Python and the packages that compute
* ``layers``: {"kind": "dense", "num_inputs", "num_outputs", "activation", "residual"} or {"kind": "symbolic",
  "function"}, the latter being ``casadi.Function.serialize()``; ``sizes``: the widths of x_0..x_K
* ``features``, ``targets``: names; ``activation``: of the first layer, "" where that is symbolic
* ``result``: status, message, objective, rollout_objective, max_defect, stationarity, seconds, solver, counts and,
  not in the first files of this format, notes
* ``options``: those of :class:`ocp_nn.Options`, or null
* ``problem``: {"weight_decay"}, or null; ``state``: the scalars of a :class:`ocp_nn.SolverState`, or null
* ``digests``: of each array by name, the first 16 hexadecimal digits of the SHA-256 of its bytes

The check sums are against accidents and edits, not forgery; a file without ``meta_sha256`` is of before they were kept.

Arrays, with k counting stages from 0:

* ``control_k``: vec([W b]) of stage k, columns stacked; ``x_mean``, ``x_scale``, ``y_mean``, ``y_scale``;
  ``x_range``, (2, inputs), where the model knows the lowest and highest training inputs
* ``history``: one row a record, the numeric columns of :class:`ocp_nn.Record` in order; ``history_phase``
* with the problem: ``problem_x``, ``problem_y``; ``trajectory_state_k`` (k >= 1), ``trajectory_multiplier_k``
* with the state: ``state_*``: point, multipliers, penalty, violation, best, safeguard and start

What follows from these by computation (outputs, defects, adjoints) is not in the file; it is computed again on loading,
in the same order, so a solve that goes on from a file gives the same bits as one that never stopped.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import struct
import time
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .atomic import atomic_write
from .npz import Archive, digest
from .problem import Trajectory
from .result import Record, Result
from .schema import WORDS, Optional, checked, shown, to_words
from .solver_state import SolverState
from .unpacking import NUMBERS, RESULT, STATE, unpacked

__all__ = ["FORMAT_VERSION", "Checkpoint", "LoadError", "load", "save"]

Array = NDArray[np.float64]
Content = dict[str, Any]

FORMAT, FORMAT_VERSION = "ocp_nn result", 2

_PACKAGES = ("casadi", "numpy", "scipy")

_log = logging.getLogger(__name__)


class LoadError(ValueError):
    """A file cannot be read as a saved result; the message says why and what to do."""


class Checkpoint:
    """Saves a result to one path, not more often than every so many seconds.

    A file that cannot be written is a logged warning: a full disk must not end a long solve.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    """

    def __init__(self, path: str | os.PathLike[str], seconds: float = 30.0) -> None:
        self.path, self.seconds = Path(path), seconds
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"{self.path.parent}: no such folder to write a checkpoint to")
        self._written = time.monotonic()

    @property
    def is_due(self) -> bool:
        return time.monotonic() - self._written >= self.seconds

    def write(self, result: Result) -> None:
        try:
            save(result, self.path)
        except OSError as error:
            _log.warning("no checkpoint: %s", error)
        self._written = time.monotonic()


def save(
    result: Result,
    path: str | os.PathLike[str],
    *,
    state: bool = True,
    arrays: Mapping[str, Any] | None = None,
) -> None:
    """Write a result to a file that :func:`load` reads.

    Parameters
    ----------
    result : Result
    path : path
        Is replaced if it exists.
    state : bool
        With what it takes to go on: training data, trajectory and, from our solver, its state.  Without, the file
        is small and holds no data.
    arrays : mapping, optional
        Further arrays to put beside the others under names of their own.

    Raises
    ------
    ValueError
        If the result has no model, or a name of ``arrays`` is taken.
    OSError
        If the file cannot be written.
    """
    content = _packed(result, state)
    further = {name: np.asarray(value) for name, value in (arrays or {}).items()}
    if taken := content.keys() & further.keys():
        raise ValueError(f"the names {sorted(taken)} are used by the file itself")
    with atomic_write(path) as file:
        np.savez(file, **content, **further)  # type: ignore[arg-type, unused-ignore]


def load(path: str | os.PathLike[str]) -> Result:
    """Read a result that :func:`save` wrote.

    Returns
    -------
    Result
        Saved without state, its trajectory has controls only, and ``state`` and ``problem`` are None.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    LoadError
        If the file cannot be read, is damaged, something else, or of another version of the format.
    """
    with _opened(path) as file:
        try:
            archive = Archive(file)
            meta = _meta(path, archive)
            archive.digests = checked("the description", meta, _DIGESTS)["digests"]
            return unpacked(archive, meta)
        except LoadError:
            raise
        except _DAMAGE as error:
            raise LoadError(
                f"{path}: damaged, or not a result saved by ocp_nn ({_reason(error)}); use another copy, or train again"
            ) from None


def _opened(path: str | os.PathLike[str]) -> IO[bytes]:
    if Path(path).exists() and not Path(path).is_file():
        raise LoadError(f"{path}: not a regular file, expected a result saved by ocp_nn")
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise LoadError(f"{path}: cannot be read: {error.strerror}") from None


# Everything that reading garbage as a zip of arrays, as JSON or as a network has been seen to raise.
_DAMAGE = (
    ValueError, KeyError, TypeError, AttributeError, IndexError, EOFError, OSError, RuntimeError, NotImplementedError,
    SyntaxError, MemoryError, ArithmeticError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip

# Check sums of the arrays by name; files of before they were kept have none.
_DIGESTS = {"digests": Optional(WORDS, {})}


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if type(error) is ValueError else f"{type(error).__name__}: {text}"


def _meta(path: str | os.PathLike[str], archive: Archive) -> Content:
    """The description of the content, once its format and its check sum are found right."""
    text = str(archive.words("meta", ()))
    meta = json.loads(text, parse_constant=_refuse_constant)
    _check_format(path, meta)
    if "meta_sha256" in archive and str(archive.words("meta_sha256", ())) != _sha256(text):
        raise ValueError("the description is not the one that was saved: its check sum differs")
    if "meta_sha256" not in archive:
        meta.pop("digests", None)
    return meta


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _refuse_constant(word: str) -> None:
    raise ValueError(f"the description holds {word}, which is not JSON")


def _check_format(path: str | os.PathLike[str], meta: Any) -> None:
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT!r}")
    if meta.get("version") != FORMAT_VERSION:
        versions = meta.get("versions")
        writer = shown(versions.get("ocp_nn", "unknown")) if isinstance(versions, dict) else "unknown"
        writer = writer.strip("'")
        raise LoadError(
            f"{path}: written in format {shown(meta.get('version'))} by ocp_nn {writer}, but this version reads format "
            f"{FORMAT_VERSION}; install ocp_nn {writer}, or train again"
        )


# --- packing


def _packed(result: Result, state: bool) -> Content:
    model = result.model
    if model is None:
        raise ValueError("only a result with a model can be saved; use dataclasses.replace(result, model=Model(...))")
    meta = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "versions": result.versions or _versions(),
        "layers": model.network.describe(),
        "sizes": list(model.network.sizes),
        "activation": getattr(model.network.layers[0], "activation", ""),
        "features": list(model.features),
        "targets": list(model.targets),
        "result": {"status": result.status.value} | {name: getattr(result, name) for name in RESULT},
        "options": None if result.options is None else asdict(result.options),
        "problem": None,
        "state": None,
    }
    content = _numbered("control", model.controls)
    content |= {"x_mean": model.x_scaler.mean, "x_scale": model.x_scaler.scale}
    content |= {"y_mean": model.y_scaler.mean, "y_scale": model.y_scaler.scale}
    if model.x_range is not None:
        content["x_range"] = model.x_range
    content |= _packed_history(result.history)
    if state and result.problem is not None:
        meta["problem"] = {"weight_decay": result.problem.weight_decay}
        content |= {"problem_x": result.problem.x, "problem_y": result.problem.y}
        content |= _packed_trajectory(result.trajectory)
        if isinstance(result.state, SolverState):
            meta["state"], arrays = _packed_state(result.state)
            content |= arrays
    meta["digests"] = {name: digest(array) for name, array in content.items()}
    text = json.dumps(to_words(meta), allow_nan=False)
    return content | {"meta": np.array(text), "meta_sha256": np.array(_sha256(text))}


def _versions() -> dict[str, str]:
    from . import __version__

    return {
        "ocp_nn": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in _PACKAGES},
    }


def _packed_history(history: Sequence[Record]) -> Content:
    rows = [[np.nan if (v := getattr(r, name)) is None else float(v) for name in NUMBERS] for r in history]
    return {
        "history": np.array(rows, dtype=float).reshape(len(rows), len(NUMBERS)),
        "history_phase": np.array([r.phase for r in history], dtype=str),
    }


def _packed_trajectory(trajectory: Trajectory) -> Content:
    multipliers = trajectory.multipliers or ()
    return _numbered("trajectory_state", trajectory.states[1:], 1) | _numbered("trajectory_multiplier", multipliers)


def _packed_state(state: SolverState) -> tuple[dict[str, Any], Content]:
    scalars = {name: getattr(state, name) for name in STATE}
    scalars["damping"] = asdict(state.damping)
    scalars["best"], scalars["safeguard"] = state.best.objective, state.safeguard.objective
    scalars["finish"] = None if state.finish is None else asdict(state.finish)
    arrays = {
        "state_penalty": np.array(state.penalty),
        "state_violation": np.array(state.violation),
        **_numbered("state_control", state.point.controls),
        **_numbered("state_state", state.point.states[1:], 1),
        **_numbered("state_multiplier", state.multipliers),
        **_numbered("state_best", state.best.controls),
        **_numbered("state_safeguard", state.safeguard.controls),
        **_numbered("state_start", state.start),
    }
    return scalars, arrays


def _numbered(name: str, arrays: Sequence[Array], first: int = 0) -> Content:
    return {f"{name}_{k}": array for k, array in enumerate(arrays, first)}
