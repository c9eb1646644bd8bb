"""Where a trained model is: the folder that ``ocp-nn fit --out`` left, or a file of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..learning.compact_posterior import CompactPosterior
from ..network.model import Model
from ..solvers.augmented_lagrangian.files import load

__all__ = ["MODEL_FILE", "load_model", "load_posterior"]

MODEL_FILE = "model.npz"


def load_model(path: Path) -> Model:
    """The model in a folder or file.

    Raises
    ------
    FileNotFoundError
        If there is none.
    LoadError
        If the file cannot be read.
    ValueError
        If its weights are not finite.
    """
    file = _file(path)
    if not file.exists():
        raise FileNotFoundError(f"{file}: no such file; 'ocp-nn fit DATASET --out {path}' leaves one")
    if not file.is_file():
        raise ValueError(f"{file}: not a regular file, so not a model")
    result = load(file)
    assert result.model is not None, "loaded results have a model"
    if not all(np.isfinite(control).all() for control in result.model.controls):
        raise ValueError(f"{file}: its weights are not finite, because the solve ended with {result.status.value}")
    return result.model


def load_posterior(path: Path, model: Model) -> CompactPosterior:
    """What is in the file of a model beside it.

    Raises
    ------
    ValueError
        If there is none, or a damaged one.
    """
    file = _file(path)
    with np.load(file, allow_pickle=False) as content:
        try:
            found = CompactPosterior.from_arrays(content, model.network)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
    if found is None:
        raise ValueError(
            f"{file}: no posterior, so no intervals: ocp-nn fit leaves one where squares without constraints converged "
            "(summary.json says why it did not)"
        )
    return found


def _file(path: Path) -> Path:
    return path / MODEL_FILE if path.is_dir() else path
