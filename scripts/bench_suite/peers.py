"""What people would use instead, each with its best reasonable settings, on the same J from the same weights.

A peer is a function (problem, seed, watch) -> status.  It calls ``watch.begin()`` when imports, building and compiling
are over, and ``watch.check(controls)`` after every iteration; that look is not on its clock.  Two do not minimise J
itself: scikit-learn leaves biases out of the weight decay (its ``alpha`` is ours otherwise), and its Adam takes batches
of 200.  J is what is reported for them too.

Optional packages are imported inside the functions, in the process of the run, but for those that take long and can be
shared by processes forked later: :func:`preload`.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from ocp_nn import IpoptOptions, TrainingProblem, Trajectory, multiple_shooting, single_shooting, solve_ipopt
from ocp_nn.problem.losses import Softmax, Squared
from ocp_nn.solvers.augmented_lagrangian.initialise import initialise
from ocp_nn.solvers.nlp.plugins import solve_nlp

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from deep_suite import IPOPT_CONTROLS, PLAIN_LM, Target, lbfgs, ours

__all__ = ["OURS", "PEERS", "Peer", "Stop", "missing", "preload", "select"]

Run = Callable[[TrainingProblem, int, Any], str]
ADAM_RATES = (1e-2, 3e-3, 1e-3)

# Memory of L-BFGS everywhere, that of deep_suite.lbfgs.
MEMORY = 20
# A dense Jacobian beyond this many numbers takes seconds a step.
JACOBIAN = 15_000_000
# alpaqa's calls take many seconds each.
ALPAQA_SECONDS = 60.0
# Imported before the processes of the runs are forked: two seconds a run otherwise.
_PRELOADED = ("torch",)
# State variables up to which the multiple-shooting programs are handed to others.
STATES = 6000


class Stop(Exception):
    """The time is over."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A method.

    Attributes
    ----------
    family : str
        Members of a family differ in a setting; the best one of each problem is shown.
    requires : tuple of str
        Optional packages.
    applies : callable
        Whether a problem is small enough.
    least_limit : float
        Seconds it is given at least, where one call of it takes many.
    """

    name: str
    run: Run
    family: str = ""
    requires: tuple[str, ...] = ()
    applies: Callable[[TrainingProblem], bool] = lambda problem: True
    least_limit: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "family", self.family or self.name)


def missing(peer: Peer) -> list[str]:
    """Packages it needs that are not installed."""
    return [name for name in peer.requires if importlib.util.find_spec(name) is None]


def preload(some: Sequence[Peer]) -> None:
    """Import, once for all runs, what these peers require and is slow to import.

    JAX is not among it: its threads do not survive a fork.
    """
    for name in _PRELOADED:
        if any(name in peer.requires and not missing(peer) for peer in some):
            importlib.import_module(name)


def _start(problem: TrainingProblem, seed: int) -> tuple[np.ndarray, ...]:
    return problem.network.init_controls(seed)


# ---- ours and SciPy's


def _stepped(method: Any, start: str, problem: TrainingProblem, seed: int, watch: Any) -> str:
    """A method of ``deep_suite``."""
    try:
        if start == "standard":
            watch.check(np.concatenate(_start(problem, seed)))
        return str(method(problem, start, seed, watch))
    except Target:
        return "time limit"


def _ours(start: str, **settings: Any) -> Run:
    """Looked at after every step, as the others are."""
    return partial(_stepped, ours(every_step=True, **settings), start)


def _residual(problem: TrainingProblem, flat: np.ndarray) -> np.ndarray:
    """The residual whose half square is J."""
    controls = problem.network.split(flat)
    r = problem.network.predict(controls, problem.x) - problem.y
    return np.concatenate([r.ravel(), np.sqrt(problem.weight_decay) * flat])


def _jacobian(problem: TrainingProblem, flat: np.ndarray) -> np.ndarray:
    """Its Jacobian, (N m + P, P), by one backward sweep of output sensitivities."""
    controls = problem.network.split(flat)
    states = [problem.x]
    for layer, u in zip(problem.network.layers, controls, strict=True):
        states.append(layer.forward(states[-1], u))
    stages = problem.linearize(Trajectory(controls, tuple(states[:-1])), tuple(states[1:]))
    samples, outputs = problem.y.shape
    jacobian = np.zeros((samples * outputs + len(flat), len(flat)))
    rows = jacobian[: samples * outputs].reshape(samples, outputs, -1)
    psi = np.tile(np.eye(outputs), (samples, 1, 1))
    end = len(flat)
    for stage in reversed(stages):
        stage.write_control_rows(psi, rows[:, :, end - stage.num_controls : end])
        end -= stage.num_controls
        psi = stage.carry_output(psi) if end else psi
    np.fill_diagonal(jacobian[samples * outputs :], np.sqrt(problem.weight_decay))
    return jacobian


def _scipy_least_squares(problem: TrainingProblem, seed: int, watch: Any) -> str:
    def jacobian(flat: np.ndarray) -> np.ndarray:
        watch.insist(flat)  # asked for at accepted points only
        return _jacobian(problem, flat)

    outcome = least_squares(
        partial(_residual, problem),
        np.concatenate(_start(problem, seed)),
        jacobian,
        method="trf",
        tr_solver="exact",
        ftol=1e-12,
        xtol=1e-12,
        gtol=1e-9,
        max_nfev=10**6,
    )
    watch.check(outcome.x)
    return "converged" if outcome.success else "stalled"


# ---- CasADi's


def _ipopt(shooting: str, hessian: str, problem: TrainingProblem, seed: int, watch: Any) -> str:
    nlp = (single_shooting if shooting == "single" else multiple_shooting)(problem)
    watch.begin()
    options = IpoptOptions(hessian=hessian, max_iterations=10**6, ipopt={"max_cpu_time": watch.limit})
    result = solve_ipopt(nlp, _start(problem, seed), options=options)
    watch.check(np.concatenate(result.trajectory.controls))
    if result.history:
        _take_history(result, watch)
    return result.status.value


def _take_history(result: Any, watch: Any) -> None:
    """Its history is in wall time, which is turned into processor time by the ratio of the whole."""
    ratio = min(1.0, watch.seconds / result.seconds)
    first = result.history[0].seconds  # building the solver, and the first evaluation
    watch.build_seconds += ratio * first
    watch.replace_times(
        [(ratio * (r.seconds - first), r.seconds - first, r.iteration, r.rollout_objective) for r in result.history]
    )


def _alpaqa(problem: TrainingProblem, seed: int, watch: Any) -> str:
    """It takes no options, stops at its own limit of iterations and tells its end only: so it is called again there."""
    nlp = multiple_shooting(problem)
    watch.begin()
    point: Any = problem.rollout(_start(problem, seed))
    while not watch.check(np.concatenate(point.controls)):
        result = solve_nlp(nlp, "alpaqa", point)
        point = result.trajectory
        if result.success:
            watch.check(np.concatenate(point.controls))
            return "converged"
    return "time limit"


def _num_states(problem: TrainingProblem) -> int:
    return problem.num_samples * sum(problem.network.sizes[1:-1])


# ---- scikit-learn's


def _mlp(problem: TrainingProblem, seed: int, **settings: Any) -> tuple[Any, np.ndarray]:
    """A regressor, or a classifier, that holds the initial weights, and its targets."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    layers = problem.network.layers
    names = {"sigmoid": "logistic"}
    kind: Any = MLPRegressor if isinstance(problem.loss, Squared) else MLPClassifier

    class Watched(kind):
        watch: Any = None

        def _loss_grad_lbfgs(self, packed: np.ndarray, *arguments: Any) -> Any:
            if self.watch is not None:
                self.watch.insist(_packed_controls(problem, packed))
            return super()._loss_grad_lbfgs(packed, *arguments)

    model = Watched(
        hidden_layer_sizes=[layer.num_outputs for layer in layers[:-1]],
        activation=names.get(layers[0].activation, layers[0].activation),
        alpha=problem.weight_decay,
        warm_start=True,
        random_state=seed,
        **settings,
    )
    targets = problem.y.ravel() if problem.y.shape[1] == 1 else problem.y
    targets = problem.y.argmax(axis=1) if isinstance(problem.loss, Softmax) else targets
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one iteration does not converge: it is to make the arrays
        model.set_params(max_iter=1).fit(problem.x, targets)
    for k, (layer, u) in enumerate(zip(layers, _start(problem, seed), strict=True)):
        weight, bias = layer.weights(u)
        model.coefs_[k], model.intercepts_[k] = weight.T.copy(), bias.copy()
    return model.set_params(max_iter=10**6), targets


def _packed_controls(problem: TrainingProblem, packed: np.ndarray) -> np.ndarray:
    """Weights of all layers, then biases of all layers, as controls."""
    layers = problem.network.layers
    sizes = [layer.num_inputs * layer.num_outputs for layer in layers] + [layer.num_outputs for layer in layers]
    parts = np.split(packed, np.cumsum(sizes)[:-1])
    return np.concatenate(list(_interleaved(parts[: len(layers)], parts[len(layers) :])))


def _interleaved(weights: Sequence[np.ndarray], biases: Sequence[np.ndarray]) -> Any:
    for weight, bias in zip(weights, biases, strict=True):
        yield np.concatenate([weight.ravel(), bias])


def _sklearn_lbfgs(problem: TrainingProblem, seed: int, watch: Any) -> str:
    model, targets = _mlp(problem, seed, solver="lbfgs", tol=1e-9, max_fun=10**7)
    watch.begin()
    model.watch = watch
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(problem.x, targets)
    watch.check(np.concatenate(list(_interleaved(model.coefs_, model.intercepts_))))
    return "ended"


def _sklearn_adam(rate: float, problem: TrainingProblem, seed: int, watch: Any) -> str:
    model, targets = _mlp(problem, seed, solver="adam", learning_rate_init=rate)
    del model._optimizer  # forget the moments of the iteration that made the arrays
    watch.begin()
    while not watch.check(np.concatenate(list(_interleaved(model.coefs_, model.intercepts_)))):
        model.partial_fit(problem.x, targets)  # an epoch
    return "time limit"


# ---- PyTorch's


def _torch(problem: TrainingProblem, seed: int) -> tuple[Any, list[Any], Callable[[], Any]]:
    """PyTorch, the controls as parameters, and a closure that gives J."""
    import torch

    torch.set_num_threads(1)
    parameters = [torch.tensor(u, requires_grad=True) for u in _start(problem, seed)]
    layers = problem.network.layers
    phis = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": torch.relu, "identity": lambda a: a}
    inputs, targets = torch.tensor(problem.x), torch.tensor(problem.y)
    losses: dict[str, Callable[[Any], Any]] = {
        "squared": lambda z: 0.5 * ((z - targets) ** 2).sum(),
        "logistic": lambda z: torch.nn.functional.softplus((1 - 2 * targets) * z).sum(),
        "softmax": lambda z: (torch.logsumexp(z, 1) - (z * targets).sum(1)).sum(),
    }

    def objective() -> Any:
        x = inputs
        for layer, u in zip(layers, parameters, strict=True):
            table = u.view(layer.num_inputs + 1, layer.num_outputs)
            x = phis[layer.activation](torch.addmm(table[-1], x, table[:-1]))
        decay = sum((u * u).sum() for u in parameters)
        return losses[problem.loss.name](x) + 0.5 * problem.weight_decay * decay

    objective().backward()  # the first call sets things up
    return torch, parameters, objective


def _torch_controls(parameters: Sequence[Any]) -> np.ndarray:
    return np.concatenate([u.detach().numpy() for u in parameters])


def _torch_adam(rate: float, problem: TrainingProblem, seed: int, watch: Any) -> str:
    torch, parameters, objective = _torch(problem, seed)
    optimiser = torch.optim.Adam(parameters, lr=rate)
    watch.begin()
    while not watch.check(_torch_controls(parameters)):
        optimiser.zero_grad()
        objective().backward()
        optimiser.step()
    return "time limit"


def _torch_lbfgs(problem: TrainingProblem, seed: int, watch: Any) -> str:
    torch, parameters, objective = _torch(problem, seed)
    optimiser = torch.optim.LBFGS(
        parameters,
        max_iter=20,
        max_eval=40,
        history_size=MEMORY,
        tolerance_grad=1e-9,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Any:
        watch.insist(_torch_controls(parameters))
        optimiser.zero_grad()
        value = objective()
        value.backward()
        return value

    watch.begin()
    before = np.inf
    while (after := float(optimiser.step(closure).detach())) < before:  # the objective before its twenty iterations
        before = after
    return "stalled"


# ---- optimistix'


def _optimistix(problem: TrainingProblem, seed: int, watch: Any) -> str:
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    import equinox
    import jax
    import jax.numpy as jnp
    import optimistix

    jax.config.update("jax_enable_x64", True)
    layers, ends = problem.network.layers, np.cumsum([len(u) for u in _start(problem, seed)])[:-1]
    phis = {"tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid, "relu": jax.nn.relu, "identity": lambda a: a}

    def residual(flat: Any, args: Any) -> tuple[Any, None]:
        x = problem.x
        for layer, u in zip(layers, jnp.split(flat, ends), strict=True):
            table = u.reshape(layer.num_inputs + 1, layer.num_outputs)
            x = phis[layer.activation](x @ table[:-1] + table[-1])
        return jnp.concatenate([(x - problem.y).ravel(), np.sqrt(problem.weight_decay) * flat]), None

    solver = optimistix.LevenbergMarquardt(rtol=1e-12, atol=1e-12)
    y = jnp.concatenate(_start(problem, seed))
    out, aux = jax.eval_shape(residual, y, None)
    tags: frozenset[object] = frozenset()
    init = equinox.filter_jit(lambda y: solver.init(residual, y, None, {}, out, aux, tags))
    step = equinox.filter_jit(lambda y, state: solver.step(residual, y, None, {}, state, tags))
    ended = equinox.filter_jit(lambda y, state: solver.terminate(residual, y, None, {}, state, tags)[0])
    state = init(y)
    ended(y, step(y, state)[1])  # compiles
    watch.begin()
    while not watch.check(np.asarray(y)):
        y, state, _ = step(y, state)
        if bool(ended(y, state)):
            watch.check(np.asarray(y))
            return "converged"
    return "time limit"


def _dense(problem: TrainingProblem) -> bool:
    return (problem.num_samples + problem.network.num_controls) * problem.network.num_controls <= JACOBIAN


def _small(problem: TrainingProblem) -> bool:
    return problem.network.num_controls <= IPOPT_CONTROLS and problem.num_samples <= 1000


def _few_states(problem: TrainingProblem) -> bool:
    return _num_states(problem) <= STATES and problem.network.num_controls <= 500


def _starts_elsewhere(problem: TrainingProblem) -> bool:
    """Whether our own choice is not to start from standard weights."""
    return any(
        not np.array_equal(a, b) for a, b in zip(initialise(problem), initialise(problem, "standard"), strict=True)
    )


OURS = "ours"
PEERS = (
    Peer(name=OURS, run=_ours("auto")),
    Peer(
        name="ours, standard weights",
        run=_ours("standard"),
        applies=_starts_elsewhere,
    ),
    Peer(name="single-shooting LM", run=_ours("standard", **PLAIN_LM, max_restarts=0)),
    Peer(name="SciPy L-BFGS", run=partial(_stepped, lbfgs, "standard")),
    Peer(name="SciPy least_squares", run=_scipy_least_squares, applies=_dense),
    Peer(name="IPOPT, single shooting, exact", run=partial(_ipopt, "single", "exact"), applies=_small),
    Peer(name="IPOPT, single shooting, L-BFGS", run=partial(_ipopt, "single", "limited-memory"), applies=_small),
    Peer(name="IPOPT, multiple shooting", run=partial(_ipopt, "multiple", "exact"), applies=_few_states),
    Peer(name="alpaqa, multiple shooting", run=_alpaqa, applies=_few_states, least_limit=ALPAQA_SECONDS),
    Peer(name="scikit-learn L-BFGS", run=_sklearn_lbfgs, requires=("sklearn",)),
    *(
        Peer(
            name=f"scikit-learn Adam {rate:g}",
            run=partial(_sklearn_adam, rate),
            family="scikit-learn Adam",
            requires=("sklearn",),
        )
        for rate in ADAM_RATES
    ),
    *(
        Peer(
            name=f"PyTorch Adam {rate:g}",
            run=partial(_torch_adam, rate),
            family="PyTorch Adam",
            requires=("torch",),
        )
        for rate in ADAM_RATES
    ),
    Peer(name="PyTorch L-BFGS", run=_torch_lbfgs, requires=("torch",)),
    Peer(name="optimistix LM", run=_optimistix, requires=("optimistix", "jax"), applies=_dense),
)


def select(names: Sequence[str] | None) -> list[Peer]:
    """The peers of these names or families (None: all).

    Raises
    ------
    ValueError
        For a name that is neither.
    """
    known = {word for peer in PEERS for word in (peer.name, peer.family)}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ValueError(f"unknown peers {unknown}: expected some of {', '.join(sorted(known))}")
    return [peer for peer in PEERS if names is None or peer.name in names or peer.family in names]
