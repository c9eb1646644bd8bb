"""Arguments that several commands share: the data set, the network and the objective; and how they become a problem."""

from __future__ import annotations

import argparse
import csv
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ..base import checks
from ..base.checks import Kind
from ..learning.data import Dataset, load_dataset
from ..learning.evidence import RULES, choose_by_rule
from ..learning.experiment import Experiment
from ..learning.requirements import RANGE, Requirements, signs_of
from ..learning.selection import Selection
from ..problem.losses import LOSSES, Huber

__all__ = [
    "add_column_arguments",
    "add_problem_arguments",
    "add_requirement_arguments",
    "column_names",
    "count",
    "fold",
    "load_data",
    "make_folder",
    "path",
    "positive",
    "prepare_experiment",
    "print_line",
    "read_integer",
    "read_list",
    "read_number",
    "reader",
    "requirements",
    "seed",
    "select_weight_decay",
    "share",
    "silent",
    "table_width",
    "weight_decay",
    "weight_decay_or_rule",
    "widths",
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
        "--hidden", metavar="WIDTHS", type=widths, default=(20, 20), help="default 20,20; 'none' is linear"
    )
    parser.add_argument(
        "--activation", metavar="NAME", default="tanh", help="tanh (default), sigmoid, relu, softplus, identity"
    )
    parser.add_argument("--loss", choices=("auto", *LOSSES), default="auto",
                        help="what is minimised; logistic and softmax take the target as labels of classes, poisson as "
                             "counts; default auto: classes where the target holds words, else squared")  # fmt: skip
    parser.add_argument("--huber-delta", metavar="D", type=_delta, default=Huber.delta,
                        help=f"where Huber's loss becomes linear, in robust standard deviations of the target; "
                             f"default {Huber.delta}")  # fmt: skip
    parser.add_argument("--weight-decay", metavar="RHO|RULE", type=weight_decay_or_rule, default="auto",
                        help="Tikhonov weight of all weights and biases, or how it is chosen: 'evidence', under which "
                             "the training targets are most probable; 'held-out', the largest whose error on held-out "
                             "training samples is within 2 %% of the smallest; default auto: evidence for squares "
                             "without constraints, held-out where it does not decide or there is none")  # fmt: skip
    parser.add_argument("--test-size", metavar="SHARE", type=share, default=0.1, help="share held out, default 0.1")
    parser.add_argument(
        "--seed", metavar="N", type=seed, default=0, help="of the split and the initial weights, default 0"
    )


def add_column_arguments(parser: argparse.ArgumentParser) -> None:
    """Which columns of the data are targets and which inputs."""
    parser.add_argument("--target", metavar="COL", action="append", help="column to predict (may be repeated)")
    parser.add_argument("--features", metavar="COLS", type=column_names, action="extend",
                        help="the inputs, separated by commas; default all other columns")  # fmt: skip
    parser.add_argument("--drop", metavar="COLS", type=column_names, action="extend",
                        help="instead of --features: columns to leave out, separated by commas")  # fmt: skip


def add_requirement_arguments(parser: argparse.ArgumentParser) -> None:
    """What is asked of the network beside a good fit."""
    parser.add_argument("--monotone", metavar="COL=SIGN", type=_sign, action="append",
                        help="the output must not fall (1) or rise (-1) in an input, e.g. --monotone age=1; by signs "
                             "of weights, so everywhere (may be repeated)")  # fmt: skip
    parser.add_argument("--weight-bounds", metavar="LOW,HIGH", type=_range,
                        help="bounds on all weights and biases, in standard units")  # fmt: skip
    parser.add_argument("--output-range", metavar="LOW,HIGH", type=_range,
                        help="bounds on predictions in the target's units, at the training samples and at 200 random "
                             "points between them")  # fmt: skip


def requirements(args: argparse.Namespace, data: Dataset) -> Requirements:
    """What the arguments ask for."""
    signs = signs_of(dict(args.monotone), data.num_features, data.feature_labels) if args.monotone else ()
    return Requirements(signs=signs, weight_bounds=args.weight_bounds, output_range=args.output_range, seed=args.seed)


def load_data(args: argparse.Namespace) -> Dataset:
    """The data set that the arguments name."""
    return load_dataset(args.dataset, target=args.target, features=args.features, drop=args.drop or (), loss=args.loss)


def prepare_experiment(args: argparse.Namespace, data: Dataset) -> Experiment:
    """Split and scaled data, and the network that the arguments describe."""
    return Experiment.prepare(
        data,
        args.hidden,
        activation=args.activation,
        test_size=args.test_size,
        seed=args.seed,
        huber_delta=args.huber_delta,
    )


def select_weight_decay(
    args: argparse.Namespace,
    experiment: Experiment,
    say: Callable[[str], None],
    wanted: Requirements | None = None,
) -> Selection | None:
    """The weight decay chosen on the training part, or None where it was given."""
    if not isinstance(args.weight_decay, str):
        return None
    selection = choose_by_rule(
        args.weight_decay,
        experiment.network,
        experiment.train_inputs,
        experiment.train_targets,
        seed=args.seed,
        loss=experiment.loss,
        constrained=partial(wanted.constrained, y_scaler=experiment.y_scaler) if wanted else None,
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


def column_names(text: str) -> list[str]:
    """Names separated by commas; one that has a comma itself stands in double quotes."""
    names = [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]
    if not names or not all(names):
        raise argparse.ArgumentTypeError(f"column names separated by commas are expected, received {text!r}")
    return names


def reader(kind: Kind, read: Callable[[str], Any]) -> Callable[[str], Any]:
    """What makes a value of an argument's text, for argparse: one sentence where it is not of the kind."""

    def convert(text: str) -> Any:
        try:
            value = read(text)
        except ValueError:
            value = None
        if value is None or not kind.accepts(value):
            raise argparse.ArgumentTypeError(f"must be {kind.words}, received {checks.shown(text)}")
        return value

    return convert


def read_integer(text: str) -> int:
    """Plain digits, of which Python takes many alphabets, and at most as many as it reads."""
    if not re.fullmatch(r"[+-]?[0-9]{1,1000}", text.strip()):
        raise ValueError
    return int(text)


def read_number(text: str) -> float:
    """A number in plain digits; Python would take 1_000 too."""
    if not text.isascii() or "_" in text:
        raise ValueError
    return float(text)


def read_list(read: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    """Several, separated by commas."""
    return lambda text: tuple(read(word.strip()) for word in text.split(","))


def _read_path(text: str) -> Path:
    if not text.strip():
        raise ValueError
    return Path(text)


positive = reader(checks.POSITIVE, read_number)
path = reader(Kind("a path", lambda _: True), _read_path)
seed = reader(checks.SEED, read_integer)
count = reader(checks.integer(1), read_integer)
share = reader(checks.SHARE, read_number)
_widths_of_layers = reader(
    checks.sequence(checks.WIDTH, "positive integers separated by commas, or 'none'"), read_list(read_integer)
)
_decay = reader(Kind(f"'auto' or {checks.NON_NEGATIVE.words}", checks.NON_NEGATIVE.accepts), read_number)
_decay_or_rule = reader(
    Kind(f"{', '.join(map(repr, RULES))} or {checks.NON_NEGATIVE.words}", checks.NON_NEGATIVE.accepts), read_number
)

_delta = reader(checks.POSITIVE, read_number)


_range = reader(RANGE, read_list(read_number))


def _sign(text: str) -> tuple[str, int]:
    name, equals, sign = text.rpartition("=")
    if not equals or sign.strip() not in ("1", "+1", "-1") or not name.strip():
        raise argparse.ArgumentTypeError(f"must be COLUMN=1 or COLUMN=-1, received {checks.shown(text)}")
    return name.strip(), int(sign)


def widths(text: str) -> tuple[int, ...]:
    """Positive integers separated by commas, or none."""
    return () if text.strip() == "none" else _widths_of_layers(text)


def weight_decay(text: str) -> float | None:
    """A number, or None for ``auto``."""
    return None if text == "auto" else _decay(text)


def weight_decay_or_rule(text: str) -> float | str:
    """A number, or one of the rules by which it is chosen."""
    return text if text in RULES else _decay_or_rule(text)


def make_folder(folder: Path) -> None:
    """The folder of an ``--out``, with those above it.

    Raises
    ------
    OSError
        If it cannot be made, or cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise FileExistsError(f"--out {folder}: a file of this name is there; a folder is needed") from None
    except OSError as error:
        raise OSError(f"--out {folder}: this folder cannot be made: {error.strerror}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"--out {folder}: this folder cannot be written to")
