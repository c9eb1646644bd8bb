"""Models of matrices and networks are evaluated in NumPy at many points; CasADi's functions are the oracle."""

from itertools import product

import numpy as np
import pytest

from ocp_nn import StateSpaceModel
from ocp_nn.network.activations import ACTIVATIONS
from ocp_nn.network.network_system import NetworkSystem
from ocp_nn.network.system import System

FORMS = [
    {"linear": linear, "feedthrough": feedthrough, "hidden_layer_sizes": hidden, "output_layer_sizes": outputs}
    for linear, feedthrough, hidden, outputs in product((True, False), (True, False), ((), (5,), (4, 3)), ((), (3,)))
]


def points(model, count, seed=0):
    rng = np.random.default_rng(seed)
    theta = rng.standard_normal(model.num_parameters)
    return rng.standard_normal((count, model.num_states)), rng.standard_normal((count, model.num_inputs)), theta


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@pytest.mark.parametrize("num_inputs", [0, 2])
def test_values_and_jacobians_are_those_of_casadi_for_every_form(activation, num_inputs):
    for form in FORMS:
        model = StateSpaceModel(num_states=3, num_inputs=num_inputs, num_outputs=2, activation=activation, **form)
        system = NetworkSystem(model.architecture)
        x, v, theta = points(model, 100)
        here = (*system.values(x, v, theta), *system.jacobians(x, v, theta))
        there = (*System.values(system, x, v, theta), *System.jacobians(system, x, v, theta))
        for ours, oracle in zip(here, there, strict=True):
            assert ours.shape == oracle.shape
            np.testing.assert_allclose(ours, oracle, rtol=1e-11, atol=1e-12, err_msg=str(form))


def test_few_points_are_left_to_casadi_and_differ_by_rounding():
    model = StateSpaceModel(num_states=2, num_inputs=1, num_outputs=1)
    x, v, theta = points(model, 200)
    many = model.jacobians(theta, x, v)
    few = [model.jacobians(theta, x[i : i + 1], v[i : i + 1]) for i in range(len(x))]
    for all_at_once, singly in zip(many, zip(*few, strict=True), strict=True):
        np.testing.assert_allclose(all_at_once, np.concatenate(singly), rtol=1e-12, atol=1e-13)


def test_what_overflows_is_infinite_or_nan_in_both():
    model = StateSpaceModel(num_states=2, num_inputs=1, num_outputs=1, activation="relu")
    x, v, theta = points(model, 100)
    x[7] = np.inf
    with np.errstate(invalid="ignore", over="ignore"):
        x_next, y = model.values(theta, x, v)
    assert not np.isfinite(x_next[7]).any() and not np.isfinite(y[7]).any()
    assert np.isfinite(np.delete(x_next, 7, axis=0)).all()


def test_hessians_of_a_step_are_differences_of_its_jacobians():
    model = StateSpaceModel(num_states=2, num_inputs=1, num_outputs=2, hidden_layer_sizes=(3,), output_layer_sizes=(2,))
    x, v, theta = points(model, 3)
    rng = np.random.default_rng(1)
    costates, slopes = rng.standard_normal((3, 2)), rng.standard_normal((3, 2))
    hessians = model.curvatures(theta, x, v, costates, slopes)

    def gradient(z, i):
        a, b, c, d = model.jacobians(z[2:], z[None, :2], v[i : i + 1])
        of_f, of_g = np.concatenate([a, b], axis=2)[0], np.concatenate([c, d], axis=2)[0]
        return costates[i] @ of_f + slopes[i] @ of_g

    for i in range(3):
        z = np.concatenate([x[i], theta])
        differences = [(gradient(z + 1e-6 * e, i) - gradient(z - 1e-6 * e, i)) / 2e-6 for e in np.eye(len(z))]
        np.testing.assert_allclose(hessians[i], differences, atol=1e-7)
