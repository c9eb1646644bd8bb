"""Where a trained model is: the folder that ``ocp-nn fit --out`` left, or a file of its own."""

from __future__ import annotations

from pathlib import Path

from ..model import Model
from ..persistence import load

__all__ = ["MODEL_FILE", "load_model"]

MODEL_FILE = "model.npz"


def load_model(path: Path) -> Model:
    """The model in a folder or file.

    Raises
    ------
    FileNotFoundError
        If there is none.
    LoadError
        If the file cannot be read.
    """
    file = path / MODEL_FILE if path.is_dir() else path
    if not file.is_file():
        what = "not a regular file" if file.exists() else "no such file"
        raise FileNotFoundError(f"{file}: {what}; 'ocp-nn fit DATASET --out {path}' leaves one")
    model = load(file).model
    assert model is not None, "loaded results have a model"
    return model
