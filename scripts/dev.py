"""Sets up and runs everything from a fresh checkout; needs only Python >= 3.10 and git.

    python3 scripts/dev.py demo             train on real data, check against IPOPT: results/diabetes
    python3 scripts/dev.py test [ARGS]      lint, types and tests on all cores; ARGS go to pytest instead
    python3 scripts/dev.py lint             lint and types only
    python3 scripts/dev.py setup            only create .venv, with everything for development

The environment is .venv in the checkout; it is made on the first run and again when pyproject.toml or Python changes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
STAMP = VENV / "ocp_nn-setup.txt"
MINIMUM = (3, 10)
TYPES_MINIMUM = (3, 11)

# What each verb needs beside the required packages; "dev" contains "ml".
DEMO, DEV = "ml", "dev"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("demo", "test", "lint", "setup"))
    args, rest = parser.parse_known_args(arguments)
    if rest and args.verb in ("lint", "setup"):
        parser.error(f"{args.verb} takes no further arguments, received {' '.join(rest)}")
    try:
        ensure_environment(DEMO if args.verb == "demo" else DEV)
        {"demo": demo, "test": test, "lint": lint, "setup": lambda _: None}[args.verb](rest)
    except subprocess.CalledProcessError as error:
        print(f"dev.py: failed with exit code {error.returncode}: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        return error.returncode
    return 0


def demo(rest: list[str]) -> None:
    run(PYTHON, "-m", "ocp_nn", "fit", "diabetes", "--hidden", "20,20", "--out", "results/diabetes", *rest)


def lint(_: list[str]) -> None:
    run(PYTHON, "-m", "ruff", "check", ".")
    run(PYTHON, "-m", "ruff", "format", "--check", ".")
    if sys.version_info >= TYPES_MINIMUM:
        run(PYTHON, "-m", "mypy")
    else:
        print("dev.py: types not checked: they are written for the NumPy stubs that Python >= 3.11 gets", flush=True)


def test(rest: list[str]) -> None:
    lint(rest)
    run(PYTHON, "-m", "pytest", *(rest or ("--numprocesses", "auto")))


def ensure_environment(extra: str) -> None:
    """Create .venv and install the package in place, unless that is already done for this pyproject.toml."""
    stamp = STAMP.read_text() if STAMP.is_file() and PYTHON.exists() else ""
    if stamp in (wanted(extra), wanted(DEV)):
        return
    python = ".".join(map(str, sys.version_info[:3]))
    print(f"dev.py: setting up {VENV} with Python {python}, a minute or two ...", flush=True)
    if subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=False).returncode:
        sys.exit("dev.py: python -m venv failed; on Debian and Ubuntu: apt install python3-venv")
    run(PYTHON, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--editable", f"{ROOT}[{extra}]")
    STAMP.write_text(wanted(extra))


def wanted(extra: str) -> str:
    """What the stamp of an up-to-date environment says."""
    project = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    return f"extra {extra}\npython {sys.version}\npyproject {project}\nroot {ROOT}\n"


def run(*command: str | Path) -> None:
    subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    if sys.version_info < MINIMUM:
        sys.exit(f"dev.py: Python {MINIMUM[0]}.{MINIMUM[1]} or newer is needed, this is {sys.version.split()[0]}")
    sys.exit(main())
