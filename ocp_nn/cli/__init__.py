"""The command line: ``ocp-nn COMMAND ...`` or ``python -m ocp_nn COMMAND ...``.

Each command is a module of this package with ``register(subparsers)`` and ``run(args) -> exit code``.  Commands print,
the library does not.  A mistake of the user is one line on standard error, without a traceback.

Exit codes: 0 done (a solve: converged), 2 a solve ended without converging (a limit was reached; what was found is
written all the same) or with errors that are no finite numbers, 1 an error, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from ..base import program
from ..base.interrupts import RepeatedInterrupts
from ..base.version import VERSION
from . import compare, conditioning, datasets, doctor, export, fit, identify, predict

__all__ = ["main"]

_COMMANDS = (fit, identify, compare, predict, conditioning, export, datasets, doctor)

_EPILOG = """\
examples:
  ocp-nn fit diabetes --hidden 20,20 --out results/diabetes
  ocp-nn fit houses.csv --target price --out results/houses
  ocp-nn compare diabetes --hidden 8,8
  ocp-nn predict results/houses new.csv --out predictions.csv
  ocp-nn export results/houses --to onnx
  ocp-nn doctor
"""


class _Parser(argparse.ArgumentParser):
    """Usage errors are errors like any other: one line, exit code 1 (argparse's own 2 means something else here)."""

    def error(self, message: str) -> NoReturn:
        self.exit(1, f"{self.prog}: error: {' '.join(message.split())} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    try:
        program.started()
        args = _parser().parse_args(arguments)
        with RepeatedInterrupts():
            return program.exit_code(int(args.run(args)))
    except KeyboardInterrupt:
        print("ocp-nn: interrupted", file=sys.stderr)
        return program.exit_code(program.INTERRUPTED)
    except BrokenPipeError:
        return _closed_pipe()
    except (ValueError, OSError, ImportError, MemoryError) as error:
        print(f"ocp-nn: error: {_one_line(error)}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="ocp-nn",
        description="Train neural networks as optimal control problems.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ocp_nn {VERSION}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.register(subparsers)
    return parser


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _closed_pipe() -> int:
    # the reader (head, less) has gone; point stdout elsewhere so that the interpreter's last flush is silent
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
