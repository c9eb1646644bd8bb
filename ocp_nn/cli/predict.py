"""``ocp-nn predict``: what a trained model says about the rows of a table."""

from __future__ import annotations

import argparse
import csv
import io
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.atomic import atomic_write
from ..learning.data.files import read_columns, read_label_column
from ..learning.data.labels import column_of
from ..learning.metrics import WORDS, judge, loss_of_link
from ..network.model import ExtrapolationWarning, Model
from .arguments import path, share
from .model_file import load_model, load_posterior

__all__ = ["register", "run"]

Array = NDArray[np.float64]

_EPILOG = """\
examples:
  ocp-nn predict results/houses new.csv --out predictions.csv
  ocp-nn predict results/houses new.csv | head
  ocp-nn predict results/houses new.csv --interval 0.9

The table needs a header with the names of the columns that the model was
trained on, in any order; other columns are not looked at.  Units in brackets
must be those of the training table, or may be left out.  Where the target
columns are there too, the root mean square error is printed; a classifier
writes the class and the probabilities, and its accuracy is printed where the
table has the labels; counts have their mean deviance.  Rows far outside
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
    parser.add_argument("--interval", metavar="SHARE", type=share, help="two more columns for each target, between "
                        "which this share of new targets lies, by the posterior of weights and noise")  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(args: argparse.Namespace) -> int:
    model = load_model(args.model)
    inputs, measured = read_columns(args.table, model.features, () if model.classes else model.targets)
    if (sentence := model.extrapolation(inputs)) and not args.quiet:
        print(f"ocp-nn: warning: {sentence}", file=sys.stderr)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExtrapolationWarning)  # said above, in one line and every time
        predicted = model.predict(inputs)
        classes = model.classify(inputs) if model.classes else None
    ends = None if args.interval is None else _interval(args, model, inputs)
    text = _table(model, predicted, classes, ends)
    if args.out is None:
        print(text, end="")
        return 0
    with atomic_write(args.out) as file:
        file.write(text.encode())
    if not args.quiet:
        found = _accuracy(model, args.table, classes) if classes is not None else _error(model, inputs, measured)
        print(f"{len(predicted)} predictions written to {args.out}{found}")
    return 0


def _interval(args: argparse.Namespace, model: Model, inputs: Array) -> tuple[Array, Array]:
    posterior = load_posterior(args.model, model)
    scaled = model.x_scaler.transform(inputs)
    low, high = posterior.interval(model.network, model.controls, scaled, args.interval)
    return model.y_scaler.inverse(low), model.y_scaler.inverse(high)


def _error(model: Model, inputs: Array, measured: Array | None) -> str:
    """The measure that fits, where the targets are known."""
    if measured is None:
        return ""
    found = judge(loss_of_link(model.link), model.raw_outputs(inputs), measured)
    return "".join(f"; {WORDS[name]} {value:.6g}" for name, value in found.items())


def _accuracy(model: Model, table: Path, classes: NDArray[Any]) -> str:
    """The share of labels that are right, where the table has them; a label that is no class is wrong."""
    labels = read_label_column(table, column_of(model.targets, model.classes))
    if labels is None:
        return ""
    right = sum(str(label) == str(found) for label, found in zip(labels, classes.tolist(), strict=True))
    known = set(map(str, model.classes))
    unseen = sum(str(label) not in known for label in labels)
    return f"; accuracy {right / len(labels):.6g}" + (f" ({unseen} labels are none of the classes)" if unseen else "")


def _table(
    model: Model, predicted: Array, classes: NDArray[Any] | None, ends: tuple[Array, Array] | None = None
) -> str:
    """Predictions as CSV; of a classifier the class, under the name of its column, and the probabilities."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    rows = predicted.tolist()
    if ends is not None:
        writer.writerow([*model.targets, *(f"{target} {end}" for target in model.targets for end in ("low", "high"))])
        rows = np.hstack([predicted, np.stack(ends, axis=2).reshape(len(predicted), -1)]).tolist()
    elif classes is None:
        writer.writerow(model.targets)
    else:
        writer.writerow([column_of(model.targets, model.classes), *model.targets])
        rows = [[label, *row] for label, row in zip(classes.tolist(), rows, strict=True)]
    writer.writerows(rows)
    return text.getvalue()
