"""Conditioning of any optimal control problem: matrices from CasADi's own derivatives are the oracle."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import casadi as ca
import numpy as np
import pytest
from control_problems import PROBLEMS, random_point
from numpy.testing import assert_allclose
from systems import mildly_nonlinear

from ocp_nn import IdentificationProblem, Network, StateSpaceModel, TrainingProblem, Trajectory
from ocp_nn.analysis.conditioning import linearise_at, measure
from ocp_nn.analysis.conditioning.general import LARGEST, WrittenOut
from ocp_nn.solvers.nlp.transcription import transcribe

MU, BETA = 0.3, 40.0
V, Y = mildly_nonlinear(12)


def records() -> IdentificationProblem:
    """Two records of different lengths, an output that was not measured."""
    y = Y.copy()
    y[3] = np.nan
    model = StateSpaceModel(num_states=2, num_inputs=1, num_outputs=1, hidden_layer_sizes=(2,))
    return IdentificationProblem(model, [(V, y), (V[:7], Y[:7])], 0.2, output_weight=[2.0], initial_weight=0.7)


def classifier(**others) -> TrainingProblem:
    rng = np.random.default_rng(1)
    network = Network.mlp([2, 3, 3, 2], **others)
    labels = np.eye(2)[rng.integers(2, size=6)]
    return TrainingProblem(network, rng.standard_normal((6, 2)), labels, 0.1, loss="softmax")


def tied() -> TrainingProblem:
    rng = np.random.default_rng(1)
    network = Network.mlp([3, 3, 3, 3, 1], tied=True)
    return TrainingProblem(network, rng.standard_normal((4, 3)), rng.standard_normal((4, 1)), 0.1)


ALL = {**PROBLEMS, "records": records(), "softmax": classifier(), "tied": tied()}


def node_sets(problem):
    last = problem.num_stages
    return {"none": (), "second": tuple(range(2, last, 2)), "all": tuple(range(1, last))}


def point_of(problem, seed=1):
    """A point off the dynamics, with arbitrary multipliers."""
    rng = np.random.default_rng(seed)
    controls, states = random_point(problem, seed)[:2]
    return Trajectory(controls, states, tuple(rng.standard_normal(x.shape) for x in states))


class Explicit:
    """W and C by CasADi, the Gauss-Newton matrix by differences of the outputs and the losses' second derivatives."""

    def __init__(self, problem, trajectory, nodes):
        self.nlp = nlp = transcribe(problem, nodes)
        x, lam = nlp.problem["x"], ca.MX.sym("lam", nlp.num_constraints)
        lagrangian = nlp.problem["f"] + ca.dot(lam, nlp.problem["g"])
        parts = [ca.hessian(lagrangian, x)[0], ca.jacobian(nlp.problem["g"], x)]
        evaluate = ca.Function("parts", [x, lam], [ca.densify(part) for part in parts])
        start = nlp.pack(trajectory)
        self.hessian, self.c = (np.array(v) for v in evaluate(start["x0"], start.get("lam_g0", np.zeros(0))))
        self.c = self.c.reshape(nlp.num_constraints, nlp.num_variables)
        self.decay, self.u = np.zeros(nlp.num_variables), np.zeros(nlp.num_variables, dtype=bool)
        for block in nlp.variables:
            self.u[block.where] = block.kind == "control"
            if block.kind == "control":
                self.decay[block.where] = problem.decays[block.stage]
            elif block.stage == 0:
                self.decay[block.where] = problem.initial_weight
        self.gauss_newton = np.diag(self.decay) + self._gram(problem, start["x0"])

    def _gram(self, problem, x0):
        def outputs(x):
            at = self.nlp.roll(x)
            return problem.term_outputs(at.controls, at.states)

        def slope(j):
            step = 1e-6
            columns = [(outputs(x0 + step * e)[j] - outputs(x0 - step * e)[j]) / (2 * step) for e in np.eye(len(x0))]
            return np.stack(columns, axis=2)

        total = np.zeros((len(x0),) * 2)
        for j, (term, z) in enumerate(zip(problem.terms, outputs(x0), strict=True)):
            jacobian, bend = slope(j), term.data.curvature(z, gauss_newton=True)
            bend = np.ones_like(z) if bend is None else bend
            full = bend if bend.ndim == 3 else np.stack([np.diag(b) for b in bend])
            total += np.einsum("nav,nab,nbw->vw", jacobian, full, jacobian)
        return total

    def kkt(self, hessian):
        return np.block([[hessian, self.c.T], [self.c, np.zeros((len(self.c),) * 2)]])

    def al(self):
        return self.gauss_newton + MU * np.diag(self.u.astype(float)) + BETA * self.c.T @ self.c

    def primal(self):
        m, u = self.al(), self.u
        if u.all():
            return m
        return m[np.ix_(u, u)] - m[np.ix_(u, ~u)] @ np.linalg.solve(m[np.ix_(~u, ~u)], m[np.ix_(~u, u)])


def ends(matrix, symmetric=True):
    """Largest and smallest singular value."""
    values = np.abs(np.linalg.eigvalsh(matrix)) if symmetric else np.linalg.svd(matrix, compute_uv=False)
    return np.max(values), np.min(values)


@pytest.mark.parametrize("nodes", ["none", "second", "all"])
@pytest.mark.parametrize("name", ALL)
def test_every_matrix_is_the_one_that_casadi_and_differences_give(name, nodes):
    problem = ALL[name]
    chosen, trajectory = node_sets(problem)[nodes], point_of(problem)
    explicit = Explicit(problem, trajectory, chosen)
    found = {m.matrix: m.spectrum for m in measure(problem, trajectory, nodes=[chosen], penalties=[BETA], damping=MU)}
    if chosen:
        expected = {"kkt": explicit.kkt(explicit.hessian), "kkt_gauss_newton": explicit.kkt(explicit.gauss_newton)}
        expected |= {"al_gauss_newton": explicit.al(), "primal": explicit.primal()}
        assert_allclose(
            (found["constraint_jacobian"].largest, found["constraint_jacobian"].smallest),
            ends(explicit.c, symmetric=False), rtol=1e-8,
        )  # fmt: skip
    else:
        expected = {"hessian": explicit.hessian, "gauss_newton": explicit.gauss_newton, "primal": explicit.primal()}
        gram = np.linalg.eigvalsh(explicit.gauss_newton - np.diag(explicit.decay))
        assert found["jacobian"].largest ** 2 == pytest.approx(gram[-1], rel=1e-6)
        assert found["hessian_no_decay"].largest > 0 and found["gauss_newton_no_decay"].rows == len(explicit.u)
    for matrix, oracle in expected.items():
        largest, smallest = ends(oracle)
        assert found[matrix].largest == pytest.approx(largest, rel=1e-6), matrix
        assert found[matrix].smallest == pytest.approx(smallest, rel=1e-4, abs=1e-7 * largest), matrix
    assert found["primal_qr"].condition == pytest.approx(np.sqrt(found["primal"].condition), rel=1e-8)


@pytest.mark.parametrize("nodes", ["none", "all"])
@pytest.mark.parametrize("name", ["records", "tied", "mixed losses and blocks, free start"])
def test_the_primal_and_dual_forms_have_one_determinant(name, nodes):
    """det(D + R'Sigma^-1 R) = det D det(I + R D^-1 R'): what the two forms factorise, from the other side."""
    problem = ALL[name]
    point = WrittenOut.at(problem, point_of(problem), node_sets(problem)[nodes], MU)
    primal, dual = point._primal(BETA).values, point._dual(BETA).values
    ridges = np.unique(point.decay[point.controls])
    scale = ridges[0] + MU if len(ridges) == 1 else 1.0
    prior = point.prior(BETA)
    u = point.controls
    of_states = np.linalg.slogdet((prior + point.gram)[np.ix_(~u, ~u)])[1] if not u.all() else 0.0
    left = np.sum(np.log(primal)) + of_states
    right = np.linalg.slogdet(prior)[1] + np.sum(np.log(dual / scale))
    assert left == pytest.approx(right, rel=1e-9)


def test_squares_of_a_feed_forward_network_are_as_they_were():
    """The general matrices at such a problem are those of the study, which has a route of its own for it."""
    rng = np.random.default_rng(0)
    problem = TrainingProblem(Network.mlp([2, 3, 3, 1]), rng.standard_normal((5, 2)), rng.standard_normal((5, 1)), 0.2)
    trajectory = point_of(problem)
    for nodes in node_sets(problem).values():
        general = WrittenOut.at(problem, trajectory, nodes, MU)
        point = linearise_at(problem, trajectory, nodes, damping=MU)
        assert point.num_constraints == len(general.constraint)
        for found in measure(problem, trajectory, nodes=[nodes], penalties=[BETA], damping=MU):
            if found.matrix in ("covariance", "information"):
                continue
            ((_, _, spectrum),) = list(general.measures([found.matrix], [BETA]))
            assert spectrum.largest == pytest.approx(found.spectrum.largest, rel=1e-9), found.matrix
            assert spectrum.smallest == pytest.approx(found.spectrum.smallest, rel=1e-6, abs=1e-12), found.matrix


def test_states_of_nodes_that_are_none_do_not_count():
    problem = ALL["records"]
    trajectory = point_of(problem)
    elsewhere = (trajectory.states[0], *(x + 1 for x in trajectory.states[1:]))
    moved = Trajectory(trajectory.controls, elsewhere, trajectory.multipliers)
    one, other = (WrittenOut.at(problem, t, (), MU) for t in (trajectory, moved))
    assert_allclose(one.rows, other.rows)


def test_without_multipliers_they_are_the_adjoints():
    problem = ALL["tied"]
    lifted = problem.lift(problem.init_controls(3))
    bare = Trajectory(lifted.controls, lifted.states, None)
    nodes = node_sets(problem)["all"]
    one, other = (WrittenOut.at(problem, trajectory, nodes, 0.0).hessian for trajectory in (bare, lifted))
    assert_allclose(one, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"route": "iterative"}, "route='iterative' is for feed-forward networks of squares"),
        ({"matrices": ["covariance"]}, "'covariance' is measured for feed-forward networks of squares only"),
        ({"matrices": ["magic"]}, "matrices"),
        ({"nodes": [(99,)]}, "nodes"),
        ({"penalties": [-1.0]}, "penalties"),
        ({"damping": -1.0}, "damping"),
    ],
)
def test_what_general_problems_do_not_have_is_one_sentence(changes, message):
    problem = ALL["records"]
    with pytest.raises(ValueError, match=message):
        measure(problem, point_of(problem), **changes)


def test_what_is_too_large_is_refused_before_it_is_made():
    model = StateSpaceModel(num_states=4, num_inputs=0, num_outputs=1)
    long = IdentificationProblem(model, [(None, np.zeros(LARGEST))], 0.1)
    states = tuple(np.zeros((1, 4)) for _ in range(LARGEST))
    with pytest.raises(ValueError, match=f"up to {LARGEST} variables and constraints"):
        WrittenOut.at(long, Trajectory(long.init_controls(), states), tuple(range(1, LARGEST)), 0.0)


def test_the_script_over_the_horizon_tells_single_from_multiple(tmp_path, capsys, monkeypatch):
    """In small: the unstable system, where single shooting is the worse the longer the record."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "scripts"))
    script = importlib.import_module("conditioning_over_time")
    paths = {name: tmp_path / f"a.{name}" for name in ("json", "markdown", "figure")}
    paths["figure"] = tmp_path / "a.png"
    arguments = [text for name, path in paths.items() for text in (f"--{name}", str(path))]
    assert script.main(["--horizons", "10", "40", *arguments]) == 0
    assert "| single shooting, exact Hessian |" in capsys.readouterr().out
    assert all(path.stat().st_size > 500 for path in paths.values())
    rows = json.loads(paths["json"].read_text())["rows"]

    def condition(horizon, shooting, matrix):
        curve = (shooting, matrix, None)
        return script.condition(rows, "unstable", horizon, curve)["condition"]

    assert condition(40, "single", "hessian") > 100 * condition(10, "single", "hessian")
    assert condition(40, "multiple", "kkt") < 0.01 * condition(40, "single", "hessian")
