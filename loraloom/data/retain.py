"""Retained rows: examples of what the base can already do, measured before and after training."""

from __future__ import annotations

from dataclasses import replace

from loraloom.data.example import Example
from loraloom.data.files.location import locate
from loraloom.data.files.part_files import PartContents, read_part
from loraloom.recipe import DataSettings


def read_retained(settings: DataSettings) -> PartContents | None:
    """Read the rows of `data.retain`; None if the recipe names none.

    Args:
        settings: the recipe's `data`, whose `columns` and `source_prefix` do not apply to these rows.

    Raises:
        DataError: the file is unusable.
    """
    if settings.retain is None:
        return None
    located = locate("retain", settings.retain, settings.locations, split=settings.hub_split)
    own: dict[str, object] = {"columns": {}, "source_prefix": "", "source_lang": None, "target_lang": None}
    read = read_part(located.files, settings.model_copy(update=own))
    read = replace(read, examples=[_in_recipe_languages(each, settings) for each in read.examples])
    read.notes[:0] = located.notes
    return read


def _in_recipe_languages(example: Example, settings: DataSettings) -> Example:
    """Return the example, with the recipe's languages where its row states none."""
    source, target = settings.source_lang, settings.target_lang
    if (example.source_lang or not source) and (example.target_lang or not target):
        return example
    return replace(
        example,
        source_lang=example.source_lang or source or "",
        target_lang=example.target_lang or target or "",
    )
