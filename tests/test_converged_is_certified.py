"""A result that says converged passes its own certificate at its own tolerance; no finite data raise or warn.

``scripts/certify_random_problems.py`` runs the same over thousands of cases.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from ocp_nn import Network, Options, Status, TrainingProblem, certify, solve
from ocp_nn.solvers.augmented_lagrangian.damping import Damping, first_damping
from ocp_nn.solvers.augmented_lagrangian.gauss_newton import minimise
from ocp_nn.solvers.augmented_lagrangian.initialise import fit_states, initialise
from ocp_nn.solvers.augmented_lagrangian.lagrangian import AugmentedLagrangian
from ocp_nn.solvers.augmented_lagrangian.linearisation import Method
from ocp_nn.solvers.augmented_lagrangian.outer_loop import init, solution, step, terminate

SCRIPTS = str(Path(__file__).parents[1] / "scripts")

# Cases that have been seen to say converged without being certified, and to raise.
ONCE_UNCERTIFIED = (4, 223, 247, 279, 668, 762)
ONCE_RAISED = (82, 396, 530, 643, 678)
LARGEST = np.finfo(float).max
SIZES = (0.0, 5e-324, 1e-300, 1e-170, 1e16, 1e160, LARGEST)


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, SCRIPTS)
    try:
        import certify_random_problems
    finally:
        sys.path.remove(SCRIPTS)
    return certify_random_problems


def problem_of(x_size=1.0, y_size=1.0, sizes=(1, 4, 3, 2), activation="tanh", weight_decay=1e-2, samples=20):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (samples, sizes[0]))
    y = np.sin(3 * x[:, :1]) * np.linspace(0.5, 1.0, sizes[-1])
    return TrainingProblem(Network.mlp(sizes, activation), x_size * x, y_size * y, weight_decay)


# ---- the statement


def test_random_problems_keep_the_statement(script):
    outcomes = script.run_cases([*range(5, 160), *ONCE_UNCERTIFIED, *ONCE_RAISED])
    assert {o.seed: o.faults for o in outcomes if o.faults} == {}
    statuses = [outcome.status for outcome in outcomes]
    assert statuses.count("converged") >= 80 and len(set(statuses)) >= 4


def test_a_certificate_judges_at_the_tolerance_of_the_solve():
    rough = solve(problem_of(), options=Options(tolerance=1e-2, shooting="single"))
    assert rough.success and rough.certificate.tolerance == 1e-2
    assert rough.certificate.passed() and not rough.certificate.passed(1e-9)
    assert "verdict at 0.01" in str(rough.certificate)
    strict = certify(rough.problem, rough.trajectory, tolerance=1e-9)
    assert not strict.passed() and strict.failures() == rough.certificate.failures(1e-9)
    assert certify(rough.problem, rough.trajectory).tolerance == Options().tolerance


def test_multipliers_that_are_not_the_adjoints_are_not_converged():
    """Stationary layer by layer, within the tolerance, but not yet what back-propagation gives: the loop goes on."""
    problem, options = problem_of(sizes=(1, 3, 3, 3, 1)), Options(second_order=False, max_restarts=0)
    result = solve(problem, options=options)
    assert result.success and terminate(problem, result.state, options) is Status.CONVERGED
    moved = tuple(multiplier + 1e-5 for multiplier in result.state.multipliers)
    planted = replace(result.state, multipliers=moved)
    assert terminate(problem, planted, options) is None
    gone_on = solve(problem, planted, options=options)
    assert gone_on.success and gone_on.certificate.passed()


def test_where_rounding_is_larger_than_the_tolerance_a_solve_is_stalled():
    """The check disagrees with the solver's own figures for good: further steps are tried, and the end says so."""
    problem, options = problem_of(), Options(max_outer=400)
    result = solve(problem, options=options)
    assert result.success and result.state.schedule.finish is not None
    with pytest.MonkeyPatch.context() as patch:
        doubtful = replace(result.certificate, max_defect=1.0)
        patch.setattr("ocp_nn.solvers.augmented_lagrangian.outer_loop.certify", lambda *_, **__: doubtful)
        stalled = solve(problem, options=options)
    assert stalled.status is Status.STALLED and stalled.counts["outer"] > result.counts["outer"]


def test_a_converged_state_stands_for_the_result_that_is_returned():
    problem = problem_of()
    for options in (Options(), Options(second_order=False, shooting=[2])):
        result = solve(problem, options=options)
        stood_for = solution(problem, result.state)
        assert result.success
        for ours, theirs in zip(stood_for.multipliers, result.trajectory.multipliers, strict=True):
            np.testing.assert_array_equal(ours, theirs)


# ---- finite data neither raise nor warn (warnings are errors in this suite)


@pytest.mark.parametrize("activation", ["tanh", "relu", "softplus", "identity"])
@pytest.mark.parametrize("x_size", SIZES)
@pytest.mark.parametrize("y_size", SIZES)
def test_data_of_any_size_end_in_a_status_or_one_sentence(x_size, y_size, activation):
    try:
        problem = problem_of(x_size, y_size, activation=activation)
    except ValueError as error:
        assert "flow" in str(error) and "scale the data" in str(error)
        return
    result = solve(problem, options=Options(max_outer=15, max_restarts=1))
    possible = (Status.CONVERGED, Status.STALLED, Status.AT_KINK, Status.NON_FINITE, Status.OUTER_LIMIT)
    assert result.status in possible and (activation == "relu" or result.status is not Status.AT_KINK)
    assert result.certificate.passed() or not result.success
    assert_stepping_by_hand_is_quiet(problem)


def assert_stepping_by_hand_is_quiet(problem):
    for method in ("standard", "states"):
        controls = initialise(problem, method)
        certify(problem, problem_without_warnings(problem, controls))
        terminate(problem, step(problem, init(problem, controls)))


def problem_without_warnings(problem, controls):
    with np.errstate(all="ignore"):
        return problem.rollout(controls)


def test_quiet_calls_leave_the_floating_point_settings_as_they_are():
    before = np.geterr()
    solve(problem_of(1e150, 1e150), options=Options(max_outer=2))
    assert np.geterr() == before
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        solve(problem_of(), callback=lambda _: np.float64(1e308) * 10 > 0)
    assert len(caught) == 1, "a callback's own overflow is still shown"


@pytest.mark.parametrize("seed", range(8))
def test_a_huge_column_and_tiny_targets_are_no_linalg_error(seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((20, 3)) * [1e16, 1.0, 1.0]
    problem = TrainingProblem(Network.mlp([3, 2, 1, 2], "identity"), x, 1e-139 * rng.standard_normal((20, 2)), 1e-3)
    assert solve(problem, options=Options(seed=seed, max_outer=30)).certificate.passed()


def test_a_fit_whose_ridge_is_lost_in_rounding_leaves_the_mean():
    """Three equal columns of 1e16: their normal equations are singular in floating point."""
    x = np.tile(1e16 * np.arange(1.0, 9.0)[:, None], 3)
    problem = TrainingProblem(Network.mlp([3, 3, 1], "identity"), x, np.arange(8.0), 0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            import_module("ocp_nn.solvers.augmented_lagrangian.initialise"),
            "_spread_units",
            lambda *_: np.vstack([np.eye(3), np.zeros(3)]).ravel(),
        )
        controls = fit_states(problem, 0)
    np.testing.assert_array_equal(controls[-1], [0.0, 0.0, 0.0, 3.5])


def test_a_damping_stays_finite_whatever_the_gain():
    assert np.isfinite(Damping(1.0).accepted(-1e200).value)
    assert Damping(1.0).accepted(-2.0).value == 126.0


def test_an_accuracy_that_grows_with_the_iterations_overflows_to_infinity():
    options = Options(inner_accuracy="absolute", inner_decay=10.0, second_order=False, max_restarts=0, max_outer=402)
    late = replace(init(problem_of()), outer=400)
    assert solve(problem_of(), late, options=options).status is Status.OUTER_LIMIT


def test_the_first_damping_is_a_number_where_the_curvature_is_none():
    problem = problem_of(sizes=(1, 2, 1, 2), activation="identity")
    controls = problem.network.init_controls(0)
    zero = tuple(np.zeros((problem.num_samples, width)) for width in (2, 1))
    drowned = AugmentedLagrangian(problem, zero, (1e-274, 1e-274))
    point = drowned.at(controls, problem.rollout(controls).states)
    assert first_damping(drowned, point, 0.3) == Damping(0.3)


@pytest.mark.parametrize("globalisation", ["levenberg-marquardt", "armijo"])
def test_an_inner_solve_without_a_factorisation_stalls(globalisation, monkeypatch):
    def fails(*_, **__):
        raise np.linalg.LinAlgError

    monkeypatch.setattr("ocp_nn.forward_dp.Prepared.damped", fails)
    problem = problem_of()
    lagrangian = AugmentedLagrangian(problem, (np.zeros((20, 4)), np.zeros((20, 3))), (1.0, 1.0))
    rollout = problem.rollout(problem.network.init_controls(0))
    point = lagrangian.at(rollout.controls, rollout.states)
    method = Method(globalisation=globalisation)
    result = minimise(lagrangian, point, Damping(1.0), tolerance=lambda _: 0.0, max_steps=5, method=method)
    assert result.stalled and result.steps == 0 and np.isfinite(result.damping.value)


# ---- the script


def test_the_script_reports_what_it_finds_and_runs_a_seed_again(script, monkeypatch, capsys):
    assert script.main(["--cases", "3", "--seed", "40"]) == 0
    assert "3 cases" in capsys.readouterr().out
    monkeypatch.setattr("ocp_nn.problem.certificate.Certificate.failures", lambda *_: ("planted",))
    monkeypatch.setattr("ocp_nn.problem.certificate.Certificate.passed", lambda *_: True)
    assert script.main(["--only", "4"]) == 1
    printed = capsys.readouterr().out
    assert "--only 4 " in printed and "converged, but planted" in printed and "certificate: 1 of 1" in printed
    assert "Options(seed=" in printed and "'kind': 'dense'" in printed
    monkeypatch.setattr(script, "solve", lambda *_, **__: 1 / 0)
    assert script.main(["--only", "41"]) == 1
    printed = capsys.readouterr().out
    assert "ZeroDivisionError" in printed and "exceptions: 1" in printed
