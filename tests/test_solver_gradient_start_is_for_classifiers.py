"""Classifiers whose signals arrive and whose factorisations are dear begin with L-BFGS; elsewhere nothing changes."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest

from ocp_nn import Network, Options, Status, TrainingProblem, solve
from ocp_nn.solvers.augmented_lagrangian.gradient_start import descended, is_worthwhile
from ocp_nn.solvers.augmented_lagrangian.initialise import initialise
from ocp_nn.solvers.augmented_lagrangian.rollouts import rollout_objective
from ocp_nn.solvers.augmented_lagrangian.sample_start import begin

RNG = np.random.default_rng(0)
X = RNG.standard_normal((400, 3))
LABELS = (X[:, :1] * X[:, 1:2] + 0.3 * RNG.standard_normal((400, 1)) > 0).astype(float)


def problem(loss="logistic", sizes=(3, 25, 1), activation="tanh", y=LABELS):
    return TrainingProblem(Network.mlp(list(sizes), activation), X, y, 0.1, loss=loss)


def test_it_goes_down_and_its_gradient_is_that_of_the_objective():
    some = problem()
    controls = initialise(some)
    seen = []
    found = descended(some, controls, observe=lambda u: seen.append(rollout_objective(some, u)))
    assert rollout_objective(some, found) < 0.7 * rollout_objective(some, controls)
    assert len(seen) > 5 and seen[-1] == pytest.approx(rollout_objective(some, found), rel=1e-9)
    assert all(after <= before * (1 + 1e-12) for before, after in pairwise(seen))


@pytest.mark.parametrize("loss", ["logistic", "softmax"])
def test_the_solve_then_converges_as_from_anywhere(loss):
    some = problem() if loss == "logistic" else problem(loss, (3, 25, 2), y=np.hstack([LABELS, 1 - LABELS]))
    result = solve(some)
    assert result.status is Status.CONVERGED and result.certificate.passed()
    plain = solve(some, options=Options(gradient_start=False))
    assert result.objective <= 1.1 * plain.objective


def test_squares_deep_sigmoids_and_given_points_begin_as_ever():
    for other in (problem("squared"), problem("poisson"), problem("huber"), problem(sizes=(3, 2, 1))):
        assert not is_worthwhile(other, initialise(other), Options())
    deep = problem(sizes=(3, *[5] * 10, 1), activation="sigmoid")
    assert not is_worthwhile(deep, deep.init_controls(), Options())
    some = problem()
    controls = initialise(some)
    assert is_worthwhile(some, controls, Options())
    assert not is_worthwhile(some, controls, Options(gradient_start=False))
    for state in (begin(some, controls), begin(some, None, Options(gradient_start=False))):
        for mine, given in zip(state.point.controls, controls, strict=True):
            np.testing.assert_array_equal(mine, given)


def test_it_ends_at_the_deadline():
    some = problem()
    seen = []
    descended(some, initialise(some), deadline=time.perf_counter(), observe=seen.append)
    assert len(seen) <= 2  # the point itself, and one iteration


def test_where_nothing_is_lower_the_controls_come_back():
    some = problem()
    best = solve(some, options=Options(tolerance=1e-9)).trajectory.controls
    again = descended(some, best)
    assert rollout_objective(some, again) <= rollout_objective(some, best)
