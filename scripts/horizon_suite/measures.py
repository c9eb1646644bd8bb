"""What is measured of a run: its trace under a clock that leaves checks out, success, and what the model is worth.

Every run has a process of its own, so that one can be ended whatever it does.  Seconds are processor seconds of that
process from the computation of the start on, without the checks, and without what a method builds beforehand (the
transcription for IPOPT).

A run *succeeds* when half the sum of squared residuals is at most the noise floor and 5 % at a point whose largest
defect is at most 1e-6.  For single shooting that point is a simulation.  The Lyapunov exponent is that of a free run of
the returned model, by QR (Benettin et al. 1980).
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ocp_nn import IdentificationProblem

from .problems import Problem

__all__ = ["CLOSED", "WITHIN", "Outcome", "Point", "Stop", "Watch", "lyapunov_exponent", "run", "time_to"]

Array = NDArray[np.float64]

# Half the sum of squares against the floor, the objective against the best one, and the largest defect.
WITHIN, CLOSED = 1.05, 1e-6

# Points of a trace that are kept: the first in each tenth of a decade of seconds, and the best ones.
_PER_DECADE = 20

# A run that gives no sign for so many times its budget in wall time, and so many seconds of building, is ended.
_PATIENCE, _BUILDING = 8.0, 120.0

# Free steps whose Jacobians make the exponent, after some to reach the attractor, and Jacobians at a time.  (Two free
# runs of the same model differ by 1 to 2 %.)
_FREE, _TRANSIENT, _AT_A_TIME = 40_000, 500, 4_000


class Stop(Exception):
    """Raised out of a method's callback: success, or the end of the budget."""


@dataclass(frozen=True)
class Point:
    """After so many seconds: half the sum of squared residuals, J, and the largest defect."""

    seconds: float
    fit: float
    objective: float
    defect: float


class Watch:
    """A clock that stands still during checks, and what was seen so far.

    ``stops`` says whether a run ends with its success.
    """

    def __init__(self, problem: Problem, budget: float, *, stops: bool) -> None:
        self.problem, self.budget, self.stops = problem, budget, stops
        self.trace: list[Point] = []
        self.best: tuple[Array, Array] | None = None
        self.success: float | None = None
        self.build_seconds = 0.0
        self._least = np.inf
        self.begin()

    def begin(self) -> None:
        """The clock starts here; what came before was building."""
        self._began, self._excluded = time.process_time(), 0.0

    def built(self, seconds: float) -> None:
        """Take seconds of building off the clock."""
        self.build_seconds += seconds
        self._excluded += seconds

    @property
    def seconds(self) -> float:
        return time.process_time() - self._began - self._excluded

    @property
    def is_over(self) -> bool:
        return (self.stops and self.success is not None) or self.seconds > self.budget

    def check(self, theta: Array, states: Array, *, seconds: float | None = None) -> bool:
        """Look at parameters and states, (T, N, n), or x_0 alone, (N, n), to be simulated; whether to stop."""
        paused = time.process_time()
        point = measured(self.problem.identification, theta, states, self.seconds if seconds is None else seconds)
        self._note(point)
        if point.defect <= CLOSED and point.objective < self._least:
            self._least, self.best = point.objective, (np.array(theta), np.array(states))
        self._excluded += time.process_time() - paused
        return self.is_over

    def insist(self, theta: Array, states: Array) -> None:
        """:meth:`check`, and :class:`Stop` raised when it says so."""
        if self.check(theta, states):
            raise Stop

    def replace_trace(self, points: list[Point]) -> None:
        """A trace from a solver's own history."""
        self.trace, self.success = [], None
        for point in points:
            self._note(point)

    def _note(self, point: Point) -> None:
        self.trace.append(point)
        floor = self.problem.floor
        if self.success is None and floor is not None and point.fit <= WITHIN * floor and point.defect <= CLOSED:
            self.success = point.seconds


def measured(problem: IdentificationProblem, theta: Array, states: Array, seconds: float) -> Point:
    """A point measured; infinite where something overflows."""
    with np.errstate(all="ignore"):
        if states.ndim == 2:
            states = problem.simulated(theta, states)
        f, g = problem.values(theta, states)
        fit = 0.5 * float(np.sum(problem.weights * (g - problem.y) ** 2))
        objective = fit + problem.decay_cost([theta]) + problem.initial_cost(states[0])
        defect = float(np.abs(f[:-1] - states[1:]).max())
    return Point(seconds, *(value if np.isfinite(value) else np.inf for value in (fit, objective, defect)))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One run, as it stands in the JSON.

    ``fit``, ``objective``, ``defect``, ``rollout_fit`` and ``exponent`` are those of the returned trajectory;
    ``seconds_to_success`` is None where a run has not succeeded, ``exponent_ratio`` where the true system has none.
    """

    problem: str
    seed: int
    method: str
    status: str
    floor: float | None = None
    null: float | None = None
    fit: float | None = None
    objective: float | None = None
    defect: float | None = None
    rollout_fit: float | None = None
    seconds: float = 0.0
    seconds_to_success: float | None = None
    build_seconds: float = 0.0
    exponent_ratio: float | None = None
    train_rmse: float | None = None
    test_rmse: float | None = None
    trace: list[dict[str, Any]] = field(default_factory=list)


# What a method does with a problem, a seed and a watch: its returned parameters and states or x_0, and how it ended.
Method = Callable[[Problem, int, Watch], tuple[Array, Array, str]]


def run(problem: Problem, seed: int, name: str, method: Method, budget: float, *, full: bool) -> Outcome:
    """One method on one problem, in a process of its own; none of it raises."""
    known = {"problem": problem.name, "seed": seed, "method": name, "floor": problem.floor}
    receive, send = multiprocessing.Pipe(duplex=False)
    arguments = send, problem, seed, method, budget, full
    process = multiprocessing.get_context("fork").Process(target=_child, args=arguments)
    process.start()
    send.close()
    try:
        answer = receive.recv() if receive.poll(_BUILDING + _PATIENCE * budget) else {"status": "ended: gave no sign"}
    except EOFError:
        answer = {"status": "ended: the process died"}
    process.kill()
    process.join()
    return Outcome(**known, null=problem.identification.null_objective, **answer)


def _child(send: Connection, problem: Problem, seed: int, method: Method, budget: float, full: bool) -> None:
    goes_on = full or problem.floor is None or problem.exponent is not None
    with threadpool_limits(1), np.errstate(over="ignore", invalid="ignore"):
        watch = Watch(problem, budget, stops=not goes_on)
        try:
            theta, states, status = method(problem, seed, watch)
        except Exception as error:  # a method that fails is a result
            send.send({"status": f"failed: {type(error).__name__}: {error}"[:300]})
            return
        seconds = watch.seconds
        answer = {"status": status, "seconds": seconds, "build_seconds": watch.build_seconds}
        if theta.size:
            watch.check(theta, states, seconds=seconds)
            answer |= _judged(problem, theta, states)
        trace = [asdict(point) for point in thinned(watch.trace)]
        send.send(answer | {"seconds_to_success": watch.success, "trace": trace})


def _judged(problem: Problem, theta: Array, states: Array) -> dict[str, Any]:
    """What the returned point is worth."""
    identification = problem.identification
    point = measured(identification, theta, states, 0.0)
    start = states if states.ndim == 2 else states[0]
    rollout = point if states.ndim == 2 else measured(identification, theta, start, 0.0)
    rmse = problem.unit * np.sqrt(2 * rollout.fit / np.count_nonzero(identification.weights))
    found = {"fit": point.fit, "objective": point.objective, "defect": point.defect, "rollout_fit": rollout.fit}
    found["train_rmse"] = float(rmse)
    if problem.exponent is not None:
        with np.errstate(all="ignore"):
            last = (identification.simulated(theta, states) if states.ndim == 2 else states)[-1, 0]
        ratio = lyapunov_exponent(identification, theta, last) / problem.exponent
        found["exponent_ratio"] = ratio if np.isfinite(ratio) else None
    if problem.test is not None:
        found["test_rmse"] = test_rmse(problem, theta)
    return found


def test_rmse(problem: Problem, theta: Array, window: int = 50) -> float:
    """Of the whole test record, simulated from an x_0 that its first samples give."""
    assert problem.test is not None
    (v, y), model = problem.test, problem.identification.model
    initial = model.estimate_initial_state(theta, v, y, window=window)
    simulated, _ = model.simulate(theta, v, initial)
    return float(problem.unit * np.sqrt(np.mean((simulated - y) ** 2)))


def lyapunov_exponent(problem: IdentificationProblem, theta: Array, state: Array, steps: int = _FREE) -> float:
    """The largest exponent of an autonomous model, a step, along a free run; NaN where that overflows."""
    model = problem.model
    if not np.isfinite(state).all():
        return float("nan")
    v = np.zeros((_TRANSIENT + steps, model.num_inputs))
    _, x = model.simulate(theta, v, state)
    if not np.isfinite(x).all():
        return float("nan")
    q, total = np.eye(model.num_states), 0.0
    for at in range(_TRANSIENT, _TRANSIENT + steps, _AT_A_TIME):
        here = slice(at, min(at + _AT_A_TIME, _TRANSIENT + steps))
        for jacobian in model.jacobians(theta, x[here], v[here])[0]:
            q, r = np.linalg.qr(jacobian @ q)
            total += float(np.log(max(abs(r[0, 0]), np.finfo(float).tiny)))
    return total / steps


def thinned(trace: list[Point]) -> list[Point]:
    """The last point of each piece of the logarithmic time axis, and those that are the best so far among the closed.

    Of the best ones, those that gain a per cent.
    """
    kept, best = set[int](), np.inf
    pieces = [int(np.floor(_PER_DECADE * np.log10(max(point.seconds, 1e-3)))) for point in trace]
    for i, point in enumerate(trace):
        if i + 1 == len(trace) or pieces[i + 1] != pieces[i]:
            kept.add(i)
        if point.defect <= CLOSED and point.objective < 0.99 * best:
            best = point.objective
            kept.add(i)
    return [trace[i] for i in sorted(kept)]


def time_to(trace: list[dict[str, Any]], objective: float) -> float:
    """When a trace first has an objective with closed defects; infinite if it never does."""
    hits = (
        p["seconds"]
        for p in trace
        if p["objective"] is not None
        and p["objective"] <= objective
        and p["defect"] is not None
        and p["defect"] <= CLOSED
    )
    return next(hits, float("inf"))
