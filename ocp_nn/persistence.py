"""Results on disk: weights, architecture, units, options, history, status and, if wanted, all that it takes to go on.

The file is NumPy's ``.npz`` (a zip of arrays with check sums), without pickle: reading one runs no code of the file.
It is written beside its place and moved into it, so that a kill leaves the old file whole.

Format 2
--------
``meta`` is JSON text; numbers that are not finite are the strings "inf", "-inf" and "nan" there.  Its keys:

* ``format``: "ocp_nn result"; ``version``: 2; ``versions``: of ocp_nn, Python and the packages that compute
* ``layers``: {"kind": "dense", "num_inputs", "num_outputs", "activation", "residual"} or {"kind": "symbolic",
  "function"}, the latter being ``casadi.Function.serialize()``; ``sizes``: the widths of x_0..x_K
* ``features``, ``targets``: names; ``activation``: of the first layer, "" where that is symbolic
* ``result``: status, message, objective, rollout_objective, max_defect, stationarity, seconds, solver, counts
* ``options``: those of :class:`ocp_nn.Options`, or null
* ``problem``: {"weight_decay"}, or null; ``state``: the scalars of a :class:`ocp_nn.SolverState`, or null

Arrays, with k counting stages from 0:

* ``control_k``: vec([W b]) of stage k, columns stacked; ``x_mean``, ``x_scale``, ``y_mean``, ``y_scale``
* ``history``: one row a record, the numeric columns of :class:`ocp_nn.Record` in order; ``history_phase``
* with the problem: ``problem_x``, ``problem_y``; ``trajectory_state_k`` (k >= 1), ``trajectory_multiplier_k``
* with the state: ``state_*``: point, multipliers, penalty, violation, best, safeguard and start

What follows from these by computation (outputs, defects, adjoints) is not in the file; it is computed again on loading,
in the same order, so a solve that goes on from a file gives the same bits as one that never stopped.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .atomic import atomic_write
from .blas import limited_blas
from .damping import Damping
from .data.scaling import Scaler
from .inner_problem import AugmentedLagrangian
from .model import Model
from .network import Network
from .options import Options
from .problem import TrainingProblem, Trajectory
from .result import Record, Result, Status
from .solver_state import Best, Finish, SolverState

__all__ = ["FORMAT_VERSION", "Checkpoint", "LoadError", "load", "save"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]
Content = dict[str, Any]

FORMAT, FORMAT_VERSION = "ocp_nn result", 2

_PACKAGES = ("casadi", "numpy", "scipy")
_NUMBERS = tuple(name for name in Record.columns() if name != "phase")
_INTEGERS = ("iteration", "steps")
_RESULT_SCALARS = (
    "message", "objective", "rollout_objective", "max_defect", "stationarity", "seconds", "solver", "counts",
)  # fmt: skip
_STATE_SCALARS = (
    "stationarity", "rollout_objective", "settled", "stalled", "restart_objective", "restart_outer",
    "fruitless", "outer", "counts",
)  # fmt: skip

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
            _log.warning("no checkpoint: %s cannot be written: %s", self.path, error)
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
        If the file is damaged, something else, or of another version of the format.
    """
    with open(path, "rb") as file:
        try:
            content = _read(file)
            meta = json.loads(str(content["meta"]))
            _check_format(path, meta)
            return _unpacked(content, meta)
        except LoadError:
            raise
        except _DAMAGE as error:
            raise LoadError(
                f"{path}: damaged, or not a result saved by ocp_nn ({type(error).__name__}: {error}); "
                "use another copy, or train again"
            ) from None


# Everything that reading garbage as a zip of arrays, as JSON or as a network has been seen to raise.
_DAMAGE = (
    ValueError, KeyError, TypeError, AttributeError, IndexError, EOFError, OSError, RuntimeError, NotImplementedError,
    SyntaxError, MemoryError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def _read(file: IO[bytes]) -> Content:
    archive = np.load(file, allow_pickle=False)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise ValueError("a single array")
    return {name: archive[name] for name in archive.files}


def _check_format(path: str | os.PathLike[str], meta: Any) -> None:
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT!r}")
    if meta.get("version") != FORMAT_VERSION:
        writer = meta.get("versions", {}).get("ocp_nn", "unknown")
        raise LoadError(
            f"{path}: written in format {meta.get('version')} by ocp_nn {writer}, but this version reads format "
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
        "result": {"status": result.status.value} | {name: getattr(result, name) for name in _RESULT_SCALARS},
        "options": None if result.options is None else asdict(result.options),
        "problem": None,
        "state": None,
    }
    content = _numbered("control", model.controls)
    content |= {"x_mean": model.x_scaler.mean, "x_scale": model.x_scaler.scale}
    content |= {"y_mean": model.y_scaler.mean, "y_scale": model.y_scaler.scale}
    content |= _packed_history(result.history)
    if state and result.problem is not None:
        meta["problem"] = {"weight_decay": result.problem.weight_decay}
        content |= {"problem_x": result.problem.x, "problem_y": result.problem.y}
        content |= _packed_trajectory(result.trajectory)
        if isinstance(result.state, SolverState):
            meta["state"], arrays = _packed_state(result.state)
            content |= arrays
    content["meta"] = np.array(json.dumps(_finite(meta), allow_nan=False))
    return content


def _versions() -> dict[str, str]:
    from . import __version__

    return {
        "ocp_nn": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in _PACKAGES},
    }


def _packed_history(history: Sequence[Record]) -> Content:
    rows = [[np.nan if (v := getattr(r, name)) is None else float(v) for name in _NUMBERS] for r in history]
    return {
        "history": np.array(rows, dtype=float).reshape(len(rows), len(_NUMBERS)),
        "history_phase": np.array([r.phase for r in history], dtype=str),
    }


def _packed_trajectory(trajectory: Trajectory) -> Content:
    multipliers = trajectory.multipliers or ()
    return _numbered("trajectory_state", trajectory.states[1:], 1) | _numbered("trajectory_multiplier", multipliers)


def _packed_state(state: SolverState) -> tuple[dict[str, Any], Content]:
    scalars = {name: getattr(state, name) for name in _STATE_SCALARS}
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


def _finite(value: Any) -> Any:
    """Plain Python values, with words for the numbers that JSON has not."""
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    if isinstance(value, np.generic | np.ndarray):
        return _finite(value.tolist())
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


# --- unpacking


def _unpacked(content: Content, meta: dict[str, Any]) -> Result:
    network = Network.from_description(meta["layers"])
    num_stages = network.num_stages
    model = Model(
        network,
        _collect(content, "control", range(num_stages)),
        x_scaler=Scaler(content["x_mean"], content["x_scale"]),
        y_scaler=Scaler(content["y_mean"], content["y_scale"]),
        features=meta["features"],
        targets=meta["targets"],
    )
    scalars = _restored(meta["result"])
    options = None if meta["options"] is None else Options(**_restored(meta["options"]))
    problem = state = None
    trajectory = Trajectory(model.controls, ())
    if meta["problem"] is not None:
        problem = TrainingProblem(network, content["problem_x"], content["problem_y"], meta["problem"]["weight_decay"])
        trajectory = _unpacked_trajectory(content, problem, model.controls)
    if problem is not None and meta["state"] is not None:
        state = _unpacked_state(content, problem, _restored(meta["state"]))
    return Result(
        status=Status(scalars.pop("status")),
        trajectory=trajectory,
        history=tuple(_unpacked_history(content)),
        state=state,
        problem=problem,
        model=model,
        options=options,
        versions=meta["versions"],
        **scalars,
    )


def _unpacked_history(content: Content) -> Iterator[Record]:
    for row, phase in zip(content["history"].tolist(), content["history_phase"].tolist(), strict=True):
        values: dict[str, Any] = dict(zip(_NUMBERS, row, strict=True))
        values |= {name: int(values[name]) for name in _INTEGERS}
        if np.isnan(values["rollout_objective"]):
            values["rollout_objective"] = None
        yield Record(phase=phase, **values)


def _unpacked_trajectory(content: Content, problem: TrainingProblem, controls: Arrays) -> Trajectory:
    states = (problem.x, *_collect(content, "trajectory_state", range(1, problem.num_stages)))
    multipliers = None
    if "trajectory_multiplier_0" in content:
        multipliers = _collect(content, "trajectory_multiplier", range(problem.num_stages))
    trajectory = Trajectory(controls, states, multipliers)
    problem.check(trajectory)
    return trajectory


def _unpacked_state(content: Content, problem: TrainingProblem, scalars: dict[str, Any]) -> SolverState:
    stages, inner = range(problem.num_stages), range(problem.num_stages - 1)
    controls = _collect(content, "state_control", stages)
    states = (problem.x, *_collect(content, "state_state", range(1, problem.num_stages)))
    problem.check(Trajectory(controls, states))
    multipliers = _collect(content, "state_multiplier", inner)
    penalty = tuple(content["state_penalty"].tolist())
    finish = scalars.pop("finish")
    # as in the solve: rounding may depend on the number of BLAS threads
    with limited_blas(problem), np.errstate(over="ignore", invalid="ignore"):
        point = AugmentedLagrangian(problem, multipliers, penalty).at(controls, states)
    return SolverState(
        point=point,
        multipliers=multipliers,
        penalty=penalty,
        violation=tuple(content["state_violation"].tolist()),
        damping=Damping(**scalars.pop("damping")),
        best=Best(_collect(content, "state_best", stages), scalars.pop("best")),
        safeguard=Best(_collect(content, "state_safeguard", stages), scalars.pop("safeguard")),
        start=_collect(content, "state_start", stages),
        finish=None if finish is None else _unpacked_finish(finish),
        **scalars,
    )


def _unpacked_finish(finish: dict[str, Any]) -> Finish:
    damping, other = (Damping(**scalars) for scalars in finish["damping"])
    return Finish((damping, other), tuple(finish["gains"]), finish["second_order"])


def _collect(content: Content, name: str, numbers: range) -> Arrays:
    return tuple(content[f"{name}_{k}"] for k in numbers)


def _restored(value: Any) -> Any:
    """The inverse of :func:`_finite`."""
    if isinstance(value, dict):
        return {key: _restored(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_restored(entry) for entry in value]
    return float(value) if value in ("inf", "-inf", "nan") else value
