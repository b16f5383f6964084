"""The languages of a base whose folder is on this machine, from its tokenizer alone."""

from __future__ import annotations

import json
from pathlib import Path

from loraloom.architectures.families import family_of
from loraloom.architectures.family import Family
from loraloom.checks.data.data_view import DataView
from loraloom.checks.data.light_tokenizer import NoTokenizerError
from loraloom.checks.finding import Finding
from loraloom.data.languages.codes import Languages, pair_name
from loraloom.data.languages.known import check_languages
from loraloom.errors import DataError, ModelError, Problem
from loraloom.recipe import Recipe
from loraloom.session.data_checks import tokenizer_folder
from loraloom.text.message import Message

SHOWN_PAIRS = 8


def family_of_folder(folder: Path) -> Family | None:
    """The family that a folder's config.json names; None if it names none that can be trained."""
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return family_of(values.get("model_type")) if isinstance(values, dict) else None


def languages_of_folder(folder: Path, name: str) -> Languages | None:
    """The languages of a base; None if it has none. Without weights, and for most without transformers.

    Raises:
        ModelError: it is multilingual, but its tokenizer cannot be loaded or has no codes.
    """
    family = family_of_folder(folder)
    if family is None or type(family).languages is Family.languages:
        return None  # the others have no codes, and need not wait for transformers
    from loraloom.base.tokenizer_loading import load_tokenizer  # it imports transformers

    tokenizer, _ = load_tokenizer(str(folder), name)
    return family.languages(tokenizer, name)


def check_codes(recipe: Recipe, seen: DataView) -> list[Finding]:
    """Check that the base has the languages of all rows, without loading it.

    Args:
        recipe: names the base.
        seen: the rows, as the data checks saw them.

    Returns:
        Errors; or a note that says why codes could not be checked; nothing if there are no codes.
    """
    rows = [*(row for part in seen.parts.values() for row in part), *seen.retained]
    pairs = dict.fromkeys(pair_name(row) for row in rows if row.source_lang or row.target_lang)
    shown = ", ".join(list(pairs)[:SHOWN_PAIRS]) + (", …" if len(pairs) > SHOWN_PAIRS else "")
    try:
        folder = tokenizer_folder(recipe)
    except NoTokenizerError as error:
        return [_not_checked(shown, str(error))] if pairs else []
    if family_of_folder(folder) is None:
        why = Message("the base's folder has no config.json that says its family")
        return [_not_checked(shown, why)] if pairs else []
    name = recipe.model_name_or_path
    try:
        languages = languages_of_folder(folder, name)
        check_languages(rows, languages, name)
    except (ModelError, DataError) as error:
        return [_refused(problem) for problem in error.problems]
    if languages is None:
        return []
    return [Finding("ok", "languages", "data", Message("the base has the codes of {shown}", shown=shown))]


def _not_checked(shown: str, why: str) -> Finding:
    message = Message(
        "rows are in {shown}; whether the base has these codes was not checked: {why}", shown=shown, why=why
    )
    return Finding(
        "note", "languages", "model_name_or_path", message, Message("Run the check without --data-only.")
    )


def _refused(problem: Problem) -> Finding:
    text = problem.what
    if problem.found:
        text = Message("{problem} (found: {found})", problem=text, found=problem.found)
    if problem.allowed:
        text = Message("{problem:clause}. Allowed: {allowed}", problem=text, allowed=problem.allowed)
    return Finding("error", "languages", problem.where or "data", text, problem.fix)
