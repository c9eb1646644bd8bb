"""Constrained solves: everything asked for holds, prices are IPOPT's, and the certificate notices what does not."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import lsq_linear

import ocp_nn
from ocp_nn.problem.constraints import ready_made
from ocp_nn.solvers.augmented_lagrangian.constrained import curvature

SCRIPTS = str(Path(__file__).parents[1] / "scripts")


@pytest.fixture(scope="module")
def random_problems():
    sys.path.insert(0, SCRIPTS)
    try:
        from constrained_suite import random_problems
    finally:
        sys.path.remove(SCRIPTS)
    return random_problems


def sine(samples=40, hidden=(4, 4), decay=1e-2, activation="tanh"):
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (samples, 1))
    y = np.sin(2 * x) + 0.1 * rng.standard_normal((samples, 1))
    network = ocp_nn.Network.mlp([1, *hidden, 1], activation=activation)
    return ocp_nn.TrainingProblem(network, x, y, decay)


def constrained(problem, *constraints):
    return ocp_nn.ConstrainedProblem(problem, constraints)


@pytest.fixture(scope="module")
def solved():
    problem = sine()
    wanted = [ready_made.output_range(problem, -0.5, 0.8), ocp_nn.ControlBounds(-1.5, 1.2, entries=np.arange(8))]
    result = ocp_nn.solve(constrained(problem, *wanted))
    assert result.success, result
    return result


# --- solutions of others


@pytest.mark.parametrize("seed", [0, 2, 5, 8, 11, 13, 17, 21, 24, 28, 33, 45])
def test_random_problems_have_the_kkt_points_of_ipopt(random_problems, seed):
    found = random_problems.compared(seed)
    assert found.agrees, found


def test_bounds_of_a_linear_network_are_bounded_least_squares():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((30, 4)), rng.standard_normal((30, 1))
    problem = ocp_nn.TrainingProblem(ocp_nn.Network.mlp([4, 1]), x, y, 1e-8)
    result = ocp_nn.solve(constrained(problem, ocp_nn.ControlBounds(-0.1, 0.05)))
    expected = lsq_linear(np.column_stack([x, np.ones(30)]), y[:, 0], (-0.1, 0.05), tol=1e-14).x
    assert result.success
    np.testing.assert_allclose(result.trajectory.controls[0], expected, atol=1e-7)


def test_lasso_of_a_linear_network_is_that_of_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(2)
    x = rng.standard_normal((50, 8))
    y = x @ np.array([2.0, 0, 0, -1.0, 0, 0, 0.5, 0])[:, None] + 0.1 * rng.standard_normal((50, 1))
    problem = ocp_nn.TrainingProblem(ocp_nn.Network.mlp([8, 1]), x, y, 1e-9)
    result = ocp_nn.solve(constrained(problem, ocp_nn.Lasso(5.0, entries=np.arange(8))))
    reference = linear_model.Lasso(alpha=5.0 / 50, tol=1e-12, max_iter=100_000).fit(x, y[:, 0])
    found = result.trajectory.controls[0]
    assert result.success
    np.testing.assert_allclose(found[:8], reference.coef_, atol=1e-6)
    np.testing.assert_array_equal(found[:8] == 0.0, reference.coef_ == 0.0)


def test_groups_leave_as_a_whole_and_exactly():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((60, 4))
    y = np.tanh(x[:, :1]) + 0.05 * rng.standard_normal((60, 1))
    network = ocp_nn.Network.mlp([4, 5, 1])
    result = ocp_nn.solve(
        constrained(ocp_nn.TrainingProblem(network, x, y, 0.1), ready_made.sparse_inputs(network, 3.0))
    )
    weights = result.trajectory.controls[0].reshape(5, 5)[:4]
    assert result.success
    assert np.abs(weights[0]).max() > 0.1
    assert not weights[1:].any()


def test_unit_groups_prune_a_hidden_layer():
    problem = sine(hidden=(8, 4))
    groups = ready_made.sparse_units(problem.network, 0.5, layer=0)
    result = ocp_nn.solve(constrained(problem, groups))
    assert result.success
    assert 0 < groups.is_zero(groups.of(np.concatenate(result.trajectory.controls))).sum() < 8


# --- both ways between solvers


@pytest.mark.parametrize("transcribe", [ocp_nn.single_shooting, ocp_nn.multiple_shooting])
def test_ipopt_stays_at_our_solution_and_we_at_ipopts(solved, transcribe):
    nlp = transcribe(solved.problem)
    theirs = ocp_nn.solve_ipopt(nlp, solved.trajectory, options=ocp_nn.IpoptOptions(tolerance=1e-9))
    assert theirs.success
    assert theirs.objective == pytest.approx(solved.objective, rel=1e-6)
    assert not theirs.certificate.failures(1e-5)
    back = ocp_nn.solve(solved.problem, theirs.trajectory)
    assert back.success
    assert back.objective == pytest.approx(theirs.objective, rel=1e-6)
    assert nlp.stationarity(solved.trajectory) < 1e-5


def test_confirm_takes_the_trajectory_of_a_constrained_problem(solved):
    assert ocp_nn.confirm(solved.problem, solved.trajectory).confirmed


def test_rows_and_variables_carry_their_multipliers(solved):
    nlp = ocp_nn.multiple_shooting(solved.problem)
    point = nlp.pack(solved.trajectory)
    again = nlp.unpack({"x": point["x0"], "lam_g": point["lam_g0"], "lam_x": point["lam_x0"]})
    for mine, theirs in zip(solved.trajectory.constraint_multipliers, again.constraint_multipliers, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert nlp.constraint_names[-1] == "c0[stage 2, sample 39, unit 0]"
    assert len(nlp.constraint_names) == nlp.num_constraints


def test_sparsity_of_groups_is_refused_where_programs_must_be_smooth():
    problem = sine()
    with pytest.raises(ValueError, match="sparsity of groups has no program"):
        ocp_nn.multiple_shooting(constrained(problem, ocp_nn.GroupLasso(0.1, [[0, 1], [2, 3]])))


def linear(samples=50):
    """A linear network, whose lasso is a convex problem."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((samples, 6))
    y = x @ np.array([[1.5], [-0.7], [0.0], [0.05], [0.0], [0.0]]) + 0.1 * rng.standard_normal((samples, 1))
    return ocp_nn.TrainingProblem(ocp_nn.Network.mlp([6, 1]), x, y, 1e-3)


@pytest.mark.parametrize("transcribe", [ocp_nn.single_shooting, ocp_nn.multiple_shooting])
@pytest.mark.parametrize("more", [[], [ocp_nn.ControlBounds(-1.0, 1.0)]])
def test_ipopt_has_the_lasso_and_its_subgradients(transcribe, more):
    for problem in (linear(), sine(hidden=(4,))):
        wanted = constrained(problem, ocp_nn.Lasso(0.5), *more)
        result = ocp_nn.solve(wanted, options=ocp_nn.Options(tolerance=1e-9))
        assert result.success
        nlp = transcribe(wanted)
        assert nlp.stationarity(result.trajectory) < 1e-6
        warm = ocp_nn.solve_ipopt(nlp, result.trajectory, options=ocp_nn.IpoptOptions(tolerance=1e-10))
        assert warm.success and warm.objective == pytest.approx(result.objective, rel=1e-7)
        pairs = zip(warm.trajectory.constraint_multipliers, result.trajectory.constraint_multipliers, strict=True)
        for theirs, ours in pairs:
            np.testing.assert_allclose(theirs, ours, atol=1e-5)
        assert ocp_nn.confirm(wanted, result.trajectory).confirmed
        back = nlp.unpack({"x": nlp.pack(result.trajectory)["x0"], "lam_g": nlp.pack(result.trajectory)["lam_g0"],
                           "lam_x": nlp.pack(result.trajectory)["lam_x0"]})  # fmt: skip
        np.testing.assert_allclose(back.constraint_multipliers[0], result.trajectory.constraint_multipliers[0],
                                   atol=1e-12)  # fmt: skip


def test_the_lasso_of_a_linear_network_is_ipopts_from_anywhere():
    wanted = constrained(linear(), ocp_nn.Lasso(2.0, entries=np.arange(6)))
    ours = ocp_nn.solve(wanted, options=ocp_nn.Options(tolerance=1e-9))
    theirs = ocp_nn.solve_ipopt(ocp_nn.single_shooting(wanted), options=ocp_nn.IpoptOptions(tolerance=1e-10))
    assert theirs.objective == pytest.approx(ours.objective, rel=1e-8)
    flat, almost = (np.concatenate(r.trajectory.controls) for r in (ours, theirs))
    np.testing.assert_allclose(almost, flat, atol=1e-6)
    assert (flat[[2, 4, 5]] == 0.0).all() and (flat[:2] != 0.0).all()
    assert theirs.certificate.constraints[0].complementarity < 1e-6  # almost zero counts as zero


def test_programs_with_a_lasso_name_its_variables_and_rows():
    nlp = ocp_nn.multiple_shooting(constrained(sine(), ocp_nn.Lasso(0.1, entries=[3, 5])))
    assert nlp.variable_names[-2:] == ("t0[3]", "t0[5]")
    assert nlp.constraint_names[-4:] == ("s0[3, above]", "s0[5, above]", "s0[3, below]", "s0[5, below]")
    assert len(nlp.variable_names) == nlp.num_variables and len(nlp.constraint_names) == nlp.num_constraints
    assert "t0" in nlp.spy() and "size row" in nlp._repr_html_()


# --- the certificate


def test_the_certificate_of_a_solution_passes_and_shows_its_constraints(solved):
    certificate = solved.certificate
    assert certificate.passed()
    assert [check.name for check in certificate.constraints] == ["output range", "control bounds"]
    assert "constraint output range" in str(certificate)


def _with(trajectory, **changes):
    return replace(trajectory, **changes)


def test_the_certificate_fails_on_every_kind_of_fault(solved):
    problem, point = solved.problem, solved.trajectory
    prices, bounds = point.constraint_multipliers
    active = np.unravel_index(np.abs(prices).argmax(), prices.shape)
    wrong_sign = prices.copy()
    wrong_sign[active] *= -1
    idle = prices.copy()
    free = np.unravel_index(np.argmin(np.abs(problem.constraint_values(point)[0])), prices.shape)
    idle[free] = 0.5
    moved = (point.controls[0] + np.where(np.arange(8) == 0, 3.0, 0.0), *point.controls[1:])
    faults = {
        "control bounds is violated, worst in control 0": _with(
            problem.rollout(moved), constraint_multipliers=(prices, bounds)
        ),
        "output range has a price that is not due": _with(point, constraint_multipliers=(wrong_sign, bounds)),
        f"sample {free[1]}": _with(point, constraint_multipliers=(idle, bounds)),
        "not stationary in the controls": _with(point, constraint_multipliers=(0 * prices, bounds)),
    }
    for words, trajectory in faults.items():
        failures = "; ".join(ocp_nn.certify(problem, trajectory).failures())
        assert words in failures, (words, failures)


def test_violations_are_named_by_stage_unit_and_sample():
    problem = sine()
    wanted = constrained(problem, ready_made.output_range(problem, -0.1, 0.1))
    trajectory = problem.rollout(ocp_nn.solve(problem).trajectory.controls)
    (failure,) = [f for f in ocp_nn.certify(wanted, trajectory).failures() if "violated" in f]
    worst = int(np.argmax(np.abs(problem.network.predict(trajectory.controls, problem.x)[:, 0]) - 0.1))
    assert f"stage 2, unit 0, sample {worst}" in failure


def test_curvature_is_refused_where_constraints_may_hold_a_direction(solved):
    with pytest.raises(ValueError, match="curvature is that of problems without constraints"):
        ocp_nn.certify(solved.problem, solved.trajectory, curvature=True)


# --- how solves end


def test_constraints_without_a_feasible_point_are_named():
    problem = sine()
    wanted = constrained(problem, ready_made.output_range(problem, 2.0, 3.0), ocp_nn.ControlBounds(-0.1, 0.1))
    result = ocp_nn.solve(wanted)
    assert result.status is ocp_nn.Status.INFEASIBLE
    assert "cannot be met from here" in result.message
    assert "'control bounds'" in result.message or "'output range'" in result.message
    assert np.isfinite(result.objective)


def test_limits_and_callbacks_end_a_constrained_solve():
    problem = sine()
    wanted = constrained(problem, ocp_nn.ControlBounds(-0.5, 0.5))
    seen = []

    def stop(iterate):
        seen.append(iterate.record if hasattr(iterate, "record") else iterate.iteration)
        return True

    assert ocp_nn.solve(wanted, options=ocp_nn.Options(max_outer=1)).status is ocp_nn.Status.OUTER_LIMIT
    assert ocp_nn.solve(wanted, options=ocp_nn.Options(time_limit=1e-6)).status is ocp_nn.Status.TIME_LIMIT
    stopped = ocp_nn.solve(wanted, options=ocp_nn.Options(tolerance=1e-12), callback=stop)
    assert stopped.status in (ocp_nn.Status.INTERRUPTED, ocp_nn.Status.CONVERGED)
    assert len(seen) == 1


def test_ctrl_c_keeps_the_best_point(monkeypatch):
    from ocp_nn.solvers.augmented_lagrangian.constrained import loop

    problem = sine()

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "record_of", interrupted)
    result = ocp_nn.solve(constrained(problem, ocp_nn.ControlBounds(-0.5, 0.5)))
    assert result.status is ocp_nn.Status.INTERRUPTED
    assert all(np.abs(u).max() <= 0.5 for u in result.trajectory.controls)


def test_a_checkpoint_is_refused_before_anything_is_done(tmp_path):
    with pytest.raises(ValueError, match="a constrained problem has no checkpoints"):
        ocp_nn.solve(constrained(sine(), ocp_nn.ControlBounds(-1, 1)), checkpoint=tmp_path / "c.npz")


def test_a_saved_result_has_the_model_and_no_problem(solved, tmp_path):
    solved.save(tmp_path / "result.npz")
    loaded = ocp_nn.load(tmp_path / "result.npz")
    assert loaded.problem is None
    x = np.linspace(-2, 2, 5)[:, None]
    np.testing.assert_array_equal(loaded.predict(x), solved.predict(x))


def test_a_solution_is_gone_on_from_with_its_prices(solved):
    again = ocp_nn.solve(solved.problem, solved)
    assert again.success
    assert len(again.history) <= 2
    assert again.objective == pytest.approx(solved.objective, rel=1e-6)


@pytest.mark.parametrize(
    "options", [{"shooting": "single"}, {"shooting": [1]}, {"form": "dual"}, {"second_order": False, "tolerance": 1e-4}]
)
def test_every_way_of_solving_ends_at_a_solution(options):
    problem = sine(samples=20, hidden=(3, 3), decay=0.1)
    wanted = constrained(problem, ready_made.output_range(problem, -0.5, 0.5), ocp_nn.ControlBounds(-2, 2))
    result = ocp_nn.solve(wanted, options=ocp_nn.Options(**options))
    assert result.success, result
    assert result.certificate.passed()


def test_an_inactive_constraint_changes_nothing():
    problem = sine()
    free = ocp_nn.solve(problem)
    wanted = constrained(problem, ocp_nn.ControlBounds(-1e3, 1e3))
    result = ocp_nn.solve(wanted, free.trajectory)
    assert result.objective == pytest.approx(free.objective, rel=1e-9)
    assert not result.trajectory.constraint_multipliers[0].any()


# --- one sample, one layer, weights that are shared


def test_one_sample_and_one_layer():
    problem = ocp_nn.TrainingProblem(ocp_nn.Network.mlp([1, 1]), [[1.0]], [[2.0]], 0.1)
    result = ocp_nn.solve(constrained(problem, ready_made.output_range(problem, upper=0.5)))
    assert result.success
    assert result.predict([[1.0]])[0, 0] == pytest.approx(0.5, abs=1e-7)
    assert result.trajectory.constraint_multipliers[0][0, 0, 0] > 0


def test_shared_weights_are_bounded_once():
    rng = np.random.default_rng(4)
    network = ocp_nn.Network.mlp([1, 3, 3, 3, 1], tied=True)
    x = rng.uniform(-2, 2, (20, 1))
    problem = ocp_nn.TrainingProblem(network, x, np.sin(x), 0.05)
    result = ocp_nn.solve(constrained(problem, ocp_nn.ControlBounds(-0.8, 0.8)))
    assert result.success
    theirs = ocp_nn.solve_ipopt(ocp_nn.multiple_shooting(result.problem), result.trajectory)
    assert theirs.objective == pytest.approx(result.objective, rel=1e-6)


# --- bad input


def _layer():
    return ocp_nn.Dense(1, 1, "identity")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ocp_nn.ControlBounds(1.0, -1.0), "every lower bound must be <= its upper bound"),
        (lambda: ocp_nn.ControlBounds(np.nan, 1.0), "every lower bound must be <= its upper bound"),
        (lambda: ocp_nn.ControlBounds([0.0, 1.0], entries=[1, 2, 3]), "one for each of 3 controls"),
        (lambda: ocp_nn.ControlBounds(0, 1, entries=[1, 1]), "indices of controls"),
        (lambda: ocp_nn.Lasso(0.0), "weight must be"),
        (lambda: ocp_nn.GroupLasso(1.0, [[0, 1], [1, 2]]), "one group only"),
        (lambda: ocp_nn.GroupLasso(1.0, [[0]], factors=[-1.0]), "positive factor"),
        (lambda: ocp_nn.OutputConstraint(_layer(), [0.0, 1.0]), "one for each of 1 outputs"),
        (lambda: ocp_nn.OutputConstraint(_layer(), 1.0, 0.0), "every lower bound must be <= its upper bound"),
        (lambda: constrained(sine(), ocp_nn.ControlBounds(0, 1, entries=[1000])), "control 1000 of a problem with"),
        (lambda: constrained(sine(), ocp_nn.OutputConstraint(_layer(), 0.0, stages=9)), "stage 9 of a problem"),
        (lambda: constrained(sine(), ocp_nn.OutputConstraint(_layer(), 0.0, stages=2)), "expects 1 states"),
        (lambda: constrained(sine(), ocp_nn.OutputConstraint(_layer(), 0.0, stages=0, block=2)), "2 controls"),
        (lambda: constrained(sine()), "constraints must be"),
        (lambda: constrained(sine(), "positive"), "constraints must be"),
        (lambda: ready_made.monotone(sine().network, [2]), "expected -1, 0 or 1"),
        (lambda: ready_made.monotone(sine().network, {7: 1}), "inputs lie in 0..0"),
        (lambda: ready_made.convex_in_inputs(sine().network), "convex, non-decreasing activations"),
        (lambda: ready_made.lipschitz(sine().network, -1.0), "bound must be"),
        (lambda: ready_made.sparse_units(sine().network, 1.0, layer=2), "must be a hidden one"),
        (lambda: ready_made.nonnegative(sine().network, layers=[7]), "layers must lie in"),
    ],
)
def test_bad_constraints_are_one_clear_error(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_saddle_is_left_downwards(random_problems):
    """On this problem and seed the loop comes to a saddle, which first-order conditions do not tell from a minimum."""
    problem, _ = random_problems.random_problem(31)
    options = ocp_nn.Options(tolerance=1e-8, seed=31)
    saddle = ocp_nn.solve(problem, options=replace(options, second_order=False, max_restarts=0))
    assert saddle.success and saddle.certificate.passed(1e-6)
    below = curvature.way_down(problem, saddle.trajectory)
    assert problem.objective(below) < saddle.objective - 1e-4
    assert max(check.violation for check in ocp_nn.certify(problem, below).constraints) == 0.0
    result = ocp_nn.solve(problem, options=options)
    assert result.success and result.objective < saddle.objective - 5e-3
    assert curvature.way_down(problem, result.trajectory) is None


def test_a_minimum_has_no_way_down(solved):
    assert curvature.way_down(solved.problem, solved.trajectory) is None
