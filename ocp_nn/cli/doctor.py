"""``ocp-nn doctor``: what is installed, what of it works, and what to do about the rest.

CasADi's solvers are plugins: one may be listed and still fail, or take the process down.  So each is tried on a small
problem in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_info

from ..base.version import VERSION
from ..report import format_table
from .arguments import print_line, table_width

__all__ = ["register", "run"]

_EPILOG = """\
Exit code: 0 everything that is required works, 1 something required does not.
"""

_REQUIRED = ("casadi", "numpy", "scipy", "matplotlib", "rich", "threadpoolctl")
_OPTIONAL = {
    "scikit-learn": ("ml", "the estimators and the built-in data"),
    "onnx": ("onnx", "the export to ONNX"),
    "onnxruntime": ("onnx", "running what was exported to ONNX"),
}

# Plugin of nlpsol, IPOPT's linear solver where it is IPOPT, and what it is for.
_SOLVERS = (
    ("ipopt", "mumps", "the reference solver"),
    ("ipopt", "spral", "comparisons"),
    ("ipopt", "ma57", "comparisons"),
    ("fatrop", "", "comparisons"),
    ("sqpmethod", "", "comparisons"),
    ("alpaqa", "", "comparisons"),
)
_NEEDED = ("ipopt", "mumps")

# min (x - 1)^2 + y^2 with y = x^2 - 1: the solution is x = 1, y = 0
_TRIAL = """
import sys, casadi as ca
plugin, linear = sys.argv[1:]
x = ca.MX.sym("x", 2)
problem = {"x": x, "f": (x[0] - 1) ** 2 + x[1] ** 2, "g": x[1] - x[0] ** 2 + 1}
options = {"ipopt.linear_solver": linear} if linear else {}
solver = ca.nlpsol("trial", plugin, problem, options)
found = solver(x0=[2, 2], lbg=0, ubg=0)["x"]
sys.exit(0 if ca.norm_inf(found - ca.DM([1, 0])) < 1e-4 else 1)
"""
_TRIAL_SECONDS = 60

_PROGRAM = "double ocp_nn_trial(double x) { return 2 * x; }\n"


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was looked at, what was found, whether that is fine, and what to do if not."""

    what: str
    found: str
    verdict: str = "ok"
    remedy: str = ""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "doctor",
        help="check the installation and say what to do about problems",
        description="Check versions, CasADi's solvers, BLAS threads and the C compiler.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    findings = [_itself(), *_packages(), *_solvers(), *_blas(), _compiler()]
    rows = [(f.what, f.found, f.verdict) for f in findings]
    print_line(format_table(("what", "found", "verdict"), rows, table_width()))
    remedies = [f"{f.what}: {f.remedy}" for f in findings if f.remedy]
    if remedies:
        print_line("\n".join(["\nwhat to do:", *(f"  {line}" for line in remedies)]))
    broken = [f.what for f in findings if f.verdict == "PROBLEM"]
    print_line(f"\n{'does not work: ' + ', '.join(broken) if broken else 'everything that is required works'}")
    return 1 if broken else 0


def _itself() -> Finding:
    found = f"{VERSION}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    return Finding("ocp_nn", found)


def _packages() -> Iterator[Finding]:
    for name in _REQUIRED:
        version = _version(name)
        if version is None:
            yield Finding(name, "missing", "PROBLEM", f"pip install {name}")
        else:
            yield Finding(name, version)
    for name, (extra, purpose) in _OPTIONAL.items():
        version = _version(name)
        if version is None:
            yield Finding(name, "not installed", "optional", f"for {purpose}: pip install 'ocp-nn[{extra}]'")
        else:
            yield Finding(name, version)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _solvers() -> list[Finding]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda solver: _try_solver(*solver), _SOLVERS))


def _try_solver(plugin: str, linear: str, purpose: str) -> Finding:
    what = f"CasADi {plugin}" + (f" with {linear}" if linear else "")
    command = [sys.executable, "-c", _TRIAL, plugin, linear]
    try:
        code = subprocess.run(command, capture_output=True, timeout=_TRIAL_SECONDS, check=False).returncode
    except subprocess.TimeoutExpired:
        code = None
    if code == 0:
        return Finding(what, "solves")
    found = "hangs" if code is None else "crashes" if code < 0 else "fails"
    if (plugin, linear) == _NEEDED:
        return Finding(what, found, "PROBLEM", "pip install --force-reinstall casadi")
    return Finding(what, found, "optional", f"only for {purpose}; this build of CasADi does not have it")


def _blas() -> Iterator[Finding]:
    cores = os.cpu_count() or 1
    libraries = [entry for entry in threadpool_info() if entry["user_api"] == "blas"]
    for entry in libraries:
        threads = entry["num_threads"]
        what = f"BLAS {entry['internal_api']} {entry.get('version') or ''}".strip()
        found = f"{threads} thread{'s' if threads > 1 else ''} on {cores} cores"
        if threads > cores:
            remedy = f"more threads than cores slow everything down: set OPENBLAS_NUM_THREADS={cores}"
            yield Finding(what, found, "slow", remedy)
        else:
            yield Finding(what, found)
    if not libraries:
        yield Finding(
            "BLAS", "unknown to threadpoolctl", "optional", "its threads cannot be limited for small problems"
        )


def _compiler() -> Finding:
    names = [os.environ.get("CC", ""), "cc", "gcc", "clang"]
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    advice = "only for compiling what was exported to C: install gcc or clang (Debian: apt install gcc)"
    if found is None:
        return Finding("C compiler", "none", "optional", advice)
    return (
        Finding("C compiler", found)
        if _compiles(found)
        else Finding("C compiler", f"{found} fails", "optional", advice)
    )


def _compiles(compiler: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "trial.c"
        source.write_text(_PROGRAM)
        command = [compiler, "-shared", "-fPIC", "-o", str(source.with_suffix(".so")), str(source)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
