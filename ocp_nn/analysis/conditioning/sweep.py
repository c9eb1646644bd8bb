"""A sweep over networks: condition numbers at the start and along trainings, in parallel, as tidy CSV.

Each run is one network from one start: everything is measured at the initial weights, then the methods of
:mod:`.trials` train from there, and what belongs to a method is measured on the way and at its end.  Runs go to
processes with one BLAS thread each; the parent alone writes (:mod:`.tables`), so a killed sweep goes on where it was.
"""

from __future__ import annotations

import multiprocessing
import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...base import checks
from ...base.claim import claim
from ...learning.data import Dataset, Scaler
from ...network.activations import ACTIVATIONS
from ...network.network import Network
from ...problem.blas import one_blas_thread
from ...problem.training import TrainingProblem
from ...problem.trajectory import Trajectory
from ...solvers.augmented_lagrangian.initialise import INITIALISATIONS, initialise
from .layers import measure_layers
from .measures import MATRICES, Measurement, measure
from .tables import Store
from .trials import METHODS, Snapshot, run_trial

__all__ = ["Grid", "Run", "Settings", "SweepResult", "run_sweep", "sample_data"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]
Rows = dict[str, list[dict[str, Any]]]

# At the start everything but what only tiny problems allow; along a training what belongs to its method.
_AT_START = tuple(name for name in MATRICES if name not in ("covariance", "information"))
_ALONG_LM = ("jacobian", "gauss_newton", "gauss_newton_no_decay", "hessian", "hessian_no_decay", "dual", "primal")
_ALONG_AL = ("constraint_jacobian", "kkt", "kkt_gauss_newton", "al_gauss_newton", "dual", "primal")

# Matrices whose whole spectrum is kept, and how many values of it at most.
_SPECTRA, _SPECTRUM_LENGTH = ("jacobian", "hessian"), 100


@dataclass(frozen=True)
class Run:
    """One network from one start."""

    depth: int
    width: int
    activation: str
    initialisation: str
    seed: int

    @property
    def key(self) -> str:
        return f"d{self.depth}-w{self.width}-{self.activation}-{self.initialisation}-s{self.seed}"

    @property
    def columns(self) -> dict[str, Any]:
        return {"run": self.key, **asdict(self)}


def _axis(kind: checks.Kind) -> checks.Kind:
    return checks.sequence(kind, f"a sequence of one or more, each {kind.words}", least=1)


# No network of more layers than this could be measured.
_MOST_LAYERS = 100_000

_GRID = {
    "depths": _axis(checks.integer(1, _MOST_LAYERS)),
    "widths": _axis(checks.WIDTH),
    "activations": _axis(checks.one_of(ACTIVATIONS)),
    "initialisations": _axis(checks.one_of(INITIALISATIONS)),
    "seeds": _axis(checks.SEED),
}


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Which networks: every combination.

    Raises
    ------
    ValueError
        For an empty axis, depths or widths below one, or names that do not exist.
    """

    depths: Sequence[int] = (2, 5, 10, 20)
    widths: Sequence[int] = (5,)
    activations: Sequence[str] = ("tanh", "sigmoid", "relu")
    initialisations: Sequence[str] = ("standard", "states")
    seeds: Sequence[int] = (0, 1, 2)

    def __post_init__(self) -> None:
        checks.check_all(_GRID, vars(self))
        checks.check_weights([1, *[max(self.widths)] * max(self.depths), 1])

    def runs(self) -> list[Run]:
        """Largest networks first, so that the last ones to finish are short."""
        axes = (self.depths, self.widths, self.activations, self.initialisations, self.seeds)
        return sorted((Run(*values) for values in product(*axes)), key=lambda run: -run.depth * run.width)


_SETTINGS = {
    "penalties": checks.PENALTIES,
    "node_strides": checks.sequence(checks.integer(1), "a sequence of integers >= 1"),
    "weight_decay": checks.POSITIVE,
    "samples": checks.integer(1),
    "methods": checks.sequence(checks.one_of(METHODS), f"a sequence of {', '.join(METHODS)}"),
    "steps": checks.integer(1),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything else that numbers depend on.

    Attributes
    ----------
    penalties : sequence of float
        beta of the measurements at the start.
    node_strides : sequence of int
        Partial shooting with a node at every so many states, beside single and multiple shooting.
    weight_decay : float
    samples : int
        At most so many of the data, drawn without replacement.
    methods : sequence of str
        Of :data:`.trials.METHODS`; may be empty.
    steps : int
        Gauss-Newton steps of a training; IPOPT gets a fifth.
    """

    penalties: Sequence[float] = (1.0, 1e2, 1e4, 1e6)
    node_strides: Sequence[int] = (2,)
    weight_decay: float = 1e-3
    samples: int = 60
    methods: Sequence[str] = METHODS
    steps: int = 200

    def __post_init__(self) -> None:
        checks.check_all(_SETTINGS, vars(self))

    def nodes(self, num_stages: int) -> list[tuple[int, ...]]:
        """Node sets without doubles, from single to multiple shooting."""
        sets = [(), *(tuple(range(n, num_stages, n)) for n in sorted(self.node_strides, reverse=True))]
        return list(dict.fromkeys([*sets, tuple(range(1, num_stages))]))


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """How a sweep went: runs done now, found done before, and failed, with the folder of the tables."""

    folder: Path
    done: int
    skipped: int
    failed: int


def sample_data(dataset: Dataset, samples: int) -> tuple[Array, Array]:
    """At most so many rows, standardised."""
    rng = np.random.default_rng(0)
    rows = np.sort(rng.permutation(dataset.num_samples)[:samples])
    x, y = dataset.x[rows], dataset.y[rows]
    return Scaler.fit(x).transform(x), Scaler.fit(y).transform(y)


def run_sweep(
    dataset: Dataset,
    folder: str | os.PathLike[str],
    *,
    grid: Grid | None = None,
    settings: Settings | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> SweepResult:
    """Run what is missing of a sweep.

    Parameters
    ----------
    dataset : Dataset
    folder : path
        Where the tables are, or will be.  Runs that are finished there are skipped.
    grid : Grid, optional
    settings : Settings, optional
    workers : int
        Processes; 0 runs in this one.
    progress : callable, optional
        Receives (runs finished, runs in all) at the beginning and after every run.

    Raises
    ------
    ValueError
        If the folder holds a sweep with other settings or data.
    BlockingIOError
        If another process works in the folder.
    """
    for name, value, kind in (
        ("dataset", dataset, checks.instance(Dataset, "an ocp_nn.Dataset")),
        ("grid", grid, checks.optional(checks.instance(Grid, "a Grid"))),
        ("settings", settings, checks.optional(checks.instance(Settings, "a Settings"))),
        ("workers", workers, checks.integer(0)),
        ("progress", progress, checks.optional(checks.CALLABLE)),
    ):
        checks.check(name, value, kind)
    grid, settings = grid or Grid(), settings or Settings()
    x, y = sample_data(dataset, settings.samples)
    every = grid.runs()
    tell = progress or (lambda *_: None)
    failed = 0
    Path(folder).mkdir(parents=True, exist_ok=True)
    with claim(folder):
        store = Store(folder, _fingerprint(dataset.name, settings, x, y))
        waiting = [run for run in every if run.key not in store.finished]
        skipped = len(every) - len(waiting)
        tell(skipped, len(every))
        for count, rows in enumerate(_results(waiting, settings, x, y, workers), start=1):
            store.append(rows)
            failed += rows["runs"][0]["status"] == "failed"
            tell(skipped + count, len(every))
    return SweepResult(folder=Path(folder), done=len(waiting) - failed, skipped=skipped, failed=failed)


def _fingerprint(name: str, settings: Settings, x: Array, y: Array) -> dict[str, Any]:
    plain = {key: list(value) if isinstance(value, tuple | list) else value for key, value in asdict(settings).items()}
    return {"dataset": name, "data_checksum": zlib.crc32(x.tobytes() + y.tobytes()), **plain}


def _results(runs: Sequence[Run], settings: Settings, x: Array, y: Array, workers: int) -> Iterator[Rows]:
    if workers == 0:
        for run in runs:
            yield perform(run, settings, x, y)
        return
    # spawned, not forked: a fork would inherit the locks of threaded libraries
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:
        futures = [pool.submit(perform, run, settings, x, y) for run in runs]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            # after Ctrl-C too: do not begin what has not begun
            pool.shutdown(wait=True, cancel_futures=True)


def _one_thread() -> None:
    """In a worker: libraries that are loaded later (the linear solver of IPOPT) read this."""
    os.environ["OMP_NUM_THREADS"] = "1"


def perform(run: Run, settings: Settings, x: Array, y: Array) -> Rows:
    """All rows of a run; a run that fails has only its line in ``runs``, with the reason."""
    began = time.perf_counter()
    try:
        with one_blas_thread():
            rows = _measure_run(run, settings, x, y)
        status, message = "done", ""
    except (ValueError, ArithmeticError, np.linalg.LinAlgError, MemoryError, RuntimeError) as error:
        rows, status, message = {}, "failed", " ".join(f"{type(error).__name__}: {error}".split())
    seconds = round(time.perf_counter() - began, 3)
    return rows | {"runs": [{**run.columns, "seconds": seconds, "message": message, "status": status}]}


def _measure_run(run: Run, settings: Settings, x: Array, y: Array) -> Rows:
    network = Network.mlp([x.shape[1], *[run.width] * run.depth, y.shape[1]], run.activation)
    problem = TrainingProblem(network, x, y, settings.weight_decay)
    controls = initialise(problem, run.initialisation, run.seed)
    rows: Rows = {table: [] for table in ("matrices", "stages", "products", "spectra", "training", "history")}
    start = Snapshot("start", 0, problem.lift(controls), None)
    found = measure(
        problem,
        start.trajectory,
        nodes=settings.nodes(problem.num_stages),
        penalties=settings.penalties,
        matrices=_AT_START,
    )
    _add_point(rows, run, "", start, problem, found)
    for method in settings.methods:
        trial = run_trial(method, problem, controls, steps=settings.steps)
        columns = {**run.columns, "method": method}
        rows["training"].append(
            {
                **columns,
                "steps": trial.steps,
                "error": trial.errors[-1][1],
                "best_error": trial.best_error,
                "status": trial.status,
                "seconds": round(trial.seconds, 3),
            }
        )
        rows["history"] += [{**columns, "step": step, "error": error} for step, error in trial.errors]
        for snapshot in trial.snapshots:
            _add_point(rows, run, method, snapshot, problem, _measure_snapshot(problem, snapshot))
    return rows


def _measure_snapshot(problem: TrainingProblem, snapshot: Snapshot) -> list[Measurement]:
    """Single shooting at the rollout; for the augmented Lagrangian, multiple shooting where it is, at its penalty."""
    found = measure(problem, problem.lift(snapshot.trajectory.controls), nodes=[()], matrices=_ALONG_LM)
    if snapshot.penalty is not None:
        found += measure(
            problem,
            snapshot.trajectory,
            nodes=[range(1, problem.num_stages)],
            penalties=(snapshot.penalty,),
            matrices=_ALONG_AL,
        )
    return found


def _add_point(
    rows: Rows,
    run: Run,
    method: str,
    snapshot: Snapshot,
    problem: TrainingProblem,
    found: Iterable[Measurement],
) -> None:
    columns = {**run.columns, "phase": snapshot.phase, "method": method, "step": snapshot.step}
    for measurement in found:
        rows["matrices"].append(columns | _matrix_columns(measurement))
        if measurement.matrix in _SPECTRA and measurement.spectrum.values is not None:
            rows["spectra"] += [columns | row for row in _spectrum_rows(measurement)]
    rollout = Trajectory(snapshot.trajectory.controls, problem.rollout(snapshot.trajectory.controls).states)
    layers = measure_layers(problem, rollout)
    for k, norm in enumerate(layers.gradient_norm):
        variance = layers.state_variance[k + 1]
        rows["stages"].append(columns | {"stage": k, "state_variance": variance, "gradient_norm": norm})
    for first, last in zip(*np.triu_indices(problem.num_stages), strict=True):
        values = {"largest": layers.product_largest[first, last], "smallest": layers.product_smallest[first, last]}
        rows["products"].append(columns | {"first": first, "last": last} | values)


def _matrix_columns(measurement: Measurement) -> dict[str, Any]:
    spectrum = measurement.spectrum
    return {
        "matrix": measurement.matrix,
        "shooting": measurement.shooting,
        "penalty": "" if measurement.penalty is None else measurement.penalty,
        "rows": spectrum.rows,
        "columns": spectrum.columns,
        "largest": spectrum.largest,
        "smallest": spectrum.smallest,
        "condition": spectrum.condition,
        "rank": "" if spectrum.rank is None else spectrum.rank,
        "negative": "" if spectrum.negative is None else spectrum.negative,
        "accuracy": f"{spectrum.accuracy:.1e}",
        "is_bound": int(spectrum.is_bound),
        "route": spectrum.route,
    }


def _spectrum_rows(measurement: Measurement) -> Iterator[dict[str, Any]]:
    values = measurement.spectrum.values
    assert values is not None
    length = min(len(values), _SPECTRUM_LENGTH)
    for index in np.unique(np.linspace(0, len(values) - 1, length).round().astype(int)):
        yield {"matrix": measurement.matrix, "index": int(index), "value": values[index]}
