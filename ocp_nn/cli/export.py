"""``ocp-nn export``: a trained model for use elsewhere."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..export import write_c, write_casadi, write_numpy, write_onnx
from ..network.model import Model
from .arguments import path
from .model_file import load_model

__all__ = ["register", "run"]

_EPILOG = """\
examples:
  ocp-nn export results/houses --to casadi
  ocp-nn export results/houses --to c --out pump.c --name pump
  ocp-nn export results/houses --to onnx --float32

what to do with it:
  casadi   f = casadi.Function.load("model.casadi"); y = f(x)
  c        gcc -O2 -shared -fPIC -o model.so model.c -lm; model_predict(x, y)
  onnx     onnxruntime.InferenceSession("model.onnx").run(None, {"x": x})
  numpy    from model_numpy import predict; y = predict(x)

Inputs and outputs are in the data's own units: the scaling is inside.
A classifier's y are probabilities.  Error bars are not exported.
"""

_DEFAULT_FILES = {"casadi": "model.casadi", "c": "model.c", "onnx": "model.onnx", "numpy": "model_numpy.py"}


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "export",
        help="write a trained model as a CasADi function, C code, ONNX or NumPy code",
        description="Write a trained model for use elsewhere.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("model", metavar="DIR", type=path, help="the folder that fit left, or a saved model")
    parser.add_argument("--to", choices=tuple(_DEFAULT_FILES), required=True, help="what to write")
    parser.add_argument("--out", metavar="FILE", type=path, help="where; default: beside the model")
    parser.add_argument("--name", default="model", help="of the CasADi or C function, default model")
    parser.add_argument("--float32", action="store_true", help="ONNX in single precision, for runtimes without double")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(args: argparse.Namespace) -> int:
    model = load_model(args.model)
    folder = args.model if args.model.is_dir() else args.model.parent
    out: Path = args.out or folder / _DEFAULT_FILES[args.to]
    _writers(args)[args.to](model, out)
    if not args.quiet:
        print(f"written to {out}: {', '.join(model.features)} -> {', '.join(model.targets)}")
    return 0


def _writers(args: argparse.Namespace) -> dict[str, Callable[[Model, str | os.PathLike[str]], None]]:
    return {
        "casadi": lambda model, path: write_casadi(model, path, args.name),
        "c": lambda model, path: write_c(model, path, args.name),
        "onnx": lambda model, path: write_onnx(model, path, dtype="float32" if args.float32 else "float64"),
        "numpy": write_numpy,
    }
