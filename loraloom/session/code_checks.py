"""Check that a base's tokenizer has the language codes of all rows, without loading the base."""

from __future__ import annotations

from loraloom.checks.data.data_view import DataView
from loraloom.checks.data.light_tokenizer import NoTokenizerError
from loraloom.checks.finding import Finding
from loraloom.data.languages.codes import pair_name
from loraloom.data.languages.known import check_languages
from loraloom.errors import DataError, ModelError, Problem
from loraloom.recipe import Recipe
from loraloom.session.data_checks import tokenizer_folder
from loraloom.session.folder_languages import family_of_folder, languages_of_folder
from loraloom.text.message import Message, said_by

SHOWN_PAIRS = 8


def check_codes(recipe: Recipe, seen: DataView) -> list[Finding]:
    """Check that the base has the languages of all rows, without loading it.

    Args:
        recipe: names the base.
        seen: the rows that the data checks examined.

    Returns:
        Errors, a note on why language codes were not checked, or a finding that the base has them all;
        an empty list if neither the base nor the rows are known to have languages.
    """
    rows = [*(row for part in seen.parts.values() for row in part), *seen.retained]
    pairs = dict.fromkeys(pair_name(row) for row in rows if row.source_lang or row.target_lang)
    shown = ", ".join(list(pairs)[:SHOWN_PAIRS]) + (", …" if len(pairs) > SHOWN_PAIRS else "")
    try:
        folder = tokenizer_folder(recipe)
    except NoTokenizerError as error:
        return [_not_checked(shown, said_by(error))] if pairs else []
    if family_of_folder(folder) is None:
        why = Message("the base's folder has no config.json that states its family")
        return [_not_checked(shown, why)] if pairs else []
    name = recipe.model_name_or_path
    try:
        languages = languages_of_folder(folder, name)
        check_languages(rows, languages, name)
    except (ModelError, DataError) as error:
        return [_refused(problem) for problem in error.problems]
    if languages is None:
        return []
    return [
        Finding(
            "ok", "languages", "data", Message("the base has the languages of all rows: {shown}", shown=shown)
        )
    ]


def _not_checked(shown: str, why: str) -> Finding:
    message = Message(
        "rows are in {shown}; whether the base has these codes was not checked: {why}", shown=shown, why=why
    )
    return Finding(
        "note", "languages", "model_name_or_path", message, Message("Run the check without --data-only.")
    )


def _refused(problem: Problem) -> Finding:
    return Finding("error", "languages", problem.where or "data", problem.without_place, problem.fix)
