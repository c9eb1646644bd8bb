"""Whatever does not fit a state-space model or its records is refused in one sentence that names it."""

from __future__ import annotations

import re

import casadi as ca
import numpy as np
import pytest

from ocp_nn import Scaler, StateSpaceModel
from ocp_nn.network.records import Records

MODEL = StateSpaceModel(num_states=2, num_inputs=1, num_outputs=2)
THETA, V, Y = MODEL.initial_parameters(), np.ones((5, 1)), np.ones((5, 2))
UNITS = Scaler(np.zeros(1), np.ones(1))
BAD_V = np.array([[1.0], [np.nan]])


def function(x: int, v: int | None, theta: int, y: int, columns: int = 1) -> ca.Function:
    arguments = [ca.SX.sym("x", x), *([] if v is None else [ca.SX.sym("v", v)]), ca.SX.sym("theta", theta)]
    return ca.Function("h", arguments, [ca.SX.ones(y, columns) * theta])


def of_functions(f: object, g: object, **options: object) -> StateSpaceModel:
    return StateSpaceModel(dynamics=f, output=g, **options)


F, G = function(2, 1, 3, 2), function(2, 1, 3, 1)

MODELS = {
    "num_outputs missing": lambda: StateSpaceModel(num_states=2, num_inputs=1),
    "num_states must be an integer >= 1": lambda: StateSpaceModel(num_states=0, num_inputs=1, num_outputs=1),
    "num_inputs must be an integer >= 0": lambda: StateSpaceModel(num_states=1, num_inputs=-1, num_outputs=1),
    "hidden_layer_sizes must be a sequence of widths": lambda: StateSpaceModel(
        num_states=1, num_inputs=0, num_outputs=1, hidden_layer_sizes=8
    ),
    "activation must be one of": lambda: StateSpaceModel(num_states=1, num_inputs=0, num_outputs=1, activation="sin"),
    "linear must be True or False": lambda: StateSpaceModel(num_states=1, num_inputs=0, num_outputs=1, linear=1),
    "guess is for models of functions": lambda: StateSpaceModel(num_states=1, num_inputs=0, num_outputs=1, guess=[1]),
    "needs both, output missing": lambda: of_functions(F, None),
    "activation is for models of networks": lambda: of_functions(F, G, activation="relu"),
    "num_states is for models of networks": lambda: of_functions(F, G, num_states=2),
    "dynamics must be a casadi.Function of (x, v, theta), received a function": lambda: of_functions(lambda x: x, G),
    "output must map columns (x, v, theta)": lambda: of_functions(F, function(2, 1, 3, 2, columns=2)),
    "dynamics must map columns (x, v, theta)": lambda: of_functions(ca.Function("f", [ca.SX.sym("x")], [1]), G),
    "received functions of 3 and 2 states": lambda: of_functions(function(3, 1, 3, 3), G),
    "received functions of 2 and 1 inputs": lambda: of_functions(function(2, 2, 3, 2), G),
    "received functions of 0 and 1 inputs": lambda: of_functions(function(2, None, 3, 2), G),
    "received functions of 2 and 3 parameters": lambda: of_functions(function(2, 1, 2, 2), G),
    "dynamics must return the next state": lambda: of_functions(function(2, 1, 3, 1), G),
    "guess must be a vector of the model's 3 parameters": lambda: of_functions(F, G, guess=[1.0]),
    "ode must return the derivative of x": lambda: StateSpaceModel.from_ode(G, G, sampling_time=1),
    "sampling_time must be a finite number > 0": lambda: StateSpaceModel.from_ode(F, G, sampling_time=0),
    "steps must be an integer >= 1": lambda: StateSpaceModel.from_ode(F, G, sampling_time=1, steps=0),
    "kind of a state-space model must be": lambda: StateSpaceModel.from_description({"kind": "other"}),
}

CALLS = {
    "theta must be a vector of the model's": lambda: MODEL.simulate(THETA[1:], V, [0, 0]),
    "theta must be finite": lambda: MODEL.simulate(THETA * np.nan, V, [0, 0]),
    "v must have shape (N, 1)": lambda: MODEL.simulate(THETA, np.ones((5, 2)), [0, 0]),
    "v must be finite, received nan in row 1, column 0": lambda: MODEL.simulate(THETA, BAD_V, [0, 0]),
    "v must have one row a sample and at least one": lambda: MODEL.simulate(THETA, V[:0], [0, 0]),
    "x0 must be a vector of the model's 2 states, received shape (3,)": lambda: MODEL.simulate(THETA, V, [0, 0, 0]),
    "x0 must be finite": lambda: MODEL.simulate(THETA, V, [0, np.inf]),
    "y must have shape (N, 2)": lambda: MODEL.predict(THETA, V, V),
    "y must be finite, received inf": lambda: MODEL.predict(THETA, V, Y * np.inf),
    "as long as each other, received 5 and 4": lambda: MODEL.predict(THETA, V, Y[1:]),
    "steps must be an integer >= 1, received 0": lambda: MODEL.predict(THETA, V, Y, steps=0),
    "process_noise must be >= 0": lambda: MODEL.predict(THETA, V, Y, process_noise=-1.0),
    "measurement_noise must be > 0": lambda: MODEL.predict(THETA, V, Y, measurement_noise=[1.0, 0.0]),
    "initial_deviation must be a number or a vector of 2": lambda: MODEL.predict(
        THETA, V, Y, initial_deviation=np.ones(3)
    ),
    "window must be an integer from 1 to 5, received 6": lambda: MODEL.estimate_initial_state(THETA, V, Y, window=6),
    "the first 2 rows of y must hold a measurement": lambda: MODEL.estimate_initial_state(
        THETA, V, np.vstack([Y[:2] * np.nan, Y[2:]]), window=2
    ),
    "guess must be a vector of the model's 2 states": lambda: MODEL.estimate_initial_state(
        THETA, V, Y, window=2, guess=[0]
    ),
    "scalers must have 1 and 2 columns, received 1 and 1": lambda: MODEL.in_units(THETA, UNITS, UNITS),
    "in_units is for models of networks": lambda: of_functions(F, G).in_units(np.ones(3), UNITS, UNITS),
    "seed must be an integer >= 0": lambda: MODEL.initial_parameters(-1),
}

RECORDS = {
    "experiments must be a list of pairs (v, y), one a record, received []": [],
    "one a record, received array": (V, Y),
    "received (<class 'int'>,) as record 1": [(V, Y), (int,)],
    "v and y of record 0 must be as long as each other, received 5 and 4": [(V, Y[1:])],
    "v of record 1 must have shape (N, 1)": [(V, Y), (np.ones((5, 2)), Y)],
    "y of record 1 must have shape (N, 2)": [(V, Y), (V, V)],
    "v of record 0 must be finite, received nan": [(BAD_V, Y[:2])],
    "y of record 0 must be finite, received inf": [(V, Y * np.inf)],
    "y of record 0 must have one row a sample and at least one": [(V[:0], Y[:0])],
    "record 1 must have two samples or more": [(V, Y), (V[:1], Y[:1])],
    "y of record 0 must hold a measurement": [(V, Y * np.nan)],
    "y of record 0 must hold real numbers": [(V, Y * 1j)],
}


@pytest.mark.parametrize("words", [*MODELS, *CALLS])
def test_models_and_calls(words):
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        {**MODELS, **CALLS}[words]()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("words", RECORDS)
def test_records(words):
    with pytest.raises(ValueError, match=re.escape(words)):
        Records.checked(RECORDS[words])


def test_records_have_the_widths_of_their_model():
    with pytest.raises(ValueError, match=re.escape("y of record 0 must have shape (N, 1)")):
        Records.checked([(V, Y)], num_inputs=1, num_outputs=1)
    with pytest.raises(ValueError, match="v of record 0 must have shape"):
        Records.checked([(None, Y)], num_inputs=1, num_outputs=2)


def test_an_output_that_was_never_measured_has_no_unit():
    records = Records.checked([(V, np.column_stack([Y[:, 0], np.full(5, np.nan)]))])
    with pytest.raises(ValueError, match="output 1 must be measured at least once"):
        records.scalers()
