"""Shared control blocks, terms at every stage and a free x_0 are one nonlinear program in every formulation."""

import casadi as ca
import numpy as np
import pytest
from control_problems import PROBLEMS, random_point, shared_over_time
from programs import anywhere, casadis, vector, written_out

from ocp_nn import (
    Dense,
    IdentificationProblem,
    IpoptOptions,
    Network,
    OptimalControlProblem,
    Options,
    Stage,
    StateSpaceModel,
    Symbolic,
    Term,
    TrainingProblem,
    Trajectory,
    confirm,
    multiple_shooting,
    project,
    single_shooting,
    solve,
    solve_ipopt,
    solve_nlp,
    transcribe,
)
from ocp_nn.network import stage_hessian
from ocp_nn.problem import curvature
from ocp_nn.problem.curvature import hessian_product, reduced_hessian
from ocp_nn.solvers.nlp.hessian import LagrangianHessian
from ocp_nn.solvers.nlp.reference import cold_start

every_problem = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
every_formulation = pytest.mark.parametrize("nodes", [(), (2,), None], ids=["single", "partial", "multiple"])


@every_formulation
@every_problem
def test_the_program_is_the_problem_written_out_sample_by_sample(problem, nodes):
    nlp = transcribe(problem, nodes)
    point = nlp.pack(anywhere(problem))
    x, f, g = written_out(problem, nodes)
    lam = ca.SX.sym("lam", g.numel())
    outputs = [f, g, ca.gradient(f, x), ca.jacobian(g, x), ca.hessian(0.7 * f + ca.dot(lam, g), x)[0]]
    expected = ca.Function("all", [x, lam], outputs)(point["x0"], point["lam_g0"])
    for found, value in zip(casadis(nlp, 0.7, point), expected, strict=True):
        np.testing.assert_allclose(found, value.full(), rtol=0, atol=1e-11)


@every_formulation
@every_problem
def test_objective_constraints_and_gradient_are_the_problems(problem, nodes):
    nlp = transcribe(problem, nodes)
    packed = nlp.pack(anywhere(problem))
    trajectory = nlp.unpack({"x": packed["x0"], "lam_g": packed["lam_g0"]})
    f, g, gradient, jacobian, _ = casadis(nlp, 1.0, packed)
    assert float(f[0, 0]) == pytest.approx(problem.objective(trajectory), rel=1e-12)
    np.testing.assert_allclose(g.ravel(), vector(problem.defects(trajectory)[k - 1] for k in nlp.nodes), atol=1e-12)
    of_lagrangian = gradient[:, 0] + jacobian.T @ packed["lam_g0"]
    assert nlp.stationarity(trajectory) == pytest.approx(np.abs(of_lagrangian).max(), rel=1e-10)
    again = nlp.pack(trajectory)
    for key in ("x0", "lam_g0"):
        np.testing.assert_array_equal(again[key], packed[key])


@every_formulation
@every_problem
def test_the_hessian_is_casadis(problem, nodes):
    nlp = transcribe(problem, nodes)
    point = nlp.pack(anywhere(problem))
    *_, expected = casadis(nlp, 0.7, point)
    whole = LagrangianHessian(nlp, symmetric=True)(point["x0"], [], 0.7, point["lam_g0"])
    upper = LagrangianHessian(nlp)(point["x0"], [], 0.7, point["lam_g0"])
    assert np.abs(whole.full() - expected).max() < 1e-10 * np.abs(expected).max()
    np.testing.assert_array_equal(upper.full(), np.triu(whole.full()))
    assert upper.sparsity() == nlp.hessian_sparsity


@every_formulation
@every_problem
def test_gauss_newton_is_the_curvature_of_linearised_outputs(problem, nodes):
    nlp = transcribe(problem, nodes)
    packed = nlp.pack(anywhere(problem))
    x, *_ = written_out(problem, nodes)
    outputs, curvatures = outputs_of_terms(problem, nodes, x, nlp.unpack(packed["x0"]))
    j = np.array(ca.Function("j", [x], [ca.jacobian(outputs, x)])(packed["x0"]).full())
    expected = j.T @ curvatures @ j + np.diag(prior(problem, nlp))
    found = LagrangianHessian(nlp, "gauss-newton", symmetric=True)(packed["x0"], [], 1.0, packed["lam_g0"])
    assert np.abs(found.full() - expected).max() < 1e-10 * np.abs(expected).max()


def outputs_of_terms(problem, nodes, x, trajectory):
    """All h_j as expressions, sample by sample, and their w phi'' at the trajectory, block diagonal."""
    nlp = transcribe(problem, nodes)
    state = dict.fromkeys(range(problem.num_stages))
    parts = {(block.kind, block.stage): x[block.start : block.stop] for block in nlp.variables}
    outputs, blocks = [], []
    values = problem.term_outputs(trajectory.controls, trajectory.states)
    for i in range(problem.num_samples):
        for k, width in enumerate(problem.widths):
            if ("state", k) in parts:
                state[k] = parts["state", k][i * width : (i + 1) * width]
            else:
                state[k] = ca.DM(problem.x[i]) if k == 0 else moved(problem.dynamics[k - 1], state[k - 1], parts, i)
        for term, z in zip(problem.terms, values, strict=True):
            outputs.append(moved(term, state[term.stage], parts, i))
            bend = term.data.curvature(z, gauss_newton=True)
            bend = np.ones_like(z) if bend is None else bend
            blocks.append(np.diag(bend[i]) if bend.ndim == 2 else bend[i])
    size = sum(len(block) for block in blocks)
    curvature, at = np.zeros((size, size)), 0
    for block in blocks:
        curvature[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    return ca.vertcat(*outputs), curvature


def moved(row, state, parts, i):
    v = [ca.DM(row.layer.v[i])] if hasattr(row.layer, "v") else []
    return row.layer.function(state, parts["control", row.block], *v)


def prior(problem, nlp):
    """Weight decay of the controls and the weight of the prior of x_0."""
    diagonal = np.zeros(nlp.num_variables)
    for block in nlp.variables:
        if block.kind == "control":
            diagonal[block.where] = problem.decays[block.stage]
        elif block.stage == 0:
            diagonal[block.where] = problem.initial_weight
    return diagonal


@every_problem
def test_variables_stand_where_they_are_first_used(problem):
    names = [block.name for block in multiple_shooting(problem).variables]
    states = [f"x{k}" for k in range(1, problem.num_stages)]
    free = ["x0"] if problem.has_free_start else []
    if len(problem.block_lengths) == 1:
        assert names == [*free, "u0", *states]
    else:
        assert names == [*free, "u0", "x1", "u1", "u2", "x2", "x3", "x4"]
    assert [block.name for block in single_shooting(problem).variables] == [n for n in names if n not in states]


@every_problem
def test_names_point_at_the_entry(problem):
    nlp, point = multiple_shooting(problem), anywhere(problem)
    packed = nlp.pack(point)
    entry = dict(zip(nlp.variable_names, packed["x0"], strict=True))
    assert len(entry) == nlp.num_variables
    assert entry["x2[sample 1, unit 0]"] == point.states[2][1, 0]
    assert entry["u0[3]"] == point.controls[0][3]
    if problem.has_free_start:
        assert entry["x0[sample 2, unit 1]"] == point.states[0][2, 1]
    value = dict(zip(nlp.constraint_names, casadis(nlp, 1.0, packed)[1].ravel(), strict=True))
    assert value["d3[sample 2, unit 1]"] == pytest.approx(problem.defects(point)[3][2, 1], abs=1e-14)


@every_problem
def test_the_reduced_hessian_is_that_of_products_with_units(problem):
    controls, _ = random_point(problem)
    rollout = problem.rollout(controls)
    outputs = problem.outputs(rollout)
    ends = outputs[len(problem.dynamics) :]
    bends = [term.data.curvature(z) for term, z in zip(problem.terms, ends, strict=True)]
    stages, costates = problem.linearize(rollout, outputs), problem.adjoints(rollout).costates
    columns = [
        vector(hessian_product(problem, stages, costates, problem.split(unit), bends))
        for unit in np.eye(problem.num_controls)
    ]
    found = reduced_hessian(problem, controls)
    assert np.abs(found - np.array(columns).T).max() < 1e-11 * np.abs(found).max()


def test_all_entries_at_once_are_products_with_units_and_those_of_an_implicit_stage(monkeypatch):
    x, u, v = ca.SX.sym("x", 2), ca.SX.sym("u", 4), ca.SX.sym("v", 1)
    f = ca.Function("f", [x, u, v], [ca.vertcat(ca.sin(u[0] * x[0]) * v, u[1] * u[2] ** 2 + x[1] ** 3)])
    z = ca.SX.sym("z", 2)
    root = ca.rootfinder("root", "newton", ca.Function("g", [z, x, u, v], [z - f(x, u, v)]), {"abstol": 1e-14})
    y, w, q = (ca.MX.sym(name, size) for name, size in (("y", 2), ("w", 4), ("q", 1)))
    implicit = ca.Function("implicit", [y, w, q], [root(ca.DM.zeros(2), y, w, q)])
    rng = np.random.default_rng(0)
    at = rng.standard_normal((5, 2)), rng.standard_normal(4), rng.standard_normal((5, 2)), rng.standard_normal((5, 1))
    at_once = Symbolic(f).hessian(*at)
    monkeypatch.setattr(stage_hessian, "_LARGEST", 1)  # a sample at a time
    in_pieces, of_implicit = Symbolic(f).hessian(*at), Symbolic(implicit).hessian(*at)
    monkeypatch.setattr(stage_hessian, "_MOST_ENTRIES", 0)
    by_columns = Symbolic(f)
    assert by_columns._hessian is None
    for others in (in_pieces, of_implicit, by_columns.hessian(*at)):
        for first, second in zip(at_once, others, strict=True):
            np.testing.assert_allclose(first, second, rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", ["x", "sin(x)", "u[0] * x", "u[:2]"])
def test_second_derivatives_that_are_zero_are_zero(form):
    x, u = ca.SX.sym("x", 2), ca.SX.sym("u", 3)
    stage = Symbolic(ca.Function("f", [x, u], [eval(form, {"sin": ca.sin, "x": x, "u": u})]))
    rng = np.random.default_rng(0)
    at = rng.standard_normal((5, 2)), rng.standard_normal(3), rng.standard_normal((5, 2))
    unit = np.ones((5, 2)), np.ones(3)
    xx, xu, uu = stage.hessian(*at)
    products = stage.curvature_product(*at, *unit)
    np.testing.assert_allclose(xx.sum(axis=2) + xu.sum(axis=2), products[0], atol=1e-12)
    np.testing.assert_allclose(xu.sum(axis=(0, 1)) + uu.sum(axis=1), products[1], atol=1e-12)


@every_problem
def test_ipopt_stays_where_our_solver_ends(problem):
    ours = solve(problem, options=Options(seed=3, tolerance=1e-8))
    for nlp in (single_shooting(problem), transcribe(problem, (2,)), multiple_shooting(problem)):
        theirs = solve_ipopt(nlp, ours.trajectory)
        assert theirs.success, theirs.message
        assert theirs.objective == pytest.approx(ours.objective, rel=1e-6)
        for mine, other in zip(ours.trajectory.multipliers, theirs.trajectory.multipliers, strict=True):
            np.testing.assert_allclose(mine, other, atol=1e-4)
    assert confirm(problem, ours.trajectory.controls, initial=ours.trajectory.states[0]).confirmed


@every_problem
def test_ipopt_ends_at_a_certified_point_from_a_cold_start(problem):
    result = solve_ipopt(multiple_shooting(problem), problem.init_controls(3))
    assert result.success, result.message
    assert result.certificate.passed(), result.certificate
    assert result.model is None and result.stationarity < 1e-7
    single = cold_start(problem, result.trajectory.controls, initial=result.trajectory.states[0])
    assert single.objective == pytest.approx(result.objective, rel=1e-8)
    assert result.history[-1].rollout_objective == pytest.approx(result.rollout_objective, rel=1e-9)


@every_problem
def test_the_constraints_multipliers_are_the_adjoints(problem):
    nlp = multiple_shooting(problem)
    result = solve_ipopt(nlp, problem.init_controls(3), options=IpoptOptions(tolerance=1e-10))
    initial = result.trajectory.states[0] if problem.has_free_start else None
    lifted = problem.lift(result.trajectory.controls, initial=initial)
    np.testing.assert_allclose(nlp.pack(result.trajectory)["lam_g0"], nlp.pack(lifted)["lam_g0"], atol=1e-7)


@pytest.mark.parametrize("problem", [p for name, p in PROBLEMS.items() if "mixed" not in name])
def test_gauss_newton_and_a_quasi_newton_method_end_where_the_exact_hessian_does(problem):
    ends = [
        solve_ipopt(single_shooting(problem), problem.init_controls(3), options=IpoptOptions(hessian=hessian))
        for hessian in ("exact", "gauss-newton", "limited-memory")
    ]
    assert all(end.success for end in ends)
    assert [end.objective for end in ends] == pytest.approx([ends[0].objective] * 3, rel=1e-7)


@pytest.mark.parametrize("solver", ["sqpmethod", "fatrop"])
def test_other_solvers_take_the_same_programs(solver):
    problem = shared_over_time()
    start = solve(problem, options=Options(seed=3)).trajectory
    result = solve_nlp(multiple_shooting(problem), solver, Trajectory(start.controls, start.states))
    assert result.success, result.message
    assert result.certificate.passed(tolerance=1e-3)


def test_bounds_are_for_control_blocks_and_for_the_free_start():
    problem = shared_over_time()
    free = solve_ipopt(multiple_shooting(problem))
    bound = 0.5 * np.abs(free.trajectory.states[0]).max()
    nlp = multiple_shooting(problem, control_bounds={0: (-0.4, 0.4)}, state_bounds={0: (-bound, bound)})
    result = solve_ipopt(nlp)
    assert result.success, result.message
    assert np.abs(result.trajectory.states[0]).max() <= bound + 1e-7
    assert np.abs(result.trajectory.controls[0]).max() <= 0.4 + 1e-7
    assert result.objective > free.objective
    known = shared_over_time(free_start=False)
    with pytest.raises(ValueError, match="state_bounds"):
        multiple_shooting(known, state_bounds={0: (-1, 1)})
    with pytest.raises(ValueError, match="control_bounds"):
        multiple_shooting(known, control_bounds={1: (-1, 1)})


def test_a_projected_point_keeps_its_start():
    problem = shared_over_time()
    point = anywhere(problem)
    projected = project(problem, point)
    np.testing.assert_array_equal(projected.states[0], point.states[0])
    assert max(np.abs(d).max() for d in problem.defects(projected)) == 0.0


def test_tied_networks_are_transcribed_with_their_model():
    x = np.linspace(-1, 1, 12)[:, None]
    problem = TrainingProblem(Network.mlp([1, 3, 3, 3, 1], tied=True), x, np.sin(3 * x), 1e-2)
    nlp = multiple_shooting(problem)
    assert [block.name for block in nlp.variables] == ["u0", "x1", "u1", "x2", "x3", "u2"]
    point = nlp.pack(anywhere(problem))
    *_, expected = casadis(nlp, 0.7, point)
    found = LagrangianHessian(nlp, symmetric=True)(point["x0"], [], 0.7, point["lam_g0"]).full()
    assert np.abs(found - expected).max() < 1e-10 * np.abs(expected).max()
    result = solve_ipopt(nlp)
    assert result.success and result.certificate.passed()
    assert result.predict(x) == pytest.approx(problem.network.predict(result.trajectory.controls, x))


def reordered(problem):
    """The same with its blocks numbered in another order than that of their first use."""
    new = (2, 0, 1)
    return OptimalControlProblem(
        [Stage(stage.layer, new[stage.block], unit=stage.unit) for stage in problem.dynamics],
        [Term.of_data(term.stage, term.layer, new[term.block], term.data) for term in problem.terms],
        problem.x,
        weight_decay=[problem.decays[new.index(b)] for b in range(3)],
    )


def test_the_numbers_of_blocks_do_not_matter():
    problem = PROBLEMS["mixed losses and blocks"]
    other = reordered(problem)
    for nodes in ((), (2,), None):
        mine, theirs = transcribe(problem, nodes), transcribe(other, nodes)
        assert [block.name for block in theirs.variables if block.kind == "control"] == ["u2", "u0", "u1"]
        point = mine.pack(anywhere(problem))
        for first, second in zip(casadis(mine, 0.7, point), casadis(theirs, 0.7, point), strict=True):
            np.testing.assert_allclose(first, second, atol=1e-12)
        hessians = [LagrangianHessian(nlp)(point["x0"], [], 0.7, point["lam_g0"]).full() for nlp in (mine, theirs)]
        np.testing.assert_allclose(*hessians, atol=1e-12)
    controls, _ = random_point(problem)
    parts = problem.split(np.arange(problem.num_controls))
    inverse = np.concatenate([*parts[1:], parts[0]])
    found = reduced_hessian(other, (*controls[1:], controls[0]))
    np.testing.assert_allclose(found, reduced_hessian(problem, controls)[np.ix_(inverse, inverse)], atol=1e-12)


def records():
    """Two records of different lengths, with a measurement missing."""
    rng = np.random.default_rng(0)
    pairs = []
    for length in (30, 24):
        v = rng.standard_normal((length, 1))
        x, y = np.zeros(2), np.zeros((length, 1))
        for t in range(length):
            y[t] = x[0] + 0.02 * rng.standard_normal()
            x = np.array([0.8 * x[0] + 0.3 * np.tanh(x[1]) + 0.1 * v[t, 0], 0.7 * x[1] - 0.3 * x[0] + 0.5 * v[t, 0]])
        y[length // 3] = np.nan
        pairs.append((v, y))
    return pairs


def test_identification_is_transcribed_and_solved_like_any_problem():
    model = StateSpaceModel(num_states=2, num_inputs=1, num_outputs=1, hidden_layer_sizes=[3])
    problem = IdentificationProblem(model, records(), 1e-2, initial_weight=0.1)
    for nodes in ((), (5, 10, 11), None):
        nlp = transcribe(problem, nodes)
        rng = np.random.default_rng(1)
        point = {"x0": 0.3 * rng.standard_normal(nlp.num_variables), "lam_g0": rng.standard_normal(nlp.num_constraints)}
        f, g, *_, expected = casadis(nlp, 0.7, point)
        trajectory = nlp.unpack(point["x0"])
        assert float(f[0, 0]) == pytest.approx(problem.objective(trajectory), rel=1e-12)
        np.testing.assert_allclose(g.ravel(), vector(problem.defects(trajectory)[k - 1] for k in nlp.nodes), atol=1e-12)
        found = LagrangianHessian(nlp, symmetric=True)(point["x0"], [], 0.7, point["lam_g0"]).full()
        assert np.abs(found - expected).max() < 1e-10 * np.abs(expected).max()
    ours = solve(problem, options=Options(tolerance=1e-7))
    theirs = solve_ipopt(multiple_shooting(problem), ours.trajectory)
    assert theirs.success and theirs.certificate.passed()
    assert theirs.objective == pytest.approx(ours.objective, rel=1e-6)


def test_chunks_of_samples_add_up(monkeypatch):
    for problem in PROBLEMS.values():
        nlp = multiple_shooting(problem)
        point = nlp.pack(anywhere(problem))
        whole = LagrangianHessian(nlp).nonzeros(point["x0"], 0.7, point["lam_g0"])
        with monkeypatch.context() as smaller:
            smaller.setattr(curvature, "_CHUNK", 1)
            pieces = LagrangianHessian(nlp).nonzeros(point["x0"], 0.7, point["lam_g0"])
        np.testing.assert_allclose(pieces, whole, rtol=0, atol=1e-12 * np.abs(whole).max())


def test_a_problem_without_dynamics_is_a_regression():
    x, y = np.linspace(-1, 1, 9)[:, None], np.linspace(0, 2, 9)[:, None]
    line = Dense(1, 1, "identity")
    for alpha in (np.inf, 10.0):
        problem = OptimalControlProblem([], [Term(0, line, y)], x, weight_decay=1e-3, initial_weight=alpha)
        result = solve_ipopt(multiple_shooting(problem), (np.ones(2),))
        assert result.success and result.certificate.passed()
        assert result.objective == pytest.approx(solve(problem, options=Options(tolerance=1e-8)).objective, rel=1e-6)
