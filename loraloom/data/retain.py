"""Retained rows: tasks the base can already do, measured before and after training."""

from __future__ import annotations

from loraloom.data.files.location import locate
from loraloom.data.files.part_files import PartContents, read_part
from loraloom.recipe import DataSettings


def read_retained(settings: DataSettings) -> PartContents | None:
    """Read the rows of `data.retain`; None if the recipe names none.

    Args:
        settings: the recipe's `data`; layout and column mapping are recognised for this file separately.

    Raises:
        DataError: the file is unusable.
    """
    if settings.retain is None:
        return None
    located = locate("retain", settings.retain, settings.locations, split=settings.hub_split)
    read = read_part(located.files, settings.model_copy(update={"columns": {}, "source_prefix": ""}))
    read.notes[:0] = located.notes
    return read
