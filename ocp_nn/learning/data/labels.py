"""Targets that are classes: from the labels in a column to what a loss is given.

Two classes are one output with targets 0 and 1 (the logistic loss), more are an output each with one 1 in every row
(softmax).  Classes are the labels that occur, sorted: whole numbers where all labels are numbers, texts otherwise.
Outputs are named after column and class, ``species=setosa``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .dataset import DataError, Dataset
from .header import listed, shown
from .numbers import complaint, is_number, looks_like_number, numbers

__all__ = ["LABEL_LOSSES", "are_labels", "check_one_target", "column_of", "labelled", "read_labels", "with_loss"]

Array = NDArray[np.float64]
Label = str | int | float

LABEL_LOSSES = ("logistic", "softmax")

# Whole numbers beyond this are not exact.
_LARGEST = 2**53


def are_labels(cells: Sequence[str]) -> bool:
    """Whether the cells of a column are words: none of them may be meant as a number."""
    return any(cells) and not any(map(looks_like_number, cells))


def read_labels(path: Path, cells: Sequence[tuple[int, str]], column: str) -> list[Label]:
    """The labels in the cells of a column, each with the number of its line.

    Raises
    ------
    DataError
        For a cell that is empty or no finite number, or numbers that are not whole.
    """
    for number, cell in cells:
        if not cell or (is_number(cell) and not np.isfinite(float(cell))):
            raise DataError(f"{path}, line {number}: {complaint(cell, column)}")
    if not all(looks_like_number(cell) for _, cell in cells):
        return [cell for _, cell in cells]
    values = numbers(path, [(number, [cell]) for number, cell in cells], [column])[:, 0]
    for (number, cell), value in zip(cells, values.tolist(), strict=True):
        if not _is_whole(value):
            raise DataError(f"{path}, line {number}: {_fractional(shown(cell), column)}")
    return [int(value) for value in values]


def labelled(dataset: Dataset, column: str, labels: Sequence[Label], loss: str = "auto") -> Dataset:
    """The data set with the classes of these labels as targets.

    Parameters
    ----------
    dataset : Dataset
        Its targets are replaced.
    column : str
        Name of the labels' column.
    labels : sequence of N texts, or N whole numbers
    loss : str
        "logistic" or "softmax"; "auto" is the one that fits the number of classes.

    Raises
    ------
    DataError
        For one class, for more than two with the logistic loss, or for fewer than three samples to a class on average.
    """
    where = f"{dataset.name}: column {shown(column)} has"
    classes = tuple(sorted(set(labels)))  # type: ignore[type-var]
    if len(classes) < 2:
        raise DataError(f"{where} one class alone ({classes[0]!r}); at least two are needed")
    if 3 * len(classes) > max(len(labels), 6):
        raise DataError(
            f"{where} {len(classes)} classes in {len(labels)} samples; quantities are for the losses squared, huber "
            "and poisson"
        )
    loss = ("logistic" if len(classes) == 2 else "softmax") if loss == "auto" else loss
    if loss == "logistic" and len(classes) > 2:
        found = f"{len(classes)} classes ({listed(map(str, classes))})"
        raise DataError(f"{where} {found}, and logistic is for two: use softmax")
    number = {label: j for j, label in enumerate(classes)}
    one_hot = np.eye(len(classes))[[number[label] for label in labels]]
    outputs = slice(1, None) if loss == "logistic" else slice(None)
    return replace(
        dataset,
        y=np.ascontiguousarray(one_hot[:, outputs]),
        target_names=tuple(f"{column}={label}" for label in classes[outputs]),
        units="",
        target_units=(),
        truth=None,
        classes=classes,
        loss=loss,
    )


def with_loss(dataset: Dataset, loss: str) -> Dataset:
    """The data set with its targets as a loss needs them; as they are for "auto".

    Raises
    ------
    DataError
        For labels where the loss needs quantities, and targets that are none of its own.
    """
    if loss in ("auto", dataset.loss):
        return dataset
    if dataset.classes and loss not in LABEL_LOSSES:
        raise DataError(f"{dataset.name}: its targets are classes, and the loss {loss} is for quantities: use softmax")
    if loss not in LABEL_LOSSES:
        return replace(dataset, loss=loss)
    if dataset.classes:
        return labelled(dataset, column_of(dataset.target_names, dataset.classes), dataset.labels.tolist(), loss)
    return labelled(dataset, check_one_target(dataset.name, dataset.target_names), _whole(dataset), loss)


def check_one_target(name: str | Path, targets: Sequence[str]) -> str:
    """The name of the one target."""
    if len(targets) != 1:
        raise DataError(f"{name}: classes need one target column, received {len(targets)} ({listed(targets)})")
    return targets[0]


def column_of(targets: Sequence[str], classes: Sequence[Label]) -> str:
    """The column that outputs are named after; "class" where they are not."""
    endings = [f"={label}" for label in classes[len(classes) - len(targets) :]]
    pairs = zip(targets, endings, strict=True)
    columns = {name.removesuffix(ending) for name, ending in pairs if name.endswith(ending)}
    return columns.pop() if len(columns) == 1 else "class"


def _whole(dataset: Dataset) -> list[Label]:
    for sample, value in enumerate(dataset.y[:, 0].tolist(), 1):
        if not _is_whole(value):
            raise DataError(f"{dataset.name}, sample {sample}: {_fractional(f'{value:g}', dataset.target_names[0])}")
    return [int(value) for value in dataset.y[:, 0]]


def _is_whole(value: float) -> bool:
    return abs(value) <= _LARGEST and value == np.floor(value)


def _fractional(value: str, column: str) -> str:
    return f"{value} in column {shown(column)} is no label of a class: words or whole numbers are expected"
