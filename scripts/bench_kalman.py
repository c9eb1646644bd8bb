"""Benchmark of forward dynamic programming in Kalman form: growth with the horizon and the controls, a step, memory.

    python scripts/bench_kalman.py [--quick] [--only PART ...] [--json FILE]

A step is all of it: the filter (prepare), the factorisation for a damping, and the minimiser.  Times are those of the
processor, the best of some runs on one BLAS thread.  The matrices A and B are ready, as random numbers, but for the
part ``memory``, where B exists a block of stages at a time and is evaluated twice a step.  That part runs in a process
of its own, whose largest resident memory is read at its end, and ``first`` in new processes too: the seconds until the
first step where the compiled loops are not in numba's cache, and where they are.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from ocp_nn import forward_dp
from ocp_nn.forward_dp import StackedTerms, Subproblem
from ocp_nn.forward_dp.cost import predict_cost
from ocp_nn.network.stacked_stages import LazyStages, StackedStages

PARTS = ("step", "horizon", "controls", "memory", "first")
# Repetitions stop after this many seconds.
BUDGET = 2.0


@dataclass(frozen=True, kw_only=True)
class Case:
    """A system with one measured output, one record and one control for all stages."""

    horizon: int = 1024
    width: int = 2
    controls: int = 60
    penalty: float = 100.0


def subproblem(case: Case, *, lazy: bool = False) -> Subproblem:
    """Random stable dynamics; ``lazy`` ones have their B made a block at a time, as a product with one small matrix."""
    rng = np.random.default_rng(0)
    stages, n, size = case.horizon, case.width, case.controls
    a = 0.9 * np.linalg.qr(rng.standard_normal((stages, 1, n, n)))[0]
    c = rng.standard_normal((stages, 1, 1, n))
    base = rng.standard_normal((n, size)) / np.sqrt(size)
    b_scale, d_scale = rng.standard_normal((stages, 1, n, 1)), rng.standard_normal((stages, 1, 1, 1))
    steps = slice(0, stages - 1)
    if lazy:
        dynamics: StackedStages = LazyStages(
            lambda start, stop: (a[start:stop], b_scale[start:stop] * base), (stages - 1, 1, n, n, size)
        )
        outputs: StackedStages = LazyStages(
            lambda start, stop: (c[start:stop], d_scale[start:stop] * base[:1]), (stages, 1, 1, n, size)
        )
    else:
        dynamics, outputs = StackedStages(a[steps], b_scale[steps] * base), StackedStages(c, d_scale * base[:1])
    return Subproblem(
        dynamics=dynamics,
        terms=StackedTerms(outputs, rng.standard_normal((stages, 1, 1)), stages=range(stages)),
        controls=(rng.standard_normal(size),),
        blocks=np.zeros(stages - 1, dtype=np.intp),
        gaps=0.1 * rng.standard_normal((stages - 1, 1, n)),
        penalty=np.full(stages - 1, case.penalty),
        weight_decay=1e-3,
        damping=1e-2,
        initial_gap=np.zeros((1, n)),
        initial_weight=1.0,
    )


def best_milliseconds(work: Callable[[], object], repeats: int = 30) -> float:
    """The shortest of some runs, after one to warm up where it is short."""
    best, start = float("inf"), time.process_time()
    for k in range(repeats + 1):
        begin = time.process_time()
        work()
        now = time.process_time()
        if k > 0 or now - begin > BUDGET / 2:
            best = min(best, now - begin)
        if now - start > BUDGET and best < float("inf"):
            break
    return 1e3 * best


def measure(case: Case) -> dict:
    """Milliseconds of a step and of its parts."""
    sub = subproblem(case)
    prepared = forward_dp.prepare(sub, "kalman")
    damped = prepared.damped()
    record = {
        **asdict(case),
        "milliseconds": best_milliseconds(lambda: forward_dp.prepare(sub, "kalman").step(refinements=0)),
        "prepare_milliseconds": best_milliseconds(lambda: forward_dp.prepare(sub, "kalman")),
        "factorise_milliseconds": best_milliseconds(prepared.damped),
        "solve_milliseconds": best_milliseconds(lambda: damped.step(refinements=0)),
        "refined_milliseconds": best_milliseconds(lambda: damped.step(refinements=1)),
        "predicted_milliseconds": 1e3 * predict_cost(sub, "kalman").seconds,
        "chosen": forward_dp.choose_form(sub)[0],
    }
    print(
        f"T={case.horizon:<7} n={case.width} P={case.controls:<4} {record['milliseconds']:9.2f} ms "
        f"(predicted {record['predicted_milliseconds']:8.2f}): filter {record['prepare_milliseconds']:.2f}, "
        f"factorisation {record['factorise_milliseconds']:.3f}, solution {record['solve_milliseconds']:.2f}, "
        f"with a refinement {record['refined_milliseconds']:.2f}; auto takes {record['chosen']}",
        flush=True,
    )
    return record


def growth(variable: str, cases: Iterable[Case]) -> dict:
    """Measure cases that differ in one variable and fit the exponent."""
    records = [measure(case) for case in cases]
    sizes, times = ([record[key] for record in records] for key in (variable, "milliseconds"))
    exponent = float(np.polyfit(np.log(sizes), np.log(times), 1)[0])
    print(f"a step grows as {variable}^{exponent:.3f}")
    return {"variable": variable, "exponent": exponent, "records": records}


def step(quick: bool) -> dict:
    """The step that the project has a target for: 3 ms."""
    return measure(Case())


def horizon(quick: bool) -> dict:
    longest = 13 if quick else 17
    return growth("horizon", [Case(horizon=2**power) for power in range(10, longest + 1)])


def controls(quick: bool) -> dict:
    return growth("controls", [Case(controls=size) for size in ((60, 120) if quick else (60, 120, 240, 480))])


def in_a_new_process(*arguments: str, **environment: str) -> dict:
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | environment)
    return json.loads(done.stdout)


def memory(quick: bool) -> dict:
    case = Case(horizon=4096 if quick else 131_072, width=4, controls=200)
    record = {**asdict(case), **in_a_new_process("--memory-of", json.dumps(asdict(case)))}
    record["bytes_of_B"] = 8 * case.horizon * case.width * case.controls
    print(
        f"T={case.horizon} n={case.width} P={case.controls}, B evaluated in blocks: {record['seconds']:.2f} s a step, "
        f"{record['resident_bytes'] / 2**20:.0f} MiB resident, {record['before_bytes'] / 2**20:.0f} MiB of them before "
        f"the step (B as a whole: {record['bytes_of_B'] / 2**20:.0f} MiB)"
    )
    return record


def memory_here(case: Case) -> dict:
    """A step of lazy stages in this process."""
    forward_dp.solve(subproblem(replace(case, horizon=16)), "kalman")  # loads the compiled loops
    sub = subproblem(case, lazy=True)
    before = largest_resident_bytes()
    start = time.process_time()
    forward_dp.solve(sub, "kalman", refinements=0)
    seconds = time.process_time() - start
    return {"seconds": seconds, "before_bytes": before, "resident_bytes": largest_resident_bytes()}


def largest_resident_bytes() -> int:
    """Of this process so far; what ``getrusage`` says includes, on Linux, the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        (peak,) = (line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def first(quick: bool) -> dict:
    """Seconds of the first step in a process, with nothing compiled and with everything in the cache."""
    with tempfile.TemporaryDirectory() as folder:
        runs = [in_a_new_process("--first-step", NUMBA_CACHE_DIR=folder)["seconds"] for _ in range(2)]
    record = dict(zip(("cold_seconds", "warm_seconds"), runs, strict=True))
    print(f"first step in a process: {runs[0]:.1f} s where it compiles, {runs[1]:.2f} s from the cache")
    return record


def first_here() -> dict:
    sub = subproblem(Case(horizon=64))
    start = time.perf_counter()
    forward_dp.solve(sub, "kalman")
    return {"seconds": time.perf_counter() - start}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes: seconds")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements there")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--first-step", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    with threadpool_limits(1):
        if args.memory_of or args.first_step:
            print(json.dumps(first_here() if args.first_step else memory_here(Case(**json.loads(args.memory_of)))))
            return 0
        work = {"step": step, "horizon": horizon, "controls": controls, "memory": memory, "first": first}
        results = {name: work[name](args.quick) for name in PARTS if name in args.only}
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(results, indent=1))
        print(f"measurements: {args.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
