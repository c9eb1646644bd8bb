"""An observer that gets one sample at a time is the filter that has them all, and a textbook's where all is linear."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import solve_discrete_are
from systems import mildly_nonlinear

from ocp_nn import StateSpaceModel
from ocp_nn.network.online_observer import Observer

V, Y = mildly_nonlinear(80)


@pytest.mark.parametrize("feedthrough", [False, True])
def test_one_by_one_is_all_at_once(feedthrough):
    model = StateSpaceModel(
        num_states=2, num_inputs=1, num_outputs=2, hidden_layer_sizes=(4,), feedthrough=feedthrough, activation="tanh"
    )
    theta = 0.4 * model.initial_parameters(1)
    y = np.hstack([Y, 0.5 * Y])
    y[[3, 9], 0] = np.nan
    y[20] = np.nan
    settings = {
        "process_noise": [0.1, 0.3],
        "measurement_noise": [0.5, 1.0],
        "initial_deviation": 2.0,
        "x0": [1.0, -1.0],
    }
    observer, states = Observer(model, theta, **settings), []
    for v, row in zip(V, y, strict=True):
        states.append(observer.update(row, v))
        observer.predict(v)
    np.testing.assert_allclose(states, model.filter(theta, V, y, **settings), rtol=1e-10, atol=1e-12)


def test_the_gain_of_a_linear_system_is_that_of_the_riccati_equation():
    model = StateSpaceModel(num_states=2, num_inputs=1, num_outputs=1, hidden_layer_sizes=())
    theta = np.zeros(model.num_parameters)
    parts = model.architecture.split(theta)
    parts["A"][:], parts["B"][:], parts["C"][:] = [[0.9, 0.2], [-0.1, 0.8]], [[0.5], [1.0]], [[1.0, 0.0]]
    observer = Observer(model, theta, process_noise=[0.2, 0.1], measurement_noise=0.7)
    for v, y in zip(V, Y, strict=True):
        observer.update(y)
        observer.predict(v)
    noise, a, c = np.diag([0.04, 0.01]), parts["A"], parts["C"]
    expected = solve_discrete_are(a.T, c.T, noise, np.array([[0.49]]))
    np.testing.assert_allclose(observer.covariance, expected, rtol=1e-6)


def test_it_finds_a_state_that_it_did_not_know():
    model = StateSpaceModel(num_states=2, num_inputs=1, num_outputs=1, hidden_layer_sizes=(4,))
    theta = 0.5 * model.initial_parameters(2)
    y, x = model.simulate(theta, V, [2.0, -1.0])
    observer, errors = Observer(model, theta, process_noise=1e-3, measurement_noise=1e-2), []
    for t, v in enumerate(V):
        errors.append(np.linalg.norm(observer.update(y[t]) - x[t]))
        observer.predict(v)
    assert errors[0] > 0.4 and errors[-1] < 1e-3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda o: o.update([1.0, 2.0]), "y must be a vector of 1 numbers, received 2"),
        (lambda o: o.predict([]), "v must be a vector of 1 numbers, received 0"),
        (lambda o: o.predict([np.nan]), "v"),
        (lambda o: Observer(o.model, [1.0]), "theta"),
        (lambda o: Observer("m", [1.0]), "StateSpaceModel"),
        (lambda o: Observer(o.model, o.model.initial_parameters(), x0=[1.0]), "x0"),
        (lambda o: Observer(o.model, o.model.initial_parameters(), measurement_noise=0.0), "measurement_noise"),
    ],
)
def test_mistakes_are_one_sentence(call, message):
    model = StateSpaceModel(num_states=2, num_inputs=1, num_outputs=1, hidden_layer_sizes=(2,))
    observer = Observer(model, model.initial_parameters())
    with pytest.raises(ValueError, match=message):
        call(observer)
