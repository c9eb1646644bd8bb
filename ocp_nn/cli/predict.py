"""``ocp-nn predict``: what a trained model says about the rows of a table."""

from __future__ import annotations

import argparse
import csv
import io
import sys
import warnings
from typing import Any

from ..base.atomic import atomic_write
from ..learning.data.files import read_columns
from ..learning.experiment import rmse
from ..network.model import ExtrapolationWarning, Model
from .arguments import path
from .model_file import load_model

__all__ = ["register", "run"]

_EPILOG = """\
examples:
  ocp-nn predict results/houses new.csv --out predictions.csv
  ocp-nn predict results/houses new.csv | head

The table needs a header with the names of the columns that the model was
trained on, in any order; other columns are not looked at.  Units in brackets
must be those of the training table, or may be left out.  Where the target
columns are there too, the root mean square error is printed.  Rows far outside
the training data (by more than the width of a column's training range) are
reported on standard error.
"""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "predict",
        help="predict the rows of a CSV file with a trained model",
        description="Predict the rows of a CSV file with a trained model.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("model", metavar="DIR", type=path, help="the folder that fit left, or a saved model")
    parser.add_argument("table", metavar="DATA.csv", type=path, help="delimited text with a header")
    parser.add_argument("--out", metavar="FILE", type=path, help="where to write; default: print")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(args: argparse.Namespace) -> int:
    model = load_model(args.model)
    inputs, measured = read_columns(args.table, model.features, model.targets)
    if (sentence := model.extrapolation(inputs)) and not args.quiet:
        print(f"ocp-nn: warning: {sentence}", file=sys.stderr)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExtrapolationWarning)  # said above, in one line and every time
        predicted = model.predict(inputs)
    text = _table(model, predicted)
    if args.out is None:
        print(text, end="")
        return 0
    with atomic_write(args.out) as file:
        file.write(text.encode())
    if not args.quiet:
        error = "" if measured is None else f"; RMSE {rmse(predicted, measured):.6g}"
        print(f"{len(predicted)} predictions written to {args.out}{error}")
    return 0


def _table(model: Model, predicted: Any) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(model.targets)
    writer.writerows(predicted.tolist())
    return text.getvalue()
