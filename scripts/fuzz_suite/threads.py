"""Threads: random mixes of calls on shared objects give, in several threads, what they give one by one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import casadi as ca
import numpy as np

import ocp_nn
from ocp_nn import Dense, IpoptOptions, Network, Options, Symbolic, TrainingProblem

from .draw import controls_of, network_of, pick, seldom
from .oracles import same_bits
from .words import hold

__all__ = ["run"]


def run(rng, folder):
    shared = _shared(rng)
    jobs = [pick(rng, _JOBS)(rng, shared) for _ in range(int(rng.integers(4, 13)))]
    expected = [job(folder / f"alone-{i}.npz") for i, job in enumerate(jobs)]
    threads = int(rng.integers(2, 5))
    order = [int(i) for i in rng.permutation(len(jobs))]
    barrier = threading.Barrier(threads)

    def share(rank):
        barrier.wait()
        return {i: jobs[i](folder / f"together-{i}.npz") for i in order[rank::threads]}

    with ThreadPoolExecutor(threads) as pool:
        answers = {i: answer for part in pool.map(share, range(threads)) for i, answer in part.items()}
    wrong = [jobs[i].__qualname__.split(".")[0] for i in order if not same_bits(answers[i], expected[i])]
    hold(not wrong, f"in {threads} threads another answer of {wrong}")


@cache
def _oscillator():
    x, u = ca.SX.sym("x", 2), ca.SX.sym("u", 3)
    return ca.Function("oscillator", [x, u], [x + 0.1 * ca.vertcat(x[1], -u[0] * ca.sin(x[0]) - u[1] * x[1] + u[2])])


def _shared(rng):
    """A problem, and a model that has solved it a little."""
    stage = _oscillator()
    mixed = Network([Dense(2, 2), stage, Symbolic(stage), Dense(2, 1, "identity")])
    network = mixed if seldom(rng, 0.6) else network_of(rng, 2, 1)
    x = rng.uniform(-2, 2, (int(rng.integers(2, 30)), 2))
    problem = TrainingProblem(network, x, np.sin(x[:, :1]), 1e-2)
    return problem, ocp_nn.solve(problem, options=Options(max_outer=2, max_restarts=0))


def _flat(result):
    trajectory = result.trajectory
    return [np.array(result.objective), *trajectory.controls, *trajectory.states, *(trajectory.multipliers or ())]


def _predict(rng, shared):
    _, result = shared
    inputs = [rng.standard_normal((int(n), 2)) for n in rng.integers(1, 40, 20)]
    return lambda path: [result.model.outputs(x) for x in inputs]


def _certify(rng, shared):
    problem, _ = shared
    trajectory = problem.lift(controls_of(rng, problem.network))
    curvature = seldom(rng, 0.3)

    def job(path):
        found = ocp_nn.certify(problem, trajectory, curvature=curvature)
        return [np.array([found.objective, found.stationarity_controls, found.smallest_curvature or 0.0])]

    return job


def _solve(rng, shared):
    options = Options(seed=int(rng.integers(99)), max_outer=int(rng.integers(1, 5)), max_restarts=0)
    return lambda path: _flat(ocp_nn.solve(shared[0], options=options))


def _checkpointed(rng, shared):
    options = Options(seed=int(rng.integers(99)), max_outer=2, max_restarts=0)

    def job(path):
        ocp_nn.solve(shared[0], options=options, checkpoint=path, checkpoint_seconds=0)
        return _flat(ocp_nn.load(path))

    return job


def _ipopt(rng, shared):
    nlp, seed = ocp_nn.multiple_shooting(shared[0]), int(rng.integers(99))
    return lambda path: _flat(ocp_nn.solve_ipopt(nlp, nlp.guess(seed), options=IpoptOptions(max_iterations=3)))


def _save_and_load(rng, shared):
    def job(path):
        shared[1].save(path)
        return _flat(ocp_nn.load(path))

    return job


def _estimate(rng, shared):
    problem = shared[0]
    seed = int(rng.integers(99))

    def job(path):
        regressor = ocp_nn.OCPRegressor((3,), weight_decay=0.1, max_iter=2, tol=10.0, random_state=seed)
        return [regressor.fit(problem.x, problem.y.ravel()).predict(problem.x)]

    return job


def _derivatives(rng, shared):
    problem = shared[0]
    controls = controls_of(rng, problem.network)
    return lambda path: list(problem.adjoints(problem.rollout(controls)).gradient)


_JOBS = [_predict, _predict, _certify, _solve, _solve, _checkpointed, _ipopt, _save_and_load, _estimate, _derivatives]
