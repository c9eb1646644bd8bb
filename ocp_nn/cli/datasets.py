"""``ocp-nn datasets``: what can be trained on."""

from __future__ import annotations

import argparse
from typing import Any

from ..learning.data import BUILTIN
from ..report import format_table
from .arguments import fold, print_line, table_width

__all__ = ["register", "run"]

_FILES = (
    "Any delimited text file with a header works too: name the column to predict with --target, and leave columns out "
    "with --drop or choose the inputs with --features.  A name may have its unit behind it, as in 'speed [m/s]'.  "
    "Numbers have decimal points, or commas where columns are not separated by them; thousands have no mark.  So does "
    "any folder with data.txt (numbers, no header), index_features.txt and index_target.txt (0-based columns).  A "
    "target that holds words is one of classes; with --loss logistic or softmax whole numbers are labels too."
)


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("datasets", help="list the data sets that need no file")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    rows = [(name, entry.loss, entry.description) for name, entry in BUILTIN.items()]
    print_line(format_table(("name", "loss", "what it is"), rows, table_width()))
    print_line(f"\n{fold(_FILES)}")
    return 0
