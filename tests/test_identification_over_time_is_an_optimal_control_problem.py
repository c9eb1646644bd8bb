"""Records of a dynamic system and a state-space model make an optimal control problem, and it is solved as such."""

import casadi as ca
import numpy as np
import pytest
from systems import long_memory, lorenz, mildly_nonlinear, pendulum

from ocp_nn import (
    IdentificationProblem,
    OptimalControlProblem,
    Options,
    StateSpaceModel,
    Status,
    Trajectory,
    certify,
    solve,
)

V, Y = mildly_nonlinear()


def small_model(**others):
    return StateSpaceModel(num_states=2, num_inputs=1, num_outputs=1, hidden_layer_sizes=(4,), **others)


def small_problem(weight_decay=1e-2, **others):
    return IdentificationProblem(small_model(), [(V, Y)], weight_decay, **others)


def squared_error(problem, trajectory):
    outputs = np.stack(problem.term_outputs(trajectory.controls, trajectory.states))
    return 0.5 * float(np.sum(problem.weights * (outputs - problem.y) ** 2))


def test_its_objective_is_the_simulation_error_of_all_records():
    rng = np.random.default_rng(0)
    y = Y.copy()
    y[[3, 17]] = np.nan
    model = small_model()
    problem = IdentificationProblem(model, [(V, y), (V[:40], Y[:40])], 0.1, output_weight=[2.0], initial_weight=0.3)
    theta, starts = 0.3 * rng.standard_normal(model.num_parameters), rng.standard_normal((2, 2))
    rollout = problem.rollout([theta], initial=starts)
    expected = 0.05 * theta @ theta + 0.15 * np.sum(starts**2)
    for (v, measured), x0 in zip(((V, y), (V[:40], Y[:40])), starts, strict=True):
        expected += np.nansum((model.simulate(theta, v, x0)[0] - measured) ** 2)
    assert problem.objective(rollout) == pytest.approx(expected, rel=1e-12)


def test_evaluating_all_steps_at_once_changes_nothing():
    problem = small_problem()
    rng = np.random.default_rng(1)
    theta = 0.3 * rng.standard_normal(problem.num_controls)
    states = tuple(rng.standard_normal((1, 2)) for _ in range(problem.num_stages))
    one_by_one = OptimalControlProblem.evaluate(problem, (theta,), states)
    for quick, slow in zip(problem.evaluate((theta,), states), one_by_one, strict=True):
        assert quick == pytest.approx(slow, rel=1e-13)
    outputs = problem.term_outputs((theta,), states)
    assert problem.cost((theta,), outputs, states[0]) == pytest.approx(
        OptimalControlProblem.cost(problem, (theta,), outputs, states[0]), rel=1e-13
    )


@pytest.mark.parametrize("shooting", ["multiple", "single", 10, [7, 50]], ids=str)
@pytest.mark.parametrize("initialisation", ["auto", "linear", "states", "standard"])
def test_every_formulation_converges_from_every_start(shooting, initialisation):
    problem = small_problem()
    result = solve(problem, options=Options(shooting=shooting, initialisation=initialisation))
    assert result.status is Status.CONVERGED
    assert result.certificate.passed(), result.certificate
    assert result.objective < 0.02 * problem.null_objective
    assert result.model is None


def test_multiple_shooting_over_time_ends_where_single_shooting_does():
    problem = small_problem(0.1)
    first = solve(problem, options=Options(initialisation="states", tolerance=1e-7))
    again = solve(problem, first.trajectory, options=Options(shooting="single", tolerance=1e-7))
    assert again.objective == pytest.approx(first.objective, rel=1e-8)
    multipliers = problem.lift(again.trajectory.controls, initial=again.trajectory.states[0]).multipliers
    for mine, adjoint in zip(first.trajectory.multipliers, multipliers, strict=True):
        assert mine == pytest.approx(adjoint, abs=1e-4)


def test_a_chaotic_record_is_trained_to_the_noise_and_single_shooting_never_follows():
    y, floor = lorenz()
    model = StateSpaceModel(num_states=3, num_inputs=0, num_outputs=1, hidden_layer_sizes=(16,))
    problem = IdentificationProblem(model, [(None, y)], 1e-5)
    result = solve(problem, options=Options(max_outer=100))
    assert squared_error(problem, result.trajectory) <= 1.05 * floor
    assert result.max_defect <= 1e-6
    assert not result.certificate.rollout_is_determined
    single = solve(problem, options=Options(shooting="single", max_outer=30))
    assert squared_error(problem, single.trajectory) > 20 * floor


def test_an_unstable_system_under_feedback_is_identified():
    v, y, floor = pendulum()
    problem = IdentificationProblem(StateSpaceModel(num_states=2, num_inputs=1, num_outputs=1), [(v, y)], 1e-4)
    result = solve(problem, options=Options(max_outer=150))
    assert squared_error(problem, result.trajectory) <= 1.05 * floor
    assert result.max_defect <= 1e-6


def test_states_that_remember_the_inputs_train_a_long_memory():
    records, floor = long_memory()
    model = StateSpaceModel(num_states=3, num_inputs=2, num_outputs=1)
    problem = IdentificationProblem(model, records, 1e-5)
    result = solve(problem, options=Options(initialisation="slow", max_outer=150))
    assert squared_error(problem, result.trajectory) <= 1.2 * floor
    assert result.max_defect <= 1e-6


def test_physical_parameters_are_found_beside_unknown_initial_states():
    x, theta, v = ca.SX.sym("x", 2), ca.SX.sym("theta", 2), ca.SX.sym("v", 1)
    ode = ca.Function("ode", [x, v, theta], [ca.vertcat(x[1], v - theta[0] * x[0] - theta[1] * x[1])])
    output = ca.Function("output", [x, v, theta], [x[0]])
    model = StateSpaceModel.from_ode(ode, output, sampling_time=0.2, guess=[1.0, 1.0])
    rng = np.random.default_rng(0)
    records = []
    for start in ([1.0, 0.0], [-0.5, 0.8]):
        inputs = rng.standard_normal((80, 1))
        clean = model.simulate([2.0, 0.3], inputs, start)[0]
        records.append((inputs, clean + 0.01 * rng.standard_normal(clean.shape)))
    result = solve(IdentificationProblem(model, records, 0.0, initial_weight=1e-6))
    assert result.status is Status.CONVERGED
    assert result.trajectory.controls[0] == pytest.approx([2.0, 0.3], abs=0.02)
    assert result.trajectory.states[0] == pytest.approx(np.array([[1.0, 0.0], [-0.5, 0.8]]), abs=0.03)


def test_records_of_different_lengths_and_missing_outputs_are_one_problem():
    y = Y.copy()
    y[10:20] = np.nan
    problem = IdentificationProblem(small_model(), [(V, y), (V[:50], Y[:50])], 1e-2)
    result = solve(problem)
    assert result.status is Status.CONVERGED and result.certificate.passed()


def test_known_initial_states_stay():
    problem = small_problem(initial_state=[0.3, -0.2], initial_weight=np.inf)
    result = solve(problem)
    assert result.certificate.passed()
    assert np.array_equal(result.trajectory.states[0], [[0.3, -0.2]])


def test_planted_faults_in_time_are_named():
    problem = small_problem()
    good = solve(problem).trajectory
    assert certify(problem, good).passed()
    states = [x.copy() for x in good.states]
    states[60][0, 1] += 1e-3
    certificate = certify(problem, Trajectory(good.controls, tuple(states), good.multipliers))
    assert not certificate.passed() and certificate.worst.layer in (59, 60)


def test_a_solve_goes_on_as_if_it_had_never_stopped():
    problem = small_problem()
    options = Options(initialisation="states")
    whole = solve(problem, options=options)
    part = solve(problem, options=Options(initialisation="states", max_outer=5))
    assert part.status is Status.OUTER_LIMIT
    again = solve(problem, part, options=options)
    assert again.objective == whole.objective and len(again.history) == len(whole.history)


def test_callbacks_and_limits_end_it():
    problem = small_problem()
    seen = []
    stopped = solve(problem, callback=lambda iterate: bool(seen.append(iterate.state.point.objective)))
    assert stopped.success and len(seen) == len(stopped.history)
    assert solve(problem, callback=lambda iterate: True).status is Status.INTERRUPTED
    assert solve(problem, options=Options(time_limit=1e-9)).status is Status.TIME_LIMIT
    assert solve(problem, options=Options(max_outer=0)).status is Status.OUTER_LIMIT
    assert solve(problem, options=Options(max_steps=1, max_inner=1)).status is Status.INNER_LIMIT


def test_a_model_that_overflows_has_a_status_with_a_remedy():
    theta = np.full(small_model().num_parameters, 1e200)
    result = solve(small_problem(), [theta])
    assert result.status is Status.NON_FINITE and result.status.remedy


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IdentificationProblem("model", [(V, Y)]), "StateSpaceModel"),
        (lambda: IdentificationProblem(small_model(), []), "experiments"),
        (lambda: IdentificationProblem(small_model(), [(V, Y), (np.c_[V, V], Y)]), "record 1"),
        (lambda: IdentificationProblem(small_model(), [(np.where(V[3] == V, np.nan, V), Y)]), "finite"),
        (lambda: IdentificationProblem(small_model(), [(V[:1], Y[:1])]), "two samples"),
        (lambda: IdentificationProblem(small_model(), [(V, Y[:-1])]), "as long as each other"),
        (lambda: IdentificationProblem(small_model(), [(V, Y * np.nan)]), "measurement"),
        (lambda: small_problem(-1.0), "weight_decay"),
        (lambda: small_problem(output_weight=[1.0, 2.0]), "each of 1 outputs"),
        (lambda: small_problem(output_weight=0.0), "output_weight"),
        (lambda: small_problem(initial_state=[0.0]), "initial_state"),
        (lambda: small_problem(initial_weight=0.0), "initial_weight"),
        (lambda: solve(small_problem(), options=Options(initialisation="he")), "initialisation"),
        (lambda: solve(small_problem(), [np.zeros(3)]), "shapes"),
    ],
)
def test_what_does_not_fit_is_one_clear_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()
