"""From the content of a saved file back to a :class:`Result`: the way back of :mod:`.files`.

Sizes come first: the description of the network says how long every array must be, and that is compared with the
arrays' headers before a network is built or an array read.  What has been read is then checked as a whole: numbers are
finite, counts count, the history goes forward, and the objective of the trajectory is the one that was saved with it.

A new entry is a line in a table, or an array read where it belongs; :class:`ocp_nn.base.schema.Optional` where older
files lack it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...base.npz import Archive
from ...base.schema import (
    AMOUNT,
    COUNT,
    FLAG,
    NUMBER,
    POSITIVE,
    TEXT,
    TEXTS,
    WORDS,
    Kind,
    Optional,
    Table,
    checked,
    from_words,
    listed,
    one_of,
    or_none,
)
from ...network.links import LINKS
from ...network.model import Model
from ...network.network import Network
from ...network.scaling import Scaler
from ...problem.blas import limited_blas
from ...problem.loss_description import loss_of_description
from ...problem.losses import LOSSES, Loss
from ...problem.record import Record, Status
from ...problem.result import Result
from ...problem.saving import NUMBERS, RESULT
from ...problem.training import TrainingProblem
from ...problem.trajectory import Trajectory
from .damping import Damping
from .lagrangian import AugmentedLagrangian
from .options import Options
from .schedule import Finish, Schedule
from .state import COUNTS as WORK
from .state import SCHEDULE, STATE, Best, SolverState

__all__ = ["unpacked"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]

_OBJECT = Kind("an object", lambda v: isinstance(v, dict))
_LABEL = Kind("text or a number", lambda v: TEXT.fits(v) or NUMBER.fits(v))
_META: Table = {
    "layers": listed(_OBJECT), "features": TEXTS, "targets": TEXTS, "versions": WORDS, "result": _OBJECT,
    "options": or_none(_OBJECT), "problem": or_none(_OBJECT), "state": or_none(_OBJECT),
    "link": Optional(one_of(*LINKS), "identity"), "classes": Optional(listed(_LABEL), []),
}  # fmt: skip
_STATUS: Table = {"status": one_of(*(status.value for status in Status))}
_LAYERS: dict[str, Table] = {
    "dense": {
        "num_inputs": COUNT,
        "num_outputs": COUNT,
        "activation": TEXT,
        "residual": FLAG,
        "block": Optional(COUNT, None),
    },
    "symbolic": {"function": TEXT, "block": Optional(COUNT, None)},
}
_PROBLEM: Table = {"weight_decay": AMOUNT, "loss": Optional(_OBJECT, {"name": "squared"})}
_LOSSES: dict[str, Table] = {name: {} for name in LOSSES} | {"huber": {"delta": POSITIVE}, "custom": {"function": TEXT}}
_LOSS: Table = {"name": one_of(*_LOSSES)}
_KIND: Table = {"kind": one_of(*_LAYERS)}
_DAMPING: Table = {"value": POSITIVE, "growth": POSITIVE}
_STEERING: Table = {"damping": _OBJECT, "best": NUMBER, "safeguard": NUMBER, "finish": or_none(_OBJECT)}
_FINISH: Table = {"damping": listed(_OBJECT, 2), "gains": listed(NUMBER, 2), "second_order": FLAG}

# An option is of the kind of its default; those that a file does not name keep it.
_KINDS = {bool: FLAG, int: COUNT, float: NUMBER, str: TEXT}
_NODES = Kind("text, a number or a list of numbers", lambda v: TEXT.fits(v) or NUMBER.fits(v) or listed(NUMBER).fits(v))
_OPTIONS: Table = {
    name: Optional(_NODES if name in ("shooting", "penalty") else _KINDS[type(value)], value)
    for name, value in vars(Options()).items()
}

_INTEGERS = ("iteration", "steps")

# Results whose numbers need not be finite.
_BROKEN = (Status.NON_FINITE, Status.FAILED)

# Rounding of an objective, relatively: BLAS libraries differ, and layers may cancel.  Far less than an error changes.
_ROUNDING = 1e-6

# CasADi's text has two letters of a..p for each byte.  Reading a damaged one may ask for any amount of memory, take
# minutes or end the process, so a text that no check sum vouches for is tried in a process of its own.
_LETTERS = frozenset("abcdefghijklmnop")
_TRIAL, _TRIAL_SECONDS, _TRIAL_BYTES = Path(__file__).with_name("casadi_trial.py"), 10, 2**30


def unpacked(archive: Archive, meta: dict[str, Any]) -> Result:
    """The result that an archive and its description hold.

    Raises
    ------
    ValueError
        Where something is missing, of the wrong kind or size, or contradicts the rest.
    """
    meta = checked("the description", meta, _META)
    scalars = from_words(meta["result"])
    status = Status(checked("the result", scalars, _STATUS)["status"])
    scalars = checked("the result", scalars, RESULT)
    finite = status not in _BROKEN
    model = _model(archive, meta, finite)
    options = None if meta["options"] is None else _options(from_words(meta["options"]))
    problem, state, trajectory = None, None, Trajectory(model.controls, ())
    if meta["problem"] is not None:
        problem = _problem(archive, meta, model.network)
        trajectory = _trajectory(archive, problem, model.controls, finite)
        _check_objective(problem, trajectory, scalars["objective"])
    if problem is not None and meta["state"] is not None:
        _check_counts("the result", scalars["counts"], ("outer", *WORK))
        state = _state(archive, problem, from_words(meta["state"]), finite)
    return Result(
        status=status,
        notes=tuple(scalars.pop("notes")),
        trajectory=trajectory,
        history=tuple(_history(archive)),
        state=state,
        problem=problem,
        model=model,
        options=options,
        versions=meta["versions"],
        **scalars,
    )


def _model(archive: Archive, meta: dict[str, Any], finite: bool) -> Model:
    network = _network(archive, meta["layers"], meta["versions"])
    inputs, outputs = network.num_inputs, network.num_outputs
    return Model(
        network,
        _controls(archive, "control", network, finite),
        x_scaler=_scaler(archive, "x", inputs),
        y_scaler=_scaler(archive, "y", outputs),
        x_range=archive.floats("x_range", (2, inputs)) if "x_range" in archive else None,
        features=_names("features", meta["features"], inputs),
        targets=_names("targets", meta["targets"], outputs),
        link=meta["link"],
        classes=meta["classes"],
    )


def _network(archive: Archive, layers: Sequence[dict[str, Any]], versions: dict[str, str]) -> Network:
    """The network, once the arrays of its controls are known to be as long as its widths say."""
    layers = [_layer(archive, k, layer) for k, layer in enumerate(layers)]
    texts = [layer["function"] for layer in layers if layer["kind"] == "symbolic"]
    _check_functions(texts, versions, is_vouched_for=bool(archive.digests))
    return Network.from_description(layers)


def _layer(archive: Archive, k: int, layer: dict[str, Any]) -> dict[str, Any]:
    """The checked description of layer k."""
    kind = checked(f"layer {k}", layer, _KIND)
    layer = checked(f"layer {k}", layer, _LAYERS[kind["kind"]])
    block = layer["block"] = k if layer["block"] is None else layer["block"]
    found = archive.shape(f"control_{block}")
    expected = ((layer["num_inputs"] + 1) * layer["num_outputs"],) if "num_inputs" in layer else found
    if found != expected:
        raise ValueError(f"array 'control_{block}' has shape {found}, but its layer needs {expected}")
    return kind | layer


def _check_functions(texts: list[str], versions: dict[str, str], *, is_vouched_for: bool) -> None:
    for text in texts:
        if not text or len(text) % 2 or not _LETTERS.issuperset(text):
            raise ValueError(
                "a symbolic layer or loss is not what CasADi's serialize() gives: pairs of letters from a to p"
            )
    if texts and not is_vouched_for:
        _try_functions(texts, versions.get("casadi", ""))


def _try_functions(texts: list[str], version: str) -> None:
    """Read and evaluate the functions in another process, within limits of time and memory."""
    memory = _TRIAL_BYTES + 100 * sum(map(len, texts))
    writer = "same" if version == metadata.version("casadi") else "other"
    one_thread = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    try:
        done = subprocess.run(
            [sys.executable, str(_TRIAL), str(memory), writer], input="\n".join(texts), text=True, capture_output=True,
            timeout=_TRIAL_SECONDS, env=os.environ | one_thread, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ValueError(f"CasADi could not read a symbolic layer or loss within {_TRIAL_SECONDS} seconds") from None
    if done.returncode != 0:
        raise ValueError("CasADi cannot read a symbolic layer or loss")


def _controls(archive: Archive, name: str, network: Network, finite: bool) -> Arrays:
    shapes = [(layer.num_controls,) for layer in network.block_layers]
    return tuple(archive.floats(f"{name}_{k}", shape, finite=finite) for k, shape in enumerate(shapes))


def _scaler(archive: Archive, name: str, columns: int) -> Scaler:
    mean, scale = (archive.floats(f"{name}_{part}", (columns,)) for part in ("mean", "scale"))
    if not (scale > 0).all():
        raise ValueError(f"array '{name}_scale' holds {scale.min()}, expected numbers > 0")
    return Scaler(mean, scale)


def _names(what: str, names: list[str], columns: int) -> list[str]:
    if len(names) != columns:
        raise ValueError(f"the description has {len(names)} {what}, expected {columns}")
    return names


def _options(values: dict[str, Any]) -> Options:
    return Options(**checked("the entry 'options'", values, _OPTIONS, strict=True))


def _problem(archive: Archive, meta: dict[str, Any], network: Network) -> TrainingProblem:
    scalars = checked("the problem", meta["problem"], _PROBLEM)
    samples = archive.shape("problem_x")[:1]
    x = archive.floats("problem_x", (*samples, network.num_inputs))
    y = archive.floats("problem_y", (*samples, network.num_outputs))
    weight = archive.floats("problem_weight", samples) if "problem_weight" in archive else None
    loss = _loss(archive, scalars["loss"], meta["versions"])
    return TrainingProblem(network, x, y, scalars["weight_decay"], loss=loss, sample_weight=weight)


def _loss(archive: Archive, values: dict[str, Any], versions: dict[str, str]) -> Loss:
    kind = checked("the loss", values, _LOSS)
    values = checked("the loss", values, _LOSSES[kind["name"]])
    if "function" in values:
        _check_functions([values["function"]], versions, is_vouched_for=bool(archive.digests))
    return loss_of_description(kind | values)


def _trajectory(archive: Archive, problem: TrainingProblem, controls: Arrays, finite: bool) -> Trajectory:
    multipliers = None
    if "trajectory_multiplier_0" in archive:
        sizes = problem.network.sizes[:-1]
        # those of a solve that stopped early need not be finite where its weights are
        multipliers = _tables(archive, "trajectory_multiplier", problem, sizes, finite=False)
    return Trajectory(controls, _states(archive, "trajectory_state", problem, finite), multipliers)


def _states(archive: Archive, name: str, problem: TrainingProblem, finite: bool) -> Arrays:
    return (problem.x, *_tables(archive, name, problem, problem.network.sizes[1:-1], 1, finite=finite))


def _tables(
    archive: Archive, name: str, problem: TrainingProblem, widths: Sequence[int], first: int = 0, *, finite: bool
) -> Arrays:
    shapes = [(problem.num_samples, width) for width in widths]
    return tuple(archive.floats(f"{name}_{k}", shape, finite=finite) for k, shape in enumerate(shapes, first))


def _check_objective(problem: TrainingProblem, trajectory: Trajectory, saved: float) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        found = problem.objective(trajectory)
    agree = abs(found - saved) <= _ROUNDING * abs(found) if np.isfinite(found) else not np.isfinite(saved)
    if not agree:
        raise ValueError(f"the objective of its trajectory is {found:.10g}, but {saved:.10g} was saved with it")


def _history(archive: Archive) -> Iterator[Record]:
    rows = archive.shape("history")[:1]
    table = archive.floats("history", (*rows, len(NUMBERS)), finite=False)
    _check_history(table)
    for row, phase in zip(table.tolist(), archive.words("history_phase", rows).tolist(), strict=True):
        values: dict[str, Any] = dict(zip(NUMBERS, row, strict=True))
        values |= {name: int(values[name]) for name in _INTEGERS}
        if np.isnan(values["rollout_objective"]):
            values["rollout_objective"] = None
        yield Record(phase=phase, **values)


def _check_history(table: Array) -> None:
    """Counts are integers that never fall, and times are finite."""
    counted = table[:, [NUMBERS.index(name) for name in _INTEGERS]]
    seconds = table[:, NUMBERS.index("seconds")]
    if not ((counted >= 0) & (counted <= 2**53) & (counted == np.floor(counted))).all():
        raise ValueError(f"the history has counts that are not integers >= 0 ({', '.join(_INTEGERS)})")
    if (np.diff(counted, axis=0) < 0).any():
        raise ValueError(f"the history goes back in {' or '.join(_INTEGERS)}")
    if not (np.isfinite(seconds) & (seconds >= 0)).all():
        raise ValueError("the history has seconds that are not finite and >= 0")


def _check_counts(where: str, counts: dict[str, int], names: Sequence[str]) -> None:
    missing = [name for name in names if name not in counts]
    if missing:
        raise ValueError(f"{where} has no count of {missing[0]!r}")


def _state(archive: Archive, problem: TrainingProblem, values: dict[str, Any], finite: bool) -> SolverState:
    steering, scalars = checked("the state", values, _STEERING), checked("the state", values, STATE)
    _check_counts("the state", scalars["counts"], WORK)
    network, inner = problem.network, problem.network.sizes[1:-1]
    controls = _controls(archive, "state_control", network, finite)
    states = _states(archive, "state_state", problem, finite)
    multipliers = _tables(archive, "state_multiplier", problem, inner, finite=finite)
    penalty, violation = (_amounts(archive, f"state_{name}", len(inner)) for name in ("penalty", "violation"))
    if 0.0 in penalty:
        raise ValueError("array 'state_penalty' holds 0, expected numbers > 0")
    # as in the solve: rounding may depend on the number of BLAS threads
    with limited_blas(problem), np.errstate(over="ignore", invalid="ignore"):
        point = AugmentedLagrangian(problem, multipliers, penalty).at(controls, states)
    return SolverState(
        point=point,
        multipliers=multipliers,
        penalty=penalty,
        violation=violation,
        damping=_damping(steering["damping"]),
        best=Best(_controls(archive, "state_best", network, finite), steering["best"]),
        safeguard=Best(_controls(archive, "state_safeguard", network, finite), steering["safeguard"]),
        schedule=Schedule(
            start=_controls(archive, "state_start", network, finite),
            finish=None if steering["finish"] is None else _finish(steering["finish"]),
            **checked("the state", values, SCHEDULE),
        ),
        **scalars,
    )


def _amounts(archive: Archive, name: str, length: int) -> tuple[float, ...]:
    array = archive.floats(name, (length,), finite=False)
    if not (array >= 0).all():
        raise ValueError(f"array {name!r} holds {array[~(array >= 0)][0]}, expected numbers >= 0")
    return tuple(array.tolist())


def _damping(values: Any) -> Damping:
    return Damping(**checked("a damping of the state", values, _DAMPING))


def _finish(values: Any) -> Finish:
    values = checked("the finish of the state", values, _FINISH)
    damping, other = map(_damping, values["damping"])
    return Finish((damping, other), tuple(values["gains"]), values["second_order"])
