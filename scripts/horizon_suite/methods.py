"""The ways to fit a state-space model over a long horizon, all from the same start.

The start is that of our solver, ``start(model, records, "auto", seed)``: parameters and states.  Multiple shooting
takes both; single shooting takes the parameters and x_0.  Our solver finds that start by itself, and by default goes
on to another where it led nowhere, with either shooting.  Problems that say ``/slow`` start from a random system with
memory instead: A is diagonal with entries in [0.97, 1], beside a tenth of a random network, and the states are its
simulation from zero.  No record takes part in it.

Back-propagation through time is NumPy around compiled code here: a simulation, the Jacobians of all steps in one call,
and one compiled sweep of adjoints.  Its gradient is that of J in theta and x_0 to rounding.  A gradient costs about as
much as a step of ours costs without its least-squares problem, so that times can be compared; a framework that compiles
the loop for itself may be faster by a constant factor.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

import ocp_nn
from ocp_nn.forward_dp.kalman_arrays import adjoint_sweep
from ocp_nn.problem.starts.regression import fit_to_states
from ocp_nn.problem.starts.start import start

from . import jax_peer
from .measures import Method, Point, Stop, Watch
from .problems import Problem

__all__ = ["ADAM_RATES", "IPOPT", "IPOPT_MULTIPLE", "METHODS", "OURS", "Simulation", "family"]

Array = NDArray[np.float64]
Returned = tuple[Array, Array, str]

OURS, IPOPT_MULTIPLE = "ours", "IPOPT, multiple shooting"
IPOPT = (IPOPT_MULTIPLE, "IPOPT, single shooting")
ADAM_RATES = (1e-2, 3e-3, 1e-3)

# Gradients are scaled down to this length before Adam sees them, as is usual for recurrent networks.
_CLIPPED = 1e3

# A solve is ended by its callback, in processor seconds; this bounds its wall time on a busy machine.
_WALL = 6.0


def starting_point(problem: Problem, seed: int) -> tuple[Array, Array]:
    """theta and states (T, N, n)."""
    identification = problem.identification
    if problem.slow:
        return slow_start(identification, seed)
    return start(identification.model, identification.records, "auto", seed)


def slow_start(problem: ocp_nn.IdentificationProblem, seed: int) -> tuple[Array, Array]:
    """A random system that remembers, and its simulation."""
    model, form = problem.model, problem.model.architecture
    assert form is not None
    theta = model.initial_parameters(seed)
    parts = form.split(theta)  # views
    parts["A"][:] = np.diag(np.random.default_rng([5, seed]).uniform(0.97, 1.0, model.num_states))
    parts["W2"][:] *= 0.1
    return theta, problem.simulated(theta, np.zeros((problem.num_samples, model.num_states)))


# ---- our solver


def ours(shooting: str) -> Method:
    """The default, or Levenberg-Marquardt on the simulation error."""

    def method(problem: Problem, seed: int, watch: Watch) -> Returned:
        def callback(iterate: ocp_nn.Iterate) -> bool:
            point = iterate.state.point
            return watch.check(point.theta, point.states)

        options = ocp_nn.Options(seed=seed, shooting=shooting, time_limit=_WALL * watch.budget)
        theta, states = starting_point(problem, seed)
        initial = ocp_nn.Trajectory((theta,), tuple(states)) if problem.slow else None
        result = ocp_nn.solve(problem.identification, initial, options=options, callback=callback)
        status = "ended by the clock" if watch.is_over else result.status.value
        return result.trajectory.controls[0], np.stack(result.trajectory.states), status

    return method


# ---- back-propagation through time


class Simulation:
    """J of the simulation and its gradient in (theta, x_0), x_0 of all records behind theta."""

    def __init__(self, problem: ocp_nn.IdentificationProblem) -> None:
        self.problem = problem
        self.size = problem.model.num_parameters
        self._no_node = np.zeros(problem.num_stages - 1, dtype=bool)

    def packed(self, theta: Array, initial: Array) -> Array:
        return np.concatenate([theta, initial.ravel()])

    def split(self, z: Array) -> tuple[Array, Array]:
        return z[: self.size], z[self.size :].reshape(self.problem.num_samples, -1)

    def __call__(self, z: Array) -> tuple[float, Array]:
        """Infinite, with a gradient of zero, where the simulation overflows."""
        problem, (theta, initial) = self.problem, self.split(z)
        with np.errstate(all="ignore"):
            states = problem.simulated(theta, initial)
            steps, records, n = states.shape
            if not np.isfinite(states).all():
                return np.inf, np.zeros_like(z)
            flat = states.reshape(-1, n), problem.v.reshape(steps * records, -1)
            residual = problem.weights * (problem.model.values(theta, *flat)[1].reshape(problem.y.shape) - problem.y)
            a, b, c, d = problem.model.jacobians(theta, *flat)
            costates = np.einsum("kmi,km->ki", c, residual.reshape(len(c), -1)).reshape(states.shape)
            adjoint_sweep(np.ascontiguousarray(a.reshape(steps, records, n, n)), self._no_node, costates)
            in_theta = np.einsum("kip,ki->p", b[: -records or None], costates[1:].reshape(-1, n), optimize=True)
            in_theta += np.einsum("kmp,km->p", d, residual.reshape(len(d), -1), optimize=True)
            in_theta += problem.weight_decay * theta
            gradient = self.packed(in_theta, problem.initial_gradient(initial, costates[0]))
            value = 0.5 * float(np.sum(residual * residual / np.where(problem.weights > 0, problem.weights, 1.0)))
            value += problem.decay_cost([theta]) + problem.initial_cost(initial)
        return (value, gradient) if np.isfinite(value) else (np.inf, np.zeros_like(z))


def bptt(fit: Callable[[Simulation, Array, Callable[[Array], None]], str]) -> Method:
    """A method of first order on the simulation."""

    def method(problem: Problem, seed: int, watch: Watch) -> Returned:
        simulation = Simulation(problem.identification)
        theta, states = starting_point(problem, seed)
        z = simulation.packed(theta, states[0])

        def look(z: Array) -> None:
            watch.insist(*simulation.split(z))

        try:
            look(z)
            status = fit(simulation, z, look)
        except Stop:
            status = "ended by the clock"
        return (*(watch.best or simulation.split(z)), status)

    return method


def adam(rate: float) -> Method:
    """Adam (Kingma and Ba 2015), all records in one batch, gradients clipped."""

    def fit(simulation: Simulation, z: Array, look: Callable[[Array], None]) -> str:
        mean, square, count = np.zeros_like(z), np.zeros_like(z), 0
        while True:
            value, gradient = simulation(z)
            if not np.isfinite(value) or not np.isfinite(gradient).all():
                return "the simulation overflows"
            gradient *= min(1.0, _CLIPPED / max(float(np.linalg.norm(gradient)), 1e-300))
            count += 1
            mean = 0.9 * mean + 0.1 * gradient
            square = 0.999 * square + 0.001 * gradient**2
            z = z - rate * (mean / (1 - 0.9**count)) / (np.sqrt(square / (1 - 0.999**count)) + 1e-8)
            look(z)

    return bptt(fit)


def _lbfgs(simulation: Simulation, z: Array, look: Callable[[Array], None]) -> str:
    """SciPy's L-BFGS-B, begun anew where its line search gives up, as long as that gains.

    The line search cannot do with infinity: what is above ten times the first J counts as that.
    """
    limits = {"maxiter": 10**7, "maxfun": 10**8, "maxcor": 20, "ftol": 0.0, "gtol": 1e-9}
    first, _ = simulation(z)
    ceiling = 10 * max(first, 1.0) if np.isfinite(first) else 1e100

    def bounded(z: Array) -> tuple[float, Array]:
        value, gradient = simulation(z)
        return (value, gradient) if value < ceiling else (ceiling, np.zeros_like(gradient))

    value, gains = first, True
    while gains:
        found = minimize(bounded, z, jac=True, method="L-BFGS-B", callback=look, options=limits)
        gains = found.fun < (1 - 1e-4) * value
        z, value = found.x, found.fun
    return "converged" if found.success else "stalled"


def teacher_forcing(problem: Problem, seed: int, watch: Watch) -> Returned:
    """Least squares on the errors of one step along the start's states: regression, no horizon."""
    theta, states = starting_point(problem, seed)
    identification = problem.identification
    lengths = identification.records.lengths
    along = [states[:length, i] for i, length in enumerate(lengths)]
    theta = fit_to_states(identification.model, identification.records, along, theta)
    watch.check(theta, states[0])
    return theta, states[0], "converged"


# ---- IPOPT


def ipopt(transcription: str) -> Method:
    """The exact Hessian, on the program of single or multiple shooting.

    Building the program is off the clock.  IPOPT's history has J, not the residuals, of an iterate: what the weight
    decay and the prior of x_0 cost at the end is taken off every J.  Its seconds are wall time, and are scaled to the
    processor's.
    """

    def method(problem: Problem, seed: int, watch: Watch) -> Returned:
        theta, states = starting_point(problem, seed)
        began = time.process_time()
        try:
            nlp = getattr(ocp_nn, transcription)(problem.identification)
        except (AttributeError, NotImplementedError, TypeError, ValueError) as error:
            return np.zeros(0), states, f"not available: {error}"[:200]
        watch.built(time.process_time() - began)
        before = watch.seconds
        initial = ocp_nn.Trajectory((theta,), tuple(states))
        limit = {"max_cpu_time": max(watch.budget - before, 1.0)}
        options = ocp_nn.IpoptOptions(time_limit=_WALL * watch.budget, max_iterations=500, ipopt=limit)
        result = ocp_nn.solve_ipopt(nlp, initial, options=options)
        theta, states = result.trajectory.controls[0], np.stack(result.trajectory.states)
        other = problem.identification.decay_cost([theta]) + problem.identification.initial_cost(states[0])
        scale = (watch.seconds - before) / max(result.seconds, 1e-9)
        rows = [(before + min(scale, 1.0) * r.seconds, r.objective, r.max_defect) for r in result.history]
        watch.replace_trace([Point(at, j - other, j, d) for at, j, d in rows])
        return theta, states, result.message.partition(".")[0]

    return method


def jax_sysid(problem: Problem, seed: int, watch: Watch) -> Returned:
    """Looked at when it has ended; its compilation counts, as it does for whoever runs it."""
    theta, states = starting_point(problem, seed)
    theta, initial = jax_peer.fitted(problem.identification, theta, states[0])
    watch.check(theta, initial)
    return theta, initial, "ended"


METHODS: dict[str, Method] = {
    OURS: ours("multiple"),
    "single-shooting LM": ours("single"),
    "BPTT, L-BFGS": bptt(_lbfgs),
    **{f"BPTT, Adam {rate:g}": adam(rate) for rate in ADAM_RATES},
    "teacher forcing": teacher_forcing,
    IPOPT_MULTIPLE: ipopt("multiple_shooting"),
    "IPOPT, single shooting": ipopt("single_shooting"),
} | ({jax_peer.JAX_SYSID: jax_sysid} if jax_peer.is_there() else {})


def family(method: str) -> str:
    """The method, whatever its learning rate."""
    return "BPTT, Adam" if method.startswith("BPTT, Adam") else method
