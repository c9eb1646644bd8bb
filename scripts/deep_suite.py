"""Deep narrow networks that back-propagation leaves at the mean: success and time of our solver and of its peers.

    python scripts/deep_suite.py [--quick] [--json FILE] [--figure FILE] [--markdown FILE] [--full]
                                 [--seeds N] [--peer-seeds N] [--limit S] [--peer-limit S] [--budget MINUTES]
                                 [--methods NAME ...] [--starts NAME ...] [--resume]

Data, per seed: 100 samples, x uniform on [-3, 3], y = sin(2x) + 0.05 e; weight decay 1e-3.  A run succeeds when the
mean squared error of the *rollout* falls below 0.01; the constant predictor has about 0.5.  Everything runs on one BLAS
thread in one process, and seconds are seconds of that thread's processor: a busy machine changes little.  The clock
starts before the initialisation and stands still while a check is made (every outer iteration of ours, that is every 5
to 20 Gauss-Newton steps, and every iteration of the peers).

Starts: ``standard`` is W ~ N(0, 1)/sqrt(n_in), b = 0, the same for all methods; ``states`` is our state-trajectory
initialisation, given to all methods too; ``auto`` is what our solver chooses by itself.  The row "initialisation alone"
trains nothing.  Controls: our solver without restarts but with a softer penalty, and single-shooting
Levenberg-Marquardt *with* our restarts.

Runs stop at the target, with ``--full`` they go on; the gradient norms mean something only then.  IPOPT's history
holds no weights: its time is that of the first iteration with 2 J / N < 0.01, or of its end.  alpaqa takes no options,
so it runs in a process of its own that is ended after a limit of wall time.  Our runs come first, the others seed by
seed, so that a run cut short by ``--budget`` has seen every method; the JSON is rewritten after every run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import casadi as ca
import numpy as np
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from ocp_nn import Network, Options, Result, TrainingProblem
from ocp_nn.problem.trajectory import Trajectory
from ocp_nn.solvers.augmented_lagrangian.initialise import initialise
from ocp_nn.solvers.augmented_lagrangian.outer_loop import step, terminate
from ocp_nn.solvers.augmented_lagrangian.sample_start import begin
from ocp_nn.solvers.nlp.ipopt import IpoptOptions, solve_ipopt
from ocp_nn.solvers.nlp.transcription import multiple_shooting, single_shooting

TARGET = 0.01
CASES = (
    ("sigmoid", 10, 5),
    ("sigmoid", 20, 5),
    ("sigmoid", 40, 5),
    ("tanh", 10, 8),
    ("tanh", 30, 5),
    ("tanh", 50, 8),
    ("relu", 10, 8),
    ("relu", 20, 8),
    ("relu", 30, 8),
)
QUICK_CASES = (("sigmoid", 10, 5), ("relu", 10, 8))
STARTS = ("auto", "standard", "states")
ADAM_RATES = (1e-2, 3e-3, 1e-3)
# Controls up to which IPOPT is asked: its dense exact Hessian takes seconds an iteration beyond.
IPOPT_CONTROLS = 1300
# Without restarts the states must be freer from the start: 100 mean(y^2), a hundredth of the default.
SOFT_PENALTY = 50.0
# alpaqa cannot be asked to stop; its outer iterations take many seconds.
ALPAQA_LIMIT = 100.0


class Target(Exception):
    """Raised out of a peer's callback: target or time limit reached."""


class Watch:
    """A clock that stands still during checks, the best rollout seen, and when the target was reached."""

    def __init__(self, problem: TrainingProblem, limit: float, stop_at_target: bool) -> None:
        self.problem, self.limit, self.stop_at_target = problem, limit, stop_at_target
        self.best: tuple[float, np.ndarray | None] = (np.inf, None)
        self.seconds_to_target: float | None = None
        self._began, self._excluded = time.process_time(), 0.0

    @property
    def seconds(self) -> float:
        """Processor seconds, checks left out."""
        return time.process_time() - self._began - self._excluded

    @property
    def deadline(self) -> float:
        """The ``time.perf_counter()`` value before which the limit cannot be reached."""
        return time.perf_counter() + self.limit - self.seconds

    def check(self, flat: np.ndarray) -> bool:
        """Look at controls; whether to stop."""
        paused = time.process_time()
        mse = rollout_mse(self.problem, flat)
        if mse < self.best[0]:
            self.best = mse, flat.copy()
        if mse < TARGET and self.seconds_to_target is None:
            self.seconds_to_target = paused - self._began - self._excluded
        self._excluded += time.process_time() - paused
        reached = self.seconds_to_target is not None and self.stop_at_target
        return reached or self.seconds > self.limit

    def status(self, otherwise: str) -> str:
        if self.seconds_to_target is not None and self.stop_at_target:
            return "target reached"
        return "time limit" if self.seconds > self.limit else otherwise


@dataclass(frozen=True, kw_only=True)
class Record:
    """One run; ``seconds_to_target`` is None where the target was not reached."""

    activation: str
    depth: int
    width: int
    seed: int
    method: str
    start: str
    success: bool
    rollout_mse: float
    seconds_to_target: float | None
    seconds: float
    status: str
    objective: float
    gradient_norm: float


def sin2x(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.uniform(-3.0, 3.0, (100, 1))
    return x, np.sin(2 * x) + 0.05 * rng.standard_normal(x.shape)


def rollout_mse(problem: TrainingProblem, flat: np.ndarray) -> float:
    with np.errstate(all="ignore"):
        error = problem.network.predict(problem.network.split(flat), problem.x) - problem.y
        mse = float(np.mean(error**2))
    return mse if np.isfinite(mse) else np.inf


def objective_and_gradient(problem: TrainingProblem, flat: np.ndarray) -> tuple[float, np.ndarray]:
    """J and its gradient by one rollout and one back-propagation."""
    controls = problem.network.split(flat)
    states = [problem.x]
    for layer, u in zip(problem.network.layers, controls, strict=True):
        states.append(layer.forward(states[-1], u))
    stages = problem.linearize(Trajectory(controls, tuple(states[:-1])), tuple(states[1:]))
    gradient = problem.backpropagate(stages, controls, problem.output_gradients(states[-1:])).gradient
    return problem.cost(controls, states[-1:]), np.concatenate(gradient)


# ---- methods: (problem, start, seed, watch) -> how it ended, if neither by the target nor by the limit

Method = Callable[[TrainingProblem, str, int, Watch], str]


def starting_controls(problem: TrainingProblem, start: str, seed: int) -> np.ndarray:
    return np.concatenate(initialise(problem, start, seed))


def alone(problem: TrainingProblem, start: str, seed: int, watch: Watch) -> str:
    watch.check(starting_controls(problem, start, seed))
    return "not trained"


def ours(*, every_step: bool = False, **settings: object) -> Method:
    """Our solver, stepped by hand, with settings that differ from the defaults.

    Looked at after every outer iteration, or every step: what a time limit there would have returned.
    """

    def run(problem: TrainingProblem, start: str, seed: int, watch: Watch) -> str:
        def look(controls: Sequence[np.ndarray]) -> bool:
            return watch.check(np.concatenate(controls))

        observe = look if every_step else None
        options = Options(seed=seed, initialisation=start, **settings)
        state = begin(problem, options=options, deadline=watch.deadline, observe=observe)
        status, over = None, look(state.best.controls)
        while status is None and not over:
            state = step(problem, state, options, deadline=watch.deadline, observe=observe)
            status = terminate(problem, state, options)
            over = watch.seconds > watch.limit if every_step else look(state.best.controls)
        watch.check(np.concatenate(state.best.controls))
        return status.value if status is not None else "target reached"

    return run


def lbfgs(problem: TrainingProblem, start: str, seed: int, watch: Watch) -> str:
    def callback(flat: np.ndarray) -> None:
        if watch.check(flat):
            raise Target

    limits = {"maxiter": 10**6, "maxfun": 10**7, "maxcor": 20, "ftol": 0.0, "gtol": 1e-9}
    try:
        outcome = minimize(
            lambda flat: objective_and_gradient(problem, flat),
            starting_controls(problem, start, seed),
            jac=True,
            method="L-BFGS-B",
            callback=callback,
            options=limits,
        )
    except Target:
        return "target reached"
    watch.check(outcome.x)
    return "converged" if outcome.success else "stalled"


def adam(rate: float) -> Method:
    """Full-batch Adam (Kingma and Ba 2015) on J."""

    def run(problem: TrainingProblem, start: str, seed: int, watch: Watch) -> str:
        flat = starting_controls(problem, start, seed)
        mean, square, count = np.zeros_like(flat), np.zeros_like(flat), 0
        while not watch.check(flat):
            count += 1
            _, gradient = objective_and_gradient(problem, flat)
            mean = 0.9 * mean + 0.1 * gradient
            square = 0.999 * square + 0.001 * gradient**2
            flat = flat - rate * (mean / (1 - 0.9**count)) / (np.sqrt(square / (1 - 0.999**count)) + 1e-8)
        return "target reached"

    return run


def ipopt(problem: TrainingProblem, start: str, seed: int, watch: Watch) -> str:
    """Single shooting, exact Hessian."""
    controls = problem.network.split(starting_controls(problem, start, seed))
    options = IpoptOptions(ipopt={"max_cpu_time": watch.limit})
    result = solve_ipopt(single_shooting(problem), controls, options=options)
    watch.check(np.concatenate(result.trajectory.controls))
    hit = first_below_target(problem, result)
    if hit is not None:  # its history is in wall time
        watch.seconds_to_target = hit * min(1.0, watch.seconds / result.seconds)
    return result.status.value


def first_below_target(problem: TrainingProblem, result: Result) -> float | None:
    bound = 0.5 * TARGET * problem.num_samples * problem.network.num_outputs
    hits = (r.seconds for r in result.history if r.rollout_objective is not None and r.rollout_objective < bound)
    return next(hits, None)


def alpaqa(problem: TrainingProblem, start: str, seed: int, watch: Watch) -> str:
    """An augmented-Lagrangian code with a quasi-Newton inner solver, on the multiple-shooting program."""
    flat = starting_controls(problem, start, seed)
    receive, send = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_alpaqa, args=(problem, flat, send))
    process.start()
    answer = receive.recv() if receive.poll(watch.limit) else None
    process.kill()
    process.join()
    if answer is None:
        watch.check(flat)
        return "time limit"
    watch.check(answer[0])
    if watch.seconds_to_target is not None:
        watch.seconds_to_target = answer[1]
    return "ended"


def _alpaqa(problem: TrainingProblem, flat: np.ndarray, send: Connection) -> None:
    nlp = multiple_shooting(problem)
    solver = ca.nlpsol("alpaqa", "alpaqa", nlp.problem)
    solution = solver(**nlp.bounds, **nlp.pack(problem.rollout(problem.network.split(flat))))
    send.send((np.concatenate(nlp.unpack(solution).controls), time.process_time()))


PLAIN_LM = {"gradient_start": False, "shooting": "single", "second_order": False}
OURS: dict[str, Method] = {
    "ours": ours(),
    "ours, no restarts": ours(max_restarts=0, penalty=SOFT_PENALTY),
}
PEERS: dict[str, Method] = {
    "initialisation alone": alone,
    "single-shooting LM": ours(**PLAIN_LM, max_restarts=0),
    "single-shooting LM, our restarts": ours(**PLAIN_LM, max_restarts=10**6),
    "L-BFGS": lbfgs,
    "IPOPT": ipopt,
    "alpaqa": alpaqa,
    **{f"Adam {rate:g}": adam(rate) for rate in ADAM_RATES},
}
METHODS = OURS | PEERS


def applies(method: str, case: tuple[str, int, int], start: str) -> bool:
    """Whether the method is run at all: large Hessians, and alpaqa beyond the smallest case, take minutes."""
    activation, depth, width = case
    controls = Network.mlp([1, *[width] * depth, 1], activation).num_controls
    return {
        "IPOPT": controls <= IPOPT_CONTROLS and activation != "relu",
        "alpaqa": case == CASES[0] and start == "standard",
        "initialisation alone": start == "states",
    }.get(method, True)


def run(case: tuple[str, int, int], seed: int, method: str, start: str, limit: float, full: bool) -> Record:
    activation, depth, width = case
    problem = TrainingProblem(Network.mlp([1, *[width] * depth, 1], activation), *sin2x(seed), weight_decay=1e-3)
    watch = Watch(problem, limit, stop_at_target=not full)
    with np.errstate(over="ignore", invalid="ignore"):
        otherwise = METHODS[method](problem, start, seed, watch)
    mse, flat = watch.best
    objective, gradient = (np.inf, np.array([np.inf])) if flat is None else objective_and_gradient(problem, flat)
    return Record(
        activation=activation,
        depth=depth,
        width=width,
        seed=seed,
        method=method,
        start=start,
        success=watch.seconds_to_target is not None,
        rollout_mse=mse,
        seconds_to_target=watch.seconds_to_target,
        seconds=watch.seconds,
        status=watch.status(otherwise),
        objective=objective,
        gradient_norm=float(np.linalg.norm(gradient)),
    )


def plan(args: argparse.Namespace) -> Iterator[tuple[tuple[str, int, int], int, str, str]]:
    """Case, seed, method and start of every run: ours first, then the others seed by seed."""
    cases = QUICK_CASES if args.quick else CASES
    for methods, seeds in ((OURS, args.seeds), (PEERS, args.peer_seeds)):
        for seed in range(seeds):
            for method in (name for name in methods if name in args.methods):
                for start in (name for name in args.starts if name != "auto" or method == "ours"):
                    yield from ((case, seed, method, start) for case in cases if applies(method, case, start))


# ---- what is shown


def summary(records: Sequence[Record]) -> str:
    """Success and median seconds to the target: one table a start, one row a network, one column a method."""
    blocks = []
    for start in dict.fromkeys(r.start for r in records):
        some = [r for r in records if r.start == start]
        methods = [m for m in METHODS if any(r.method == m for r in some)]
        cases = list(dict.fromkeys((r.activation, r.depth, r.width) for r in some))
        lines = [
            f"**start: {start}**",
            "",
            "| network | " + " | ".join(methods) + " |",
            "|---" * (len(methods) + 1) + "|",
        ]
        for case in cases:
            cells = [
                cell([r for r in some if (r.activation, r.depth, r.width) == case and r.method == m]) for m in methods
            ]
            lines.append(f"| {case[0]} {case[1]}x{case[2]} | " + " | ".join(cells) + " |")
        totals = [total([r for r in some if r.method == m]) for m in methods]
        lines.append("| all | " + " | ".join(totals) + " |")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def total(records: Sequence[Record]) -> str:
    return f"**{sum(r.success for r in records)}/{len(records)}**"


def cell(records: Sequence[Record]) -> str:
    if not records:
        return "-"
    times = [r.seconds_to_target for r in records if r.seconds_to_target is not None]
    worst = f"MSE {np.median([r.rollout_mse for r in records]):.2g}"
    return f"{len(times)}/{len(records)} " + (f"{np.median(times):.2f} s" if times else f"({worst})")


# Okabe and Ito's colours, and a line style each, so that the figure survives grey print.
STYLES = {
    "ours": ("#D55E00", "-", 2.6),
    "ours, no restarts": ("#D55E00", "--", 1.6),
    "single-shooting LM": ("#0072B2", "-", 1.6),
    "single-shooting LM, our restarts": ("#0072B2", "--", 1.6),
    "L-BFGS": ("#009E73", "-.", 1.6),
    "Adam, best rate": ("#CC79A7", (0, (5, 1, 1, 1, 1, 1)), 1.6),
    "IPOPT": ("#000000", ":", 1.8),
    "initialisation alone": ("#777777", "-.", 1.4),
}


def best_adam(records: Sequence[Record]) -> list[Record]:
    """The Adam runs, for every network at the rate that succeeds most often there, then fastest."""
    rates = [m for m in METHODS if m.startswith("Adam")]
    best = []
    for case in dict.fromkeys((r.activation, r.depth, r.width) for r in records):
        groups = [[r for r in records if r.method == m and (r.activation, r.depth, r.width) == case] for m in rates]
        groups = [group for group in groups if group]
        if groups:
            best += max(groups, key=lambda g: (sum(r.success for r in g), -np.mean([r.seconds for r in g])))
    return best


def figure(records: Sequence[Record], path: Path) -> None:
    """Share of runs that have reached the target, against seconds; one panel a start."""
    from matplotlib.figure import Figure

    panels = {
        "from standard weights": [r for r in records if r.start == "standard"],
        "from state trajectories (ours: also its own choice)": [r for r in records if r.start in ("states", "auto")],
    }
    canvas = Figure(figsize=(9.6, 4.4), layout="constrained")
    axes = canvas.subplots(1, 2, sharey=True)
    for ax, (title, some) in zip(axes, panels.items(), strict=True):
        for name, (colour, dashes, thickness) in STYLES.items():
            runs = (
                best_adam(some)
                if name.startswith("Adam")
                else [r for r in some if r.method == name and r.start != "auto"]
            )
            label = "IPOPT (smooth networks up to 40x5)" if name == "IPOPT" else name
            curve(ax, runs, label, color=colour, linestyle=dashes, linewidth=thickness)
        curve(
            ax,
            [r for r in some if r.start == "auto"],
            "ours, default",
            color="#E69F00",
            linestyle=(0, (1, 1)),
            linewidth=2.6,
        )
        ax.set(title=title, xlabel="seconds (one thread)", xscale="log", xlim=(5e-3, 25), ylim=(-0.03, 1.03))
        ax.grid(alpha=0.3)
    axes[0].set_ylabel(f"share of runs with rollout MSE < {TARGET:g}")
    entries = {label: line for ax in axes for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    canvas.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=3, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path, dpi=150)


def curve(ax: object, runs: Sequence[Record], label: str, **style: object) -> None:
    if not runs:
        return
    times = sorted(r.seconds_to_target for r in runs if r.seconds_to_target is not None)
    share = np.arange(1, len(times) + 1) / len(runs)
    ends = share[-1] if len(times) else 0.0
    ax.step([1e-3, *times, 100.0], [0.0, *share, ends], where="post", label=label, **style)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two networks, one seed, short limits")
    parser.add_argument("--full", action="store_true", help="go on after the target, to each method's own end")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--peer-seeds", type=int, help="seeds of the other methods (default: --seeds)")
    parser.add_argument("--limit", type=float, default=20.0, help="seconds a run of ours")
    parser.add_argument("--peer-limit", type=float, help="seconds a run of another method (default: --limit)")
    parser.add_argument("--budget", type=float, default=np.inf, help="minutes after which no run is begun")
    parser.add_argument("--resume", action="store_true", help="keep what the JSON already holds, run what it does not")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS, metavar="NAME")
    parser.add_argument("--starts", nargs="+", default=list(STARTS), choices=STARTS, metavar="NAME")
    for name in ("json", "figure", "markdown"):
        parser.add_argument(f"--{name}", type=Path)
    args = parser.parse_args(arguments)
    if args.quick:
        args.seeds, args.limit = 1, min(args.limit, 5.0)
    args.peer_seeds = args.seeds if args.peer_seeds is None else args.peer_seeds
    args.peer_limit = args.limit if args.peer_limit is None else args.peer_limit
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse(arguments)
    records = read_records(args.json) if args.resume else []
    done = {((r.activation, r.depth, r.width), r.seed, r.method, r.start) for r in records}
    began, cut_short = time.perf_counter(), False
    with threadpool_limits(1):
        for case, seed, method, start in (entry for entry in plan(args) if entry not in done):
            cut_short = time.perf_counter() - began > 60 * args.budget
            if cut_short:
                break
            limit = args.limit if method in OURS else args.peer_limit
            if method == "alpaqa":
                limit = max(limit, ALPAQA_LIMIT)
            records.append(run(case, seed, method, start, limit, args.full))
            print(progress(records[-1]), flush=True)
            if args.json:
                args.json.parent.mkdir(parents=True, exist_ok=True)
                args.json.write_text(json.dumps({"records": [asdict(r) for r in records]}, indent=1))
    text = summary(records) + ("\n\nThe time budget ended before every run had been made." if cut_short else "")
    print("\n" + text)
    if args.markdown:
        args.markdown.parent.mkdir(parents=True, exist_ok=True)
        args.markdown.write_text(text + "\n")
    if args.figure:
        figure(records, args.figure)


def read_records(path: Path | None) -> list[Record]:
    """The records of an earlier run."""
    if path is None or not path.is_file():
        return []
    return [Record(**fields) for fields in json.loads(path.read_text())["records"]]


def progress(record: Record) -> str:
    hit = "-" if record.seconds_to_target is None else f"{record.seconds_to_target:.2f} s"
    name = f"{record.activation} {record.depth}x{record.width}"
    return (
        f"{name:14} seed {record.seed}  {record.method:34} {record.start:9} MSE {record.rollout_mse:.4f}  {hit:8} "
        f"of {record.seconds:5.1f} s  {record.status}"
    )


if __name__ == "__main__":
    main()
