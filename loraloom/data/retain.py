"""Rows that an adapter should not forget: what the base could do before, measured before and after."""

from __future__ import annotations

from pathlib import Path

from loraloom.data.examples import Examples, read_examples
from loraloom.data.split import STARTER
from loraloom.recipe import DataSettings


def read_retained(settings: DataSettings, folder: Path) -> Examples | None:
    """The rows of `data.retain`; None where the recipe names none.

    Args:
        settings: the recipe's `data`; layout and mapping are recognised for this file by itself.
        folder: the recipe's folder, which paths are relative to.

    Raises:
        DataError: the file is not usable.
    """
    if settings.retain is None:
        return None
    if settings.retain == STARTER:
        from loraloom.starter import data_file

        path, name = data_file("probe"), f"{STARTER}:probe.json"
    else:
        path, name = folder / Path(settings.retain).expanduser(), settings.retain
    return read_examples(
        path, settings.model_copy(update={"columns": {}, "source_prefix": ""}), shown_as=name
    )
