"""Running cases: one, many, in one process or several."""

from __future__ import annotations

import io
import os
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from . import sides
from .words import Fault

__all__ = ["AREAS", "SHARES", "Outcome", "allotted", "run_case", "run_cases"]

# Of all cases, by what they cost.
SHARES = {"data": 0.33, "options": 0.33, "files": 0.26, "arguments": 0.06, "threads": 0.018, "kills": 0.002}
AREAS = tuple(SHARES)

# Warnings that are ours to give.
_OURS = {"ConvergenceWarning", "ExtrapolationWarning", "OverfittingWarning"}

# Seconds after which a case hangs, where the system has alarms; most take some hundredths.
_HANGS = 120

# Cases that a process is handed at a time.
_CHUNK = 20


@dataclass(frozen=True)
class Outcome:
    """What became of a case: faults, one line each, and how long it took."""

    area: str
    seed: int
    faults: tuple[str, ...]
    seconds: float


def allotted(cases, areas=AREAS):
    """How many cases each area gets of a number, by its share; each at least one."""
    total = sum(SHARES[area] for area in areas)
    return {area: max(1, round(cases * SHARES[area] / total)) for area in areas}


@cache
def _prepared(area):
    """The module of an area, and what its cases share."""
    warm_up()
    module = import_module(f".{area}", __package__)
    getattr(module, "prepare", lambda: None)()
    return module


def warm_up():
    """What is imported on demand is there before anything is compared: its own import changes settings."""
    for module in (
        "matplotlib.pyplot",
        "sklearn.base",
        "pandas",
        "onnx",
        "onnxruntime",
        "ocp_nn.estimator",
        "rich.console",
    ):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                import_module(module)
        except ImportError:
            pass
    import_module("matplotlib.pyplot").switch_backend("agg")


def run_case(area, seed):
    """Run the case of a seed and look for faults."""
    module, rng = _prepared(area), np.random.default_rng([AREAS.index(area), seed])
    folder, began = Path(tempfile.mkdtemp(prefix="fuzz-")), time.perf_counter()
    try:
        faults = _faults(module.run, rng, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Outcome(area, seed, tuple(faults), time.perf_counter() - began)


def _faults(run, rng, folder):
    faults, printed = [], io.StringIO()
    with warnings.catch_warnings(record=True) as caught, redirect_stdout(printed), redirect_stderr(printed):
        warnings.simplefilter("always")
        before = sides.state()
        with sides.writes_stay_in(folder) as outside:
            try:
                with _alarm():
                    run(rng, folder)
            except Fault as fault:
                faults.append(str(fault))
            except Exception as error:  # whatever it is, it is what is looked for
                faults.append(_exception(error))
        after = sides.state()
    faults += [f"changed: {name}" for name in before if before[name] != after[name]]
    faults += [f"written outside: {what}" for what in outside]
    faults += [f"{w.category.__name__}: {w.message} ({w.filename}:{w.lineno})" for w in caught
               if w.category.__name__ not in _OURS]  # fmt: skip
    if printed.getvalue():
        faults.append(f"printed: {printed.getvalue()[:200]!r}")
    return [" ".join(fault.split()) for fault in faults]


@contextmanager
def _alarm():
    """A block that is left with a :class:`Fault` where it hangs in Python's code."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def ring(number, frame):
        raise Fault(f"hangs: after {_HANGS} s in {Path(frame.f_code.co_filename).name}:{frame.f_lineno}")

    earlier = signal.signal(signal.SIGALRM, ring)
    signal.alarm(_HANGS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, earlier)


def _exception(error):
    frames = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)[-4:]]
    return f"{type(error).__name__}: {str(error)[:300]} ({' > '.join(frames)})"


def run_cases(cases, jobs=1, on_outcome=lambda outcome: None):
    """The outcomes of (area, seed) pairs, each as soon as it is there; a process that dies is a fault of its case."""
    cases, outcomes = list(cases), []
    if jobs == 1:
        for case in cases:
            outcomes.append(run_case(*case))
            on_outcome(outcomes[-1])
        return outcomes
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for chunk in _chunk_results(cases, jobs, folder):
            outcomes += chunk
            for outcome in chunk:
                on_outcome(outcome)
    return outcomes


def _chunk_results(cases, jobs, folder):
    chunks = [cases[i : i + _CHUNK] for i in range(0, len(cases), _CHUNK)]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(_run_chunk, chunk, folder) for chunk in chunks]
        for future in futures:
            try:
                yield future.result()
            except BrokenProcessPool:
                died = [path.read_text().split(":") for path in Path(folder).iterdir()]
                yield [Outcome(area, int(seed), ("its process, or the other one, died",), 0.0) for area, seed in died]
                return


def _run_chunk(chunk, folder):
    """Run some cases, leaving which one it is where it can be found if the process dies."""
    note, outcomes = Path(folder, str(os.getpid())), []
    for area, seed in chunk:
        note.write_text(f"{area}:{seed}")
        outcomes.append(run_case(area, seed))
    note.unlink()
    return outcomes
