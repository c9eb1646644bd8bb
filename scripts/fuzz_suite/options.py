"""Options: of the solver, of IPOPT, of the estimator and of other entry points, of any value and type."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import fields, replace

import numpy as np

import ocp_nn
from ocp_nn import Dense, IpoptOptions, Model, Network, Options, Scaler, TrainingProblem, Trajectory
from ocp_nn.forward_dp import FORMS
from ocp_nn.solvers.augmented_lagrangian.initialise import INITIALISATIONS

from .draw import network_of, odd, pick, seldom
from .oracles import check_model, check_result, same_bits
from .sides import legacy_generator
from .words import Refused, hold, our_words

__all__ = ["run"]

_X = np.linspace(-1, 1, 12)[:, None]

# Values that are fine, and at the edge of being so.
_FINE = {
    "seed": [0, 7, np.int64(3), 2**40],
    "initialisation": ["auto", *INITIALISATIONS],
    "shooting": ["multiple", "single", [], [1], (2,), {1, 2}, range(1, 3), np.array([1]), frozenset({2})],
    "tolerance": [1e-6, 1e-3, 1e-12, 1e-300, 0.5, 10, np.float32(1e-4)],
    "inner_accuracy": ["steps", "relative", "absolute"],
    "inner_tolerance": [0.1, 1e-8, 1e8],
    "inner_decay": [0.5, 1, 1e-3],
    "max_inner": [1, 2, 5, 10],
    "max_steps": [0, 1, 10, 1000],
    "max_outer": [0, 1, 5, 20],
    "time_limit": [np.inf, 10, 1e-9],
    "penalty": ["auto", 1.0, 1e-8, 1e12, [1.0, 2.0], [np.inf], (np.inf, 1.0), np.array([1.0, 5.0])],
    "penalty_growth": [2.0, 1.0001, 1e6],
    "violation_reduction": [0.25, 0, 10.0],
    "max_penalty": [1e10, 1.0, np.inf, 1e-3],
    "multiplier_bound": [1e6, 1e-6, np.inf],
    "damping": [0.3, 1e-12, 1e12, 1],
    "acceleration": [True, False, np.bool_(True)],
    "globalisation": ["levenberg-marquardt", "armijo"],
    "gradient_start": [True, False],
    "sample_start": [True, False],
    "second_order": [True, False],
    "lifted": [True, False],
    "max_restarts": [0, 1, 2],
    "form": ["auto", *FORMS],
    "max_memory": [4 * 2**30, np.inf, 1e9, 1e6],
}
_FINE_IPOPT = {
    "hessian": ["exact", "limited-memory", "gauss-newton"],
    "tolerance": [1e-8, 1e-3, 1e-12],
    "max_iterations": [0, 1, 20],
    "time_limit": [10, np.inf, 1e-3],
    "linear_solver": ["mumps"],
    "mumps_pivot_order": [0, 5, 7],
    "ipopt": [{}, {"mu_strategy": "adaptive"}],
}
_FINE_ESTIMATOR = {
    "hidden_layer_sizes": [(3,), [2, 2], (), 2, np.array([2]), np.int64(3), range(1, 3)],
    "activation": ["tanh", "sigmoid", "relu", "softplus", "identity"],
    "residual": [True, False],
    "weight_decay": [0.0, 1.0, 1e-3, 1, 1e6],
    "shooting": ["multiple", "single", [], [1]],
    "tol": [1e-6, 1e-3],
    "max_iter": [1, 5, 10],
    "time_limit": [np.inf, 5, 1e-9],
    "n_restarts": [1, 2],
    "warm_start": [True, False],
    "early_stopping": [True, False],
    "validation_fraction": [0.1, 0.5, 0.99],
    "n_iter_no_change": [1, 3],
    "random_state": [0, None, 5],
}


def run(rng, folder):
    with suppress(Refused):
        pick(rng, [_solve, _solve, _solve, _solve, _estimator, _ipopt, _entry_point, _entry_point])(rng, folder)


def _drawn(rng, fine):
    """Some options, most of them fine; and their names."""
    names = [name for name in fine if seldom(rng, 0.25)] or [pick(rng, list(fine))]
    odd_one = pick(rng, names) if seldom(rng, 0.5) else None
    return {name: odd(rng) if name == odd_one else pick(rng, fine[name]) for name in names}


def _not_nonsense(given):
    """What no option takes, whatever the option."""
    for name, value in given.items():
        nan = isinstance(value, float | np.floating) and np.isnan(value)
        hold(not nan and not isinstance(value, complex | bytes | np.ma.core.MaskedConstant), f"{name}={value!r} taken")


def _problem(rng):
    network = network_of(rng, 1, int(rng.integers(1, 3)))
    y = np.sin(3 * _X) * np.ones(network.num_outputs) + 0.1 * rng.standard_normal((len(_X), network.num_outputs))
    return TrainingProblem(network, _X, y, pick(rng, [0.0, 1e-3, 1.0]))


def _solve(rng, folder):
    given = _drawn(rng, _FINE)
    with our_words(naming=tuple(given)):
        options = Options(**given)
    _not_nonsense(given)
    problem = _problem(rng)
    capped = replace(options, max_outer=min(options.max_outer, 20), max_restarts=min(options.max_restarts, 2))
    start = pick(rng, [None, problem.network.init_controls(3)])
    with our_words(ValueError, MemoryError, naming=tuple(given)):
        result = ocp_nn.solve(problem, start, options=capped)
    check_result(result, start)
    check_model(result.model, problem.x)


def _ipopt(rng, folder):
    given = _drawn(rng, _FINE_IPOPT)
    with our_words(naming=tuple(given)):
        options = IpoptOptions(**given)
    _not_nonsense({name: value for name, value in given.items() if name != "ipopt"})
    problem = _problem(rng)
    with our_words():
        nlp = pick(rng, [ocp_nn.multiple_shooting, ocp_nn.single_shooting])(problem)
    capped = replace(options, max_iterations=min(options.max_iterations, 30))
    with our_words(naming=tuple(given)):
        result = ocp_nn.solve_ipopt(nlp, options=capped)
    check_result(
        result, tolerance=max(options.tolerance, Options().tolerance), adjoints=False
    )  # IPOPT's is of a problem it has scaled


@contextmanager
def _numpy_random_kept():
    """random_state=None draws from NumPy's global generator, as everywhere in scikit-learn."""
    generator = legacy_generator()
    before = generator.get_state()
    try:
        yield
    finally:
        generator.set_state(before)


def _estimator(rng, folder):
    given = {"weight_decay": 0.1, "max_iter": 5, "random_state": 0} | _drawn(rng, _FINE_ESTIMATOR)
    for name, most in (("n_restarts", 3), ("max_iter", 20)):  # more would be done, and take its time
        if isinstance(given.get(name), int) and given[name] > most:
            given[name] = most
    regressor = ocp_nn.OCPRegressor(**given)
    # random_state has scikit-learn's words, a network beyond any memory those of the network
    named = (*given, "layers") if isinstance(given["random_state"], int | None) else ()
    with our_words(naming=named), _numpy_random_kept():
        regressor.fit(_X, np.sin(3 * _X).ravel())
    _not_nonsense(given)
    hold(all(regressor.get_params()[name] is value for name, value in given.items()), "fit has changed a parameter")
    check_result(regressor.result_)
    check_model(regressor.result_.model, _X)
    first = regressor.predict(_X)
    if isinstance(given["random_state"], int) and not given.get("warm_start") and "time_limit" not in given:
        again = ocp_nn.OCPRegressor(**given).fit(_X, np.sin(3 * _X).ravel()).predict(_X)
        hold(same_bits(first, again), "the same fit again predicts something else")


# ---- other entry points: (call, names of what may be refused, keywords that are fine)

_NETWORK = Network.mlp([1, 2, 2, 1])
_SINE = TrainingProblem(_NETWORK, _X, np.sin(2 * _X), 1e-2)
_START = _SINE.lift(_NETWORK.init_controls(0))
_MODEL = Model(_NETWORK, _NETWORK.init_controls(0))

_ENTRIES = {
    "Network.mlp": (Network.mlp, {"sizes": [[1, 2, 1], (1, 1)], "activation": ["tanh"], "residual": [True, False]}),
    "Dense": (
        Dense,
        {"num_inputs": [1, 3], "num_outputs": [1, np.int64(2)], "activation": ["relu"], "residual": [False]},
    ),
    "init_controls": (_NETWORK.init_controls, {"seed": [0, 5]}),
    "TrainingProblem": (
        TrainingProblem,
        {"network": [_NETWORK], "x": [_X], "y": [_X, _X.ravel()], "weight_decay": [0, 0.5, 1e300]},
    ),
    "Trajectory": (
        Trajectory,
        {"controls": [_START.controls], "states": [_START.states], "multipliers": [None, _START.states]},
    ),
    "certify": (
        ocp_nn.certify,
        {"problem": [_SINE], "trajectory": [_START], "curvature": [True, False]},
    ),
    "initialise": (
        ocp_nn.initialise,
        {"problem": [_SINE], "method": ["auto", *INITIALISATIONS], "seed": [0, 1]},
    ),
    "solve": (
        lambda **k: ocp_nn.solve(**{"options": Options(max_outer=3)} | k),
        {"problem": [_SINE], "initial": [None, _START, _START.controls], "callback": [None, lambda _: True]},
    ),
    "check_derivatives": (
        ocp_nn.check_derivatives,
        {"network": [_NETWORK], "tolerance": [1e-4], "directions": [1, 2], "seed": [0]},
    ),
    "transcribe": (ocp_nn.transcribe, {"problem": [_SINE], "nodes": ["multiple", "single", [1], {2}]}),
    "random_split": (
        ocp_nn.random_split,
        {"num_samples": [2, 10, 1000], "test_size": [0.1, 0.5, 0.999], "seed": [0, 1]},
    ),
    "load_dataset": (
        ocp_nn.load_dataset,
        {"name_or_path": ["sin2x", "friedman", "none.csv"], "target": [None, "y"], "features": [None, ["x1"]],
         "drop": [(), "x2", ["x1"]]},
    ),
    "Scaler": (Scaler, {"mean": [np.zeros(2), [1.0]], "scale": [np.ones(2), [2.0]]}),
    "predict": (_MODEL.predict, {"x": [_X, [[1.0]], [1.0, 2.0], [1e300]]}),
    "Model": (
        Model,
        {"network": [_NETWORK], "controls": [_START.controls], "x_scaler": [None, Scaler([0.0], [2.0])],
         "x_range": [None, [[0.0], [1.0]]], "features": [(), ["a"]], "targets": [(), ["b"]]},
    ),
}  # fmt: skip


def _entry_point(rng, folder):
    act, fine = _ENTRIES[pick(rng, list(_ENTRIES))]
    names = list(fine)
    odd_one = pick(rng, names)
    given = {name: odd(rng) if name == odd_one else pick(rng, fine[name]) for name in names}
    if odd_one == "callback" and callable(given["callback"]):
        given["callback"] = None  # what a callback raises, `len` of a record for one, is its owner's to know
    with our_words():
        act(**given)
    _not_nonsense({odd_one: given[odd_one]})


assert set(_FINE) == {field.name for field in fields(Options)}
assert set(_FINE_IPOPT) == {field.name for field in fields(IpoptOptions)}
