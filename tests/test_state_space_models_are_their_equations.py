"""A state-space model evaluates its equations, whatever form they came in; its Jacobians are their derivatives."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import casadi as ca
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import ocp_nn
from ocp_nn import StateSpaceModel

WIDTHS = {"num_states": 3, "num_inputs": 2, "num_outputs": 2}


def pendulum() -> tuple[ca.Function, ca.Function]:
    """A driven pendulum with damping and gain as parameters, and the output scaled by a third."""
    x, v, theta = ca.MX.sym("x", 2), ca.MX.sym("v"), ca.MX.sym("theta", 3)
    ode = ca.vertcat(x[1], -ca.sin(x[0]) - theta[0] * x[1] + theta[1] * v)
    return ca.Function("ode", [x, v, theta], [ode]), ca.Function("angle", [x, v, theta], [theta[2] * x[0]])


def van_der_pol() -> tuple[ca.Function, ca.Function]:
    """Without inputs."""
    x, theta = ca.SX.sym("x", 2), ca.SX.sym("theta", 1)
    ode = ca.vertcat(x[1], theta * (1 - x[0] ** 2) * x[1] - x[0])
    return ca.Function("ode", [x, theta], [ode]), ca.Function("y", [x, theta], [x[0]])


MODELS = {
    "linear and network": StateSpaceModel(**WIDTHS),
    "two hidden layers": StateSpaceModel(**WIDTHS, hidden_layer_sizes=(4, 3), activation="sigmoid"),
    "networks alone": StateSpaceModel(**WIDTHS, linear=False, output_layer_sizes=(5,)),
    "feedthrough": StateSpaceModel(**WIDTHS, feedthrough=True, output_layer_sizes=(4,)),
    "linear": StateSpaceModel(**WIDTHS, hidden_layer_sizes=()),
    "no inputs": StateSpaceModel(num_states=2, num_inputs=0, num_outputs=1, feedthrough=True),
    "differential equation": StateSpaceModel.from_ode(*pendulum(), sampling_time=0.1),
    "no inputs, differential equation": StateSpaceModel.from_ode(*van_der_pol(), sampling_time=0.1, steps=3),
}
EACH = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def a_point(model: StateSpaceModel, length: int = 7):
    rng = np.random.default_rng(3)
    theta = model.initial_parameters(1) + 0.1 * rng.standard_normal(model.num_parameters)
    return theta, rng.standard_normal((length, model.num_inputs)), rng.standard_normal(model.num_states)


def in_plain_numpy(model: StateSpaceModel, theta, v, x0):
    """The equations of the docstring, step by step."""
    phi = {"tanh": np.tanh, "sigmoid": lambda a: 1 / (1 + np.exp(-a))}[model.architecture.activation]
    parts = {name: np.array(matrix) for name, matrix in model.matrices(theta).items()}

    def affine(names, x, v):
        value = np.zeros(1)
        for name, factor in zip(names, (x, v, np.ones(1)), strict=True):
            value = value + (parts[name] @ factor if name in parts else 0)
        return value

    def network(prefix, z):
        layers = [name for name in parts if name.startswith(f"{prefix}W")]
        for i, name in enumerate(layers, start=1):
            z = parts[name] @ z + parts.get(f"{prefix}b{i}", np.zeros((1, 1)))[:, 0]
            z = phi(z) if i < len(layers) else z
        return z if layers else 0

    x, states, outputs = x0, [x0], []
    for row in v:
        seen = np.concatenate([x, row]) if model.architecture.feedthrough else x
        outputs.append(affine("CDd", x, row) + network("output_", seen))
        x = affine("ABb", x, row) + network("", np.concatenate([x, row]))
        states.append(x)
    return np.array(outputs), np.array(states)


@pytest.mark.parametrize("length", [1, 7, 16, 17, 300])
@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if model.architecture])
def test_simulations_are_those_of_a_plain_loop(name, length):
    model = MODELS[name]
    theta, v, x0 = a_point(model, length)
    theta = 0.7 * theta
    y, x = model.simulate(theta, v, x0)
    expected_y, expected_x = in_plain_numpy(model, theta, v, x0)
    np.testing.assert_allclose(x, expected_x, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(y, expected_y, rtol=1e-10, atol=1e-12)


@EACH
def test_simulations_are_made_of_values(model):
    theta, v, x0 = a_point(model, 40)
    y, x = model.simulate(theta, v, x0)
    x_next, outputs = model.values(theta, x[:-1], v)
    np.testing.assert_allclose(x_next, x[1:], rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(outputs, y, rtol=1e-13, atol=1e-13)


@EACH
def test_jacobians_are_those_of_differences(model):
    theta, v, _ = a_point(model)
    x = np.random.default_rng(5).standard_normal((len(v), model.num_states))
    a, b, c, d = model.jacobians(theta, x, v)

    def differences(of, at):
        columns = []
        for j in range(at.shape[-1]):
            step = np.zeros(at.shape[-1])
            step[j] = 1e-6
            columns.append((np.hstack(of(at + step)) - np.hstack(of(at - step))) / 2e-6)
        return np.stack(columns, axis=2)

    of_x = differences(lambda x: model.values(theta, x, v), x)
    of_theta = differences(lambda theta: model.values(theta, x, v), theta)
    np.testing.assert_allclose(np.concatenate([a, c], axis=1), of_x, atol=1e-8)
    np.testing.assert_allclose(np.concatenate([b, d], axis=1), of_theta, atol=1e-8)


@EACH
def test_stage_and_output_functions_are_the_same_two(model):
    theta, v, x0 = a_point(model)
    np.testing.assert_array_equal(model.stage_function(x0, theta, v[0]), model.dynamics(x0, v[0], theta))
    np.testing.assert_array_equal(model.output_function(x0, theta, v[0]), model.output(x0, v[0], theta))


def test_runge_kutta_is_the_differential_equation_to_fourth_order():
    ode, output = pendulum()
    theta, x0, v = np.array([0.3, 0.7, 1 / 3]), np.array([1.0, -0.5]), np.random.default_rng(0).standard_normal((20, 1))
    x = x0
    for row in v:
        solution = solve_ivp(lambda _, x, row=row: ode(x, row, theta).full()[:, 0], (0, 0.4), x, rtol=1e-11, atol=1e-12)
        x = solution.y[:, -1]
    errors = []
    for steps in (1, 2, 4):
        model = StateSpaceModel.from_ode(ode, output, sampling_time=0.4, steps=steps)
        errors.append(np.abs(model.simulate(theta, v, x0)[1][-1] - x).max())
    assert errors[0] < 1e-3
    assert errors[0] / errors[1] > 12 and errors[1] / errors[2] > 12


def test_an_interpolant_is_a_function_as_any_other():
    table = ca.interpolant("table", "bspline", [[-9, -1, 0, 1, 9]], [-2, -1, 0, 1, 2])
    x, v, theta = ca.MX.sym("x"), ca.MX.sym("v"), ca.MX.sym("theta", 2)
    f = ca.Function("f", [x, v, theta], [theta[0] * table(x) + theta[1] * v])
    model = StateSpaceModel(dynamics=f, output=ca.Function("g", [x, v, theta], [x]))
    theta, v = np.array([0.8, 1.1]), np.ones((5, 1))
    _, x = model.simulate(theta, v, [0.3])
    expected = [0.3]
    for _ in range(5):
        expected.append(float(f(expected[-1], 1, theta)))
    np.testing.assert_allclose(x[:, 0], expected, rtol=1e-14)
    assert model.predict(theta, v, np.ones((5, 1))).shape == (5, 1)


@EACH
def test_descriptions_and_pickles_bring_the_model_back(model):
    theta, v, x0 = a_point(model)
    for other in (StateSpaceModel.from_description(model.describe()), pickle.loads(pickle.dumps(model))):
        assert other.describe() == model.describe()
        np.testing.assert_array_equal(other.simulate(theta, v, x0)[0], model.simulate(theta, v, x0)[0])
    assert repr(model).startswith(f"StateSpaceModel(num_states={model.num_states}, ")


def test_models_that_differ_describe_themselves_differently():
    descriptions = [model.describe() for model in MODELS.values()]
    assert all(a != b for i, a in enumerate(descriptions) for b in descriptions[:i])


@EACH
def test_parts_cover_theta(model):
    theta, *_ = a_point(model)
    covered = np.concatenate([np.arange(model.num_parameters)[cut] for cut in model.parts.values()])
    np.testing.assert_array_equal(covered, np.arange(model.num_parameters))
    for name, matrix in model.matrices(theta).items():
        np.testing.assert_array_equal(matrix.ravel(order="F"), theta[model.parts[name]])


def test_initial_parameters_are_seeded_and_scaled():
    model = StateSpaceModel(num_states=50, num_inputs=50, num_outputs=50, hidden_layer_sizes=(40,))
    theta = model.initial_parameters(2)
    np.testing.assert_array_equal(theta, model.initial_parameters(2))
    assert not np.array_equal(theta, model.initial_parameters(3))
    parts = model.matrices(theta)
    assert not any(parts[name].any() for name in ("b", "b1", "d"))
    for name, columns in {"A": 50, "B": 50, "C": 50, "W1": 100, "W2": 40}.items():
        assert abs(parts[name].std() * np.sqrt(columns) - 1) < 0.1


def test_functions_start_from_their_guess():
    model = StateSpaceModel.from_ode(*pendulum(), sampling_time=0.1, guess=[1.0, 2.0, 3.0])
    np.testing.assert_array_equal(model.initial_parameters(7), [1, 2, 3])
    assert StateSpaceModel.from_description(model.describe()).initial_parameters().tolist() == [1, 2, 3]


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if model.architecture])
def test_parameters_move_into_other_units(name):
    """The same states, from inputs and to outputs in their own units."""
    model = MODELS[name]
    theta, v, x0 = a_point(model, 10)
    rng = np.random.default_rng(4)
    inputs = ocp_nn.Scaler(rng.standard_normal(model.num_inputs), 0.5 + rng.random(model.num_inputs))
    outputs = ocp_nn.Scaler(rng.standard_normal(model.num_outputs), 0.5 + rng.random(model.num_outputs))
    y, x = model.simulate(theta, v, x0)
    in_units, x_in_units = model.simulate(model.in_units(theta, inputs, outputs), inputs.inverse(v), x0)
    np.testing.assert_allclose(x_in_units, x, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(in_units, outputs.inverse(y), rtol=1e-9, atol=1e-10)


def test_overflow_is_infinite_from_its_step_on():
    model = StateSpaceModel(num_states=1, num_inputs=0, num_outputs=1, hidden_layer_sizes=())
    theta = model.initial_parameters()
    theta[model.parts["A"]], theta[model.parts["C"]] = 1e3, -1.0
    y, x = model.simulate(theta, np.empty((400, 0)), [1.0])
    assert x[102, 0] == pytest.approx(1e306) and np.isfinite(y[:103]).all()
    assert np.isposinf(x[103:]).all() and np.isposinf(y[103:]).all()


def test_threads_get_what_one_alone_gets():
    model = StateSpaceModel(**WIDTHS)
    theta, v, _ = a_point(model, 500)
    theta, starts = 0.7 * theta, np.random.default_rng(0).standard_normal((40, 3))
    expected = [model.simulate(theta, v, x0)[1] for x0 in starts]
    with ThreadPoolExecutor(4) as pool:
        for x, alone in zip(pool.map(lambda x0: model.simulate(theta, v, x0)[1], starts), expected, strict=True):
            np.testing.assert_array_equal(x, alone)


def test_it_is_public():
    assert "StateSpaceModel" in ocp_nn.__all__
