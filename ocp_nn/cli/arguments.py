"""Arguments that several commands share: the data set, the network and the objective; and how they become a problem."""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
import textwrap
from collections.abc import Callable

from ..data import Dataset, load_dataset
from ..experiment import Experiment
from ..selection import Selection, choose_weight_decay

__all__ = [
    "add_column_arguments",
    "add_problem_arguments",
    "fold",
    "load_data",
    "positive",
    "prepare_experiment",
    "print_line",
    "select_weight_decay",
    "silent",
    "table_width",
]


def add_problem_arguments(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """What decides the training problem; with ``optional`` the data set may be left out."""
    parser.add_argument(
        "dataset",
        metavar="DATASET",
        nargs="?" if optional else None,
        help="a name (see ocp-nn datasets), a CSV file or a folder",
    )
    add_column_arguments(parser)
    parser.add_argument(
        "--hidden", metavar="WIDTHS", type=_widths, default=(20, 20), help="default 20,20; 'none' is linear"
    )
    parser.add_argument(
        "--activation", metavar="NAME", default="tanh", help="tanh (default), sigmoid, relu, softplus, identity"
    )
    parser.add_argument("--weight-decay", metavar="RHO", type=_weight_decay, default=None,
                        help="Tikhonov weight of all weights and biases; default auto: of those tried, the largest "
                             "whose error on held-out training samples is within 2 %% of the smallest")  # fmt: skip
    parser.add_argument("--test-size", metavar="SHARE", type=float, default=0.1, help="share held out, default 0.1")
    parser.add_argument(
        "--seed", metavar="N", type=_seed, default=0, help="of the split and the initial weights, default 0"
    )


def add_column_arguments(parser: argparse.ArgumentParser) -> None:
    """Which columns of the data are targets and which inputs."""
    parser.add_argument("--target", metavar="COL", action="append", help="column to predict (may be repeated)")
    parser.add_argument("--features", metavar="COLS", type=_column_names, action="extend",
                        help="the inputs, separated by commas; default all other columns")  # fmt: skip
    parser.add_argument("--drop", metavar="COLS", type=_column_names, action="extend",
                        help="instead of --features: columns to leave out, separated by commas")  # fmt: skip


def load_data(args: argparse.Namespace) -> Dataset:
    """The data set that the arguments name."""
    return load_dataset(args.dataset, target=args.target, features=args.features, drop=args.drop or ())


def prepare_experiment(args: argparse.Namespace, data: Dataset) -> Experiment:
    """Split and scaled data, and the network that the arguments describe."""
    return Experiment.prepare(data, args.hidden, activation=args.activation, test_size=args.test_size, seed=args.seed)


def select_weight_decay(
    args: argparse.Namespace, experiment: Experiment, say: Callable[[str], None]
) -> Selection | None:
    """The weight decay chosen on the training part, or None where it was given."""
    if args.weight_decay is not None:
        return None
    selection = choose_weight_decay(
        experiment.network, experiment.train_inputs, experiment.train_targets, seed=args.seed
    )
    say(selection.message)
    return selection


def table_width() -> int:
    """Characters of a line: of the terminal, or COLUMNS, or 80 where there is neither."""
    return shutil.get_terminal_size().columns


def print_line(text: str) -> None:
    """Print a line or several; on a terminal those too long for it are broken between words, none elsewhere."""
    if sys.stdout.isatty():
        text = fold(text)
    print(text, flush=True)


def fold(text: str) -> str:
    """Lines broken between words where they are too long."""
    width = table_width()
    return "\n".join(_broken(line, width) for line in text.split("\n"))


def _broken(line: str, width: int) -> str:
    """A line on as many as it takes, further ones indented like its text: below the first word of an item."""
    if len(line) <= width:
        return line
    indent = " " * (len(line) - len(line.lstrip(" -")))
    wrapper = textwrap.TextWrapper(width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return wrapper.fill(line)


def silent(line: str) -> None:
    pass


def _column_names(text: str) -> list[str]:
    """Names separated by commas; one that has a comma itself stands in double quotes."""
    names = [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]
    if not names or not all(names):
        raise argparse.ArgumentTypeError(f"column names separated by commas are expected, received {text!r}")
    return names


def _widths(text: str) -> tuple[int, ...]:
    if text.strip() in ("", "none"):
        return ()
    try:
        widths = tuple(int(word) for word in text.split(","))
    except ValueError:
        widths = (0,)
    if min(widths) < 1:
        raise argparse.ArgumentTypeError(f"widths are positive integers separated by commas, received {text!r}")
    return widths


def _weight_decay(text: str) -> float | None:
    if text == "auto":
        return None
    value = _number(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"the weight decay is 'auto' or a number >= 0, received {text!r}")
    return value


def positive(text: str) -> float:
    value = _number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"a number > 0 is expected, received {text!r}")
    return value


def _seed(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"a seed is an integer >= 0, received {text!r}")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a number is expected, received {text!r}") from None
