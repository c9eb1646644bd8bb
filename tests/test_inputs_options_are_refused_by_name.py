"""Every option of every entry point, given a value that it cannot have, is one ValueError that names the option."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache

import casadi as ca
import numpy as np
import pytest
from subproblems import DENSE, subproblem

import ocp_nn
from ocp_nn import Dense, IpoptOptions, Network, Options, TrainingProblem, forward_dp
from ocp_nn.analysis.compare import compare
from ocp_nn.analysis.conditioning import Grid, Settings, linearise_at, measure, run_sweep
from ocp_nn.analysis.conditioning.advice import advise
from ocp_nn.base import checks
from ocp_nn.export import write_c, write_casadi
from ocp_nn.learning.data import random_split, standard_splits
from ocp_nn.learning.experiment import Experiment
from ocp_nn.learning.selection import choose_weight_decay
from ocp_nn.solvers.augmented_lagrangian import options
from ocp_nn.solvers.augmented_lagrangian.initialise import initialise
from ocp_nn.solvers.nlp import ipopt as ipopt_module

NAN, INF = float("nan"), float("inf")
X = np.linspace(-1, 1, 8)[:, None]
NETWORK = Network.mlp([1, 2, 2, 1])
PROBLEM = TrainingProblem(NETWORK, X, X**2, 0.1)
START = PROBLEM.lift(NETWORK.init_controls())

# What is of no kind below, whatever the bounds.
NOTHING = [None, [None], object(), {}, {"a": 1}, lambda: 1]
NO_NUMBER = [*NOTHING, "1", "", b"1", True, np.True_, NAN, np.float64("nan"), 1j, [1.0], (), np.ones(3), ca.DM(1)]
HUGE = 10**400

BAD = {
    "positive": [*NO_NUMBER, 0, 0.0, -1, INF, HUGE, np.float32("inf")],
    "positive or infinite": [*NO_NUMBER, 0, -1e-300, -INF, HUGE],
    "non-negative": [*NO_NUMBER, -1, -1e-300, INF, HUGE],
    # one number, or one for each of three control blocks
    "decays": [
        *(value for value in NO_NUMBER if not isinstance(value, np.ndarray)),
        -1,
        INF,
        HUGE,
        [1.0, 1.0, -1.0],
        np.ones(2),
    ],
    "non-negative or infinite": [*NO_NUMBER, -1, -1e-300, -INF, HUGE],
    "above one": [*NO_NUMBER, 1, 1.0, 0, INF],
    "signs": [object(), 1, 0.5, True, NAN, "rising", b"1"],
    "range": [object(), 1, True, "ab", (1.0, -1.0), (0.0,), (0.0, 1.0, 2.0), (NAN, 1.0), (0.0, "b")],
    "share": [*NO_NUMBER, 0, 1, 1.5, INF],
    "integer >= 0": [*NO_NUMBER, -1, 0.0, 1.5, INF, np.float64(1)],
    "integer >= 1": [*NO_NUMBER, 0, -1, 1.0, 1.5, INF],
    "integer >= 2": [*NO_NUMBER, 1, 0, 2.0, INF],
    "word": [*NOTHING, 0, True, NAN, "", "nonsense", b"auto", ["auto"]],
    "boolean": [*NOTHING, 0, 1, 1.0, "yes", "", NAN, np.array([True])],
    "nodes or steps": [
        object(),
        {"a": 1},
        0,
        -1,
        1.7,
        True,
        NAN,
        "double",
        "",
        [1.7],
        [True],
        ["1"],
        [0],
        [-1],
        [NAN],
        [[1]],
    ],
    "nodes": [object(), {"a": 1}, 1, 1.7, True, NAN, "double", "", [1.7], [True], ["1"], [0], [-1], [NAN], [[1]], HUGE],
    "widths": [*NOTHING, 1.5, NAN, "3", "x", [1.5], [2.0], [True], ["3"], [0], [-1], [None], [NAN], [INF]],
    "penalties": [*NOTHING, NAN, "x", 0, -1.0, [0.0], [-1.0], [NAN], ["1"], [True], [1j], {1.0}, np.ones((2, 2)) < 3],
    "weights": [object(), 1.0, NAN, "x", (), [-1.0], [NAN], [INF], ["1"], [True], [1j], {1.0}],
    "seeds": [object(), 1, NAN, "x", (), [-1], [1.0], [NAN], ["1"], [True], [None]],
    "columns": [0, True, b"y", [1], [None], object()],
    "names": [object(), 1, True, "nonsense", ["nonsense"], [1], [None], {"a": 1}],
    "object": [0, "x", [1], object()],
    "mapping": [0, "x", [1], object()],
    "balanced or mapping": [0, 1.0, NAN, "x", "", ["balanced"], [1.0, 2.0], object(), np.ones(2)],
    "callable": [0, "x", [1], {}],
    "path": [None, 0, 1.5, True, "", [], object()],
    "identifier": [*NOTHING, 0, "", "1a", "int", "class", "a b", "é", "a-b", "_x", "a__b", "sin", "casadi_x", "x" * 64],
}


@cache
def nlp():
    return ocp_nn.multiple_shooting(PROBLEM)


@cache
def sub():
    return subproblem(DENSE["tanh, several outputs"], 5)


def prepared(**options):
    return forward_dp.prepare(sub()).step(**options)


OPTIONS = {
    "seed": "integer >= 0",
    "initialisation": "word",
    "shooting": "nodes or steps",
    "tolerance": "positive",
    "inner_accuracy": "word",
    "inner_tolerance": "positive",
    "inner_decay": "positive",
    "max_inner": "integer >= 1",
    "max_steps": "integer >= 0",
    "max_outer": "integer >= 0",
    "time_limit": "positive or infinite",
    "penalty": "penalties",
    "penalty_growth": "above one",
    "violation_reduction": "non-negative",
    "max_penalty": "positive or infinite",
    "multiplier_bound": "positive or infinite",
    "damping": "positive",
    "acceleration": "boolean",
    "globalisation": "word",
    "gradient_start": "boolean",
    "sample_start": "boolean",
    "second_order": "boolean",
    "lifted": "boolean",
    "max_restarts": "integer >= 0",
    "form": "word",
    "max_memory": "positive or infinite",
}

# Entry point -> how to call it with keywords, and the kind of each.
ENTRIES = {
    "Options": (Options, OPTIONS),
    "IpoptOptions": (
        IpoptOptions,
        {
            "hessian": "word",
            "tolerance": "positive",
            "max_iterations": "integer >= 0",
            "time_limit": "positive or infinite",
            "linear_solver": "word",
            "mumps_pivot_order": "integer >= 0",
            "ipopt": "mapping",
        },
    ),
    "TrainingProblem": (
        lambda **k: TrainingProblem(**{"network": NETWORK, "x": X, "y": X} | k),
        {"network": "object", "weight_decay": "non-negative"},
    ),
    "Network.mlp": (
        lambda **k: Network.mlp(**{"sizes": [1, 2, 1]} | k),
        {"sizes": "widths", "activation": "word", "residual": "boolean"},
    ),
    "Dense": (
        lambda **k: Dense(**{"num_inputs": 2, "num_outputs": 2} | k),
        {"num_inputs": "integer >= 1", "num_outputs": "integer >= 1", "activation": "word", "residual": "boolean"},
    ),
    "init_controls": (NETWORK.init_controls, {"seed": "integer >= 0"}),
    "initialise": (lambda **k: initialise(PROBLEM, **k), {"seed": "integer >= 0"}),
    "solve": (
        lambda **k: ocp_nn.solve(**{"problem": PROBLEM} | k),
        {
            "problem": "object",
            "options": "object",
            "callback": "callable",
            "checkpoint_seconds": "non-negative or infinite",
        },
    ),
    "certify": (
        lambda **k: ocp_nn.certify(**{"problem": PROBLEM, "trajectory": START} | k),
        {"problem": "object", "trajectory": "object", "curvature": "boolean"},
    ),
    "check_derivatives": (
        lambda **k: ocp_nn.check_derivatives(**{"network": NETWORK} | k),
        {"network": "object", "tolerance": "positive", "directions": "integer >= 1", "seed": "integer >= 0"},
    ),
    "transcribe": (
        lambda **k: ocp_nn.transcribe(**{"problem": PROBLEM} | k),
        {"problem": "object", "nodes": "nodes"},
    ),
    "solve_ipopt": (lambda **k: ocp_nn.solve_ipopt(**{"nlp": nlp()} | k), {"nlp": "object", "options": "object"}),
    "solve_nlp": (
        lambda **k: ocp_nn.solve_nlp(**{"nlp": nlp(), "solver": "sqpmethod"} | k),
        {"nlp": "object", "solver": "word", "hessian": "object", "options": "mapping"},
    ),
    "load_dataset": (
        lambda **k: ocp_nn.load_dataset(**{"name_or_path": "sin2x"} | k),
        {"name_or_path": "path", "target": "columns"},
    ),
    "random_split": (
        lambda **k: random_split(**{"num_samples": 10} | k),
        {"num_samples": "integer >= 2", "test_size": "share", "seed": "integer >= 0"},
    ),
    "standard_splits": (
        lambda **k: next(standard_splits(**{"num_samples": 10} | k)),
        {"num_samples": "integer >= 2", "count": "integer >= 0"},
    ),
    "choose_weight_decay": (
        lambda **k: choose_weight_decay(NETWORK, X, X, **k),
        {"candidates": "weights", "seed": "integer >= 0", "repeats": "integer >= 1", "options": "object"},
    ),
    "Experiment.prepare": (
        lambda **k: Experiment.prepare(**{"dataset": ocp_nn.load_dataset("sin2x")} | k),
        {"dataset": "object", "hidden": "widths", "activation": "word", "test_size": "share", "seed": "integer >= 0"},
    ),
    "compare": (
        lambda **k: compare(**{"problem": PROBLEM} | k),
        {
            "problem": "object",
            "methods": "names",
            "cross": "boolean",
            "time_limit": "positive or infinite",
            "seed": "integer >= 0",
            "on_row": "callable",
        },
    ),
    "forward_dp.solve": (
        lambda **k: forward_dp.solve(sub(), **k),
        {"form": "word", "max_memory": "positive or infinite", "refinements": "integer >= 0"},
    ),
    "Prepared.step": (prepared, {"refinements": "integer >= 0"}),
    "Subproblem": (lambda **k: replace(sub(), **k), {"weight_decay": "decays", "damping": "non-negative"}),
    "measure": (
        lambda **k: measure(PROBLEM, START, **k),
        {"penalties": "penalties", "damping": "non-negative", "route": "word", "matrices": "names"},
    ),
    "linearise_at": (lambda **k: linearise_at(PROBLEM, START, **k), {"nodes": "nodes", "damping": "non-negative"}),
    "advise": (
        lambda **k: advise(**{"problem": PROBLEM} | k),
        {"problem": "object", "seed": "integer >= 0", "steps": "integer >= 1", "seconds": "positive or infinite"},
    ),
    "Grid": (
        Grid,
        {"depths": "widths", "widths": "widths", "activations": "names", "initialisations": "names", "seeds": "seeds"},
    ),
    "Settings": (
        Settings,
        {
            "penalties": "penalties",
            "node_strides": "widths",
            "weight_decay": "positive",
            "samples": "integer >= 1",
            "methods": "names",
            "steps": "integer >= 1",
        },
    ),
    "run_sweep": (
        lambda **k: run_sweep(**{"dataset": ocp_nn.load_dataset("sin2x"), "folder": "unused"} | k),
        {
            "dataset": "object",
            "grid": "object",
            "settings": "object",
            "workers": "integer >= 0",
            "progress": "callable",
        },
    ),
    "write_c": (
        lambda **k: write_c(ocp_nn.Model(NETWORK, NETWORK.init_controls()), "unused", **k),
        {"name": "identifier"},
    ),
    "write_casadi": (
        lambda **k: write_casadi(ocp_nn.Model(NETWORK, NETWORK.init_controls()), "unused", **k),
        {"name": "identifier"},
    ),
}

ESTIMATOR = {
    "loss": "word",
    "huber_delta": "positive",
    "hidden_layer_sizes": "widths",
    "activation": "word",
    "residual": "boolean",
    "weight_decay": "non-negative",
    "shooting": "nodes",
    "tol": "positive",
    "max_iter": "integer >= 1",
    "time_limit": "positive or infinite",
    "n_restarts": "integer >= 1",
    "warm_start": "boolean",
    "early_stopping": "boolean",
    "validation_fraction": "share",
    "n_iter_no_change": "integer >= 1",
    "monotonic_cst": "signs",
    "monotonic_method": "word",
    "bounds": "range",
    "output_range": "range",
    "constraint_points": "integer >= 0",
}

OF_REGRESSION = (
    "loss",
    "huber_delta",
    "monotonic_cst",
    "monotonic_method",
    "bounds",
    "output_range",
    "constraint_points",
)
OF_CLASSIFIER = {name: kind for name, kind in ESTIMATOR.items() if name not in OF_REGRESSION}
OF_CLASSIFIER |= {"class_weight": "balanced or mapping"}


def refused(act, option, value):
    """The one line that says so."""
    with pytest.raises(ValueError, match=rf"\b{option}\b must be .*, received ") as error:
        act(**{option: value})
    message = str(error.value)
    assert "\n" not in message and len(message) < 800 and " at 0x" not in message.partition("received")[0]


@pytest.mark.parametrize(("entry", "option"), [(entry, o) for entry, (_, kinds) in ENTRIES.items() for o in kinds])
def test_a_bad_value_is_one_sentence_with_the_options_name(entry, option):
    act, kinds = ENTRIES[entry]
    for value in BAD[kinds[option]]:
        refused(act, option, value)


@pytest.mark.parametrize("option", ESTIMATOR)
def test_a_bad_parameter_of_the_estimator_too(option):
    pytest.importorskip("sklearn")

    def fit(**parameters):
        ocp_nn.OCPRegressor(**{"weight_decay": 1.0} | parameters).fit(X, X.ravel())

    for value in BAD[ESTIMATOR[option]]:
        if not (option == "hidden_layer_sizes" and isinstance(value, int)):
            refused(fit, option, value)


@pytest.mark.parametrize("option", OF_CLASSIFIER)
def test_a_bad_parameter_of_the_classifier_too(option):
    pytest.importorskip("sklearn")

    def fit(**parameters):
        ocp_nn.OCPClassifier(**{"weight_decay": 1.0} | parameters).fit(X, X.ravel() > 0)

    for value in BAD[OF_CLASSIFIER[option]]:
        if not (option == "hidden_layer_sizes" and isinstance(value, int)):
            refused(fit, option, value)


def test_every_field_of_the_options_has_a_kind():
    assert {field.name for field in fields(Options)} == set(options._KINDS) == set(OPTIONS)
    assert {field.name for field in fields(IpoptOptions)} == set(ipopt_module._KINDS) == set(ENTRIES["IpoptOptions"][1])
    for kind, settings in ((Grid, ENTRIES["Grid"]), (Settings, ENTRIES["Settings"])):
        assert {field.name for field in fields(kind)} == set(settings[1])


def test_every_parameter_of_the_estimator_has_a_kind():
    pytest.importorskip("sklearn")
    assert set(ocp_nn.OCPRegressor().get_params()) - set(ESTIMATOR) == {"random_state"}
    assert set(ocp_nn.OCPClassifier().get_params()) - set(OF_CLASSIFIER) == {"random_state"}


def test_numbers_of_numpy_are_numbers():
    given = Options(seed=np.int64(3), tolerance=np.float32(1e-3), penalty=np.array([1.0, INF]), acceleration=np.True_)
    assert given.seed == 3
    assert Options(shooting=np.array([1, 2])).nodes(3) == Options(shooting=range(1, 3)).nodes(3) == {1, 2}
    assert Options(shooting={2}).nodes(3) == {2}
    assert Network.mlp(np.array([2, 3, 1])).sizes == (2, 3, 1)
    assert TrainingProblem(NETWORK, X, X, np.float64(0.5)).weight_decay == 0.5
    assert Dense(np.int32(2), np.int32(2)).describe()["num_inputs"].__class__ is int


def test_what_has_no_bound_may_be_infinite():
    names = ("time_limit", "penalty", "max_penalty", "multiplier_bound", "max_memory")
    assert Options(**dict.fromkeys(names, INF)).penalty == INF


SIZES = [
    [1, 99_999_999_999, 1],
    [10**30, 1],
    [1, 10**6, 10**6, 1],
]


@pytest.mark.parametrize("sizes", SIZES)
def test_networks_beyond_any_memory_are_refused_before_it_ends(sizes):
    with pytest.raises(ValueError, match=r"a network of [\d,]+ weights would take .* GiB, and 8 GiB is the bound"):
        Network.mlp(sizes)


def test_a_layer_beyond_any_memory_is_refused():
    with pytest.raises(ValueError, match="1,000,001,000,000 weights"):
        Dense(10**6, 10**6)


def test_states_beyond_any_memory_are_refused():
    x = np.broadcast_to(0.0, (200_000, 1))
    with pytest.raises(ValueError, match=r"hidden states of 200,000 samples, 20,000 each, would take 29.8 GiB"):
        TrainingProblem(Network.mlp([1, 20_000, 1]), x, x)


def test_the_table_shows_values_in_a_few_words():
    assert checks.shown(np.zeros((100, 3))) == "ndarray of shape (100, 3) and type float64"
    assert len(checks.shown("x" * 10_000)) < 100
    assert "\n" not in checks.shown(np.zeros((2, 2)))
    assert len(checks.shown([list(range(1000))] * 1000)) < 300
