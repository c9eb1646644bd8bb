"""The library and what people would use instead: same problems, same initial weights, same objective, one run.

    python scripts/bench.py [--quick] [--json FILE] [--summary FILE] [--markdown FILE] [--figures FOLDER] [--resume]
                            [--only {peers,uci,growth,report} ...] [--problems NAME ...] [--peers NAME ...]
                            [--merge FILE ...] [--before FILE] [--seeds N ...] [--limit S]
                            [--deep-seeds N] [--deep-limit S] [--budget MINUTES] [--splits N] [--sets NAME ...]
                            [--jobs N] [--data FOLDER]
    python scripts/bench.py --redraw FILE --figures FOLDER
    python scripts/bench.py --documents [NAME ...]

Three parts, all on one BLAS thread:

* **peers**: every method on every problem; objective against time, time to 5 % and 1 % above the best objective that
  any run has found, success, KKT residual by :func:`ocp_nn.certify`, working memory (:mod:`bench_suite.measures`).
* **uci**: test errors on the 20 standard splits, hyper-parameters chosen on training samples only
  (:mod:`bench_suite.uci`).
* **growth**: what a step costs as samples, depth and width grow (:mod:`bench_suite.growth`).

Runs go seed by seed, so that one cut short by ``--budget`` has seen every method.  The first seed is for all; on the
others only the best of a method's settings goes on (Adam's rates), and nothing that takes a minute a run.  The JSON is
rewritten every twenty seconds and at the end; ``--resume`` goes on from it and makes only the runs that it lacks, also
with other peers, seeds or limits.  ``--summary`` is the JSON without the traces, but with the times read from them;
``--markdown`` keeps what a file holds above the line ``<!-- generated -->``.  ``--merge`` adds the results of other
files: with ``--only report`` nothing is measured, and tables and figures are made of them.  ``--before`` adds our
default's runs from the file of an earlier commit as a method of its own, to say what a change has brought.

``--redraw`` makes the figures alone, from a JSON or a summary (docs/benchmarks.json) that is there.  ``--documents``
runs the commands behind everything else that the README shows (:mod:`bench_suite.documents`), half an hour.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is there: no threads, none to be stopped
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parent))
from bench_suite import documents, figures, growth, measures, peers, problems, report, scores, uci

from ocp_nn.report import environment, write_json

SCHEMA = 1
PARTS = ("peers", "uci", "growth")
REPORT = "report"
MARKER = "<!-- generated -->"
# The JSON is written no more often than this.
SAVE_SECONDS = 20.0
OPTIONAL = ("scikit-learn", "torch", "jax", "optimistix")


def empty() -> dict[str, Any]:
    """What the JSON holds before the first run."""
    return {
        "schema": SCHEMA,
        "environment": environment() | {"commit": commit(), "cpu": processor(), "optional": optional_versions()},
        "commands": [],
        "notes": [],
        "runs": [],
        "uci": [],
        "growth": [],
    }


def commit() -> str | None:
    """The commit of the checkout, marked where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        outcome = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return outcome.stdout.strip()


def processor() -> str:
    """The name of the processor."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text().splitlines() if table.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def optional_versions() -> dict[str, str | None]:
    """Versions of the peers' packages; None where one is absent."""
    versions: dict[str, str | None] = {}
    for name in OPTIONAL:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def plan(
    some_problems: Sequence[problems.Problem],
    some_peers: Sequence[peers.Peer],
    seeds: Sequence[int],
    deep_seeds: int,
) -> Iterator[tuple[problems.Problem, peers.Peer, int]]:
    """Every run of the first part, seed by seed; deep networks on the first few, what takes a minute on one."""
    for number, seed in enumerate(seeds):
        chosen = [peer for peer in some_peers if number == 0 or not peer.least_limit]
        some = [problem for problem in some_problems if number < deep_seeds or not problem.deep]
        yield from ((problem, peer, seed) for problem in some for peer in chosen)


class Bench:
    """The results so far, the file they go to, and when to stop."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.results = json.loads(args.json.read_text()) if args.resume and args.json.is_file() else empty()
        if self.results["schema"] != SCHEMA:
            raise ValueError(f"expected results of schema {SCHEMA}, received {self.results['schema']} in {args.json}")
        if args.only != [REPORT]:
            self.results["commands"].append("python scripts/bench.py " + shlex.join(args.command))
        self.ends = time.perf_counter() + 60 * args.budget
        self._next_save = time.perf_counter()

    @property
    def is_over(self) -> bool:
        """Whether no run is to be begun any more; noted."""
        over = time.perf_counter() > self.ends
        if over:
            self.note(f"the budget of {self.args.budget:g} minutes ended before every run had been made")
        return over

    def note(self, text: str) -> None:
        if text not in self.results["notes"]:
            self.results["notes"].append(text)
            print(text, flush=True)

    def add(self, part: str, row: dict[str, Any]) -> None:
        self.results[part].append(row)
        if time.perf_counter() >= self._next_save:
            self.save()

    def save(self) -> None:
        """Write the JSON; it grows to megabytes, and after every run that would take minutes in all."""
        if self.args.json:
            self.args.json.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.args.json, self.results)
        self._next_save = time.perf_counter() + SAVE_SECONDS

    def merge(self, other: dict[str, Any]) -> None:
        """Add the results of another file that these lack."""
        if other["schema"] != SCHEMA:
            raise ValueError(f"expected results of schema {SCHEMA}, received {other['schema']}")
        for part in ("commands", "notes", "runs", "uci", "growth"):
            self.results[part] += [entry for entry in other[part] if entry not in self.results[part]]

    def merge_before(self, other: dict[str, Any]) -> None:
        """Add our default's runs of an earlier commit."""
        name = f"{peers.OURS}, before"
        kept = [run for run in self.results["runs"] if run["family"] != name]
        earlier = [run | {"peer": name, "family": name} for run in other["runs"] if run["family"] == peers.OURS]
        self.results["runs"] = kept + earlier
        self.note(f"{name}: commit {other['environment']['commit']}, {other['environment']['cpu']}")

    def run_peers(self) -> None:
        """The first part."""
        args = self.args
        chosen, notes = problems.select(args.problems, args.data)
        some_peers = peers.select(args.peers)
        for note in notes:
            self.note(note)
        for peer in some_peers:
            if peers.missing(peer):
                self.note(f"{peer.name}: skipped, {', '.join(peers.missing(peer))} not installed")
        some_peers = [peer for peer in some_peers if not peers.missing(peer)]
        peers.preload(some_peers)
        done = {(r["problem"], r["peer"], r["seed"]) for r in self.results["runs"]}
        for problem, peer, seed in plan(chosen, some_peers, args.seeds, args.deep_seeds):
            if (problem.name, peer.name, seed) in done:
                continue
            if seed != args.seeds[0] and peer.name != scores.favourite(self.results["runs"], problem.name, peer):
                continue
            if self.is_over:
                return
            limit = max(args.deep_limit if problem.deep else args.limit, peer.least_limit)
            outcome = measures.run(problem, peer, seed, limit, args.data)
            self.add("runs", asdict(outcome) | {"limit": limit, "deep": problem.deep})
            print(line(outcome), flush=True)

    def run_uci(self) -> None:
        """The second part; errors are what counts here, so it may take all processors."""
        args = self.args
        done = {(r["dataset"], r["split"]) for r in self.results["uci"]}
        wanted = []
        for name in args.sets:
            if (args.data / name / "data.txt").is_file():
                wanted += [(name, split) for split in range(args.splits) if (name, split) not in done]
            else:
                self.note(f"uci {name}: skipped, {args.data / name} is absent")
        with ProcessPoolExecutor(args.jobs, multiprocessing.get_context("fork")) as pool:
            tasks = [pool.submit(uci.measure, args.data / name, split, quick=args.quick) for name, split in wanted]
            for task in tasks:
                if self.is_over:
                    pool.shutdown(cancel_futures=True)
                    return
                self.add("uci", task.result())
                print(self.results["uci"][-1], flush=True)

    def run_growth(self) -> None:
        """The third part."""
        done = {(row["variable"], row["size"]) for row in self.results["growth"]}
        for case in growth.cases(quick=self.args.quick):
            if (case.variable, case.size) in done:
                continue
            if self.is_over:
                return
            self.add("growth", growth.measure(case))


def line(outcome: measures.Outcome) -> str:
    objective = "-" if outcome.objective is None else f"{outcome.objective:.6g}"
    return (
        f"{outcome.problem:14} {outcome.peer:32} seed {outcome.seed}  J {objective:10} {outcome.seconds:6.1f} s "
        f"({outcome.build_seconds:.1f} s to build)  {outcome.status}"
    )


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="two problems, one seed, half a second a run, one UCI split"
    )
    parser.add_argument("--only", nargs="+", choices=(*PARTS, REPORT), default=list(PARTS))
    parser.add_argument("--problems", nargs="+", metavar="NAME", help="; ".join(p.name for p in problems.PROBLEMS))
    parser.add_argument("--peers", nargs="+", metavar="NAME", help="; ".join(p.name for p in peers.PEERS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], metavar="N")
    parser.add_argument("--deep-seeds", type=int, default=3, metavar="N", help="how many of them, on deep networks")
    parser.add_argument("--limit", type=float, default=3.0, help="processor seconds of a run")
    parser.add_argument("--deep-limit", type=float, default=5.0, help="the same, on deep networks")
    parser.add_argument("--documents", nargs="*", metavar="NAME", help="; ".join(documents.NAMES))
    parser.add_argument("--budget", type=float, default=float("inf"), help="minutes after which no run is begun")
    parser.add_argument("--splits", type=int, default=20, help="of the UCI sets")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes, for the UCI sets alone")
    parser.add_argument("--sets", nargs="+", default=list(uci.SETS), metavar="NAME")
    parser.add_argument("--data", type=Path, default=problems.DATA, help="folder with the UCI sets")
    parser.add_argument("--merge", type=Path, nargs="+", default=[], metavar="FILE", help="results to add")
    parser.add_argument("--before", type=Path, metavar="FILE", help="results of an earlier commit")
    parser.add_argument("--redraw", type=Path, metavar="FILE", help="results or summary to make --figures of, alone")
    parser.add_argument("--resume", action="store_true", help="go on from --json")
    for name in ("json", "summary", "markdown", "figures"):
        parser.add_argument(f"--{name}", type=Path)
    args = parser.parse_args(arguments)
    args.command = list(arguments)
    if args.resume and not args.json:
        parser.error("--resume needs --json")
    if args.redraw and not args.figures:
        parser.error("--redraw needs --figures")
    if args.quick:
        args.problems = args.problems or list(problems.QUICK)
        args.peers = args.peers or [peer.name for peer in peers.PEERS if not peer.least_limit]
        args.seeds, args.splits = [0], min(args.splits, 1)
        args.limit, args.deep_limit = min(args.limit, 0.5), min(args.deep_limit, 0.5)
        args.sets = args.sets[:1]
    return args


def signed(text: str, script: str, arguments: Sequence[str]) -> str:
    """A text with the command, the commit and the processor that it comes from."""
    return f"{text}\n\n`{' '.join(['python', f'scripts/{script}', *arguments])}`; commit {commit()}, {processor()}."


def write_markdown(path: Path, text: str) -> None:
    """The tables, below what the file holds above the marker."""
    above, marker, _ = path.read_text().partition(MARKER) if path.is_file() else ("", "", "")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{above if marker else ''}{MARKER}\n\n{text}\n")


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    args = parse(sys.argv[1:] if arguments is None else arguments)
    if args.documents is not None:
        documents.regenerate(args.documents)
        return {}
    if args.redraw:
        figures.figures(json.loads(args.redraw.read_text()), args.figures)
        return {}
    bench = Bench(args)
    with threadpool_limits(1):
        for path in args.merge:
            bench.merge(json.loads(path.read_text()))
        if args.before:
            bench.merge_before(json.loads(args.before.read_text()))
        try:
            for part in (part for part in args.only if part != REPORT):
                getattr(bench, f"run_{part}")()
        finally:
            bench.save()
    text = report.markdown(bench.results)
    print("\n" + text)
    if args.markdown:
        write_markdown(args.markdown, text)
    if args.summary:
        write_json(args.summary, scores.summary(bench.results))
    if args.figures:
        figures.figures(bench.results, args.figures)
    return bench.results


if __name__ == "__main__":
    main()
