"""Benchmark of forward dynamic programming: forms x sizes, against bare BLAS, IPOPT and CasADi's solvers.

    python scripts/bench_forward_dp.py [--quick] [--only PART ...] [--json FILE] [--output FOLDER]

Everything runs on one BLAS thread, and times are those of the processor: other programs on the machine disturb them
little.  ``milliseconds`` is the linear algebra of one step (prepare and step, without refinement); evaluating the
stages and their sensitivities is timed beside it.  ``blas_ratio`` compares with bare BLAS products (at the form's own
shapes) and the Cholesky factorisation that hold the same operations, timed in the same run.  ``peak_bytes`` is working
memory, beside the subproblem and the step returned.
``relative_error`` is against extended precision, of the step that was timed; ``refined_error`` after the one round of
refinement that ``forward_dp.solve`` makes by default.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from bench_forward_dp_peers import IPOPT_VARIANTS, PEERS, ipopt_iterations, quadratic_program
from scipy.linalg import blas, lapack
from threadpoolctl import threadpool_limits

from ocp_nn import Network, TrainingProblem, Trajectory, forward_dp
from ocp_nn.forward_dp import Subproblem
from ocp_nn.forward_dp.cost import chunk_size, predict_cost

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from oracles import dense_step, refined_step

INF = float("inf")
MIB = 2**20
# Repetitions stop after this many seconds; the best one counts.
BUDGET = 1.0
PARTS = ("forms", "peers", "targets", "growth", "errors")
# Multiplications in longdouble that a reference may cost, about a minute.
REFERENCE_LIMIT = 2e10


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network of equal hidden layers, one output, and one penalty for all nodes."""

    num_samples: int
    depth: int
    width: int
    num_inputs: int = 1
    penalty: float = 100.0
    weight_decay: float = 1e-3

    @property
    def sizes(self) -> list[int]:
        return [self.num_inputs, *[self.width] * self.depth, 1]


@dataclass(frozen=True, eq=False)
class Instance:
    """A case with random data, at states near the rollout."""

    problem: TrainingProblem
    trajectory: Trajectory
    outputs: tuple[np.ndarray, ...]
    subproblem: Subproblem


def instance(case: Case) -> Instance:
    rng = np.random.default_rng(0)
    network = Network.mlp(case.sizes)
    x = rng.standard_normal((case.num_samples, case.num_inputs))
    y = np.sin(2 * x.sum(axis=1)) + 0.1 * rng.standard_normal(case.num_samples)
    problem = TrainingProblem(network, x, y, case.weight_decay)
    trajectory = problem.rollout(network.init_controls(0))
    for state in trajectory.states[1:]:
        state += 0.1 * rng.standard_normal(state.shape)
    outputs = problem.outputs(trajectory)
    gaps = tuple(f - s for f, s in zip(outputs[:-1], trajectory.states[1:], strict=True))
    subproblem = Subproblem.of_network(
        stages=problem.linearize(trajectory, outputs),
        controls=trajectory.controls,
        gaps=gaps,
        residual=outputs[-1] - problem.y,
        penalty=(case.penalty,) * len(gaps),
        weight_decay=case.weight_decay,
        damping=0.0,
    )
    return Instance(problem, trajectory, outputs, subproblem)


def best_milliseconds(work: Callable[[], object], repeats: int = 20) -> float:
    """The shortest of some runs, after one to warm up where it is short."""
    best, start = INF, time.process_time()
    for k in range(repeats + 1):
        begin = time.process_time()
        work()
        now = time.process_time()
        if k > 0 or now - begin > BUDGET / 2:
            best = min(best, now - begin)
        if now - start > BUDGET and best < INF:
            break
    return 1e3 * best


def evaluation(made: Instance) -> None:
    """All stages and all sensitivities at the trajectory; the lazy slopes are asked for."""
    outputs = made.problem.outputs(made.trajectory)
    for stage in made.problem.linearize(made.trajectory, outputs):
        _ = stage.slope


def fresh(made: Instance) -> Subproblem:
    """The subproblem without anything computed earlier, but for the slopes: they belong to the evaluation."""
    stages = made.problem.linearize(made.trajectory, made.outputs)
    for stage in stages:
        _ = stage.slope
    (term,) = made.subproblem.terms
    return replace(made.subproblem, dynamics=tuple(stages[:-1]), terms=(replace(term, output=stages[-1]),))


def traced(sub: Subproblem, form: str) -> tuple[forward_dp.Step, int]:
    """A step, and the largest working memory on the way: bytes beside the subproblem and the step itself."""
    tracemalloc.start()
    prepared = forward_dp.prepare(sub, form)
    of_prepare = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    step = prepared.step(refinements=0)
    of_step = tracemalloc.get_traced_memory()[1] - sum(a.nbytes for a in (*step.states, *step.multipliers))
    tracemalloc.stop()
    return step, max(of_prepare, of_step)


# --- bare BLAS ---------------------------------------------------------------------------------------------------


def bare_milliseconds(case: Case, sub: Subproblem, form: str, flops: float) -> float:
    """Bare BLAS with the operations of a form: its Cholesky factorisation, the rest as products of its own shapes."""
    size = {"primal": sub.num_controls, "primal_qr": sub.num_controls}.get(form, case.num_samples)
    rest = max(0.0, flops - size**3 / 3)
    return cholesky_milliseconds(size) + 1e3 * rest / product_rate(case, sub, form)


def cholesky_milliseconds(size: int) -> float:
    matrix = np.asfortranarray(size * np.eye(size) + 1.0)
    work = np.empty_like(matrix)

    def factor() -> None:
        np.copyto(work, matrix)
        lapack.dpotrf(work, lower=0, overwrite_a=1, clean=0)

    return best_milliseconds(factor)


def product_rate(case: Case, sub: Subproblem, form: str) -> float:
    """Operations a second of a bare product of the form's shapes.

    Rank-k updates for the primal form, an N x N product over the layers' width for the dual one, square products of
    the stacked states for the other two.
    """
    rng = np.random.default_rng(1)
    if form.startswith("primal"):
        rows = rng.standard_normal((min(case.num_samples, chunk_size(sub)), sub.num_controls))
        gram = np.zeros((sub.num_controls, sub.num_controls), order="F")
        elapsed = best_milliseconds(lambda: blas.dsyrk(1.0, rows.T, beta=1.0, c=gram, overwrite_c=1))
        return 1e3 * rows.shape[0] * rows.shape[1] ** 2 / elapsed
    inner = case.width if form == "dual" else min(1000, case.num_samples * case.width)
    outer = case.num_samples if form == "dual" else inner
    a, b = rng.standard_normal((outer, inner)), rng.standard_normal((inner, outer))
    product = np.empty((outer, outer))
    return 1e3 * 2 * outer**2 * inner / best_milliseconds(lambda: np.dot(a, b, out=product))


# --- one form on one case -------------------------------------------------------------------------------------


def reference(sub: Subproblem) -> np.ndarray | None:
    """du in extended precision; None where it would take minutes."""
    unknowns = sub.num_controls + sum(gap.size for gap in sub.gaps)
    if unknowns <= 400:
        return dense_step(sub)
    costs = 6 * 4 * sub.num_samples * sub.num_controls
    return refined_step(sub, rounds=3) if costs <= REFERENCE_LIMIT else None


def relative_error(step: forward_dp.Step, exact: np.ndarray | None) -> float | None:
    if exact is None:
        return None
    return float(
        np.linalg.norm((np.concatenate(step.controls) - exact).astype(float)) / np.linalg.norm(exact.astype(float))
    )


@dataclass
class Bench:
    """What has been measured, in the shape of the JSON file."""

    records: list[dict] = field(default_factory=list)
    exponents: list[dict] = field(default_factory=list)
    peers: list[dict] = field(default_factory=list)
    accuracy: list[dict] = field(default_factory=list)
    million: dict = field(default_factory=dict)

    def measure(self, case: Case, form: str, *, check: bool = True) -> dict:
        """Time a form on a case and record it."""
        made = instance(case)
        sub = made.subproblem
        exact = reference(sub) if check else None
        prediction = predict_cost(sub, form)
        milliseconds = best_milliseconds(
            lambda: forward_dp.prepare(fresh(made), form).step(refinements=0)
        ) - best_milliseconds(lambda: fresh(made))
        prepare = best_milliseconds(lambda: forward_dp.prepare(sub, form))
        step, peak = traced(fresh(made), form)
        bare = bare_milliseconds(case, sub, form, prediction.flops)
        record = {
            "form": form,
            "num_samples": case.num_samples,
            "depth": case.depth,
            "width": case.width,
            "num_controls": sub.num_controls,
            "penalty": case.penalty,
            "milliseconds": milliseconds,
            "relative_error": relative_error(step, exact),
            "refined_error": relative_error(forward_dp.solve(sub, form), exact),
            "flops": prediction.flops,
            "gflops_per_second": 1e-6 * prediction.flops / milliseconds,
            "blas_ratio": milliseconds / bare,
            "peak_bytes": peak,
            "ipopt_iteration_milliseconds": None,
            "prepare_milliseconds": prepare,
            "evaluation_milliseconds": best_milliseconds(lambda: evaluation(made)),
            "predicted_milliseconds": 1e3 * prediction.seconds,
            "predicted_bytes": prediction.bytes,
        }
        self.records.append(record)
        print_record(record)
        return record

    def grow(
        self, form: str, variable: str, cases: Iterable[Case], *, key: str = "milliseconds", label: str = ""
    ) -> None:
        """Measure cases that differ in one variable and fit the exponent."""
        records = [self.measure(case, form, check=False) for case in cases]
        sizes, times = [record[variable] for record in records], [record[key] for record in records]
        value = float(np.polyfit(np.log(sizes), np.log(times), 1)[0])
        measured = {"of": key, "sizes": sizes, "milliseconds": times}
        self.exponents.append({"form": form, "variable": label or variable, "value": value, **measured})
        print(f"  {form}: {key} grows as {label or variable}^{value:.2f}")

    def against_ipopt(self, case: Case, variants: list[str]) -> None:
        """A step and its evaluation against one IPOPT iteration on the same multiple-shooting NLP."""
        record = self.measure(case, forward_dp.choose_form(instance(case).subproblem)[0])
        made = instance(case)
        results = ipopt_iterations(made.problem, made.trajectory, variants)
        times = {name: value for name, value in results.items() if value is not None}
        record["ipopt_iteration_milliseconds"] = min(times.values(), default=None)
        ours = record["milliseconds"] + record["evaluation_milliseconds"]
        for name, value in results.items():
            factor = None if value is None else value / ours
            self.peers.append({"peer": f"ipopt, {name}", **asdict(case), "milliseconds": value, "factor": factor})
            print(
                f"  ipopt, {name}: {value and round(value, 1)} ms an iteration, {factor and round(factor)} times a step"
            )

    def against_casadi(self, case: Case) -> None:
        """The same least-squares problem as a QP for CasADi's solvers."""
        record = self.measure(case, "dual")
        sub = instance(case).subproblem
        program, exact = quadratic_program(sub), reference(sub)
        mean = np.concatenate(sub.mean_controls)
        for name, peer in PEERS.items():
            try:
                milliseconds, w = min((peer(program) for _ in range(3)), key=lambda timed: timed[0])
            except RuntimeError as failure:
                print(f"  {name}: does not run ({str(failure).splitlines()[0]})")
                continue
            error = None
            if exact is not None:
                error = float(np.linalg.norm((w + mean - exact).astype(float)) / np.linalg.norm(exact.astype(float)))
            factor = milliseconds / record["milliseconds"]
            self.peers.append(
                {"peer": name, **asdict(case), "milliseconds": milliseconds, "factor": factor, "relative_error": error}
            )
            print(f"  {name}: {milliseconds:.1f} ms, {factor:.0f} times a step, error {error:.0e}")

    def table_of_errors(self) -> None:
        """Errors of every form over penalties and weights, before and after one refinement."""
        print("\nrelative error without / with one refinement, N = 20, 1-5-5-1, gaps and residual of order one")
        rng = np.random.default_rng(0)
        print(f"{'beta':>8} {'rho':>8}" + "".join(f"{form:>20}" for form in forward_dp.FORMS))
        for weight_decay in (1e-3, 1e-8):
            for penalty in (1e-2, 1.0, 1e4, 1e8, 1e12, INF):
                case = Case(num_samples=20, depth=2, width=5, penalty=penalty, weight_decay=weight_decay)
                sub = instance(case).subproblem
                gaps = tuple(rng.standard_normal(gap.shape) for gap in sub.gaps)
                (term,) = sub.terms
                term = replace(term, residual=rng.standard_normal(sub.residual.shape))
                sub = replace(sub, gaps=gaps, terms=(term,))
                exact = dense_step(sub)
                cells = []
                for form in forward_dp.FORMS:
                    plain, refined = (relative_error(forward_dp.solve(sub, form, refinements=n), exact) for n in (0, 1))
                    entry = {"form": form, "penalty": penalty, "weight_decay": weight_decay}
                    self.accuracy.append({**entry, "relative_error": plain, "refined_error": refined})
                    cells.append(f"{plain:.0e} / {refined:.0e}")
                print(f"{penalty:8.0e} {weight_decay:8.0e}" + "".join(f"{cell:>20}" for cell in cells))


def print_record(record: dict) -> None:
    error = "      -" if record["refined_error"] is None else f"{record['refined_error']:7.0e}"
    print(
        f"{record['form']:>12} N={record['num_samples']:<8} depth={record['depth']:<3} width={record['width']:<3} "
        f"P={record['num_controls']:<6} {record['milliseconds']:9.2f} ms "
        f"(predicted {record['predicted_milliseconds']:8.2f})  "
        f"evaluation {record['evaluation_milliseconds']:7.2f} ms  {record['gflops_per_second']:5.1f} Gflop/s  "
        f"{record['blas_ratio']:5.1f} x BLAS  {record['peak_bytes'] / MIB:7.1f} MiB (predicted "
        f"{record['predicted_bytes'] / MIB:6.1f})  error {error}",
        flush=True,
    )


# --- a million samples --------------------------------------------------------------------------------------------

MILLION = Case(num_samples=1_000_000, depth=2, width=20, num_inputs=8)


def million() -> dict:
    """One step on a million samples in a process of its own: seconds and resident bytes."""
    output = subprocess.run([sys.executable, __file__, "--million"], capture_output=True, text=True, check=True).stdout
    return json.loads(output)


def million_here() -> None:
    with threadpool_limits(1):
        made = instance(MILLION)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.process_time()
        step = forward_dp.prepare(made.subproblem).step(refinements=0)
        seconds = time.process_time() - start
    print(
        json.dumps(
            {
                "form": step.form,
                "seconds": seconds,
                "resident_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
                "resident_bytes_of_the_data": 1024 * before,
            }
        )
    )


# --- everything ------------------------------------------------------------------------------------------------


def growth(bench: Bench, quick: bool) -> None:
    """Exponents in depth, samples and width; the sizes are those at which the leading term leads."""
    print("\ngrowth")
    tiny = Case(num_samples=20, depth=3, width=4)
    small = Case(num_samples=50, depth=4, width=8)
    dual = Case(num_samples=250 if quick else 500, depth=8, width=20 if quick else 40)
    primal = Case(num_samples=10_000 if quick else 20_000, depth=2, width=8, num_inputs=4)
    depths, widths = (4, 8, 16, 32), (1, 2, 4)
    bench.grow("information", "depth", [replace(tiny, depth=depth) for depth in depths])
    bench.grow("information", "num_samples", [replace(tiny, num_samples=20 * n) for n in widths])
    bench.grow("information", "width", [replace(tiny, width=4 * n) for n in widths])
    bench.grow("covariance", "depth", [replace(small, depth=depth) for depth in depths])
    bench.grow("covariance", "num_samples", [replace(small, num_samples=50 * n) for n in widths])
    bench.grow("covariance", "width", [replace(small, width=8 * n) for n in widths])
    bench.grow("dual", "depth", [replace(dual, depth=depth) for depth in depths])
    samples = [replace(dual, num_samples=dual.num_samples * n) for n in widths]
    bench.grow("dual", "num_samples", samples, key="prepare_milliseconds")
    bench.grow("dual", "num_samples", samples)
    bench.grow("dual", "width", [replace(dual, width=dual.width * n) for n in widths])
    bench.grow("primal", "depth", [replace(primal, depth=depth) for depth in (2, 4, 8, 16)])
    # its cost is N P^2, whatever the depth that P controls are spread over
    spread = [replace(primal, depth=depth, width=width) for depth, width in ((2, 20), (4, 12), (8, 8), (16, 6))]
    bench.grow("primal", "depth", spread, label="depth_at_equal_controls")
    bench.grow("primal", "num_samples", [replace(primal, num_samples=primal.num_samples * n) for n in widths])
    bench.grow("primal", "width", [replace(primal, width=8 * n) for n in widths])


def run(quick: bool, parts: Sequence[str] = PARTS) -> Bench:
    bench = Bench()
    work = {"forms": forms, "peers": peers, "targets": targets, "growth": growth, "errors": errors}
    for name in PARTS:
        if name in parts:
            work[name](bench, quick)
    return bench


def forms(bench: Bench, quick: bool) -> None:
    print("forms on one tiny problem")
    for form in forward_dp.FORMS:
        bench.measure(Case(num_samples=20, depth=2, width=5), form)


def peers(bench: Bench, quick: bool) -> None:
    print("\nagainst IPOPT and CasADi's solvers")
    bench.against_casadi(Case(num_samples=20, depth=2, width=5))
    bench.against_ipopt(Case(num_samples=20, depth=2, width=5), list(IPOPT_VARIANTS))
    if not quick:
        bench.against_casadi(Case(num_samples=50, depth=4, width=10))
        bench.against_ipopt(Case(num_samples=50, depth=4, width=10), ["mumps METIS"])
        bench.against_ipopt(Case(num_samples=100, depth=4, width=5), ["mumps METIS"])
        bench.against_ipopt(Case(num_samples=100, depth=4, width=10), list(IPOPT_VARIANTS))
        bench.against_ipopt(Case(num_samples=200, depth=4, width=10), ["mumps METIS"])
        bench.against_ipopt(Case(num_samples=400, depth=4, width=10), ["mumps METIS"])
        bench.against_ipopt(Case(num_samples=1000, depth=4, width=10), ["mumps METIS"])
        bench.against_ipopt(Case(num_samples=100, depth=4, width=15), ["mumps METIS"])


def targets(bench: Bench, quick: bool) -> None:
    print("\ntargets")
    bench.measure(Case(num_samples=1000, depth=4, width=20), "dual")
    bench.measure(Case(num_samples=1000, depth=10, width=50), "dual")
    for samples in (10_000,) if quick else (10_000, 100_000):
        bench.measure(Case(num_samples=samples, depth=2, width=20, num_inputs=8), "primal")
    bench.measure(Case(num_samples=2_000 if quick else 10_000, depth=2, width=20, num_inputs=8), "primal_qr")


def errors(bench: Bench, quick: bool) -> None:
    bench.table_of_errors()
    if not quick:
        bench.million = million()
        print(
            f"\na million samples: {bench.million['seconds']:.1f} s with the {bench.million['form']} form, "
            f"{bench.million['resident_bytes'] / MIB:.0f} MiB resident"
        )


def draw(bench: Bench, path: Path) -> None:
    """Milliseconds against samples, depth and width, log-log, with the fitted exponents."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    figure = Figure(figsize=(12, 4), layout="constrained")
    variables = ("num_samples", "depth", "width")
    markers = dict(zip(dict.fromkeys(fit["form"] for fit in bench.exponents), "os^Dvx", strict=False))
    for axes, variable in zip(figure.subplots(1, 3, sharey=True), variables, strict=True):
        for fit in bench.exponents:
            if fit["variable"] == variable and fit["of"] == "milliseconds":
                label = f"{fit['form']}: exponent {fit['value']:.2f}"
                axes.loglog(fit["sizes"], fit["milliseconds"], marker=markers[fit["form"]], label=label)
        axes.set_xscale("log", base=2 if variable != "num_samples" else 10)
        sizes = {size for fit in bench.exponents if fit["variable"] == variable for size in fit["sizes"]}
        axes.set_xticks(sorted(sizes))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(variable.removeprefix("num_"))
        axes.grid(True, which="both", alpha=0.3)
        axes.legend(fontsize="small")
    figure.axes[0].set_ylabel("milliseconds, one thread")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, no large IPOPT run: about a minute")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements there")
    parser.add_argument("--output", type=Path, default=Path("results"), metavar="FOLDER", help="where the figure goes")
    parser.add_argument("--million", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.million:
        million_here()
        return 0
    with threadpool_limits(1):
        bench = run(args.quick, args.only)
    if bench.exponents:
        figure = args.output / "forward_dp.png"
        draw(bench, figure)
        print(f"figure: {figure}")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(asdict(bench), indent=1))
        print(f"measurements: {args.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
