"""What is measured of a run: its trace under a clock that leaves checks out, a certificate, working memory.

Every run has a process of its own, forked from one that has trained nothing.  So a peer can be ended whatever it does,
one peer's caches do not serve another, and the largest resident set is that of the run.  Seconds are
processor seconds of all threads of that process, unless *wall* is said: the machine may be busy with other things.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from ocp_nn import TrainingProblem, certify
from ocp_nn.learning.experiment import Experiment

from .peers import Peer, Stop, missing
from .problems import Problem

__all__ = ["Outcome", "TracePoint", "Watch", "run", "thinned", "time_to"]

# Levels above the final objective at which a trace is kept: a tenth of a per cent, and 1.2 times more at a time.
_LEVELS = 1e-3 * 1.2 ** np.arange(0, 60)

# A run that gives no sign for so many times its limit, in wall time, and so many seconds of building, is ended.
_PATIENCE, _BUILDING = 6.0, 60.0


@dataclass(frozen=True)
class TracePoint:
    """The best rollout objective after so many seconds and iterations."""

    seconds: float
    wall: float
    iterations: int
    objective: float
    mse: float


class Watch:
    """A clock that starts with :meth:`begin`, stands still during checks, and keeps the best rollouts seen."""

    def __init__(self, problem: TrainingProblem, limit: float) -> None:
        self.problem, self.limit = problem, limit
        self.trace: list[TracePoint] = []
        self.controls: np.ndarray | None = None
        self.checks = 0
        self.build_seconds = 0.0
        self._excluded = self._excluded_wall = 0.0
        self._made = time.process_time()
        self.begin()

    def begin(self) -> None:
        """The solve begins: what came before was imports, building and compiling."""
        self._began, self._began_wall = time.process_time(), time.perf_counter()
        self.build_seconds = self._began - self._made
        self.memory = peak_memory()

    @property
    def seconds(self) -> float:
        return time.process_time() - self._began - self._excluded

    @property
    def wall(self) -> float:
        return time.perf_counter() - self._began_wall - self._excluded_wall

    @property
    def deadline(self) -> float:
        """The ``time.perf_counter()`` value before which the limit cannot be reached."""
        return time.perf_counter() + self.limit - self.seconds

    def check(self, flat: np.ndarray) -> bool:
        """Look at the rollout of controls; whether the time is over."""
        seconds, wall = self.seconds, self.wall
        paused, paused_wall = time.process_time(), time.perf_counter()
        controls = self.problem.network.split(flat)
        with np.errstate(all="ignore"):
            output = self.problem.network.predict(controls, self.problem.x)
            objective = self.problem.cost(controls, [output])
            mse = float(np.mean((output - self.problem.y) ** 2))
        if not self.trace or objective < self.trace[-1].objective:
            self.trace.append(TracePoint(seconds, wall, self.checks, objective, mse))
            self.controls = np.array(flat)
        self.checks += 1
        self._excluded += time.process_time() - paused
        self._excluded_wall += time.perf_counter() - paused_wall
        return seconds > self.limit

    def insist(self, flat: np.ndarray) -> None:
        """:meth:`check`, and :class:`Stop` raised when the time is over."""
        if self.check(flat):
            raise Stop

    def replace_times(self, rows: Sequence[tuple[float, float, int, float]]) -> None:
        """A trace from a solver's own history: seconds, wall, iteration, objective."""
        best, mse = np.inf, self.trace[-1].mse
        own: list[TracePoint] = []
        for seconds, wall, iteration, objective in rows:
            if objective < best:
                best = objective
                own.append(TracePoint(seconds, wall, iteration, objective, float("nan")))
        # the error is known at the end alone
        if own:
            own[-1] = TracePoint(own[-1].seconds, own[-1].wall, own[-1].iterations, own[-1].objective, mse)
            self.trace, self.checks = own, rows[-1][2]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One run, as it stands in the JSON."""

    problem: str
    peer: str
    family: str
    seed: int
    status: str
    objective: float | None = None
    mse: float | None = None
    seconds: float = 0.0
    wall: float = 0.0
    build_seconds: float = 0.0
    iterations: int = 0
    stationarity: float | None = None
    certified: bool = False
    test_rmse: float | None = None
    peak_bytes: int | None = None
    trace: list[dict[str, Any]] = field(default_factory=list)


def run(problem: Problem, peer: Peer, seed: int, limit: float, folder: Any) -> Outcome:
    """One peer on one problem from one seed's weights, in a process of its own; None of it raises."""
    known = {"problem": problem.name, "peer": peer.name, "family": peer.family, "seed": seed}
    if missing(peer):
        return Outcome(**known, status=f"skipped: {', '.join(missing(peer))} not installed")
    training = problem.training(folder)
    if not peer.applies(training):
        return Outcome(**known, status="skipped: does not apply, or too large for it")
    limit = max(limit, peer.least_limit)
    receive, send = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(
        target=_child, args=(send, training, problem.experiment(folder), peer, seed, limit)
    )
    process.start()
    send.close()
    try:
        answer = receive.recv() if receive.poll(_BUILDING + _PATIENCE * limit) else {"status": "ended: gave no sign"}
    except EOFError:
        answer = {"status": "ended: the process died"}
    process.kill()
    process.join()
    return Outcome(**known, **answer)


def _child(
    send: Connection, problem: TrainingProblem, experiment: Experiment | None, peer: Peer, seed: int, limit: float
) -> None:
    with threadpool_limits(1):
        start = problem.network.init_controls(seed)
        watch = Watch(problem, limit)
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                status = peer.run(problem, seed, watch)
        except Stop:
            status = "time limit"
        except Exception as error:  # a peer that fails is a result
            status = f"failed: {type(error).__name__}: {error}"[:200]
        seconds, wall = watch.seconds, watch.wall
        status = "time limit" if seconds > limit and not status.startswith("failed") else status
        used = max(0, peak_memory() - watch.memory)
        if watch.controls is None:
            watch.check(np.concatenate(start))
        send.send(_judged(problem, experiment, watch) | _times(watch, status, seconds, wall, used))


def _times(watch: Watch, status: str, seconds: float, wall: float, used: int) -> dict[str, Any]:
    return {
        "status": status,
        "seconds": seconds,
        "wall": wall,
        "build_seconds": watch.build_seconds,
        "iterations": watch.checks,
        "peak_bytes": used,
        "trace": [asdict(point) for point in thinned(watch.trace)],
    }


def _judged(problem: TrainingProblem, experiment: Experiment | None, watch: Watch) -> dict[str, Any]:
    """Objective, certificate and test error at the best controls."""
    assert watch.controls is not None
    controls = problem.network.split(watch.controls)
    if not np.isfinite(watch.controls).all():
        return {"objective": None}
    certificate = certify(problem, problem.lift(controls))
    return {
        "objective": watch.trace[-1].objective,
        "mse": watch.trace[-1].mse,
        "stationarity": certificate.stationarity / certificate.scale,
        "certified": certificate.passed(1e-6),
        "test_rmse": None if experiment is None else experiment.rmse(controls, "test"),
    }


def thinned(trace: Sequence[TracePoint]) -> list[TracePoint]:
    """The points at which a trace first comes below each of some levels above its end."""
    if not trace:
        return []
    objectives = np.array([point.objective for point in trace])
    final = objectives[-1]
    kept = {0, len(trace) - 1}
    kept |= {int(np.argmax(objectives <= final * (1 + level))) for level in _LEVELS if np.isfinite(final)}
    return [trace[i] for i in sorted(kept)]


def time_to(trace: Sequence[dict[str, Any]], objective: float, clock: str = "seconds") -> float:
    """When a trace first reaches an objective; infinite if it does not."""
    return next((p[clock] for p in trace if p["objective"] is not None and p["objective"] <= objective), float("inf"))


def peak_memory() -> int:
    """Largest resident set of this process so far, in bytes."""
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
