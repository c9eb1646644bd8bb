"""Random constrained problems, and how our solution and IPOPT's compare.

A problem is a network, data, a weight decay and one or two kinds of constraints, all drawn from one seed: bounds on all
controls, outputs within a range, states of some samples within bounds, an output that is known, a Lipschitz bound, and
monotone in the first input.  Some of them admit no point at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import ocp_nn
from ocp_nn.problem.constraints import ready_made

__all__ = ["Agreement", "compared", "random_problem"]

KINDS = ("bounds", "range", "states", "equality", "norm", "monotone")

# IPOPT with bounds as they are, and a barrier that is small enough for multipliers that are.
_IPOPT = {"bound_relax_factor": 0.0, "mu_min": 1e-16}

# Smallest singular value of the active constraints' Jacobian at which multipliers are unique.
_INDEPENDENT = 1e-8


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Our solution, and where IPOPT goes from it.

    ``objective`` and ``multiplier`` are differences, relative to max(1, size); ``unique`` says whether the active
    constraints are independent, so that multipliers are determined.
    """

    seed: int
    kinds: tuple[str, ...]
    status: str
    reference: str
    objective: float
    multiplier: float
    violation: float
    unique: bool
    seconds: float

    @property
    def is_infeasible(self) -> bool:
        """Whether both say that there is no feasible point near."""
        return self.status == self.reference == ocp_nn.Status.INFEASIBLE.value

    @property
    def agrees(self) -> bool:
        """One KKT point: objective to 1e-6, multipliers to 1e-5 where they are unique, violation at most 1e-7."""
        if self.is_infeasible:
            return True
        prices = self.multiplier <= 1e-5 or not self.unique
        return self.status == "converged" and self.objective <= 1e-6 and prices and self.violation <= 1e-7


def random_problem(seed: int) -> tuple[ocp_nn.ConstrainedProblem, tuple[str, ...]]:
    """The problem of a seed, and the kinds of its constraints."""
    rng = np.random.default_rng(seed)
    inputs, outputs = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    widths = [int(width) for width in rng.integers(2, 6, rng.integers(1, 4))]
    samples, activation = int(rng.integers(3, 40)), str(rng.choice(["tanh", "sigmoid", "softplus"]))
    network = ocp_nn.Network.mlp([inputs, *widths, outputs], activation=activation)
    x = rng.uniform(-2, 2, (samples, inputs))
    y = np.sin(x @ rng.standard_normal((inputs, outputs))) + 0.1 * rng.standard_normal((samples, outputs))
    problem = ocp_nn.TrainingProblem(network, x, y, float(10 ** rng.uniform(-2, 0)))
    kinds = tuple(map(str, rng.choice(KINDS, size=rng.integers(1, 3), replace=False)))
    constraints = [c for kind in kinds for c in _constraints(kind, problem, rng, activation)]
    return ocp_nn.ConstrainedProblem(problem, constraints), kinds


def _constraints(kind: str, problem: ocp_nn.TrainingProblem, rng: np.random.Generator, activation: str) -> list:
    network, last = problem.network, problem.terms[0]
    if kind == "bounds":
        return [ocp_nn.ControlBounds(-float(rng.uniform(0.3, 1)), float(rng.uniform(0.3, 1)))]
    if kind == "range":
        return [ready_made.output_range(problem, -float(rng.uniform(0.2, 0.6)), float(rng.uniform(0.2, 0.6)))]
    if kind == "norm":
        return ready_made.lipschitz(network, 0.1 if activation == "sigmoid" else float(rng.uniform(0.5, 2)))
    if kind == "monotone":
        return [ready_made.monotone(network, {0: 1})]
    some = rng.choice(problem.num_samples, min(problem.num_samples, 3), replace=False).tolist()
    if kind == "equality":
        known = problem.y[some[0]]
        at = {"stages": last.stage, "block": last.block, "samples": some[:1], "name": kind}
        return [ocp_nn.OutputConstraint(last.layer, known, known, **at)]
    k = int(rng.integers(0, len(network.layers) - 1))
    low, high = (-0.6, 0.6) if activation == "tanh" else (0.2, 0.8)
    return [ocp_nn.OutputConstraint(network.layers[k], low, high, stages=k, block=k, samples=some, name=kind)]


def compared(seed: int) -> Agreement:
    """Ours, and IPOPT from there, by single shooting for even seeds and multiple shooting for odd ones."""
    problem, kinds = random_problem(seed)
    options = ocp_nn.Options(tolerance=1e-8, time_limit=30.0, seed=seed)
    result = ocp_nn.solve(problem, options=options)
    nlp = (ocp_nn.multiple_shooting if seed % 2 else ocp_nn.single_shooting)(problem)
    reference = ocp_nn.solve_ipopt(
        nlp, result.trajectory, options=ocp_nn.IpoptOptions(tolerance=1e-12, time_limit=30.0, ipopt=_IPOPT)
    )
    ours, theirs = (r.trajectory.constraint_multipliers for r in (result, reference))
    assert ours is not None
    assert theirs is not None
    scale = max([1.0, *(float(np.abs(m).max(initial=0.0)) for m in ours)])
    differences = [float(np.abs(a - b).max(initial=0.0)) for a, b in zip(ours, theirs, strict=True)]
    return Agreement(
        seed=seed,
        kinds=kinds,
        status=result.status.value,
        reference=reference.status.value,
        objective=abs(reference.objective - result.objective) / max(1.0, abs(result.objective)),
        multiplier=max(differences) / scale,
        violation=max(check.violation for check in result.certificate.constraints),
        unique=_is_unique(problem, result.trajectory),
        seconds=result.seconds,
    )


def _is_unique(problem: ocp_nn.ConstrainedProblem, trajectory: ocp_nn.Trajectory) -> bool:
    """Whether the gradients of the active constraints in the controls are independent."""
    import casadi as ca

    nlp = ocp_nn.single_shooting(problem)
    point = nlp.pack(trajectory)["x0"]
    x, g = nlp.problem["x"], nlp.problem["g"]
    values, jacobian = (np.array(m.full()) for m in ca.Function("g", [x], [g, ca.jacobian(g, x)])(point))
    bounds = nlp.bounds
    low, high = (np.abs(values.ravel() - bounds[name]) < 1e-6 for name in ("lbg", "ubg"))
    at_bound = (np.abs(point - bounds["lbx"]) < 1e-7) | (np.abs(point - bounds["ubx"]) < 1e-7)
    active = np.vstack([jacobian[low | high], np.eye(len(point))[at_bound]])
    if len(active) > len(point):
        return False
    return not len(active) or float(np.linalg.svd(active, compute_uv=False)[-1]) > _INDEPENDENT
