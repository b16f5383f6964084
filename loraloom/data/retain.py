"""Rows that an adapter should not forget: what the base could do before, measured before and after."""

from __future__ import annotations

from loraloom.data.files.location import locate
from loraloom.data.files.part_files import PartContents, read_part
from loraloom.recipe import DataSettings


def read_retained(settings: DataSettings) -> PartContents | None:
    """The rows of `data.retain`; None where the recipe names none.

    Args:
        settings: the recipe's `data`; layout and mapping are recognised for this file by itself.

    Raises:
        DataError: the file is not usable.
    """
    if settings.retain is None:
        return None
    located = locate("retain", settings.retain, settings.locations, split=settings.hub_split)
    read = read_part(located.files, settings.model_copy(update={"columns": {}, "source_prefix": ""}))
    read.notes[:0] = located.notes
    return read
