"""Data sets: loading, splitting, standardising.

Tables have one row a sample: x is (N, inputs), y is (N, outputs).  Nothing here knows about networks, and nothing here
learns from a test part: a :class:`Scaler` is fitted on the rows it is given and applied to others.
"""

from __future__ import annotations

from ...network.scaling import Scaler
from .builtin import BUILTIN, describe_builtin
from .dataset import DataError, Dataset
from .load import load_dataset
from .load_records import describe_records, load_records
from .sequences import SequenceDataset
from .splits import Split, random_split, standard_splits, stratified_split

__all__ = [
    "BUILTIN",
    "DataError",
    "Dataset",
    "Scaler",
    "SequenceDataset",
    "Split",
    "describe_builtin",
    "describe_records",
    "load_dataset",
    "load_records",
    "random_split",
    "standard_splits",
    "stratified_split",
]
