"""Random cases over data, options, files, arguments, threads and kills: does anything break, or lie?

    python scripts/fuzz.py [--cases 20000] [--seed 0] [--jobs 2] [--area AREA ...] [--only AREA:SEED]

Each case is drawn from one seed.  It counts as a failure where

* a process dies, or an exception comes out that is not one sentence said by a ``raise`` of ours;
* an answer is wrong: a result that says converged without passing its certificate, a prediction that is not the plain
  formula's, a file that gives back other numbers, threads that disagree with one alone, units that matter;
* something is printed, warned of or written that should not be, or a setting of the process is not what it was.

Failures are printed one a line with the command that runs them again; the exit code is 1 where there is one.  What is
checked is in ``scripts/fuzz_suite``; ``tests/test_fuzz_finds_nothing.py`` runs fewer cases of the same.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: the cases are small, and there are other processes

from fuzz_suite.cases import AREAS, allotted, run_cases


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20000, help="in all areas together, default 20000")
    parser.add_argument("--seed", type=int, default=0, help="of the first case of each area, default 0")
    parser.add_argument("--jobs", type=int, default=2, help="processes, default 2")
    parser.add_argument("--area", nargs="+", choices=AREAS, default=AREAS, help="default all")
    parser.add_argument("--only", metavar="AREA:SEED", help="run this case alone")
    args = parser.parse_args(words)
    if args.only is not None:
        area, _, seed = args.only.partition(":")
        cases, args.jobs = [(area, int(seed))], 1
    else:
        numbers = allotted(args.cases, args.area)
        cases = [(area, args.seed + i) for area, number in numbers.items() for i in range(number)]
    began = time.perf_counter()
    outcomes = run_cases(cases, args.jobs, show)
    print(summary(outcomes), f"{time.perf_counter() - began:.0f} s", sep="\n")
    return 1 if any(outcome.faults for outcome in outcomes) else 0


def show(outcome):
    """A line for every fault."""
    for fault in outcome.faults:
        print(f"python scripts/fuzz.py --only {outcome.area}:{outcome.seed}  # {fault}", flush=True)


def summary(outcomes):
    """Per area: cases, failures, time."""
    lines = []
    for area in AREAS:
        ours = [outcome for outcome in outcomes if outcome.area == area]
        if ours:
            failing, seconds = sum(bool(o.faults) for o in ours), sum(o.seconds for o in ours)
            longest = max(ours, key=lambda outcome: outcome.seconds)
            lines.append(f"{area:10s} {len(ours):6d} cases, {failing} failing; {seconds:.0f} s, the longest "
                         f"{longest.seconds:.1f} s ({longest.area}:{longest.seed})")  # fmt: skip
    return "\n".join([*lines, f"{len(outcomes)} cases, {sum(bool(o.faults) for o in outcomes)} failing"])


if __name__ == "__main__":
    sys.exit(main())
