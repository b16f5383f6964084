"""The languages of a base whose folder is on this machine, from its tokenizer alone."""

from __future__ import annotations

import json
from pathlib import Path

from loraloom.architectures.families import family_of
from loraloom.architectures.family import Family
from loraloom.data.languages.codes import Languages


def family_of_folder(folder: Path) -> Family | None:
    """Return the family that a folder's config.json names; None if it names no known family."""
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return family_of(values.get("model_type")) if isinstance(values, dict) else None


def languages_of_folder(folder: Path, name: str) -> Languages | None:
    """Return the languages of a base, read from its tokenizer alone; None if it has no languages.

    Raises:
        ModelError: the base is multilingual, but its tokenizer cannot be loaded or has no language codes.
    """
    family = family_of_folder(folder)
    if family is None or type(family).languages is Family.languages:
        return None  # other families have no codes, and need not wait for transformers
    from loraloom.base.tokenizer_loading import load_tokenizer  # it imports transformers

    tokenizer, _ = load_tokenizer(str(folder), name)
    return family.languages(tokenizer, name)
