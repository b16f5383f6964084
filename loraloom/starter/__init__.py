"""The embedded starter: a small base model and its data, so that every command works offline."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Literal

__all__ = ["DataName", "data_file", "model_folder"]

DataName = Literal["train", "eval", "test", "probe", "prompts"]


def model_folder() -> Path:
    """Return the folder of the embedded base, which loads like any other transformers folder."""
    return _inside("model")


def data_file(name: DataName) -> Path:
    """Return the path of a data file: a counselling split, rows for measuring forgetting, or prompts."""
    return _inside("data") / f"{name}.json"


def _inside(name: str) -> Path:
    # The package is installed as plain files (never zipped): transformers needs a real folder.
    return Path(str(files(__name__) / name))
