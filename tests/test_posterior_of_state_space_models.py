"""Parameters, initial states and bands over time: against dense inverses by differences, and in the estimator."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn")

import ocp_nn
from ocp_nn.learning.state_space.posterior import StateSpacePosterior

RNG = np.random.default_rng(0)


def record(length, outputs=1, noise=0.05):
    v = RNG.standard_normal((length, 1))
    x = np.zeros((length, 2))
    x[0] = 0.5, -0.3
    for t in range(length - 1):
        x[t + 1] = np.tanh(np.array([[0.7, 0.3], [-0.3, 0.7]]) @ x[t] + np.array([0.5, 0.1]) * v[t])
    y = x[:, :outputs] + noise * RNG.standard_normal((length, outputs))
    return v, y


def solved(records, *, outputs=1, tolerance=1e-9, **more):
    model = ocp_nn.StateSpaceModel(num_states=2, num_inputs=1, num_outputs=outputs, hidden_layer_sizes=(3,))
    problem = ocp_nn.IdentificationProblem(model, records, 0.05, **more)
    return problem, ocp_nn.solve(problem, options=ocp_nn.Options(tolerance=tolerance))


def dense(problem, theta, initial):
    """All outputs that count, scaled by the roots of their weights, as a function of theta and free initial states."""
    size, free = len(theta), np.isfinite(problem.initial_weight)

    def outputs(z):
        starts = z[size:].reshape(initial.shape) if free else initial
        states = problem.simulated(z[:size], starts)
        scaled = np.sqrt(problem.weights) * problem.values(z[:size], states)[1]
        return scaled[problem.weights > 0]

    z = np.concatenate([theta, initial.ravel()]) if free else theta
    steps = 1e-6 * np.eye(len(z))
    return np.column_stack([(outputs(z + step) - outputs(z - step)) / 2e-6 for step in steps])


def with_gaps(pair):
    v, y = pair
    return v, np.where(np.arange(len(y))[:, None] % 4 == 1, np.nan, y)


CASES = {
    "one record": ([record(40)], 1, {}),
    "two of several lengths with gaps": ([record(30), with_gaps(record(21))], 1, {}),
    "known initial states": ([record(25), record(25)], 1, {"initial_weight": np.inf, "initial_state": [0.5, -0.3]}),
    "weights of two outputs": ([record(40, 2)], 2, {"output_weight": [1.0, 4.0], "initial_weight": 0.1}),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_dense_inverse(name):
    records, outputs, more = CASES[name]
    problem, result = solved(records, outputs=outputs, **more)
    theta, initial = result.trajectory.controls[0], np.asarray(result.trajectory.states[0])
    posterior = StateSpacePosterior.of(problem, result.trajectory)
    j = dense(problem, theta, initial)
    prior = np.full(j.shape[1], problem.initial_weight)
    prior[: len(theta)] = problem.weight_decay
    hessian = j.T @ j + np.diag(prior)
    inverse = np.linalg.inv(hessian)
    gamma, count = j.shape[1] - prior @ np.diag(inverse), int((problem.weights > 0).sum())
    assert posterior.effective_parameters == pytest.approx(gamma, rel=1e-6)
    squares = 2 * (result.rollout_objective - problem.decay_cost((theta,)) - problem.initial_cost(initial))
    assert posterior.noise_variance == pytest.approx(squares / (count - gamma), rel=1e-6)
    covariance = posterior.noise_variance * inverse[: len(theta), : len(theta)]
    np.testing.assert_allclose(posterior.parameter_covariance(), covariance, rtol=1e-4, atol=1e-6 * covariance.max())
    s = 2 * result.rollout_objective / count
    determinant = np.linalg.slogdet(hessian)[1] - np.log(prior).sum()
    weighing = 0.5 * np.log(problem.weights[problem.weights > 0]).sum()
    evidence = weighing - 0.5 * count * (np.log(2 * np.pi * s) + 1) - 0.5 * determinant
    assert posterior.log_evidence() == pytest.approx(evidence, rel=1e-6)


def test_deviations_of_smoothed_states_are_those_of_the_whole_inverse():
    problem, result = solved([record(30), record(20)])
    theta, initial = result.trajectory.controls[0], np.asarray(result.trajectory.states[0])
    posterior = StateSpacePosterior.of(problem, result.trajectory)
    j = dense(problem, theta, initial)
    prior = np.concatenate([np.full(len(theta), problem.weight_decay), np.full(4, problem.initial_weight)])
    covariance = posterior.noise_variance * np.linalg.inv(j.T @ j + np.diag(prior))
    z, size = np.concatenate([theta, initial.ravel()]), len(theta)

    def states(z):
        return problem.simulated(z[:size], z[size:].reshape(2, 2)).ravel()

    slopes = np.column_stack([(states(z + step) - states(z - step)) / 2e-6 for step in 1e-6 * np.eye(len(z))])
    expected = np.sqrt(np.sum((slopes @ covariance) * slopes, axis=1)).reshape(30, 2, 2)
    first, second = posterior.state_deviations()
    np.testing.assert_allclose(first, expected[:, 0], rtol=1e-4)
    np.testing.assert_allclose(second, expected[:20, 1], rtol=1e-4)


def test_where_there_is_none_it_says_so():
    problem, result = solved([record(30)])
    (theta,) = result.trajectory.controls
    with pytest.raises(ValueError, match="needs a minimum"):
        StateSpacePosterior.of(problem, problem.rollout((0.0 * theta,)))
    bare = ocp_nn.IdentificationProblem(problem.model, problem.records.pairs, 0.0)
    with pytest.raises(ValueError, match="needs a prior"):
        StateSpacePosterior.of(bare, result.trajectory)
    with pytest.raises(ValueError, match="trajectory"):
        StateSpacePosterior.of(problem, theta)
    silent = ocp_nn.IdentificationProblem(problem.model, [(np.zeros((9, 1)), np.zeros((9, 1)))], 0.05)
    with pytest.raises(ValueError, match="needs noise to be seen"):
        StateSpacePosterior.of(silent, silent.rollout((0.0 * theta,)))


def test_sensitivities_that_overflow_are_named():
    problem, result = solved([record(30)])
    posterior, unstable = StateSpacePosterior.of(problem, result.trajectory), result.trajectory.controls[0].copy()
    unstable[problem.model.parts["A"]] = 40 * np.eye(2).ravel()
    model = StateSpacePosterior(**{**vars(posterior), "theta": unstable})
    with pytest.raises(ValueError, match="overflow within 400 steps"):
        model.band(np.zeros((400, 1)), np.zeros(2), None)


@pytest.fixture(scope="module")
def fitted():
    v, y = record(400, noise=0.05)
    model = ocp_nn.StateSpaceRegressor(2, (4,), weight_decay=0.1, num_starts=1, warm_up=20, random_state=0)
    return model.fit(v[:250], 3 + 20 * y[:250, 0]), v[250:], 3 + 20 * y[250:, 0]


def test_the_estimator_speaks_of_noise_and_bands(fitted):
    model, v, y = fitted
    assert model.noise_std_ == pytest.approx(1.0, rel=0.2)
    assert 3 < model.effective_num_parameters_ < 40
    run, std = model.predict(v, y[:20], return_std=True)
    np.testing.assert_array_equal(run, model.predict(v, y[:20]))
    assert run.shape == std.shape == (150,) and (std > 0).all()
    low, high = model.prediction_interval(v, y[:20])
    assert 0.82 < np.mean((low <= y) & (y <= high)) < 0.97
    narrow, _ = model.prediction_interval(v, y[:20], coverage=0.5)
    assert (narrow > low).all()
    assert [of.shape for of in model.states_std_] == [(250, 2)]
    # without measurements the initial state is told by nothing but the others
    assert model.predict(v, return_std=True)[1][0] > 2 * std[0]
    lists = model.prediction_interval([v, v[:30]], [y[:20], y[:5]])
    np.testing.assert_array_equal(lists[0][0], low)
    assert [len(part) for part in lists[1]] == [150, 30]


def test_bands_are_how_refits_scatter():
    """The posterior's deviation of a run against the scatter of models fitted to other draws of the noise."""
    v, _ = record(200)
    x = np.zeros(200)
    for t in range(199):
        x[t + 1] = np.tanh(0.8 * x[t] + 0.5 * v[t, 0])
    runs, deviations = [], []
    for seed in range(12):
        y = x + 0.1 * np.random.default_rng(seed).standard_normal(200)
        model = ocp_nn.StateSpaceRegressor(1, (), weight_decay=1e-2, num_starts=1, random_state=0).fit(v, y)
        run, std = model.predict(v, y[:50], return_std=True)
        runs.append(run), deviations.append(std)
    ratio = np.std(runs, axis=0).mean() / np.mean(deviations)
    assert 0.6 < ratio < 1.6


def test_units_pickles_and_mistakes(fitted):
    model, v, y = fitted
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(
        again.predict(v, y[:20], return_std=True)[1], model.predict(v, y[:20], return_std=True)[1]
    )
    mistakes = [
        lambda: model.prediction_interval(v, y[:20], coverage=1.0),
        lambda: model.predict(v, return_std="yes"),
        lambda: model.predict(v[:5], y[:9], return_std=True),
    ]
    for mistake in mistakes:
        with pytest.raises(ValueError, match="must"):
            mistake()
    scaled = ocp_nn.StateSpaceRegressor(1, (), weight_decay=0.1, num_starts=1, random_state=0)
    plain = scaled.fit(v, y).log_marginal_likelihood_
    assert scaled.fit(v, 10 * y).log_marginal_likelihood_ == pytest.approx(plain - 150 * np.log(10), rel=1e-6)
    with pytest.warns(match="limit"):
        short = ocp_nn.StateSpaceRegressor(2, (4,), weight_decay=0.1, num_starts=1, max_iter=1, tol=1e-14).fit(v, y)
    with pytest.raises(ValueError, match="raise max_iter"):
        _ = short.noise_std_
