"""States of the loop over time in files: the way back.  The way there is :meth:`.state.HorizonState.packed`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....base.npz import Archive
from ....base.schema import (
    COUNT,
    NUMBER,
    POSITIVE,
    TEXTS,
    Kind,
    Table,
    checked,
    one_of,
    or_none,
)
from ....problem.blas import limited_blas
from ....problem.identification import IdentificationProblem
from ....problem.record import Status
from ....problem.trajectory import Trajectory
from ..damping import Damping
from ..state import COUNTS, LATER_COUNTS
from .hardening import Hardening
from .lagrangian import Lagrangian
from .newton import Polish
from .state import ATTEMPT, HORIZON, Attempt, HorizonState, Rollout, Watch

__all__ = ["horizon_arrays", "unpacked_horizon_state"]

Array = NDArray[np.float64]

_OBJECT = Kind("an object", lambda v: isinstance(v, dict))
_PARTS: Table = {
    "hardening": _OBJECT, "damping": _OBJECT, "polish": _OBJECT, "watch": _OBJECT, "best": NUMBER,
    "later_starts": TEXTS, "earlier": or_none(_OBJECT),
}  # fmt: skip
_HARDENING: Table = {"unit": POSITIVE, "first": POSITIVE, "penalty": POSITIVE, "stuck": COUNT, "held": COUNT}
_DAMPING: Table = {"value": POSITIVE, "growth": POSITIVE}
_POLISH: Table = {"wait": COUNT, "fruitless": COUNT}
_WATCH: Table = {"objective": NUMBER, "stationarity": NUMBER, "steps": COUNT}
_STARTS = one_of("slow", "auto")
_STATUS: Table = {"status": one_of(*(status.value for status in Status)), **ATTEMPT}


def horizon_arrays(archive: Archive, problem: IdentificationProblem, finite: bool) -> tuple[Array, Array | None]:
    """States (T, N, n) and multipliers (T, N, n), or None, of a trajectory."""
    return _trajectory(archive, "trajectory", problem, finite)


def _trajectory(
    archive: Archive, name: str, problem: IdentificationProblem, finite: bool
) -> tuple[Array, Array | None]:
    shape = _shape(problem)
    states = archive.floats(f"{name}_states", shape, finite=finite)
    multipliers = None
    if f"{name}_multipliers" in archive:
        multipliers = archive.floats(f"{name}_multipliers", shape, finite=False)
    return states, multipliers


def _shape(problem: IdentificationProblem) -> tuple[int, int, int]:
    return problem.num_stages, problem.num_samples, problem.model.num_states


def unpacked_horizon_state(
    archive: Archive, problem: IdentificationProblem, values: dict[str, Any], finite: bool
) -> HorizonState:
    """The state that an archive and its description hold.

    Raises
    ------
    ValueError
        Where something is missing, of the wrong kind or size.
    """
    scalars, parts = checked("the state", values, HORIZON), checked("the state", values, _PARTS)
    if missing := [name for name in COUNTS if name not in {*scalars["counts"], *LATER_COUNTS}]:
        raise ValueError(f"the state has no count of {missing[0]!r}")
    (steps, records, n), parameters = _shape(problem), problem.num_controls
    nodes = archive.floats("state_nodes", (steps - 1,))
    if not np.isin(nodes, (0.0, 1.0)).all():
        raise ValueError("array 'state_nodes' holds other numbers than 0 and 1")
    multipliers, estimate = (
        archive.floats(f"state_{name}", (steps - 1, records, n), finite=finite) for name in ("multipliers", "estimate")
    )
    hardening = Hardening(**checked("the hardening of the state", parts["hardening"], _HARDENING))
    theta = archive.floats("state_theta", (parameters,), finite=finite)
    states = archive.floats("state_states", (steps, records, n), finite=finite)
    anchor = archive.floats("state_anchor", (steps, records, n), finite=finite)
    # as in the solve: rounding may depend on the number of BLAS threads
    with limited_blas(problem), np.errstate(over="ignore", invalid="ignore"):
        point = Lagrangian(problem, multipliers, hardening.penalty, nodes > 0).at(theta, states)
    best_theta = archive.floats("state_best_theta", (parameters,), finite=finite)
    best_initial = archive.floats("state_best_initial", (records, n), finite=finite)
    return HorizonState(
        point=point,
        multipliers=multipliers,
        estimate=estimate,
        nodes=nodes > 0,
        hardening=hardening,
        damping=Damping(**checked("the damping of the state", parts["damping"], _DAMPING)),
        anchor=anchor,
        best=Rollout(best_theta, best_initial, parts["best"]),
        polish=Polish(**checked("the polish of the state", parts["polish"], _POLISH)),
        watch=Watch(**checked("the watch of the state", parts["watch"], _WATCH)),
        later_starts=_starts(parts["later_starts"]),
        earlier=None if parts["earlier"] is None else _attempt(archive, problem, parts["earlier"]),
        **scalars,
    )


def _starts(names: list[str]) -> tuple[str, ...]:
    if not all(map(_STARTS.fits, names)):
        raise ValueError(f"the state has the later starts {names}, expected each to be {_STARTS.name}")
    return tuple(names)


def _attempt(archive: Archive, problem: IdentificationProblem, values: Any) -> Attempt:
    values = checked("the earlier end of the state", values, _STATUS)
    theta = archive.floats("earlier_theta", (problem.num_controls,))
    states, multipliers = _trajectory(archive, "earlier", problem, finite=False)
    trajectory = Trajectory((theta,), tuple(states), None if multipliers is None else tuple(multipliers))
    return Attempt(Status(values.pop("status")), trajectory, **values)
