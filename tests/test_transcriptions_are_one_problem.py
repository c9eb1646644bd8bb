"""Claim: single, partial and multiple shooting are one problem; points, multipliers and derivatives carry over."""

from __future__ import annotations

import casadi as ca
import numpy as np
import pytest
from matplotlib.figure import Figure

from ocp_nn import (
    Dense,
    Network,
    TrainingProblem,
    Trajectory,
    multiple_shooting,
    project,
    single_shooting,
    solve_ipopt,
    transcribe,
)
from ocp_nn.solvers.nlp.hessian import LagrangianHessian


def _cubic_stage(n_in: int, n_out: int) -> ca.Function:
    x, u = ca.SX.sym("x", n_in), ca.SX.sym("u", n_in * n_out)
    return ca.Function("cubic", [x, u], [ca.tanh(ca.reshape(u, n_out, n_in) @ x) + u[0] ** 2 * ca.sumsqr(x)])


NETWORKS = {
    "tanh": Network.mlp([2, 3, 4, 2], "tanh"),
    "softplus residual": Network.mlp([3, 3, 3, 1], "softplus", residual=True),
    "symbolic in the middle": Network([Dense(2, 3, "sigmoid"), _cubic_stage(3, 2), Dense(2, 1, "identity")]),
}
NODES = {"single": (), "first": (1,), "last": (2,), "all": (1, 2)}
CASES = [
    pytest.param(net, nodes, id=f"{a}-{b}") for a, net in NETWORKS.items() for b, nodes in NODES.items()
]  # fmt: skip


def _problem(network: Network) -> TrainingProblem:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, network.num_inputs)), rng.standard_normal((6, network.num_outputs))
    return TrainingProblem(network, x, y, weight_decay=0.3)


def _anywhere(problem: TrainingProblem, seed: int = 1) -> Trajectory:
    """A trajectory that satisfies nothing."""
    rng = np.random.default_rng(seed)
    states = (problem.x, *(rng.standard_normal((problem.num_samples, n)) for n in problem.network.sizes[1:-1]))
    controls = tuple(0.5 * rng.standard_normal(layer.num_controls) for layer in problem.network.layers)
    return Trajectory(controls, states, tuple(rng.standard_normal(x.shape) for x in states))


@pytest.fixture(scope="module")
def solved() -> tuple[TrainingProblem, Trajectory]:
    problem = _problem(NETWORKS["tanh"])
    result = solve_ipopt(multiple_shooting(problem))
    assert result.success, result.message
    return problem, result.trajectory


@pytest.mark.parametrize(("network", "nodes"), CASES)
def test_objective_and_constraints_are_the_problems(network: Network, nodes: tuple[int, ...]) -> None:
    problem = _problem(network)
    nlp = transcribe(problem, nodes)
    trajectory = nlp.unpack({"x": nlp.pack(_anywhere(problem))["x0"], "lam_g": nlp.pack(_anywhere(problem))["lam_g0"]})
    f, g = ca.Function("fg", [nlp.problem["x"]], [nlp.problem["f"], nlp.problem["g"]])(nlp.pack(trajectory)["x0"])
    assert float(f) == pytest.approx(problem.objective(trajectory), rel=1e-12)
    defects = problem.defects(trajectory)
    expected = np.concatenate([np.zeros(0), *(defects[k - 1].ravel() for k in nodes)])
    np.testing.assert_allclose(np.array(g).ravel(), expected, atol=1e-12)
    for k in set(range(1, problem.num_stages)) - set(nodes):
        assert abs(defects[k - 1]).max() == 0.0


@pytest.mark.parametrize(("network", "nodes"), CASES)
def test_hessian_callback_is_casadis_in_value_and_structure(network: Network, nodes: tuple[int, ...]) -> None:
    nlp = transcribe(_problem(network), nodes)
    point = nlp.pack(_anywhere(nlp.training))
    x, f, g = (nlp.problem[key] for key in ("x", "f", "g"))
    sigma, lam = ca.MX.sym("sigma"), ca.MX.sym("lam", nlp.num_constraints)
    upper = ca.triu(ca.hessian(sigma * f + ca.dot(lam, g), x)[0])
    expected = ca.Function("hessian", [x, sigma, lam], [upper])(point["x0"], 0.7, point["lam_g0"])
    callback = LagrangianHessian(nlp)
    received = callback(point["x0"], ca.DM(0, 0), 0.7, point["lam_g0"])
    np.testing.assert_allclose(np.array(received), np.array(expected), rtol=0, atol=1e-8)
    if "cubic" not in {stage.name() for stage in network.stages}:
        assert received.sparsity() == expected.sparsity() == nlp.hessian_sparsity


def test_gauss_newton_callback_is_the_curvature_of_a_linearised_residual() -> None:
    nlp = transcribe(_problem(NETWORKS["tanh"]), (2,))
    x0 = nlp.pack(_anywhere(nlp.training))["x0"]
    where = {block.name: block.where for block in nlp.variables}
    x = nlp.problem["x"]
    last_layer = ca.MX.zeros(4, 6) + ca.reshape(x[where["x2"]], 4, 6)
    weights = ca.reshape(x[where["u2"]], 2, 5)
    jacobian = ca.jacobian(ca.vec(weights[:, :-1] @ last_layer + ca.repmat(weights[:, -1], 1, 6)), x)
    j = np.array(ca.Function("j", [x], [jacobian])(x0).full())
    decay = np.zeros(nlp.num_variables)
    for k in range(3):
        decay[where[f"u{k}"]] = nlp.training.weight_decay
    received = LagrangianHessian(nlp, "gauss-newton")(x0, ca.DM(0, 0), 1.0, np.ones(nlp.num_constraints))
    np.testing.assert_allclose(np.array(received.full()), np.triu(j.T @ j + np.diag(decay)), atol=1e-12)


@pytest.mark.parametrize("target", NODES.values(), ids=NODES)
@pytest.mark.parametrize("source", NODES.values(), ids=NODES)
def test_a_solution_carries_between_any_two_node_sets(solved, source, target) -> None:
    problem, trajectory = solved
    first, second = transcribe(problem, source), transcribe(problem, target)
    arrived = {"x": (packed := first.pack(trajectory))["x0"], "lam_g": packed["lam_g0"]}
    again = second.pack(first.unpack(arrived))
    direct = second.pack(trajectory)
    for key in ("x0", "lam_g0"):
        np.testing.assert_allclose(again[key], direct[key], atol=1e-8)


@pytest.mark.parametrize("nodes", NODES.values(), ids=NODES)
def test_pack_and_unpack_are_inverse_at_nodes(nodes) -> None:
    nlp = transcribe(_problem(NETWORKS["tanh"]), nodes)
    rng = np.random.default_rng(3)
    x, lam_g = rng.standard_normal(nlp.num_variables), rng.standard_normal(nlp.num_constraints)
    back = nlp.pack(nlp.unpack({"x": ca.DM(x), "lam_g": ca.DM(lam_g)}))
    np.testing.assert_array_equal(back["x0"], x)
    np.testing.assert_array_equal(back["lam_g0"], lam_g)


@pytest.mark.parametrize("sign", [1, -1], ids=["f - x", "x - f"])
def test_solver_multipliers_are_adjoints_up_to_the_sign_of_the_constraint(sign: int) -> None:
    problem = _problem(NETWORKS["tanh"])
    nlp = multiple_shooting(problem)
    flipped = nlp.problem | {"g": sign * nlp.problem["g"]}
    quiet = {"print_time": False, "ipopt": {"print_level": 0, "sb": "yes", "tol": 1e-10}}
    solver = ca.nlpsol("solver", "ipopt", flipped, quiet)
    solution = solver(**nlp.bounds, **nlp.pack(nlp.guess()))
    assert solver.stats()["success"]
    adjoints = problem.adjoints(problem.rollout(nlp.unpack(solution["x"]).controls)).costates
    expected = np.concatenate([adjoints[k].ravel() for k in nlp.nodes])
    np.testing.assert_allclose(sign * np.array(solution["lam_g"]).ravel(), expected, atol=1e-7)
    assert abs(expected).max() > 0.1


def test_multipliers_at_a_feasible_stationary_point_are_back_propagation() -> None:
    problem = _problem(NETWORKS["tanh"])
    result = solve_ipopt(single_shooting(problem))
    nlp = multiple_shooting(problem)
    lifted = problem.lift(result.trajectory.controls)
    x, f, g = (nlp.problem[key] for key in ("x", "f", "g"))
    gradient, jacobian = ca.Function("kkt", [x], [ca.gradient(f, x), ca.jacobian(g, x)])(nlp.pack(lifted)["x0"])
    # the multipliers that make the Lagrangian stationary, by least squares: no adjoint recursion in sight
    solved = np.linalg.lstsq(np.array(jacobian.full()).T, -np.array(gradient).ravel(), rcond=None)[0]
    np.testing.assert_allclose(nlp.pack(lifted)["lam_g0"], solved, atol=1e-8)
    assert nlp.stationarity(lifted) < 1e-8


def test_project_closes_defects_and_keeps_controls() -> None:
    problem = _problem(NETWORKS["tanh"])
    point = _anywhere(problem)
    assert max(abs(d).max() for d in problem.defects(point)) > 0.1
    projected = project(problem, point)
    assert max(abs(d).max() for d in problem.defects(projected)) == 0.0
    for before, after in zip(point.controls, projected.controls, strict=True):
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(projected.multipliers[1], problem.adjoints(projected).costates[1])


def test_unpacking_a_bare_vector_invents_no_multipliers() -> None:
    problem = _problem(NETWORKS["tanh"])
    single, multiple = single_shooting(problem), multiple_shooting(problem)
    assert multiple.unpack(np.zeros(multiple.num_variables)).multipliers is None
    controls = _anywhere(problem).controls
    np.testing.assert_array_equal(
        single.unpack(np.concatenate(controls)).multipliers[2], problem.lift(controls).multipliers[2]
    )


def test_names_point_at_the_entry() -> None:
    problem = _problem(NETWORKS["tanh"])
    nlp = multiple_shooting(problem)
    assert len(set(nlp.variable_names)) == nlp.num_variables
    assert len(set(nlp.constraint_names)) == nlp.num_constraints
    point = _anywhere(problem)
    x0 = nlp.pack(point)["x0"]
    entry = dict(zip(nlp.variable_names, x0, strict=True))
    weight, bias = problem.network.layers[1].weights(point.controls[1])
    assert entry["W1[3,2]"] == weight[3, 2]
    assert entry["b1[3]"] == bias[3]
    assert entry["x2[sample 5, unit 1]"] == point.states[2][5, 1]
    g = ca.Function("g", [nlp.problem["x"]], [nlp.problem["g"]])(x0)
    value = dict(zip(nlp.constraint_names, np.array(g).ravel(), strict=True))
    assert value["d0[sample 4, unit 2]"] == pytest.approx(problem.defects(point)[0][4, 2], abs=1e-14)
    symbolic = multiple_shooting(_problem(NETWORKS["symbolic in the middle"]))
    assert "u1[5]" in symbolic.variable_names


def test_spy_counts_and_draws_what_casadi_finds() -> None:
    nlp = multiple_shooting(_problem(NETWORKS["tanh"]))
    text = nlp.spy()
    assert f"{nlp.jacobian_sparsity.nnz()} nonzeros" in text
    lines = [line.split() for line in text.splitlines()]
    # d0 sees W0 (3 units x 3 inputs with bias) and -I in each of 6 samples; d1 sees x1, its controls and -I
    assert ["d0", "54", "18", ".", ".", "."] in lines
    assert ["d1", ".", "72", "96", "24", "."] in lines
    axes = Figure().add_subplot()
    nlp.spy(axes)
    drawn = len(axes.lines[0].get_xdata())
    upper = nlp.hessian_sparsity
    assert drawn == 2 * upper.nnz() - nlp.num_variables + 2 * nlp.jacobian_sparsity.nnz()


def test_bounds_hold_at_the_solution() -> None:
    problem = _problem(NETWORKS["tanh"])
    nlp = multiple_shooting(problem, control_bounds=(-0.2, 0.2), state_bounds={2: (-0.1, np.full(4, 0.3))})
    result = solve_ipopt(nlp)
    assert result.success, result.message
    assert max(abs(u).max() for u in result.trajectory.controls) <= 0.2 + 1e-7
    assert result.trajectory.states[2].min() >= -0.1 - 1e-7
    assert abs(np.concatenate(result.trajectory.controls)).max() > 0.2 - 1e-6
    free = solve_ipopt(multiple_shooting(problem))
    assert free.objective < result.objective - 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"nodes": (0,)}, r"nodes must be .*integers >= 1"),
        ({"nodes": (3,)}, r"1\.\.2"),
        ({"nodes": (1,), "state_bounds": {2: (0, 1)}}, "nodes of multiple_shooting"),
        ({"nodes": (), "state_bounds": (0, 1)}, "nodes of multiple_shooting"),
        ({"control_bounds": {7: (0, 1)}}, "control_bounds"),
        ({"control_bounds": (1, 0)}, "lower bound"),
        ({"control_bounds": (np.nan, 0)}, "lower bound"),
    ],
)
def test_mistakes_are_refused(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        transcribe(_problem(NETWORKS["tanh"]), **arguments)


def test_vectors_of_another_length_are_refused() -> None:
    nlp = multiple_shooting(_problem(NETWORKS["tanh"]))
    with pytest.raises(ValueError, match=f"expected x of {nlp.num_variables} numbers, received 3"):
        nlp.unpack(np.zeros(3))
