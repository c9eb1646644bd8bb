"""Ten constrained problems, and how soon ours, IPOPT and alpaqa have a feasible point near the best one.

Feasible is what violates nothing, defects included, by more than 1e-6; near is an objective within 1 % of the best
feasible one that any method found on the problem, from whatever seed.  Ours tells of the feasible point that it finds
after every outer iteration close to where it is.  Seconds are processor seconds from the call of
the solver on: what IPOPT and alpaqa need to have their program built is left out, and given beside.

All start from the same controls, standard weights moved within the bounds.  alpaqa tells of its end alone, and is
called again from there until the time is over.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import ocp_nn
from ocp_nn.learning.experiment import Experiment
from ocp_nn.problem.constraints import ready_made, tangents

__all__ = ["METHODS", "OURS", "PROBLEMS", "Run", "expected_seconds", "is_feasible", "measure", "seconds_to"]

FEASIBLE, WITHIN = 1e-6, 0.01

OURS = "ours"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run: points (seconds, objective, largest violation), how it ended, and seconds of building."""

    problem: str
    method: str
    seed: int
    status: str
    build: float
    trace: list[list[float]]


def _training(name: str, hidden: tuple[int, ...], decay: float, **more: Any) -> ocp_nn.TrainingProblem:
    return Experiment.prepare(ocp_nn.load_dataset(name), hidden, **more).problem(decay)


def _on(problem: ocp_nn.TrainingProblem, *constraints: Any) -> ocp_nn.ConstrainedProblem:
    return ocp_nn.ConstrainedProblem(problem, constraints)


def _diabetes_monotone() -> ocp_nn.ConstrainedProblem:
    problem = _training("diabetes", (10,), 3.0)
    return _on(problem, ready_made.monotone(problem.network, {2: 1, 8: 1}))


def _diabetes_lipschitz() -> ocp_nn.ConstrainedProblem:
    problem = _training("diabetes", (10, 10), 1.0)
    return _on(problem, *ready_made.lipschitz(problem.network, 1.0))


def _sin_range() -> ocp_nn.ConstrainedProblem:
    problem = _training("sin2x", (8, 8), 0.01)
    return _on(problem, ready_made.output_range(problem, -0.8, 0.8))


def _sin_bounds() -> ocp_nn.ConstrainedProblem:
    problem = _training("sin2x", (8, 8), 0.01)
    return _on(problem, ocp_nn.ControlBounds(-1.0, 1.0))


def _sin_deep_bounds() -> ocp_nn.ConstrainedProblem:
    problem = _training("sin2x", (6, 6, 6, 6), 0.01)
    return _on(problem, ocp_nn.ControlBounds(-1.5, 1.5))


def _sin_states() -> ocp_nn.ConstrainedProblem:
    problem = _training("sin2x", (8, 8), 0.01)
    layer = problem.network.layers[1]
    return _on(problem, ocp_nn.OutputConstraint(layer, -0.7, 0.7, stages=1, block=1, name="states"))


def _sin_known() -> ocp_nn.ConstrainedProblem:
    problem = _training("sin2x", (8, 8), 0.01)
    term, known = problem.terms[0], [5, 40, 70]
    constraints = [
        ocp_nn.OutputConstraint(
            term.layer, problem.y[i], problem.y[i], stages=term.stage, block=term.block, samples=[i], name=f"known {i}"
        )
        for i in known
    ]
    return _on(problem, *constraints)


def _friedman_monotone() -> ocp_nn.ConstrainedProblem:
    problem = _training("friedman", (10,), 1.0)
    return _on(problem, ready_made.monotone(problem.network, {3: 1, 4: 1}))


def _friedman_range() -> ocp_nn.ConstrainedProblem:
    problem = _training("friedman", (10,), 1.0)
    return _on(problem, ready_made.output_range(problem, -1.5, 1.5))


def _sin_points() -> ocp_nn.ConstrainedProblem:
    problem = _training("linear", (5,), 0.1)
    points = np.random.default_rng(0).uniform(-2, 2, (30, 3))
    return tangents.monotone_at_points(problem, {0: 1}, points)


PROBLEMS: dict[str, Callable[[], ocp_nn.ConstrainedProblem]] = {
    "diabetes 10, monotone in two inputs": _diabetes_monotone,
    "diabetes 10-10, Lipschitz": _diabetes_lipschitz,
    "sin2x 8-8, output range": _sin_range,
    "sin2x 8-8, bounds": _sin_bounds,
    "sin2x 6-6-6-6, bounds": _sin_deep_bounds,
    "sin2x 8-8, states within bounds": _sin_states,
    "sin2x 8-8, three known outputs": _sin_known,
    "friedman 10, monotone in two inputs": _friedman_monotone,
    "friedman 10, output range": _friedman_range,
    "linear 5, monotone at points": _sin_points,
}


def _ours(problem: ocp_nn.ConstrainedProblem, start: Any, seed: int, limit: float) -> tuple[str, float, list]:
    trace: list[list[float]] = []
    began = time.process_time()

    def look(iterate: ocp_nn.Iterate) -> bool:
        if np.isfinite(iterate.state.feasible_objective):
            trace.append([time.process_time() - began, iterate.state.feasible_objective, 0.0])
        else:
            trace.append([time.process_time() - began, iterate.objective, iterate.max_defect])
        return False

    options = ocp_nn.Options(seed=seed, time_limit=limit)
    result = ocp_nn.solve(problem, start, options=options, callback=look)
    end = time.process_time() - began
    worst = max([result.max_defect, *(check.violation for check in result.certificate.constraints)])
    return result.status.value, 0.0, [*trace, [end, result.objective, worst]]


def _ipopt(transcribe: Callable[..., ocp_nn.NLP]) -> Callable[..., tuple[str, float, list]]:
    def method(problem: ocp_nn.ConstrainedProblem, start: Any, seed: int, limit: float) -> tuple[str, float, list]:
        began = time.process_time()
        nlp = transcribe(problem)
        build = time.process_time() - began
        walls, began = time.perf_counter(), time.process_time()
        result = ocp_nn.solve_ipopt(nlp, start, options=ocp_nn.IpoptOptions(time_limit=limit))
        # its history has seconds of wall time
        share = min(1.0, (time.process_time() - began) / max(time.perf_counter() - walls, 1e-9))
        trace = [[share * record.seconds, record.objective, record.max_defect] for record in result.history]
        return result.status.value, build, trace

    return method


def _alpaqa(problem: ocp_nn.ConstrainedProblem, start: Any, seed: int, limit: float) -> tuple[str, float, list]:
    began = time.process_time()
    nlp = ocp_nn.multiple_shooting(problem)
    build = time.process_time() - began
    began, trace, status = time.process_time(), [], "time limit"
    point = problem.rollout(problem.check_controls(start))
    while time.process_time() - began < limit:
        result = ocp_nn.solve_nlp(nlp, "alpaqa", point)
        point = result.trajectory
        worst = max([result.max_defect, *(check.violation for check in ocp_nn.certify(problem, point).constraints)])
        trace.append([time.process_time() - began, result.objective, worst])
        if result.success:
            return "converged", build, trace
    return status, build, trace


METHODS: dict[str, Callable[..., tuple[str, float, list]]] = {
    OURS: _ours,
    "IPOPT, single shooting": _ipopt(ocp_nn.single_shooting),
    "IPOPT, multiple shooting": _ipopt(ocp_nn.multiple_shooting),
    "alpaqa, multiple shooting": _alpaqa,
}


def measure(name: str, method: str, seed: int, limit: float) -> Run:
    """One run, in this process."""
    problem = PROBLEMS[name]()
    start = problem.init_controls(seed)
    try:
        status, build, trace = METHODS[method](problem, start, seed, limit)
    except Exception as error:  # a method that fails is a result
        status, build, trace = f"failed: {type(error).__name__}: {error}"[:200], 0.0, []
    return Run(problem=name, method=method, seed=seed, status=status, build=build, trace=trace)


def seconds_to(trace: list[list[float]], objective: float) -> float:
    """When a trace is first feasible with at most this objective; infinite if it never is."""
    return next((t for t, value, worst in trace if is_feasible(value, worst) and value <= objective), float("inf"))


def is_feasible(value: float | None, worst: float | None) -> bool:
    """Whether a point counts; in a file, None stands for what is not finite."""
    return value is not None and worst is not None and worst <= FEASIBLE


def expected_seconds(runs: list[tuple[float, float]]) -> float:
    """Of starting again and again until one arrives: runs are (seconds to there or infinity, seconds of the whole).

    The expected running time of the COCO platform (Hansen et al. 2009): the time of all runs, those that arrive until
    they do, by the number of those that arrive.
    """
    arrived = [first for first, _ in runs if np.isfinite(first)]
    spent = sum(first if np.isfinite(first) else whole for first, whole in runs)
    return spent / len(arrived) if arrived else float("inf")
