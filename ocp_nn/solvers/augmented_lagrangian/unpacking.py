"""From the content of a saved file back to a :class:`Result`: the way back of :mod:`.files`.

Sizes come first: the description of the network says how long every array must be, and that is compared with the
arrays' headers before a network is built or an array read.  What has been read is then checked as a whole: numbers are
finite, counts count, the history goes forward, and the objective of the trajectory is the one that was saved with it.

A new entry is a line in a table, or an array read where it belongs; :class:`ocp_nn.base.schema.Optional` where older
files lack it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...base.npz import Archive
from ...base.schema import (
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
from ...network.scaling import Scaler
from ...problem.blas import limited_blas
from ...problem.identification import IdentificationProblem
from ...problem.optimal_control import OptimalControlProblem
from ...problem.record import Record, Status
from ...problem.result import Result
from ...problem.saving import NUMBERS, RESULT
from ...problem.trajectory import Trajectory
from .damping import Damping
from .lagrangian import AugmentedLagrangian
from .options import Options
from .over_time.files import horizon_arrays, unpacked_horizon_state
from .schedule import GAUSS_NEWTON, LIFTED, NEWTON, Finish, Schedule
from .state import COUNTS as WORK
from .state import LATER_COUNTS, SCHEDULE, STATE, Best, SolverState
from .unpacking_problems import unpacked_network, unpacked_problem

__all__ = ["unpacked"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]

_OBJECT = Kind("an object", lambda v: isinstance(v, dict))
_LABEL = Kind("text or a number", lambda v: TEXT.fits(v) or NUMBER.fits(v))
_META: Table = {
    "layers": or_none(listed(_OBJECT)), "features": TEXTS, "targets": TEXTS, "versions": WORDS, "result": _OBJECT,
    "options": or_none(_OBJECT), "problem": or_none(_OBJECT), "state": or_none(_OBJECT),
    "link": Optional(one_of(*LINKS), "identity"), "classes": Optional(listed(_LABEL), []),
}  # fmt: skip
_STATUS: Table = {"status": one_of(*(status.value for status in Status))}
_DAMPING: Table = {"value": POSITIVE, "growth": POSITIVE}
_STEERING: Table = {"damping": _OBJECT, "best": NUMBER, "safeguard": NUMBER, "finish": or_none(_OBJECT)}
_FINISH: Table = {
    "damping": listed(_OBJECT), "gains": listed(NUMBER), "kind": Optional(COUNT, GAUSS_NEWTON),
    "second_order": Optional(FLAG, False),
}  # fmt: skip

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
    model = None if meta["layers"] is None else _model(archive, meta, finite)
    options = None if meta["options"] is None else _options(from_words(meta["options"]))
    if model is None and meta["problem"] is None:
        raise ValueError("the file holds neither a network nor a problem")
    problem, state, trajectory = None, None, Trajectory(() if model is None else model.controls, ())
    if meta["problem"] is not None:
        network = None if model is None else model.network
        problem = unpacked_problem(archive, meta["problem"], meta["versions"], network)
        trajectory = _trajectory(archive, problem, finite)
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
    network = unpacked_network(archive, meta["layers"], meta["versions"])
    inputs, outputs = network.num_inputs, network.num_outputs
    return Model(
        network,
        _controls(archive, "control", [layer.num_controls for layer in network.block_layers], finite),
        x_scaler=_scaler(archive, "x", inputs),
        y_scaler=_scaler(archive, "y", outputs),
        x_range=archive.floats("x_range", (2, inputs)) if "x_range" in archive else None,
        features=_names("features", meta["features"], inputs),
        targets=_names("targets", meta["targets"], outputs),
        link=meta["link"],
        classes=meta["classes"],
    )


def _controls(archive: Archive, name: str, lengths: Sequence[int], finite: bool) -> Arrays:
    return tuple(archive.floats(f"{name}_{k}", (length,), finite=finite) for k, length in enumerate(lengths))


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


def _trajectory(archive: Archive, problem: OptimalControlProblem, finite: bool) -> Trajectory:
    controls = _controls(archive, "control", problem.block_lengths, finite)
    if isinstance(problem, IdentificationProblem):
        over_time, costates = horizon_arrays(archive, problem, finite)
        return Trajectory(controls, tuple(over_time), None if costates is None else tuple(costates))
    multipliers = None
    if "trajectory_multiplier_0" in archive:
        # those of a solve that stopped early need not be finite where its weights are
        multipliers = _tables(archive, "trajectory_multiplier", problem, problem.widths, finite=False)
    return Trajectory(controls, _states(archive, "trajectory_state", problem, finite), multipliers)


def _states(archive: Archive, name: str, problem: OptimalControlProblem, finite: bool) -> Arrays:
    """x_0..x_{K-1}; x_0 is in the file where it is a variable."""
    if problem.has_free_start:
        return _tables(archive, name, problem, problem.widths, finite=finite)
    return (problem.x, *_tables(archive, name, problem, problem.widths[1:], 1, finite=finite))


def _tables(
    archive: Archive, name: str, problem: OptimalControlProblem, widths: Sequence[int], first: int = 0, *, finite: bool
) -> Arrays:
    shapes = [(problem.num_samples, width) for width in widths]
    return tuple(archive.floats(f"{name}_{k}", shape, finite=finite) for k, shape in enumerate(shapes, first))


def _check_objective(problem: OptimalControlProblem, trajectory: Trajectory, saved: float) -> None:
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
    missing = [name for name in names if name not in counts and name not in LATER_COUNTS]
    if missing:
        raise ValueError(f"{where} has no count of {missing[0]!r}")


def _state(archive: Archive, problem: OptimalControlProblem, values: dict[str, Any], finite: bool) -> Any:
    if isinstance(problem, IdentificationProblem):
        return unpacked_horizon_state(archive, problem, values, finite)
    steering, scalars = checked("the state", values, _STEERING), checked("the state", values, STATE)
    _check_counts("the state", scalars["counts"], WORK)
    inner = problem.widths[1:]
    controls = _controls(archive, "state_control", problem.block_lengths, finite)
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
        best=_best(archive, "best", problem, steering, finite),
        safeguard=_best(archive, "safeguard", problem, steering, finite),
        schedule=Schedule(
            start=_controls(archive, "state_start", problem.block_lengths, finite),
            finish=None if steering["finish"] is None else _finish(steering["finish"]),
            **checked("the state", values, SCHEDULE),
        ),
        **scalars,
    )


def _best(archive: Archive, name: str, problem: OptimalControlProblem, values: dict[str, Any], finite: bool) -> Best:
    controls = _controls(archive, f"state_{name}", problem.block_lengths, finite)
    initial = None
    if problem.has_free_start:
        initial = archive.floats(f"state_{name}_initial", problem.x.shape, finite=finite)
    return Best(controls, values[name], initial)


def _amounts(archive: Archive, name: str, length: int) -> tuple[float, ...]:
    array = archive.floats(name, (length,), finite=False)
    if not (array >= 0).all():
        raise ValueError(f"array {name!r} holds {array[~(array >= 0)][0]}, expected numbers >= 0")
    return tuple(array.tolist())


def _damping(values: Any) -> Damping:
    return Damping(**checked("a damping of the state", values, _DAMPING))


def _finish(values: Any) -> Finish:
    values = checked("the finish of the state", values, _FINISH)
    damping, gains = tuple(map(_damping, values["damping"])), tuple(values["gains"])
    kind = NEWTON if values["second_order"] else values["kind"]  # files from before lifted steps
    if not (len(damping) == len(gains) in (NEWTON + 1, LIFTED + 1) and kind < len(gains)):
        raise ValueError(
            f"the finish of the state has {len(damping)} dampings, {len(gains)} gains and kind {kind}, expected two or "
            "three of both and the place of one of them"
        )
    return Finish(damping, gains, kind)
